"""A published gallery, opened: who looks most like this face?"""

import dataclasses
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from annoy import AnnoyIndex

from celebface.indexing import annoy_index, build, calibration, publish, search, storage
from celebface.indexing.calibration import Calibration
from celebface.indexing.manifest import NAME as MANIFEST_NAME
from celebface.indexing.manifest import BadBundle, Manifest


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """The nearest face of one person.

    Attributes:
      identity: The person's name.
      identity_id: Which person of that name.
      distance: D = squared L2 of unit vectors, 0..4.
      face_id: The gallery's face.
      uri: The photo it comes from.
    """

    identity: str
    identity_id: str
    distance: float
    face_id: str
    uri: str


class Gallery:
    """An opened gallery version."""

    def __init__(self, uri: str, manifest: Manifest, vectors: np.ndarray, labels: pa.Table, index: AnnoyIndex):
        self.uri = uri
        self.manifest = manifest
        self.calibration = Calibration.from_json(storage.read_bytes(storage.join(uri, calibration.NAME)))
        self._vectors = vectors
        self._labels = labels
        self._index = index
        people = labels["identity_id"].combine_chunks().dictionary_encode()
        self._people = people.indices.to_numpy(zero_copy_only=False)
        self._people_count = len(people.dictionary)

    @staticmethod
    def open(gallery: str) -> "Gallery":
        """Opens <root>/<name> or <root>/<name>/<version>; vectors and index are mapped, not read.

        Raises:
          BadBundle: If it is not a whole, sound version.
        """
        version = publish.find_version(gallery)
        manifest = Manifest.from_json(storage.read_bytes(storage.join(version, MANIFEST_NAME)))
        for name in (build.VECTORS, build.LABELS, build.ANNOY, calibration.NAME):
            entry = manifest.files.get(name)
            target = storage.join(version, name)
            if entry is None or not storage.exists(target):
                raise BadBundle(f"the gallery lacks its {name}: {version}")
            if storage.checksum(target) != (entry["sha256"], entry["bytes"]):
                raise BadBundle(f"the gallery's {name} is not what its manifest says: {version}")
        vectors = np.load(storage.local_path(storage.join(version, build.VECTORS)), mmap_mode="r", allow_pickle=False)
        labels = pq.read_table(io.BytesIO(storage.read_bytes(storage.join(version, build.LABELS))))
        try:
            index = annoy_index.load(storage.local_path(storage.join(version, build.ANNOY)), vectors)
        except annoy_index.BrokenIndex as error:
            raise BadBundle(f"{error}: {version}") from error
        return Gallery(version, manifest, vectors, labels, index)

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def identities(self) -> list[str]:
        """The names of the people of the gallery, sorted."""
        return sorted(set(self._labels["identity"].to_pylist()))

    def nearest_people(self, queries: np.ndarray, count: int) -> list[list[Neighbour]]:
        """The nearest people, each by their nearest face.

        Args:
          queries: float32 [Q, d], unit rows.
          count: People wanted for each query.

        Returns:
          For each query up to `count` people, nearest first; fewer only if the gallery has fewer.
        """
        return [self._nearest_people(query, count) for query in np.asarray(queries, np.float32)]

    def _nearest_people(self, query: np.ndarray, count: int) -> list[Neighbour]:
        search_k, asked = int(self.manifest.index["search_k"]), max(100, 10 * count)
        count = min(count, self._people_count)
        while True:
            exhaustive = asked >= len(self)
            if exhaustive:
                rows = np.arange(len(self))
            else:
                rows = search.candidates(self._index, query, asked, max(search_k, asked))
            best, distances = search.rerank(query, self._vectors, rows, len(rows))
            people, first = np.unique(self._people[best], return_index=True)
            if exhaustive or len(people) >= count:
                places = np.sort(first)[:count]
                return [self._neighbour(best[place], distances[place]) for place in places]
            asked *= 4  # one person fills the neighbourhood: look further

    def _neighbour(self, row: int, distance: float) -> Neighbour:
        label = {name: self._labels[name][int(row)].as_py() for name in ("identity", "identity_id", "face_id", "uri")}
        return Neighbour(distance=float(distance), **label)
