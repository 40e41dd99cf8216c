"""Files at a URI: in local folders, and as objects in S3 and Google Cloud Storage. One interface for all.

Built on pyarrow.fs; `stores.py` tells how the stores are reached, `swap.py` how a file is replaced if nobody else has.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import errno
import hashlib
import io
import os
import posixpath
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import pyarrow.fs

from celebface.indexing.stores import StorageError, absolute, is_stored, join, resolve, told
from celebface.indexing.swap import Conflict, check_swappable, honours_conditions, read_tagged, replace_tagged

__all__ = [
    "Conflict",
    "StorageError",
    "StoredFile",
    "absolute",
    "check_swappable",
    "honours_conditions",
    "is_stored",
    "join",
    "read_tagged",
    "replace_tagged",
    "resolve",
]

_SCRATCH = re.compile(r"\.[0-9a-f]{8}\.tmp\Z")  # ends of names that `_scratch` makes
_CHUNK = 8 * 2**20  # each read is a request
_STREAM_BUFFER = 2**20
_IN_MEMORY = 64 * 2**20  # of an object that is put together before it is sent
_COPY_LIMIT = 5 * 10**9  # larger objects cannot be copied within S3
_LISTINGS_AT_ONCE = 16


@dataclasses.dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that was listed.

    Attributes:
      uri: Where it is.
      size: In bytes.
      mtime_ns: Time of its last change, as far as the place tells it.
    """

    uri: str
    size: int
    mtime_ns: int

    @property
    def revision(self) -> str:
        """What changes when the file does."""
        return f"{self.size}-{self.mtime_ns}"


def _scratch(path: str) -> str:
    return f"{path}.{secrets.token_hex(4)}.tmp"


# --- reading ----------------------------------------------------------------------------------------------------------


def read_bytes(uri: str) -> bytes:
    """Reads a whole file.

    Raises:
      FileNotFoundError: If there is none.
      StorageError: If its store does not give it.
    """
    system, path = resolve(uri)
    with told(uri), system.open_input_stream(path, compression=None) as stream:
        return stream.read()


def open_input(uri: str) -> pyarrow.NativeFile:
    """Opens a file for reading at any position.

    Raises:
      FileNotFoundError: If there is none.
      StorageError: If its store does not give it.
    """
    system, path = resolve(uri)
    with told(uri):
        return system.open_input_file(path)


def open_mapped(uri: str) -> pyarrow.NativeFile:
    """As `open_input`, but of a file on this machine only what is looked at is read."""
    return open_input(uri) if is_stored(uri) else pyarrow.memory_map(local_path(uri))


def open_stream(uri: str) -> pyarrow.NativeFile:
    """Opens a file for reading from its beginning, in pieces of any size.

    Raises:
      FileNotFoundError: If there is none.
      StorageError: If its store does not give it.
    """
    system, path = resolve(uri)
    with told(uri):
        return system.open_input_stream(path, compression=None, buffer_size=_STREAM_BUFFER)


def checksum(uri: str) -> tuple[str, int]:
    """sha256 and length in bytes of a file."""
    digest, size = hashlib.sha256(), 0
    with open_input(uri) as stream, told(uri):
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


