"""The part files of a run: their columns, and how they are read. See `stage` and `fetch` for why they are there."""

import dataclasses
import functools
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from celebface.indexing import schemas, storage
from celebface.transforms.records import ItemRef, quick_to_pickle

# Photos had from the web, one record batch each, so that one is read without the others.
_BYTES = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("last_modified", pa.string(), nullable=False),
        pa.field("content_sha256", pa.string(), nullable=False),
        pa.field("data", pa.binary(), nullable=False),
    ]
)
_OPEN_PARTS = 16
ROWS = "rows"  # the column of a part that holds an item's rows of the run's table

PART, PUBLISHED, BYTES = "part", "published", "bytes"  # kinds of parts: of this run, of an earlier version, of photos


@quick_to_pickle
@dataclasses.dataclass(frozen=True, slots=True)
class StagedRow:
    """Where an item's outcome is kept.

    Attributes:
      part: URI of the part file.
      batch: Record batch in it, which holds items of one shard.
      row: Row of the batch.
      content_sha256: sha256 of the photo, if it gave faces.
      identity_id: Who is on it.
      identity: Their name.
      restated: The item as it is named now, if that is not as it was: who is on it, where it is from, its validators.
    """

    part: str
    batch: int
    row: int
    content_sha256: str = ""
    identity_id: str = ""
    identity: str = ""
    restated: ItemRef | None = None


@quick_to_pickle
@dataclasses.dataclass(frozen=True, slots=True)
class StoredBytes:
    """Where the bytes of a photo from the web are kept.

    Attributes:
      part: URI of the part file.
      batch: Record batch in it.
    """

    part: str
    batch: int


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """What earlier work left of an item.

    Attributes:
      revision: State of the file that it was done in.
      etag: Likewise of a photo from the web.
      last_modified: Likewise.
      content_sha256: sha256 of its bytes, if they were had.
      reason: Why it was lost, if it was.
      shard: Shard of its outcome.
      place: Its outcome; None if it has none yet.
      stored: Its bytes, had from the web and not yet read; None if they are not kept.
      published: Whether the outcome comes from a published version, not from this run or one that was killed.
      named: Digest of `ItemRef.named` as it was then.
      described: Likewise of `ItemRef.described`; empty if its outcome does not tell.
    """

    revision: str
    etag: str
    last_modified: str
    content_sha256: str
    reason: str = ""
    shard: int = 0
    place: StagedRow | None = None
    stored: StoredBytes | None = None
    published: bool = False
    named: str = ""
    described: str = ""


def shard_of(key: str, shards: int) -> int:
    """The shard of a key; the same on every machine."""
    return zlib.crc32(key.encode()) % shards


def staging_schema(rows: pa.Schema, beside: Mapping[str, pa.Schema] | None = None) -> pa.Schema:
    """Columns of a part: the ledger's, the shard, the item's rows, and those of other tables."""
    tables = {ROWS: rows, **{rows_column(table): columns for table, columns in (beside or {}).items()}}
    fields = [pa.field(name, pa.list_(pa.struct(list(columns)))) for name, columns in tables.items()]
    return pa.schema([*schemas.LEDGER, pa.field("shard", pa.int32()), *fields])


def rows_column(table: str) -> str:
    """The column of a part that holds an item's rows of a table beside the run's own."""
    return f"{table}_{ROWS}"


def part_name(kind: str, contents: bytes) -> str:
    """Name of a part file, of what is in it: a late attempt, with other outcomes, changes no other's file."""
    return f"{kind}-{hashlib.sha256(contents).hexdigest()[:16]}.arrow"


def read_outcomes(places: Iterable[StagedRow]) -> pa.Table | None:
    """Reads outcomes, ordered by uri and item.

    Args:
      places: Where they are kept.

    Returns:
      A table of `staging_schema`; None for no places.
    """
    by_part: dict[str, dict[int, list[StagedRow]]] = {}
    for place in places:
        by_part.setdefault(place.part, {}).setdefault(place.batch, []).append(place)
    batches = []
    for part, wanted in sorted(by_part.items()):
        with pa.ipc.open_file(storage.open_mapped(part)) as reader:
            for number, kept in sorted(wanted.items()):
                kept.sort(key=lambda place: place.row)
                batch = reader.get_batch(number).take(pa.array([place.row for place in kept]))
                batches.append(_restate(batch, kept))
    if not batches:
        return None
    return pa.Table.from_batches(batches).sort_by([("uri", "ascending"), ("item_id", "ascending")])


