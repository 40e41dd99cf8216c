"""Runs `celebface match` in a process of its own and watches it: how far its workers are, processor time, memory.

Workers leave their counts in a folder, for the progress bar; here it is ours. They count photos when they are matched,
128 faces at a time, as they are encoded. So a worker's speed is measured from one such moment to another, and the main
phase is the time in which every worker is between its first and its last but one.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.bare import THREADS
from benchmarks.environments import FOLDER
from benchmarks.photos import photo_set
from celebface.transforms.progress import FOLDER_VARIABLE

_INTERVAL_SECONDS = 0.2
_PHOTOS_IN_FOLDER = 1000
_TICKS = os.sysconf("SC_CLK_TCK")
_COMMAND = (sys.executable, "-P", "-m", "celebface.pipelines.cli")


@dataclasses.dataclass(frozen=True)
class Sample:
    """The process and all that it started, at one moment.

    Attributes:
      time: Seconds since the epoch.
      processor: Seconds of processor time so far, of all that live and all that ended.
      others: Seconds of processor time that the rest of the machine took so far.
      resident: Bytes in memory, by process.
      peaks: Most bytes in memory so far, by process.
    """

    time: float
    processor: float
    others: float
    resident: Mapping[int, int]
    peaks: Mapping[int, int]


@dataclasses.dataclass(frozen=True)
class Phase:
    """A span of a run.

    Attributes:
      start: Seconds since the epoch.
      end: Likewise.
      rate: Photos a second.
      busy: Processor time per second, in cores.
      others: What the rest of the machine took meanwhile, in cores.
    """

    start: float
    end: float
    rate: float
    busy: float
    others: float

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.end - self.start

    @property
    def processor(self) -> float:
        """Seconds of processor time for a photo."""
        return self.busy / self.rate


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that was watched.

    Attributes:
      report: Its run.json.
      start: When the process was started, seconds since the epoch.
      end: When it had ended.
      driver: Its process id.
      samples: By time.
      counts: For each worker when it had counted how many photos, by time.
    """

    report: Mapping[str, Any]
    start: float
    end: float
    driver: int
    samples: Sequence[Sample]
    counts: Mapping[int, Sequence[tuple[float, int]]]

    @property
    def photos(self) -> int:
        """Photos done."""
        return sum(counts[-1][1] for counts in self.counts.values())

    def main_phase(self) -> Phase:
        """The time in which all workers work, up to their last full batch.

        Raises:
          ValueError: If there were too few photos to tell.
        """
        start = max(counts[0][0] for counts in self.counts.values())
        end = min(counts[-2][0] if len(counts) > 1 else 0 for counts in self.counts.values())
        rate = 0.0
        for counts in self.counts.values():
            within = [(when, count) for when, count in counts if start <= when <= end]
            if len(within) < 2:
                raise ValueError("too few photos: no worker has several batches while all work")
            rate += (within[-1][1] - within[0][1]) / (within[-1][0] - within[0][0])
        first, last = self._at(start), self._at(end)
        seconds = last.time - first.time
        busy, others = last.processor - first.processor, last.others - first.others
        return Phase(start, end, rate, busy / seconds, others / seconds)

    def _at(self, moment: float) -> Sample:
        return min(self.samples, key=lambda sample: abs(sample.time - moment))

    def peak(self, processes: Sequence[int]) -> int:
        """Most bytes that any of these processes had."""
        return max(sample.peaks.get(process, 0) for sample in self.samples for process in processes)

    @property
    def driver_peak(self) -> int:
        """Most bytes that the driver had."""
        return self.peak([self.driver])

    @property
    def worker_peak(self) -> int:
        """Most bytes that a worker had."""
        return self.peak(list(self.counts))

    @property
    def peak_of_all(self) -> int:
        """Most bytes that all processes had at a moment; what they share is counted for each."""
        return max(sum(sample.resident.values()) for sample in self.samples)

    def growth(self) -> float:
        """How many bytes a worker grew by in the second half of the main phase, the largest of the workers."""
        phase = self.main_phase()
        middle, last = self._at((phase.start + phase.end) / 2), self._at(phase.end)
        return max(last.resident.get(worker, 0) - middle.resident.get(worker, 0) for worker in self.counts)


