"""The process that photos are read in: what it reads, and what becomes of photos that kill it."""

import concurrent.futures
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import tenacity
from crashing.sitecustomize import KEEPS, MARK
from images import encoded, plain

from celebface.models import isolated_reader
from celebface.models.face_reader import FaceReader
from celebface.models.faces import CrashedReader, NotAnImage, ReaderConfig
from celebface.models.isolated_reader import IsolatedReader, ReaderFailed

CRASHING = pathlib.Path(__file__).parent / "crashing"


@pytest.fixture(scope="module")
def reader():
    """One whose processes are killed by photos that are marked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(CRASHING), os.environ.get("PYTHONPATH")])))
        isolated_reader.end_idle()
        yield IsolatedReader(ReaderConfig(), thumbnails=True)
    isolated_reader.end_idle()


def pid() -> int:
    """The process that will read next."""
    return isolated_reader._idle[-1].pid


def marked(photo: bytes) -> bytes:
    return photo + MARK


def test_what_is_read_is_what_a_reader_reads_here(reader, portrait):
    batch = [portrait.read_bytes(), encoded(plain(100, 100), "PNG"), b"no photo"]
    seconds: dict[str, float] = {}
    there = reader.read(batch, seconds)
    here = FaceReader(ReaderConfig(), thumbnails=True).read(batch)
    assert seconds.keys() == {"decode", "detect", "crop"}
    assert (there[0].thumbnail, len(there[0].faces)) == (here[0].thumbnail, 1)
    assert np.array_equal(there[0].faces[0].pixels, here[0].faces[0].pixels)
    assert np.array_equal(there[0].faces[0].landmarks, here[0].faces[0].landmarks)
    assert there[1].reason == "no_face"
    assert there[1].decoded == here[1].decoded
    assert isinstance(there[2], NotAnImage)


def test_a_photo_that_kills_the_process_is_lost_alone(reader, portrait):
    photo = portrait.read_bytes()
    before, crashed, after = reader.read([photo, marked(photo), photo])
    assert isinstance(crashed, CrashedReader)
    assert str(crashed) == "the process that read it died (SIGSEGV), 3 times"
    assert len(before.faces) == len(after.faces) == 1


def test_a_photo_that_has_no_company_is_tried_as_often(reader, portrait, monkeypatch):
    tries, ask = [], isolated_reader._Watched.ask
    monkeypatch.setattr(isolated_reader._Watched, "ask", lambda *given: tries.append(1) or ask(*given))
    [alone] = reader.read([marked(portrait.read_bytes())])
    assert len(tries) == 3
    assert str(alone) == "the process that read it died (SIGSEGV), 3 times"


def test_a_photo_is_not_blamed_for_a_death_that_does_not_repeat(reader, portrait):
    photo = portrait.read_bytes()
    [expected] = reader.read([photo])
    first = pid()
    os.kill(first, signal.SIGKILL)
    [found] = reader.read([photo])
    assert pid() != first
    assert np.array_equal(found.faces[0].pixels, expected.faces[0].pixels)


def test_a_photo_that_comes_to_no_end_is_lost(monkeypatch, reader, portrait):
    reader.read([portrait.read_bytes()])
    os.kill(pid(), signal.SIGSTOP)
    monkeypatch.setattr(isolated_reader, "_TRIES", 1)
    monkeypatch.setattr(isolated_reader, "_SECONDS_FOR_A_BATCH", 0.0)
    monkeypatch.setattr(isolated_reader, "_SECONDS_MORE_FOR_EACH", 0.1)
    [lost] = reader.read([portrait.read_bytes() + bytes(2**20)])  # more than a pipe holds
    assert isinstance(lost, CrashedReader)
    assert "gave no answer in 0 s" in str(lost)


@pytest.fixture
def no_process():
    isolated_reader.end_idle()
    yield
    isolated_reader.end_idle()


def test_a_process_that_cannot_start_is_given_up(monkeypatch, no_process):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    reader = IsolatedReader(ReaderConfig())
    with pytest.raises(ReaderFailed, match="ended with status 1 at its start, 3 times"):
        reader.read([b""])


def test_a_failure_that_is_no_photos_fault_is_told(reader):
    with pytest.raises(ReaderFailed, match="float7"):
        IsolatedReader(ReaderConfig(), precision="float7").read([b""])


def test_threads_have_a_process_each(reader, portrait):
    photo = portrait.read_bytes()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = pool.map(reader.read, [[photo] * 8, [photo] * 8])
    assert len(first) == len(second) == 8
    processes = min(2, len(os.sched_getaffinity(0)))
    assert len({child.pid for child in isolated_reader._idle}) == len(isolated_reader._idle) == processes


@tenacity.retry(stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(0.05))
def assert_gone(pid: int) -> None:
    status = pathlib.Path(f"/proc/{pid}/stat")
    assert not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z"


@tenacity.retry(stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(0.05))
def wait_for(file: pathlib.Path) -> None:
    assert file.exists()


OWNER = """
import sys
from celebface.models import isolated_reader
from celebface.models.faces import ReaderConfig
reader = isolated_reader.IsolatedReader(ReaderConfig())
reader.read([b""])
print(isolated_reader._idle[-1].pid, flush=True)
while photo := sys.stdin.buffer.readline():
    isolated_reader._SECONDS_FOR_A_BATCH = 0
    isolated_reader._SECONDS_MORE_FOR_EACH = 1
    reader.read([photo.strip()])
"""


@pytest.fixture
def owner(monkeypatch):
    """A process that reads photos: a line of its input each."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(CRASHING), os.environ.get("PYTHONPATH")])))
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_the_process_goes_when_its_owner_is_killed(owner):
    child = int(owner.stdout.readline())
    owner.kill()
    assert_gone(child)


def test_it_goes_from_the_midst_of_a_photo_that_has_no_end(owner, tmp_path):
    child = int(owner.stdout.readline())
    owner.stdin.write(b"\xff\xd8\xff" + KEEPS + os.fsencode(tmp_path / "opened") + b"\n")
    owner.stdin.flush()
    wait_for(tmp_path / "opened")
    owner.kill()
    assert_gone(child)


def test_a_process_that_was_interrupted_is_not_used_again(reader, portrait, monkeypatch):
    def interrupt(self, seconds, question=None):
        raise KeyboardInterrupt

    photo = portrait.read_bytes()
    with monkeypatch.context() as patch:
        reader.read([photo])
        patch.setattr(isolated_reader._Child, "_receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            reader.read([photo, photo])
    assert len(reader.read([photo])) == 1
