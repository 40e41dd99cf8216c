"""The Annoy index: built from a seed, tested at birth and whenever it is opened."""

import os
import tempfile
from typing import Literal

import numpy as np
from annoy import AnnoyIndex

TREES = 50
SEED = 20150312  # arXiv's date of the FaceNet paper; any fixed number would do
_METRIC: Literal["euclidean"] = "euclidean"  # on unit vectors its order is that of D = squared L2
_SELF_TEST_ROWS = 50
_SELF_TEST_NODES = 200 * TREES  # in every tree the way down to a vector ends beside it; to look at all takes minutes


class BrokenIndex(Exception):
    """An index gives wrong answers: a faulty build of Annoy, another machine's file, or other vectors."""


def build(vectors: np.ndarray) -> bytes:
    """Builds the index file.

    Args:
      vectors: float32 [N, d], unit rows.

    Returns:
      The file's bytes; the same vectors give the same bytes.

    Raises:
      BrokenIndex: If the index does not find its own vectors.
    """
    index = AnnoyIndex(vectors.shape[1], _METRIC)
    index.set_seed(SEED)
    for row, vector in enumerate(vectors):
        index.add_item(row, vector.tolist())
    index.build(TREES, n_jobs=1)  # with more, the trees depend on the threads' timing
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "faces.ann")
        index.save(path)
        self_test(index, vectors)
        with open(path, "rb") as file:
            return file.read()


def load(path: str, vectors: np.ndarray) -> AnnoyIndex:
    """Maps an index file into memory.

    Args:
      path: The file.
      vectors: float32 [N, d], the vectors it was built from.

    Raises:
      BrokenIndex: If it is not the index of these vectors, or this machine's Annoy reads it wrongly.
    """
    index = AnnoyIndex(vectors.shape[1], _METRIC)
    try:
        index.load(path)
    except OSError as error:
        raise BrokenIndex(f"the index file cannot be opened: {error}") from error
    if index.get_n_items() != len(vectors):
        raise BrokenIndex(f"the index holds {index.get_n_items()} faces, its vectors are {len(vectors)}")
    self_test(index, vectors)
    return index


def self_test(index: AnnoyIndex, vectors: np.ndarray) -> None:
    """Asks for a sample of the vectors; each must find one at its own place.

    Annoy built by some compilers with -ffast-math silently returns a single neighbour (spotify/annoy issue 682).

    Raises:
      BrokenIndex: If any answer is wrong.
    """
    count = len(vectors)
    rows = np.linspace(0, count - 1, min(count, _SELF_TEST_ROWS)).astype(int)
    wanted = min(count, 10)
    effort = min(count * TREES, _SELF_TEST_NODES)
    for row in rows:
        found, distances = index.get_nns_by_vector(
            vectors[row].tolist(), wanted, search_k=effort, include_distances=True
        )
        if (
            len(found) != wanted
            or distances[0] > 1e-3
            or distances != sorted(distances)
            or not np.allclose(distances, np.linalg.norm(vectors[found] - vectors[row], axis=1), atol=1e-3)
        ):
            raise BrokenIndex("the index does not find its own vectors: is Annoy built without -ffast-math?")
