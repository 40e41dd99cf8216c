"""Lists the items of a run: photos in folders, rows of lists, URLs."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
import posixpath
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from celebface.indexing import storage
from celebface.indexing.schemas import Kind, Reason
from celebface.indexing.tombstones import NONE, Tombstones
from celebface.transforms import folders, lists, progress
from celebface.transforms.folders import PHOTO_SUFFIXES, ListedFile, NoSuchSource
from celebface.transforms.lists import Columns, Row
from celebface.transforms.metrics import StageMetrics
from celebface.transforms.records import NOBODY, ItemRef, Outcome, Person, Provenance, printable, rejected, skipped
from celebface.transforms.removed import is_removed, withdrawn
from celebface.transforms.web.client import clean_url
from celebface.transforms.web.policy import WebFault

__all__ = ["PHOTO_SUFFIXES", "Columns", "ItemSource", "ListItems", "NoSuchSource"]

STAGE = "list"
FORMATS = (*lists.FORMATS, "folder", "photo")
_WEB = ("http://", "https://")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_AT_ONCE = 32  # questions to a store about the files that a list names
_SHOWN = 1000  # items after which the count is shown


@dataclasses.dataclass(frozen=True)
class ItemSource:
    """Where items are named.

    Attributes:
      places: Folders, lists, photos and patterns, on this machine, absolute (see `absolute_place`), or as s3:// and
        gs:// URIs; and http and https URLs of photos.
      labelled: Whether it is known who is on the photos. Of a place that is a folder, the folder directly below it says
        so, and of a photo that lies directly in it, its name; of a photo found by a pattern or named by itself, the
        folder it lies in; of a list, its rows.
      excluded: Folders that are passed over, such as the one the results go to.
      format: What the places are, one of `FORMATS`; empty if their names and first bytes tell.
      columns: Names of the lists' columns.
      search: Whether photos are searched for names that come without one.
    """

    places: tuple[str, ...]
    labelled: bool = False
    excluded: tuple[str, ...] = ()
    format: str = ""
    columns: Columns = dataclasses.field(default_factory=Columns)
    search: bool = False

    def __post_init__(self) -> None:
        if self.format and self.format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {self.format}")


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """A place that was looked at.

    Attributes:
      uri: Local path or URI.
      what: A list's format, "folder", "photo", "web", or "pattern" of a store.
      root: Of a folder, the one whose folders name people.
    """

    uri: str
    what: str
    root: str = ""


def absolute_place(place: str) -> str:
    """Makes a place absolute, so that workers in other folders find it; brackets of the current one are no pattern."""
    scheme, rest = _scheme(place)
    if not scheme:
        return folders.absolute_path(place)
    place = f"{scheme}{rest}"
    if scheme == "file":
        return _local_path(place) or place
    return _without_user(place)  # it is not asked for with a password, and should not be written down with one


def check(source: ItemSource) -> None:
    """Looks at all places, as far as that is possible without asking the web.

    Raises:
      NoSuchSource: If a place does not exist, a pattern matches nothing, or a list cannot be read.
    """
    for place in source.places:
        for found in _look_at(place, source):
            if found.what in lists.FORMATS:
                lists.check(found.uri, found.what, source.columns)


def may_name_web(source: ItemSource) -> bool:
    """Whether items may be such that the web must be asked for them."""
    return any(found.what in ("web", *lists.FORMATS) for place in source.places for found in _look_at(place, source))


def list_items(source: ItemSource) -> Iterator[ItemRef]:
    """Lists a source in a fixed order: each file of its folders once, and each row of its lists.

    Hidden files and folders are passed over. Files whose names end in a suffix that no photo has are listed as of an
    unsupported type; a file named by itself is a list if its name or its first bytes say so, and else a photo whatever
    it is called.

    Raises:
      NoSuchSource: If a place does not exist, a pattern matches nothing, or a list cannot be read.
    """
    places = list(dict.fromkeys(found for place in source.places for found in _look_at(place, source)))
    named = {found.uri for found in places if found.what == "photo"}
    seen = set()
    for found in places:
        if found.what in lists.FORMATS:
            yield from _list_rows(found, source)
            continue
        if found.what == "web":
            yield _web_photo(found.uri, source)
            continue
        for file in _list_files(found, source, named):
            if file.uri not in seen:
                seen.add(file.uri)
                yield _file_ref(file, source.labelled)


def _look_at(place: str, source: ItemSource) -> list[_Found]:
    """Finds out what a place is, and what a pattern matches.

    Raises:
      NoSuchSource: If it is nothing.
    """
    place = absolute_place(place)
    if place.startswith(_WEB):
        return [_web_place(place, source.format)]
    try:
        return _look_at_store(place, source.format) if "://" in place else _look_at_local(place, source.format)
    except storage.StorageError as error:
        raise NoSuchSource(str(error)) from error
    except OSError as error:
        raise NoSuchSource(f"{printable(place)} cannot be read: {error.strerror or error}") from error


def _web_place(place: str, format: str) -> _Found:
    if format not in ("", "photo") or lists.format_of_name(re.split("[?#]", place)[0]):
        raise NoSuchSource(f"lists are not read from the web; fetch it first: {_without_user(place)}")
    return _Found(place, "web")


def _look_at_local(place: str, format: str) -> list[_Found]:
    matches = folders.local_matches(place)
    if matches == [place]:
        return [_folder(place, place, format) if os.path.isdir(place) else _file(place, format)]
    wanted = format or lists.format_of_name(place) or "photo"
    return [
        _folder(path, os.path.dirname(path), format) if os.path.isdir(path) else _file(path, wanted) for path in matches
    ]


def _look_at_store(place: str, format: str) -> list[_Found]:
    place = place.rstrip("/")
    what = storage.type_of(place)
    if what:
        return [_folder(place, place, format) if what == "folder" else _file(place, format)]
    if not folders.has_magic(place):
        raise NoSuchSource(f"there is no {place}")
    wanted = format or lists.format_of_name(place) or "photo"
    if wanted not in lists.FORMATS:
        if next(folders.list_pattern(place, ()), None):
            return [_Found(place, "pattern")]
        raise NoSuchSource(f"nothing matches {place}")
    matches = [_Found(file.uri, wanted) for file in folders.list_pattern(place, ())]
    if not matches:
        raise NoSuchSource(f"nothing matches {place}")
    return matches


def _folder(place: str, root: str, format: str) -> _Found:
    if format not in ("", "folder"):
        raise NoSuchSource(f"{printable(place)} is a folder and not {format}")
    return _Found(place, "folder", root)


def _file(place: str, format: str) -> _Found:
    if format == "folder":
        raise NoSuchSource(f"{printable(place)} is no folder")
    return _Found(place, format or lists.recognise_file(place) or "photo")


# --- files ------------------------------------------------------------------------------------------------------------


def _list_files(found: _Found, source: ItemSource, named: set[str]) -> Iterator[ListedFile]:
    if found.what == "folder":
        return folders.list_folder(found.uri, found.root, source.excluded, named)
    if found.what == "pattern":
        return folders.list_pattern(found.uri, source.excluded)
    revision = storage.revision(found.uri) if storage.is_stored(found.uri) else folders.revision_of(found.uri)
    return iter([ListedFile(found.uri, folders.folder_name(found.uri), revision)])


def _file_ref(file: ListedFile, labelled: bool) -> ItemRef:
    person = Person.of(printable(file.name)) if labelled else NOBODY
    fault, detail = file.fault, ""
    if fault == Reason.UNSUPPORTED_TYPE:
        detail = f"a {printable(os.path.splitext(file.uri)[1])} file is not taken for a photo"
    elif fault == Reason.UNREADABLE:
        detail = "a folder that cannot be looked into"
    elif labelled and not person.name:
        fault, detail = Reason.NO_IDENTITY, "neither a folder nor its name says who is on it"
    return ItemRef.of(file.uri, person, revision=file.revision, listed=fault, detail=detail)


def _web_photo(url: str, source: ItemSource) -> ItemRef:
    """The reference of a URL that is a place itself."""
    try:
        url = clean_url(url)
    except WebFault as fault:
        return ItemRef.of(_without_user(url), listed=fault.reason, detail=str(fault))
    if source.labelled:
        return ItemRef.of(url, listed=Reason.NO_IDENTITY, detail="a URL does not say who is on it; a list can")
    return ItemRef.of(url)


# --- rows of lists ----------------------------------------------------------------------------------------------------


def _list_rows(found: _Found, source: ItemSource) -> Iterator[ItemRef]:
    rows = lists.read_rows(found.uri, found.what, source.columns)
    return _with_revisions(_row_ref(row, found.uri, source) for row in rows)


def _row_ref(row: Row, place: str, source: ItemSource) -> ItemRef:
    """A row's item."""
    origin = f"{printable(posixpath.basename(place))}:{row.number}"
    person = Person.of(row.name, row.external_id, row.aliases)
    uri, kind, fault, detail = f"{place}:{row.number}", Kind.PHOTO, Reason.NONE, ""
    if row.fault:
        fault, detail = Reason.BAD_ROW, row.fault
    elif row.url:
        uri, fault, detail = _resolve(row.url, place)
    elif row.page:
        kind = Kind.PAGE
        uri, fault, detail = _resolve_web(row.page)
    elif row.name and source.search:
        uri, kind = f"name:{person.name}", Kind.NAME
    else:
        fault, detail = Reason.BAD_ROW, "neither a URL nor a page"
        if row.name and source.labelled:
            detail += "; --provider searches for names"
    if source.labelled and not fault and not person.name:
        fault, detail = Reason.NO_IDENTITY, "its row names nobody"
    page = _resolve_web(row.page)[0] if row.page and row.url else ""
    return ItemRef.of(
        uri,
        person,
        kind,
        origin=origin,
        provenance=Provenance(page, row.licence, row.author),
        listed=fault,
        detail=detail,
    )


