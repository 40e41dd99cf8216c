"""Photos a second from files to embeddings, beside other programs, on the same photos in the same run.

Each contender uses all cores: the peers in one process, as their libraries do by default, celebface in a process a
core, as a local run of its pipelines has it. They work in turn: for each round
and each chunk of photos, celebface and then one of the peers, until all peers have had the chunk. So a peer's ratio
compares runs that lie side by side, and what else the machine does hits both. Loading models and a first photo are not
timed.

Peers take seconds for what takes celebface milliseconds, so all are compared on a stated share of a set, every k-th
photo; afterwards celebface goes through the whole of it. Each set has processes of its own, so that peak memory is that
of the set. Each may use half of the machine's memory. A photo for which a contender has not enough counts as failed,
and the time it tried as its time.
"""

import argparse
import contextlib
import dataclasses
import datetime
import functools
import json
import os
import pathlib
import select
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks import environments
from benchmarks.environments import CONTENDERS, FOLDER, CannotMake
from benchmarks.photos import photo_set
from benchmarks.report import machine

RESULTS = pathlib.Path(__file__).parent / "results" / "throughput.json"
OURS = "celebface"
_START_SECONDS = 300
_CHUNK_SECONDS = 900


@dataclasses.dataclass(frozen=True)
class Share:
    """Which of a set's photos all contenders get.

    Attributes:
      every: They get every k-th photo.
      most: And no more than this.
      chunk: Photos that a contender is given at a time.
    """

    every: int
    most: int
    chunk: int

    def of(self, photos: Sequence[pathlib.Path]) -> list[pathlib.Path]:
        """The share."""
        return list(photos[:: self.every][: self.most])


# Large: eight pictures of each size lie in a row, so every fifth photo takes all sizes and all pictures but one. It is
# few photos, as DeepFace takes 20 seconds for one of 12 megapixels.
SHARES = {"lfw": Share(6, 96, 96), "large": Share(5, 8, 8), "mixed": Share(100, 20, 20)}
_WHOLE_CHUNK = 128

# DeepFace frames a photo to four times its area before it looks for faces. At 12 megapixels that takes it 8 GB, and at
# 24 it dies under the limit of 12 GB (of 24 in all). So it is given only the smaller photos of a share; the
# table tells how many, and its ratio is that on these photos.
MOST_PIXELS = {"deepface": 13_000_000}


@dataclasses.dataclass(frozen=True)
class Contender:
    """A program to compare: how its process is started; the photo to warm up with comes last."""

    name: str
    command: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Work:
    """What a contender did. Adds up; of peaks of memory the highest counts."""

    photos: int = 0
    faces: int = 0
    failed: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.photos + other.photos,
            self.faces + other.faces,
            self.failed + other.failed,
            self.seconds + other.seconds,
            max(self.peak_bytes, other.peak_bytes),
        )


class ContenderFailed(Exception):
    """A contender died, hangs or talks nonsense; the message says so in one line."""


