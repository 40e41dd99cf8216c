"""How runs are executed: workers, counters, progress."""

import io
import os
import pathlib

import apache_beam as beam
import pytest
from apache_beam.utils.shared import Shared
from rich.console import Console

from celebface.pipelines import execution, machine
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
    threads = max(1, machine.cores() // workers)
    assert {path.read_text() for path in tmp_path.iterdir()} == {str(threads)}
    assert "TF_NUM_INTRAOP_THREADS" not in os.environ  # the next run of this process may have other workers


def test_other_runners_get_their_flags_untouched(tmp_path):
    flags = ["--runner=BundleBasedDirectRunner"]
    report = execution.run(build(tmp_path), flags, photos_at_least=40, title="test")
    assert (report.runner, report.workers) == ("BundleBasedDirectRunner", 0)
    assert report.stages["count"].items_in == 40


def test_many_photos_are_worth_all_cores_that_memory_allows(monkeypatch):
    monkeypatch.setattr(execution, "cores", lambda: 64)
    monkeypatch.setattr(execution, "memory", lambda: 10 * execution.BYTES_PER_WORKER)
    assert execution._local_workers(photos=5) == 1
    assert execution._local_workers(photos=310) == 2
    assert execution._local_workers(photos=100_000) == 10


@pytest.mark.parametrize(
    ("flag", "workers"), [("--direct_num_workers=1", 1), ("--direct_num_workers=0", machine.cores())]
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
