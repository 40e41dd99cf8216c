"""How jobs are handed to an engine, and what is told of it."""

import contextlib
import http.server
import json
import signal
import socket
import threading
from collections.abc import Iterator

import apache_beam as beam
import grpc
import pytest
import requests
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from celebface.pipelines import engine, threads
from celebface.pipelines.arguments import Launched, NotStarted, RunFailed, UsageError


class Engine(PipelineRunner):
    """An engine as its client shows it."""

    def __init__(self, at_submission: Exception | None = None, later: BaseException | None = None):
        super().__init__()
        self.cancelled = False
        self._at_submission, self._later = at_submission, later

    def run_pipeline(self, pipeline, options):
        if self._at_submission:
            raise self._at_submission
        return Job(self, self._later)


class LateListener(PipelineRunner):
    """An engine whose job server dies, of which the thread that listens to it hears later than the driver."""

    def run_pipeline(self, pipeline, options):
        told = threading.Event()

        def listen():
            told.wait(20)
            raise grpc.RpcError

        class Lost(PipelineResult):
            def wait_until_finish(self, duration=None):
                threading.Thread(target=listen, name="wait_until_finish_read", daemon=True).start()
                threading.Timer(0.3, told.set).start()
                raise RuntimeError("Stream removed")

        return Lost(PipelineState.RUNNING)


def test_what_beams_listener_hears_late_is_hidden_too(monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    with pytest.raises(RunFailed, match=r"^SomeRunner: Stream removed$"):
        run_on(LateListener(), monkeypatch)
    assert "wait_until_finish_read" not in {thread.name for thread in threading.enumerate()}
    assert not reported


class Job(PipelineResult):
    def __init__(self, engine: Engine, fault: BaseException | None):
        super().__init__(PipelineState.RUNNING)
        self._engine, self._fault = engine, fault

    def wait_until_finish(self, duration=None):
        raise self._fault

    def cancel(self):
        self._engine.cancelled = True


def run_on(asked: PipelineRunner, monkeypatch, *flags: str, name: str = "SomeRunner") -> None:
    pipeline = beam.Pipeline
    monkeypatch.setattr(engine.beam, "Pipeline", lambda options: pipeline(runner=asked, options=options))
    engine.run_on_engine(lambda made: made | beam.Create([1]), PipelineOptions(list(flags)), name, "test")


@pytest.mark.parametrize("fault", [ValueError("Unable to parse jar URL"), FileNotFoundError("no such jar")])
def test_flags_that_an_engine_does_not_take_are_wrong_usage(fault, monkeypatch):
    with pytest.raises(UsageError, match=f"^SomeRunner: {fault}$"):
        run_on(Engine(at_submission=fault), monkeypatch)


class NoCredentials(Exception):
    """As Google's libraries have one, which is nothing else."""


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (grpc.FutureTimeoutError(), "FutureTimeoutError"),
        (NoCredentials("none were found"), "none were found"),
        (requests.ConnectionError("unreachable"), "unreachable"),
        (RuntimeError("the job server died"), "the job server died"),
    ],
)
def test_a_job_that_an_engine_does_not_get_is_told_in_a_line(fault, told, monkeypatch):
    with pytest.raises(NotStarted, match=f"^SomeRunner: {told}$"):
        run_on(Engine(at_submission=fault), monkeypatch)


def test_a_cluster_that_is_not_there_is_told_at_once_with_its_address():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        master = f"127.0.0.1:{taken.getsockname()[1]}"
    options = PipelineOptions([f"--flink_master={master}"])
    with pytest.raises(NotStarted, match=f"^nobody listens at http://{master} .Connection refused.$"):
        engine.run_on_engine(lambda made: None, options, "FlinkRunner", "test")


@pytest.mark.parametrize("at", ["localhost:{}", "http://localhost:{}"])
def test_a_job_server_that_is_not_there_is_told_at_once(at):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = at.format(taken.getsockname()[1])
    options = PipelineOptions([f"--job_endpoint={endpoint}"])
    with pytest.raises(NotStarted, match=f"^nobody listens at {endpoint} "):
        engine.run_on_engine(lambda made: None, options, "PortableRunner", "test")


def test_an_engine_that_cannot_be_asked_whether_flags_are_right_is_told_in_a_line(monkeypatch):
    def fail(options):
        raise requests.ConnectionError("the bucket cannot be reached")

    monkeypatch.setattr(engine.beam, "Pipeline", fail)
    with pytest.raises(NotStarted, match=r"^DataflowRunner: the bucket cannot be reached$"):
        engine.run_on_engine(lambda made: None, PipelineOptions(), "DataflowRunner", "test")


def test_an_address_that_is_none_is_wrong_usage():
    options = PipelineOptions(["--flink_master=cluster:http"])
    with pytest.raises(UsageError, match="--flink_master cluster:http: "):
        engine.run_on_engine(lambda made: None, options, "FlinkRunner", "test")


def test_a_job_that_is_only_described_is_not_waited_for(monkeypatch):
    waiting = Engine(later=AssertionError("it was waited for"))
    with pytest.raises(Launched, match=r"^gs://b/template describes the job; after it the same command"):
        run_on(waiting, monkeypatch, "--template_location=gs://b/template")


class JobFailed(Exception):
    """As Dataflow's client has one, which is no RuntimeError."""


