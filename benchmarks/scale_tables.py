"""The tables of docs/scale.md."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import scale_model
from benchmarks.face_vectors import FACES_EACH
from benchmarks.scale_costs import (
    build_usage,
    each,
    gallery,
    in_hardware,
    line_through,
    match_usage,
    power_through,
    stored,
)
from benchmarks.scale_limits import Limit, gallery_limits, match_limits, photos_per_slice
from benchmarks.scale_model import Power, Prices, Usage
from celebface.indexing import build, rates
from celebface.models import weights
from celebface.transforms import stage
from celebface.transforms.web.policy import FetchPolicy

PHOTOS = (10**6, 10**8, 10**9)
FACES = (10**6, 10**7, 10**8, 10**9)
_MIX = {"lfw": 1802, "sample": 118, "large": 80}  # the set `mixed` of the benchmarks
_SEED = 11

Table = list[list[str]]


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
        each_second = 1e6 * line_through(measured, unit, seconds).each
        rows.append(
            [what, f"{each_second:,.0f}", f"{line_through(measured, unit, memory).each:,.0f}" if memory else "", at]
        )

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
    earlier = {row["index"]: row for row in stored("index")["faces"]["1000000"]["rows"]}
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
    judged, found = power_through(people, "people", "seconds"), power_through(near, "photos", "seconds")
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
        rows.append([count(photos), f"{hosts:,}", law, count(found.largest), *ends])
    return rows


def _parts(results: Mapping[str, Any]) -> Table:
    staged = each(results, "match", "lfw").staged
    rows = [["photos", "`--num_shards`", "parts opened, a photo", "rows read for one", "read from a store"]]
    for photos, shards in ((1e6, 1), (1e6, 50), (1e8, 1), (1e8, 100), (1e8, 5_000), (1e9, 50_000)):
        found = scale_model.read_parts(photos, shards, stage.ITEMS_PER_PART, photos_per_slice())
        size = _size(found.rows * staged * photos)
        rows.append([count(photos), f"{shards:,}", f"{found.opens:.2f}", f"{found.rows:,.1f}", size])
    return rows


def _accuracy(results: Mapping[str, Any]) -> Table:
    tail = rates.Tail.through([dataclasses.asdict(point) for point in weights._OPERATING_POINTS], "")
    assert tail
    own = np.array(results["build lfw"][-1]["own_distances"])
    rows = [["faces", "people", "tau for 1 % of strangers", "pairs of one person within it"]]
    for faces in (10**4, *FACES):
        people = faces / FACES_EACH
        tau = tail.tau(0.01, people * rates.comparisons([FACES_EACH]))
        rows.append([count(faces), count(people), f"{tau:.2f}" if tau > 0 else "none", f"{(own <= tau).mean():.0%}"])
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
                [count(photos), label, *_used(usage, prices), f"{fast.hours:,.0f}", f"{fast.price(prices):,.0f}"]
            )
    return rows


def _used(usage: Usage, prices: Prices) -> list[str]:
    return [
        f"{usage.hours:,.0f}",
        f"{usage.workers_for_a_night:,}",
        _size(usage.stored_gb * 1e9),
        _size(usage.staged_gb * 1e9),
        _size(usage.shuffle_gb * 1e9),
        count(usage.reads),
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
            [count(faces), *_used(usage, prices), f"{index_hours:,.1f}", f"{parts}",
             _size(faces * costs.files("hnsw")),
             f"{1000 * probe:,.1f}", f"{costs.judged.at(faces / FACES_EACH) / 3600:,.1f}", f"{driver / 3600:,.1f}"]
        )  # fmt: skip
    return rows


def _limits(limits: Sequence[Limit], sizes: Sequence[int]) -> Table:
    rows = [["what", "enough for", "bound", *(f"at {count(size)}" for size in sizes), "what moves it"]]
    for limit in sorted(limits, key=Limit.reached):
        unit = limit.unit.split()[0]
        shown = [f"{_number(limit.of(size))} {unit}" for size in sizes]
        rows.append([limit.name, count(limit.reached()), f"{limit.bound:g} {limit.unit}", *shown, limit.moves])
    return rows


def count(value: float) -> str:
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
