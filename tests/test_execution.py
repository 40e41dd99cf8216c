"""How runs are executed: flags, workers, counters."""

import io
import os
import pathlib

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from apache_beam.utils.shared import Shared
from rich.console import Console

from celebface.pipelines import execution
from celebface.pipelines.arguments import Parser, RunFailed, UsageError
from celebface.pipelines.progress import ProgressBar
from celebface.transforms import progress
from celebface.transforms.metrics import StageMetrics


@pytest.fixture(autouse=True)
def workers_can_import_this(monkeypatch):
    """Worker processes do not import from the current folder, but they must find the steps of these tests."""
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[1]))


class Count(beam.DoFn):
    """Counts, and tells in which process."""

    def __init__(self):
        self._metrics = StageMetrics("count")
        self._shared = Shared()

    def process(self, number):
        self._metrics.taken()
        self._metrics.passed()
        self._metrics.spent("work", 0.25)
        progress.add({"photos": 1})
        yield os.getpid(), os.environ.get("TF_NUM_INTRAOP_THREADS")


class Note(beam.DoFn):
    """Writes what it sees into files."""

    def __init__(self, folder: str):
        self._folder = folder

    def process(self, seen):
        pid, threads = seen
        (pathlib.Path(self._folder) / str(pid)).write_text(str(threads))


def build(folder: pathlib.Path):
    def apply(pipeline: beam.Pipeline) -> None:
        numbers = pipeline | beam.Create(range(40)) | beam.Reshuffle()
        numbers | beam.ParDo(Count()) | beam.ParDo(Note(str(folder)))

    return apply


