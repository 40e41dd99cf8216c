"""Labelled pairs of photos: which of them show one person, and how far apart their faces are."""

import argparse
import dataclasses
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from rich.progress import track

from celebface.indexing.schemas import Reason
from celebface.pipelines import arguments, terminal
from celebface.pipelines.arguments import UsageError
from celebface.pipelines.embedder import EVERY_FACE, EmbeddedFaces, by_few, load_embedder
from celebface.pipelines.text import complain
from celebface.transforms import folders
from celebface.transforms.files import MAX_BYTES, UnreadableFile, read_file

_NUMBERED = re.compile(r"(?P<name>.+)_(?P<number>\d+)")

Photos = dict[tuple[str, int], pathlib.Path]  # by person and number


def add_flags(parser: argparse.ArgumentParser, images_required: bool) -> None:
    """--images and --pairs."""
    parser.add_argument(
        "--images",
        type=pathlib.Path,
        required=images_required,
        metavar="FOLDER",
        help="photos as <person>/<person>_0001.jpg",
    )
    parser.add_argument(
        "--pairs",
        type=pathlib.Path,
        metavar="FILE",
        help="lines 'name i j' (one person) and 'name i name j' (two), tabs between",
    )


def add_face_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of how the photos' faces become vectors."""
    arguments.add_encoder_flags(parser)
    arguments.add_cache_flag(parser)
    arguments.add_reader_flags(parser, EVERY_FACE)  # the protocol has no right to refuse a photo


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two photos and the truth about them.

    Attributes:
      first: Person and number of the first photo.
      second: Person and number of the second photo.
      fold: The part of the list it stands in.
    """

    first: tuple[str, int]
    second: tuple[str, int]
    fold: int

    @property
    def same(self) -> bool:
        """Whether both show one person."""
        return self.first[0] == self.second[0]


def read_pairs(text: str, folds: int) -> list[Pair]:
    """Reads a pairs file: lines "name i j" for one person, "name i name j" for two, fields set apart by tabs.

    A first line "F N" says, as LFW's own, that F folds follow of N pairs of each kind, a first line "N" that one does;
    without it the pairs of each kind are dealt out to `folds` folds in their order.

    Raises:
      ValueError: If a line is neither.
    """
    lines = [line.rstrip("\r\n") for line in text.splitlines() if line.strip()]
    per_fold = 0
    if lines and re.fullmatch(r"\d+(\s+\d+)?", lines[0].strip()):
        per_fold = 2 * int(lines.pop(0).split()[-1])
    pairs: list[Pair] = []
    seen = {True: 0, False: 0}
    for number, line in enumerate(lines):
        fields = line.split("\t")
        try:
            if len(fields) == 3:
                first, second = (fields[0], int(fields[1])), (fields[0], int(fields[2]))
            else:
                name, i, other, j = fields
                first, second = (name, int(i)), (other, int(j))
        except ValueError as error:
            raise ValueError(f"not a pair: {line!r}") from error
        same = first[0] == second[0]
        fold = number // per_fold if per_fold else seen[same] % folds
        seen[same] += 1
        pairs.append(Pair(first, second, fold))
    if not all(seen.values()):
        raise ValueError("the pairs must hold some of one person and some of two")
    return pairs


def find_photos(folder: pathlib.Path) -> Photos:
    """Photos named <person>/<person>_<number>.<suffix>, by person and number."""
    photos = {}
    for path in sorted(folder.glob("*/*")):
        named = _NUMBERED.fullmatch(path.stem)
        if named and path.suffix.lower() in folders.PHOTO_SUFFIXES:
            photos[path.parent.name, int(named["number"])] = path
    return photos


def find_people(folder: pathlib.Path) -> list[tuple[str, pathlib.Path]]:
    """All photos of a folder with the person on each, <person>/...jpg or <person>.jpg, whatever they are called."""
    listed = folders.list_folder(str(folder), str(folder), (), ())
    return [(file.name, pathlib.Path(file.uri)) for file in listed if file.fault != Reason.UNSUPPORTED_TYPE]


def read_files(images: pathlib.Path, pairs: pathlib.Path, folds: int) -> tuple[Photos, list[Pair]]:
    """The photos of a folder, and a list of pairs of them.

    Raises:
      UsageError: If the list cannot be read, or names photos that are not there.
    """
    try:
        listed = read_pairs(pairs.read_text(encoding="utf-8"), folds)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{pairs}: {error.strerror}") from error
    if not images.is_dir():
        raise UsageError(f"there is no folder {images}")
    photos = find_photos(images)
    missing = sorted({photo for pair in listed for photo in (pair.first, pair.second)} - photos.keys())
    if missing:
        raise UsageError(f"{images} lacks {len(missing)} of the photos, such as {missing[0][0]} {missing[0][1]}")
    return photos, listed


def embed(
    args: argparse.Namespace, precision: str, paths: Sequence[pathlib.Path], command: str
) -> tuple[np.ndarray, int]:
    """Vectors of photos, float32 [N, d], NaN where there is no face; and how many photos had several faces."""
    embedder = load_embedder(arguments.encoder_uri(args), precision, arguments.reader_config(args, one_face=True))
    vectors = np.full((len(paths), embedder.embedding_size), np.nan, np.float32)
    several = 0
    parts = track(by_few(paths), command, console=terminal.error_console(), transient=True)
    found = (photo for part in parts for photo in embedder.embed([_read(path, command) for path in part]))
    for row, photo in enumerate(found):
        if isinstance(photo, EmbeddedFaces):
            vectors[row] = photo.vectors[0]
            several += photo.found.faces_found > 1
    return vectors, several


def _read(path: pathlib.Path, command: str) -> bytes:
    try:
        return read_file(str(path), MAX_BYTES)
    except UnreadableFile as error:
        complain(f"celebface {command}: {path}: {error}")
        return b""


def distances(names: Sequence[tuple[str, int]], vectors: np.ndarray, pairs: Sequence[Pair]) -> np.ndarray:
    """D of each pair, float32 [P], NaN if a photo has no face.

    Args:
      names: Person and number of each photo.
      vectors: Of the photos, float32 [N, d].
      pairs: What is compared.
    """
    row = {name: number for number, name in enumerate(names)}
    first, second = (vectors[[row[getattr(pair, side)] for pair in pairs]] for side in ("first", "second"))
    return np.square(first - second).sum(axis=1)
