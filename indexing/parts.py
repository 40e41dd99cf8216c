"""The parts of an index: their files, how one is made from shards, and all of them searched as one."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from celebface.indexing import search
from celebface.indexing.exact_index import ExactIndex
from celebface.indexing.index import BrokenIndex, Index, machine
from celebface.indexing.kinds import KINDS, worth_an_index
from celebface.indexing.labels import Labels

FOLDER = "index"


def vectors_name(number: int, parts: int) -> str:
    """Name of a part's vectors, relative to the version."""
    return _name("vectors", number, parts, "npy")


def labels_name(number: int, parts: int) -> str:
    """Name of a part's labels."""
    return _name("labels", number, parts, "parquet")


def index_names(kind: str, number: int, parts: int) -> list[str]:
    """Names of a part's index files."""
    return [_name("faces", number, parts, ending) for ending in KINDS[kind].FILES]


def _index_paths(folder: str, kind: str, number: int, parts: int) -> list[str]:
    return [os.path.join(folder, name) for name in index_names(kind, number, parts)]


def _name(what: str, number: int, parts: int, ending: str) -> str:
    return f"{FOLDER}/{what}.{ending}" if parts == 1 else f"{FOLDER}/{what}-{number:05d}.{ending}"


def file_names(kind: str, parts: int) -> list[str]:
    """Names of all files of an index.

    Raises:
      BrokenIndex: If there is no such kind.
    """
    check_kind(kind)
    return [name for number in range(parts) for name in part_names(kind, number, parts)]


def check_kind(kind: str) -> None:
    """Raises BrokenIndex if there is no such kind."""
    if kind not in KINDS:
        raise BrokenIndex(f"the index is of the kind {kind!r}, which this version of celebface does not know")


def part_names(kind: str, number: int, parts: int) -> list[str]:
    """Names of the files of a part."""
    return [vectors_name(number, parts), labels_name(number, parts), *index_names(kind, number, parts)]


def files_bytes(folder: str, kind: str, numbers: Iterable[int], parts: int) -> int:
    """Bytes of all that some parts consist of."""
    names = [name for number in numbers for name in part_names(kind, number, parts)]
    return sum(os.path.getsize(os.path.join(folder, name)) for name in names)


# --- making -----------------------------------------------------------------------------------------------------------


def write_index(folder: str, kind: str, number: int, parts: int) -> None:
    """Builds the index of a part whose vectors are in the folder.

    Raises:
      BrokenIndex: If it does not find its own vectors.
    """
    vectors = read_vectors(folder, number, parts)
    paths = _index_paths(folder, kind, number, parts)
    if len(vectors):
        KINDS[kind].build(vectors, paths)
        return
    for path in paths:  # the hash gave this part no person
        open(path, "wb").close()


# --- reading ----------------------------------------------------------------------------------------------------------


def read_vectors(folder: str, number: int, parts: int) -> np.ndarray:
    """The vectors of a part, float32 [N, d], mapped and not read.

    Raises:
      BrokenIndex: If they cannot be.
    """
    path = os.path.join(folder, vectors_name(number, parts))
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))  # of a memory map each slice takes time
    except (OSError, EOFError, ValueError) as error:
        raise BrokenIndex(f"the vectors cannot be read: {error}") from error


class Parts:
    """All faces of a gallery, in one or more parts.

    Attributes:
      labels: Who is on each face.
      effort: How hard the index looks.
      by_index: Whether the index is asked, or all faces are looked at because that is sooner.
    """

    def __init__(
        self, vectors: Sequence[np.ndarray], indexes: Sequence[Index], who: Labels, effort: int, by_index: bool
    ):
        self.labels = who
        self.effort = effort
        self.by_index = by_index
        self._vectors = list(vectors)
        self._indexes = list(indexes)
        self._in_full = [ExactIndex(part) for part in vectors]

    @staticmethod
    def open(folder: str, entry: Mapping[str, Any]) -> "Parts":
        """Opens the index in a local folder.

        Args:
          folder: A version, or the folder it is assembled in.
          entry: The manifest's entry `index`.

        Raises:
          BrokenIndex: If it cannot be used here, or does not find its own vectors.
        """
        count, kind, effort = int(entry["parts"]), str(entry["kind"]), int(entry["effort"])
        check_kind(kind)
        built_on = dict(entry["built_on"])
        if KINDS[kind].FILES and built_on != machine():
            theirs, ours = " ".join(built_on.values()), " ".join(machine().values())
            raise BrokenIndex(
                f"the {kind} index was built for {theirs}, this machine is {ours}: celebface build-index makes one here"
            )
        return Parts._open(folder, kind, range(count), count, entry["params"], effort)

    @staticmethod
    def of_part(folder: str, kind: str, number: int, count: int) -> "Parts":
        """Opens one of `count` parts by itself, with the least effort."""
        return Parts._open(folder, kind, [number], count, KINDS[kind].PARAMS, KINDS[kind].FIRST_EFFORT)

    @staticmethod
    def _open(
        folder: str, kind: str, numbers: Sequence[int], count: int, params: Mapping[str, Any], effort: int
    ) -> "Parts":
        vectors = [read_vectors(folder, number, count) for number in numbers]
        who = Labels([os.path.join(folder, labels_name(number, count)) for number in numbers])
        if len(who) != sum(map(len, vectors)):
            raise BrokenIndex(f"the index has labels for {len(who)} faces, its vectors are {sum(map(len, vectors))}")
        indexes: list[Index] = []
        for number, part in zip(numbers, vectors, strict=True):
            paths = _index_paths(folder, kind, number, count)
            indexes.append(KINDS[kind].open(paths, part, params) if len(part) else ExactIndex(part))
        return Parts(vectors, indexes, who, effort, worth_an_index(KINDS[kind], max(map(len, vectors)), effort))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def largest(self) -> int:
        """Faces of the largest part."""
        return max(map(len, self._vectors))

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return int(self._vectors[0].shape[1])

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of some rows, float32 [R, d]."""
        parts, places = self.labels.places(rows)
        found = np.empty((len(rows), self.dimension), np.float32)
        for number, vectors in enumerate(self._vectors):
            mine = parts == number
            found[mine] = vectors[places[mine]]
        return found

    def nearest(self, queries: np.ndarray, asked: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Faces near each query, by their exact distances; what a query gets owes nothing to the others.

        Args:
          queries: float32 [Q, d], unit rows.
          asked: How many to look for in each part.

        Returns:
          Rows, int64 [Q, K], nearest first, equals by row, -1 after the last; their D, float32 [Q, K]; and float64 [Q],
          a D within which there is no other row; the index is trusted in that.
        """
        return self._ranked(queries, asked, self._indexes if self.by_index else self._in_full)

    def nearest_exact(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The true nearest rows, int64 [Q, min(count, N)], and their D, float32."""
        return search.until_certain(
            lambda some, asked: self._ranked(some, asked, self._in_full), queries, min(count, len(self))
        )

    def _ranked(
        self, queries: np.ndarray, asked: int, indexes: Sequence[Index]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        keys, beyond = [], np.full(len(queries), np.inf)
        for number, (vectors, index) in enumerate(zip(self._vectors, indexes, strict=True)):
            if not len(vectors):
                continue
            if asked >= len(vectors):
                index = self._in_full[number]
            rows, known = index.candidates(queries, asked, self.effort)
            distances = search.squared_distances(queries, vectors, rows)
            keys.append(search.keys(distances, self.labels.rows_of_part(number, rows)))
            beyond = np.minimum(beyond, known)
        rows, distances = search.ranked(np.sort(np.concatenate(keys, axis=1), axis=1))
        return rows, distances, beyond
