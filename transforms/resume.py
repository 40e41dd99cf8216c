"""Sorts items into those that are done, those whose bytes are there, and those still to be had.

Earlier work is known from three kinds of part files in the staging folder: outcomes of a run that was killed,
photos that it had from the web, and outcomes of a published version that is built upon.
"""

import dataclasses
import hashlib
import itertools
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from celebface.indexing import storage
from celebface.indexing.schemas import OF_THE_PLACE, Kind, Reason, Status
from celebface.indexing.tombstones import NONE, Tombstones, covered
from celebface.transforms import progress
from celebface.transforms.metrics import KEPT, TAKEN_OVER, StageMetrics
from celebface.transforms.records import ItemRef, Outcome, kept_faces, skipped
from celebface.transforms.removed import is_removed, shows_removed, withdrawn
from celebface.transforms.staged import (
    BYTES,
    PART,
    PUBLISHED,
    Known,
    StagedRow,
    digest,
    part_name,
    read_photo_keys,
    shard_of,
    staging_schema,
    taken_over,
)

STAGE = "resume"
NOTHING = ItemRef.of("")
RETRY = ("failed", "all", "none")


@dataclasses.dataclass(frozen=True)
class Reuse:
    """A published version that a build goes on from.

    Attributes:
      version: URI of the version.
      retry: What is asked of the web besides new photos. "failed": those that could not be had, and, of servers that
        gave an ETag or a date to tell it by, whether the others have changed; "all": of all servers, which sends photos
        again that cannot be told to be unchanged by less; "none": nothing that the version knows.
      keep: Whether photos stay that are not named any more.
    """

    version: str
    retry: str = "failed"
    keep: bool = False

    def __post_init__(self) -> None:
        if self.retry not in RETRY:
            raise ValueError(f"retry must be one of {', '.join(RETRY)}, not {self.retry}")


@dataclasses.dataclass
class ResumeItems(beam.PTransform):
    """Keyed references of photos, (item id, ItemRef), to four collections.

    `fresh`: (ItemRef, None) of files to read, or (ItemRef, StoredBytes) of photos that a killed run had; `web`:
    (ItemRef, Known | None) to be asked for; `staged`: (shard, StagedRow) of those done; `lost`: outcomes of rows that
    repeat another, and of what was taken down. The join also spreads the references over the workers.

    Attributes:
      staging: URI of the staging folder.
      rows: Schema of the run's rows.
      shards: Number of shards.
      reuse: What to build upon.
      tombstones: What was taken down. Those of a killed run were the same: they are part of its staging folder's name.
    """

    staging: str
    rows: pa.Schema
    shards: int
    reuse: Reuse | None = None
    tombstones: Tombstones = NONE

    def expand(self, refs: beam.PCollection) -> Any:
        parts = [storage.join(self.staging, name) for name in storage.list_files(self.staging)]
        known = refs.pipeline | "Parts" >> beam.Create(parts, reshuffle=False) | "Keys" >> beam.FlatMap(read_keys)
        sources = {"refs": refs, "known": known}
        if self.reuse:
            sources["published"] = (
                refs.pipeline
                | "Version" >> beam.Create(version_shards(self.reuse.version))
                | "Import" >> beam.FlatMap(import_shard, self.staging, self.rows, self.shards, self.tombstones)
            )
        sort = beam.ParDo(_SortDoFn(self.reuse, self.tombstones)).with_outputs("web", "staged", "lost", main="fresh")
        return sources | beam.CoGroupByKey() | "Sort" >> sort


def read_keys(part: str) -> Iterator[tuple[str, Known]]:
    """The items of a part that a later run may rely on: item id, and what is known of it.

    Items that were lost to their place, not to their bytes, are tried again.
    """
    name = posixpath.basename(part)
    if name.startswith(f"{BYTES}-") and name.endswith(".arrow"):
        yield from read_photo_keys(part)
    elif name.startswith(f"{PART}-") and name.endswith(".arrow"):
        yield from (keyed for keyed in _outcome_keys(part) if keyed[1].reason not in OF_THE_PLACE)


def _outcome_keys(part: str) -> Iterator[tuple[str, Known]]:
    columns = ["item_id", "revision", "etag", "last_modified", "content_sha256", "reason", "shard", "faces"]
    with pa.ipc.open_file(storage.open_mapped(part)) as reader:  # of which pictures are the most
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            descriptions = _descriptions(batch)
            for row, record in enumerate(batch.select([*columns, *NOTHING.named()]).to_pylist()):
                sha256 = record["content_sha256"] if record["faces"] else ""
                place = StagedRow(part, number, row, sha256, record["identity_id"], record["identity"])
                known = Known(
                    **{name: record[name] for name in columns[1:-1]},
                    place=place,
                    published=posixpath.basename(part).startswith(f"{PUBLISHED}-"),
                    named=digest({name: record[name] for name in NOTHING.named()}),
                    described=descriptions[row],
                )
                yield record["item_id"], known


