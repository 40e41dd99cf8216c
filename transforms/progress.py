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

_counts: collections.Counter[str] = collections.Counter()
_lock = threading.Lock()


def add(counts: Mapping[str, int]) -> None:
    """Adds to this process's counts and shows them to the driver, if there is one that watches."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return
    target = pathlib.Path(folder) / f"{os.getpid()}.json"
    scratch = target.with_suffix(".tmp")
    with _lock, contextlib.suppress(OSError):  # a full disk may spoil the bar, not the run
        _counts.update(counts)
        scratch.write_text(json.dumps(_counts), encoding="ascii")
        scratch.replace(target)


def reset() -> None:
    """Forgets this process's counts, before a run in the driver's own process."""
    with _lock:
        _counts.clear()


def total(folder: pathlib.Path) -> collections.Counter[str]:
    """Sums the counts of all workers."""
    counts: collections.Counter[str] = collections.Counter()
    for file in folder.glob("*.json"):
        counts.update(json.loads(file.read_text(encoding="ascii")))
    return counts
