"""Writes the staged outcomes of a run as its final tables: one shard of rows and one of the ledger for each key."""

import dataclasses
import io

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from celebface.indexing import storage
from celebface.indexing.schemas import LEDGER, Reason, Status
from celebface.transforms.metrics import StageMetrics
from celebface.transforms.staged import StagedRow, read_outcomes, staging_schema

STAGE = "shard"
_ROWS_PER_GROUP = 4096


@dataclasses.dataclass(frozen=True)
class ShardLayout:
    """How the tables of a run are cut up.

    Attributes:
      folder: URI of the folder they are written to.
      table: Name of the table of rows, as in <table>-00000-of-00004.parquet.
      rows: Its schema.
      shards: Number of shards.
      unique: Column of which each value may occur once; an item that would repeat one is a duplicate. Empty for none.
    """

    folder: str
    table: str
    rows: pa.Schema
    shards: int
    unique: str = ""

    def __post_init__(self) -> None:
        if self.shards < 1:
            raise ValueError(f"there must be at least one shard, not {self.shards}")


@dataclasses.dataclass
class WriteShards(beam.PTransform):
    """(shard, StagedRow) to the names of the files written. Every shard is written, empty ones too."""

    layout: ShardLayout

    def expand(self, staged: beam.PCollection) -> beam.PCollection:
        numbers = (
            staged.pipeline
            | "Numbers" >> beam.Create(range(self.layout.shards))
            | "Empty" >> beam.Map(lambda shard: (shard, None)).with_output_types(tuple[int, StagedRow | None])
        )
        return (
            (staged, numbers) | beam.Flatten() | beam.GroupByKey() | "Write" >> beam.ParDo(_WriteShardDoFn(self.layout))
        )


class _WriteShardDoFn(beam.DoFn):
    def __init__(self, layout: ShardLayout):
        self._layout = layout
        self._metrics = StageMetrics(STAGE)

    def process(self, keyed):
        shard, places = keyed
        outcomes = read_outcomes(place for place in places if place is not None)
        if outcomes is None:
            outcomes = staging_schema(self._layout.rows).empty_table()
        self._metrics.taken(len(outcomes))
        kept, duplicates = mark_duplicates(outcomes, self._layout.unique)
        for _ in range(duplicates):
            self._metrics.lost(Reason.DUPLICATE)
        self._metrics.passed(len(outcomes) - duplicates)
        yield from write_shard(kept, shard, self._layout)


def mark_duplicates(outcomes: pa.Table, unique: str) -> tuple[pa.Table, int]:
    """Turns items that repeat an earlier one into skipped ones without rows.

    Args:
      outcomes: Table of `staging_schema`, in its final order.
      unique: Column of the rows that may not repeat; empty to let everything stand.

    Returns:
      The table, duplicates at its end, and how many items were turned.
    """
    if not unique:
        return outcomes, 0
    rows = outcomes["rows"].combine_chunks()
    owners: dict[str, int] = {}
    repeats: dict[int, int] = {}
    values = rows.flatten().field(unique).to_pylist()
    for item, value in zip(pc.list_parent_indices(rows).to_pylist(), values, strict=True):
        owner = owners.setdefault(value, item)
        if owner != item:
            repeats.setdefault(item, owner)
    if not repeats:
        return outcomes, 0
    turned = outcomes.take(pa.array(list(repeats))).drop_columns("rows").to_pylist()
    for record, owner in zip(turned, repeats.values(), strict=True):
        detail = f"the same photo as {outcomes['uri'][owner]}"
        record.update(status=Status.SKIPPED, stage=STAGE, reason=Reason.DUPLICATE, detail=detail, faces=0, rows=[])
    others = outcomes.filter(pa.array([item not in repeats for item in range(len(outcomes))]))
    return pa.concat_tables([others, pa.Table.from_pylist(turned, schema=outcomes.schema)]), len(repeats)


def write_shard(outcomes: pa.Table, shard: int, layout: ShardLayout) -> list[str]:
    """Writes the two files of a shard.

    Args:
      outcomes: Table of `staging_schema`.
      shard: Its number.
      layout: Where to, and what.

    Returns:
      Names of the files.
    """
    rows = outcomes["rows"].combine_chunks().flatten()
    table = pa.Table.from_struct_array(rows) if len(rows) else layout.rows.empty_table()
    names = []
    for name, content, schema in ((layout.table, table, layout.rows), ("ledger", outcomes, LEDGER)):
        file = f"{name}-{shard:05d}-of-{layout.shards:05d}.parquet"
        buffer = io.BytesIO()
        pq.write_table(
            content.select(schema.names).cast(schema), buffer, compression="zstd", row_group_size=_ROWS_PER_GROUP
        )
        storage.write_bytes(storage.join(layout.folder, file), buffer.getvalue())
        names.append(file)
    return names