def in_order(places: Iterable[StagedRow]) -> list[tuple[StagedRow, int]]:
    """Places as `read_outcomes` orders them, each with its number of faces; what else is kept there stays unread."""
    columns = ["uri", "item_id", "faces"]
    by_part: dict[str, list[StagedRow]] = {}
    for place in places:
        by_part.setdefault(place.part, []).append(place)
    keyed = []
    for part, kept in by_part.items():
        with pa.ipc.open_file(storage.open_mapped(part)) as reader:
            batches = {number: reader.get_batch(number).select(columns) for number in {place.batch for place in kept}}
            records = {number: batch.to_pylist() for number, batch in batches.items()}
        keyed += [(records[place.batch][place.row], place) for place in kept]
    keyed.sort(key=lambda each: (each[0]["uri"], each[0]["item_id"]))
    return [(place, record["faces"]) for record, place in keyed]


def _restate(batch: pa.RecordBatch, places: Sequence[StagedRow]) -> pa.RecordBatch:
    if not any(place.restated for place in places):
        return batch
    records = batch.to_pylist()
    for place, record in zip(places, records, strict=True):
        if ref := place.restated:
            record.update(ref.named(), etag=ref.etag, last_modified=ref.last_modified)
            for row in record["rows"]:
                if row.keys() >= ref.described().keys():  # a table of faces
                    row.update(ref.described())
    return pa.RecordBatch.from_pylist(records, schema=batch.schema)


def digest(values: Mapping[str, Any]) -> str:
    """A digest by which two descriptions are told apart."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def taken_over(ref: ItemRef, known: Known, restate: bool = False) -> tuple[int, StagedRow]:
    """The outcome of earlier work, under the names that the item has now.

    Args:
      ref: The item as it is named now.
      known: What there is of it.
      restate: Whether `known` has other validators than what is kept.

    Returns:
      Shard and place.
    """
    assert known.place is not None
    renamed = known.named != digest(ref.named()) or known.described not in ("", digest(ref.described()))
    if restate or renamed:
        ref = dataclasses.replace(
            ref, etag=known.etag, last_modified=known.last_modified, content_sha256=known.content_sha256
        )
        return known.shard, dataclasses.replace(known.place, restated=ref, identity=ref.person.name)
    return known.shard, known.place


def write_photos(folder: str, photos: Sequence[tuple[str, str, str, str, bytes]]) -> list[StoredBytes]:
    """Writes a part of photos' bytes.

    Args:
      folder: URI of the staging folder.
      photos: Item id, ETag, Last-Modified, sha256 in hex, bytes of each.

    Returns:
      Where each is.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _BYTES) as writer:
        for photo in photos:
            *texts, data = photo
            columns = [*(pa.array([text]) for text in texts), _as_array(data)]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=_BYTES))
    contents = sink.getvalue().to_pybytes()
    part = storage.join(folder, part_name(BYTES, contents))
    storage.write_bytes(part, contents)
    return [StoredBytes(part, number) for number in range(len(photos))]


def _as_array(data: bytes) -> pa.Array:
    """A binary array of one value, which is not copied."""
    offsets = np.array([0, len(data)], np.int32)
    return pa.Array.from_buffers(pa.binary(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def read_photo_keys(part: str) -> list[tuple[str, Known]]:
    """The photos in a part of bytes: item id, and what is known of each."""
    found = []
    keys = [number for number, name in enumerate(_BYTES.names) if name != "data"]  # the photos themselves stay unread
    with pa.ipc.open_file(storage.open_input(part), options=pa.ipc.IpcReadOptions(included_fields=keys)) as reader:
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            etag, modified, sha256 = (
                str(batch[name][0].as_py()) for name in ("etag", "last_modified", "content_sha256")
            )
            known = Known("", etag, modified, sha256, stored=StoredBytes(part, number))
            found.append((str(batch["item_id"][0].as_py()), known))
    return found


def read_stored(place: StoredBytes) -> bytes:
    """The bytes of a photo."""
    return _open_part(place.part).get_batch(place.batch)["data"][0].as_py()


@functools.lru_cache(_OPEN_PARTS)
def _open_part(part: str) -> pa.ipc.RecordBatchFileReader:
    return pa.ipc.open_file(storage.open_input(part))
