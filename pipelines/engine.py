"""Runs a pipeline on an engine past this machine: Flink, Dataflow, Prism, whatever Beam has a runner for."""

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import apache_beam as beam
import grpc
import requests
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
)
from apache_beam.runners.runner import PipelineState

from celebface.pipelines import threads
from celebface.pipelines.arguments import Launched, NotStarted, RunFailed, UsageError
from celebface.pipelines.progress import elapsing
from celebface.pipelines.text import complain

_SECONDS_TO_ANSWER = 10.0
_FLINK_PORT, _HTTPS_PORT = 8081, 443  # if none is named
_LISTENER = "wait_until_finish_read"  # Beam's name for the thread that reads what a job server says
_SECONDS_TO_HEAR = 2.0
_ENDED = ("FINISHED", "FAILED", "CANCELED")  # states of a job in Flink
_WITH_JOB_SERVER = ("FlinkRunner", "PrismRunner", "SparkRunner")  # which Beam starts on this machine


def run_on_engine(
    build: Callable[[beam.Pipeline], None], options: PipelineOptions, runner: str, title: str
) -> beam.runners.runner.PipelineResult:
    """Runs a pipeline to its end on an engine, which shows its progress on pages of its own.

    Args:
      build: Applies the transforms.
      options: Beam's.
      runner: Its name, as Beam writes it.
      title: Of the job, for people.

    Raises:
      Launched: If the job is to be a template.
      UsageError: If the engine does not take the job for its flags.
      RunFailed: If it is not there, or did not end the job as done.
    """
    for talkative in ("apache_beam.utils.subprocess_server", "PrismRunner"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    settle(options)
    flink = _flink_address(options) if runner == "FlinkRunner" else ""
    if address := options.view_as(PortableOptions).job_endpoint or flink:
        _find(address)
    # What threads hear of a job server that is gone is what `wait` hears of it.
    with elapsing(f"{title} on {runner}"), threads.hiding(lambda raised: isinstance(raised, grpc.RpcError)):
        with _refusing(runner):
            pipeline = beam.Pipeline(options=options)
        build(pipeline)
        with _refusing(runner), _deaf_to_ctrl_c() if runner in _WITH_JOB_SERVER else contextlib.nullcontext():
            result = pipeline.run()
        if place := options.view_as(GoogleCloudOptions).template_location:
            raise Launched(f"{place} describes the job; after it the same command without flags of Beam ends it")
        try:
            return wait(result)
        except KeyboardInterrupt:
            _cancel(result, runner, flink)
            raise
        except Exception as error:  # Beam's clients each have kinds of their own for a job that failed
            threads.join(_LISTENER, _SECONDS_TO_HEAR)  # which may hear of it later, when nothing is hidden any more
            raise RunFailed(f"{runner}: {_in_a_line(error)}") from error


def settle(options: PipelineOptions) -> None:
    """Sets what holds on every engine, whatever was asked."""
    options.view_as(SetupOptions).save_main_session = False  # all code is in modules; Dataflow's default is to send it


def _find(address: str) -> None:
    """Looks whether anybody listens there, as Beam waits for minutes, and then does not say where it asked."""
    try:
        place = urlsplit(_url(address))
        socket.create_connection((place.hostname, place.port or _HTTPS_PORT), _SECONDS_TO_ANSWER).close()
    except ValueError as error:
        raise UsageError(f"{address} is no address: {error}") from error
    except OSError as error:
        raise NotStarted(f"nobody listens at {address} ({error.strerror or error})") from error


def _url(address: str) -> str:
    return address if "://" in address else f"http://{address}"


@contextlib.contextmanager
def _refusing(runner: str) -> Iterator[None]:
    """Hands something to an engine; what is wrong with its flags is the user's to mend."""
    try:
        yield
    except (ValueError, FileNotFoundError, PermissionError) as error:
        raise UsageError(f"{runner}: {_in_a_line(error)}") from error
    except Exception as error:  # of the network, of whoever checks credentials, of the job server: each has its kinds
        raise NotStarted(f"{runner}: {_in_a_line(error)}") from error


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Has processes that are started now take no notice of Ctrl-C, which a terminal sends to all of a group.

    The job server must outlive it, as jobs are cancelled by it; Beam puts a handler there that ends it, which is taken
    back. A Ctrl-C in these seconds is lost: only a process that ignores it starts others that do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, kept)


def _cancel(result: beam.runners.runner.PipelineResult, runner: str, flink: str) -> None:
    try:
        try:
            if flink:
                _cancel_on_flink(flink, result._job_id.rpartition("_")[0])
        finally:
            result.cancel()
    except Exception as error:  # its client may have been interrupted, too
        complain(
            f"the job may yet run on {runner}, which could not be told ({_in_a_line(error)}): "
            "end it there before the command is given again"
        )


# --- Flink ------------------------------------------------------------------------------------------------------------


def _flink_address(options: PipelineOptions) -> str:
    """The URL of Flink's REST API.

    Empty if it is not to be asked from here: a job server elsewhere knows it, or the cluster starts with the job.

    Raises:
      UsageError: If the address is none.
    """
    master = options.view_as(FlinkRunnerOptions).flink_master
    if master in ("[auto]", "[local]", "[collection]") or options.view_as(PortableOptions).job_endpoint:
        return ""
    url = _url(master)
    try:
        place = urlsplit(url)
        return url if place.port or place.scheme != "http" else f"{url.rstrip('/')}:{_FLINK_PORT}"
    except ValueError as error:
        raise UsageError(f"--flink_master {master}: {error}") from error


def _cancel_on_flink(address: str, name: str) -> None:
    """Ends a job by Flink's REST API, as Beam's job server only stops to wait for it.

    Args:
      address: URL of the API.
      name: Of the job. Beam makes names that are unique; of those that were given, the latest job is meant.
    """
    jobs = requests.get(f"{address}/jobs/overview", timeout=_SECONDS_TO_ANSWER).json()["jobs"]
    running = [job for job in jobs if job["name"] == name and job["state"] not in _ENDED]
    if running:
        latest = max(running, key=lambda job: job["start-time"])
        answer = requests.patch(f"{address}/jobs/{latest['jid']}?mode=cancel", timeout=_SECONDS_TO_ANSWER)
        if answer.status_code not in (requests.codes.not_found, requests.codes.conflict):  # it has ended meanwhile
            answer.raise_for_status()


# --- how it went ------------------------------------------------------------------------------------------------------


def _in_a_line(error: BaseException) -> str:
    """What an engine says: of a list all of it, of a whole traceback the last line, which names the cause."""
    said = (error.details() or "") if isinstance(error, grpc.Call) else str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].endswith(":") and "Traceback" not in said:
        return " ".join(lines)
    if "Traceback (most recent call last)" not in said:
        return lines[0]
    return f"{lines[0].partition('Traceback')[0].strip()} {lines[-1]}".strip()


def wait(result: beam.runners.runner.PipelineResult) -> beam.runners.runner.PipelineResult:
    """Waits for a job's end.

    Raises:
      RunFailed: If it ended otherwise than done.
    """
    state = result.wait_until_finish() or result.state
    if state != PipelineState.DONE:
        raise RunFailed(f"the runner ended the job as {state}")
    return result
