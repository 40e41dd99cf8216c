"""Runs a Beam pipeline: on this machine with all its cores, or on whatever runner Beam knows."""

import collections
import contextlib
import dataclasses
import importlib
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

from celebface.pipelines.arguments import LOCAL_RUNNER, RunFailed
from celebface.pipelines.beam_flags import runner_name
from celebface.pipelines.engine import run_on_engine, wait
from celebface.pipelines.local_engine import local_runner
from celebface.pipelines.machine import cores, memory
from celebface.pipelines.progress import ProgressBar
from celebface.pipelines.text import complain
from celebface.transforms import progress
from celebface.transforms.metrics import LOST, MICROSECONDS, NOTED

_PHOTOS_WORTH_A_PROCESS = 150  # for fewer, loading TensorFlow and the networks takes longer than the work
_RUNS = 3  # of a local job whose worker processes die; a killed run's parts are taken over, so little is done twice
# With its reading process a worker peaks at 2.8 GiB on small photos, at 3.3 on large ones: docs/scale.md.
BYTES_PER_WORKER = 7 * 2**29


@dataclasses.dataclass(frozen=True)
class StageCounts:
    """What a stage did.

    Attributes:
      items_in: Items that came in.
      items_out: Items handed on.
      lost: Items that ended here, by reason.
      noted: What else was counted, such as items taken over from earlier work.
      seconds: Working time by kind of work, summed over the workers.
    """

    items_in: int
    items_out: int
    lost: Mapping[str, int]
    noted: Mapping[str, int]
    seconds: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class RunReport:
    """How a run went.

    Attributes:
      stages: By name.
      wall_seconds: From start to end of the pipeline.
      runner: Name of the runner.
      workers: Local worker processes; 0 if the runner is not the local one.
    """

    stages: Mapping[str, StageCounts]
    wall_seconds: float
    runner: str
    workers: int


def run(
    build: Callable[[beam.Pipeline], None], argv: Sequence[str], photos_at_least: int, title: str, networks: bool = True
) -> RunReport:
    """Runs a pipeline to its end.

    Args:
      build: Applies the transforms.
      argv: Beam flags.
      photos_at_least: How much there is to do, as far as known.
      title: Shown beside the progress bar.
      networks: Whether the pipeline uses the neural networks.

    Returns:
      The report.

    Raises:
      Launched: If the job is to be a template.
      UsageError: If an engine does not take the job for its flags.
      RunFailed: If the runner ended the job otherwise than done, or workers were killed again and again; and whatever
        the pipeline raised.
    """
    options = PipelineOptions(list(argv))
    name = runner_name(argv)
    start = time.monotonic()
    if name != LOCAL_RUNNER:
        finished = run_on_engine(build, options, name, title)
        return RunReport(_stage_counts(finished), time.monotonic() - start, name, 0)
    asked = any(argument.startswith("--direct_num_workers") for argument in argv)
    workers = options.view_as(DirectOptions).direct_num_workers if asked else _local_workers(photos_at_least)
    workers = workers or cores()  # 0 is Beam's word for all of them
    options.view_as(DirectOptions).direct_num_workers = workers
    if workers == 1 and networks:
        importlib.import_module("celebface.models.quiet_tensorflow")  # before the progress bar has the terminal
    finished = _run_locally(build, options, workers, title)
    return RunReport(_stage_counts(finished), time.monotonic() - start, name, workers)


def _run_locally(
    build: Callable[[beam.Pipeline], None], options: PipelineOptions, workers: int, title: str
) -> beam.runners.runner.PipelineResult:
    """Runs a pipeline on this machine; again if a worker process was killed, as Beam's local engine fails with it."""
    for attempt in range(1, _RUNS + 1):
        with (
            # A worker may yet write its last counts while the folder goes.
            tempfile.TemporaryDirectory(prefix="celebface-progress-", ignore_cleanup_errors=True) as folder,
            _worker_environment(workers, folder),
            local_runner(options, workers) as (runner, processes),
        ):
            progress.reset()
            try:
                with ProgressBar(pathlib.Path(folder), title):
                    pipeline = beam.Pipeline(runner=runner, options=options)
                    build(pipeline)
                    return _finish(pipeline)
            except RuntimeError:
                if not processes.death:
                    raise
        if attempt < _RUNS:
            complain(f"celebface {title}: a worker process {processes.death}; going on where it was")
    raise RunFailed(f"in each of {_RUNS} runs a worker process {processes.death}")


def _finish(pipeline: beam.Pipeline) -> beam.runners.runner.PipelineResult:
    try:
        return wait(pipeline.run())
    except RuntimeError as error:
        if str(error).startswith("KeyboardInterrupt"):  # what Beam makes of it when it strikes within a step
            raise KeyboardInterrupt from error
        raise


def _local_workers(photos: int) -> int:
    return max(1, min(cores(), photos // _PHOTOS_WORTH_A_PROCESS, memory() // BYTES_PER_WORKER))


def photos_worth_counting() -> int:
    """How far a source must be counted to know how many processes it is worth."""
    return _PHOTOS_WORTH_A_PROCESS * cores()


@contextlib.contextmanager
def _worker_environment(workers: int, progress_folder: str) -> Iterator[None]:
    """What worker processes inherit: where to leave their counts, and their share of the cores for TensorFlow.

    What a user has set stands.
    """
    threads = str(max(1, cores() // workers))
    wanted = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), threads)
    wanted[progress.FOLDER_VARIABLE] = progress_folder
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _stage_counts(result: beam.runners.runner.PipelineResult) -> dict[str, StageCounts]:
    counters: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for counter in result.metrics().query(MetricsFilter())["counters"]:
        value = counter.committed if counter.committed is not None else counter.attempted
        counters[counter.key.metric.namespace][counter.key.metric.name] += value or 0  # a stage may have several steps
    return {
        stage: StageCounts(
            items_in=values["items_in"],
            items_out=values.get("items_out", 0),
            lost={name.removeprefix(LOST): count for name, count in values.items() if name.startswith(LOST)},
            noted={name.removeprefix(NOTED): count for name, count in values.items() if name.startswith(NOTED)},
            seconds={
                name.removesuffix(MICROSECONDS): count / 1e6
                for name, count in values.items()
                if name.endswith(MICROSECONDS)
            },
        )
        for stage, values in counters.items()
        if "items_in" in values
    }
