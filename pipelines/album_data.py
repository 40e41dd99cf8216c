"""The data of a look-alike report: scripts that a page may load from its folder, where it may not fetch files.

What all faces are sorted and filtered by is read when the page is opened, in long files; boxes, pictures and the
lower ranks of a photo are in short ones, read when it is shown. All numbers are whole: D in millionths, per cent in
tenths.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from celebface.indexing.calibration import OperatingPoint
from celebface.indexing.schemas import Kind, Status
from celebface.pipelines import album as albums
from celebface.pipelines.album import Album, LeftOut
from celebface.pipelines.reasons import in_words
from celebface.pipelines.text import escaped

_LONG = 20_000  # rows of a long file
_SHORT = 100  # photos of a short one: a page of 60 faces reads 60 of these at worst, some 20 kB each
_VERDICT_LETTERS = np.array([verdict.value[0] for verdict in albums.VERDICTS])
_UNSAFE = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&"})


def as_script(name: str, data: Any) -> bytes:
    """Data as a script that hands it over.

    All of it is ASCII, and no text in it can end the script, or be taken for markup if somebody puts it into a page.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_UNSAFE)
    return f"celebface({json.dumps(name)},{text});\n".encode("ascii")


def long_files(album: Album, examples: np.ndarray) -> Iterator[tuple[str, Any]]:
    """People, photos and faces, in order, each in as many files as it takes.

    Args:
      album: The faces.
      examples: A picture of each person, names in bytes [N].

    Yields:
      Names and contents.
    """
    for number, part in _parts(len(album.names), _LONG):
        yield (
            f"people-{number}",
            {
                "names": [escaped(name) for name in album.names[part]],
                "ids": album.person_ids[part],
                "faces": album.frequency[part].tolist(),
                "pictures": _texts(examples[part]),
            },
        )
    folder = albums.shared_folder(album.photos)
    for number, part in _parts(len(album.photos), _LONG):
        paths = (uri.removeprefix(folder) for uri in album.photos[part].to_pylist())
        yield f"paths-{number}", [escaped(path) for path in paths]
    for number, part in _parts(len(album.photo), _LONG):
        rows = album.nearest[part]
        yield (
            f"faces-{number}",
            {
                "photo": album.photo[part].tolist(),
                "person": album.person[rows].tolist(),
                "distance": _millionths(album.distance[rows]).tolist(),
                "similarity": _tenths(album.similarity[rows]).tolist(),
                "verdict": "".join(_VERDICT_LETTERS[album.verdict[rows]]),
            },
        )


def short_files(
    album: Album, thumbnails: np.ndarray, sizes: np.ndarray, crops: np.ndarray, gallery: np.ndarray
) -> Iterator[tuple[str, Any]]:
    """What is shown of each photo.

    Args:
      album: The faces.
      thumbnails: Pictures of the photos, names in bytes [P].
      sizes: Of the photos, int32 [P, 2].
      crops: Pictures of the faces, names in bytes [F].
      gallery: Pictures of the gallery's faces, names in bytes [G].

    Yields:
      Names and contents.
    """
    for number, part in _parts(len(album.photos), _SHORT):
        begin, end = np.searchsorted(album.photo, [part.start, part.stop])
        rows = slice(album.first[begin], album.first[end])
        known, place = np.unique(album.gallery_face[rows], return_inverse=True)
        columns = (
            album.person[rows], _millionths(album.distance[rows]), _tenths(album.similarity[rows]),
            album.verdict[rows], place,
        )  # fmt: skip
        yield (
            f"photos-{number}",
            {
                "thumbnails": _texts(thumbnails[part]),
                "sizes": sizes[part].ravel().tolist(),
                "crops": _texts(crops[begin:end]),
                "boxes": album.boxes[begin:end].ravel().tolist(),
                "ranks": np.diff(album.first[begin : end + 1]).tolist(),
                "rows": np.stack(columns, axis=1).ravel().tolist(),
                "celebrities": {
                    "pictures": _texts(gallery[known]),
                    "places": [escaped(uri) for uri in album.gallery_uris.take(pa.array(known)).to_pylist()],
                },
            },
        )


def summarise(
    album: Album, left_out: Sequence[LeftOut], thumbnails: Mapping[str, str], run: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """What the page tells of the album as a whole.

    Args:
      album: The faces.
      left_out: What could not be used.
      thumbnails: Pictures of its examples by URI, as far as there are any.
      run: Contents of the job's run.json.
      notes: What the report lacks, in sentences.
    """
    folder = albums.shared_folder(album.photos)
    nearest = album.nearest
    verdicts = np.bincount(album.verdict[nearest], minlength=len(albums.VERDICTS)).tolist()
    config = run["config"]
    photos = run["items"]["kinds"].get(str(Kind.PHOTO), {})
    return {
        "folder": escaped(folder),
        "gallery": escaped(str(config["gallery"])),
        "finished": str(run.get("finished", "")),
        "tau": round(float(config["tau"]), 4),
        "rate": _stated(config["point"]),
        "photos": sum(photos.values()),
        "photosDone": photos.get(str(Status.DONE), 0),
        "photosShown": len(album.photos),
        "faces": len(album.photo),
        "lookedLike": int(np.count_nonzero(album.frequency)),
        "verdicts": verdicts,
        "histogram": {"step": albums.HISTOGRAM_STEP, "counts": albums.histogram(album.distance[nearest])},
        "leftOut": [_left_out(kind, folder, thumbnails) for kind in left_out],
        "notes": [escaped(note) for note in notes],
        "files": {
            "people": _count(len(album.names), _LONG),
            "paths": _count(len(album.photos), _LONG),
            "faces": _count(len(album.photo), _LONG),
            "photosEach": _SHORT,
        },
    }


def _left_out(kind: LeftOut, folder: str, thumbnails: Mapping[str, str]) -> dict[str, Any]:
    return {
        "status": kind.status,
        "reason": kind.reason,
        "words": in_words(kind.reason),
        "count": kind.count,
        "examples": [
            {
                "path": escaped(uri.removeprefix(folder)),
                "detail": escaped(detail),
                "picture": thumbnails.get(uri, ""),
            }
            for uri, detail in kind.examples
        ],
    }


def _stated(point: Mapping[str, Any] | None) -> str:
    """What the gallery states of the threshold, in words."""
    if point is None:
        return "The threshold was given by hand, so no false match rate is stated for it."
    stated = OperatingPoint(**point).stated
    return f"{stated[0].upper()}{stated[1:]}: the share of people whom the gallery does not hold that get a match."


def _parts(count: int, size: int) -> Iterator[tuple[int, slice]]:
    for number in range(_count(count, size)):
        yield number, slice(number * size, min(count, (number + 1) * size))


def _count(count: int, size: int) -> int:
    return -(-count // size)


def _texts(names: np.ndarray) -> list[str]:
    return names.astype(str).tolist()


def _millionths(distances: np.ndarray) -> np.ndarray:
    return np.rint(1e6 * distances).astype(np.int64)


def _tenths(similarities: np.ndarray) -> np.ndarray:
    """Rounded down: nothing is quite sure."""
    return np.floor(10 * similarities).astype(np.int64)
