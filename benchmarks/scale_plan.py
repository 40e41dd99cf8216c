"""The tables of docs/scale.md, and its chart, from the results of `scale` and of other benchmarks that are stored.

Every number is measured, or follows from measured ones by a rule that is stated here: a line or a power through the
sizes measured, a simulation, or the formulas of `scale_model`.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import report, scale_model
from benchmarks.face_vectors import FACES_EACH
from benchmarks.scale_model import NIGHT_HOURS, Line, Power, Prices, Usage, fit_line, fit_power
from celebface.indexing import build, rates
from celebface.models import weights
from celebface.pipelines import figures
from celebface.transforms import shard, stage
from celebface.transforms.web.policy import FetchPolicy

PHOTOS = (10**6, 10**8, 10**9)
FACES = (10**6, 10**7, 10**8, 10**9)
WORKER_GB = 3.0  # what a local run counts on for each of its workers
RANKS = 5  # rows of the matches for each face
PHOTOS_PER_SHARD = 20_000  # of a match job, where the number of shards is chosen well
REQUESTS_PER_OPEN = 3  # of a store for a part: its end, its table of contents, a batch
_MIX = {"lfw": 1802, "sample": 118, "large": 80}  # the set `mixed` of the benchmarks
_SEED = 11

_WORK = ("read", "decode", "detect", "crop", "encode", "match", "stage")

Table = list[list[str]]


# --- what one costs ---------------------------------------------------------------------------------------------------


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
      uses: Uses of storage that grow with the photos.
      peak_gb: Most memory of a worker that is also the driver, and of its reading process.
    """

    seconds: Line
    faces: float
    stages: Mapping[str, float]
    shuffled: Mapping[str, float]
    staged: float
    results: Mapping[str, float]
    uses: Mapping[str, float]
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
    stages["all else"] = seconds.each - sum(stages.values())
    return Each(
        seconds,
        large["faces"] / large["photos"],
        stages,
        grown(lambda run: _by_step(run["counts"]["shuffled"])),
        grown(lambda run: run["counts"]["written"])["part"],
        grown(lambda run: run["results"]),
        grown(lambda run: run["counts"]["uses"]),
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
        runs = _stored("scaling")["runs"]["several_workers"]
        return float(np.mean([run["busy_cores"] / run["photos_per_s"] for run in runs]))
    throughput = _stored("throughput")
    cores = int(throughput["machine"].split()[0])
    return float(cores / throughput["sets"][name]["celebface"]["whole"]["photos_per_s"])


def _stored(name: str) -> Any:
    return json.loads((report.FOLDER / f"{name}.json").read_text())


def _line(rows: Sequence[Mapping[str, float]], x: str, y: str) -> Line:
    return fit_line([row[x] for row in rows], [row[y] for row in rows])


def _power(rows: Sequence[Mapping[str, float]], x: str, y: str) -> Power:
    return fit_power([row[x] for row in rows], [row[y] for row in rows])


@dataclasses.dataclass(frozen=True)
class Gallery:
    """What faces cost in a gallery.

    Attributes:
      build: Processor seconds of an index, by kind.
      tune: To find its effort.
      probe: To ask it for a face, once it is worth asking.
      index: Bytes of a face in the index's own files, by kind.
      vectors: Likewise of the vectors.
      labels: Likewise of the labels.
      shards: Likewise of the shards, ledger and all.
      truth: Processor seconds to know what is right, of 1,000 probes.
      opened: Bytes of memory of an opened gallery.
      opening: Processor seconds to open it, without the check of its files.
      judged: The audit's one worker, by people.
      hashed: Processor seconds to read a byte for its sha256.
    """

    build: Mapping[str, Power]
    tune: Mapping[str, Power]
    probe: Mapping[str, Power]
    index: Mapping[str, float]
    vectors: float
    labels: float
    shards: float
    truth: Line
    opened: Line
    opening: Line
    judged: Power
    hashed: float

    def files(self, kind: str) -> float:
        """Bytes of a face in all files that a worker has who searches."""
        return self.index[kind] + self.vectors + self.labels


def gallery(results: Mapping[str, Any]) -> Gallery:
    """What faces cost."""
    rows = results["index"]
    largest = rows[-1]
    built, tuned, asked, index = {}, {}, {}, {}
    for kind in largest["kinds"]:
        mine = [{"faces": row["faces"], **row["kinds"][kind]} for row in rows]
        index[kind] = mine[-1]["bytes"] / mine[-1]["faces"]
        worth = [row for row in mine if row["by_index"] or kind == "exact"]
        if len(worth) > 1:
            asked[kind] = _power(worth, "faces", "probe_seconds")
        if kind != "exact":
            built[kind] = _power(mine, "faces", "build_seconds")
            tuned[kind] = _power([row for row in mine if row["tune_seconds"] > 0.01], "faces", "tune_seconds")
    opens = [{"faces": row["faces"], **row["open"]} for row in rows]
    one_build = each(results, "build", "lfw")
    (checked,) = results["checksum"]
    return Gallery(
        built,
        tuned,
        asked,
        index,
        largest["vectors"]["bytes"] / largest["faces"],
        largest["labels"]["bytes"] / largest["faces"],
        sum(one_build.results.get(table, 0.0) for table in ("faces", "ledger", "repeats", "quarantined", "audit")),
        _line(rows, "faces", "truth_seconds"),
        _line(opens, "faces", "memory"),
        _line(opens, "faces", "seconds"),
        _power(results["audit"], "people", "seconds"),
        checked["seconds"] / checked["bytes"],
    )


# --- what breaks first ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Limit:
    """Something that does not get faster with more workers, or that one worker must hold.

    Attributes:
      name: What.
      unit: "h" of one worker or of the driver, "GB" of its memory, or "GB disk".
      of: How much of it so many photos or faces take.
      bound: What can be had.
      moves: What moves the limit.
    """

    name: str
    unit: str
    of: Callable[[float], float]
    bound: float
    moves: str

    def reached(self) -> float:
        """So many photos or faces reach the bound; infinite if none do."""
        low, high = 1.0, 1e13
        if self.of(high) < self.bound:
            return math.inf
        for _ in range(100):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.of(middle) < self.bound else (low, middle)
        return high


def match_limits(results: Mapping[str, Any]) -> list[Limit]:
    """Of a match job of photos with one face each, by photos."""
    rows = results["match shard"]
    memory, seconds = _line(rows, "photos", "memory"), _line(rows, "photos", "seconds")
    ledger, table = _line(rows, "photos", "ledger_seconds"), _line(rows, "photos", "csv_seconds")
    listing, driver = (
        _line(results["listing"], "photos", "listing_seconds"),
        _line(results["listing"], "photos", "memory"),
    )
    opened = each(results, "match", "lfw")
    night = NIGHT_HOURS

    def amplified(photos: float) -> float:
        return opened.staged * photos * scale_model.read_parts(photos, 1, stage.ITEMS_PER_PART, _per_slice()).rows / 1e9

    return [
        Limit("one shard: GB read from a store", "GB read", amplified, 1000, "`--num_shards`, photos / 20,000"),
        Limit("one shard: its worker's memory", "GB", lambda n: memory.at(n) / 1e9, WORKER_GB, "`--num_shards`"),
        Limit("one shard: its worker's time", "h", lambda n: seconds.at(n) / 3600, night, "`--num_shards`"),
        Limit(
            "references in a local run's driver",
            "GB",
            lambda n: driver.at(n) / 1e9,
            WORKER_GB,
            "another engine than the local",
        ),
        Limit(
            "all photos on one host, at 8 a second",
            "h",
            lambda n: n / FetchPolicy().host_rate / 3600,
            night,
            "`--host_rate`, if the host agrees; `--host_workers`",
        ),
        Limit("`matches.csv`, written by the driver", "h", lambda n: table.at(n) / 3600, night, "nothing today"),
        Limit("the ledger, counted by the driver", "h", lambda n: ledger.at(n) / 3600, night, "nothing today"),
        Limit("listing, by one worker", "h", lambda n: listing.at(n) / 3600, night, "several jobs, a folder each"),
    ]


def _per_slice() -> float:
    return shard._IN_HAND / 2  # photos with one face


def gallery_limits(results: Mapping[str, Any]) -> list[Limit]:
    """Of a gallery of ten faces a person, by faces; all with the flags' defaults where nothing else is said."""
    costs = gallery(results)
    rows, night = results["gallery shard"], NIGHT_HOURS
    memory, seconds = _line(rows, "faces", "memory"), _line(rows, "faces", "seconds")
    counted = _line(rows, "faces", "count_memory")
    near = _power(results["near duplicates"], "photos", "seconds")
    people = _line(results["audit"], "people", "memory")
    shards, per_part = 4, build._FACES_PER_PART

    def part(faces: float) -> float:
        return max(min(faces, per_part), faces / shards)

    return [
        Limit(
            "one of 4 shards: its worker's memory",
            "GB",
            lambda n: memory.at(n / shards) / 1e9,
            WORKER_GB,
            "`--num_shards`, faces / 50,000",
        ),
        Limit(
            "one of 4 shards: its worker's time", "h", lambda n: seconds.at(n / shards) / 3600, night, "`--num_shards`"
        ),
        Limit(
            "photos of one person, looked through for near-duplicates",
            "h",
            lambda n: near.at(n) / 3600,
            night,
            "`--near_duplicates none`",
        ),
        Limit(
            "a part of an hnsw index, of 4",
            "h",
            lambda n: costs.build["hnsw"].at(part(n)) / 3600,
            night,
            "`--num_shards`: parts are at most as many",
        ),
        Limit(
            "the audit's one worker: time",
            "h",
            lambda n: costs.judged.at(n / FACES_EACH) / 3600,
            night,
            "`--audit off`",
        ),
        Limit(
            "the audit's one worker: memory",
            "GB",
            lambda n: people.at(n / FACES_EACH) / 1e9,
            WORKER_GB,
            "`--audit off`",
        ),
        Limit(
            "what is right for recall, in the driver", "h", lambda n: costs.truth.at(n) / 3600, night, "nothing today"
        ),
        Limit(
            "people counted for calibration, in the driver",
            "GB",
            lambda n: counted.at(n) / 1e9,
            WORKER_GB,
            "nothing today",
        ),
        Limit(
            "sha256 of all files, twice, in the driver",
            "h",
            lambda n: 2 * costs.hashed * (costs.shards + costs.files("hnsw")) * n / 3600,
            night,
            "nothing today",
        ),
        Limit(
            "each worker's copy of the index: disk",
            "GB disk",
            lambda n: costs.files("hnsw") * n / 1e9,
            100,
            "several galleries, each asked",
        ),
        Limit(
            "each worker's check of its copy when it starts",
            "h",
            lambda n: costs.hashed * costs.files("hnsw") * n / 3600,
            0.25,
            "several galleries, each asked",
        ),
        Limit(
            "a worker's memory for who is on which face",
            "GB",
            lambda n: costs.opened.at(n) / 1e9,
            WORKER_GB,
            "several galleries, each asked",
        ),
    ]


# --- how much ---------------------------------------------------------------------------------------------------------


def match_usage(one: Each, photos: float, seconds: float) -> Usage:
    """What a match job takes whose number of shards is chosen well.

    Args:
      one: What a photo costs.
      photos: How many.
      seconds: Processor time of each.
    """
    shards = max(1, round(photos / PHOTOS_PER_SHARD))
    opens = scale_model.read_parts(photos, shards, stage.ITEMS_PER_PART, shard._IN_HAND / (1 + one.faces)).opens
    tables = 2 + len(("photos", "faces"))
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
        writes=faces / stage.ITEMS_PER_PART + 2 * 5 * faces / 50_000,
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def tables(results: Mapping[str, Any], prices: Prices) -> dict[str, Table]:
    """All tables of the page, by name; the first row of each is its head."""
    return {
        "photo": _photo(results),
        "bytes": _bytes(results),
        "alone": _alone(results),
        "index": _index(results),
        "audit": _audit(results),
        "stragglers": _stragglers(results),
        "hosts": _hosts(),
        "parts": _parts(results),
        "accuracy": _accuracy(results),
        "match": _match(results, prices),
        "gallery": _gallery(results, prices),
        "match limits": _limits(match_limits(results), PHOTOS),
        "gallery limits": _limits(gallery_limits(results), FACES),
    }


_WAYS = (("match", "lfw"), ("match", "large"), ("build", "lfw"))


def _photo(results: Mapping[str, Any]) -> Table:
    columns = [each(results, *way) for way in _WAYS]
    rows = [["ms of processor time", "match, 250 px", "match, large", "build-gallery, 250 px"]]
    for name in dict.fromkeys(name for column in columns for name in column.stages):
        rows.append(
            [name, *(f"{1000 * column.stages[name]:.1f}" if name in column.stages else "" for column in columns)]
        )
    rows.append(["**a photo**", *(f"**{1000 * column.seconds.each:.0f}**" for column in columns)])
    rows.append(["before the first photo, s", *(f"{column.seconds.fixed:.0f}" for column in columns)])
    rows.append(["peak of worker and its reader, GiB", *(f"{column.peak_gb:.1f}" for column in columns)])
    fast = [f"{1000 * in_hardware('lfw'):.1f}", f"{1000 * in_hardware('large'):.0f}", ""]
    rows.append(["a photo, on a processor with AMX, in bfloat16", *fast])
    return rows


def _bytes(results: Mapping[str, Any]) -> Table:
    columns = [each(results, *way) for way in _WAYS]
    rows = [["a photo", "match, 250 px", "match, large", "build-gallery, 250 px"]]
    rows.append(["faces", *(f"{column.faces:.2f}" for column in columns)])
    rows.append(["its own bytes", *(_size(results["photos"][way[1]]["bytes"]) for way in _WAYS)])
    steps = dict.fromkeys(step for column in columns for step in column.shuffled)
    for step in steps:
        sizes = [column.shuffled.get(step, 0.0) for column in columns]
        if max(sizes) >= 1:
            rows.append([f"shuffle `{step}`", *(f"{size:,.0f}" if size else "" for size in sizes)])
    rows.append(["**all shuffles**", *(f"**{sum(column.shuffled.values()):,.0f}**" for column in columns)])
    rows.append(["parts, written and read", *(_size(column.staged) for column in columns)])
    for table in dict.fromkeys(table for column in columns for table in column.results):
        sizes = [column.results.get(table, 0.0) for column in columns]
        if max(sizes) >= 50:
            rows.append([f"results, `{table}`", *(_size(size) if size >= 1 else "" for size in sizes)])
    return rows


def _alone(results: Mapping[str, Any]) -> Table:
    """What is done in one place, for each photo or face."""
    listing, probes, faces = results["listing"], results["match shard"], results["gallery shard"]
    rows = [["", "µs each", "bytes of memory each", "measured at"]]

    def add(what: str, measured: Sequence[Mapping[str, float]], unit: str, seconds: str, memory: str = "") -> None:
        at = ", ".join(f"{row[unit]:,.0f}" for row in measured)
        each_second = 1e6 * _line(measured, unit, seconds).each
        rows.append([what, f"{each_second:,.0f}", f"{_line(measured, unit, memory).each:,.0f}" if memory else "", at])

    add("a photo listed", listing, "photos", "listing_seconds")
    add("a photo listed, looked up among the parts, spread (local engine)", listing, "photos", "seconds", "memory")
    add("a photo of a match job: its shard written", probes, "photos", "seconds", "memory")
    add("its ledger row counted, in the driver", probes, "photos", "ledger_seconds")
    add("its five rows of the CSV, in the driver", probes, "photos", "csv_seconds")
    add("a face of a gallery: its shard read whole, audited, written", faces, "faces", "seconds", "memory")
    add("its person counted for calibration, in the driver", faces, "faces", "count_seconds", "count_memory")
    return rows


def _index(results: Mapping[str, Any]) -> Table:
    rows = [["", *(f"{row['faces']:,}" for row in results["index"]), "fit", "off by", "at 10^6", "measured, 10^6"]]
    earlier = {row["index"]: row for row in _stored("index")["faces"]["1000000"]["rows"]}
    costs = gallery(results)
    for kind in ("annoy", "hnsw"):
        mine = [row["kinds"][kind] for row in results["index"]]
        fit = costs.build[kind]
        shown = [f"{row['build_seconds']:.1f}" for row in mine]
        rows.append(
            [
                f"{kind}: build, s",
                *shown,
                *_fitted(fit),
                f"{fit.at(1e6):,.0f}",
                f"{earlier[kind]['build_seconds']:,.0f}",
            ]
        )
    for kind in ("exact", "annoy", "hnsw"):
        mine = [row["kinds"][kind] for row in results["index"]]
        shown = [
            f"{1000 * row['probe_seconds']:.2f}" + ("" if row["by_index"] or kind == "exact" else "*") for row in mine
        ]
        found = costs.probe.get(kind)
        fit_cells = [*_fitted(found), f"{1000 * found.at(1e6):.1f}"] if found else ["", "", ""]
        rows.append([f"{kind}: a probe, ms", *shown, *fit_cells, f"{2000 / earlier[kind]['per_s_128']:.1f}"])
    for kind in ("annoy", "hnsw"):
        mine = [row["kinds"][kind] for row in results["index"]]
        rows.append(
            [f"{kind}: effort", *(f"{row['effort']}" for row in mine), "", "", "", f"{earlier[kind]['effort']}"]
        )
        rows.append(
            [
                f"{kind}: recall@1",
                *(f"{row['recall_at_1']:.3f}" for row in mine),
                "",
                "",
                "",
                f"{earlier[kind]['recall_at_1']:.3f}",
            ]
        )
        sizes = [row["kinds"][kind]["bytes"] / row["faces"] for row in results["index"]]
        rows.append([f"{kind}: its files, bytes a face", *(f"{size:,.0f}" for size in sizes), "", "", "", ""])
    truth = [row["truth_seconds"] for row in results["index"]]
    rows.append(
        [
            "what is right, 1,000 probes, s",
            *(f"{seconds:.2f}" for seconds in truth),
            "line",
            "",
            f"{costs.truth.at(1e6):.1f}",
            "",
        ]
    )
    opened = [f"{row['open']['memory'] / row['faces']:,.0f}" for row in results["index"]]
    rows.append(["opened: memory, bytes a face", *opened, "", "", "", ""])
    both = [f"{(row['labels']['bytes'] + row['vectors']['bytes']) / row['faces']:,.0f}" for row in results["index"]]
    rows.append(["vectors and labels, bytes a face", *both, "", "", "", ""])
    return rows


def _fitted(fit: Power) -> list[str]:
    return [f"n^{fit.exponent:.2f}", f"{fit.error:.0%}"]


def _audit(results: Mapping[str, Any]) -> Table:
    people, near = results["audit"], results["near duplicates"]
    judged, found = _power(people, "people", "seconds"), _power(near, "photos", "seconds")
    return [
        ["", *("" for _ in people), "fit", "off by"],
        ["people judged", *(f"{row['people']:,}" for row in people), "", ""],
        ["seconds", *(f"{row['seconds']:.1f}" for row in people), *_fitted(judged)],
        ["photos of one person", *(f"{row['photos']:,}" for row in near), "", ""],
        ["near-duplicates, s", *(f"{row['seconds']:.1f}" for row in near), *_fitted(found)],
    ]


def mixed_costs(results: Mapping[str, Any], count: int, rng: np.random.Generator) -> np.ndarray:
    """Processor seconds of photos of all sorts, float [N], drawn from those that were measured one by one."""
    names = list(_MIX)
    shares = np.array([_MIX[name] for name in names], float)
    which = rng.choice(len(names), count, p=shares / shares.sum())
    costs = np.empty(count)
    for number, name in enumerate(names):
        mine = np.flatnonzero(which == number)
        costs[mine] = rng.choice(results["photos"][name]["alone"], len(mine))
    return costs


def _stragglers(results: Mapping[str, Any]) -> Table:
    rng = np.random.default_rng(_SEED)
    costs = mixed_costs(results, 10**6, rng)
    rows = [
        [
            "workers",
            "photos each",
            "dealt out evenly",
            "8 at a time",
            "500 at a time",
            "dealt out, 5 % slow",
            "500 at a time, 5 % slow",
        ]
    ]
    for workers in (2, 16, 100, 1000):
        even, slow = np.ones(workers), scale_model.some_slow(workers)
        figures_ = [
            scale_model.dealt_out(costs, even),
            scale_model.taken(costs, even, 8),
            scale_model.taken(costs, even, 500),
            scale_model.dealt_out(costs, slow),
            scale_model.taken(costs, slow, 500),
        ]
        rows.append([f"{workers:,}", f"{len(costs) // workers:,}", *(f"{figure:.2f}" for figure in figures_)])
    return rows


def _hosts() -> Table:
    rate = FetchPolicy().host_rate
    rows = [["photos", "hosts", "Zipf", "largest host", "until it is through", "had after a night", "after a week"]]
    for photos, hosts, exponent in (
        (1e6, 1, 1.0), (1e6, 10_000, 1.0), (1e8, 10**6, 0.8), (1e8, 10**6, 1.0), (1e9, 10**6, 0.8), (1e9, 10**6, 1.0)
    ):  # fmt: skip
        found = scale_model.ask_hosts(photos, hosts, exponent, rate)
        law = f"{exponent:g}" if hosts > 1 else ""
        ends = [f"{found.days:,.1f} days", f"{found.after_a_night:.0%}", f"{found.after_a_week:.0%}"]
        rows.append([_count(photos), f"{hosts:,}", law, _count(found.largest), *ends])
    return rows


def _parts(results: Mapping[str, Any]) -> Table:
    staged = each(results, "match", "lfw").staged
    rows = [["photos", "`--num_shards`", "parts opened, a photo", "rows read for one", "read from a store"]]
    for photos, shards in ((1e6, 1), (1e6, 50), (1e8, 1), (1e8, 100), (1e8, 5_000), (1e9, 50_000)):
        found = scale_model.read_parts(photos, shards, stage.ITEMS_PER_PART, _per_slice())
        size = _size(found.rows * staged * photos)
        rows.append([_count(photos), f"{shards:,}", f"{found.opens:.2f}", f"{found.rows:,.1f}", size])
    return rows


def _accuracy(results: Mapping[str, Any]) -> Table:
    tail = rates.Tail.through([dataclasses.asdict(point) for point in weights._OPERATING_POINTS], "")
    assert tail
    own = np.array(results["build lfw"][-1]["own_distances"])
    rows = [["faces", "people", "tau for 1 % of strangers", "pairs of one person within it"]]
    for faces in (10**4, *FACES):
        people = faces / FACES_EACH
        tau = tail.tau(0.01, people * rates.comparisons([FACES_EACH]))
        rows.append([_count(faces), _count(people), f"{tau:.2f}" if tau > 0 else "none", f"{(own <= tau).mean():.0%}"])
    return rows


def _match(results: Mapping[str, Any], prices: Prices) -> Table:
    rows = [
        [
            "photos",
            "",
            "worker hours",
            "workers for 8 h",
            "results",
            "parts",
            "shuffles",
            "reads",
            "price",
            "with AMX: hours",
            "price",
        ]
    ]
    for photos in PHOTOS:
        for name, label in (("lfw", "250 px"), ("large", "large")):
            one = each(results, "match", name)
            usage, fast = (match_usage(one, photos, seconds) for seconds in (one.seconds.each, in_hardware(name)))
            rows.append(
                [_count(photos), label, *_used(usage, prices), f"{fast.hours:,.0f}", f"{fast.price(prices):,.0f}"]
            )
    return rows


def _used(usage: Usage, prices: Prices) -> list[str]:
    return [
        f"{usage.hours:,.0f}",
        f"{usage.workers_for_a_night:,}",
        _size(usage.stored_gb * 1e9),
        _size(usage.staged_gb * 1e9),
        _size(usage.shuffle_gb * 1e9),
        _count(usage.reads),
        f"{usage.price(prices):,.0f}",
    ]


def _gallery(results: Mapping[str, Any], prices: Prices) -> Table:
    one, costs = each(results, "build", "lfw"), gallery(results)
    rows = [
        ["faces", "worker hours", "workers for 8 h", "gallery", "parts", "shuffles", "reads", "price",
         "of the hours, hnsw", "index parts", "index on each worker", "a probe, ms", "audit, h", "driver, h"]
    ]  # fmt: skip
    for faces in FACES:
        usage = build_usage(one, costs, faces, one.seconds.each)
        parts = max(1, math.ceil(faces / build._FACES_PER_PART))
        index_hours = parts * costs.build["hnsw"].at(faces / parts) / 3600
        driver = costs.truth.at(faces) + 2 * costs.hashed * usage.stored_gb * 1e9
        probe = parts * costs.probe["hnsw"].at(faces / parts)
        rows.append(
            [_count(faces), *_used(usage, prices), f"{index_hours:,.1f}", f"{parts}",
             _size(faces * costs.files("hnsw")),
             f"{1000 * probe:,.1f}", f"{costs.judged.at(faces / FACES_EACH) / 3600:,.1f}", f"{driver / 3600:,.1f}"]
        )  # fmt: skip
    return rows


def _limits(limits: Sequence[Limit], sizes: Sequence[int]) -> Table:
    rows = [["what", "enough for", "bound", *(f"at {_count(size)}" for size in sizes), "what moves it"]]
    for limit in sorted(limits, key=Limit.reached):
        unit = limit.unit.split()[0]
        shown = [f"{_number(limit.of(size))} {unit}" for size in sizes]
        rows.append([limit.name, _count(limit.reached()), f"{limit.bound:g} {limit.unit}", *shown, limit.moves])
    return rows


def _count(value: float) -> str:
    """A count in two digits: 1,500, 2.1 million, 10^8."""
    if not math.isfinite(value):
        return "any"
    exponent = round(math.log10(value))
    if value >= 1e6 and math.isclose(value, 10**exponent, rel_tol=1e-3):
        return f"10^{exponent}"
    for size, word in ((1e12, " million million"), (1e9, " billion"), (1e6, " million")):
        if value >= size:
            return f"{value / size:,.2g}{word}" if value < 10 * size else f"{value / size:,.0f}{word}"
    return f"{float(f'{value:.2g}'):,.0f}"


def _size(value: float) -> str:
    for size, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.1f} {unit}" if value < 10 * size else f"{value / size:,.0f} {unit}"
    return f"{value:.0f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def markdown(table: Table) -> str:
    """A table as Markdown."""
    head, *rows = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([head, "|" + "---|" * len(table[0]), *rows])


