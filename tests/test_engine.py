"""How jobs are handed to an engine, and what is told of it."""

import socket

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from celebface.pipelines import engine
from celebface.pipelines.arguments import RunFailed, UsageError


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


class Job(PipelineResult):
    def __init__(self, engine: Engine, fault: BaseException | None):
        super().__init__(PipelineState.RUNNING)
        self._engine, self._fault = engine, fault

    def wait_until_finish(self, duration=None):
        raise self._fault

    def cancel(self):
        self._engine.cancelled = True


def run_on(asked: Engine, monkeypatch) -> None:
    pipeline = beam.Pipeline
    monkeypatch.setattr(engine.beam, "Pipeline", lambda options: pipeline(runner=asked, options=options))
    engine.run_on_engine(lambda made: made | beam.Create([1]), PipelineOptions(), "SomeRunner", "test")


def test_flags_that_an_engine_does_not_take_are_wrong_usage(monkeypatch):
    with pytest.raises(UsageError, match="SomeRunner: Unable to parse jar URL"):
        run_on(Engine(at_submission=ValueError("Unable to parse jar URL")), monkeypatch)


def test_a_cluster_that_is_not_there_is_told_at_once_with_its_address():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        master = f"127.0.0.1:{taken.getsockname()[1]}"
    options = PipelineOptions([f"--flink_master={master}"])
    with pytest.raises(RunFailed, match=f"FlinkRunner: nobody listens at {master} .Connection refused."):
        engine.run_on_engine(lambda made: None, options, "FlinkRunner", "test")


def test_an_address_that_is_none_is_wrong_usage():
    options = PipelineOptions(["--flink_master=cluster:http"])
    with pytest.raises(UsageError, match="--flink_master cluster:http: "):
        engine.run_on_engine(lambda made: None, options, "FlinkRunner", "test")


class JobFailed(Exception):
    """As Dataflow's client has one, which is no RuntimeError."""


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
