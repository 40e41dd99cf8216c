"""What the faces of a person have in common, and the people that a face is most like."""

import dataclasses

import numpy as np

# Two faces of one person: on LFW dev 98 % of the pairs are nearer, and 0.2 % of those of two people.
_AGREE = 1.1

_MOST_COMPARED = 1024  # faces of one person that its core is sought among
_BLOCK, _COLUMNS = 256, 4096  # faces and people compared at once
NOBODY = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Core:
    """What is common to some faces.

    Attributes:
      vector: float32 [d], unit length.
      size: Faces it is made of; 0 if the faces disagree.
      own: float32 [N], D of each face to the core of the others, or to the nearest of them if there is no core; NaN
        if there are none.
      members: bool [N], which faces it is made of.
    """

    vector: np.ndarray
    size: int
    own: np.ndarray
    members: np.ndarray


def find_core(vectors: np.ndarray) -> Core:
    """Finds what most of a person's faces have in common.

    The face that agrees with the most others is taken, and the mean of those; then the mean of all that are near that.
    There is no core if no two faces agree, or if as many agree on something else: nobody can tell then which are right.

    Args:
      vectors: float32 [N, d], unit rows, in a fixed order, at least one.
    """
    count = len(vectors)
    if count == 1:
        return Core(vectors[0], 1, np.array([np.nan], np.float32), np.array([True]))
    looked_at = vectors[np.linspace(0, count - 1, min(count, _MOST_COMPARED)).astype(int)]
    distances = _distances(looked_at, looked_at)
    agree = distances <= _AGREE
    medoid = min(range(len(looked_at)), key=lambda row: (-agree[row].sum(), distances[row][agree[row]].sum(), row))
    members = _distances(vectors, looked_at[medoid : medoid + 1])[:, 0] <= _AGREE
    members = _from_others(vectors, members) <= _AGREE
    size = int(members.sum())
    rest = np.flatnonzero(_distances(looked_at, _mean(vectors[members])[None])[:, 0] > _AGREE)
    rival = int(agree[np.ix_(rest, rest)].sum(axis=1).max(initial=0))
    if size < 2 or rival * count >= size * len(looked_at):
        each = np.arange(count)
        own = nearest_others(vectors, each, vectors, each)[1][:, 0]
        return Core(vectors[0], 0, own, np.zeros(count, bool))
    return Core(_mean(vectors[members]), size, _from_others(vectors, members), members)


def _mean(vectors: np.ndarray) -> np.ndarray:
    """The direction of several unit vectors, float32 [d]."""
    total = vectors.sum(axis=0, dtype=np.float64)
    return (total / max(np.linalg.norm(total), 1e-9)).astype(np.float32)


def _from_others(vectors: np.ndarray, members: np.ndarray) -> np.ndarray:
    """D of each face to the mean of the members, itself left out, float32 [N]; infinite if nothing is left."""
    total = vectors[members].sum(axis=0, dtype=np.float64)
    others = total - np.where(members[:, None], vectors, 0)
    lengths = np.linalg.norm(others, axis=1)
    cosines = (vectors * others).sum(axis=1) / np.maximum(lengths, 1e-9)
    left = members.sum() - members
    return np.where(left > 0, 2 - 2 * cosines, np.inf).astype(np.float32)


def _distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """D of each of some unit vectors to each of others, float32."""
    return np.maximum(2 - 2 * some @ others.T, 0)


def nearest_others(
    vectors: np.ndarray, owners: np.ndarray, others: np.ndarray, people: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The two people that each face is most like, its own left out; in blocks, as there are many of both.

    Args:
      vectors: float32 [U, d], unit rows: the faces.
      owners: int [U], whose they are.
      others: float32 [P, d], unit rows, one for each person.
      people: int [P], who they are, in order.

    Returns:
      Rows of `others`, int64 [U, 2], the nearest first, -1 for none; and D to them, float32 [U, 2], infinite for none.
    """
    rows = np.full((len(vectors), 2), -1)
    distances = np.full((len(vectors), 2), np.inf, np.float32)
    mine = np.searchsorted(people, owners)
    mine[np.append(people, NOBODY)[mine] != owners] = NOBODY
    for start in range(0, len(vectors), _BLOCK):
        some = slice(start, start + _BLOCK)
        each = np.arange(len(vectors[some]))[:, None]
        cosines, best = np.full((len(each), 2), -np.inf, np.float32), rows[some]
        for left in range(0, len(others), _COLUMNS):
            block = vectors[some] @ others[left : left + _COLUMNS].T
            own = np.flatnonzero((mine[some] >= left) & (mine[some] < left + block.shape[1]))
            block[own, mine[some][own] - left] = -np.inf
            for _ in range(2):
                first = block.argmax(axis=1)[:, None]
                found = np.take_along_axis(block, first, axis=1)
                cosines = np.concatenate([cosines, found], axis=1)
                best = np.concatenate([best, np.where(np.isfinite(found), first + left, -1)], axis=1)
                block[each, first] = -np.inf
            order = np.argsort(-cosines, axis=1, kind="stable")[:, :2]
            cosines, best = np.take_along_axis(cosines, order, axis=1), np.take_along_axis(best, order, axis=1)
        rows[some] = best
        if len(others):
            exact = ((vectors[some][:, None] - others[best]) ** 2).sum(axis=2)  # a product errs in the last bits
            distances[some] = np.where(best >= 0, exact, np.inf)
    return rows, distances
