"""Nearest rows of a matrix of unit vectors: candidates of one kind or another, ranked by exact distances."""

import numpy as np
from annoy import AnnoyIndex

# Which way is the faster, by gallery: a product of matrices costs 5 ns for each face of the gallery and each query of a
# batch (32 to 256 queries, 10^4 to 10^6 faces; 25 to 36 ns for a query alone), Annoy 60 to 150 ns for each node of
# search_k, on one core of a Xeon with AVX-512. The size of a batch must not decide: answers would depend on it.
_FACES_PER_NODE = 16

_CELLS = 2**20  # of a product, 4 MB: what is multiplied is still in the cache when it is sorted

# How far a squared distance by a product or by `rerank` may be from the true one. Sums of 128 products of float32 err
# by less than 1e-5, and unit vectors are as long as float32 can tell.
_ROUNDING = 1e-4


def worth_an_index(faces: int, search_k: int) -> bool:
    """Whether an index that looks at `search_k` nodes is faster, batch by batch, than to look at all faces."""
    return faces > _FACES_PER_NODE * search_k


def nearest_exact(query: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The true nearest rows; see `rerank`."""
    return rerank(query, vectors, np.arange(len(vectors)), count)


def nearest_of_each(queries: np.ndarray, vectors: np.ndarray, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """What `nearest_exact` gives for each of several queries, sooner.

    Args:
      queries: float32 [Q, d], unit rows.
      vectors: float32 [N, d], unit rows, at least one.
      count: How many to return of each at most, at least 1.
    """
    answers = []
    for query, (rows, beyond) in zip(queries, shortlists(queries, vectors, 2 * count), strict=True):
        best, distances = rerank(query, vectors, rows, count)
        if distances[-1] >= beyond:  # so many are equally near that others may be among them
            best, distances = nearest_exact(query, vectors, count)
        answers.append((best, distances))
    return answers


def shortlists(queries: np.ndarray, vectors: np.ndarray, count: int) -> list[tuple[np.ndarray, float]]:
    """Chooses rows for each query by products of matrices.

    The last bits of a product depend on what else is multiplied with it, so it only chooses; `rerank` measures.

    Args:
      queries: float32 [Q, d], unit rows.
      vectors: float32 [N, d], unit rows.
      count: How many to choose.

    Returns:
      For each query the rows, int64 [min(count, N)], in no order; and a D than which `rerank` would give no other row
      a smaller one, infinite if there is no other.
    """
    cosines = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    block = max(count, _CELLS // max(1, len(queries)))
    for start in range(0, len(vectors), block):
        more = queries @ vectors[start : start + block].T
        numbers = np.broadcast_to(np.arange(start, start + more.shape[1]), more.shape)
        cosines, rows = np.concatenate([cosines, more], axis=1), np.concatenate([rows, numbers], axis=1)
        if cosines.shape[1] > count:
            chosen = np.argpartition(cosines, -count, axis=1)[:, -count:]
            cosines, rows = np.take_along_axis(cosines, chosen, axis=1), np.take_along_axis(rows, chosen, axis=1)
    if rows.shape[1] == len(vectors):
        return [(mine, np.inf) for mine in rows]
    return [(mine, 2 - 2 * float(least) - _ROUNDING) for mine, least in zip(rows, cosines.min(axis=1), strict=True)]


def candidates(index: AnnoyIndex, query: np.ndarray, count: int, search_k: int) -> np.ndarray:
    """Rows that an Annoy index proposes, at least `count` of them if it finds so many."""
    return np.array(index.get_nns_by_vector(query.tolist(), count, search_k=search_k), np.int64)


def rerank(query: np.ndarray, vectors: np.ndarray, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Orders candidate rows by their exact distance.

    Args:
      query: float32 [d], unit length.
      vectors: float32 [N, d], unit rows.
      rows: int [M], candidates.
      count: How many to return at most.

    Returns:
      The best rows, int64 [K], equals by row number; and their D = squared L2, float32 [K], 0..4.
    """
    difference = vectors[rows] - query
    distances = np.einsum("nd,nd->n", difference, difference)
    order = np.lexsort((rows, distances))[:count]
    return rows[order], distances[order].astype(np.float32)