class Process:
    """A contender at work."""

    def __init__(self, contender: Contender, warm_up: pathlib.Path, log: pathlib.Path):
        """Starts it; `wait` until it is ready.

        Args:
          contender: What to start.
          warm_up: The photo that it does before it is ready.
          log: File for what it prints.
        """
        self.name = contender.name
        self._log = log
        environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [*contender.command, str(warm_up)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=log.parent,
                env=environ,
            )

    def wait(self) -> dict[str, Any]:
        """Waits until it is ready; returns how it works and with which versions.

        Raises:
          ContenderFailed: If it does not get there.
        """
        ready = self._answer(_START_SECONDS)
        return {"how": ready.get("how", ""), "versions": ready.get("versions", {})}

    def work(self, photos: Sequence[pathlib.Path]) -> Work:
        """Lets it do photos.

        Raises:
          ContenderFailed: If it does not come back with all of them.
        """
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps({"photos": [str(photo) for photo in photos]}) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ContenderFailed(self._end()) from error
        answer = self._answer(_CHUNK_SECONDS)
        try:
            work = Work(**answer)
        except TypeError as error:
            raise ContenderFailed(f"answers {answer}") from error
        if work.photos != len(photos) or work.seconds <= 0:
            raise ContenderFailed(f"was given {len(photos)} photos, answers {answer}")
        return work

    def _answer(self, patience: float) -> dict[str, Any]:
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], patience)[0]:  # an answer is one line, written at once
            raise ContenderFailed(f"gave no answer for {patience:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise ContenderFailed(self._end())
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ContenderFailed(f"answers {line.strip()[:80]!r}")
        return answer

    def _end(self) -> str:
        """How it ended, with the last line that it printed."""
        status = self._process.wait(10)
        printed = self._log.read_text(errors="replace").strip().splitlines()
        return f"ended with status {status}" + (f": {printed[-1][:200]}" if printed else "")

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@dataclasses.dataclass
class Measured:
    """What was measured on one set.

    Attributes:
      work: For each contender what it did in each of its full rounds, celebface once for each peer and chunk.
      pairs: For each peer and full round: celebface's work beside the peer's on the same photos.
      about: For each contender how it works and its versions.
      left_out: Contenders that are not there or did not last, and why.
      whole: celebface on the whole set.
    """

    work: dict[str, list[Work]] = dataclasses.field(default_factory=dict)
    pairs: dict[str, list[tuple[Work, Work]]] = dataclasses.field(default_factory=dict)
    about: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    whole: Work | None = None

    def ratios(self, peer: str) -> list[float]:
        """For each round how many times the peer's photos a second celebface does."""
        return [(ours.photos / ours.seconds) / (theirs.photos / theirs.seconds) for ours, theirs in self.pairs[peer]]


def chunks(photos: Sequence[pathlib.Path], size: int) -> list[list[pathlib.Path]]:
    """Photos in chunks; the last may be smaller."""
    return [list(photos[start : start + size]) for start in range(0, len(photos), size)]


def measure(
    contenders: Sequence[Contender],
    photos: Sequence[pathlib.Path],
    share: Share,
    rounds: int,
    folder: pathlib.Path,
    whole: bool = True,
) -> Measured:
    """Lets contenders do a set of photos in turn.

    Args:
      contenders: celebface first.
      photos: The set.
      share: What of it all do.
      rounds: How often.
      folder: For what contenders print.
      whole: Let celebface do the whole set once at the end.

    Returns:
      What was measured. A peer that fails is left out from there on; its full rounds stay.

    Raises:
      ContenderFailed: If celebface fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measured = Measured()
    shared = share.of(photos)
    for photo in photos if whole else shared:
        photo.read_bytes()  # so that nobody finds it on the disk and the next in memory
    with contextlib.ExitStack() as stack:
        processes: dict[str, Process] = {}
        for contender in contenders:
            try:
                process = Process(contender, shared[0], folder / f"{contender.name}.log")
            except OSError as error:
                measured.left_out[contender.name] = f"cannot be started: {error}"
                continue
            stack.callback(process.close)
            try:  # one after the other: loading all at once would take more memory than working does
                measured.about[contender.name] = process.wait()
                processes[contender.name] = process
            except ContenderFailed as why:
                measured.left_out[contender.name] = str(why)
            if OURS not in processes:
                raise ContenderFailed(f"{OURS} {measured.left_out[OURS]}")
        ours = processes.pop(OURS)
        for turn in range(rounds):
            _round(ours, processes, chunks(shared, share.chunk), measured)
            rates = ", ".join(
                f"{name} {work[-1].photos / work[-1].seconds:.2f}" for name, work in measured.work.items()
            )
            print(f"round {turn + 1} of {rounds}, photos/s: {rates}", flush=True)
        for name in processes.keys() - measured.pairs.keys():
            measured.left_out[name] = "can do none of these photos"
        if whole:
            work = [ours.work(chunk) for chunk in chunks(photos, _WHOLE_CHUNK)]
            measured.whole = sum(work, Work())
    return measured


def _round(
    ours: Process, peers: dict[str, Process], pieces: Sequence[Sequence[pathlib.Path]], measured: Measured
) -> None:
    done: dict[str, tuple[Work, Work]] = {}
    for piece in pieces:
        for name in list(peers) or [OURS]:
            photos = _small_enough(piece, name)
            if not photos:
                continue
            mine = ours.work(photos)
            try:
                theirs = peers[name].work(photos) if name in peers else Work()
            except ContenderFailed as why:
                measured.left_out[name] = str(why)
                del peers[name]
                done.pop(name, None)
                continue
            before = done.get(name, (Work(), Work()))
            done[name] = before[0] + mine, before[1] + theirs
    for name, (mine, theirs) in done.items():
        if mine.photos == sum(map(len, pieces)):  # not beside a peer that got fewer, or after the last one died
            measured.work.setdefault(OURS, []).append(mine)
        if name != OURS:
            measured.work.setdefault(name, []).append(theirs)
            measured.pairs.setdefault(name, []).append((mine, theirs))


def _small_enough(photos: Sequence[pathlib.Path], name: str) -> list[pathlib.Path]:
    """The photos that a contender can do at all."""
    if name not in MOST_PIXELS:
        return list(photos)
    return [photo for photo in photos if _pixels(photo) <= MOST_PIXELS[name]]


@functools.cache
def _pixels(path: pathlib.Path) -> int:
    with Image.open(path) as photo:  # the header alone
        return photo.width * photo.height


def summary(measured: Mapping[str, Measured], sizes: Mapping[str, tuple[int, int]], rounds: int) -> dict[str, Any]:
    """What is stored of a run.

    Args:
      measured: By set.
      sizes: For each set the photos of the share and of the whole.
      rounds: Rounds of the run.
    """
    sets: dict[str, Any] = {}
    ratios: dict[str, dict[str, float]] = {}
    spread: dict[str, dict[str, Any]] = {}
    for name, found in measured.items():
        sets[name] = {who: _figures(work) for who, work in found.work.items()}
        if found.whole:
            sets[name].setdefault(OURS, {})["whole"] = _figures([found.whole])
        ratios[name] = {peer: round(statistics.median(found.ratios(peer)), 2) for peer in found.pairs}
        spread[name] = {
            peer: {
                "min": round(min(found.ratios(peer)), 2),
                "max": round(max(found.ratios(peer)), 2),
                "rounds": len(found.pairs[peer]),
            }
            for peer in found.pairs
        }
    about = {who: facts for found in measured.values() for who, facts in found.about.items()}
    return {
        "sets": sets,
        "ratios": ratios,
        "spread": spread,
        "shares": {name: {"photos": shared, "of": every} for name, (shared, every) in sizes.items()},
        "rounds": rounds,
        "left_out": {name: found.left_out for name, found in measured.items() if found.left_out},
        "how": {who: facts["how"] for who, facts in about.items()},
        "versions": {who: facts["versions"] for who, facts in about.items()},
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
    }


def _figures(work: Sequence[Work]) -> dict[str, Any]:
    return {
        "photos": work[0].photos,
        "photos_per_s": round(statistics.median(done.photos / done.seconds for done in work), 3),
        "faces": work[0].faces,
        "failed": work[0].failed,
        "peak_bytes": max(done.peak_bytes for done in work),
    }


def _show(name: str, result: Mapping[str, Any], console: Console) -> None:
    share, found = result["shares"][name], result["sets"][name]
    table = Table(title=f"{name}: {share['photos']} of {share['of']} photos, {result['rounds']} rounds")
    for column in ("", "photos", "photos/s", "faces", "failed", "memory", "ratio", "min..max"):
        table.add_column(column, justify="left" if not column else "right")
    for who, figures in found.items():
        if "photos_per_s" in figures:
            table.add_row(who, *_cells(figures), *_ratio_cells(result, name, who))
    if whole := found.get(OURS, {}).get("whole"):
        table.add_row(f"{OURS}, whole set", *_cells(whole), "", "")
    console.print(table)
    for who, why in result["left_out"].get(name, {}).items():
        console.print(f"{who} is left out: {why}", markup=False)


def _cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    memory = f"{figures['peak_bytes'] / 2**30:.2f} GB"
    counts = str(figures["faces"]), str(figures["failed"])
    return str(figures["photos"]), f"{figures['photos_per_s']:.2f}", *counts, memory


def _ratio_cells(result: Mapping[str, Any], name: str, who: str) -> tuple[str, str]:
    if who not in result["ratios"][name]:
        return "", ""
    spread = result["spread"][name][who]
    return f"{result['ratios'][name][who]:.2f}", f"{spread['min']:.2f}..{spread['max']:.2f}"


def find_contenders() -> tuple[list[Contender], dict[str, str]]:
    """The contenders that there are here, celebface first; and of the others, why they are not."""
    own = {OURS: "run_celebface.py", "naive": "run_naive.py"}
    found = [Contender(name, (sys.executable, str(CONTENDERS / script))) for name, script in own.items()]
    missing = {}
    for environment in environments.ENVIRONMENTS:
        try:
            python = environments.make(environment)
        except CannotMake as why:
            missing[environment.name] = str(why)
            continue
        script = str(CONTENDERS / f"run_{environment.name}.py")
        found.append(Contender(environment.name, (str(python), "-W", "ignore", script)))
    return found, missing


def main(argv: Sequence[str] | None = None) -> None:
    """Runs all contenders on the photo sets, prints the ratios and stores them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--sets", default=",".join(SHARES), help="of lfw, large, mixed (default: all); of a part nothing is stored"
    )
    parser.add_argument("--limit", type=int, help="use no more than so many photos of each set, and store nothing")
    args = parser.parse_args(argv)
    names = args.sets.split(",")
    if unknown := [name for name in names if name not in SHARES]:
        parser.error(f"there is no photo set {unknown[0]!r}")
    if args.rounds < 1 or (args.limit is not None and args.limit < 1):
        parser.error("--rounds and --limit must be at least 1")
    contenders, missing = find_contenders()
    console = Console(width=None if sys.stdout.isatty() else 100)  # else its tables are cut to 80 columns
    measured, sizes = {}, {}
    for name in names:
        photos = photo_set(name)
        share = SHARES[name]
        if args.limit:
            share = dataclasses.replace(share, most=min(args.limit, share.most))
        try:
            found = measure(contenders, photos, share, args.rounds, FOLDER / "logs" / name, whole=not args.limit)
        except ContenderFailed as why:
            raise SystemExit(str(why)) from why
        found.left_out.update(missing)
        measured[name], sizes[name] = found, (len(share.of(photos)), len(photos))
        _show(name, summary(measured, sizes, args.rounds), console)
    if not args.limit and set(names) == set(SHARES):
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(summary(measured, sizes, args.rounds), indent=2) + "\n")
        print(f"stored in {RESULTS}")


if __name__ == "__main__":
    main()
