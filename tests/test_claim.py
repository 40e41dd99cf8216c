"""Two runs in one folder are kept apart."""

import os
import signal
import subprocess
import sys

import pytest

from celebface.pipelines import build_gallery, cli
from celebface.pipelines.arguments import NotStarted
from celebface.pipelines.claim import claimed

_HOLD = """
import sys
from celebface.pipelines.claim import claimed
with claimed(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path):
    folder = str(tmp_path / "matches")
    with claimed(folder):
        with pytest.raises(NotStarted, match=f"another run is at work in {folder}"), claimed(folder):
            pass
        with claimed(str(tmp_path / "others")):
            pass
    with claimed(folder):
        pass


def test_a_run_that_was_killed_holds_nothing(tmp_path):
    folder = str(tmp_path / "matches")
    command = [sys.executable, "-c", _HOLD, folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "held\n"
        with pytest.raises(NotStarted), claimed(folder):
            pass
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        with claimed(folder):
            pass


def test_stores_have_no_such_thing():
    with claimed("gs://bucket/matches"), claimed("gs://bucket/matches"):
        pass


def test_a_second_match_leaves_the_first_ones_parts(gallery, probes, tmp_path, capsys):
    part = tmp_path / "matches" / ".staging-of-the-first" / "part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"")
    with claimed(str(tmp_path / "matches")):
        code = cli.main(["match", str(probes), f"--gallery={gallery}", f"--output={tmp_path / 'matches'}"])
    assert code == 1 and part.exists()
    assert "celebface match: another run is at work in" in capsys.readouterr().err


def test_a_second_build_of_the_same_gallery_is_refused(sample, tmp_path, capsys, monkeypatch):
    build = ["build-gallery", f"--source={sample}", f"--output_root={tmp_path}"]
    second = []

    def start_another(*args, **kwargs):
        second.append(cli.main(build))
        raise NotStarted("that is enough")

    monkeypatch.setattr(build_gallery.execution, "run", start_another)
    assert cli.main(build) == 1
    assert second == [1]
    told, enough = capsys.readouterr().err.splitlines()
    assert told.startswith(f"celebface build-gallery: another run is at work in {tmp_path}/celebrities/.staging-")
    assert "that is enough" in enough
