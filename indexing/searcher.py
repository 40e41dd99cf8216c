"""Who of a gallery's people is nearest: the index of a folder, opened."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from celebface.indexing import storage
from celebface.indexing.parts import Parts

ASKED = 100  # faces looked for, at least, that enough people are among them
_CELLS = 2**22  # candidates at once


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


_LABELS = ["identity", "identity_id", "face_id", "uri"]


class Searcher:
    """The people of a folder's index."""

    def __init__(self, parts: Parts):
        self._parts = parts

    @staticmethod
    def open(folder: str, entry: Mapping[str, Any]) -> "Searcher":
        """Opens the index of a folder on this machine; vectors and index are mapped, not read.

        Args:
          folder: A version, or the folder it is assembled in.
          entry: The manifest's entry `index`.

        Raises:
          BrokenIndex: If it does not find its own vectors, or is another machine's.
        """
        return Searcher(Parts.open(storage.local_path(folder), entry))

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def identities(self) -> list[str]:
        """The names of the people of the gallery, sorted."""
        return self._parts.labels.names()

    def nearest_people(self, queries: np.ndarray, count: int) -> list[list[Neighbour]]:
        """The nearest people, each by their nearest face.

        Args:
          queries: float32 [Q, d], unit rows.
          count: People wanted for each query.

        Returns:
          For each query up to `count` people, nearest first, equals by identity_id; fewer only if there are fewer.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        count = min(count, self._parts.labels.people)
        rows, distances = np.empty((len(queries), count), np.int64), np.empty((len(queries), count), np.float32)
        waiting, asked = np.arange(len(queries)), max(ASKED, 10 * count)
        while len(waiting):
            left = []
            for start in range(0, len(waiting), max(1, _CELLS // asked)):
                some = waiting[start : start + max(1, _CELLS // asked)]
                rows[some], distances[some], whole = self._people(queries[some], count, asked)
                left.append(some[~whole])
            waiting = np.concatenate(left)
            asked *= 4  # one person fills the neighbourhood: look further
        return self._neighbours(rows, distances)

    def _people(self, queries: np.ndarray, count: int, asked: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The nearest face of each of the nearest people, [Q, count] as far as found, and whether they are all."""
        rows, distances, beyond = self._parts.nearest(queries, asked)
        people = self._parts.labels.people_of(rows)
        order = np.argsort(people, axis=1, kind="stable")
        grouped = np.take_along_axis(people, order, axis=1)
        first_of_group = np.diff(grouped, axis=1, prepend=-1) != 0  # of those that are -1 none is
        first = np.zeros(rows.shape, bool)
        np.put_along_axis(first, order, first_of_group, axis=1)
        places = np.argsort(~first, axis=1, kind="stable")[:, :count]
        if places.shape[1] < count:
            places = np.pad(places, ((0, 0), (0, count - places.shape[1])), mode="edge")
        found = np.take_along_axis(distances, places, axis=1)
        whole = (first.sum(axis=1) >= count) & ~(found[:, -1] >= beyond)
        return np.take_along_axis(rows, places, axis=1), found, whole

    def _neighbours(self, rows: np.ndarray, distances: np.ndarray) -> list[list[Neighbour]]:
        """Names the rows found for each query."""
        if not rows.size:
            return [[] for _ in rows]
        read = zip(self._parts.labels.read(rows.ravel(), _LABELS), distances.ravel().tolist(), strict=True)
        neighbours = (
            Neighbour(identity, identity_id, distance, face_id, uri)
            for (identity, identity_id, face_id, uri), distance in read
        )
        return [list(itertools.islice(neighbours, rows.shape[1])) for _ in rows]