def test_a_job_server_that_dies_is_told_in_a_line():
    """By a real client, whose errors have a dozen lines."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        channel = grpc.insecure_channel(f"127.0.0.1:{listening.getsockname()[1]}")
    call = channel.unary_unary("/org.apache.beam.model.job_management.v1.JobService/GetState")
    with pytest.raises(grpc.RpcError) as gone:
        call(b"", timeout=20)
    told = engine._in_a_line(gone.value)
    assert "Connection refused" in told and "\n" not in told and "grpc_status" not in told


@pytest.mark.parametrize(("raised", "heard"), [(grpc.RpcError(), 0), (ValueError(), 1)])
def test_threads_are_only_heard_of_what_nobody_else_tells(raised, heard, monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def fail():
        raise raised

    with threads.hiding(lambda error: isinstance(error, grpc.RpcError)):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert len(reported) == heard
    assert threading.excepthook == reported.append


def test_a_job_that_failed_is_told_by_its_cause(monkeypatch):
    said = "The job failed, Error:\nTraceback (most recent call last):\n  File x\nKeyError: 'photo'\n"
    with pytest.raises(RunFailed) as failed:
        run_on(Engine(later=JobFailed(said)), monkeypatch)
    assert str(failed.value) == "SomeRunner: The job failed, Error: KeyError: 'photo'"


def test_an_interrupted_command_takes_its_job_with_it(monkeypatch):
    asked = Engine(later=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_on(asked, monkeypatch)
    assert asked.cancelled


def test_a_job_that_cannot_be_ended_is_told(monkeypatch, capsys):
    def fail(self):
        raise RuntimeError("connection refused")

    monkeypatch.setattr(Job, "cancel", fail)
    with pytest.raises(KeyboardInterrupt):
        run_on(Engine(later=KeyboardInterrupt()), monkeypatch)
    assert "the job may yet run on SomeRunner, which could not be told (connection refused)" in capsys.readouterr().err


def test_a_runner_that_does_not_finish_fails_the_run():
    class Cancelled(PipelineRunner):
        def run_pipeline(self, pipeline, options):
            return PipelineResult(PipelineState.CANCELLED)

    pipeline = beam.Pipeline(runner=Cancelled())
    pipeline | beam.Create([1])
    with pytest.raises(RunFailed, match="CANCELLED"):
        engine.wait(pipeline.run())


# --- Flink ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "address"),
    [
        (["--flink_master=cluster:8082"], "http://cluster:8082"),
        (["--flink_master=cluster"], "http://cluster:8081"),
        (["--flink_master=https://cluster"], "https://cluster"),
        ([], ""),  # it starts with the job
        (["--flink_master=cluster:8082", "--job_endpoint=elsewhere:8099"], ""),
    ],
)
def test_flink_is_asked_where_its_flag_says(flags, address):
    assert engine._flink_address(PipelineOptions(flags)) == address


def job(number: int, name: str, state: str) -> dict:
    return {"jid": str(number), "name": name, "state": state, "start-time": number}


@contextlib.contextmanager
def flink(jobs: list[dict], status: int = 202) -> Iterator[tuple[str, list[str]]]:
    """As much of Flink's REST API as is used: its address, and the jobs that it was asked to end."""
    ended: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == "/jobs/overview"
            self.answer(200, {"jobs": jobs})

        def do_PATCH(self):
            ended.append(self.path)
            self.answer(status, {})

        def answer(self, code: int, content: dict) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *args) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", ended
        server.shutdown()


class Interrupted(Job):
    """A job whose driver hears Ctrl-C."""

    _job_id = "nightly_7d5c"


def interrupted() -> Interrupted:
    return Interrupted(Engine(), KeyboardInterrupt())


JOBS = [
    job(1, "nightly", "FINISHED"),
    job(2, "nightly", "RUNNING"),
    job(3, "nightly", "RUNNING"),
    job(4, "x", "RUNNING"),
]


@pytest.mark.parametrize("status", [202, 404, 409])
def test_the_latest_job_of_the_name_is_ended_and_no_other(status, capsys):
    result = interrupted()
    with flink(JOBS, status) as (address, ended):
        engine._cancel(result, "FlinkRunner", address)
    assert ended == ["/jobs/3?mode=cancel"]
    assert result._engine.cancelled
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("jobs", [JOBS[:1], []])
def test_a_job_that_has_ended_is_left_alone(jobs, capsys):
    result = interrupted()
    with flink(jobs) as (address, ended):
        engine._cancel(result, "FlinkRunner", address)
    assert (ended, result._engine.cancelled, capsys.readouterr().err) == ([], True, "")


def test_beam_cancels_its_job_even_if_flink_does_not_answer(capsys):
    result = interrupted()
    with flink(JOBS, status=500) as (address, _):
        engine._cancel(result, "FlinkRunner", address)
    assert result._engine.cancelled
    assert "the job may yet run on FlinkRunner" in capsys.readouterr().err


# --- Ctrl-C while a job is handed over --------------------------------------------------------------------------------


class Telling(PipelineRunner):
    """Tells what becomes of Ctrl-C while it takes a job."""

    def run_pipeline(self, pipeline, options):
        self.during = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as Beam's job server's client sets its own
        return PipelineResult(PipelineState.DONE)


@pytest.mark.parametrize(("name", "is_deaf"), [("FlinkRunner", True), ("PrismRunner", True), ("FnApiRunner", False)])
def test_only_job_servers_are_started_deaf_to_ctrl_c(name, is_deaf, monkeypatch):
    runner = Telling()
    kept = signal.getsignal(signal.SIGINT)
    try:
        run_on(runner, monkeypatch, name=name)
        assert (runner.during is signal.SIG_IGN) == is_deaf
        assert (signal.getsignal(signal.SIGINT) is kept) == is_deaf
    finally:
        signal.signal(signal.SIGINT, kept)
