"""Files at a URI. One interface for every place an artefact may live; local folders so far.

Built on pyarrow.fs, whose S3 and GCS file systems speak the same calls.
"""

import hashlib
import os
import posixpath
import re
import secrets
import urllib.parse
from collections.abc import Iterable, Iterator

import pyarrow
import pyarrow.fs

_SCRATCH = re.compile(r"\.[0-9a-f]{8}\.tmp\Z")  # ends of names that `_scratch` makes


class StorageError(Exception):
    """A place cannot be used; the message is for the user."""


def resolve(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Finds the file system of a URI.

    Args:
      uri: A local path or file:// URI.

    Returns:
      The file system and the path within it.

    Raises:
      StorageError: If the scheme is not served or the name cannot be used.
    """
    try:
        uri.encode()
    except UnicodeEncodeError as error:
        raise StorageError(f"a name that is no UTF-8 cannot be used here: {uri!r}") from error
    scheme = urllib.parse.urlsplit(uri).scheme
    if "://" not in uri:
        return pyarrow.fs.LocalFileSystem(), os.path.abspath(uri)
    if scheme == "file":
        try:
            return pyarrow.fs.FileSystem.from_uri(uri)
        except pyarrow.ArrowInvalid as error:
            raise StorageError(f"not a URI: {uri}") from error
    raise StorageError(f"{scheme}:// is not a place this version of celebface can use: {uri}")


def join(uri: str, *parts: str) -> str:
    """Appends names to a URI."""
    return posixpath.join(uri, *parts)


def absolute(uri: str) -> str:
    """A local path made absolute, so that workers in other folders find it; URIs stay as they are."""
    return uri if "://" in uri else os.path.abspath(uri)


def _scratch(path: str) -> str:
    return f"{path}.{secrets.token_hex(4)}.tmp"


def read_bytes(uri: str) -> bytes:
    """Reads a whole file.

    Raises:
      FileNotFoundError: If there is none.
    """
    system, path = resolve(uri)
    with system.open_input_stream(path, compression=None) as stream:
        return stream.read()


def open_input(uri: str) -> pyarrow.NativeFile:
    """Opens a file for reading at any position."""
    system, path = resolve(uri)
    return system.open_input_file(path)


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a whole file; a reader sees the old contents or the new, never part of them."""
    system, path = resolve(uri)
    system.create_dir(posixpath.dirname(path), recursive=True)
    scratch = _scratch(path)
    with system.open_output_stream(scratch, compression=None) as stream:
        stream.write(data)
    system.move(scratch, path)


def write_text_lines(uri: str, lines: Iterable[str]) -> None:
    """Writes a text file of any length, UTF-8; a reader sees it whole or not at all."""
    system, path = resolve(uri)
    system.create_dir(posixpath.dirname(path), recursive=True)
    scratch = _scratch(path)
    with system.open_output_stream(scratch, compression=None) as stream:
        for line in lines:
            stream.write(line.encode())
    system.move(scratch, path)


def exists(uri: str) -> bool:
    """Whether there is a file or folder."""
    system, path = resolve(uri)
    return system.get_file_info(path).type != pyarrow.fs.FileType.NotFound


def list_files(uri: str) -> Iterator[str]:
    """Names of all files below a folder, relative to it, sorted; nothing if the folder is not there.

    What a killed writer left half written is not among them.
    """
    system, path = resolve(uri)
    infos = system.get_file_info(pyarrow.fs.FileSelector(path, recursive=True, allow_not_found=True))
    files = (info.path for info in infos if info.is_file and not _SCRATCH.search(info.path))
    yield from sorted(posixpath.relpath(file, path) for file in files)


def list_names(uri: str) -> Iterator[str]:
    """Names of the files and folders directly in a folder, sorted; nothing if it is not there."""
    system, path = resolve(uri)
    infos = system.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True))
    yield from sorted(info.base_name for info in infos)


def check_writable(uri: str) -> None:
    """Makes a folder and tries to write into it, so that a run does not find out at its end.

    Raises:
      StorageError: If that is not possible.
    """
    probe = join(uri, ".celebface-probe")
    try:
        write_bytes(probe, b"")
        delete_file(probe)
    except OSError as error:
        raise StorageError(f"cannot write to {uri}: {error}") from error


def copy_file(source: str, target: str) -> None:
    """Copies a file as `write_bytes` writes one: whole or not at all."""
    source_system, source_path = resolve(source)
    system, path = resolve(target)
    system.create_dir(posixpath.dirname(path), recursive=True)
    scratch = _scratch(path)
    pyarrow.fs.copy_files(source_path, scratch, source_filesystem=source_system, destination_filesystem=system)
    system.move(scratch, path)


def delete_file(uri: str) -> None:
    """Deletes a file; no fault if it is not there."""
    system, path = resolve(uri)
    if system.get_file_info(path).is_file:
        system.delete_file(path)


def delete_tree(uri: str) -> None:
    """Deletes a folder with all that is in it; no fault if it is not there."""
    system, path = resolve(uri)
    if system.get_file_info(path).type == pyarrow.fs.FileType.Directory:
        system.delete_dir(path)


def checksum(uri: str) -> tuple[str, int]:
    """sha256 and length in bytes of a file."""
    digest, size = hashlib.sha256(), 0
    with open_input(uri) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def local_path(uri: str) -> str:
    """The path of a file on this machine, for libraries that map files into memory.

    Raises:
      StorageError: If it is not on this machine.
    """
    system, path = resolve(uri)
    if not isinstance(system, pyarrow.fs.LocalFileSystem):
        raise StorageError(f"{uri} is not on this machine")
    return path
