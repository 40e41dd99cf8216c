"""What `celebface match` costs with more workers and with more photos, on LFW's photos again and again.

Runs are told apart into the start (Python, TensorFlow, networks, listing, up to the first photos done by all workers),
the main phase (all workers work), and the rest. Speeds are those of the main phase; see `watch`.

workers: a worker with one thread has a thread that decodes beside it, and what TensorFlow starts. So one worker is
measured on one core, as two are on two; and beside that on both cores, where that thread has the other to itself. What
the machine gives is measured by the same work without Beam, in one process and in several: its two cores may be two
threads of one.

photos: cost per photo is measured twice, in the main phases, and as the difference of two sizes' whole wall times by
the difference of their photos, which has listing and writing in it. Peaks of memory are the kernel's, of each process.

Where other programs take a share of the machine, walls are longer and speeds lower, for which the figures by processor
time make up: what others take meanwhile is told.

Beam and bookkeeping: the same photos are done by the same functions in as many processes at the same time without
Beam (see `bare`), before and after the pipeline does them. What the pipeline takes longer in its main phase is Beam's,
and that of all that is counted, batched and handed around. Listing before it and writing after it is in the same figure
for the photos that the larger size has more: what each adds to the whole wall time, beside what it takes without Beam.
Besides, wall time that no stage's seconds account for, between the two sizes; it holds reading, and waiting for the
first photos of a batch to be decoded.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import report, watch
from benchmarks.bare import Done, Job, Processes
from benchmarks.report import Figure, Target, gigabytes, percent
from benchmarks.watch import Run
from celebface.models.precision import is_quick_in_bfloat16
from celebface.pipelines import machine

SMALL, LARGE = 2000, 20_000
ROUNDS = 2

SPEED_UP = Target(1.8, at_least=True)
MORE_COST = Target(0.05, at_least=False)
MORE_MEMORY = Target(0.10, at_least=False)
PROCESSOR_USE = Target(0.90, at_least=True)
BOOKKEEPING = Target(0.05, at_least=False)

_LEAST_PHOTOS = 800  # for each worker, to have several batches of its main phase

# Work whose seconds are those of a worker's own thread; photos are decoded on another one.
_OWN = ("detect", "crop", "encode", "match", "stage")


@dataclasses.dataclass
class Measured:
    """All runs.

    Attributes:
      workers: Workers of the runs with several.
      several: Runs of the smaller size, with several workers, of one thread each.
      one_core: One worker with one thread on one core, its share of that size.
      one_thread: One worker with one thread that may use all cores.
      large: The run of the larger size, with several workers.
      bare: Without Beam, before and after each of the runs with several workers: what each process did.
      bare_alone: Without Beam, what one of the processes did while the others waited.
    """

    workers: int
    several: list[Run] = dataclasses.field(default_factory=list)
    one_core: list[Run] = dataclasses.field(default_factory=list)
    one_thread: list[Run] = dataclasses.field(default_factory=list)
    large: Run | None = None
    bare: list[tuple[list[Done], list[Done]]] = dataclasses.field(default_factory=list)
    bare_alone: list[Done] = dataclasses.field(default_factory=list)


def measure(small: int, large: int, workers: int, rounds: int) -> Measured:
    """Makes all runs; those that are compared lie side by side."""
    measured = Measured(workers)
    photos, share = str(watch.many_photos(small)), str(watch.many_photos(small // workers))
    one_core = sorted(os.sched_getaffinity(0))[:1]
    with tempfile.TemporaryDirectory(prefix="celebface-bench-") as root:
        gallery = watch.build_gallery(root)
        with Processes(_jobs(pathlib.Path(photos), workers, gallery), threads=1) as processes:
            for number in range(rounds):
                if number == rounds // 2:  # between others, as the machine is not always as fast
                    measured.large = _told(watch.match(str(watch.many_photos(large)), gallery, workers, 1))
                before = processes.run()
                measured.several.append(_told(watch.match(photos, gallery, workers, 1)))
                measured.bare.append((before, processes.run()))
                measured.bare_alone += processes.run(most=1)
                measured.one_core.append(_told(watch.match(share, gallery, 1, 1, one_core)))
                measured.one_thread.append(_told(watch.match(share, gallery, 1, 1)))
    return measured


def _jobs(folder: pathlib.Path, workers: int, gallery: str) -> list[Job]:
    precision = "bfloat16" if is_quick_in_bfloat16() else "float32"  # as the pipeline chooses it
    photos = [str(photo) for photo in sorted(folder.glob("*/*.jpg"))]
    return [Job("photos", precision, tuple(photos[worker::workers]), gallery) for worker in range(workers)]


def _told(run: Run) -> Run:
    phase = run.main_phase()
    print(
        f"{run.photos} photos, {len(run.counts)} workers: {run.end - run.start:.1f} s, of which the main phase "
        f"{phase.seconds:.1f} s with {phase.rate:.1f} photos/s on {phase.busy:.2f} cores, others on {phase.others:.2f}",
        flush=True,
    )
    return run


def speed_ups(measured: Measured, alone: Sequence[Run]) -> list[float]:
    """For each round how many times one worker's photos several do."""
    pairs = zip(measured.several, alone, strict=True)
    return [several.main_phase().rate / one.main_phase().rate for several, one in pairs]


