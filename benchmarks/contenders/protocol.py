"""How the benchmark and a contender talk: one JSON object a line, photos in, figures out.

A contender is a process of its own, run by the Python of its own environment, so this module needs nothing but the
standard library. It is given a warm-up photo on the command line, says when it is ready, and then answers each
`{"photos": [paths]}` with `{"photos", "faces", "failed", "seconds", "peak_bytes"}` until its input ends.
"""

import importlib.metadata
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Found(NamedTuple):
    """What a contender made of some photos.

    Attributes:
      faces: Faces found and encoded.
      failed: Photos that it could not read. A photo without a face is not one of them.
      workers_bytes: Peak memory of processes that work for it.
    """

    faces: int
    failed: int = 0
    workers_bytes: int = 0


def serve(load: Callable[[], Callable[[Sequence[str]], Found]], packages: Sequence[str], how: str) -> None:
    """Answers the benchmark until it closes the pipe.

    Args:
      load: Loads the models and returns what turns photos, given as paths, into embeddings.
      packages: Distributions of which the versions are told.
      how: How the tool is used here, in a few words.
    """
    answers = _guarded_stdout()
    _limit_memory()
    read_photos = load()
    read_photos([sys.argv[1]])  # what happens once: tracing, allocation, lazy imports
    versions = {name: _version(name) for name in packages}
    _say(answers, {"ready": True, "how": how, "versions": versions})
    for line in sys.stdin:
        photos = json.loads(line)["photos"]
        start = time.perf_counter()
        found = read_photos(photos)
        seconds = time.perf_counter() - start
        peak = peak_bytes() + found.workers_bytes
        counts = {"photos": len(photos), "faces": found.faces, "failed": found.failed}
        _say(answers, {**counts, "seconds": seconds, "peak_bytes": peak})


def peak_bytes() -> int:
    """Most memory that this process has held so far.

    Linux hands the peak of the process that started this one down to `ru_maxrss`, so it is asked for elsewhere first.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            if line := re.search(r"^VmHWM:\s*(\d+) kB", status.read(), re.MULTILINE):
                return int(line[1]) * 1024
    except OSError:
        pass
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version(f"{name}-cpu")  # TensorFlow's other wheel


def _limit_memory() -> None:
    """Half of the machine's memory, so that a contender that wants all of it is refused, and nothing else is killed.

    `mtcnn` does: for some photos of 24 megapixels over 24 GB, to hold each of its boxes against each other.
    """
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    resource.setrlimit(resource.RLIMIT_DATA, (half, half))


def _guarded_stdout():
    """The real standard output; whatever libraries print, also from C, goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _say(answers, message: dict) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()