def match(photos: str, gallery: str, workers: int, threads: int, cores: Sequence[int] | None = None) -> Run:
    """Runs `celebface match`.

    Args:
      photos: Folder.
      gallery: As the command wants it.
      workers: Worker processes; a single one is the driver itself.
      threads: Of TensorFlow, in each.
      cores: Those that the run may use; None for all.

    Raises:
      RuntimeError: If the command fails, or has not as many workers or photos as it should.
    """
    with tempfile.TemporaryDirectory(prefix="celebface-bench-") as scratch:
        counts, output, log = (pathlib.Path(scratch, name) for name in ("counts", "matches", "log"))
        counts.mkdir()
        environ = {**os.environ, **dict.fromkeys(THREADS, str(threads)), FOLDER_VARIABLE: str(counts)}
        command = [*_COMMAND, "match", photos, f"--gallery={gallery}", f"--output={output}"]
        start = time.time()
        with log.open("wb") as printed, _only_on(cores):
            process = subprocess.Popen(
                [*command, f"--direct_num_workers={workers}"], env=environ, stdout=printed, stderr=printed, cwd=scratch
            )
        samples, seen = _watch(process, counts)
        end = time.time()
        if process.returncode:
            raise RuntimeError(f"celebface match ended with status {process.returncode}: {log.read_text()[-500:]}")
        run = Run(json.loads((output / "run.json").read_text()), start, end, process.pid, samples, seen)
    items = run.report["items"]["items"]
    if len(run.counts) != workers or run.photos != items or run.report["workers"] != workers:
        raise RuntimeError(f"of {items} photos {run.photos} were counted, by {len(run.counts)} of {workers} workers")
    return run


def many_photos(count: int) -> pathlib.Path:
    """Makes a folder of so many photos, LFW's again and again under other names, if it is not there.

    `celebface match` gives every file an answer of its own, also if another has the same bytes.
    """
    folder = FOLDER / "many" / str(count)
    if not folder.is_dir():
        scratch, sources = folder.with_suffix(".part"), folder.with_name("sources")
        for where in (scratch, sources):
            where.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(scratch)
        photos = photo_set("lfw")
        for number in range(count):
            photo = photos[number % len(photos)]
            source = sources / photo.name
            if not source.exists():
                shutil.copy(photo, source)
            place = scratch / f"{number // _PHOTOS_IN_FOLDER:03d}"
            place.mkdir(parents=True, exist_ok=True)
            os.link(source, place / f"{number:06d}.jpg")
        scratch.replace(folder)
    return folder


def build_gallery(root: str) -> str:
    """Builds the sample's gallery; returns it as `match` wants it."""
    command = [*_COMMAND, "build-gallery", f"--output_root={root}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return str(pathlib.Path(root, "celebrities"))


@contextlib.contextmanager
def _only_on(cores: Sequence[int] | None) -> Iterator[None]:
    """What is started meanwhile may use only these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _watch(process: subprocess.Popen, folder: pathlib.Path) -> tuple[list[Sample], dict[int, list[tuple[float, int]]]]:
    """Takes samples until a process has ended."""
    samples: list[Sample] = []
    counts: dict[int, list[tuple[float, int]]] = {}
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_INTERVAL_SECONDS)
        _read_counts(folder, counts)
        if process.returncode is not None:
            return samples, counts
        samples.append(_sample(process.pid))


def _read_counts(folder: pathlib.Path, counts: dict[int, list[tuple[float, int]]]) -> None:
    for file in folder.glob("*.json"):
        with file.open(encoding="ascii") as opened:  # a newer one replaces it, so time and contents belong together
            when, photos = os.fstat(opened.fileno()).st_mtime, json.load(opened).get("photos", 0)
        mine = counts.setdefault(int(file.stem), [])
        if photos and (not mine or photos > mine[-1][1]):
            mine.append((when, photos))
        if not mine:
            del counts[int(file.stem)]  # it has only listed so far


def _sample(root: int) -> Sample:
    stats = {int(path.name): stat for path in pathlib.Path("/proc").glob("[0-9]*") if (stat := _stat(path))}
    tree = [root]
    for process in tree:  # which grows meanwhile
        tree += [child for child, stat in stats.items() if int(stat[1]) == process]
    ours = sum(sum(map(int, stats[process][11:15])) for process in tree if process in stats) / _TICKS
    resident, peaks = {}, {}
    for process in tree:
        resident[process], peaks[process] = _memory(process)
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, interrupts, soft, stolen = map(int, file.readline().split()[1:9])
    busy = (user + nice + system + interrupts + soft + stolen) / _TICKS
    return Sample(time.time(), ours, busy - ours, resident, peaks)


def _stat(folder: pathlib.Path) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on; empty if the process has ended."""
    try:
        return (folder / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()
    except OSError:
        return []


def _memory(process: int) -> tuple[int, int]:
    """Resident bytes, and their peak."""
    try:
        status = pathlib.Path(f"/proc/{process}/status").read_text(errors="replace")
    except OSError:
        return 0, 0
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    now, most = (int(fields.get(name, "0").split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most
