"""Writes the staged outcomes of a run as its final tables: a shard of each, of rows and the ledger, for each key."""

import contextlib
import dataclasses
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from celebface.indexing import storage
from celebface.indexing.audit import Doubt, Pair, Summary
from celebface.indexing.schemas import LEDGER, Flag, Reason, Status
from celebface.transforms import audit
from celebface.transforms.audit import AUDITS, JudgePeople, Quarantine, changed
from celebface.transforms.metrics import StageMetrics
from celebface.transforms.staged import ROWS, StagedRow, in_order, read_outcomes, rows_column, staging_schema

STAGE = "shard"
REPEATS, QUARANTINED, FINDINGS = "repeats", "quarantined", "audit"  # tables beside the rows
NEAR = ("web", "all", "none")
_ROWS_PER_GROUP = 4096
_IN_HAND = 4096  # photos and faces whose rows are in memory, of some 10 KB each

# Copies of 80 photos (recompressed, scaled by 2/3 and 3/2, cut at the edges, brightened) lie at D <= 0.1 and a hash
# distance <= 8 from the original in 93 of 100 cases; of 36,363 pairs of different photos of one person (the sample,
# 1,500 photos of LFW) 10 do, most of them copies themselves.
_NEAR_D = 0.1
_NEAR_BITS = 8


@dataclasses.dataclass(frozen=True)
class ShardLayout:
    """How the tables of a run are cut up.

    Attributes:
      folder: URI of the folder they are written to.
      table: Name of the table of rows, as in <table>-00000-of-00004.parquet.
      rows: Its schema.
      shards: Number of shards.
      unique: Column of which each value may occur once; an item that would repeat one is a duplicate. Empty for none.
      near: Which photos are left out if another of the same person is nearly the same: those from the "web", "all",
        or "none".
      audit: What is done about photos that are under the wrong name; see `audit.apply`. "off" for not to look.
      beside: Schemas of other tables that the items have rows of, by name; for rows that may repeat.
    """

    folder: str
    table: str
    rows: pa.Schema
    shards: int
    unique: str = ""
    near: str = "none"
    audit: str = "off"
    beside: Mapping[str, pa.Schema] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.unique and self.beside:
            raise ValueError(f"{', '.join(self.beside)} cannot be written beside rows of which none may repeat")
        if self.shards < 1:
            raise ValueError(f"there must be at least one shard, not {self.shards}")
        if self.near not in NEAR:
            raise ValueError(f"near must be one of {', '.join(NEAR)}, not {self.near}")
        if self.audit not in AUDITS:
            raise ValueError(f"audit must be one of {', '.join(AUDITS)}, not {self.audit}")


@dataclasses.dataclass
class WriteShards(beam.PTransform):
    """(shard, StagedRow) to the names of the files written. Every shard is written, empty ones too."""

    layout: ShardLayout

    def expand(self, staged: beam.PCollection) -> beam.PCollection:
        numbers = (
            staged.pipeline
            | "Numbers" >> beam.Create(range(self.layout.shards))
            | "Empty" >> beam.Map(lambda shard: (shard, None)).with_output_types(tuple[int, Any])
        )
        inputs = [staged, numbers]
        if self.layout.unique:
            inputs.append(
                staged
                | "Contents" >> beam.FlatMap(_by_content).with_output_types(tuple[str, Any])
                | "Photos" >> beam.GroupByKey()
                | "TwoNames" >> beam.FlatMapTuple(_find_two_names).with_output_types(tuple[int, Any])
            )
        if self.layout.unique and self.layout.audit != "off":
            inputs.append(
                staged
                # Flink's and Spark's fusion fails where a Flatten and a GroupByKey read the same collection.
                | "ToJudge" >> beam.Map(lambda keyed: keyed).with_output_types(tuple[int, StagedRow])
                | "People" >> beam.GroupByKey()
                | "Summarise" >> beam.Map(_summarise, self.layout)
                | "Audit" >> JudgePeople(self.layout.shards)
            )
        return inputs | beam.Flatten() | beam.GroupByKey() | "Write" >> beam.ParDo(_WriteShardDoFn(self.layout))


@dataclasses.dataclass(frozen=True, slots=True)
class _TwoNames:
    """A photo is given for other people, too."""

    content_sha256: str
    identity_id: str
    others: tuple[str, ...]


def _by_content(keyed: tuple[int, StagedRow]) -> Iterator[tuple[str, tuple[int, StagedRow]]]:
    if keyed[1].content_sha256:
        yield keyed[1].content_sha256, keyed


def _find_two_names(content_sha256: str, keyed: Iterable[tuple[int, StagedRow]]) -> Iterator[tuple[int, _TwoNames]]:
    places = sorted(keyed, key=lambda each: each[1].identity)  # a person may be written in several ways
    people = {place.identity_id: (shard, place.identity) for shard, place in places}
    if len(people) > 1:
        for identity_id, (shard, _) in people.items():
            others = sorted(name for other, (_, name) in people.items() if other != identity_id)
            yield shard, _TwoNames(content_sha256, identity_id, tuple(others))


