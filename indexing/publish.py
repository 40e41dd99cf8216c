"""The life of a published gallery: versions that never change, and a pointer to the latest.

<root>/<name>/<version>/...            files first, manifest.json last of them
<root>/<name>/LATEST                   the version's name, moved when all of it is there, if nobody else has moved it
"""

import concurrent.futures
import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any

from celebface.indexing import storage, tombstones
from celebface.indexing.manifest import NAME as MANIFEST_NAME
from celebface.indexing.manifest import BadBundle, Manifest
from celebface.indexing.tombstones import TakenDown

LATEST = "LATEST"
_RECALLS = ("recall_at_1", "recall_at_10")  # of the manifest's index
_UPLOADS = 8  # at once, into a store
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_name(name: str) -> str:
    """Returns a gallery's name if it is fit to be a folder's.

    Raises:
      ValueError: If it is not.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"a gallery name consists of letters, digits, '.', '_' and '-', not {name!r}")
    return name


def version_name(created: datetime.datetime, content_digest: str) -> str:
    """A version's name: sorts by time, and tells contents apart."""
    return f"{created:%Y%m%dT%H%M%SZ}-{content_digest[:8]}"


class Refused(Exception):
    """A version is not to be published, or not to be the latest; the message is for the user."""


def check_place(gallery: str) -> bool:
    """Makes sure that versions can be published at a place, before work is begun that ends with it.

    Returns:
      Whether of two publishers at once one is told; there are stores that do not tell.

    Raises:
      StorageError: If they cannot.
    """
    storage.check_swappable(gallery)
    storage.check_writable(gallery)
    return storage.honours_conditions(gallery)


def publish(
    assembled: str,
    gallery: str,
    manifest: Manifest,
    based_on: str = "",
    min_recall: float = 0.0,
    uploaded: Callable[[str], object] = lambda name: None,
) -> str:
    """Publishes a version.

    A run that is killed leaves at most a folder without a manifest, which no reader takes for a version. Of runs that
    publish at the same time one makes its version the latest; those of the others are there, too, and they are told.

    Args:
      assembled: Folder that holds the files of `manifest.files`.
      gallery: <root>/<name>.
      manifest: Describes the version.
      based_on: Name of the version that must still be the latest, if the new one is made from it.
      min_recall: Least recall of the index against exact search.
      uploaded: Called with the name of each file that is there, in their order.

    Returns:
      URI of the version.

    Raises:
      BadBundle: If a file read back is not what was to be written.
      TakenDown: If it holds what was taken down in the meantime; nothing of it stays.
      Refused: If the index finds too little, or the version is not made from the latest.
      storage.Conflict: If somebody else has moved LATEST meanwhile.
      storage.StorageError: If the store does not take it.
    """
    _check_recall(manifest, min_recall)
    pointer = storage.join(gallery, LATEST)
    latest, tag = storage.read_tagged(pointer)
    if based_on and (latest or b"").decode(errors="replace").strip() != based_on:
        raise Refused(f"{based_on} is no longer the latest version of {gallery}; run the command again")
    version = storage.join(gallery, manifest.version)
    with concurrent.futures.ThreadPoolExecutor(_UPLOADS if storage.is_stored(gallery) else 1, "upload") as pool:
        names = sorted(manifest.files)
        for name in pool.map(lambda name: _upload(assembled, version, name, manifest.files[name]), names):
            uploaded(name)
    try:
        tombstones.check(assembled, gallery)  # after LATEST was read: a removal that comes later moves it
    except TakenDown:
        storage.delete_tree(version)
        raise
    storage.write_bytes(storage.join(version, MANIFEST_NAME), manifest.to_json())
    try:
        storage.replace_tagged(pointer, f"{manifest.version}\n".encode(), tag)
    except storage.Conflict as error:
        raise storage.Conflict(
            f"another version of {gallery} was published meanwhile; {manifest.version} is whole, but not the latest: "
            f"celebface galleries rollback {gallery} --to {manifest.version} makes it so"
        ) from error
    return version


def _check_recall(manifest: Manifest, least: float) -> None:
    found = {name: manifest.index[name] for name in _RECALLS if name in manifest.index}
    if found and min(found.values()) < least:
        told = ", ".join(f"{name.replace('_at_', '@')} {value:.4f}" for name, value in found.items())
        raise Refused(f"the index finds too little: {told}, and at least {least:g} is wanted")


def _upload(assembled: str, version: str, name: str, entry: Mapping[str, Any]) -> str:
    target = storage.join(version, name)
    storage.copy_file(storage.join(assembled, name), target)
    if storage.checksum(target) != (entry["sha256"], entry["bytes"]):
        raise BadBundle(f"{target} was not written as it should be")
    return name


def find_version(gallery: str) -> str:
    """Resolves <root>/<name> (its LATEST) or <root>/<name>/<version> to the URI of a version.

    Raises:
      BadBundle: If there is no published version.
    """
    gallery = storage.absolute(gallery).rstrip("/")
    if storage.exists(storage.join(gallery, MANIFEST_NAME)):
        return gallery
    if not storage.exists(storage.join(gallery, LATEST)):
        raise BadBundle(f"there is no gallery at {gallery}; celebface build-gallery makes one")
    try:
        name = check_name(storage.read_bytes(storage.join(gallery, LATEST)).decode().strip())
    except ValueError as error:
        raise BadBundle(f"LATEST of {gallery} names no version: {error}") from error
    version = storage.join(gallery, name)
    if not storage.exists(storage.join(version, MANIFEST_NAME)):
        raise BadBundle(f"LATEST of {gallery} names {name}, which is not a whole version")
    return version
