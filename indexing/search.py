"""Nearest rows of a matrix of unit vectors: chosen by products of matrices, ranked by exact distances."""

from collections.abc import Callable

import numpy as np

Propose = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray]]

_CELLS = 2**20  # of a product, 4 MB: what is multiplied is still in the cache when it is looked through
_ROWS = 4096  # measured at once, 2 MB of 128 numbers each
_NOBODY = np.uint64(2**64 - 1)  # a key after all others; see `ranked`

# How far a squared distance by a product or by `squared_distances` may be from the true one. Sums of 128 products of
# float32 err by less than 1e-5, and unit vectors are as long as float32 can tell.
_ROUNDING = 1e-4


def nearest_exact(queries: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The true nearest rows of each query.

    Args:
      queries: float32 [Q, d], unit rows.
      vectors: float32 [N, d], unit rows, at least one.
      count: How many to return of each at most, at least 1.

    Returns:
      Rows, int64 [Q, min(count, N)], nearest first, equals by row; and their D, float32.
    """

    def propose(some: np.ndarray, asked: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chosen, beyond = shortlists(some, vectors, asked)
        return *rerank(some, vectors, chosen), beyond

    return until_certain(propose, queries, min(count, len(vectors)))


def until_certain(propose: Propose, queries: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Asks for more until no other row can be among those wanted.

    Args:
      propose: Gives for queries, and a number of rows to look for, rows nearest first, their D, and for each query a D
        within which there is no other row.
      queries: float32 [Q, d], unit rows.
      wanted: Rows of each, at most as many as there are.

    Returns:
      Rows, int64 [Q, wanted], nearest first, equals by row; and their D, float32.
    """
    rows, distances = np.empty((len(queries), wanted), np.int64), np.empty((len(queries), wanted), np.float32)
    waiting, asked = np.arange(len(queries)), 2 * wanted
    while len(waiting):
        best, found, beyond = propose(queries[waiting], asked)
        rows[waiting], distances[waiting] = best[:, :wanted], found[:, :wanted]
        waiting = waiting[found[:, wanted - 1] >= beyond]  # so many are equally near that others may be among them
        asked *= 8
    return rows, distances


def shortlists(queries: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Chooses rows for each query by products of matrices.

    The last bits of a product depend on what else is multiplied with it, so it only chooses; `rerank` measures.

    Args:
      queries: float32 [Q, d], unit rows.
      vectors: float32 [N, d], unit rows.
      count: How many to choose.

    Returns:
      Rows, int64 [Q, min(count, N)], in no order; and for each query a D than which `rerank` would give no other row a
      smaller one, infinite if there is no other: float64 [Q].
    """
    total = len(vectors)
    if count >= total or not len(queries):
        rows = np.broadcast_to(np.arange(total), (len(queries), total))[:, :count]
        return rows.copy(), np.full(len(queries), np.inf)
    block = max(2 * count, _CELLS // len(queries))
    best = _Best(queries @ vectors[:block].T, count)
    for start in range(block, total, block):
        best.add(queries @ vectors[start : start + block].T, start)
    best.settle()
    return best.rows, 2 - 2 * best.floor.astype(np.float64) - _ROUNDING


class _Best:
    """The largest cosines so far. Of a new block only what is above the least of them is touched."""

    def __init__(self, cosines: np.ndarray, count: int):
        self._count = min(count, cosines.shape[1])
        self._cosines, self.rows = cosines, np.broadcast_to(np.arange(cosines.shape[1]), cosines.shape)
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._many = 0
        self._keep()

    def _keep(self) -> None:
        if self._cosines.shape[1] > self._count:
            chosen = np.argpartition(self._cosines, -self._count, axis=1)[:, -self._count :]
            self._cosines = np.take_along_axis(self._cosines, chosen, axis=1)
            self.rows = np.take_along_axis(self.rows, chosen, axis=1)
        self.floor = self._cosines.min(axis=1)

    def add(self, cosines: np.ndarray, start: int) -> None:
        """Takes the cosines of the rows from `start` on, float32 [Q, B]."""
        places = np.flatnonzero(cosines > self.floor[:, None])
        of, columns = np.divmod(places, cosines.shape[1])
        self._waiting.append((of, columns + start, cosines.ravel()[places]))
        self._many += len(places)
        if self._many > self._cosines.size // 2:
            self.settle()

    def settle(self) -> None:
        """Puts what has waited among the others."""
        if not self._many:
            return
        of, rows, cosines = map(np.concatenate, zip(*self._waiting, strict=True))
        self._waiting, self._many = [], 0
        order = np.argsort(of, kind="stable")
        of = of[order]
        counts = np.bincount(of, minlength=len(self.floor))
        column = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
        more = np.full((len(self.floor), counts.max()), -np.inf, np.float32)
        numbers = np.zeros(more.shape, np.int64)
        more[of, column], numbers[of, column] = cosines[order], rows[order]
        self._cosines = np.concatenate([self._cosines, more], axis=1)
        self.rows = np.concatenate([self.rows, numbers], axis=1)
        self._keep()


def squared_distances(queries: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Measures rows by differences, which do not depend on what else is measured.

    Args:
      queries: float32 [Q, d].
      vectors: float32 [N, d].
      rows: int64 [Q, K]; -1 where there is none.

    Returns:
      D, float32 [Q, K]; infinite where there is no row.
    """
    flat = rows.ravel()
    distances = np.empty(len(flat), np.float32)
    for start in range(0, len(flat), _ROWS):
        some = flat[start : start + _ROWS]
        difference = vectors.take(np.maximum(some, 0), axis=0)
        difference -= queries.take(np.arange(start, start + len(some)) // rows.shape[1], axis=0)
        distances[start : start + len(some)] = np.einsum("nd,nd->n", difference, difference)
    distances[flat < 0] = np.inf
    return distances.reshape(rows.shape)


def keys(distances: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Numbers that sort by distance, equals by row: the bits of a float that is not negative grow with it.

    Args:
      distances: float32, 0 or more, or infinite.
      rows: int64, below 2^32; -1 where there is none.
    """
    together = distances.astype(np.float32).view(np.uint32).astype(np.uint64) << np.uint64(32) | rows.astype(np.uint64)
    return np.where(rows < 0, _NOBODY, together)


def ranked(sorted_keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows, int64, and distances, float32, of keys; -1 and infinite where there is none."""
    nobody = sorted_keys == _NOBODY
    rows = (sorted_keys & np.uint64(2**32 - 1)).astype(np.int64)
    distances = (sorted_keys >> np.uint64(32)).astype(np.uint32).view(np.float32)
    return np.where(nobody, -1, rows), np.where(nobody, np.float32(np.inf), distances)


def rerank(queries: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orders each query's candidates by their exact distance.

    Args:
      queries: float32 [Q, d], unit rows.
      vectors: float32 [N, d], unit rows, N below 2^32.
      rows: int64 [Q, K], candidates; -1 where there is none.

    Returns:
      Rows, int64 [Q, K], nearest first, equals by row number, -1 after the last; and their D = squared L2, 0..4,
      float32 [Q, K].
    """
    return ranked(np.sort(keys(squared_distances(queries, vectors, rows), rows), axis=1))
