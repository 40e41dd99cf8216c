"""Nearest rows of a matrix of unit vectors: approximate candidates, ranked by exact distances."""

import numpy as np
from annoy import AnnoyIndex


def nearest_exact(query: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The true nearest rows; see `rerank`."""
    return rerank(query, vectors, np.arange(len(vectors)), count)


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