def _summarise(keyed: tuple[int, Iterable[StagedRow]], layout: ShardLayout) -> Summary:
    outcomes = read_outcomes(keyed[1])
    assert outcomes is not None  # a group has a member
    return audit.summarise(outcomes, find_repeats(outcomes, layout))


class _WriteShardDoFn(beam.DoFn):
    def __init__(self, layout: ShardLayout):
        self._layout = layout
        self._metrics = StageMetrics(STAGE)

    def process(self, keyed):
        shard, members = keyed
        members = list(members)
        if not self._layout.unique:
            places = in_order(member for member in members if isinstance(member, StagedRow))
            self._metrics.taken(len(places))
            self._metrics.passed(len(places))
            yield from write_by_slices(places, shard, self._layout)
            return
        outcomes = read_outcomes(member for member in members if isinstance(member, StagedRow))
        if outcomes is None:
            outcomes = staging_schema(self._layout.rows).empty_table()
        self._metrics.taken(len(outcomes))
        outcomes = flag_two_names(outcomes, [member for member in members if isinstance(member, _TwoNames)])
        repeats = find_repeats(outcomes, self._layout)
        found = [member for member in members if isinstance(member, Doubt | Pair)]
        outcomes, quarantine = audit.apply(outcomes, repeats, found, self._layout.audit)
        for reason in (*(repeat.reason for repeat in repeats.values()), *quarantine.reasons.values()):
            self._metrics.lost(reason)
        self._metrics.passed(len(outcomes) - len(repeats) - len(quarantine.reasons))
        yield from write_shard(outcomes, repeats, shard, self._layout, quarantine)


@dataclasses.dataclass(frozen=True)
class Repeat:
    """An item whose photo shows nothing that another one does not.

    Attributes:
      of: Row of the item that is kept.
      reason: duplicate, or near_duplicate.
      detail: The same for people.
    """

    of: int
    reason: Reason
    detail: str


def flag_two_names(outcomes: pa.Table, found: Sequence[_TwoNames]) -> pa.Table:
    """Marks the items whose photo is given for other people, too."""
    others = {(entry.content_sha256, entry.identity_id): entry.others for entry in found}
    if not others:
        return outcomes
    changes = {}
    photos = zip(
        outcomes["content_sha256"].to_pylist(), outcomes["identity_id"].to_pylist(), outcomes["faces"], strict=True
    )
    for row, (content_sha256, identity_id, faces) in enumerate(photos):
        names = others.get((content_sha256, identity_id))
        if names and faces.as_py():
            detail = "; ".join(filter(None, [outcomes["detail"][row].as_py(), f"also given for {', '.join(names)}"]))
            changes[row] = {"flag": str(Flag.TWO_NAMES), "detail": detail}
    return changed(outcomes, changes)


def find_repeats(outcomes: pa.Table, layout: ShardLayout) -> dict[int, Repeat]:
    """Finds items that repeat an earlier one of the same person: the same photo, or nearly.

    Of two photos that are nearly the same the one with the larger face is kept.

    Args:
      outcomes: Table of `staging_schema` for faces, in its final order; a person's items are all in it.
      layout: What may not repeat.

    Returns:
      What each such item repeats, by row of the table.
    """
    rows = outcomes["rows"].combine_chunks()
    items = pc.list_parent_indices(rows).to_pylist()
    faces = rows.flatten()
    owners: dict[str, int] = {}
    repeats: dict[int, Repeat] = {}
    for item, value in zip(items, faces.field(layout.unique).to_pylist(), strict=True):
        owner = owners.setdefault(value, item)
        if owner != item and item not in repeats:
            repeats[item] = Repeat(owner, Reason.DUPLICATE, f"the same photo as {outcomes['uri'][owner]}")
    if len(faces) and layout.near != "none":
        standing = np.array([item not in repeats for item in items])
        for item, repeat in _find_near(outcomes, faces, np.array(items), standing, layout.near):
            repeats.setdefault(item, repeat)
    return repeats


