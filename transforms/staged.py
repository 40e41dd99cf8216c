"""The part files of a run: their columns, and how rows are read back. See `stage` for why they are there."""

import dataclasses
from collections.abc import Iterable

import pyarrow as pa

from celebface.indexing import schemas, storage


@dataclasses.dataclass(frozen=True, slots=True)
class StagedRow:
    """Where an item's outcome is kept.

    Attributes:
      part: URI of the part file.
      batch: Record batch in it; each holds the items of one shard.
      row: Row of the batch.
    """

    part: str
    batch: int
    row: int


def staging_schema(rows: pa.Schema) -> pa.Schema:
    """Columns of a part: the ledger's, those by which a later run knows the item, and the item's rows."""
    known_by = [pa.field("revision", pa.string()), pa.field("shard", pa.int32())]
    return pa.schema([*schemas.LEDGER, *known_by, pa.field("rows", pa.list_(pa.struct(list(rows))))])


def read_outcomes(places: Iterable[StagedRow]) -> pa.Table | None:
    """Reads outcomes, ordered by uri and item.

    Args:
      places: Where they are kept.

    Returns:
      A table of `staging_schema`; None for no places.
    """
    by_part: dict[str, dict[int, list[int]]] = {}
    for place in places:
        by_part.setdefault(place.part, {}).setdefault(place.batch, []).append(place.row)
    batches = []
    for part, wanted in sorted(by_part.items()):
        with pa.ipc.open_file(storage.open_input(part)) as reader:
            for number, rows in sorted(wanted.items()):
                batches.append(reader.get_batch(number).take(pa.array(sorted(rows))))
    if not batches:
        return None
    return pa.Table.from_batches(batches).sort_by([("uri", "ascending"), ("item_id", "ascending")])