def show(results: Mapping[str, Any], prices: Prices) -> None:
    """Prints all tables."""
    for name, table in tables(results, prices).items():
        print(f"\n{name}\n\n{markdown(table)}")


def fill(page: pathlib.Path, results: Mapping[str, Any], prices: Prices) -> None:
    """Puts the tables into a page, between <!-- NAME --> and <!-- end -->."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables(results, prices).items():
        before, found, rest = text.partition(f"<!-- {name} -->\n")
        if found:
            text = before + found + markdown(table) + "\n" + rest[rest.index("<!-- end -->") :]
    page.write_text(text, encoding="utf-8")


# --- the chart --------------------------------------------------------------------------------------------------------


def draw(results: Mapping[str, Any]) -> bytes:
    """What one worker or the driver must do alone, in hours, by photos and by faces; a PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    sides = (
        ("A match job", "photos", match_limits(results), 1e5),
        ("A gallery, ten faces a person", "faces", gallery_limits(results), 1e5),
    )
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(12, 5), layout="constrained")
        for axes, (title, unit, limits, first) in zip(figure.subplots(1, 2), sides, strict=True):
            sizes = np.geomspace(first, 1e9, 100)
            colours = [figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE, figures.BLACK, "#56B4E9", "#E69F00"]
            timed = sorted((limit for limit in limits if limit.unit == "h"), key=Limit.reached)
            for number, limit in enumerate(timed):
                hours = [limit.of(size) for size in sizes]
                name = f"{limit.name} ({_count(limit.reached())})".replace("`", "")
                axes.plot(
                    sizes,
                    hours,
                    color=colours[number % len(colours)],
                    label=name,
                    linestyle="-" if number < 4 else "--",
                )
            axes.axhline(NIGHT_HOURS, color=figures.BLACK, linewidth=1, linestyle=":")
            axes.annotate("a night, 8 h", (first, NIGHT_HOURS), xytext=(4, 3), textcoords="offset points", fontsize=8)
            axes.set(
                xscale="log",
                yscale="log",
                xlim=(first, 1e9),
                ylim=(1e-3, 1e5),
                xlabel=unit,
                ylabel="hours of one processor",
            )
            axes.set_title(f"{title}: what does not spread over workers")
            axes.grid(which="major", color=figures.GRID, linewidth=0.5)
            axes.legend(
                loc="upper left", fontsize=7, frameon=True, title=f"(enough for so many {unit})", title_fontsize=7
            )
        return figures.png(figure)
