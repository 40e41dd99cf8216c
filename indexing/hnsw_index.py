"""The HNSW index: a graph of near neighbours, by usearch. Its effort is the expansion, how many faces stay in view.

What it looks at of a face are the principal components that hold nearly all of it, in bfloat16: of FaceNet's 128
numbers about 64, a quarter of the bytes. The exact vectors then rank what it proposes. Of 10^6 face-like vectors that
answers half as many queries again at the same recall, and a graph of twice the links costs no more than before (see
benchmarks/README.md).
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from celebface.indexing.index import BrokenIndex, Index, MissingLibrary, self_test, threads

NAME = "hnsw"
FILES: tuple[str, ...] = ("hnsw", "components.npy")
_GRAPH: Mapping[str, Any] = {"connectivity": 32, "expansion_add": 128, "dtype": "bf16"}
PARAMS: Mapping[str, Any] = {**_GRAPH, "kept": 0.999}  # of the vectors' squared lengths, by the components
FIRST_EFFORT = 100  # as many faces as a search for people asks for

# A step costs 0.6 (10^5 faces) to 1.9 us (10^6), a face looked at in full about 2 ns; see `annoy_index`.
FACES_PER_EFFORT = 256

_SELF_TEST_EXPANSION = 256
_SELF_TEST_SHARE = 0.9  # the graph promises no way to each face

_LOOKED_AT = 2**16  # vectors that the components are taken from
_AT_ONCE = 2**16  # vectors projected at a time
_STEP = 2.0**-12  # of the components' numbers: so coarse that the last bits of a sum, which hang on threads, vanish
_LANES = 16  # components are taken by so many, as processors do


class HnswFaces:
    """An HNSW graph, opened.

    Args:
      index: usearch's.
      components: float32 [d, k], orthonormal columns: what the graph looks at of a vector.
    """

    def __init__(self, index: Any, components: np.ndarray):
        self._index = index
        self._components = components

    def candidates(self, queries: np.ndarray, count: int, effort: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index`."""
        beyond = np.full(len(queries), np.inf)
        count = min(count, len(self._index))
        if not len(queries):
            return np.empty((0, count), np.int64), beyond
        self._index.expansion_search = max(effort, count)
        projected = project(queries, self._components)
        found = self._index.search(projected, count, threads=min(threads(), len(queries)))
        rows = np.asarray(found.keys).astype(np.int64).reshape(len(queries), -1)
        counts = np.atleast_1d(getattr(found, "counts", rows.shape[1]))  # one query alone has another type of answer
        rows[np.arange(rows.shape[1]) >= counts[:, None]] = -1
        return rows, beyond


def _usearch() -> Any:
    try:
        return importlib.import_module("usearch.index")
    except ImportError as error:
        raise MissingLibrary(
            "an index of the kind hnsw needs usearch, which is not installed: "
            "pip install '.[hnsw]' in celebface's folder"
        ) from error


def check() -> None:
    """See `Kind`."""
    _usearch()


def principal_components(vectors: np.ndarray, kept: float) -> np.ndarray:
    """The directions that hold most of the vectors, around zero, as products of vectors are taken around it.

    Args:
      vectors: float32 [N, d].
      kept: Least share of the squared lengths that they hold together.

    Returns:
      float32 [d, k], columns orthonormal to 0.001, k a multiple of 16 or d; the same for the same vectors.
    """
    size = vectors.shape[1]
    some = vectors[:: -(-len(vectors) // _LOOKED_AT)].astype(np.float64)
    shares, directions = np.linalg.eigh(some.T @ some)
    held = np.cumsum(shares[::-1]) / shares.sum()
    count = int(np.searchsorted(held, kept)) + 1
    count = min(size, -(-count // _LANES) * _LANES)
    chosen = directions[:, ::-1][:, :count]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(count)])  # LAPACK may turn them round
    return (np.round(chosen / _STEP) * _STEP).astype(np.float32)


def project(vectors: np.ndarray, components: np.ndarray) -> np.ndarray:
    """The components of vectors, float32 [N, k]; each owes nothing to the other vectors."""
    return np.einsum("nd,dk->nk", vectors, components)


def build(vectors: np.ndarray, paths: Sequence[str]) -> None:
    """Writes graph and components; see `Kind`."""
    graph, projection = paths
    components = principal_components(vectors, PARAMS["kept"])
    index = _usearch().Index(ndim=components.shape[1], metric="ip", **_GRAPH)
    for start in range(0, len(vectors), _AT_ONCE):
        some = project(vectors[start : start + _AT_ONCE], components)
        # With more threads the graph depends on their timing.
        index.add(np.arange(start, start + len(some), dtype=np.uint64), some, threads=1)
    self_test(HnswFaces(index, components), vectors, _SELF_TEST_EXPANSION, _SELF_TEST_SHARE)
    index.save(graph)
    np.save(projection, components)


def open(paths: Sequence[str], vectors: np.ndarray, params: Mapping[str, Any]) -> Index:
    """Maps the graph into memory; see `Kind`."""
    graph, projection = paths
    library = _usearch()
    try:
        if not library.Index.metadata(graph):  # to map a file without its mark spoils the process's memory
            raise BrokenIndex(f"the index file is none of usearch: {graph}")
        components = np.load(projection, allow_pickle=False)
        index = library.Index(ndim=components.shape[1], metric="ip", dtype=params["dtype"], enable_key_lookups=False)
        index.view(graph)
    except (OSError, RuntimeError, ValueError, EOFError, IndexError) as error:
        raise BrokenIndex(f"the index file cannot be opened: {error}") from error
    if (len(index), index.ndim, len(components)) != (len(vectors), components.shape[1], vectors.shape[1]):
        raise BrokenIndex(f"the index holds {len(index)} faces, its vectors are {len(vectors)}")
    opened = HnswFaces(index, components)
    self_test(opened, vectors, _SELF_TEST_EXPANSION, _SELF_TEST_SHARE)
    return opened