# --- writing ----------------------------------------------------------------------------------------------------------


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a whole file; a reader sees the old contents or the new, never part of them.

    Raises:
      StorageError: If its store does not take it.
    """
    if is_stored(uri):
        _send(uri, io.BytesIO(data))
        return
    with open_output(uri) as stream:
        stream.write(data)


def write_text_lines(uri: str, lines: Iterable[str]) -> None:
    """Writes a text file of any length, UTF-8; a reader sees it whole or not at all.

    Raises:
      StorageError: If its store does not take it.
    """
    with open_output(uri) as stream:
        for line in lines:
            stream.write(line.encode())


@contextlib.contextmanager
def open_output(uri: str) -> Iterator["BinaryIO | pyarrow.NativeFile | tempfile.SpooledTemporaryFile[bytes]"]:
    """Opens a file of any length for writing; it appears, whole, when the block has come to its end.

    Raises:
      StorageError: If its store does not take it.
    """
    if is_stored(uri):
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as whole:
            yield whole
            whole.seek(0)
            _send(uri, whole)
        return
    system, path = resolve(uri)
    system.create_dir(posixpath.dirname(path), recursive=True)
    scratch = _scratch(path)  # under which it is written first
    with system.open_output_stream(scratch, compression=None) as stream:
        yield stream
    system.move(scratch, path)


def _send(uri: str, whole: "BinaryIO | tempfile.SpooledTemporaryFile[bytes]") -> None:
    """Writes an object, which appears when the stream is closed, whatever went through.

    So nothing but the store itself may fail until then: `whole` is at hand.
    """
    system, path = resolve(uri)
    try:
        with told(uri), system.open_output_stream(path, compression=None) as stream:
            shutil.copyfileobj(whole, stream, _CHUNK)
    except FileNotFoundError as error:
        raise StorageError(f"there is no such bucket: {uri}") from error


def copy_file(source: str, target: str) -> None:
    """Copies a file as `write_bytes` writes one: whole or not at all.

    Raises:
      FileNotFoundError: If there is no source.
      StorageError: If a store does not give or take it.
    """
    source_system, source_path = resolve(source)
    system, path = resolve(target)
    if not is_stored(target):
        system.create_dir(posixpath.dirname(path), recursive=True)
        scratch = _scratch(path)
        with told(source):
            pyarrow.fs.copy_files(source_path, scratch, source_filesystem=source_system, destination_filesystem=system)
        system.move(scratch, path)
    elif not is_stored(source):
        with open(source_path, "rb") as whole:
            _send(target, whole)
    elif type(system) is type(source_system) and (_info(source).size or 0) <= _COPY_LIMIT:
        with told(source):
            system.copy_file(source_path, path)
    else:
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as whole:
            with open_stream(source) as stream, told(source):
                shutil.copyfileobj(stream, whole, _CHUNK)
            whole.seek(0)
            _send(target, whole)


def check_writable(uri: str) -> None:
    """Makes a folder and tries to write into it, so that a run does not find out at its end.

    Raises:
      StorageError: If that is not possible.
    """
    probe = join(uri, ".celebface-probe")
    try:
        write_bytes(probe, b"")
        delete_file(probe)
    except (OSError, StorageError) as error:
        raise StorageError(f"cannot write to {uri}: {error}") from error


def delete_file(uri: str) -> None:
    """Deletes a file; no fault if it is not there."""
    system, path = resolve(uri)
    if _info(uri).is_file:
        with told(uri):
            system.delete_file(path)


def delete_tree(uri: str) -> None:
    """Deletes a folder with all that is in it; no fault if it is not there."""
    system, path = resolve(uri)
    if _info(uri).type != pyarrow.fs.FileType.Directory:
        return
    if not is_stored(uri):
        system.delete_dir(path)
        return
    with contextlib.suppress(FileNotFoundError), told(uri):  # a prefix in a store need not be a folder
        system.delete_dir(path)


# --- looking ----------------------------------------------------------------------------------------------------------


def _info(uri: str) -> pyarrow.fs.FileInfo:
    system, path = resolve(uri)
    try:
        with told(uri):
            return system.get_file_info(path)
    except OSError as error:  # what is not there is no fault here
        raise StorageError(f"{os.strerror(error.errno or errno.EIO)}: {uri}") from error


def exists(uri: str) -> bool:
    """Whether there is a file or folder."""
    return type_of(uri) != ""


def type_of(uri: str) -> str:
    """What is there: "file", "folder", or nothing.

    Raises:
      StorageError: If its store does not tell.
    """
    found = _info(uri)
    if found.type == pyarrow.fs.FileType.NotFound:
        return ""
    return "folder" if found.type == pyarrow.fs.FileType.Directory else "file"


def revision(uri: str) -> str:
    """What changes when a file does; empty if it cannot be looked at."""
    try:
        found = _info(uri)
    except (OSError, StorageError):
        return ""
    return _stored_file(uri, found).revision if found.is_file else ""


def _stored_file(uri: str, info: pyarrow.fs.FileInfo) -> StoredFile:
    return StoredFile(uri, info.size or 0, info.mtime_ns or 0)


def list_files(uri: str) -> Iterator[str]:
    """Names of all files below a folder, relative to it, sorted; nothing if the folder is not there.

    What a killed writer left half written is not among them.
    """
    path = resolve(uri)[1]
    yield from sorted(_below(info.path, path) for info in _files(uri) if not _SCRATCH.search(info.path))


def list_names(uri: str) -> Iterator[str]:
    """Names of the files and folders directly in a folder, sorted; nothing if it is not there."""
    system, path = resolve(uri)
    if isinstance(system, pyarrow.fs.GcsFileSystem):  # it lists no folders but those made as such
        names = {_below(info.path, path).split("/", 1)[0] for info in _files(uri)}
    else:
        names = {info.base_name for info in _select(uri, recursive=False)}
    yield from sorted(filter(None, names))


def walk(uri: str) -> Iterator[StoredFile]:
    """All files below a folder, folder by folder, sorted by the bytes of their names; none if it is not there.

    In S3, the folders directly in it are listed a few at a time, so that the first files come soon.

    Raises:
      StorageError: If its store does not tell.
    """
    uri = uri.rstrip("/")
    if not isinstance(resolve(uri)[0], pyarrow.fs.S3FileSystem):
        yield from _sorted_files(uri)
        return
    directly = _select(uri, recursive=False)
    if not all(info.base_name for info in directly):  # a folder without a name cannot be listed by itself
        yield from _sorted_files(uri)
        return
    directly.sort(key=lambda info: info.base_name.encode())
    ahead: collections.deque[list[StoredFile] | concurrent.futures.Future[list[StoredFile]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(_LISTINGS_AT_ONCE, "list") as pool:
        for info in directly:
            place = f"{uri}/{info.base_name}"
            ahead.append([_stored_file(place, info)] if info.is_file else pool.submit(_sorted_files, place))
            if len(ahead) >= _LISTINGS_AT_ONCE:
                yield from _listed(ahead.popleft())
        while ahead:
            yield from _listed(ahead.popleft())


def _listed(files: "list[StoredFile] | concurrent.futures.Future[list[StoredFile]]") -> list[StoredFile]:
    return files if isinstance(files, list) else files.result()


def _sorted_files(uri: str) -> list[StoredFile]:
    path = resolve(uri)[1]
    files = [_stored_file(f"{uri}/{_below(info.path, path)}", info) for info in _files(uri)]
    return sorted(files, key=lambda file: file.uri.encode().split(b"/"))


def _below(path: str, folder: str) -> str:
    return path[len(folder.rstrip("/")) + 1 :]


def _files(uri: str) -> Iterator[pyarrow.fs.FileInfo]:
    return (info for info in _select(uri, recursive=True) if info.is_file)


def _select(uri: str, recursive: bool) -> list[pyarrow.fs.FileInfo]:
    system, path = resolve(uri)
    with contextlib.suppress(FileNotFoundError), told(uri):
        if isinstance(system, pyarrow.fs.LocalFileSystem) and system.get_file_info(path).is_file:
            raise StorageError(f"{uri} is a file, not a folder")
        return system.get_file_info(pyarrow.fs.FileSelector(path, recursive=recursive, allow_not_found=True))
    return []


def local_path(uri: str) -> str:
    """The path of a file on this machine, for libraries that map files into memory.

    Raises:
      StorageError: If it is not on this machine.
    """
    system, path = resolve(uri)
    if not isinstance(system, pyarrow.fs.LocalFileSystem):
        raise StorageError(f"{uri} is not on this machine")
    return path
