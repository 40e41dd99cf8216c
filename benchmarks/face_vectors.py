"""Vectors that lie to each other as those of faces do, as many as are wanted.

Made after LFW (2,086 people, default encoder): the shares of the variance by principal component; D between two photos
of one person (0.15, 0.44, 1.16 at 1, 50 and 99 %; here 0.15, 0.43, 1.03), of two people (1.24, 1.93, 2.56; here 1.21,
1.91, 2.58), and to the nearest of 2,085 strangers (0.62, 0.76, 0.93, 1.07 at 1, 10, 50, 90 %; here 0.65, 0.77, 0.94,
1.08). Without people that resemble each other in kind, the nearest stranger would be too far.
"""

import math

import numpy as np

SIZE = 128
FACES_EACH = 10  # photos of a person

_COMPONENTS = np.repeat([0.039, 0.026, 0.0215, 0.0164, 0.0081, 0.00001], [5, 5, 10, 12, 32, 64])
_SPREAD = np.sqrt(_COMPONENTS / _COMPONENTS.sum()).astype(np.float32)
_MEAN = 0.2  # length of the mean vector
_KINDS, _OF_KIND = 60, 0.35  # groups of people who resemble each other, and their share of the variance
_PHOTO, _PHOTO_SD = 0.515, 0.33  # how far a photo lies from its person, and the spread of its logarithm
_SEED = 20150312
_ROWS = 2**16  # made at a time


def draw_people(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws people, float32 [count, 128], unit rows: the middles of their faces."""
    kinds = np.random.default_rng(_SEED).standard_normal((_KINDS, SIZE), dtype=np.float32)
    own = rng.standard_normal((count, SIZE), dtype=np.float32)
    people = math.sqrt(1 - _OF_KIND) * own + math.sqrt(_OF_KIND) * kinds[rng.integers(0, _KINDS, count)]
    people *= _SPREAD
    people[:, 0] += _MEAN
    return _unit(people)


def draw_faces(people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a face of each, float32 [N, 128], unit rows.

    Args:
      people: float32 [N, 128], from `draw_people`.
      rng: Where chance comes from.
    """
    faces = np.empty_like(people)
    for start in range(0, len(people), _ROWS):
        block = people[start : start + _ROWS]
        far = _PHOTO * np.exp(_PHOTO_SD * rng.standard_normal((len(block), 1), dtype=np.float32))
        faces[start : start + _ROWS] = _unit(block + far * _SPREAD * rng.standard_normal(block.shape, dtype=np.float32))
    return faces


def draw_gallery(count: int, probes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a gallery and faces to ask it for.

    Args:
      count: Faces of the gallery.
      probes: Half of them of its people, half of strangers, in turn.

    Returns:
      float32 [count, 128] and float32 [probes, 128], unit rows, the same at each call.
    """
    rng = np.random.default_rng(_SEED + count)
    people = draw_people(max(1, count // FACES_EACH), rng)
    gallery = draw_faces(people[np.arange(count) % len(people)], rng)
    asked = draw_people(probes, rng)
    asked[::2] = people[rng.integers(0, len(people), len(asked[::2]))]
    return gallery, draw_faces(asked, rng)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
