"""Workers' counts, as the driver sees them."""

import os
import subprocess
import sys

import pytest

from celebface.transforms import progress


@pytest.fixture(autouse=True)
def nothing_counted():
    progress.reset()
    yield
    progress.reset()


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """The folder that a driver watches."""
    monkeypatch.setenv(progress.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def test_counts_of_two_processes_are_summed(watched):
    work = "from celebface.transforms import progress; progress.add({'photos': 3, 'no_face': 1})"
    subprocess.run([sys.executable, "-c", work], check=True)  # inherits the variable, as a worker does
    progress.add({"photos": 1, "faces": 2})
    progress.add({"photos": 1, "faces": 5})
    assert progress.total(watched) == {"photos": 5, "faces": 7, "no_face": 1}
    assert len(list(watched.iterdir())) == 2  # a file each, and no scratch file left
    assert (watched / f"{os.getpid()}.json").exists()


def test_a_file_half_written_is_not_counted(watched):
    progress.add({"photos": 1})
    (watched / "12345.tmp").write_text('{"photos": ')
    assert progress.total(watched) == {"photos": 1}


def test_nothing_is_written_where_nobody_watches(tmp_path, monkeypatch):
    monkeypatch.delenv(progress.FOLDER_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    progress.add({"photos": 5})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(progress.FOLDER_VARIABLE, str(tmp_path))
    progress.add({"photos": 1})
    assert progress.total(tmp_path) == {"photos": 1}  # nor remembered for the next run


def test_a_folder_that_is_gone_does_not_stop_the_work(watched):
    watched.rmdir()
    progress.add({"photos": 1})
    watched.mkdir()
    progress.add({"photos": 1})
    assert progress.total(watched) == {"photos": 2}  # the bar catches up


def test_the_next_run_starts_at_nothing(watched):
    progress.add({"photos": 5})
    progress.reset()
    progress.add({"photos": 1})
    assert progress.total(watched) == {"photos": 1}


def test_before_the_first_photo_there_is_nothing(watched):
    assert progress.total(watched) == {}
