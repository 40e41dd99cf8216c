"""Lists photos: folders, single files, glob patterns."""

import dataclasses
import glob
import os
import unicodedata
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from celebface.indexing.schemas import Reason
from celebface.transforms import progress
from celebface.transforms.metrics import StageMetrics
from celebface.transforms.records import Outcome, PhotoRef, printable, skipped

STAGE = "list"
PHOTO_SUFFIXES = frozenset(
    f".{name}"
    for name in [
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "png",
        "webp",
        "avif",
        "heic",
        "heif",
        "gif",
        "bmp",
        "tif",
        "tiff",
        "ppm",
        "pgm",
        "pnm",
    ]
)


class NoSuchSource(Exception):
    """A source names nothing; the message is for the user."""


@dataclasses.dataclass(frozen=True)
class PhotoSource:
    """Where photos are.

    Attributes:
      places: Folders, files and glob patterns on this machine.
      labelled: Whether the folder a photo lies in, directly below a place, says who is on it; a photo that lies in
        the place itself is named by its file.
    """

    places: tuple[str, ...]
    labelled: bool = False


def list_photos(source: PhotoSource) -> Iterator[PhotoRef]:
    """Lists a source, each file once, in a fixed order.

    Files whose names end in a suffix that no photo has are listed as of an unsupported type. Hidden files and folders
    are passed over. A file named by itself is taken for a photo whatever it is called.

    Raises:
      NoSuchSource: If a place does not exist or a pattern matches nothing.
    """
    seen = set()
    for place in source.places:
        for ref in _list_place(place, source.labelled):
            if ref.uri not in seen:  # whoever is on it: the first place that names it says so
                seen.add(ref.uri)
                yield ref


def _list_place(place: str, labelled: bool) -> Iterator[PhotoRef]:
    path = os.path.abspath(place)
    if os.path.isdir(path):
        yield from _list_folder(path, labelled)
    elif os.path.lexists(path):
        yield _ref(path, _identity(os.path.dirname(path), path) if labelled else "")
    elif glob.has_magic(place):
        found = sorted(glob.glob(path, recursive=True))
        if not found:
            raise NoSuchSource(f"nothing matches {place}")
        for match in found:
            if os.path.isdir(match):
                yield from _list_folder(match, labelled)
            else:
                yield _ref(match, _identity(os.path.dirname(match), match) if labelled else "")
    else:
        raise NoSuchSource(f"there is no {place}")


def _list_folder(root: str, labelled: bool) -> Iterator[PhotoRef]:
    for path in _walk(root, set()):
        suffix = os.path.splitext(path)[1].lower()
        unsupported = suffix and suffix not in PHOTO_SUFFIXES
        identity = _identity(root, path) if labelled else ""
        yield _ref(path, identity, Reason.UNSUPPORTED_TYPE if unsupported else Reason.NONE)


def _walk(folder: str, above: set[tuple[int, int]]) -> Iterator[str]:
    """Files below a folder, by name. Links to folders are followed, but not in circles."""
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError:  # a folder that may not be looked into is an item too, a lost one
        yield folder
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        link = entry.is_symlink()
        if os.path.isdir(entry.path) if link else entry.is_dir():  # of a link to itself, entry.is_dir() raises
            yield from _walk(entry.path, above | {here})
        elif link or entry.is_file():  # a link that leads nowhere is an item too, a lost one
            yield entry.path


def _identity(root: str, path: str) -> str:
    first, *below = os.path.relpath(path, root).split(os.sep)
    name = first if below else os.path.splitext(first)[0]
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def _ref(path: str, identity: str, listed: Reason = Reason.NONE) -> PhotoRef:
    try:
        status = os.stat(path)
        revision = f"{status.st_size}-{status.st_mtime_ns}"
    except OSError:  # read again, and reported, when it is fetched
        revision = ""
    return PhotoRef.of(path, identity, revision, listed)


class ListPhotos(beam.PTransform):
    """PhotoSource to keyed references, (item id, PhotoRef), and outcomes of files that are no photos."""

    def expand(self, sources: beam.PCollection) -> Any:  # good ones, lost ones
        listed = sources | beam.ParDo(_ListPhotosDoFn()).with_outputs("lost", main="refs")
        return listed.refs, listed.lost


class _ListPhotosDoFn(beam.DoFn):
    def __init__(self) -> None:
        self._metrics = StageMetrics(STAGE)

    def process(self, source: PhotoSource):
        count = 0
        for ref in list_photos(source):
            self._metrics.taken()
            count += 1
            if ref.listed:
                self._metrics.lost(ref.listed)
                suffix = printable(os.path.splitext(ref.uri)[1])
                yield beam.pvalue.TaggedOutput("lost", _lost(ref, f"a {suffix} file is not taken for a photo"))
            else:
                self._metrics.passed()
                yield ref.item_id, ref
        progress.add({"listed": count})


def _lost(ref: PhotoRef, detail: str) -> Outcome:
    return skipped(ref, STAGE, ref.listed, detail)


def peek(source: PhotoSource, limit: int) -> int:
    """Counts a source's files, up to a limit, so that a wrong source is known before anything starts.

    Raises:
      NoSuchSource: If a place does not exist, or there is no file at all.
    """
    count = 0
    for count, _ in enumerate(list_photos(source), start=1):
        if count >= limit:
            break
    if not count:
        raise NoSuchSource(f"there is no photo in {', '.join(source.places)}")
    return count
