"""A published gallery, opened: who looks most like this face?"""

import os
import pathlib

import numpy as np

from celebface.indexing import bundle_cache, calibration, parts, publish, storage
from celebface.indexing.cache import default_cache
from celebface.indexing.calibration import Calibration
from celebface.indexing.index import BrokenIndex
from celebface.indexing.manifest import NAME as MANIFEST_NAME
from celebface.indexing.manifest import BadBundle, Manifest
from celebface.indexing.searcher import Neighbour, Searcher

_INDEX = "index/"  # what of a version it takes to search it
_LENGTH = 1e-3  # by which that of a unit vector may be wrong


def open_gallery(gallery: str | os.PathLike[str], cache_folder: pathlib.Path | None = None) -> "Gallery":
    """Opens a published gallery: `Gallery.open`, for paths of any kind.

    Args:
      gallery: <root>/<name>, for its latest version, or <root>/<name>/<version>; local, on s3:// or gs://.
      cache_folder: Where the files of a gallery in a store are kept on this machine; None for the usual place.

    Raises:
      BadBundle: If it is not a whole, sound version.
      storage.StorageError: If its store does not give it.
    """
    return Gallery.open(os.fspath(gallery), cache_folder)


class Gallery:
    """An opened gallery version.

    Attributes:
      uri: URI of the version.
      manifest: What it says of itself.
      calibration: Its thresholds.
    """

    def __init__(self, uri: str, manifest: Manifest, calibration: Calibration, searcher: Searcher):
        self.uri = uri
        self.manifest = manifest
        self.calibration = calibration
        self._searcher = searcher

    @staticmethod
    def open(gallery: str, cache_folder: pathlib.Path | None = None) -> "Gallery":
        """Opens <root>/<name> or <root>/<name>/<version>; what is published later does not change it.

        Args:
          gallery: Its URI.
          cache_folder: Where the files of a gallery in a store are kept on this machine; None for the usual place.

        Raises:
          BadBundle: If it is not a whole, sound version.
          storage.StorageError: If its store does not give it.
        """
        version = publish.find_version(gallery)
        data = storage.read_bytes(storage.join(version, MANIFEST_NAME))
        manifest = Manifest.from_json(data)
        wanted = {name: entry for name, entry in manifest.files.items() if name.startswith(_INDEX)}
        try:
            for name in storage.list_files(storage.join(version, _INDEX)):
                if _INDEX + name not in wanted:
                    raise BadBundle(f"the gallery's {_INDEX}{name} is not in its manifest: {version}")
            for name in (*parts.file_names(manifest.index["kind"], manifest.index["parts"]), calibration.NAME):
                if name not in wanted:
                    raise BadBundle(f"the gallery's manifest lacks {name}: {version}")
            folder = bundle_cache.local_files(version, data, wanted, cache_folder or default_cache())
            thresholds = Calibration.from_json(storage.read_bytes(storage.join(folder, calibration.NAME)))
            return Gallery(version, manifest, thresholds, Searcher.open(folder, manifest.index))
        except BrokenIndex as error:
            raise BadBundle(f"{error}: {version}") from error
        except FileNotFoundError as error:
            raise BadBundle(f"the gallery lacks a file of its index: {version}") from error

    def __len__(self) -> int:
        return len(self._searcher)

    @property
    def identities(self) -> list[str]:
        """The names of the people of the gallery, sorted."""
        return self._searcher.identities

    def nearest_people(self, queries: np.ndarray, count: int) -> list[list[Neighbour]]:
        """The nearest people; see `Searcher.nearest_people`."""
        return self._searcher.nearest_people(queries, count)

    def nearest(self, vectors: np.ndarray, k: int = 5) -> list[list[Neighbour]]:
        """The people whom faces look like most, for vectors that come from elsewhere.

        Args:
          vectors: [N, d], rows of length 1, made by the encoder `manifest.encoder_id`; which one made them cannot be
            seen in them.
          k: People wanted for each, at least 1.

        Returns:
          For each row up to k people, nearest first, each by their nearest face; fewer only if the gallery has fewer.

        Raises:
          ValueError: If they are no such vectors.
        """
        found = np.asarray(vectors)
        if found.ndim != 2 or found.shape[1] != self.manifest.dimension or found.dtype.kind != "f":
            raise ValueError(
                f"the gallery is asked with numbers of shape [N, {self.manifest.dimension}], not {found.dtype} "
                f"{list(found.shape)}"
            )
        lengths = np.linalg.norm(found.astype(np.float64), axis=1)
        if not (np.abs(lengths - 1) <= _LENGTH).all():  # nor is one that is not finite
            raise ValueError("the vectors must have length 1")
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        return self.nearest_people(found, k)