def _descriptions(batch: pa.RecordBatch) -> list[str]:
    """Digests of how each item's rows are described; empty for items without rows, and tables that do not tell."""
    rows = batch["rows"]
    names = list(NOTHING.described())
    if any(rows.type.value_type.get_field_index(name) < 0 for name in names):
        return [""] * len(batch)
    columns = {name: rows.values.field(name) for name in names}
    starts = rows.offsets.to_pylist()
    return [
        digest({name: column[start].as_py() for name, column in columns.items()}) if end > start else ""
        for start, end in itertools.pairwise(starts)
    ]


def version_shards(version: str) -> list[tuple[str, ...]]:
    """URIs of a version's ledger shards, each with those of its faces, of its repeats and of those in quarantine."""
    ends = [name.removeprefix("ledger") for name in storage.list_names(version) if name.startswith("ledger-")]
    return [
        tuple(storage.join(version, f"{table}{end}") for table in ("ledger", "faces", "repeats", "quarantined"))
        for end in ends
    ]


def import_shard(
    tables: tuple[str, ...], staging: str, rows: pa.Schema, shards: int, tombstones: Tombstones = NONE
) -> Iterator[tuple[str, Known]]:
    """Writes the photos of a published shard as a part, as if this run had done them.

    What was found to repeat another photo is restored: whether it still does is found out again. So is what is in
    quarantine. What was taken down is passed over, and then is as new as if the version did not have it.
    """
    ledger, *photos = (pq.read_table(storage.open_input(table)) for table in tables)
    ledger = ledger.filter(pa.array(~covered(ledger, tombstones)))
    schema = staging_schema(rows)
    by_photo: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for table in photos:
        for row in table.select(rows.names).to_pylist():
            photo = by_photo.setdefault((row["uri"], row["identity_id"], row["content_sha256"]), {})
            photo.setdefault(row["face_id"], row)  # two names that are no UTF-8 may be printed alike
    records = []
    for record in ledger.to_pylist():
        if record["kind"] != Kind.PHOTO or record["reason"] == Reason.REMOVED:
            continue
        if shows_removed(record["content_sha256"], record["identity_id"], tombstones):
            continue
        mine = list(by_photo.get((record["uri"], record["identity_id"], record["content_sha256"]), {}).values())
        if mine:
            detail = kept_faces(len(mine), mine[0]["faces_in_image"])
            record.update(status=str(Status.DONE), stage="encode", reason="", detail=detail, faces=len(mine), flag="")
        elif record["stage"] in ("list", STAGE):
            continue  # they are listed anew
        key = record["identity_id"] if mine else record["item_id"]
        records.append({**record, "shard": shard_of(key, shards), "rows": mine})
    if not records:
        return
    sink = pa.BufferOutputStream()
    records.sort(key=lambda record: record["shard"])
    with pa.ipc.new_file(sink, schema) as writer:
        for _, members in itertools.groupby(records, key=lambda record: record["shard"]):
            writer.write_batch(pa.RecordBatch.from_pylist(list(members), schema=schema))
    contents = sink.getvalue().to_pybytes()
    part = storage.join(staging, part_name(PUBLISHED, contents))
    storage.write_bytes(part, contents)
    yield from _outcome_keys(part)


class _SortDoFn(beam.DoFn):
    def __init__(self, reuse: Reuse | None, tombstones: Tombstones):
        self._retry = reuse.retry if reuse else ""
        self._keep = bool(reuse and reuse.keep)
        self._tombstones = tombstones
        self._metrics = StageMetrics(STAGE)

    def process(self, keyed):
        _, groups = keyed
        refs = list(groups["refs"])
        if not refs:
            yield from self._kept(groups)
            return
        self._metrics.taken(len(refs))
        ref, lost = collapse_standing(refs, STAGE, self._tombstones)
        for outcome in lost:
            self._metrics.lost(outcome.reason)
            yield beam.pvalue.TaggedOutput("lost", outcome)
        if ref is None:
            return
        tag, element = sort_out(ref, [*groups["known"], *groups.get("published", ())], self._retry)
        if tag == "staged":
            self._metrics.noted(TAKEN_OVER)
            progress.add({"photos": 1, "resumed": 1})
        else:
            self._metrics.passed()
        yield beam.pvalue.TaggedOutput(tag, element) if tag != "fresh" else element

    def _kept(self, groups: Mapping[str, Iterable[Known]]) -> Iterator[Any]:
        """The outcome of a photo that only the version has, if it is to stay."""
        published = sorted(groups.get("published", ()), key=_where)
        if self._keep and published:
            self._metrics.noted(KEPT)
            yield beam.pvalue.TaggedOutput("staged", (published[0].shard, published[0].place))


