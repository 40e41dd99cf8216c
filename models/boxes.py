"""Arithmetic of detection boxes: non-maximum suppression, squares, corrections. Plain numpy."""

import numpy as np

# Most boxes of a group that take part in suppression, best first; the others go. A crowd of 170 faces on 1.3 megapixels
# has 1,960 windows on the level of P-Net's pyramid that has most.
MOST_IN_GROUP = 2500


def best_first(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Order by group, then by score; equals from top to bottom and left to right, so that it never depends on chance.

    Args:
      boxes: float [N, 4], corners x0, y0, x1, y1.
      scores: float [N].
      groups: int [N].

    Returns:
      Rows in that order, at most MOST_IN_GROUP of a group.
    """
    order = np.lexsort((boxes[:, 0], boxes[:, 1], -scores, groups))
    return order[_places(groups[order]) < MOST_IN_GROUP]


def survivors(boxes: np.ndarray, groups: np.ndarray, threshold: float, of_smaller: bool = False) -> np.ndarray:
    """Non-maximum suppression as the `mtcnn` package does it: a box goes if any better one overlaps it, kept or not.

    All groups are worked on at once: in step k each box that still stands meets the one k places before it. Few do
    after the first steps.

    Args:
      boxes: float [N, 4], corners, in the order of `best_first`.
      groups: int [N], ascending; boxes of different groups do not meet.
      threshold: Overlap above which the worse of two goes.
      of_smaller: Measure the overlap against the smaller of two boxes, not against their union.

    Returns:
      Rows that stay, ascending.
    """
    x0, y0, x1, y1 = np.ascontiguousarray(boxes.T)
    area = (x1 - x0) * (y1 - y0)
    place = _places(groups)
    stands = np.ones(len(boxes), bool)
    step = 1
    rows = np.flatnonzero(place >= step)
    while len(rows):
        better = rows - step
        across = np.minimum(x1[rows], x1[better]) - np.maximum(x0[rows], x0[better])
        down = np.minimum(y1[rows], y1[better]) - np.maximum(y0[rows], y0[better])
        shared = np.maximum(across, 0) * np.maximum(down, 0)
        mine, its = area[rows], area[better]
        whole = np.minimum(mine, its) if of_smaller else mine + its - shared
        goes = shared > threshold * whole
        stands[rows[goes]] = False
        step += 1
        rows = rows[~goes & (place[rows] >= step)]
    return np.flatnonzero(stands)


def _places(groups: np.ndarray) -> np.ndarray:
    """Each row's place within its group; groups are ascending."""
    first = np.searchsorted(groups, groups, side="left")
    return np.arange(len(groups)) - first


def corrected(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Moves corners by a network's offsets, which are shares of a box's width and height counted in whole pixels."""
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)


def squared(boxes: np.ndarray) -> np.ndarray:
    """Makes each box a square of its longer side around the same centre."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], axis=1)
