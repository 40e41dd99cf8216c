"""No index: all faces are looked at, by products of matrices over the mapped vectors. Effort means nothing to it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from celebface.indexing import search
from celebface.indexing.index import Index

NAME = "exact"
FILES: tuple[str, ...] = ()  # the vectors are all there is
PARAMS: Mapping[str, Any] = {}
FIRST_EFFORT = 0
FACES_PER_EFFORT = 0

_QUERIES = 1024  # at once: more of them gain nothing, and their products leave the cache


class ExactIndex:
    """Looks at every row."""

    def __init__(self, vectors: np.ndarray):
        self._vectors = vectors

    def candidates(self, queries: np.ndarray, count: int, effort: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """See `Index`; what lies beyond is known."""
        count = min(count, len(self._vectors))
        rows, beyond = np.empty((len(queries), count), np.int64), np.empty(len(queries))
        for start in range(0, len(queries), _QUERIES):
            some = slice(start, start + _QUERIES)
            rows[some], beyond[some] = search.shortlists(queries[some], self._vectors, count)
        return rows, beyond


def check() -> None:
    """Needs nothing."""


def build(vectors: np.ndarray, paths: Sequence[str]) -> None:
    """There is nothing to build."""


def open(paths: Sequence[str], vectors: np.ndarray, params: Mapping[str, Any]) -> Index:
    """There is nothing to open, and nothing that another machine would read otherwise."""
    return ExactIndex(vectors)
