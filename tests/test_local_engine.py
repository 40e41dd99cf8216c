"""What becomes of a local run whose worker processes are killed."""

import os
import pathlib
import signal
import threading

import apache_beam as beam
import pytest

from celebface.pipelines import execution, local_engine
from celebface.pipelines.arguments import RunFailed


@pytest.fixture(autouse=True)
def workers_can_import_this(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, pathlib.Path(__file__).parents[:2])))


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Dies(beam.DoFn):
    """Dies at its first item, as often as there are files in a folder, each of which stands for one death."""

    def __init__(self, deaths: pathlib.Path):
        self._deaths = str(deaths)

    def process(self, item):
        for death in pathlib.Path(self._deaths).iterdir():
            death.unlink()
            kill_this_process()
        yield item


class Note(beam.DoFn):
    """Notes each item once, as the pipelines' steps do, and who saw it."""

    def __init__(self, folder: pathlib.Path):
        self._folder = str(folder)

    def process(self, item):
        (pathlib.Path(self._folder) / str(item)).write_text(str(os.getpid()))


class DiesWhenLoaded(beam.DoFn):
    """Dies before it has any data: when the worker makes the step."""

    def __setstate__(self, state):
        if "WORKER_ID" in os.environ:
            kill_this_process()

    def __getstate__(self):
        return {}

    def process(self, item):
        yield item


class WaitsForTheOther(beam.DoFn):
    """One worker dies; the other would work on for ever."""

    def __init__(self, folder: pathlib.Path):
        self._folder = str(folder)

    def process(self, item):
        first = pathlib.Path(self._folder) / "first"
        try:
            first.touch(exist_ok=False)
        except FileExistsError:
            if not (pathlib.Path(self._folder) / "died").exists():
                (pathlib.Path(self._folder) / "died").touch()
                kill_this_process()
        else:
            threading.Event().wait()
        yield item


def run(*steps: beam.DoFn) -> execution.RunReport:
    def apply(pipeline: beam.Pipeline) -> None:
        items = pipeline | beam.Create(range(40)) | beam.Reshuffle()
        for number, step in enumerate(steps):
            items = items | f"step {number}" >> beam.ParDo(step)

    return execution.run(apply, ["--direct_num_workers=2"], photos_at_least=40, title="test", networks=False)


@pytest.fixture
def folders(tmp_path):
    for name in ("deaths", "seen"):
        (tmp_path / name).mkdir()
    return tmp_path / "deaths", tmp_path / "seen"


def test_a_run_goes_on_when_a_worker_is_killed(folders, capfd):
    deaths, seen = folders
    (deaths / "1").touch()
    run(Dies(deaths), Note(seen))
    assert {int(path.name) for path in seen.iterdir()} == set(range(40))
    assert str(os.getpid()) not in {path.read_text() for path in seen.iterdir()}
    assert capfd.readouterr().err == ("celebface test: a worker process was killed (SIGKILL); going on where it was\n")


def test_a_worker_that_dies_again_and_again_fails_the_run_at_last(folders, capfd):
    with pytest.raises(RunFailed, match=r"in each of 3 runs a worker process was killed \(SIGKILL\)"):
        run(DiesWhenLoaded(), Note(folders[1]))
    assert capfd.readouterr().err.count("going on where it was") == 2


def test_nobody_waits_for_the_workers_that_live(folders):
    """Beam would let the others finish what they are at, whose results nobody takes."""
    deaths, seen = folders
    run(WaitsForTheOther(deaths), Note(seen))
    assert {int(path.name) for path in seen.iterdir()} == set(range(40))


def test_an_error_of_a_step_is_not_a_death(tmp_path):
    def fail(item):
        raise RuntimeError("a step's own")

    def apply(pipeline: beam.Pipeline) -> None:
        pipeline | beam.Create([1, 2]) | beam.Reshuffle() | beam.Map(fail)

    with pytest.raises(RuntimeError, match="a step's own"):
        execution.run(apply, ["--direct_num_workers=2"], photos_at_least=1, title="test", networks=False)
    assert not local_engine._runs
