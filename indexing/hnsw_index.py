"""The HNSW index: a graph of near neighbours, by usearch. Its effort is the expansion, how many faces stay in view.

Its own copy of the vectors is bfloat16. Beside float32 that halves the file and quadruples the speed on a processor
that has it (100,000 faces, 2 cores: 16,000 queries a second for 4,000 at expansion 100), and as the candidates are
ranked again by the exact vectors, the recall is the same to 0.2 %.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from celebface.indexing.index import BrokenIndex, Index, MissingLibrary, self_test, threads

NAME = "hnsw"
FILE = "hnsw"
PARAMS: Mapping[str, Any] = {"connectivity": 16, "expansion_add": 128, "dtype": "bf16"}
FIRST_EFFORT = 100  # as many faces as a search for people asks for

# A step costs 0.8 to 1.3 us, a face looked at in full 2.8 ns; see `annoy_index`.
FACES_PER_EFFORT = 256

_SELF_TEST_EXPANSION = 256
_SELF_TEST_SHARE = 0.9  # the graph promises no way to each face


class HnswFaces:
    """An HNSW graph, opened."""

    def __init__(self, index: Any):
        self._index = index

    def candidates(self, queries: np.ndarray, count: int, effort: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index`."""
        beyond = np.full(len(queries), np.inf)
        count = min(count, len(self._index))
        if not len(queries):
            return np.empty((0, count), np.int64), beyond
        self._index.expansion_search = max(effort, count)
        found = self._index.search(np.atleast_2d(queries), count, threads=min(threads(), len(queries)))
        rows = np.asarray(found.keys).astype(np.int64).reshape(len(queries), -1)
        counts = np.atleast_1d(getattr(found, "counts", rows.shape[1]))  # one query alone has another type of answer
        rows[np.arange(rows.shape[1]) >= counts[:, None]] = -1
        return rows, beyond


def _usearch() -> Any:
    try:
        return importlib.import_module("usearch.index")
    except ImportError as error:
        raise MissingLibrary(
            "an index of the kind hnsw needs usearch, which is not installed: pip install 'celebface[hnsw]'"
        ) from error


def check() -> None:
    """See `Kind`."""
    _usearch()


def build(vectors: np.ndarray, path: str) -> None:
    """Writes the index file; see `Kind`."""
    index = _usearch().Index(ndim=vectors.shape[1], metric="ip", **PARAMS)
    index.add(np.arange(len(vectors), dtype=np.uint64), vectors, threads=1)  # with more, the graph depends on timing
    self_test(HnswFaces(index), vectors, _SELF_TEST_EXPANSION, _SELF_TEST_SHARE)
    index.save(path)


def open(path: str, vectors: np.ndarray, params: Mapping[str, Any]) -> Index:
    """Maps an index file into memory; see `Kind`."""
    library = _usearch()
    try:
        if not library.Index.metadata(path):  # to map a file without its mark spoils the process's memory
            raise BrokenIndex(f"the index file is none of usearch: {path}")
        index = library.Index(ndim=vectors.shape[1], metric="ip", dtype=params["dtype"], enable_key_lookups=False)
        index.view(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise BrokenIndex(f"the index file cannot be opened: {error}") from error
    if (len(index), index.ndim) != vectors.shape:
        raise BrokenIndex(f"the index holds {len(index)} faces, its vectors are {len(vectors)}")
    opened = HnswFaces(index)
    self_test(opened, vectors, _SELF_TEST_EXPANSION, _SELF_TEST_SHARE)
    return opened
