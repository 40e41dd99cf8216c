"""How well and how fast an index answers, measured on faces that it does not hold."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from celebface.indexing.kinds import KINDS, IndexRequest, worth_an_index
from celebface.indexing.parts import Parts
from celebface.indexing.searcher import ASKED

AT = 10
_QUERIES = 1000
_ALONE = 200  # of them asked one by one; 2 are slower than the 99th percentile
_BATCHES = (128, 1000)
_TIMES = 3
_ENOUGH_SECONDS = 2.0
_SEED = 7
_FOR_MEAN = 10_000

# Two photos of one person lie at D 0.4 on the average (LFW, sample). A step so long across leads there.
_TYPICAL_STEP = 0.75


class RecallTooLow(Exception):
    """No index meets what was asked for; the message is for the user."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """What an index is tried with.

    Attributes:
      queries: float32 [Q, d], unit rows.
      nearest: True D of the nearest faces of each, ascending, float32 [Q, min(10, N)].
    """

    queries: np.ndarray
    nearest: np.ndarray

    @staticmethod
    def of(parts: Parts) -> "Trial":
        """The trial of a gallery; depends on its faces alone, not on index or parts."""
        queries = held_out(parts)
        return Trial(queries, parts.nearest_exact(queries, AT)[1])

    def recall(self, parts: Parts) -> tuple[float, float]:
        """Shares of the nearest face, and of the ten nearest, that are found; others as near count as well."""
        distances = parts.nearest(self.queries, ASKED)[1]
        wanted = self.nearest.shape[1]
        first = distances[:, 0] <= self.nearest[:, 0]
        all_of_them = distances[:, :wanted] <= self.nearest[:, -1:]
        return float(first.mean()), float(all_of_them.sum() / (len(distances) * wanted))


def held_out(parts: Parts) -> np.ndarray:
    """Probes as a gallery will meet them, but none of its faces.

    Half are known: a face moved by the difference between two photos of another person. Half are strangers, with the
    gallery's mean and covariance: the mean moved by the difference between two people.

    Returns:
      float32 [Q, d], unit rows; the same for the same faces.
    """
    random = np.random.default_rng(_SEED)
    half = _QUERIES // 2
    faces = random.integers(len(parts), size=half)
    known = parts.vectors_of(faces) + _differences(parts, parts.labels.people_of(faces), random)
    some = random.integers(len(parts), size=min(len(parts), _FOR_MEAN))
    mean = parts.vectors_of(some).mean(axis=0, dtype=np.float64)
    one, other = _two_people(parts, random, half)
    strangers = mean + (parts.vectors_of(one) - parts.vectors_of(other)) / np.sqrt(2)
    queries = np.concatenate([known, strangers])
    return (queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def _differences(parts: Parts, people: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """For each of `people` the difference between two photos of somebody else, if that can be had."""
    starts = parts.labels.starts
    sizes = np.diff(starts)
    several = np.flatnonzero(sizes > 1)
    if not len(several):
        across = random.normal(size=(len(people), parts.dimension))
        return _TYPICAL_STEP * across / np.linalg.norm(across, axis=1, keepdims=True)
    chosen = random.integers(len(several), size=len(people))
    chosen = several[np.where(several[chosen] == people, (chosen + 1) % len(several), chosen)]
    first = random.integers(sizes[chosen])
    second = (first + 1 + random.integers(sizes[chosen] - 1)) % sizes[chosen]
    return parts.vectors_of(starts[chosen] + first) - parts.vectors_of(starts[chosen] + second)


def _two_people(parts: Parts, random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces of two people each; of one person if there is no other."""
    starts = parts.labels.starts
    one = random.integers(len(parts), size=count)
    people = parts.labels.people_of(one)
    others = len(parts) - np.diff(starts)[people]
    return one, (starts[people + 1] + random.integers(np.maximum(others, 1))) % len(parts)


def report(
    opened: Parts, kind: str, trial: Trial, request: IndexRequest, size: int, build_seconds: float
) -> dict[str, Any]:
    """Tunes parts to the recall asked for and measures them: a row of the manifest's table.

    Args:
      opened: The parts; their effort is set.
      kind: Of their index.
      trial: What they are tried with.
      request: What is asked for.
      size: Bytes of the files.
      build_seconds: What it took to build them.
    """
    tune(opened, kind, trial, request.min_recall)
    return {"kind": kind, **measure(opened, trial), "bytes": size, "build_seconds": round(build_seconds, 3)}


def efforts(least: int) -> Iterator[int]:
    """What is tried, without end: each is half as much again as the one before."""
    while True:
        yield least
        least = max(least + 1, least * 3 // 2)


def tune(parts: Parts, kind: str, trial: Trial, min_recall: float) -> None:
    """Sets the least effort that meets the recall wanted, or that all faces are looked at, if sooner."""
    for parts.effort in efforts(KINDS[kind].FIRST_EFFORT):
        parts.by_index = worth_an_index(KINDS[kind], parts.largest, parts.effort)
        if not parts.by_index or min(trial.recall(parts)) >= min_recall:
            return


def measure(parts: Parts, trial: Trial) -> dict[str, Any]:
    """How well and how fast the parts answer, for the manifest: milliseconds are of one query alone."""
    first, ten = trial.recall(parts)
    alone = []
    for number in range(_ALONE):
        query = trial.queries[number * len(trial.queries) // _ALONE][None]
        alone.append(_seconds(parts, query) * 1e3)
    batches = {}
    for size in _BATCHES:
        some = trial.queries[-size:]
        batches[str(size)] = round(len(some) / _least_seconds(parts, some), 1)
    return {
        "effort": parts.effort,
        "searched": "by index" if parts.by_index else "in full",
        "recall_at_1": first,
        "recall_at_10": ten,
        "p50_ms": round(float(np.percentile(alone, 50)), 4),
        "p99_ms": round(float(np.percentile(alone, 99)), 4),
        "queries_per_second": batches,
    }


def _least_seconds(parts: Parts, queries: np.ndarray) -> float:
    """Of a few times; what else the machine does makes it slower, never faster."""
    times: list[float] = []
    while len(times) < _TIMES and sum(times) < _ENOUGH_SECONDS:
        times.append(_seconds(parts, queries))
    return min(times)


def _seconds(parts: Parts, queries: np.ndarray) -> float:
    start = time.perf_counter()
    parts.nearest(queries, ASKED)
    return time.perf_counter() - start


def meets(row: dict[str, Any], request: IndexRequest) -> bool:
    """Whether what was measured is what was asked for."""
    enough = min(row["recall_at_1"], row["recall_at_10"]) >= request.min_recall
    return enough and (request.max_latency_ms is None or row["p99_ms"] <= request.max_latency_ms)


def too_low(table: Sequence[dict[str, Any]], request: IndexRequest) -> RecallTooLow:
    """Says what was asked for and what was measured."""
    within = f" within {request.max_latency_ms:g} ms" if request.max_latency_ms is not None else ""
    measured = [
        f"{row['kind']} has recall@1 {row['recall_at_1']:.4f}, recall@10 {row['recall_at_10']:.4f}, "
        f"p99 {row['p99_ms']:.3g} ms"
        for row in table
        if "left_out" not in row
    ]
    return RecallTooLow(f"no index meets recall {request.min_recall:g}{within}: {'; '.join(measured)}")