@pytest.mark.parametrize(("flags", "workers"), [([], 1), (["--direct_num_workers=2"], 2)])
def test_counters_are_summed_over_the_workers(tmp_path, flags, workers, monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    report = execution.run(build(tmp_path), flags, photos_at_least=40, title="test")
    assert report.workers == workers and report.runner == "DirectRunner"
    assert report.stages["count"] == execution.StageCounts(40, 40, {}, {}, {"work": 10.0})
    assert len(list(tmp_path.iterdir())) == workers
    threads = max(1, execution.cores() // workers)
    assert {path.read_text() for path in tmp_path.iterdir()} == {str(threads)}
    assert "TF_NUM_INTRAOP_THREADS" not in os.environ  # the next run of this process may have other workers


def test_other_runners_get_their_flags_untouched(tmp_path):
    flags = ["--runner=BundleBasedDirectRunner"]
    report = execution.run(build(tmp_path), flags, photos_at_least=40, title="test")
    assert (report.runner, report.workers) == ("BundleBasedDirectRunner", 0)
    assert report.stages["count"].items_in == 40


def test_many_photos_are_worth_all_cores_that_memory_allows(monkeypatch):
    monkeypatch.setattr(execution, "cores", lambda: 64)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert execution._local_workers(photos=5) == 1
    assert execution._local_workers(photos=310) == 2
    assert execution._local_workers(photos=100_000) == min(64, memory // (3 * 2**30))


@pytest.mark.parametrize(
    ("flag", "workers"), [("--direct_num_workers=1", 1), ("--direct_num_workers=0", execution.cores())]
)
def test_the_number_of_workers_may_be_chosen(tmp_path, flag, workers):
    assert execution.run(build(tmp_path), [flag], photos_at_least=100_000, title="test").workers == workers


def test_an_interruption_within_a_step_is_an_interruption():
    def interrupt(_):
        raise KeyboardInterrupt

    pipeline = beam.Pipeline(runner="FnApiRunner")
    pipeline | beam.Create([1]) | beam.Map(interrupt)
    with pytest.raises(KeyboardInterrupt):
        execution._finish(pipeline)


def parse(*argv: str):
    parser = Parser("match", "", "")
    parser.add_argument("photo", nargs="*")
    parser.add_argument("--top_k", type=int)
    parser.add_argument("--runner")
    return execution.parse_args(parser, argv)


@pytest.mark.parametrize(
    "argv",
    [
        ["a.jpg", "--top_k", "3", "b.jpg", "--direct_num_workers", "2"],
        ["--direct_num_workers", "2", "a.jpg", "b.jpg", "--top_k=3"],
        ["--top_k", "3", "--direct_num_workers=2", "a.jpg", "b.jpg"],
    ],
)
def test_photos_and_flags_may_stand_in_any_order(argv):
    args, beam_flags = parse(*argv)
    assert (args.photo, args.top_k, args.runner) == (["a.jpg", "b.jpg"], 3, "DirectRunner")
    assert PipelineOptions(beam_flags).view_as(DirectOptions).direct_num_workers == 2


def test_other_runners_have_flags_of_their_own(capsys):
    args, beam_flags = parse("--runner", "FlinkRunner", "a.jpg", "--some_flink_flag=3", "b.jpg")
    assert (args.photo, args.runner) == (["a.jpg", "b.jpg"], "FlinkRunner")
    assert beam_flags == ["--runner", "FlinkRunner", "--some_flink_flag=3"]
    with pytest.raises(SystemExit) as ended:
        parse("--some_flink_flag=3", "a.jpg")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "celebface match: unknown argument --some_flink_flag=3\n"


@pytest.mark.parametrize("slip", ["--top_kk=3", "--max_num_worker=50", "--top_=3"])
def test_a_slip_is_no_flag_of_the_runners(slip, capsys):
    """--no_crop for --no_crops would keep what somebody does not want kept."""
    with pytest.raises(SystemExit) as ended:
        parse("--runner=FlinkRunner", "a.jpg", slip)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"celebface match: unknown argument {slip}\n"


def test_runners_without_a_job_server_have_no_flags_of_their_own(capsys):
    with pytest.raises(SystemExit):
        parse("--runner=BundleBasedDirectRunner", "a.jpg", "--some_flink_flag=3")
    assert capsys.readouterr().err == "celebface match: unknown argument --some_flink_flag=3\n"


@pytest.mark.parametrize(
    ("asked", "name"),
    [("directrunner", "DirectRunner"), ("flink", "FlinkRunner"), ("a.module.Runner", "a.module.Runner")],
)
def test_runners_are_known_however_they_are_written(asked, name):
    assert execution.runner_name([f"--runner={asked}"]) == name


def test_memory_is_the_containers(tmp_path):
    (tmp_path / "unlimited").write_text("max\n")
    (tmp_path / "limited").write_text(f"{2**30}\n")
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert execution.memory([tmp_path / "none", tmp_path / "limited"]) == 2**30
    assert execution.memory([tmp_path / "unlimited"]) == whole


@pytest.mark.parametrize(("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None)])
def test_cores_are_the_containers(tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert execution.cores(tmp_path / "cpu.max") == (cores or len(os.sched_getaffinity(0)))


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


def run_on(engine: Engine, monkeypatch) -> None:
    pipeline = beam.Pipeline
    monkeypatch.setattr(execution.beam, "Pipeline", lambda options: pipeline(runner=engine, options=options))
    execution.run(lambda made: made | beam.Create([1]), ["--runner=SomeRunner"], photos_at_least=1, title="test")


def test_flags_that_an_engine_does_not_take_are_wrong_usage(monkeypatch):
    with pytest.raises(UsageError, match="SomeRunner: Unable to parse jar URL"):
        run_on(Engine(at_submission=ValueError("Unable to parse jar URL")), monkeypatch)


class JobFailed(Exception):
    """As Dataflow's client has one, which is no RuntimeError."""


def test_a_job_that_failed_is_told_by_its_cause(monkeypatch):
    said = "The job failed, Error:\nTraceback (most recent call last):\n  File x\nKeyError: 'photo'\n"
    with pytest.raises(RunFailed) as failed:
        run_on(Engine(later=JobFailed(said)), monkeypatch)
    assert str(failed.value) == "SomeRunner: The job failed, Error: KeyError: 'photo'"


def test_an_interrupted_command_takes_its_job_with_it(monkeypatch):
    engine = Engine(later=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_on(engine, monkeypatch)
    assert engine.cancelled


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
        execution._finish(pipeline)


def test_workers_do_not_import_from_the_folder_they_are_started_in(tmp_path, monkeypatch):
    """A folder of downloaded photos may hold an annoy.py."""
    (tmp_path / "annoy.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    report = execution.run(build(tmp_path / "out"), ["--direct_num_workers=2"], photos_at_least=40, title="test")
    assert report.stages["count"].items_out == 40


def test_workers_get_the_pipeline_options(tmp_path):
    """Beam's own multi-processing mode keeps them, and with them the credentials of an S3 endpoint."""
    flags = ["--direct_num_workers=2", "--s3_endpoint_url=http://127.0.0.1:1"]

    def apply(pipeline):
        pipeline | beam.Create([1]) | beam.Reshuffle() | beam.ParDo(ReadOption(str(tmp_path)))

    execution.run(apply, flags, photos_at_least=1, title="test")
    assert (tmp_path / "endpoint").read_text() == "http://127.0.0.1:1"


class ReadOption(beam.DoFn):
    """Writes an option as a worker sees it."""

    def __init__(self, folder: str):
        self._folder = folder

    def process(self, _):
        from apache_beam.io.filesystems import FileSystems
        from apache_beam.options.pipeline_options import S3Options

        endpoint = FileSystems._pipeline_options.view_as(S3Options).s3_endpoint_url
        (pathlib.Path(self._folder) / "endpoint").write_text(endpoint)


def test_the_progress_bar_shows_counts_on_a_terminal_only(tmp_path):
    (tmp_path / "1.json").write_text('{"listed": 10, "photos": 4, "faces": 3, "done": 3, "no_face": 1}')
    terminal = Console(force_terminal=True, width=120, record=True, file=io.StringIO())
    with ProgressBar(tmp_path, "match", terminal):
        pass
    shown = terminal.export_text()
    assert "4/10" in shown and "3 faces, 1 no_face" in shown and "done" not in shown
    pipe = Console(force_terminal=False, width=120, record=True, file=io.StringIO())
    with ProgressBar(tmp_path, "match", pipe):
        pass
    assert pipe.export_text() == ""


def test_the_runner_is_the_local_one_unless_named():
    assert execution.runner_name([]) == "DirectRunner"
    assert execution.runner_name(["--runner=FlinkRunner"]) == "FlinkRunner"
    assert StandardOptions([]).runner is None
