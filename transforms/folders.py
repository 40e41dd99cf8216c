"""Lists the files of folders and patterns, on this machine and in object stores."""

import dataclasses
import glob
import os
import posixpath
import re
from collections.abc import Collection, Iterator, Sequence

from celebface.indexing import storage
from celebface.indexing.schemas import Reason

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
REPORT_MARK = "made-by-celebface.txt"  # lies in each look-alike report
_MAGIC = re.compile(r"[*?[]")


class NoSuchSource(Exception):
    """A source names nothing, or cannot be read; the message is for the user."""


@dataclasses.dataclass(frozen=True, slots=True)
class ListedFile:
    """A file that is met.

    Attributes:
      uri: Local path, bytes that are no UTF-8 as surrogates; or URI in a store.
      name: Who is on it, as its place says: the folder's name, or its own without suffix.
      revision: Changes when the file does; empty if that cannot be told.
      fault: Why it is no photo.
    """

    uri: str
    name: str
    revision: str
    fault: Reason = Reason.NONE


def suffix_of(uri: str) -> str:
    """The suffix of a file's name, in small letters."""
    return os.path.splitext(uri)[1].lower()


def has_magic(place: str) -> bool:
    """Whether a place may be a pattern."""
    return bool(_MAGIC.search(place))


def folder_name(uri: str) -> str:
    """The name of the folder that a file lies in; empty at the top of a store's bucket."""
    if storage.is_stored(uri):
        _, *folders, _ = uri.split("://", 1)[1].split("/")
        return folders[-1] if folders else ""
    return os.path.basename(os.path.dirname(uri))


def revision_of(path: str) -> str:
    """What changes when a local file does; empty if it cannot be looked at."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # looked at again, and reported, when it is read
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def list_folder(folder: str, root: str, excluded: Sequence[str], named: Collection[str]) -> Iterator[ListedFile]:
    """Lists all files below a folder, each once, in the order of their names' bytes.

    Hidden files and folders are passed over. Files whose names end in a suffix that no photo has are told by a fault.

    Args:
      folder: Local path or URI in a store.
      root: `folder` or the one it lies in. The first folder below it says who is on a photo; of a photo that lies
        directly in it, its own name does.
      excluded: Folders that are passed over.
      named: Files that are photos whatever they are called.

    Raises:
      StorageError: If a store does not answer.
    """
    files = _walk_store(folder, excluded) if storage.is_stored(folder) else _walk(folder, excluded)
    for path, revision, fault in files:
        if path not in named:
            fault = fault or _fault_of_name(path)
        names = path[len(root.rstrip("/")) + 1 :].split("/")
        yield ListedFile(path, _who(names, fault), revision, fault)


def _fault_of_name(path: str) -> Reason:
    suffix = suffix_of(path)
    return Reason.UNSUPPORTED_TYPE if suffix and suffix not in PHOTO_SUFFIXES else Reason.NONE


def _who(names: Sequence[str], fault: Reason) -> str:
    """Who is on a photo, by the names of its path below the folder that holds people."""
    if len(names) > 1:
        return names[0]
    return "" if fault else os.path.splitext(names[0])[0]


def _walk(folder: str, excluded: Sequence[str]) -> Iterator[tuple[str, str, Reason]]:
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
            yield path, revision_of(path), Reason.NONE
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
            yield path, revision_of(path), Reason.UNREADABLE
            continue
        if any(entry.name == REPORT_MARK for entry in entries):
            continue  # its pictures are of photos that lie elsewhere
        entries.sort(key=lambda entry: os.fsencode(entry.name), reverse=True)
        waiting.extend(entry.path for entry in entries)


def _walk_store(folder: str, excluded: Sequence[str]) -> Iterator[tuple[str, str, Reason]]:
    """All objects below a prefix, by name."""
    passed_over = tuple(f"{place.rstrip('/')}/" for place in excluded)
    for file in storage.walk(folder):
        below = file.uri[len(folder.rstrip("/")) :]
        if "/." not in below and not file.uri.startswith(passed_over):
            yield file.uri, file.revision, Reason.NONE


def local_matches(place: str) -> list[str]:
    """The path of a place, or all that a pattern matches, sorted.

    Raises:
      NoSuchSource: If there is nothing.
    """
    path = absolute_path(place)
    if os.path.lexists(path):
        return [path]
    if not glob.has_magic(place):
        raise NoSuchSource(f"there is no {path}")
    found = sorted(glob.glob(path, recursive=True))
    if not found:
        raise NoSuchSource(f"nothing matches {place}")
    return found


def absolute_path(place: str) -> str:
    """Makes a local place absolute; brackets of the current folder are no pattern."""
    if os.path.lexists(place) or not glob.has_magic(place):
        return os.path.abspath(place)
    return os.path.join(glob.escape(os.getcwd()), place)


def list_pattern(pattern: str, excluded: Sequence[str]) -> Iterator[ListedFile]:
    """Lists the objects of a store that a pattern matches, and those below the folders that it matches.

    Args:
      pattern: A URI; `*`, `?` and `[...]` stand for characters of one name, `**` for any number of folders.
      excluded: Folders that are passed over.

    Raises:
      StorageError: If the store does not answer.
    """
    scheme, path = pattern.split("://", 1)
    fixed, parts = [], path.split("/")
    while parts and not has_magic(parts[0]):
        fixed.append(parts.pop(0))
    root = f"{scheme}://{posixpath.join('', *fixed)}"
    matching = re.compile(_expression(parts))
    for uri, revision, _ in _walk_store(root, excluded):
        names = uri[len(root) + 1 :].split("/")
        for depth in range(len(names) + 1):
            if matching.fullmatch("".join(f"/{name}" for name in names[:depth])):
                if depth == len(names):
                    yield ListedFile(uri, folder_name(uri), revision)
                else:
                    fault = _fault_of_name(uri)
                    yield ListedFile(uri, _who(names[max(depth - 1, 0) :], fault), revision, fault)
                break


def _expression(parts: Sequence[str]) -> str:
    """A pattern's names below its fixed part as a regular expression for "/name/name"."""
    return "".join("(?:/[^/]+)*" if part == "**" else f"/{_name_expression(part)}" for part in parts)


def _name_expression(part: str) -> str:
    pieces = []
    for piece in re.findall(r"\[!?\]?[^\]]*\]|.", part, re.DOTALL):
        if len(piece) > 1:
            negated = piece[1] == "!"
            body = piece[2 if negated else 1 : -1].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
            body = body.replace("]", r"\]")
            pieces.append(f"(?!/)[{'^' if negated else ''}{body}]")
        else:
            pieces.append({"*": "[^/]*", "?": "[^/]"}.get(piece, re.escape(piece)))
    return "".join(pieces)
