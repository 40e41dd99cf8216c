"""How far a local run has come: workers leave their counts in a folder that the driver watches.

A Beam runner reports counters when a bundle ends, and a local run has one bundle a worker. The folder's name travels
in the environment, which local worker processes inherit; elsewhere nothing is written.
"""

import collections
import contextlib
import json
import os
import pathlib
import threading
from collections.abc import Mapping

FOLDER_VARIABLE = "CELEBFACE_PROGRESS_FOLDER"
_SECONDS_UNSEEN = 0.2  # a file for every photo costs more than all other bookkeeping: a rename waits for the disk

_counts: collections.Counter[str] = collections.Counter()
_lock = threading.Lock()
_pending: threading.Timer | None = None  # writes what was added since the last time


def add(counts: Mapping[str, int]) -> None:
    """Adds to this process's counts; the driver, if there is one that watches, sees them within a moment."""
    global _pending
    if FOLDER_VARIABLE not in os.environ:
        return
    with _lock:
        for name, count in counts.items():
            _counts[name] += count
        if _pending is None:
            _pending = threading.Timer(_SECONDS_UNSEEN, flush)
            _pending.daemon = True
            _pending.start()


def flush() -> None:
    """Shows the driver all that was added, at the end of a bundle: the process may end before the moment is over."""
    with _lock:
        if _pending is None:
            return
        _forget_pending()
        folder = os.environ.get(FOLDER_VARIABLE)
        if folder:
            _write(pathlib.Path(folder) / f"{os.getpid()}.json")


def reset() -> None:
    """Forgets this process's counts, before a run in the driver's own process."""
    with _lock:
        _forget_pending()
        _counts.clear()


def total(folder: pathlib.Path) -> collections.Counter[str]:
    """Sums the counts of all workers."""
    counts: collections.Counter[str] = collections.Counter()
    for file in folder.glob("*.json"):
        counts.update(json.loads(file.read_text(encoding="ascii")))
    return counts


def _forget_pending() -> None:
    global _pending
    if _pending is not None:
        _pending.cancel()
        _pending = None


def _write(target: pathlib.Path) -> None:
    scratch = target.with_suffix(".tmp")
    with contextlib.suppress(OSError):  # a full disk may spoil the bar, not the run
        scratch.write_text(json.dumps(_counts), encoding="ascii")
        scratch.replace(target)
