"""What `deploy.flink.cluster` knows of its processes, without starting Flink; test_engines.py does that."""

import os
import subprocess
import sys

import pytest
import tenacity

from deploy import engines
from deploy.flink import cluster

FOR_EVER = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "HOME", tmp_path)
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.fixture
def stranger():
    """A process in a group of its own, which is none of the cluster's."""
    with subprocess.Popen(FOR_EVER, stdout=subprocess.PIPE, start_new_session=True) as process:
        process.stdout.readline()
        yield process
        process.kill()


def started(home, manager: cluster.Process) -> tuple[subprocess.Popen, int]:
    """A process as the cluster starts them, and its child, as a task manager has Python workers; both run."""
    script = f"import subprocess, signal; p = subprocess.Popen({FOR_EVER!r}); print(p.pid, flush=True); signal.pause()"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(home / "tmp")},
    )
    manager.pid_file.write_text(f"{process.pid} {cluster.start_time(process.pid)} {manager.name}-1")
    said = [process.stdout.readline(), process.stdout.readline()]  # the child's empty line is its first word
    return process, int("".join(said))


@tenacity.retry(stop=tenacity.stop_after_delay(20), wait=tenacity.wait_fixed(0.05))
def assert_gone(pid: int) -> None:
    assert cluster.start_time(pid) == ""


def test_a_process_is_known_by_its_start(home, stranger):
    [manager, _] = cluster.task_managers()
    assert manager.pid is None
    manager.pid_file.write_text(f"{stranger.pid} {cluster.start_time(stranger.pid)} taskmanager-1-1")
    assert manager.pid == stranger.pid


def test_a_stranger_that_was_given_the_number_is_left_alone(home, stranger):
    [manager, _] = cluster.task_managers()
    manager.pid_file.write_text(f"{stranger.pid} 12345 taskmanager-1-1")
    assert manager.pid is None
    cluster.down()
    assert stranger.poll() is None
    assert not (home / "run").exists()


def test_what_a_dead_manager_has_left_is_ended(home):
    [manager, _] = cluster.task_managers()
    process, worker = started(home, manager)
    process.kill()
    process.wait()
    assert manager.pid is None and cluster.start_time(worker)
    cluster.down()
    assert_gone(worker)


def test_a_manager_that_runs_is_ended_with_its_workers(home):
    [manager, _] = cluster.task_managers()
    process, worker = started(home, manager)
    assert manager.pid == process.pid
    cluster.down()
    assert_gone(worker)
    assert_gone(process.pid)


def test_a_job_server_whose_driver_was_killed_is_ended(home, stranger):
    with subprocess.Popen([*FOR_EVER, str(home / "job-server.jar")], stdout=subprocess.PIPE) as job_server:
        job_server.stdout.readline()
        cluster.down()
        assert job_server.wait(20) < 0
    assert stranger.poll() is None


def test_flags_of_an_engine(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "FLINK_JOB_SERVER", tmp_path / "job-server.jar")
    assert engines.main(["FlinkRunner"]) == 2
    assert capsys.readouterr().err == "there is no Flink here: make cluster-up fetches and starts it\n"
    engines.FLINK_JOB_SERVER.touch()
    assert engines.main(["FlinkRunner", "--parallelism=4"]) == 0
    flags = capsys.readouterr().out.split()
    assert flags[:2] == ["--runner=FlinkRunner", f"--flink_master={cluster.MASTER}"]
    assert "--parallelism=4" in flags
    for wrong in ("four", "0"):
        with pytest.raises(SystemExit) as ended:
            engines.main(["FlinkRunner", f"--parallelism={wrong}"])
        assert ended.value.code == 2
