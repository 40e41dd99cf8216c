"""What a run leaves beside its results: run.json, and the check that its numbers add up."""

import array
import collections
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from celebface.indexing import storage
from celebface.indexing.schemas import OF_THE_AUDIT, Action, Finding, Kind, Status
from celebface.pipelines.execution import RunReport, StageCounts
from celebface.transforms import detect, encode, fetch, read, resume, scrape, search, sources
from celebface.transforms.metrics import FOUND, KEPT, TAKEN_OVER
from celebface.transforms.shard import FINDINGS

RUN_NAME = "run.json"
STAGING_PREFIX = ".staging-"
NOTHING = StageCounts(0, 0, {}, {}, {})
_STAGES = tuple(step.STAGE for step in (sources, scrape, search, resume, fetch, read, detect, encode))


class DoesNotReconcile(Exception):
    """The counts of a run contradict each other: an item was lost or doubled."""


@dataclasses.dataclass(frozen=True)
class LedgerCounts:
    """Sums over a run's ledger.

    Attributes:
      items: All of them.
      statuses: Items by status.
      reasons: Items that are not done, by reason.
      faces: Faces of the items that are done.
      kinds: Items by status, for each kind: photo, page, name.
      flags: Items that are done but doubtful, by flag.
    """

    items: int
    statuses: Mapping[str, int]
    reasons: Mapping[str, int]
    faces: int
    kinds: Mapping[str, Mapping[str, int]]
    flags: Mapping[str, int]

    @property
    def photos(self) -> Mapping[str, int]:
        """Photos by status."""
        return self.kinds.get(Kind.PHOTO, {})

    @property
    def counts(self) -> dict[str, int]:
        """What the manifest says of it: faces, items, and items by status."""
        return {"faces": self.faces, "items": self.items, **self.statuses}

    @property
    def quarantined(self) -> int:
        """Photos that the audit keeps out."""
        return sum(self.reasons.get(reason, 0) for reason in OF_THE_AUDIT)

    @property
    def failed_ratio(self) -> float:
        """Share of the photos tried that were rejected; those in quarantine could be read, and do not count."""
        rejected = self.photos.get(Status.REJECTED, 0)
        tried = rejected + self.photos.get(Status.DONE, 0)
        return (rejected - self.quarantined) / max(1, tried)


@dataclasses.dataclass(frozen=True)
class AuditCounts:
    """Sums over what an audit found.

    Attributes:
      quarantined: Faces kept out, by finding.
      reported: Faces that are in doubt and stay, by finding.
      close_pairs: Pairs of people too close to tell apart.
    """

    quarantined: Mapping[str, int]
    reported: Mapping[str, int]
    close_pairs: int


def shards(folder: str, table: str) -> list[str]:
    """URIs of a table's shards, in order."""
    names = storage.list_names(folder)
    return [storage.join(folder, name) for name in names if name.startswith(f"{table}-") and name.endswith(".parquet")]