def _resolve(text: str, place: str) -> tuple[str, Reason, str]:
    """What a list's URL or path names: URI, fault and detail. Nothing in it is expanded."""
    scheme, rest = _scheme(text)
    if scheme in ("http", "https"):
        return _resolve_web(text)
    if "\0" in text or text[:5].lower() == "data:":
        return _without_user(text), Reason.BAD_URL, "neither a URL nor a path"
    if scheme == "file":
        path = _local_path(text)
        usable = path and "\0" not in path
        return (path, Reason.NONE, "") if usable else (text, Reason.BAD_URL, "not a file on this machine")
    if scheme in ("s3", "gs"):
        return f"{scheme}{rest}", Reason.NONE, ""
    if scheme:
        return _without_user(text), Reason.BAD_URL, f"{scheme}:// is not asked for"
    if text.startswith("/") or not storage.is_stored(place):
        return os.path.normpath(os.path.join(os.path.dirname(place), text)), Reason.NONE, ""
    store, inside = place.split("://", 1)
    bucket, _, key = inside.partition("/")
    key = posixpath.normpath(posixpath.join(posixpath.dirname(key), text))
    if key == ".." or key.startswith("../"):
        return text, Reason.BAD_URL, "a path that leads out of the bucket"
    return f"{store}://{bucket}/{key}", Reason.NONE, ""