def sort_out(ref: ItemRef, known: Iterable[Known], retry: str) -> tuple[str, Any]:
    """Decides what is to be done with an item.

    Args:
      ref: The item.
      known: What earlier work left of it.
      retry: See `Reuse`; empty if nothing is built upon.

    Returns:
      The name of a collection of `ResumeItems` and the element for it.
    """
    known = sorted(known, key=_where)
    published = [entry for entry in known if entry.published]
    ours = [entry for entry in known if not entry.published]
    unchanged = [
        entry
        for entry in (*ours, *published)
        if entry.place and entry.revision == ref.revision and (ref.is_web or ref.revision)
    ]
    if not ref.is_web:
        if retry != "none":
            unchanged = [entry for entry in unchanged if entry.reason not in OF_THE_PLACE]
        return ("staged", taken_over(ref, unchanged[0])) if unchanged else ("fresh", (ref, None))
    if unchanged and (not unchanged[0].published or retry == "none"):
        return "staged", taken_over(ref, unchanged[0])
    for entry in ours:
        if entry.stored:
            return "fresh", (with_content(ref, entry), entry.stored)
    had = next((entry for entry in published if entry.content_sha256), None)
    if had and retry == "failed" and not (had.etag or had.last_modified):
        return "staged", taken_over(ref, had)
    return "web", (ref, had)


def _where(known: Known) -> tuple[str, int, int]:
    """By this the same one of several is taken, whatever order they come in."""
    if known.place:
        return known.place.part, known.place.batch, known.place.row
    return (known.stored.part, known.stored.batch, 0) if known.stored else ("", 0, 0)


def with_content(ref: ItemRef, known: Known) -> ItemRef:
    """A reference that knows the content of its photo."""
    return dataclasses.replace(
        ref, etag=known.etag, last_modified=known.last_modified, content_sha256=known.content_sha256
    )


@dataclasses.dataclass
class CollapseRepeats(beam.PTransform):
    """Keyed references, (item id, ItemRef), to ItemRef, each once, and outcomes of rows that repeat another.

    Attributes:
      stage: Whose counters they are counted in.
      tombstones: What was taken down; it is among the lost ones.
    """

    stage: str
    tombstones: Tombstones = NONE

    def expand(self, refs: beam.PCollection) -> Any:  # good ones, lost ones
        collapse_refs = beam.ParDo(_CollapseDoFn(self.stage, self.tombstones))
        collapsed = refs | beam.GroupByKey() | collapse_refs.with_outputs("lost", main="refs")
        return collapsed.refs, collapsed.lost


class _CollapseDoFn(beam.DoFn):
    def __init__(self, stage: str, tombstones: Tombstones):
        self._stage = stage
        self._tombstones = tombstones
        self._metrics = StageMetrics(stage)

    def process(self, keyed):
        refs = list(keyed[1])
        ref, lost = collapse_standing(refs, self._stage, self._tombstones)
        self._metrics.taken(len(refs))
        for outcome in lost:
            self._metrics.lost(outcome.reason)
            yield beam.pvalue.TaggedOutput("lost", outcome)
        if ref is not None:
            yield ref


def collapse_standing(
    refs: Iterable[ItemRef], stage: str, tombstones: Tombstones
) -> tuple[ItemRef | None, list[Outcome]]:
    """As `collapse`; of an item that was taken down nothing is left but outcomes that do not name it."""
    ref, repeats = collapse(refs)
    if not is_removed(ref, tombstones):
        return ref, repeats
    return None, [withdrawn(gone, stage) for gone in (ref, *(repeat.ref for repeat in repeats))]


def collapse(refs: Iterable[ItemRef]) -> tuple[ItemRef, list[Outcome]]:
    """Tells the first row that names an item from those that repeat it.

    Returns:
      The first, by its origin, and for each of the others an outcome, with an item id of its own.
    """
    first, *others = refs = list(refs)
    if not others:  # as good as always
        return first, []
    first, *others = sorted(
        refs,
        key=lambda ref: (
            len(ref.origin),
            ref.origin,
            dataclasses.astuple(ref.provenance),
            dataclasses.astuple(ref.person),
        ),
    )
    repeats = []
    for number, ref in enumerate(others):
        name = f"{ref.item_id} {ref.origin} {number}"
        ref = dataclasses.replace(ref, item_id=hashlib.sha256(name.encode()).hexdigest()[:16])
        repeats.append(skipped(ref, STAGE, Reason.DUPLICATE, f"repeats {first.origin or 'another source'}"))
    return first, repeats
