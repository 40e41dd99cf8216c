"""What a run leaves beside its results: run.json, and the check that its numbers add up."""

import array
import collections
import dataclasses
import datetime
import hashlib
import importlib.metadata
import itertools
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from celebface.indexing import storage
from celebface.indexing.schemas import Status
from celebface.pipelines.execution import RunReport
from celebface.transforms import detect, encode, fetch, sources
from celebface.transforms.stage import RESUME

RUN_NAME = "run.json"
STAGING_PREFIX = ".staging-"


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
    for shard in shards(folder, "ledger"):
        for row in read_rows(shard, ["item_id", "status", "reason", "faces"]):
            ids.append(int(row["item_id"], 16))
            faces += row["faces"]
            statuses[row["status"]] += 1
            if row["reason"]:
                reasons[row["reason"]] += 1
    if len(ids) != len(np.unique(np.frombuffer(ids, np.uint64))):
        raise DoesNotReconcile("the ledger has two rows for one item")
    return LedgerCounts(len(ids), dict(statuses), dict(reasons), faces)


def reconcile(report: RunReport, ledger: LedgerCounts) -> None:
    """Holds the stages against each other and against the ledger.

    Raises:
      DoesNotReconcile: If an item was lost or doubled on the way.
    """
    stages = report.stages
    for name, stage in stages.items():
        gone = stage.items_in - stage.items_out - sum(stage.lost.values())
        if gone and name != RESUME:  # what that one does not hand on, an earlier run has done
            raise DoesNotReconcile(f"stage {name} took {stage.items_in} items and {gone} of them came to no end")
    way = [name for name in (sources.STAGE, RESUME, fetch.STAGE, detect.STAGE, encode.STAGE) if name in stages]
    for before, after in itertools.pairwise(way):
        given, taken = stages[before].items_out, stages[after].items_in
        if given != taken:
            raise DoesNotReconcile(f"stage {before} gave {given} items, stage {after} took {taken}")
    listed = stages[sources.STAGE].items_in if sources.STAGE in stages else 0
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


def staging_folder(target: str, decides: Sequence[Any]) -> str:
    """Where a run keeps its parts, beside what it makes.

    Runs that would make the same rows share it, and go on with each other's work.

    Args:
      target: URI of the folder that the run writes to.
      decides: All that decides its rows; the versions of the libraries are added.
    """
    text = json.dumps([versions(), *decides], default=dataclasses.asdict)
    return storage.join(target, f"{STAGING_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:12]}")


def write_json(uri: str, body: Mapping[str, Any]) -> None:
    """Writes a JSON file."""
    storage.write_bytes(uri, (json.dumps(body, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


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
