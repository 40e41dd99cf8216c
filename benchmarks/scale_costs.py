"""What a photo and a face cost, from the results of `scale` and of other benchmarks that are stored.

Every number is measured, or follows from measured ones by a rule that is stated here: a line or a power through the
sizes measured, or the formulas of `scale_model`.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import report, scale_model
from benchmarks.scale_model import Line, Power, Usage, fit_line, fit_power
from celebface.indexing import build, schemas
from celebface.transforms import shard, stage

WORKER_GB = 4.0  # for each processor, as general machines in clouds have
PHOTOS_PER_SHARD, FACES_PER_SHARD = 20_000, 50_000  # where the number of shards is chosen well
REQUESTS_PER_OPEN = 3  # of a store for a part: its end, its table of contents, a batch

_TABLES_OF_A_GALLERY = 5  # faces, ledger, repeats, quarantined, audit
_WORK = ("read", "decode", "detect", "crop", "encode", "match", "stage")


@dataclasses.dataclass(frozen=True)
class Each:
    """What a photo costs in a pipeline.

    Attributes:
      seconds: Processor time: what a run takes before the first, and each photo.
      faces: Of a photo.
      stages: Time by kind of work, as the run's one thread tells it; the rest is all that is not measured apart.
      shuffled: Bytes by grouping.
      staged: Bytes in parts.
      results: Bytes of the results, by table.
      peak_gb: Most memory of a worker that is also the driver, and of its reading process.
    """

    seconds: Line
    faces: float
    stages: Mapping[str, float]
    shuffled: Mapping[str, float]
    staged: float
    results: Mapping[str, float]
    peak_gb: float


def each(results: Mapping[str, Any], pipeline: str, photos: str) -> Each:
    """What a photo costs: by the difference of two sizes, and by stage."""
    small, large = results[f"{pipeline} {photos}"]
    more = large["photos"] - small["photos"]
    seconds = fit_line(
        [small["photos"], large["photos"]], [run["counts"]["processor_seconds"] for run in (small, large)]
    )

    def grown(of: Callable[[Mapping[str, Any]], Mapping[str, float]]) -> dict[str, float]:
        before, after = of(small), of(large)
        return {name: (count - before.get(name, 0)) / more for name, count in after.items()}

    spent = grown(lambda run: {work: took for stage in run["seconds"].values() for work, took in stage.items()})
    stages = {work: max(0.0, spent[work]) for work in _WORK if work in spent}  # writing is too quick for a clock
    stages["all else"] = max(0.0, seconds.each - sum(stages.values()))  # stages are by the clock, the sum is not
    return Each(
        seconds,
        large["faces"] / large["photos"],
        stages,
        grown(lambda run: _by_step(run["counts"]["shuffled"])),
        grown(lambda run: run["counts"]["written"])["part"],
        grown(lambda run: run["results"]),
        large["counts"]["peak_bytes"] / 2**30,
    )


def _by_step(shuffled: Mapping[str, float]) -> dict[str, float]:
    """Bytes by the steps as they are named in `build`."""
    found: dict[str, float] = {}
    for name, count in shuffled.items():
        words = name.split("AppliedPTransform_")[-1].rsplit("_", 1)[0].split("-")
        step = " ".join(word for word in words[:2] if "GroupBy" not in word and "Reshuffle" not in word)
        found[step] = found.get(step, 0.0) + count
    return found


def in_hardware(name: str) -> float:
    """Processor seconds of a photo on a processor with AMX, by results stored earlier."""
    if name == "lfw":
        runs = stored("scaling")["runs"]["several_workers"]
        return float(np.mean([run["busy_cores"] / run["photos_per_s"] for run in runs]))
    throughput = stored("throughput")
    cores = int(throughput["machine"].split()[0])
    return float(cores / throughput["sets"][name]["celebface"]["whole"]["photos_per_s"])


def stored(name: str) -> Any:
    """The results of a benchmark, as `report.store` left them."""
    return json.loads((report.FOLDER / f"{name}.json").read_text())


def line_through(rows: Sequence[Mapping[str, float]], x: str, y: str) -> Line:
    """The line through measurements, by the names of x and y."""
    return fit_line([row[x] for row in rows], [row[y] for row in rows])


def power_through(rows: Sequence[Mapping[str, float]], x: str, y: str) -> Power:
    """The power through measurements, by the names of x and y."""
    return fit_power([row[x] for row in rows], [row[y] for row in rows])


@dataclasses.dataclass(frozen=True)
class Gallery:
    """What faces cost in a gallery.

    Attributes:
      build: Processor seconds of an index, by kind.
      probe: To ask it for a face, once it is worth asking.
      index: Bytes of a face in the index's own files, by kind.
      vectors: Likewise of the vectors.
      labels: Likewise of the labels.
      shards: Likewise of the shards, ledger and all.
      truth: Processor seconds to know what is right, of 1,000 probes.
      opened: Bytes of memory of an opened gallery.
      judged: The audit's one worker, by people.
      hashed: Processor seconds to read a byte for its sha256.
    """

    build: Mapping[str, Power]
    probe: Mapping[str, Power]
    index: Mapping[str, float]
    vectors: float
    labels: float
    shards: float
    truth: Line
    opened: Line
    judged: Power
    hashed: float

    def files(self, kind: str) -> float:
        """Bytes of a face in all files that a worker has who searches."""
        return self.index[kind] + self.vectors + self.labels


def gallery(results: Mapping[str, Any]) -> Gallery:
    """What faces cost."""
    rows = results["index"]
    largest = rows[-1]
    built, asked, index = {}, {}, {}
    for kind in largest["kinds"]:
        mine = [{"faces": row["faces"], **row["kinds"][kind]} for row in rows]
        index[kind] = mine[-1]["bytes"] / mine[-1]["faces"]
        worth = [row for row in mine if row["by_index"] or kind == "exact"]
        if len(worth) > 1:
            asked[kind] = power_through(worth, "faces", "probe_seconds")
        if kind != "exact":
            built[kind] = power_through(mine, "faces", "build_seconds")
    opens = [{"faces": row["faces"], **row["open"]} for row in rows]
    one_build = each(results, "build", "lfw")
    (checked,) = results["checksum"]
    return Gallery(
        built,
        asked,
        index,
        largest["vectors"]["bytes"] / largest["faces"],
        largest["labels"]["bytes"] / largest["faces"],
        sum(one_build.results.get(table, 0.0) for table in ("faces", "ledger", "repeats", "quarantined", "audit")),
        line_through(rows, "faces", "truth_seconds"),
        line_through(opens, "faces", "memory"),
        power_through(results["audit"], "people", "seconds"),
        checked["seconds"] / checked["bytes"],
    )


def match_usage(one: Each, photos: float, seconds: float) -> Usage:
    """What a match job takes whose number of shards is chosen well.

    Args:
      one: What a photo costs.
      photos: How many.
      seconds: Processor time of each.
    """
    shards = max(1, round(photos / PHOTOS_PER_SHARD))
    opens = scale_model.read_parts(photos, shards, stage.ITEMS_PER_PART, shard._IN_HAND / (1 + one.faces)).opens
    tables = 2 + len(schemas.BESIDE_MATCHES)  # matches and ledger
    return Usage(
        hours=photos * seconds / 3600,
        memory_gb=WORKER_GB,
        shuffle_gb=photos * sum(one.shuffled.values()) / 1e9,
        stored_gb=photos * sum(one.results.values()) / 1e9,
        staged_gb=photos * one.staged / 1e9,
        reads=photos * (1 + opens * REQUESTS_PER_OPEN),
        writes=photos / stage.ITEMS_PER_PART + 2 * shards * tables,  # shards are copied at the end
    )


def build_usage(one: Each, costs: Gallery, faces: float, seconds: float) -> Usage:
    """What a gallery of so many faces takes, all that can be spread over workers; with an hnsw index in parts."""
    parts = max(1, math.ceil(faces / build._FACES_PER_PART))
    index = parts * costs.build["hnsw"].at(faces / parts)
    return Usage(
        hours=(faces * seconds + index) / 3600,
        memory_gb=WORKER_GB,
        shuffle_gb=faces * sum(one.shuffled.values()) / 1e9,
        stored_gb=faces * (costs.shards + costs.files("hnsw")) / 1e9,
        staged_gb=faces * one.staged / 1e9,
        reads=faces * (1 + 2 * REQUESTS_PER_OPEN),  # summed up, and written
        writes=faces / stage.ITEMS_PER_PART + 2 * _TABLES_OF_A_GALLERY * faces / FACES_PER_SHARD,
    )