def speed_ups_by_processor(measured: Measured) -> list[float]:
    """The same if each worker had a core to itself, as far as their processor time tells; the others do not matter."""
    pairs = zip(measured.several, measured.one_core, strict=True)
    return [measured.workers * one.main_phase().processor / many.main_phase().processor for many, one in pairs]


def bookkeeping(measured: Measured) -> tuple[float, float]:
    """Share of the main phase's wall time, and of its processor time, that the work alone does not take."""
    walls, processors = [], []
    for run, (before, after) in zip(measured.several, measured.bare, strict=True):
        phase = run.main_phase()
        walls.append(1 - phase.rate / statistics.mean([_rate(before), _rate(after)]))
        bare = [*before, *after]
        processors.append(1 - sum(done.processor for done in bare) / sum(done.count for done in bare) / phase.processor)
    return statistics.median(walls), statistics.median(processors)


def _rate(done: Sequence[Done]) -> float:
    return sum(each.rate for each in done)


def unaccounted(small: Run, large: Run) -> float:
    """Share of the workers' wall time, between two sizes, in which no stage's own work was done."""
    wall = (large.report["wall_seconds"] - small.report["wall_seconds"]) * len(large.counts)
    return 1 - (_own_seconds(large) - _own_seconds(small)) / wall


def _own_seconds(run: Run) -> float:
    return sum(stage["seconds"].get(work, 0.0) for stage in run.report["stages"].values() for work in _OWN)


