"""Keeps outcomes in part files as they come, so that a killed run goes on where it was.

Parts are written by the workers and named by their bytes. Only references to their rows cross a shuffle: the
rows themselves, with crops and vectors, go to disk once and are read once. A reference counts only if its bundle is
committed, so a part left by a worker that died does no harm, and a later run may use its rows.
"""

import dataclasses
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from celebface.indexing import storage
from celebface.transforms import progress
from celebface.transforms.bundles import at_the_end
from celebface.transforms.metrics import StageMetrics
from celebface.transforms.records import Outcome
from celebface.transforms.staged import PART, ROWS, StagedRow, part_name, rows_column, shard_of, staging_schema

STAGE = "stage"
ITEMS_PER_PART = 256
_FACES_PER_PART = 2048  # of about 10 KB each
_SECONDS_PER_PART = 15  # so much work is lost at most when a run is killed


@dataclasses.dataclass
class StageOutcomes(beam.PTransform):
    """Collections of Outcome to (shard, StagedRow).

    Each collection is staged by itself and only the references are flattened. To flatten the outcomes would end the
    fused stage before them: Beam's local engine would hold them all in the driver, and write the first part when the
    last photo is done.

    Attributes:
      folder: URI of the staging folder.
      rows: Schema of the outcomes' rows.
      shards: Number of shards.
      beside: Schemas of the other tables whose rows are kept, by name.
    """

    folder: str
    rows: pa.Schema
    shards: int
    beside: Mapping[str, pa.Schema] = dataclasses.field(default_factory=dict)

    def expand(self, collections: Any) -> beam.PCollection:
        staged = []
        for number, outcomes in enumerate(collections):
            stage = beam.ParDo(_StageOutcomesDoFn(self.folder, self.rows, self.shards, self.beside))
            staged.append(outcomes | f"Stage{number}" >> stage.with_output_types(tuple[int, StagedRow]))
        return staged | beam.Flatten()


class _StageOutcomesDoFn(beam.DoFn):
    def __init__(self, folder: str, rows: pa.Schema, shards: int, beside: Mapping[str, pa.Schema]):
        self._folder = folder
        self._rows = rows
        self._shards = shards
        self._beside = beside
        self._metrics = StageMetrics(STAGE)

    def start_bundle(self) -> None:
        self._outcomes: list[Outcome] = []
        self._faces = 0
        self._since = time.monotonic()

    def process(self, outcome: Outcome):
        self._metrics.taken()
        progress.add({"photos": 1, "faces": outcome.faces, f"{outcome.reason or outcome.status}": 1})
        self._outcomes.append(outcome)
        self._faces += outcome.faces
        full = len(self._outcomes) >= ITEMS_PER_PART or self._faces >= _FACES_PER_PART
        if full or time.monotonic() - self._since > _SECONDS_PER_PART:
            yield from self._flush()

    def finish_bundle(self):
        yield from at_the_end(self._flush())
        progress.flush()

    def _flush(self) -> Iterator[tuple[int, StagedRow]]:
        if self._outcomes:
            start = time.perf_counter()
            places = write_part(self._outcomes, self._folder, self._rows, self._shards, self._beside)
            self._metrics.passed(len(places))
            self._metrics.spent("stage", time.perf_counter() - start)  # before others take their time with the places
            yield from places
        self.start_bundle()


def write_part(
    outcomes: Sequence[Outcome],
    folder: str,
    rows: pa.Schema,
    shards: int,
    beside: Mapping[str, pa.Schema] | None = None,
) -> list[tuple[int, StagedRow]]:
    """Writes one part file.

    Returns:
      For each outcome its shard and where it is kept.
    """
    by_shard: dict[int, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.ref.item_id):
        by_shard.setdefault(shard_of(outcome.shard_key, shards), []).append(outcome)
    schema = staging_schema(rows, beside)
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, schema) as writer:
        for shard, members in sorted(by_shard.items()):
            records = [
                {
                    **outcome.ledger_row(),
                    "shard": shard,
                    ROWS: list(outcome.rows),
                    **{rows_column(table): list(outcome.beside.get(table, ())) for table in beside or {}},
                }
                for outcome in members
            ]
            writer.write_batch(pa.RecordBatch.from_pylist(records, schema=schema))
    part = storage.join(folder, part_name(PART, buffer.getvalue()))
    storage.write_bytes(part, buffer.getvalue())
    return [
        (shard, StagedRow(part, batch, row, outcome.ref.content_sha256 if outcome.faces else "", *_identity(outcome)))
        for batch, (shard, members) in enumerate(sorted(by_shard.items()))
        for row, outcome in enumerate(members)
    ]


def _identity(outcome: Outcome) -> tuple[str, str]:
    person = outcome.ref.person
    return person.identity_id, person.name