def _resolve_web(text: str) -> tuple[str, Reason, str]:
    try:
        return clean_url(text), Reason.NONE, ""
    except WebFault as fault:
        return _without_user(text), fault.reason, str(fault)


def _without_user(text: str) -> str:
    """A URI without what may be a user's name and password; it need be no good one."""
    return re.sub(r"^([^/]*//)[^/?#]*@", r"\1", text)


def _scheme(text: str) -> tuple[str, str]:
    """The scheme of a URI in small letters, and what follows; empty if a text is none."""
    found = _SCHEME.match(text)
    return (found[1].lower(), text[found.end(1) :]) if found else ("", text)


def _local_path(uri: str) -> str:
    """The path of a file:// URI; empty if it is on another machine."""
    host, slash, path = uri.split("://", 1)[1].partition("/")
    return urllib.parse.unquote(slash + path, errors="surrogateescape") if host in ("", "localhost") else ""


def _with_revisions(refs: Iterable[ItemRef]) -> Iterator[ItemRef]:
    """Adds the revisions of files; a store is asked for several at once, in the rows' order."""
    waiting: collections.deque[tuple[ItemRef, concurrent.futures.Future[str] | None]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE, "revisions") as pool:
        for ref in refs:
            if ref.listed or ref.kind != Kind.PHOTO or ref.is_web:
                waiting.append((ref, None))
            elif storage.is_stored(ref.uri):
                waiting.append((ref, pool.submit(storage.revision, ref.uri)))
            else:
                waiting.append((dataclasses.replace(ref, revision=folders.revision_of(ref.uri)), None))
            if len(waiting) >= _AT_ONCE or not waiting[0][1]:
                yield _answered(*waiting.popleft())
        while waiting:
            yield _answered(*waiting.popleft())


