"""The care of published galleries: LATEST moved back, old versions and what killed runs left deleted."""

import dataclasses
import re
from collections.abc import Iterator

import pyarrow as pa

from celebface.indexing import bundle_cache, storage, tombstones, versions
from celebface.indexing.cache import default_cache
from celebface.indexing.manifest import NAME as MANIFEST_NAME
from celebface.indexing.manifest import BadBundle
from celebface.indexing.publish import LATEST, Refused
from celebface.indexing.tombstones import Tombstones
from celebface.indexing.versions import Version

_FAILED, _PARTS = "ledger of a failed build", "parts of a build"
# What builds leave in a gallery beside its versions, by what it is. Other folders are somebody else's.
_LEFT_BEHIND = {
    "unfinished version": re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}"),
    _FAILED: re.compile(r"failed-\d{8}T\d{6}Z"),
    _PARTS: re.compile(r"\.staging-[0-9a-f]+"),
}
VERSION = "version"
FOREIGN = "folder of somebody else"


@dataclasses.dataclass(frozen=True)
class Doomed:
    """What may be deleted.

    Attributes:
      name: Of the folder in the gallery.
      what: What it is, for people.
      files: Number of its files.
      size: Their bytes.
      changed_ns: When the last of them was written.
    """

    name: str
    what: str
    files: int
    size: int
    changed_ns: int


def rollback(gallery: str, to: str = "") -> tuple[str, str]:
    """Makes an earlier version the latest, or any other that is whole.

    Args:
      gallery: <root>/<name>.
      to: Name of a version; the one before the latest if empty.

    Returns:
      Names of the version that was the latest, and of the one that is.

    Raises:
      Refused: If there is no such version, or it holds what was taken down.
      BadBundle: If it is not whole.
      storage.Conflict: If LATEST was moved meanwhile, or the version deleted.
    """
    pointer = storage.join(gallery, LATEST)
    data, tag = storage.read_tagged(pointer)
    current = (data or b"").decode(errors="replace").strip()
    target = _target(gallery, current, to)
    if found := versions.faults(target):
        raise BadBundle(f"{target.name} cannot be made the latest: {found[0]}")
    refuse_taken_down(gallery, target)
    if target.name == current:
        return current, current
    storage.replace_tagged(pointer, f"{target.name}\n".encode(), tag)
    if not storage.exists(storage.join(target.uri, MANIFEST_NAME)):  # pruned since it was looked at
        _, tag = storage.read_tagged(pointer)
        storage.replace_tagged(pointer, data or b"", tag)
        raise storage.Conflict(f"{target.name} was deleted meanwhile; {current} is still the latest")
    return current, target.name


def _target(gallery: str, current: str, to: str) -> Version:
    there = versions.versions(gallery)
    wanted = [version for version in there if (version.name == to if to else version.name < current)]
    if wanted:
        return wanted[-1]
    others = ", ".join(version.name for version in there if version.name != current)
    asked = f"there is no version {to}" if to else f"there is no version before {current}"
    raise Refused(f"{asked} of {gallery}; {f'there are {others}' if others else 'it is the only one'}")


def refuse_taken_down(gallery: str, version: Version) -> None:
    """Refuses a version that holds faces which were taken down after it was published.

    Raises:
      Refused: If it does.
    """
    if rows := tombstones.holds_removed(version.uri, tombstones.read(gallery)):
        raise Refused(f"{version.name} cannot be made the latest: it has {rows} rows of what was taken down since")


@dataclasses.dataclass(frozen=True)
class Holder:
    """A folder of a gallery that holds what was taken down.

    Attributes:
      folder: What it is; `FOREIGN` if it is not the gallery's.
      rows: Rows of its tables that do.
      untold: Photos of which nobody knows.
      damaged: Whether its tables cannot be read.
      settled: Whether nobody writes to it any more.
    """

    folder: Doomed
    rows: int
    untold: int
    damaged: bool
    settled: bool


def holders(gallery: str, taken_down: Tombstones, unfinished_before_ns: int) -> Iterator[Holder]:
    """Looks for what was taken down in all folders of a gallery but its latest version.

    Args:
      gallery: <root>/<name>.
      taken_down: The tombstones.
      unfinished_before_ns: What builds have left is settled if it has not changed since.
    """
    names, latest = {version.name for version in versions.versions(gallery)}, versions.latest(gallery)
    for name in storage.list_names(gallery):
        folder = storage.join(gallery, name)
        if name == latest or storage.type_of(folder) != "folder":
            continue
        what = VERSION if name in names else _left_behind(name) or FOREIGN
        rows, untold, damaged = 0, 0, False
        try:
            rows = tombstones.holds_removed(folder, taken_down)
            untold = tombstones.untold_photos(folder) if what == _PARTS else 0
        except (pa.ArrowInvalid, OSError):  # damaged, or deleted by the build that had it
            damaged = what != FOREIGN and storage.exists(folder)
        if rows or untold or damaged:
            found = _measure(gallery, name, what)
            settled = what in (VERSION, _FAILED) or found.changed_ns < unfinished_before_ns
            yield Holder(found, rows, untold, damaged, settled)


def doomed(gallery: str, keep: int, unfinished_before_ns: int) -> list[Doomed]:
    """What of a gallery may be deleted.

    Args:
      gallery: <root>/<name>.
      keep: How many of the newest versions stay; the latest stays in any case.
      unfinished_before_ns: What builds have left is theirs while they write to it: it stays if it has changed since.
    """
    there = versions.versions(gallery)
    current = versions.latest(gallery)
    newest = {version.name for version in there[-keep:]}
    found = [
        _measure(gallery, version.name, VERSION)
        for version in there
        if version.name not in newest and version.name != current
    ]
    names = {version.name for version in there}
    for name in storage.list_names(gallery):
        what = _left_behind(name)
        if what and name not in names:
            left = _measure(gallery, name, what)
            if left.changed_ns < unfinished_before_ns:
                found.append(left)
    return found


def _left_behind(name: str) -> str:
    """What builds have left under a name; empty if it is none of theirs."""
    return next((what for what, pattern in _LEFT_BEHIND.items() if pattern.fullmatch(name)), "")


def _measure(gallery: str, name: str, what: str) -> Doomed:
    files = list(storage.walk(storage.join(gallery, name)))
    changed = max((file.mtime_ns for file in files), default=0)
    return Doomed(name, what, len(files), sum(file.size for file in files), changed)


def delete(gallery: str, each: Doomed) -> bool:
    """Deletes a folder of a gallery; of a version first the manifest, so that no reader takes half of one.

    Returns:
      Whether it was deleted: a version that was made the latest meanwhile is not.
    """
    uri = storage.join(gallery, each.name)
    if each.what == VERSION:
        version = versions.read_version(uri)
        manifest = storage.join(uri, MANIFEST_NAME)
        storage.delete_file(manifest)
        if versions.latest(gallery) == each.name:
            storage.write_bytes(manifest, version.data if version else b"")
            return False
        if version:
            bundle_cache.forget(version.data, default_cache())
    storage.delete_tree(uri)
    return True
