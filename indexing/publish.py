"""The life of a published gallery: versions that never change, and a pointer to the latest.

<root>/<name>/<version>/...            files first, manifest.json last of them
<root>/<name>/LATEST                   the version's name, moved when all of it is there
"""

import datetime
import re

from celebface.indexing import storage, tombstones
from celebface.indexing.manifest import NAME as MANIFEST_NAME
from celebface.indexing.manifest import BadBundle, Manifest

LATEST = "LATEST"
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


def publish(assembled: str, gallery: str, manifest: Manifest) -> str:
    """Publishes a version.

    A run that is killed leaves at most a folder without a manifest, which no reader takes for a version.

    Args:
      assembled: Folder that holds the files of `manifest.files`.
      gallery: <root>/<name>.
      manifest: Describes the version.

    Returns:
      URI of the version.

    Raises:
      BadBundle: If a file read back is not what was to be written.
      TakenDown: If it holds what was taken down in the meantime.
    """
    version = storage.join(gallery, manifest.version)
    for name, entry in sorted(manifest.files.items()):
        target = storage.join(version, name)
        storage.copy_file(storage.join(assembled, name), target)
        if storage.checksum(target) != (entry["sha256"], entry["bytes"]):
            raise BadBundle(f"{target} was not written as it should be")
    tombstones.check(assembled, gallery)
    storage.write_bytes(storage.join(version, MANIFEST_NAME), manifest.to_json())
    storage.write_bytes(storage.join(gallery, LATEST), f"{manifest.version}\n".encode())
    return version


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
