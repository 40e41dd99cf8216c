"""The versions of a gallery: which there are, which is the latest, and whether they are whole."""

import contextlib
import dataclasses
import posixpath
from collections.abc import Iterator

from celebface.indexing import bundle_cache, publish, storage
from celebface.indexing.manifest import NAME as MANIFEST_NAME
from celebface.indexing.manifest import BadBundle, Manifest


@dataclasses.dataclass(frozen=True)
class Version:
    """A published version.

    Attributes:
      uri: Where it is.
      data: Its manifest's bytes.
      manifest: What they say; None if they cannot be read.
      fault: Why they cannot.
    """

    uri: str
    data: bytes
    manifest: Manifest | None
    fault: str

    @property
    def name(self) -> str:
        """Its name, which sorts by time."""
        return posixpath.basename(self.uri)

    @property
    def size(self) -> int:
        """Bytes of its files, as its manifest has them."""
        return sum(entry["bytes"] for entry in self.manifest.files.values()) if self.manifest else 0


def galleries(root: str) -> Iterator[str]:
    """URIs of the galleries below a root, sorted."""
    for name in storage.list_names(root):
        gallery = storage.join(root, name)
        if storage.exists(storage.join(gallery, publish.LATEST)):
            yield gallery


def versions(gallery: str) -> list[Version]:
    """The published versions of a gallery, oldest first."""
    found = (read_version(storage.join(gallery, name)) for name in storage.list_names(gallery))
    return [version for version in found if version]


def read_version(uri: str) -> Version | None:
    """The version at a URI; None if there is no manifest, as then it is not, or not yet, or no longer one."""
    try:
        data = storage.read_bytes(storage.join(uri, MANIFEST_NAME))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return Version(uri, data, Manifest.from_json(data), "")
    except BadBundle as error:
        return Version(uri, data, None, str(error))


def find(gallery: str) -> Version:
    """The version that <root>/<name> (its LATEST) or <root>/<name>/<version> is.

    Raises:
      BadBundle: If there is none, or its manifest cannot be read.
    """
    uri = publish.find_version(gallery)
    version = read_version(uri)
    if version is None or version.manifest is None:
        raise BadBundle(f"{version.fault if version else 'the version is being deleted'}: {uri}")
    return version


def read_manifest(gallery: str) -> Manifest:
    """The manifest of the version that `find` finds.

    Raises:
      BadBundle: If there is none, or it cannot be read.
    """
    manifest = find(gallery).manifest
    assert manifest is not None  # as it would not have been found
    return manifest


def latest(gallery: str) -> str:
    """The name in LATEST; empty if there is none."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return storage.read_bytes(storage.join(gallery, publish.LATEST)).decode(errors="replace").strip()
    return ""


def split(gallery: str) -> tuple[str, str]:
    """Tells <root>/<name>/<version> from <root>/<name>.

    Returns:
      <root>/<name>, and the version's name; that is empty for a gallery.

    Raises:
      BadBundle: If it is neither.
    """
    gallery = storage.absolute(gallery).rstrip("/")
    if storage.exists(storage.join(gallery, MANIFEST_NAME)):
        above, _, name = gallery.rpartition("/")
        return above, name
    if not latest(gallery) and not versions(gallery):
        raise BadBundle(f"there is no gallery at {gallery}; celebface galleries list shows those that are there")
    return gallery, ""


def faults(version: Version) -> list[str]:
    """What is wrong with a version's files: all of them are read.

    Returns:
      A line for each file that is missing, not what the manifest says, or not in it.
    """
    if version.manifest is None:
        return [f"{version.fault}: {version.uri}"]
    found = []
    if version.manifest.version != version.name:
        found.append(f"the manifest is that of version {version.manifest.version}: {version.uri}")
    for name, entry in sorted(version.manifest.files.items()):
        try:
            bundle_cache.check_file(version.uri, name, entry)
        except BadBundle as error:
            found.append(str(error))
    besides = set(storage.list_files(version.uri)) - version.manifest.files.keys() - {MANIFEST_NAME}
    return found + [f"the gallery's {name} is not in its manifest: {version.uri}" for name in sorted(besides)]
