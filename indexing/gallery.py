"""A published gallery, opened: who looks most like this face?"""

import numpy as np

from celebface.indexing import calibration, parts, publish, storage
from celebface.indexing.calibration import Calibration
from celebface.indexing.index import BrokenIndex
from celebface.indexing.manifest import NAME as MANIFEST_NAME
from celebface.indexing.manifest import BadBundle, Manifest
from celebface.indexing.searcher import Neighbour, Searcher


class Gallery:
    """An opened gallery version.

    Attributes:
      uri: URI of the version.
      manifest: What it says of itself.
      calibration: Its thresholds.
    """

    def __init__(self, uri: str, manifest: Manifest, searcher: Searcher):
        self.uri = uri
        self.manifest = manifest
        self.calibration = Calibration.from_json(storage.read_bytes(storage.join(uri, calibration.NAME)))
        self._searcher = searcher

    @staticmethod
    def open(gallery: str) -> "Gallery":
        """Opens <root>/<name> or <root>/<name>/<version>.

        Raises:
          BadBundle: If it is not a whole, sound version.
        """
        version = publish.find_version(gallery)
        manifest = Manifest.from_json(storage.read_bytes(storage.join(version, MANIFEST_NAME)))
        try:
            for name in (*parts.file_names(manifest.index["kind"], manifest.index["parts"]), calibration.NAME):
                entry = manifest.files.get(name)
                target = storage.join(version, name)
                if entry is None or not storage.exists(target):
                    raise BadBundle(f"the gallery lacks its {name}: {version}")
                if storage.checksum(target) != (entry["sha256"], entry["bytes"]):
                    raise BadBundle(f"the gallery's {name} is not what its manifest says: {version}")
            return Gallery(version, manifest, Searcher.open(version, manifest.index))
        except BrokenIndex as error:
            raise BadBundle(f"{error}: {version}") from error

    def __len__(self) -> int:
        return len(self._searcher)

    @property
    def identities(self) -> list[str]:
        """The names of the people of the gallery, sorted."""
        return self._searcher.identities

    def nearest_people(self, queries: np.ndarray, count: int) -> list[list[Neighbour]]:
        """The nearest people; see `Searcher.nearest_people`."""
        return self._searcher.nearest_people(queries, count)
