"""Measures an index of any library on vectors in files; each library's script hands its index to `measure`.

A script is a process of its own, run by the Python of the peers' environment, so this needs no more than NumPy. It is
called with a folder that holds vectors.npy (float32 [N, d]), probes.npy (float32 [P, d]) and truth.npy (int64 [T, 10],
the true nearest rows of the first T probes), and prints one JSON line for each kind of index.
"""

import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

RECALL = 0.99  # of the nearest one, that the effort is raised for
WANTED = 10
EFFORTS = [round(8 * 1.5**step) for step in range(16)]  # raised by half each time, as ours is
_SINGLES = 300
_BATCHES = (128, 1000)
_SECONDS = 2.0  # for each figure, at least, unless the probes are at an end


class Candidate(NamedTuple):
    """An index that is built.

    Attributes:
      name: Of the kind.
      build_seconds: For which it was built.
      bytes: Of its file.
      efforts: What it may be told to do, least first.
      search: Rows, int64 [Q, 10], for float32 [Q, d] and an effort.
    """

    name: str
    build_seconds: float
    bytes: int
    efforts: Sequence[int]
    search: Callable[[np.ndarray, int], np.ndarray]


def measure(candidate: Candidate, folder: pathlib.Path) -> dict[str, object]:
    """Raises the effort until the recall is met, and takes the time there."""
    probes = np.load(folder / "probes.npy", mmap_mode="r")
    truth = np.load(folder / "truth.npy")
    asked = np.ascontiguousarray(probes[: len(truth)])
    for effort in candidate.efforts:
        found = candidate.search(asked, effort)
        at_1 = float(np.mean(found[:, 0] == truth[:, 0]))
        at_10 = float(np.mean([len(set(mine) & set(best)) for mine, best in zip(found, truth, strict=True)]) / WANTED)
        if at_1 >= RECALL:
            break
    singles = [np.ascontiguousarray(probe[None]) for probe in probes[:_SINGLES]]
    return {
        "index": candidate.name,
        "build_seconds": round(candidate.build_seconds, 2),
        "bytes": candidate.bytes,
        "effort": effort,
        "recall_at_1": at_1,
        "recall_at_10": at_10,
        "per_s_1": _rate(candidate, singles, effort),
        **{f"per_s_{size}": _rate(candidate, _batches(probes, size), effort) for size in _BATCHES},
        "per_s_all": _rate(candidate, [np.ascontiguousarray(probes)], effort),
        "probes": len(probes),
    }


def _batches(probes: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(probes), size):
        yield np.ascontiguousarray(probes[start : start + size])


def _rate(candidate: Candidate, batches: Iterable[np.ndarray], effort: int) -> float:
    """Answers a second."""
    asked, start = 0, time.perf_counter()
    for batch in batches:
        candidate.search(batch, effort)
        asked += len(batch)
        if time.perf_counter() - start > _SECONDS:
            break
    return round(asked / (time.perf_counter() - start), 1)


def serve(build: Callable[[np.ndarray, pathlib.Path], Iterable[Candidate]]) -> None:
    """Builds and measures, one kind after the other."""
    folder = pathlib.Path(sys.argv[1])
    vectors = np.load(folder / "vectors.npy")
    for candidate in build(vectors, folder):
        print(json.dumps(measure(candidate, folder)), flush=True)


def file_bytes(path: pathlib.Path) -> int:
    """Size of a file, which is then deleted."""
    size = path.stat().st_size
    os.unlink(path)
    return size
