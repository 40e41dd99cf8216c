"""Photos a second from the web to disk, beside img2dataset, on the same site in the same run.

Both are whole programs, started anew for each round, with as many processes and threads, and keep the bytes as they
come. The site is local, so the programs themselves are measured, not a network; celebface's limits of connections and
requests per host are lifted, since img2dataset has none.
"""

import argparse
import contextlib
import csv
import datetime
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator

import apache_beam as beam

from benchmarks import site
from benchmarks.report import machine
from celebface.indexing import schemas
from celebface.indexing.cache import default_cache
from celebface.models.weights import sample_folder
from celebface.pipelines import execution
from celebface.pipelines.intake import Intake
from celebface.transforms.fetch import FetchPhotos
from celebface.transforms.resume import ResumeItems
from celebface.transforms.sources import ItemSource, ListItems
from celebface.transforms.web.policy import FetchPolicy

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "download.json"
PEER = ROOT / "build" / "bench" / "img2dataset"
PROCESSES = 2
THREADS = 32


def fetch_all(urls: str, folder: str) -> None:
    """Runs our part: the steps from a list to stored bytes."""
    policy = FetchPolicy(
        contact="benchmark@localhost.invalid",
        threads=THREADS,
        host_connections=THREADS,
        host_rate=0,
        retries=0,
        allow_private_hosts=True,
    )
    intake = Intake(ItemSource((urls,)), policy)

    def build(pipeline: beam.Pipeline) -> None:
        refs, _ = pipeline | "Sources" >> beam.Create([intake.source]) | "List" >> ListItems()
        items = refs | "Resume" >> ResumeItems(folder, schemas.faces_schema(128), 1)
        _ = items.web | "Fetch" >> FetchPhotos(policy, folder)

    done = execution.run(build, [f"--direct_num_workers={PROCESSES}"], 0, "download", networks=False)
    print(json.dumps({"photos": done.stages["fetch"].items_out}))


def run_ours(urls: pathlib.Path, folder: pathlib.Path) -> int:
    """Runs it as a program of its own; returns how many photos it has."""
    command = [sys.executable, "-m", "benchmarks.download", "--fetch", str(urls), str(folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return json.loads(printed.splitlines()[-1])["photos"]


def run_peer(urls: pathlib.Path, folder: pathlib.Path) -> int:
    """Runs img2dataset; returns how many photos it has."""
    command = [
        str(PEER / "bin" / "img2dataset"),
        f"--url_list={urls}",
        "--input_format=csv",
        "--url_col=url",
        "--output_format=parquet",
        f"--output_folder={folder}",
        f"--processes_count={PROCESSES}",
        f"--thread_count={THREADS}",
        "--resize_mode=no",
        "--disable_all_reencoding=True",
        "--number_sample_per_shard=1000",
        "--retries=0",
        "--timeout=60",
        "--enable_wandb=False",
    ]
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    subprocess.run(command, check=True, capture_output=True, cwd=folder.parent, env=environment)
    return sum(json.loads(file.read_text())["successes"] for file in folder.glob("*_stats.json"))


def make_peer() -> None:
    """Makes img2dataset's environment, unless it is there."""
    if (PEER / "bin" / "img2dataset").exists():
        return
    venv.create(PEER, with_pip=True, clear=True)
    subprocess.run([PEER / "bin" / "python", "-m", "pip", "install", "--quiet", "img2dataset==1.47.0"], check=True)


@contextlib.contextmanager
def serving(photos: pathlib.Path) -> Iterator[int]:
    """Runs the site; gives its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.site", str(photos)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout
    try:
        yield json.loads(process.stdout.readline())["port"]
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Runs both in turn and prints and stores the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fetch", nargs=2, metavar=("URLS", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fetch:
        fetch_all(*args.fetch)
        return
    make_peer()
    rates: dict[str, list[float]] = {"celebface": [], "img2dataset": []}
    with serving(sample_folder(default_cache(), "train")) as port, tempfile.TemporaryDirectory() as scratch:
        urls = pathlib.Path(scratch) / "urls.csv"
        with urls.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["url"])
            rows.writerows([f"http://{site.host(number)}:{port}{site.path(number)}"] for number in range(args.photos))
        for turn in range(args.rounds):
            for name, run in (("celebface", run_ours), ("img2dataset", run_peer))[:: 1 if turn % 2 else -1]:
                folder = pathlib.Path(scratch) / "out"
                start = time.perf_counter()
                photos = run(urls, folder)
                seconds = time.perf_counter() - start
                shutil.rmtree(folder)
                if photos != args.photos:
                    raise SystemExit(f"{name} has {photos} of {args.photos} photos")
                rates[name].append(photos / seconds)
                print(f"{name:12} {photos / seconds:7.0f} photos/s, {seconds:.1f} s", flush=True)
    ratios = [ours / peer for ours, peer in zip(rates["celebface"], rates["img2dataset"], strict=True)]
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "photos": args.photos,
                "processes": PROCESSES,
                "threads": THREADS,
                "photos_per_s": {name: [round(rate, 1) for rate in found] for name, found in rates.items()},
                "ratio": round(statistics.median(ratios), 3),
                "ratio_spread": [round(min(ratios), 3), round(max(ratios), 3)],
                "machine": machine(),
                "date": datetime.date.today().isoformat(),
            },
            indent=2,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
