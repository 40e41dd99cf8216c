"""What a run leaves beside its results: run.json, and the check that its numbers add up."""

import collections
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from celebface.indexing import storage
from celebface.indexing.schemas import Status
from celebface.pipelines.execution import RunReport
from celebface.transforms import fetch, sources

RUN_NAME = "run.json"


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
    """

    items: int
    statuses: Mapping[str, int]
    reasons: Mapping[str, int]
    faces: int

    @property
    def done(self) -> int:
        """Items that gave faces."""
        return self.statuses.get(Status.DONE, 0)

    @property
    def failed_ratio(self) -> float:
        """Share of the items tried that were rejected."""
        rejected = self.statuses.get(Status.REJECTED, 0)
        return rejected / max(1, rejected + self.done)


def read_tables(folder: str, table: str) -> Iterator[pa.Table]:
    """The shards of a table, in order."""
    for name in storage.list_files(folder):
        if name.startswith(f"{table}-") and name.endswith(".parquet"):
            with storage.open_input(storage.join(folder, name)) as stream:
                yield pq.read_table(stream)


def count_ledger(folder: str) -> LedgerCounts:
    """Sums up the ledger in a folder."""
    items = faces = 0
    statuses: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    for shard in read_tables(folder, "ledger"):
        items += len(shard)
        statuses.update(shard["status"].to_pylist())
        reasons.update(reason for reason in shard["reason"].to_pylist() if reason)
        faces += sum(shard["faces"].to_pylist())
    return LedgerCounts(items, dict(statuses), dict(reasons), faces)


def reconcile(report: RunReport, ledger: LedgerCounts) -> None:
    """Holds the stages against each other and against the ledger.

    Raises:
      DoesNotReconcile: If an item was lost or doubled on the way.
    """
    for name, stage in report.stages.items():
        if name == "resume":
            continue  # what it does not hand on is not lost: an earlier run has done it
        gone = stage.items_in - stage.items_out - sum(stage.lost.values())
        if gone:
            raise DoesNotReconcile(f"stage {name} took {stage.items_in} items and {gone} of them came to no end")
    listed = report.stages[sources.STAGE].items_in if sources.STAGE in report.stages else 0
    if listed != ledger.items:
        raise DoesNotReconcile(f"{listed} items were listed, the ledger has {ledger.items}")


def run_report(report: RunReport, ledger: LedgerCounts, config: Mapping[str, Any]) -> dict[str, Any]:
    """Contents of run.json."""
    read = report.stages[fetch.STAGE].items_in if fetch.STAGE in report.stages else 0
    return {
        "finished": utc_now().isoformat(),
        "items": dataclasses.asdict(ledger),
        "stages": {name: dataclasses.asdict(stage) for name, stage in report.stages.items()},
        "wall_seconds": round(report.wall_seconds, 3),
        "photos_per_second": round(read / report.wall_seconds, 2),
        "runner": report.runner,
        "workers": report.workers,
        "versions": versions(),
        "config": dict(config),
    }


def fingerprint(decides: Sequence[Any]) -> str:
    """12 hex digits over what decides a run's rows.

    Runs that would make the same rows share a staging folder by it, and go on with each other's work.
    """
    text = json.dumps([versions()["celebface"], *decides], default=dataclasses.asdict)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_json(uri: str, body: Mapping[str, Any]) -> None:
    """Writes a JSON file."""
    storage.write_bytes(uri, (json.dumps(body, indent=2, sort_keys=True) + "\n").encode())


def versions() -> dict[str, str]:
    """Versions of what decides a run's results."""
    packages = ("celebface", "apache-beam", "keras", "mtcnn", "annoy", "numpy", "pillow", "pyarrow")
    found = {name: importlib.metadata.version(name) for name in packages}
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            found["tensorflow"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**found, "python": platform.python_version()}


def utc_now() -> datetime.datetime:
    """The time, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