def figures(measured: Measured, cores: int) -> list[Figure]:
    """What is asked of the runs, beside its targets."""
    large = measured.large
    assert large
    small = sorted(measured.several, key=lambda run: run.main_phase().rate)[len(measured.several) // 2]
    before, after = small.main_phase(), large.main_phase()
    rate = statistics.mean(run.main_phase().rate for run in measured.several)
    cost = statistics.mean(run.main_phase().processor for run in measured.several)
    slope = (large.end - large.start - small.end + small.start) / (large.photos - small.photos)
    wall, processor = bookkeeping(measured)
    bare_rate = statistics.mean(_rate(done) for pair in measured.bare for done in pair)
    machine = bare_rate / statistics.mean(done.rate for done in measured.bare_alone)
    many, few = f"{large.photos:,}", f"{small.photos:,}"
    speed_up = f"{measured.workers} workers by one"
    return [
        Figure(f"{speed_up}, on a core", statistics.median(speed_ups(measured, measured.one_core)), target=SPEED_UP),
        Figure(f"{speed_up}, on all cores", statistics.median(speed_ups(measured, measured.one_thread))),
        Figure(f"{speed_up}, by processor time", statistics.median(speed_ups_by_processor(measured))),
        Figure("without Beam, so many processes by one", machine),
        Figure(f"ms a photo, {few} photos", 1000 / rate),
        Figure(f"ms a photo, {many} photos", 1000 / after.rate),
        Figure(f"more at {many}, main phase", rate / after.rate - 1, percent, MORE_COST),
        Figure(f"more at {many}, processor time", after.processor / cost - 1, percent),
        Figure(f"more for each beyond {few}, all in all", slope * rate - 1, percent, MORE_COST),
        Figure(f"worker's peak, {few}", small.worker_peak, gigabytes),
        Figure(f"worker's peak, {many}", large.worker_peak, gigabytes),
        Figure("more for a worker", large.worker_peak / small.worker_peak - 1, percent, MORE_MEMORY),
        Figure("a worker's growth in its second half", large.growth(), gigabytes),
        Figure(f"driver's peak, {few}", small.driver_peak, gigabytes),
        Figure(f"driver's peak, {many}", large.driver_peak, gigabytes),
        Figure("more for the driver", large.driver_peak / small.driver_peak - 1, percent, MORE_MEMORY),
        Figure("more for all together", large.peak_of_all / small.peak_of_all - 1, percent, MORE_MEMORY),
        Figure(f"processor use, {few}", before.busy / cores, percent, PROCESSOR_USE),
        Figure(f"processor use, {many}", after.busy / cores, percent, PROCESSOR_USE),
        Figure(f"other programs' use, {few}", before.others / cores, percent),
        Figure(f"other programs' use, {many}", after.others / cores, percent),
        Figure("Beam and bookkeeping, of the main phase's wall time", wall, percent, BOOKKEEPING),
        Figure("   of the main phase's processor time", processor, percent),
        Figure(f"   of all wall time for each beyond {few}", 1 - 1 / (bare_rate * slope), percent, BOOKKEEPING),
        Figure("in no stage's seconds", unaccounted(small, large), percent),
        Figure(f"seconds before the main phase, {few}", before.start - small.start),
        Figure(f"seconds before the main phase, {many}", after.start - large.start),
        Figure(f"seconds after it, {few}", small.end - before.end),
        Figure(f"seconds after it, {many}", large.end - after.end),
    ]


def summary(run: Run) -> dict[str, Any]:
    """What is stored of a run."""
    phase = run.main_phase()
    return {
        "photos": run.photos,
        "workers": len(run.counts),
        "photos_per_s": phase.rate,
        "seconds": {
            "before": phase.start - run.start,
            "main": phase.seconds,
            "after": run.end - phase.end,
        },
        "busy_cores": phase.busy,
        "busy_cores_others": phase.others,
        "worker_peak_bytes": run.worker_peak,
        "worker_growth_bytes": run.growth(),
        "driver_peak_bytes": run.driver_peak,
        "peak_bytes": run.peak_of_all,
        "stages": {name: stage["seconds"] for name, stage in run.report["stages"].items() if stage["seconds"]},
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the figures and stores them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=SMALL, help="photos of the smaller size (default: %(default)s)")
    parser.add_argument("--large", type=int, default=LARGE, help="photos of the larger size (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=machine.cores(), help="default: one for each core")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the smaller size (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.workers < 2 or args.rounds < 1:
        parser.error("--workers must be at least 2, --rounds at least 1")
    if args.small < _LEAST_PHOTOS * args.workers or args.large <= args.small:
        parser.error(f"--small must be at least {_LEAST_PHOTOS} for each worker, and --large larger")
    cores = machine.cores()
    measured = measure(args.small, args.large, args.workers, args.rounds)
    found = figures(measured, cores)
    report.show(f"celebface match, {args.workers} workers with one thread each on {cores} cores", found)
    if (args.small, args.large) != (SMALL, LARGE):
        print("other sizes than usual: nothing is stored")
        return
    runs: Mapping[str, Sequence[Run]] = {
        "several_workers": measured.several,
        "one_worker_on_one_core": measured.one_core,
        "one_worker_with_one_thread": measured.one_thread,
        "several_workers_many_photos": [measured.large] if measured.large else [],
    }
    without_beam = {
        "photos_per_s": [_rate(done) for pair in measured.bare for done in pair],
        "photos_per_s_of_one": [done.rate for done in measured.bare_alone],
    }
    stored = {name: [summary(run) for run in mine] for name, mine in runs.items()}
    report.store("scaling", {"figures": report.as_json(found), "runs": stored, "without_beam": without_beam})


if __name__ == "__main__":
    main()
