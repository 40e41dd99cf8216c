"""The Annoy index: trees of random cuts, built from a seed. Its effort is `search_k`, the nodes that are looked at."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from annoy import AnnoyIndex

from celebface.indexing.index import BrokenIndex, Index, self_test

NAME = "annoy"
FILES: tuple[str, ...] = ("ann",)
TREES = 50
SEED = 20150312  # arXiv's date of the FaceNet paper; any fixed number would do
PARAMS: Mapping[str, Any] = {"trees": TREES, "seed": SEED}
FIRST_EFFORT = 10 * TREES

# A product of matrices costs 2.8 ns for each face of the gallery and each query of a batch of 128, as match has them,
# Annoy 65 to 115 ns for each node from the 2,000th on (10^5 faces, one core of an EPYC with AVX-512).
FACES_PER_EFFORT = 32

_METRIC: Literal["euclidean"] = "euclidean"  # on unit vectors its order is that of D = squared L2
_SELF_TEST_NODES = 200  # of each tree: its way down to a vector ends beside it; to look at all takes minutes


class AnnoyFaces:
    """Annoy trees, opened."""

    def __init__(self, index: AnnoyIndex):
        self._index = index

    def candidates(self, queries: np.ndarray, count: int, effort: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index`."""
        count = min(count, self._index.get_n_items())
        rows = np.full((len(queries), count), -1, np.int64)
        for row, query in zip(rows, queries, strict=True):
            found = self._index.get_nns_by_vector(query, count, search_k=max(effort, count))
            row[: len(found)] = found
        return rows, np.full(len(queries), np.inf)


def check() -> None:
    """Annoy is always installed."""


def build(vectors: np.ndarray, paths: Sequence[str]) -> None:
    """Writes the index file; see `Kind`."""
    (path,) = paths
    index = AnnoyIndex(vectors.shape[1], _METRIC)
    index.set_seed(SEED)
    for row, vector in enumerate(vectors):
        index.add_item(row, vector)
    index.build(TREES, n_jobs=1)  # with more, the trees depend on the threads' timing
    self_test(AnnoyFaces(index), vectors, _thorough(len(vectors), TREES))
    index.save(path)


def open(paths: Sequence[str], vectors: np.ndarray, params: Mapping[str, Any]) -> Index:
    """Maps an index file into memory; see `Kind`."""
    (path,) = paths
    index = AnnoyIndex(vectors.shape[1], _METRIC)
    try:
        index.load(path)
    except OSError as error:
        raise BrokenIndex(f"the index file cannot be opened: {error}") from error
    if index.get_n_items() != len(vectors):
        raise BrokenIndex(f"the index holds {index.get_n_items()} faces, its vectors are {len(vectors)}")
    opened = AnnoyFaces(index)
    self_test(opened, vectors, _thorough(len(vectors), int(params["trees"])))
    return opened


def _thorough(count: int, trees: int) -> int:
    return trees * min(count, _SELF_TEST_NODES)