def _answered(ref: ItemRef, revision: "concurrent.futures.Future[str] | None") -> ItemRef:
    return dataclasses.replace(ref, revision=revision.result()) if revision else ref


# --- the step ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class ListItems(beam.PTransform):
    """ItemSource to keyed references, (item id, ItemRef), and outcomes of what is not to be read.

    Attributes:
      tombstones: What was taken down, and is not named among the lost ones either.
    """

    tombstones: Tombstones = NONE

    def expand(self, sources: beam.PCollection) -> Any:  # good ones, lost ones
        listed = sources | beam.ParDo(_ListItemsDoFn(self.tombstones)).with_outputs("lost", main="refs")
        return listed.refs, listed.lost


class _ListItemsDoFn(beam.DoFn):
    def __init__(self, tombstones: Tombstones):
        self._tombstones = tombstones
        self._metrics = StageMetrics(STAGE)

    def process(self, source: ItemSource):
        count = 0
        for ref in list_items(source):
            self._metrics.taken()
            count += 1
            if count % _SHOWN == 0:
                progress.add({"listed": _SHOWN})
            if ref.listed:
                lost = _lost(ref, count)
                if is_removed(ref, self._tombstones):
                    lost = withdrawn(lost.ref, STAGE)
                self._metrics.lost(lost.reason)
                yield beam.pvalue.TaggedOutput("lost", lost)
            else:
                self._metrics.passed()
                yield ref.item_id, ref
        progress.add({"listed": count % _SHOWN})
        progress.flush()


def _lost(ref: ItemRef, number: int) -> Outcome:
    """The outcome of an item that ends here: with an id of its own, for nobody looks whether it is named twice."""
    own = f"{ref.item_id} lost {number}"
    ref = dataclasses.replace(ref, item_id=hashlib.sha256(own.encode()).hexdigest()[:16])
    end = skipped if ref.listed == Reason.UNSUPPORTED_TYPE else rejected
    return end(ref, STAGE, ref.listed, ref.detail)


def peek(source: ItemSource, limit: int) -> int:
    """Counts a source's items, up to a limit, so that a wrong source is known before anything starts.

    Raises:
      NoSuchSource: If a place does not exist, a list cannot be read, or there is no item at all.
    """
    check(source)
    count = sum(1 for _ in itertools.islice(list_items(source), limit))
    if not count:
        raise NoSuchSource(f"there is no photo in {', '.join(source.places)}")
    return count
