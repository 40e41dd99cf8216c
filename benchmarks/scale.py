"""What many photos and large galleries take: time, workers, storage, price, and what breaks first.

Measures what a photo and a face cost here, at sizes that take minutes, fits how it grows, and reckons from that: the
tables of docs/scale.md, and its chart. Processor time is measured, not that of the clock, so other work on the machine
does it little harm; where two threads share a core, both are slower, and so is this.

    python -m benchmarks.scale                    # measures and stores, some 15 minutes
    python -m benchmarks.scale --stored           # the tables again, of what was stored
    python -m benchmarks.scale --stored --price_vcpu_hour=0.04 --price_gb_hour=0.004 ...

Prices are inputs; the defaults are examples and nobody's.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import report, scale_chart, scale_parts, scale_runs, scale_tables, watch
from benchmarks.bare import THREADS
from benchmarks.photos import photo_set
from benchmarks.scale_model import Prices

LFW_SIZES, LARGE_SIZES, BUILD_SIZES = (100, 400), (16, 48), (100, 400)
LISTED = (10_000, 50_000)
SHARD_FACES, SHARD_PHOTOS = (1_000, 4_000), (2_000, 8_000)
PEOPLE = (5_000, 10_000, 20_000)
OF_ONE_PERSON = (1_000, 3_000, 10_000)
GALLERY_FACES = (10_000, 40_000, 160_000)
KINDS = ("exact", "annoy", "hnsw")
_ONE_BY_ONE = 24
_CHECKED = 2**28


def measure() -> dict[str, Any]:
    """Makes all measurements, one after the other."""
    os.environ.update(dict.fromkeys((*THREADS, "OPENBLAS_NUM_THREADS"), "1"))  # a worker of one thread
    found: dict[str, Any] = {
        "photos": scale_parts.alone(scale_runs.photo_costs, ["lfw", "large", "sample"], _ONE_BY_ONE)
    }
    with tempfile.TemporaryDirectory(prefix="celebface-scale-") as scratch:
        root = pathlib.Path(scratch)
        gallery = watch.build_gallery(scratch)
        for name, sizes in (("lfw", LFW_SIZES), ("large", LARGE_SIZES)):
            folders = [scale_runs.copies(photo_set(name), size, root / f"{name}{size}") for size in sizes]
            runs = [scale_runs.run("match", str(folder), f"--gallery={gallery}") for folder in folders]
            found[f"match {name}"] = [dataclasses.asdict(run) for run in runs]
        folders = [scale_runs.people(size, root / f"people{size}") for size in BUILD_SIZES]
        runs = [scale_runs.run("build-gallery", f"--source={folder}") for folder in folders]
        found["build lfw"] = [dataclasses.asdict(run) for run in runs]
        listed = [scale_runs.copies(photo_set("lfw"), size, root / f"listed{size}") for size in LISTED]
        found["listing"] = [
            scale_parts.alone(scale_parts.list_photos, str(folder), str(root / "no-staging")) for folder in listed
        ]
    parts: Sequence[tuple[str, Callable[[int], Any], Sequence[int]]] = (
        ("gallery shard", scale_parts.write_gallery_shard, SHARD_FACES),
        ("match shard", scale_parts.write_match_shard, SHARD_PHOTOS),
        ("audit", scale_parts.judge_people, PEOPLE),
        ("near duplicates", scale_parts.find_near_duplicates, OF_ONE_PERSON),
        ("checksum", scale_parts.checksum, (_CHECKED,)),
    )
    for name, function, counts in parts:
        found[name] = [scale_parts.alone(function, size) for size in counts]
        print(name, json.dumps(found[name]), flush=True)
    found["index"] = [scale_parts.alone(scale_parts.build_indexes, faces, KINDS) for faces in GALLERY_FACES]
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and stores, unless what was stored is wanted; prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stored", action="store_true", help="measure nothing, take the results stored")
    parser.add_argument("--page", type=pathlib.Path, metavar="MD", help="put the tables into this page, docs/scale.md")
    parser.add_argument("--chart", type=pathlib.Path, metavar="PNG", help="draw what breaks first")
    for field in dataclasses.fields(Prices):
        parser.add_argument(
            f"--price_{field.name}", type=float, default=field.default, metavar="X", help="default: %(default)s"
        )
    args = parser.parse_args(argv)
    if not args.stored:
        report.store("scale", measure())
    stored = json.loads((report.FOLDER / "scale.json").read_text())
    prices = Prices(**{field.name: getattr(args, f"price_{field.name}") for field in dataclasses.fields(Prices)})
    scale_tables.show(stored, prices)
    if args.page:
        scale_tables.fill(args.page, stored, prices)
    if args.chart:
        args.chart.write_bytes(scale_chart.draw(stored))


if __name__ == "__main__":
    main()
