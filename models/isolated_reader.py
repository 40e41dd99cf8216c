"""Reads faces in a process of its own, so that a photo which kills the decoder does not take the worker with it.

Decoders are native code, and photos come from anybody. The process is watched: if it dies, or gives no answer in time,
it is started again and the photos of the batch are read one by one, so that only the one that does it is lost. Encoded
photos go in, crops come out; pixels of whole photos cross no pipe.
"""

import contextlib
import dataclasses
import functools
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import MutableMapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from celebface.models.faces import CrashedReader, PhotoFaces, PhotoFault, ReaderConfig

_TRIES = 3  # of a photo, the first among its batch; whoever dies in its company is not to be blamed
_STARTS = 3  # of a process, in a row, before it is given up
# Patience is for machines that are slow and busy: the largest photo allowed takes some 15 s, loading some 5 s.
_SECONDS_TO_START = 300.0
_SECONDS_FOR_A_BATCH = 120.0
_SECONDS_MORE_FOR_EACH = 20.0
_SECONDS_AFTER = 5  # the patience of whoever asked, in which the process ends by itself, as that one may be dead

# Processes that have nothing to do; they load TensorFlow, which takes seconds, and so outlive those who use them. There
# are never more than have been at work at once.
_idle: list["_Child"] = []
_at_once = threading.BoundedSemaphore(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)

_MadeOf = tuple[ReaderConfig, str, bool]  # the arguments of a FaceReader


class ReaderFailed(Exception):
    """The process cannot do its work, whatever the photos."""


@dataclasses.dataclass(frozen=True)
class _Died:
    """There is no answer; `how` says why, for people."""

    how: str


class IsolatedReader:
    """Reads batches as `FaceReader` does, in another process. Safe to share between threads, which have one each."""

    def __init__(self, config: ReaderConfig, precision: str = "float32", *, thumbnails: bool = False):
        """Starts a process if there is none, and does not wait until it has loaded its networks.

        Args:
          config: As for `FaceReader`.
          precision: Likewise.
          thumbnails: Likewise.
        """
        self._made_of: _MadeOf = (config, precision, thumbnails)
        if _at_once.acquire(blocking=False):  # else as many as may be are at work already
            try:
                _idle.append(_take(self._made_of))
            finally:
                _at_once.release()

    def read(
        self, photos: Sequence[bytes], seconds: MutableMapping[str, float] | None = None
    ) -> list[PhotoFaces | PhotoFault]:
        """Reads a batch.

        Args:
          photos: Encoded photos.
          seconds: As for `FaceReader.read`.

        Returns:
          As `FaceReader.read` does; `CrashedReader` for photos that the process did not survive.

        Raises:
          ReaderFailed: If the process cannot be started, or fails at something that is no fault of a photo.
        """
        spent: MutableMapping[str, float] = {} if seconds is None else seconds
        with _at_once, _Watched(self._made_of) as process:
            answer = process.ask(photos, spent)
            if not isinstance(answer, _Died):
                return answer
            return [_read_alone(process, photo, spent, answer) for photo in photos]


def end_idle() -> None:
    """Ends the processes that have nothing to do."""
    while _idle:
        _idle.pop().end()


def _read_alone(
    process: "_Watched", photo: bytes, seconds: MutableMapping[str, float], last: _Died
) -> PhotoFaces | PhotoFault:
    for _ in range(1, _TRIES):
        answer = process.ask([photo], seconds)
        if not isinstance(answer, _Died):
            return answer[0]
        last = answer
    return CrashedReader(f"the process that read it {last.how}, {_TRIES} times")


def _take(made_of: _MadeOf) -> "_Child":
    try:
        return _idle.pop()
    except IndexError:
        return _Child(made_of)


