"""Workers' counts, as the driver sees them."""

import concurrent.futures
import os
import pathlib
import subprocess
import sys
import time

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
    work = "from celebface.transforms import progress; progress.add({'photos': 3, 'no_face': 1}); progress.flush()"
    subprocess.run([sys.executable, "-c", work], check=True)  # inherits the variable, as a worker does
    progress.add({"photos": 1, "faces": 2})
    progress.add({"photos": 1, "faces": 5})
    progress.flush()
    assert progress.total(watched) == {"photos": 5, "faces": 7, "no_face": 1}
    assert len(list(watched.iterdir())) == 2  # a file each, and no scratch file left
    assert (watched / f"{os.getpid()}.json").exists()


def test_a_file_half_written_is_not_counted(watched):
    progress.add({"photos": 1})
    progress.flush()
    (watched / "12345.tmp").write_text('{"photos": ')
    assert progress.total(watched) == {"photos": 1}


def test_nothing_is_written_where_nobody_watches(tmp_path, monkeypatch):
    monkeypatch.delenv(progress.FOLDER_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    progress.add({"photos": 5})
    progress.flush()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(progress.FOLDER_VARIABLE, str(tmp_path))
    progress.add({"photos": 1})
    progress.flush()
    assert progress.total(tmp_path) == {"photos": 1}  # nor remembered for the next run


def test_a_folder_that_is_gone_does_not_stop_the_work(watched):
    watched.rmdir()
    progress.add({"photos": 1})
    progress.flush()
    watched.mkdir()
    progress.add({"photos": 1})
    progress.flush()
    assert progress.total(watched) == {"photos": 2}  # the bar catches up


def test_the_next_run_starts_at_nothing(watched):
    progress.add({"photos": 5})
    progress.reset()
    progress.add({"photos": 1})
    progress.flush()
    assert progress.total(watched) == {"photos": 1}


def shown(folder: pathlib.Path) -> bool:
    return any(folder.glob("*.json"))


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_was_added_is_shown_within_a_moment_though_nothing_follows(watched, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_UNSEEN", 0.01)
    for number in range(1, 4):
        progress.add({"photos": 1})
        progress.add({"photos": 1, "faces": 2})
        wait_for(lambda: progress.total(watched) == {"photos": 2 * number, "faces": 2 * number})  # noqa: B023


def test_a_photo_more_is_no_file_more(watched, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_UNSEEN", 3600)
    written = []
    monkeypatch.setattr(progress, "_write", written.append)
    for _ in range(1000):
        progress.add({"photos": 1})
    assert not written
    progress.flush()
    progress.flush()
    assert written == [watched / f"{os.getpid()}.json"]


def test_threads_lose_no_count(watched, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_UNSEEN", 0.001)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(2000):
            pool.submit(progress.add, {"photos": 1})
    progress.flush()
    assert progress.total(watched) == {"photos": 2000}


def test_a_run_that_is_over_writes_nothing_into_the_next(watched, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_UNSEEN", 1)
    progress.add({"photos": 5})
    timer = progress._pending
    progress.reset()
    timer.join()
    assert not shown(watched)


def test_before_the_first_photo_there_is_nothing(watched):
    assert progress.total(watched) == {}
