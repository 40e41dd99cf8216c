"""What every kind of index is: rows proposed for queries, and the proof that they are the right ones."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

_SELF_TEST_ROWS = 50
_SELF_TEST_ANSWERS = 10
_ORDER = 0.05  # an index that keeps its vectors in bfloat16 takes rows for equal whose D differ by less


class BrokenIndex(Exception):
    """An index gives wrong answers, or cannot be used here: a faulty build, another machine's file, other vectors."""


class MissingLibrary(BrokenIndex):
    """The library of an index is not installed."""


class Index(Protocol):
    """An opened index of a matrix of unit vectors."""

    def candidates(self, queries: np.ndarray, count: int, effort: int) -> tuple[np.ndarray, np.ndarray]:
        """Proposes rows to look at; what a query gets owes nothing to the others, nor to threads.

        Args:
          queries: float32 [Q, d], unit rows.
          count: Rows wanted of each, at least 1.
          effort: How hard to look; what it counts is the kind's own.

        Returns:
          Rows, int64 [Q, K], the likeliest first if the kind knows; K may be more than `count`, and places that are not
          needed are -1. And float64 [Q], a D within which no other row lies; infinite where that is trusted, not known.
        """


class Kind(Protocol):
    """A module with a kind of index.

    Attributes:
      NAME: As users write it.
      FILES: Endings of the index's files; empty if it needs none.
      FIRST_EFFORT: The least that is tried.
      FACES_PER_EFFORT: To look at so many faces takes, batch by batch, as long as one unit of effort.
      PARAMS: What the index is built with, for the manifest.
    """

    NAME: str
    FILES: tuple[str, ...]
    FIRST_EFFORT: int
    FACES_PER_EFFORT: int
    PARAMS: Mapping[str, Any]

    def check(self) -> None:
        """Raises MissingLibrary if the kind cannot be used here."""

    def build(self, vectors: np.ndarray, paths: Sequence[str]) -> None:
        """Writes the index files of float32 [N, d], N at least 1; the same vectors give the same bytes.

        Raises:
          BrokenIndex: If the index does not find its own vectors.
        """

    def open(self, paths: Sequence[str], vectors: np.ndarray, params: Mapping[str, Any]) -> Index:
        """Opens an index; what is large is mapped into memory.

        Args:
          paths: Its files, one for each of `FILES`.
          vectors: float32 [N, d], those it was built from.
          params: What it was built with.

        Raises:
          BrokenIndex: If it is not the index of these vectors, or is read wrongly here.
        """


def self_test(index: Index, vectors: np.ndarray, effort: int, share: float = 1.0) -> None:
    """Asks for a sample of the vectors; each must find itself, or its like, and others in their order.

    Annoy built by some compilers with -ffast-math silently returns a single neighbour (spotify/annoy issue 682).

    Args:
      index: What is tested.
      vectors: float32 [N, d], what it is an index of.
      effort: To look with.
      share: Of the sample that must be found, for kinds that promise no more.

    Raises:
      BrokenIndex: If it answers otherwise.
    """
    count = len(vectors)
    wanted = min(count, _SELF_TEST_ANSWERS)
    sample = np.linspace(0, count - 1, min(count, _SELF_TEST_ROWS)).astype(int)
    rows = index.candidates(vectors[sample], wanted, effort)[0][:, :wanted]
    fault = BrokenIndex("the index does not find its own vectors: is it that of others, or its library a faulty build?")
    if rows.shape != (len(sample), wanted) or rows.min() < 0 or rows.max() >= count:
        raise fault
    if wanted > 1 and not np.diff(np.sort(rows, axis=1), axis=1).all():
        raise fault
    distances = ((vectors[rows] - vectors[sample][:, None]) ** 2).sum(axis=2)
    if np.diff(distances, axis=1).min(initial=0.0) < -_ORDER or np.mean(distances[:, 0] < 1e-5) < share:
        raise fault


def machine() -> dict[str, str]:
    """What a native index file is bound to."""
    return {"machine": platform.machine(), "byte_order": sys.byteorder}


def threads() -> int:
    """Threads that this process may use: its share of the cores, if it is one of several workers."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
