"""The golden run: the same jobs on every engine, and whether the results are the same.

    make golden                                         the sample
    make golden GOLDEN="--photos lfw/dev --people lfw/dev"    and a larger gallery and collection

A gallery is built and photos are matched against it by Beam's local engine with one process, whose results are what
the others are held against: with two processes, on Flink with two and four slots, and on Prism. Engines that are not
there are named and left out: make cluster-up, make build/prism. All of it runs on one processor, so the files must be
the same to the byte; exit 1 if they are not.
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import requests
from PIL import Image
from rich.console import Console
from rich.table import Table

from celebface.indexing.cache import default_cache
from celebface.models.weights import sample_folder
from deploy import engines, same
from deploy.flink import cluster

FOLDER = engines.ROOT / "build" / "golden"
_SIDE = 240  # pixels of the longer side of the photos that are made
_SHIFTS = 20  # photos that are made of one of the sample's


@dataclasses.dataclass(frozen=True)
class Engine:
    """Something that runs jobs.

    Attributes:
      name: In words.
      flags: Beam's.
    """

    name: str
    flags: Sequence[str]

    @property
    def missing(self) -> str:
        """What is to be done before it can be used; empty if nothing is."""
        if "--runner=FlinkRunner" in self.flags and not flink_runs():
            return "make cluster-up"
        if "--runner=PrismRunner" in self.flags and not engines.PRISM.exists():
            return "make build/prism"
        return ""


def all_engines() -> list[Engine]:
    """The engines, the one first that the others are held against."""
    return [
        Engine("local, 1 process", ["--direct_num_workers=1"]),
        Engine("local, 2 processes", ["--direct_num_workers=2"]),
        Engine("Flink, 2 slots", engines.flags("FlinkRunner", 2)),
        Engine("Flink, 4 slots", engines.flags("FlinkRunner", 4)),
        Engine("Prism", engines.flags("PrismRunner")),
    ]


@dataclasses.dataclass(frozen=True)
class Ran:
    """A job that was run.

    Attributes:
      output: URI of what it wrote: a version of a gallery, or a folder of results.
      seconds: From its start to its end, the engine's own start included.
    """

    output: str
    seconds: float


def build_gallery(engine: Engine, people: str, root: pathlib.Path) -> Ran:
    """Builds a gallery.

    Args:
      engine: That it is built by.
      people: The source; empty for the sample.
      root: The root of the galleries, which is made anew.
    """
    shutil.rmtree(root, ignore_errors=True)
    source = [f"--source={people}"] if people else []
    seconds = run_job(["build-gallery", *source, f"--output_root={root}", "--name=golden"], engine)
    [version] = (path for path in (root / "golden").iterdir() if (path / "manifest.json").exists())
    return Ran(str(version), seconds)


def match(engine: Engine, photos: Sequence[str], gallery: str, output: pathlib.Path) -> Ran:
    """Matches photos.

    Args:
      engine: That they are matched by.
      photos: As for celebface match.
      gallery: URI of a version.
      output: Folder of the results, which is made anew.
    """
    shutil.rmtree(output, ignore_errors=True)
    seconds = run_job(["match", *photos, f"--gallery={gallery}", f"--output={output}", "--embeddings"], engine)
    return Ran(str(output), seconds)


def run_job(command: Sequence[str], engine: Engine) -> float:
    """Runs a command in a process of its own; tells how long it took.

    Raises:
      subprocess.CalledProcessError: If it fails; its stderr has been printed.
    """
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "celebface.pipelines.cli", *command, *engine.flags], capture_output=True, text=True
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    return time.monotonic() - start


def make_photos(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    """Makes a collection of small photos out of the sample's, by rule: a third of them shows a face.

    Of each photo of the sample pieces are taken that begin a few pixels further each time; so no two are the same. What
    shows no face is a lower corner of one.

    Args:
      folder: Where to, made if it is not there.
      count: How many.
    """
    sources = sorted(path for part in ("train", "val") for path in sample_folder(default_cache(), part).glob("*/*.jpg"))
    made = [folder / f"{number:05d}.jpg" for number in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(made):
        if path.exists():
            continue
        with Image.open(sources[number % len(sources)]) as photo:
            width, height = photo.size
            shift = number // len(sources) % _SHIFTS + 1
            box = (shift, shift, width, height)
            if number % 3:
                box = (width * 3 // 4 - shift, height * 3 // 4 - shift, width, height)
            piece = photo.convert("RGB").crop(box)
        piece.thumbnail((_SIDE, _SIDE))
        piece.save(path, quality=90)
    return made


def flink_runs() -> bool:
    """Whether there is a cluster on this machine."""
    try:
        return cluster.overview()["taskmanagers"] > 0
    except requests.RequestException:
        return False


def golden(people: str, photos: Sequence[str], folder: pathlib.Path, console: Console) -> list[dict[str, Any]]:
    """Runs both jobs on all engines that are there, and prints how each compares with the first.

    Args:
      people: Source of the gallery.
      photos: To match.
      folder: For what the jobs write.
      console: Where to.

    Returns:
      A record for each engine and job.
    """
    table = Table(box=None)
    for heading in ("job", "engine", "seconds", "rows", "same", "numbers apart", "bytes"):
        table.add_column(heading)
    records = []
    first: dict[str, Ran] = {}
    for number, engine in enumerate(all_engines()):
        if engine.missing:
            table.add_row("", engine.name, "", "", f"not there: {engine.missing}")
            continue
        jobs = {"build-gallery": build_gallery(engine, people, folder / f"galleries-{number}")}
        gallery = first.get("build-gallery", jobs["build-gallery"]).output
        jobs["match"] = match(engine, photos, gallery, folder / f"matches-{number}")
        for job, ran in jobs.items():
            reference = first.setdefault(job, ran)
            found = same.compare(reference.output, ran.output)
            record = _record(job, engine, ran, found)
            records.append(record)
            table.add_row(*_cells(record, ran is reference))
    console.print(table)
    return records


def _record(job: str, engine: Engine, ran: Ran, found: Sequence[same.Compared]) -> dict[str, Any]:
    return {
        "job": job,
        "engine": engine.name,
        "seconds": round(ran.seconds, 1),
        "rows": {row.name: row.rows for row in found},
        "faults": same.faults(found, to_the_byte=True),
        "apart": max(row.apart for row in found),
        "same_bytes": all(row.same_bytes is not False for row in found),
    }


def _cells(record: Mapping[str, Any], is_reference: bool) -> list[str]:
    rows = ", ".join(f"{count:,} {name}" for name, count in record["rows"].items() if count)
    faults = "; ".join(f"{name}: {fault}" for name, fault in record["faults"].items())
    verdict = f"NO: {faults}" if faults else ("reference" if is_reference else "yes")
    shown = [record["job"], record["engine"], f"{record['seconds']:.0f}", rows, verdict]
    return (
        shown if is_reference else [*shown, f"{record['apart']:.1g}", "the same" if record["same_bytes"] else "others"]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.golden", description=__doc__.splitlines()[0])
    parser.add_argument("--people", default="", metavar="SOURCE", help="of the gallery (default: the sample's)")
    parser.add_argument("--photos", action="append", metavar="PHOTOS", help="to match (default: the sample's)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="where the figures are written, too")
    args = parser.parse_args(argv)
    photos = args.photos or [str(sample_folder(default_cache(), "val"))]
    records = golden(args.people, photos, FOLDER, Console(width=200))
    if args.json:
        args.json.write_text(json.dumps(records, indent=1) + "\n")
    return int(any(record["faults"] for record in records))


if __name__ == "__main__":
    sys.exit(main())
