"""The people of a few photos, in memory: searched like a gallery, with nothing on disk and nothing to build."""

from collections.abc import Sequence

import numpy as np

from celebface.indexing.search import squared_distances
from celebface.indexing.searcher import Neighbour


class Roster:
    """People by the vectors of their photos."""

    def __init__(self, vectors: np.ndarray, faces: Sequence[Neighbour]):
        """Takes the faces.

        Args:
          vectors: float32 [N, d], unit rows, at least one.
          faces: What each is; their distances mean nothing.
        """
        self._vectors = np.ascontiguousarray(vectors, np.float32)
        self._faces = list(faces)
        self._rows = np.arange(len(faces))[None]
        self._ids = np.array([face.identity_id for face in faces])

    def __len__(self) -> int:
        return len(self._faces)

    def faces_of_people(self) -> dict[str, np.ndarray]:
        """The vectors of each person, float32 [M, d], by identity_id, in their order."""
        return {str(who): self._vectors[self._ids == who] for who in np.unique(self._ids)}

    def nearest_people(self, queries: np.ndarray, count: int) -> list[list[Neighbour]]:
        """The nearest people, as `Searcher.nearest_people` gives them."""
        return [self._nearest(np.ascontiguousarray(query, np.float32), count) for query in queries]

    def _nearest(self, query: np.ndarray, count: int) -> list[Neighbour]:
        distances = squared_distances(query[None], self._vectors, self._rows)[0]
        found: dict[str, Neighbour] = {}
        for row in np.lexsort((self._ids, distances)):
            face = self._faces[row]
            if face.identity_id not in found:
                found[face.identity_id] = Neighbour(
                    face.identity, face.identity_id, float(distances[row]), face.face_id, face.uri
                )
            if len(found) == count:
                break
        return list(found.values())