class _Watched:
    """A process that is taken from the idle ones, and started again as often as it dies."""

    def __init__(self, made_of: _MadeOf):
        self._made_of = made_of

    def __enter__(self) -> "_Watched":
        self._child = _take(self._made_of)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self._child.end()  # an answer may be on its way, which would be taken for that to the next question
        elif not self._child.is_dead:
            _idle.append(self._child)

    def ask(
        self, photos: Sequence[bytes], seconds: MutableMapping[str, float]
    ) -> list[PhotoFaces | PhotoFault] | _Died:
        self._start()
        patience = _SECONDS_FOR_A_BATCH + _SECONDS_MORE_FOR_EACH * len(photos)
        answer = self._child.ask((self._made_of, list(photos), patience), patience)
        if isinstance(answer, _Died):
            return answer
        results, spent = answer
        for work, took in spent.items():
            seconds[work] = seconds.get(work, 0.0) + took
        return results

    def _start(self) -> None:
        """Sees to it that there is a process that is ready."""
        how = ""
        for _ in range(_STARTS):
            if self._child.is_dead:
                self._child = _Child(self._made_of)
            ready = self._child.wait_until_ready(_SECONDS_TO_START)
            if not isinstance(ready, _Died):
                return
            how = ready.how
        raise ReaderFailed(f"the process that reads photos {how} at its start, {_STARTS} times")


class _Child:
    """The process, seen from outside."""

    def __init__(self, made_of: _MadeOf):
        self._pipe, theirs = multiprocessing.Pipe()
        with theirs:
            self._process = subprocess.Popen(
                # -P: a folder of photos may hold an annoy.py
                [sys.executable, "-P", "-m", "celebface.models.isolated_reader", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._ready = False
        self.is_dead = False
        self.end = weakref.finalize(self, _end, self._pipe, self._process)
        with contextlib.suppress(OSError):  # it is dead already, which is seen in time
            self._pipe.send(made_of)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self, seconds: float) -> _Died | None:
        if not self._ready:
            loaded = self._receive(seconds)
            if isinstance(loaded, _Died):
                return loaded
            self._ready = True
        return None

    def ask(self, batch: tuple[_MadeOf, list[bytes], float], seconds: float) -> Any:
        return self._receive(seconds, batch)

    def _receive(self, seconds: float, question: Any = None) -> Any:
        """The answer to a question, or what it says without one; what it says of itself when it fails is raised here.

        A pipe holds some 200 KB, so asking takes as long as the other side does not listen, and is timed as well.
        """
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, give_up)
        timer.start()
        try:
            if question is not None:
                self._pipe.send(question)
            answer, failure = self._pipe.recv()
        except (EOFError, OSError):
            died = self._bury()
            return _Died(f"gave no answer in {seconds:.0f} s") if late.is_set() else died
        finally:
            timer.cancel()
        if failure:
            self._bury()
            raise ReaderFailed(f"the process that reads photos failed:\n{failure}")
        return answer

    def _bury(self) -> _Died:
        self.is_dead = True
        self.end()
        status = self._process.returncode
        return _Died(f"died ({signal.Signals(-status).name})" if status < 0 else f"ended with status {status}")


def _end(pipe: Connection, process: subprocess.Popen) -> None:
    """Ends a process: it goes when nobody is at the other end of its pipe."""
    pipe.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve(pipe: Connection) -> None:
    """Reads what it is sent until there is nobody who sends; a failure is told to whoever asked."""
    try:
        made_of = pipe.recv()
        from celebface.models.face_reader import FaceReader  # whoever only watches does not load TensorFlow

        @functools.lru_cache(maxsize=2)  # a build and a match of one driver, say
        def reader(config: ReaderConfig, precision: str, thumbnails: bool) -> FaceReader:
            return FaceReader(config, precision, thumbnails=thumbnails)

        reader(*made_of)
        pipe.send((None, ""))
        while True:
            made_of, photos, patience = pipe.recv()
            seconds: dict[str, float] = {}
            signal.alarm(math.ceil(patience) + _SECONDS_AFTER)  # it ends this process wherever it is, in a decoder, too
            results = reader(*made_of).read(photos, seconds)
            signal.alarm(0)
            pipe.send(((results, seconds), ""))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception:
        pipe.send((None, traceback.format_exc()))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's, which goes, and then so does this
    serve(Connection(int(sys.argv[1])))
    os._exit(0)  # without TensorFlow's long farewell
