"""Who of a gallery's people is nearest: the index of a folder, opened."""

import dataclasses
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from annoy import AnnoyIndex

from celebface.indexing import annoy_index, build, search, storage

_LABELS = ["identity", "identity_id", "face_id", "uri"]


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


class Searcher:
    """Vectors, labels and index of a folder."""

    def __init__(self, vectors: np.ndarray, labels: pa.Table, index: AnnoyIndex, search_k: int):
        self._vectors = np.asarray(vectors)  # of a memory map each slice takes time
        self._labels = labels.select(_LABELS).combine_chunks()  # a row of many chunks is slow to find
        self._index = index
        self._search_k = search_k
        self._by_index = search.worth_an_index(len(vectors), search_k)
        people = self._labels["identity_id"].combine_chunks().dictionary_encode()
        self._people = people.indices.to_numpy(zero_copy_only=False)
        self._people_count = len(people.dictionary)

    @staticmethod
    def open(folder: str, entry: Mapping[str, Any]) -> "Searcher":
        """Opens the index of a folder on this machine; vectors and index are mapped, not read.

        Args:
          folder: A version, or the folder it is assembled in.
          entry: The manifest's entry `index`.

        Raises:
          annoy_index.BrokenIndex: If it does not find its own vectors.
        """
        vectors = np.load(storage.local_path(storage.join(folder, build.VECTORS)), mmap_mode="r", allow_pickle=False)
        labels = pq.read_table(io.BytesIO(storage.read_bytes(storage.join(folder, build.LABELS))))
        index = annoy_index.load(storage.local_path(storage.join(folder, build.ANNOY)), vectors)
        return Searcher(vectors, labels, index, int(entry["search_k"]))

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
        queries = np.asarray(queries, np.float32)
        count = min(count, self._people_count)
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        waiting, asked = list(range(len(queries))), max(100, 10 * count)
        while waiting:
            for number, (rows, beyond) in zip(waiting, self._propose(queries[waiting], asked), strict=True):
                best, distances = search.rerank(queries[number], self._vectors, rows, len(rows))
                first = np.sort(np.unique(self._people[best], return_index=True)[1])[:count]
                if len(first) == count and not distances[first[-1]] >= beyond:
                    found[number] = best[first], distances[first]
            waiting = [number for number in waiting if number not in found]
            asked *= 4  # one person fills the neighbourhood: look further
        return self._neighbours([found[number] for number in range(len(queries))])

    def _propose(self, queries: np.ndarray, asked: int) -> list[tuple[np.ndarray, float]]:
        """Rows to look at for each query, and a D within which there is no other; the index is trusted in that."""
        if asked >= len(self):
            return [(np.arange(len(self)), np.inf)] * len(queries)
        if not self._by_index:
            return search.shortlists(queries, self._vectors, asked)
        effort = max(self._search_k, asked)
        return [(search.candidates(self._index, query, asked, effort), np.inf) for query in queries]

    def _neighbours(self, found: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[list[Neighbour]]:
        """Names the rows found for each query."""
        if not found:
            return []
        labels = self._labels.take(np.concatenate([rows for rows, _ in found])).to_pydict()
        distances = np.concatenate([distances for _, distances in found]).tolist()
        neighbours = map(
            Neighbour, labels["identity"], labels["identity_id"], distances, labels["face_id"], labels["uri"]
        )
        return [list(itertools.islice(neighbours, len(rows))) for rows, _ in found]