def _find_near(
    outcomes: pa.Table, faces: pa.StructArray, items: np.ndarray, standing: np.ndarray, near: str
) -> Iterator[tuple[int, Repeat]]:
    """Goes through each person's faces, those first that cannot be left out, then the largest."""
    vectors = faces.field("embedding").flatten().to_numpy(zero_copy_only=False).reshape(len(faces), -1)
    boxes = faces.field("box").flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
    sizes = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    hashes = faces.field("crop_hash").to_numpy(zero_copy_only=False)
    people = np.array(faces.field("identity_id").to_pylist())
    stays = np.array([near == "web" and not uri.startswith("http") for uri in faces.field("uri").to_pylist()])
    order = np.lexsort((np.arange(len(items)), -sizes, ~stays, people))
    order = order[standing[order]]
    for mine in np.split(order, np.flatnonzero(people[order][1:] != people[order][:-1]) + 1):
        kept: list[int] = []
        for face in mine:
            distances = ((vectors[kept] - vectors[face]) ** 2).sum(axis=1)
            bits = np.bitwise_count(hashes[kept] ^ hashes[face])
            close = (distances <= _NEAR_D) & (bits <= _NEAR_BITS) & (items[kept] != items[face])
            if stays[face] or not close.any():
                kept.append(face)
                continue
            first = np.flatnonzero(close)[distances[close].argmin()]
            of = int(items[kept[first]])
            detail = f"nearly the same photo as {outcomes['uri'][of]} (D {distances[first]:.3f})"
            yield int(items[face]), Repeat(of, Reason.NEAR_DUPLICATE, detail)


def write_shard(
    outcomes: pa.Table,
    repeats: Mapping[int, Repeat],
    shard: int,
    layout: ShardLayout,
    quarantine: Quarantine = Quarantine(),  # noqa: B008 (it is frozen)
) -> list[str]:
    """Writes the files of a shard whose rows may not repeat.

    Args:
      outcomes: Table of `staging_schema`.
      repeats: Rows that are to be skipped; what they gave goes to a table of its own, so that a later build has it.
      shard: Its number.
      layout: Where to, and what.
      quarantine: What the audit keeps out, likewise to a table of its own, and what it found.

    Returns:
      Names of the files.
    """
    repeated, kept_out = (np.isin(np.arange(len(outcomes)), list(rows)) for rows in (repeats, quarantine.reasons))
    ledger = outcomes.drop_columns(["shard", ROWS]).to_pylist()
    for row, repeat in repeats.items():
        ledger[row].update(
            status=Status.SKIPPED, stage=STAGE, reason=repeat.reason, detail=repeat.detail, faces=0, flag=""
        )
    tables = [
        (layout.table, _rows_of(outcomes.filter(pa.array(~(repeated | kept_out))), layout.rows)),
        ("ledger", pa.Table.from_pylist(ledger, schema=LEDGER)),
        (REPEATS, _rows_of(outcomes.filter(pa.array(repeated)), layout.rows)),
        (QUARANTINED, _rows_of(outcomes.filter(pa.array(kept_out)), layout.rows)),
        (FINDINGS, quarantine.findings),
    ]
    names = []
    for name, table in tables:
        file = _file_name(name, shard, layout)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", row_group_size=_ROWS_PER_GROUP)
        storage.write_bytes(storage.join(layout.folder, file), buffer.getvalue())
        names.append(file)
    return names


def write_by_slices(places: Sequence[tuple[StagedRow, int]], shard: int, layout: ShardLayout) -> list[str]:
    """Writes the files of a shard whose rows have nothing to do with each other, a slice of them in memory at a time.

    Args:
      places: Of the outcomes, with their numbers of faces, in order; see `staged.in_order`.
      shard: Its number.
      layout: Where to, and what.

    Returns:
      Names of the files.
    """
    tables = {layout.table: layout.rows, "ledger": LEDGER, **layout.beside}
    names = [_file_name(table, shard, layout) for table in tables]
    with contextlib.ExitStack() as stack:
        writers = {}
        for (table, schema), name in zip(tables.items(), names, strict=True):
            stream = stack.enter_context(storage.open_output(storage.join(layout.folder, name)))
            writers[table] = stack.enter_context(pq.ParquetWriter(stream, schema, compression="zstd"))
        for mine in _slices(places):
            outcomes = read_outcomes(mine)
            assert outcomes is not None  # a slice has a member
            found = {table: _rows_of(outcomes, schema, rows_column(table)) for table, schema in layout.beside.items()}
            found |= {layout.table: _rows_of(outcomes, layout.rows), "ledger": outcomes.select(LEDGER.names)}
            for table, writer in writers.items():
                writer.write_table(found[table].cast(tables[table]), row_group_size=_ROWS_PER_GROUP)
    return names


def _slices(places: Sequence[tuple[StagedRow, int]]) -> Iterator[list[StagedRow]]:
    mine: list[StagedRow] = []
    weight = 0
    for place, faces in places:
        if mine and weight + 1 + faces > _IN_HAND:
            yield mine
            mine, weight = [], 0
        mine.append(place)
        weight += 1 + faces
    if mine:
        yield mine


def _file_name(table: str, shard: int, layout: ShardLayout) -> str:
    return f"{table}-{shard:05d}-of-{layout.shards:05d}.parquet"


def _rows_of(outcomes: pa.Table, schema: pa.Schema, column: str = ROWS) -> pa.Table:
    rows = outcomes[column].combine_chunks().flatten()
    return pa.Table.from_struct_array(rows).select(schema.names).cast(schema) if len(rows) else schema.empty_table()
