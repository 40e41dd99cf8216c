"""Galleries of stores in the cache of this machine, fetched once for all its processes."""

import contextlib
import hashlib
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from celebface.indexing import storage
from celebface.indexing.manifest import BadBundle
from celebface.indexing.swap import locked

_KEPT = 8  # versions in the cache, and encoders


def local_files(version: str, manifest: bytes, files: Mapping[str, Mapping[str, Any]], cache: pathlib.Path) -> str:
    """Finds files of a version on this machine, as their manifest has them; the cache is filled with those of a store.

    Of processes that want the same files one fetches them and the others wait. What is in the cache is checked, too,
    and fetched anew if it is damaged.

    Args:
      version: URI of the version.
      manifest: Its manifest's bytes, by which it is known in the cache wherever it was published.
      files: The manifest's entries of the files wanted, sha256 and bytes by name.
      cache: The cache folder.

    Returns:
      A folder that holds them under their names.

    Raises:
      BadBundle: If a file is missing or not what the manifest says.
      storage.StorageError: If the store does not give it.
    """
    if not storage.is_stored(version):
        folder = storage.local_path(version)
        for name, entry in files.items():
            check_file(version, name, entry)
        return folder
    place = _place(manifest, cache)
    if not all(_is_whole(place / name, entry) for name, entry in files.items()):
        place.mkdir(parents=True, exist_ok=True)
        with locked(place):
            for name, entry in files.items():
                if not _is_whole(place / name, entry):
                    fetch(version, name, entry, str(place / name))
        forget_the_oldest(place.parent)
    with contextlib.suppress(FileNotFoundError):  # somebody else leaves only the versions that were opened last, too
        os.utime(place)
    return str(place)


def forget(manifest: bytes, cache: pathlib.Path) -> None:
    """Deletes what the cache has of a version; who has opened it keeps it until it is closed."""
    shutil.rmtree(_place(manifest, cache), ignore_errors=True)


def _place(manifest: bytes, cache: pathlib.Path) -> pathlib.Path:
    return cache / "galleries" / hashlib.sha256(manifest).hexdigest()


def forget_the_oldest(places: pathlib.Path) -> None:
    """Leaves those folders of a part of the cache that were opened last."""
    with contextlib.suppress(FileNotFoundError):  # somebody else is at it
        for place in sorted(places.iterdir(), key=lambda place: place.stat().st_mtime)[:-_KEPT]:
            shutil.rmtree(place, ignore_errors=True)


def check_file(version: str, name: str, entry: Mapping[str, Any]) -> None:
    """Reads a file of a version.

    Raises:
      BadBundle: If it is missing or not what the manifest says.
    """
    target = storage.join(version, name)
    try:
        found = storage.checksum(target)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise _lacking(version, name) from error
    if found != (entry["sha256"], entry["bytes"]):
        raise _not_as_said(version, name)


def _is_whole(path: pathlib.Path, entry: Mapping[str, Any]) -> bool:
    """Whether a file of the cache is there, and what it should be."""
    try:
        return path.stat().st_size == entry["bytes"] and storage.checksum(str(path))[0] == entry["sha256"]
    except FileNotFoundError:
        return False


def fetch(version: str, name: str, entry: Mapping[str, Any], target: str) -> None:
    """Copies a file of a version to a URI; nothing is there if it is not what it should be.

    Raises:
      BadBundle: If it is missing or not what the manifest says.
    """
    try:
        storage.copy_file(storage.join(version, name), target)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise _lacking(version, name) from error
    if storage.checksum(target) != (entry["sha256"], entry["bytes"]):
        storage.delete_file(target)
        raise _not_as_said(version, name)


def _lacking(version: str, name: str) -> BadBundle:
    return BadBundle(f"the gallery lacks its {name}: {version}")


def _not_as_said(version: str, name: str) -> BadBundle:
    return BadBundle(f"the gallery's {name} is not what its manifest says: {version}")
