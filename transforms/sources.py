"""Lists photos: folders, single files, glob patterns."""

import dataclasses
import glob
import itertools
import os
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import apache_beam as beam

from celebface.indexing.schemas import Reason
from celebface.transforms import progress
from celebface.transforms.metrics import StageMetrics
from celebface.transforms.records import Outcome, PhotoRef, printable, rejected, skipped

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
      places: Folders, files and glob patterns on this machine, absolute (see `absolute_place`).
      labelled: Whether the folder that a photo lies in says who is on it: of a place that is a folder, the folder
        directly below it; of a photo found by a pattern or named by itself, its own.
      excluded: Folders that are passed over, such as the one the results go to.
    """

    places: tuple[str, ...]
    labelled: bool = False
    excluded: tuple[str, ...] = ()


def absolute_place(place: str) -> str:
    """Makes a place absolute, so that workers in other folders find it; brackets of the current one are no pattern."""
    if os.path.lexists(place) or not glob.has_magic(place):
        return os.path.abspath(place)
    return os.path.join(glob.escape(os.getcwd()), place)


def list_photos(source: PhotoSource) -> Iterator[PhotoRef]:
    """Lists a source, each file once, in a fixed order.

    Hidden files and folders are passed over. Files whose names end in a suffix that no photo has are listed as of an
    unsupported type; a file named by itself is taken for a photo whatever it is called.

    Raises:
      NoSuchSource: If a place does not exist or a pattern matches nothing.
    """
    seen = set()
    named = {absolute_place(place) for place in source.places}
    for place in source.places:
        for ref in _list_place(place, source, named):
            if ref.uri not in seen:
                seen.add(ref.uri)
                yield ref


def _list_place(place: str, source: PhotoSource, named: Collection[str]) -> Iterator[PhotoRef]:
    matches = _matches(place)
    for path in matches:
        if not os.path.isdir(path):
            yield _ref(path, _folder_name(path), source.labelled)
        elif matches == [absolute_place(place)]:
            yield from _list_folder(path, path, source, named)
        else:
            yield from _list_folder(path, os.path.dirname(path), source, named)


def _matches(place: str) -> list[str]:
    """The path of a place, or all that a pattern matches."""
    path = absolute_place(place)
    if os.path.lexists(path):
        return [path]
    if not glob.has_magic(place):
        raise NoSuchSource(f"there is no {path}")
    found = sorted(glob.glob(path, recursive=True))
    if not found:
        raise NoSuchSource(f"nothing matches {place}")
    return found


def _list_folder(folder: str, root: str, source: PhotoSource, named: Collection[str]) -> Iterator[PhotoRef]:
    """Lists a folder; who is on a photo is said by the first folder of its path below `root`."""
    for path, fault in _walk(folder, source.excluded):
        first, *below = os.path.relpath(path, root).split(os.sep)
        suffix = os.path.splitext(path)[1].lower()
        if not fault and suffix and suffix not in PHOTO_SUFFIXES and path not in named:
            fault = Reason.UNSUPPORTED_TYPE
        yield _ref(path, first if below else "", source.labelled, fault)


def _walk(folder: str, excluded: Sequence[str]) -> Iterator[tuple[str, Reason]]:
    """All below a folder that is no folder, by name, and folders that cannot be looked into.

    A folder is entered once: links to folders are followed only out of `folder`, for what lies in it is met on its own
    way. Links that lead nowhere and things that are no files are items too, lost ones.
    """
    entered: set[tuple[int, int]] = set()
    inside = os.path.realpath(folder)
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        if not os.path.isdir(path):
            yield path, Reason.NONE
            continue
        if path != folder and os.path.islink(path):
            target = os.path.realpath(path)
            if os.path.commonpath([inside, target]) == inside:
                continue
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in entered or path in excluded:
                continue
            entered.add((status.st_dev, status.st_ino))
            entries = [entry for entry in os.scandir(path) if not entry.name.startswith(".")]
        except OSError:
            yield path, Reason.UNREADABLE
            continue
        entries.sort(key=lambda entry: os.fsencode(entry.name), reverse=True)
        waiting.extend(entry.path for entry in entries)


def _folder_name(path: str) -> str:
    return os.path.basename(os.path.dirname(path))


def _ref(path: str, folder: str, labelled: bool, fault: Reason = Reason.NONE) -> PhotoRef:
    identity = unicodedata.normalize("NFC", printable(folder)) if labelled else ""
    if labelled and not identity and not fault:
        fault = Reason.NO_IDENTITY
    try:
        status = os.stat(path)
        revision = f"{status.st_size}-{status.st_mtime_ns}"
    except OSError:  # read again, and reported, when it is fetched
        revision = ""
    return PhotoRef.of(path, identity, revision, fault)


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
                yield beam.pvalue.TaggedOutput("lost", _lost(ref))
            else:
                self._metrics.passed()
                yield ref.item_id, ref
        progress.add({"listed": count})


def _lost(ref: PhotoRef) -> Outcome:
    if ref.listed == Reason.UNSUPPORTED_TYPE:
        return skipped(
            ref, STAGE, ref.listed, f"a {printable(os.path.splitext(ref.uri)[1])} file is not taken for a photo"
        )
    details = {
        Reason.NO_IDENTITY: "it lies in no person's folder",
        Reason.UNREADABLE: "a folder that cannot be looked into",
    }
    return rejected(ref, STAGE, ref.listed, details[ref.listed])


def peek(source: PhotoSource, limit: int) -> int:
    """Counts a source's files, up to a limit, so that a wrong source is known before anything starts.

    Raises:
      NoSuchSource: If a place does not exist or a pattern matches nothing, or there is no file at all.
    """
    for place in source.places:
        _matches(place)
    count = sum(1 for _ in itertools.islice(list_photos(source), limit))
    if not count:
        raise NoSuchSource(f"there is no photo in {', '.join(source.places)}")
    return count
