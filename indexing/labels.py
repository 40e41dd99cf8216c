"""Who is on each face: people by row from memory, all else from the files, for those faces alone that are asked for.

An opened gallery keeps 40 bytes for each person, and of each group of rows its place in the file (all in all 118 bytes
a face); names, ids and URIs are read for the hits, a group at a time. A hit in a group that was read lately costs 5 us,
another 0.2 ms (measured: 300,000 faces, local disk).
"""

import collections
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

COLUMNS = ["face_id", "identity", "identity_id", "image_id", "uri"]
_ROWS_PER_GROUP = 512  # fewer are sooner read, and make the file's table of contents longer
_GROUPS_KEPT = 512  # at some 100 KB
_BATCH = 2**16


def write(table: pa.Table, path: str) -> None:
    """Writes the labels of faces sorted by identity_id and face_id."""
    columns = ["identity", "identity_id"]  # those that repeat
    pq.write_table(
        table.select(COLUMNS),
        path,
        row_group_size=_ROWS_PER_GROUP,
        compression="lz4",
        use_dictionary=columns,
        write_statistics=False,
    )


class Labels:
    """Labels of a gallery in one or more parts.

    Rows are numbered as if the gallery had one part: by identity_id and face_id. Each person is in one part.

    Attributes:
      starts: First row of each person and, last, the number of faces; int64 [P + 1].
    """

    def __init__(self, paths: Sequence[str]):
        self._files = [pq.ParquetFile(path, memory_map=True) for path in paths]
        ids: list[str] = []
        counts, parts, firsts = [], [], []
        for number, file in enumerate(self._files):
            people, first = _people(file)
            ids += people
            counts.append(np.diff(np.append(first, file.metadata.num_rows)))
            parts.append(np.full(len(people), number))
            firsts.append(first)
        order = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)
        sizes = np.concatenate(counts)[order]
        self.starts = np.append(0, np.cumsum(sizes))
        self._part = np.concatenate(parts)[order]
        self._first = np.concatenate(firsts)[order]
        self._shifts = [self._shift(number) for number in range(len(paths))]
        self._groups: collections.OrderedDict[tuple[int, int], pa.Table] = collections.OrderedDict()

    def _shift(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each person of a part starts in it, ascending, and by how much their rows move."""
        mine = np.flatnonzero(self._part == part)
        return self._first[mine], self.starts[mine] - self._first[mine]

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def people(self) -> int:
        """How many people there are."""
        return len(self.starts) - 1

    def people_of(self, rows: np.ndarray) -> np.ndarray:
        """The number of the person on each row, int64; -1 where the row is -1."""
        return np.searchsorted(self.starts, rows, "right") - 1

    def rows_of_part(self, part: int, rows: np.ndarray) -> np.ndarray:
        """Numbers in the gallery of rows of a part; -1 stays -1."""
        if len(self._files) == 1:
            return rows
        firsts, shifts = self._shifts[part]
        if not len(firsts):
            return rows
        moved = rows + shifts[np.maximum(np.searchsorted(firsts, rows, "right") - 1, 0)]
        return np.where(rows < 0, -1, moved)

    def places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The part of each row, and its row in it."""
        people = self.people_of(rows)
        return self._part[people], rows - self.starts[people] + self._first[people]

    def read(self, rows: np.ndarray, columns: Sequence[str]) -> list[tuple[str, ...]]:
        """The labels of some rows, in their order."""
        parts, places = self.places(rows)
        groups = places // _ROWS_PER_GROUP
        found: list[tuple[str, ...]] = [()] * len(rows)
        order = np.lexsort((places, parts))  # each group is read once, whatever order they come in
        in_group = (places % _ROWS_PER_GROUP)[order].tolist()
        last, arrays = None, []
        for number, part, group, place in zip(
            order.tolist(), parts[order].tolist(), groups[order].tolist(), in_group, strict=True
        ):
            if (part, group) != last:
                last, table = (part, group), self._group(part, group)
                arrays = [table[column].chunk(0) for column in columns]
            found[number] = tuple(array[place].as_py() for array in arrays)
        return found

    def _group(self, part: int, group: int) -> pa.Table:
        key = part, group
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        table = self._files[part].read_row_group(group, columns=COLUMNS, use_threads=False)
        self._groups[key] = table
        if len(self._groups) > _GROUPS_KEPT:
            self._groups.popitem(last=False)
        return table

    def names(self) -> list[str]:
        """The names of all people, sorted; read anew each time."""
        found: set[str] = set()
        for file in self._files:
            for batch in file.iter_batches(batch_size=_BATCH, columns=["identity"]):
                found.update(pc.unique(batch["identity"]).to_pylist())
        return sorted(found)


def _people(file: pq.ParquetFile) -> tuple[list[str], np.ndarray]:
    """The people of a file, sorted by identity_id, and the first row of each."""
    ids: list[str] = []
    starts: list[int] = []
    for start, batch in _batches(file):
        runs = pc.run_end_encode(batch["identity_id"])
        firsts = [0, *runs.run_ends.to_pylist()[:-1]]
        for first, name in zip(firsts, runs.values.to_pylist(), strict=True):
            if not ids or ids[-1] != name:
                ids.append(name)
                starts.append(start + first)
    return ids, np.array(starts, np.int64)


def _batches(file: pq.ParquetFile) -> Iterator[tuple[int, pa.RecordBatch]]:
    start = 0
    for batch in file.iter_batches(batch_size=_BATCH, columns=["identity_id"]):
        if len(batch):
            yield start, batch
        start += len(batch)