def read_rows(shard: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a shard, few at a time in memory."""
    with storage.open_input(shard) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(batch_size=1024, columns=columns):
            yield from batch.to_pylist()


def count_ledger(folder: str) -> LedgerCounts:
    """Sums up the ledger in a folder.

    Raises:
      DoesNotReconcile: If an item has two rows.
    """
    ids = array.array("Q")  # 8 bytes an item
    faces = 0
    statuses: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    kinds: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    flags: collections.Counter[str] = collections.Counter()
    for shard in shards(folder, "ledger"):
        for row in read_rows(shard, ["item_id", "kind", "status", "reason", "faces", "flag"]):
            ids.append(int(row["item_id"], 16))
            faces += row["faces"]
            statuses[row["status"]] += 1
            if row["reason"]:
                reasons[row["reason"]] += 1
            kinds[row["kind"]][row["status"]] += 1
            if row["flag"]:
                flags[row["flag"]] += 1
    if len(ids) != len(np.unique(np.frombuffer(ids, np.uint64))):
        raise DoesNotReconcile("the ledger has two rows for one item")
    by_kind = {kind: dict(counts) for kind, counts in kinds.items()}
    return LedgerCounts(len(ids), dict(statuses), dict(reasons), faces, by_kind, dict(flags))


def count_audit(folder: str) -> AuditCounts:
    """Sums up what the audit found, which is in a folder."""
    found: dict[str, collections.Counter[str]] = {action: collections.Counter() for action in Action}
    for shard in shards(folder, FINDINGS):
        for row in read_rows(shard, ["finding", "action"]):
            found[row["action"]][row["finding"]] += 1
    close_pairs = found[Action.REPORTED].pop(Finding.CLOSE_PAIR, 0)
    return AuditCounts(dict(found[Action.QUARANTINED]), dict(found[Action.REPORTED]), close_pairs)


def reconcile(report: RunReport, ledger: LedgerCounts, sampled: bool = False) -> None:
    """Holds the stages against each other and against the ledger; of a sample only each stage against itself.

    Raises:
      DoesNotReconcile: If an item was lost or doubled on the way.
    """
    for name, stage in report.stages.items():
        gone = stage.items_in - stage.items_out - sum(stage.lost.values()) - stage.noted.get(TAKEN_OVER, 0)
        if gone:
            raise DoesNotReconcile(f"stage {name} took {stage.items_in} items and {gone} of them came to no end")
    way = {name: report.stages.get(name, NOTHING) for name in _STAGES}
    found = sum(way[name].noted.get(FOUND, 0) for name in (scrape.STAGE, search.STAGE))
    sought = way[scrape.STAGE].items_in + way[search.STAGE].items_in
    for name, given, taken in (
        ("list", way[sources.STAGE].items_out + found, sought + way[resume.STAGE].items_in),
        ("resume", way[resume.STAGE].items_out, way[fetch.STAGE].items_in + _read_from_files(way)),
        ("read", way[read.STAGE].items_out, way[detect.STAGE].items_in),
        ("detect", way[detect.STAGE].items_out, way[encode.STAGE].items_in),
    ):
        if given != taken and not sampled:
            raise DoesNotReconcile(f"stage {name} gave {given} items, the next ones took {taken}")
    listed = way[sources.STAGE].items_in + found
    kept = way[resume.STAGE].noted.get(KEPT, 0)
    if listed + kept != ledger.items and not sampled:
        raise DoesNotReconcile(f"{listed} items were listed and found, {kept} kept, the ledger has {ledger.items}")


def _read_from_files(way: Mapping[str, StageCounts]) -> int:
    return way[read.STAGE].items_in - way[fetch.STAGE].items_out


def run_report(report: RunReport, ledger: LedgerCounts, config: Mapping[str, Any]) -> dict[str, Any]:
    """Contents of run.json."""
    photos = report.stages.get(read.STAGE, NOTHING).items_in
    return {
        "finished": utc_now().isoformat(),
        "items": dataclasses.asdict(ledger),
        "stages": {name: dataclasses.asdict(stage) for name, stage in report.stages.items()},
        "wall_seconds": round(report.wall_seconds, 3),
        "photos_per_second": round(photos / report.wall_seconds, 2),
        "runner": report.runner,
        "workers": report.workers,
        "versions": versions(),
        "config": dict(config),
    }


def staging_folder(target: str, decides: Sequence[Any]) -> str:
    """Where a run keeps its parts, beside what it makes.

    Runs that would make the same rows share it, and go on with each other's work.

    Args:
      target: URI of the folder that the run writes to.
      decides: All that decides its rows; the versions of the libraries are added.
    """
    return storage.join(target, f"{STAGING_PREFIX}{fingerprint(decides)}")


def fingerprint(decides: Sequence[Any]) -> str:
    """12 hex digits of all that decides a result; the versions of the libraries are added."""
    text = json.dumps([versions(), *decides], default=as_json)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def as_json(config: Any) -> dict[str, Any]:
    """The values of a configuration, a dataclass; functions in it are none."""
    return dataclasses.asdict(
        config, dict_factory=lambda entries: {name: value for name, value in entries if not callable(value)}
    )


def write_json(uri: str, body: Mapping[str, Any]) -> None:
    """Writes a JSON file."""
    storage.write_bytes(uri, (json.dumps(body, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def versions() -> dict[str, str]:
    """Versions of what decides a run's results, down to the bytes of its charts and pages."""
    networks = ("keras", "mtcnn")
    libraries = ("apache-beam", "annoy", "jinja2", "matplotlib", "numpy", "pillow", "pyarrow")
    found = {name: importlib.metadata.version(name) for name in ("celebface", *networks, *libraries)}
    for name, package in (("tensorflow", "tensorflow"), ("tensorflow", "tensorflow-cpu"), ("usearch", "usearch")):
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    python = ".".join(platform.python_version_tuple()[:2])  # a job may be started on one machine and ended on another
    return {**found, "python": python}


def utc_now() -> datetime.datetime:
    """The time, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
