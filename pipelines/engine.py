"""Runs a pipeline on an engine past this machine: Flink, Dataflow, Prism, whatever Beam has a runner for."""

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
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

from celebface.pipelines.arguments import Launched, RunFailed, UsageError
from celebface.pipelines.progress import elapsing
from celebface.pipelines.text import complain

_SECONDS_TO_ANSWER = 10.0
_FLINK_PORT = 8081  # if none is named


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
    if runner == "FlinkRunner":
        _find_flink(options)
    with elapsing(f"{title} on {runner}"):
        pipeline = _refusing(lambda: beam.Pipeline(options=options), runner)
        build(pipeline)
        with _deaf_to_ctrl_c():
            result = _refusing(pipeline.run, runner)
        if place := options.view_as(GoogleCloudOptions).template_location:
            raise Launched(f"{place} describes the job; when it has run, the same command without --runner ends it")
        try:
            return wait(result)
        except KeyboardInterrupt:
            _cancel(result, options, runner)
            raise
        except Exception as error:  # Beam's clients each have kinds of their own for a job that failed
            raise RunFailed(f"{runner}: {_in_a_line(error)}") from error


def _find_flink(options: PipelineOptions) -> None:
    """Looks whether anybody listens where the job manager should, as Beam's job server takes a minute and names nobody.

    One that is not asked from here, but by a job server elsewhere, or that starts with the job, is not looked for.
    """
    master = options.view_as(FlinkRunnerOptions).flink_master
    if master in ("[auto]", "[local]", "[collection]") or options.view_as(PortableOptions).job_endpoint:
        return
    try:
        place = urlsplit(_url(master))
        socket.create_connection((place.hostname, place.port or _FLINK_PORT), _SECONDS_TO_ANSWER).close()
    except ValueError as error:
        raise UsageError(f"--flink_master {master}: {error}") from error
    except OSError as error:
        raise RunFailed(f"FlinkRunner: nobody listens at {master} ({error.strerror or error})") from error


def _url(master: str) -> str:
    return master if "://" in master else f"http://{master}"


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
    address = _url(master)
    jobs = requests.get(f"{address}/jobs/overview", timeout=_SECONDS_TO_ANSWER).json()["jobs"]
    for each in jobs:
        if each["name"] == job.rpartition("_")[0]:
            requests.patch(f"{address}/jobs/{each['jid']}?mode=cancel", timeout=_SECONDS_TO_ANSWER).raise_for_status()


def _in_a_line(error: BaseException) -> str:
    """What an engine says: of a list all of it, of a whole traceback the last line, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].endswith(":") and "Traceback" not in str(error):
        return " ".join(lines)
    if "Traceback (most recent call last)" not in str(error):
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
