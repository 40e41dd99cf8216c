"""Whether two outputs hold the same: results of two match jobs, or two versions of a gallery.

    python -m deploy.same matches-here matches-on-flink
    python -m deploy.same galleries/a/20261124T061502Z-9f2c41ab galleries/b/20261125T080000Z-1b2c3d4e

Rows must be the same in the same order, floating-point numbers but for rounding: processors of one kind write the same
bytes, others round differently. Exit 0 if they are the same, else 1; with --bytes the files have to be, to the byte.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from celebface.indexing import storage
from celebface.indexing.gallery import Gallery

TOLERANCE = 1e-4  # of numbers around 1: components of unit vectors, distances; scores move more than their inputs
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}\.parquet")
_PROBES = 200  # faces that an index is asked for
_PEOPLE = 5  # people of each answer


@dataclasses.dataclass(frozen=True)
class Compared:
    """A table of two outputs.

    Attributes:
      name: Its name; "index answers" for what the galleries' indexes find.
      rows: How many rows the first has.
      fault: What differs; empty for nothing.
      apart: Largest difference of a floating-point number.
      same_bytes: Whether the files are the same to the byte; None where there are no files.
    """

    name: str
    rows: int
    fault: str
    apart: float
    same_bytes: bool | None


def compare(one: str, other: str) -> list[Compared]:
    """Compares all tables of two outputs, and the answers of the index if they are galleries.

    Args:
      one: URI of a folder with shards.
      other: Likewise.

    Raises:
      FileNotFoundError: If one holds no shards.
    """
    theirs = [_shards(folder) for folder in (one, other)]
    for folder, tables in zip((one, other), theirs, strict=True):
        if not tables:
            raise FileNotFoundError(f"there are no results in {folder}")
    found = [
        _compare_table(name, *(tables.get(name, []) for tables in theirs)) for name in sorted({*theirs[0], *theirs[1]})
    ]
    if all(storage.exists(storage.join(folder, "manifest.json")) for folder in (one, other)):
        found.append(_compare_answers(one, other))
    return found


def _shards(folder: str) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    for name in storage.list_files(folder):
        if match := _SHARD.fullmatch(name):
            tables.setdefault(match[1], []).append(storage.join(folder, name))
    return {name: sorted(files) for name, files in tables.items()}


def _compare_table(name: str, ours: Sequence[str], theirs: Sequence[str]) -> Compared:
    if len(ours) != len(theirs):
        return Compared(name, 0, f"{len(ours)} and {len(theirs)} shards", 0.0, False)
    same_bytes = all(storage.read_bytes(a) == storage.read_bytes(b) for a, b in zip(ours, theirs, strict=True))
    one, other = (pa.concat_tables(_read(file) for file in files) for files in (ours, theirs))
    if one.schema != other.schema:
        return Compared(name, len(one), "other columns", 0.0, same_bytes)
    if len(one) != len(other):
        return Compared(name, len(one), f"{len(one)} and {len(other)} rows", 0.0, same_bytes)
    apart = 0.0
    for column in one.column_names:
        if _is_floating(one.schema.field(column).type):
            (a, its_shape), (b, other_shape) = (_numbers(table[column]) for table in (one, other))
            if its_shape != other_shape or not np.array_equal(np.isnan(a), np.isnan(b)):
                return Compared(name, len(one), f"{column} has other numbers", apart, same_bytes)
            apart = max(apart, float(np.nanmax(np.abs(a - b), initial=0.0)))
        elif not one[column].equals(other[column]):
            row = next(row for row in range(len(one)) if one[column][row] != other[column][row])
            return Compared(name, len(one), f"{column} differs, first in row {row}", apart, same_bytes)
    fault = f"numbers differ by {apart:.2g}" if apart > TOLERANCE else ""
    return Compared(name, len(one), fault, apart, same_bytes)


def _read(uri: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(storage.read_bytes(uri)))


def _is_floating(kind: pa.DataType) -> bool:
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return pa.types.is_floating(kind)


def _numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, list[list[int | None]]]:
    """The numbers in lists of any depth, and how they lie there: which are null, and how long the lists are."""
    values = column.combine_chunks()
    shape = []
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        shape.append(pc.list_value_length(values).to_pylist())
        values = values.flatten()
    shape.append(values.is_null().to_pylist())
    return values.to_numpy(zero_copy_only=False).astype(np.float64), shape


def _compare_answers(one: str, other: str) -> Compared:
    """Asks both indexes for the same faces: noisy copies of the first gallery's own."""
    galleries = [Gallery.open(folder) for folder in (one, other)]
    faces = pa.concat_tables(_read(file) for file in _shards(one)["faces"]).column("embedding").slice(0, _PROBES)
    vectors = np.array(faces.to_pylist(), np.float32)
    probes = vectors + np.random.default_rng(5).normal(0, 0.03, vectors.shape).astype(np.float32)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    ours, theirs = (gallery.nearest(probes, _PEOPLE) for gallery in galleries)
    apart = 0.0
    for row, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
        if [hit.face_id for hit in mine] != [hit.face_id for hit in its]:
            return Compared("index answers", len(probes), f"other people for probe {row}", apart, None)
        apart = max(apart, *(abs(a.distance - b.distance) for a, b in zip(mine, its, strict=True)))
    fault = f"distances differ by {apart:.2g}" if apart > TOLERANCE else ""
    return Compared("index answers", len(probes), fault, apart, None)


def faults(found: Sequence[Compared], to_the_byte: bool) -> dict[str, str]:
    """What differs, by table.

    Args:
      found: A comparison.
      to_the_byte: Whether files of other bytes count, that hold the same.
    """
    other = {row.name: "other bytes" for row in found if to_the_byte and row.same_bytes is False}
    return other | {row.name: row.fault for row in found if row.fault}


def print_compared(console: Console, found: Sequence[Compared]) -> None:
    """Prints a comparison as a table."""
    table = Table(box=None)
    for heading in ("table", "rows", "same", "numbers apart", "bytes"):
        table.add_column(heading, justify="right" if heading in ("rows", "numbers apart") else "left")
    for row in found:
        table.add_row(*_cells(row))
    console.print(table)


def _cells(row: Compared) -> Iterator[str]:
    yield row.name
    yield f"{row.rows:,}"
    yield f"NO: {row.fault}" if row.fault else "yes"
    yield f"{row.apart:.1g}" if row.apart else "0"
    yield "" if row.same_bytes is None else ("the same" if row.same_bytes else "others")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.same", description=__doc__.splitlines()[0])
    parser.add_argument("one", metavar="FOLDER")
    parser.add_argument("other", metavar="FOLDER")
    parser.add_argument("--bytes", action="store_true", help="files of other bytes are a difference, too")
    args = parser.parse_args(argv)
    try:
        found = compare(*(storage.absolute(folder) for folder in (args.one, args.other)))
    except (OSError, storage.StorageError) as error:
        print(f"same: {error}", file=sys.stderr)
        return 2
    print_compared(Console(), found)
    return int(bool(faults(found, args.bytes)))


if __name__ == "__main__":
    sys.exit(main())
