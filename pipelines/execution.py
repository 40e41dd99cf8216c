"""Runs a Beam pipeline: on this machine with all its cores, or on whatever runner Beam knows."""

import argparse
import collections
import contextlib
import dataclasses
import difflib
import importlib
import logging
import math
import os
import pathlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import grpc
import requests
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
)
from apache_beam.runners.runner import PipelineState, create_runner

from celebface.pipelines.arguments import LOCAL_RUNNER, Launched, Parser, RunFailed, UsageError
from celebface.pipelines.local_engine import local_runner
from celebface.pipelines.progress import ProgressBar, elapsing
from celebface.pipelines.text import complain
from celebface.transforms import progress
from celebface.transforms.metrics import LOST, MICROSECONDS, NOTED

_PHOTOS_WORTH_A_PROCESS = 150  # for fewer, loading TensorFlow and the networks takes longer than the work
_OURS = ("--dry_run",)  # Beam has it too, for Dataflow, where it needs a value
_OWN_FLAGS = ("FlinkRunner", "PortableRunner", "PrismRunner", "SparkRunner")  # their job servers know more than Beam
_ENGINES_FLAGS = ("--flink_", "--spark_", "--prism_", "--parallelism", "--max_parallelism")  # Beam's, of no use here
_SLIP = 0.9  # likeness of two flags of which one is a slip at the other: a letter of ten
_SECONDS_TO_CANCEL = 10.0
_RUNS = 3  # of a local job whose worker processes die; a killed run's parts are taken over, so little is done twice
# Of control groups, as a container sees its own; of memory version 2 and 1.
_CPU_QUOTA = pathlib.Path("/sys/fs/cgroup/cpu.max")
_MEMORY_LIMITS = tuple(pathlib.Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory/memory.limit_in_bytes"))
_BYTES_PER_PROCESS = 3 * 2**30  # a worker peaks at 1.9 GB, at the start; at 3.5 GB with a photo of the largest size


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


def split_flags(parser: Parser, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tells Beam's flags from ours and from the names of photos among them.

    Args:
      parser: Reports flags with values that Beam does not take.
      argv: The command line.

    Returns:
      What is not Beam's, and what is, both in their order.
    """
    flags = [argument for argument in argv if argument not in _OURS]
    captured: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=captured.append)
    beam_parser = captured[0]
    beam_parser.error = parser.error  # type: ignore[method-assign]  # one line instead of Beam's whole usage
    _, others = beam_parser.parse_known_args(flags)
    ours, beams = [*others, *(argument for argument in argv if argument in _OURS)], []
    for argument in flags:
        if others and others[0] == argument:
            others = others[1:]
        else:
            beams.append(argument)
    return ours, beams


def parse_args(parser: Parser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Reads a command line in which our flags, Beam's, and positional arguments may stand in any order.

    Flags that nobody knows are refused, as Beam itself only logs them. Runners with a job server ask that for more
    flags, so those pass, unless they look like a slip at one that is known; they need the form --flag=value.

    Returns:
      Our values, and Beam's flags.
    """
    if not {"-h", "--help"}.isdisjoint(argv):
        parser.parse_args(["--help"])  # before Beam's parser shows its own
    ours, beams = split_flags(parser, argv)
    _, unknown = parser.parse_known_intermixed_args(ours)
    engines = [argument for argument in unknown if argument.startswith("--")]
    args, unknown = parser.parse_known_intermixed_args([argument for argument in ours if argument not in engines])
    args.runner = runner_name(beams)
    if args.runner == LOCAL_RUNNER and (lonely := [flag for flag in beams if flag.startswith(_ENGINES_FLAGS)]):
        parser.error(f"{lonely[0].partition('=')[0]} needs a --runner")
    if args.runner in _OWN_FLAGS:
        unknown = [flag for flag in engines if _is_misspelled(flag, parser)] + unknown
    else:
        unknown = engines + unknown
    if unknown:
        hint = "" if unknown[0].startswith("-") else " (see --help for how photos are named)"
        parser.error(f"unknown argument {unknown[0]}{hint}")
    if args.runner != LOCAL_RUNNER:
        try:
            create_runner(args.runner)
        except (ValueError, ImportError) as error:
            parser.error(f"--runner {args.runner}: {error}")
    return args, beams + engines


def runner_name(argv: Sequence[str]) -> str:
    """The runner that Beam flags ask for, as Beam writes it."""
    asked = PipelineOptions(list(argv)).view_as(StandardOptions).runner or LOCAL_RUNNER
    known = {name.lower(): name for name in StandardOptions.KNOWN_RUNNER_NAMES}
    return known.get(asked.lower(), known.get(f"{asked.lower()}runner", asked))


def _is_misspelled(flag: str, parser: Parser) -> bool:
    """Whether a flag that nobody knows is all but one of those that are known."""
    known: list[argparse.ArgumentParser] = [parser]
    PipelineOptions([]).get_all_options(add_extra_args_fn=known.append)
    names = [name for each in known for name in each._option_string_actions]
    return bool(difflib.get_close_matches(flag.partition("=")[0], names, n=1, cutoff=_SLIP))


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
        finished = _run_on_engine(build, options, name, title)
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


def _run_on_engine(
    build: Callable[[beam.Pipeline], None], options: PipelineOptions, runner: str, title: str
) -> beam.runners.runner.PipelineResult:
    """Runs a pipeline on an engine, which shows its progress on pages of its own."""
    for talkative in ("apache_beam.utils.subprocess_server", "PrismRunner"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    settle(options)
    with elapsing(f"{title} on {runner}"):
        pipeline = _refusing(lambda: beam.Pipeline(options=options), runner)
        build(pipeline)
        with _deaf_to_ctrl_c():
            result = _refusing(pipeline.run, runner)
        if place := options.view_as(GoogleCloudOptions).template_location:
            raise Launched(f"{place} describes the job; when it has run, the same command without --runner ends it")
        try:
            return _wait(result)
        except KeyboardInterrupt:
            _cancel(result, options, runner)
            raise
        except Exception as error:  # Beam's clients each have kinds of their own for a job that failed
            raise RunFailed(f"{runner}: {_in_a_line(error)}") from error


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Has processes that are started now take no notice of Ctrl-C, which a terminal sends to all of a group.

    Without its job server there is no way to cancel a job. Beam puts a handler there that ends it; it is taken back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, kept)


def settle(options: PipelineOptions) -> None:
    """Sets what holds on every engine, whatever was asked."""
    options.view_as(SetupOptions).save_main_session = False  # all code is in modules; Dataflow's default is to send it


def _refusing(submit: Callable[[], Any], runner: str) -> Any:
    """Hands something to an engine; what is wrong with its flags is the user's to mend."""
    try:
        return submit()
    except (ValueError, OSError) as error:
        raise UsageError(f"{runner}: {_in_a_line(error)}") from error
    except (RuntimeError, grpc.RpcError) as error:
        raise RunFailed(f"{runner}: {_in_a_line(error)}") from error


def _cancel(result: beam.runners.runner.PipelineResult, options: PipelineOptions, runner: str) -> None:
    try:
        if runner == "FlinkRunner":
            _cancel_on_flink(options.view_as(FlinkRunnerOptions).flink_master, result._job_id)
        result.cancel()
    except Exception as error:  # its client may have been interrupted, too
        complain(
            f"the job may yet run on {runner}, which could not be told ({_in_a_line(error)}): "
            "end it there before the command is given again"
        )


def _cancel_on_flink(master: str, job: str) -> None:
    """Ends a job by Flink's REST API, as Beam's job server only stops to wait for it.

    Args:
      master: host:port of the job manager.
      job: Beam's id of the job, which begins with the name that it has in Flink.
    """
    address = master if "://" in master else f"http://{master}"
    jobs = requests.get(f"{address}/jobs/overview", timeout=_SECONDS_TO_CANCEL).json()["jobs"]
    for each in jobs:
        if each["name"] == job.rpartition("_")[0]:
            requests.patch(f"{address}/jobs/{each['jid']}?mode=cancel", timeout=_SECONDS_TO_CANCEL).raise_for_status()


def _in_a_line(error: BaseException) -> str:
    """What an engine says: of a list all of it, of a whole traceback the last line, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].endswith(":") and "Traceback" not in str(error):
        return " ".join(lines)
    if "Traceback (most recent call last)" not in str(error):
        return lines[0]
    return f"{lines[0].partition('Traceback')[0].strip()} {lines[-1]}".strip()


def _finish(pipeline: beam.Pipeline) -> beam.runners.runner.PipelineResult:
    try:
        return _wait(pipeline.run())
    except RuntimeError as error:
        if str(error).startswith("KeyboardInterrupt"):  # what Beam makes of it when it strikes within a step
            raise KeyboardInterrupt from error
        raise


def _wait(result: beam.runners.runner.PipelineResult) -> beam.runners.runner.PipelineResult:
    state = result.wait_until_finish() or result.state
    if state != PipelineState.DONE:
        raise RunFailed(f"the runner ended the job as {state}")
    return result


def _local_workers(photos: int) -> int:
    return max(1, min(cores(), photos // _PHOTOS_WORTH_A_PROCESS, memory() // _BYTES_PER_PROCESS))


def memory(limits: Sequence[pathlib.Path] = _MEMORY_LIMITS) -> int:
    """Bytes of memory this process may use: the machine's, or its container's.

    Args:
      limits: Files in which the kernel tells a container's limit, in bytes.
    """
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in limits:
        with contextlib.suppress(OSError, ValueError):  # there is none, or it says "max"
            return min(whole, int(limit.read_text()))
    return whole


def cores(quota: pathlib.Path = _CPU_QUOTA) -> int:
    """Cores this process may use: the machine's, or its container's.

    Args:
      quota: File in which the kernel tells a container's limit: microseconds of processor time, and in how many.
    """
    # There is no affinity on macOS.
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # there is none, or it says "max"
        allowed, period = map(int, quota.read_text().split())
        return max(1, min(found, math.ceil(allowed / period)))
    return found


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
