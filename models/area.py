"""Averages a large photo's rows for all levels of a pyramid, in one pass over its pixels.

To scale by area is to average rows, then columns, with those at the edges counted in part. TensorFlow's resize reads
the whole photo for each level. Averaging rows is a product with a matrix that is nearly empty; cut into blocks that are
nearly full, it serves all levels at once and leaves a tenth of the photo to be read for each.
"""

from collections.abc import Sequence

import numpy as np

# Rows of the photo multiplied together, and how many of a row's values. Products so small stay in the cache, and BLAS
# does not wake other threads for them, which would fight with TensorFlow's: OpenBLAS does so from about 800,000
# multiplications on, and with both cores busy a photo then took seconds.
_ROWS, _TILE = 32, 64


def average_rows(words: np.ndarray, heights: Sequence[int]) -> list[np.ndarray]:
    """Scales a photo by area, in height only.

    Args:
      words: uint32 [H, W], as `patches.pixel_words` gives it.
      heights: Heights wanted.

    Returns:
      For each height h float32 [h, W, 4]: means of the four bytes.
    """
    height, width = words.shape
    pixels = words.view(np.uint8)
    means = [np.zeros((count, width * 4), np.float32) for count in heights]
    tiles = width * 4 // _TILE
    tiled = tiles * _TILE
    for first in range(0, height, _ROWS):
        block = pixels[first : first + _ROWS].astype(np.float32)
        parts = [_shares(height, count, first, len(block)) for count in heights]
        shares = np.concatenate([shares for _, shares in parts])
        products = np.empty((len(shares), width * 4), np.float32)
        of_tiles = shares @ block[:, :tiled].reshape(len(block), tiles, _TILE).transpose(1, 0, 2)
        products[:, :tiled].reshape(len(shares), tiles, _TILE)[:] = of_tiles.transpose(1, 0, 2)
        products[:, tiled:] = shares @ block[:, tiled:]
        done = 0
        for mean, (top, shares) in zip(means, parts, strict=True):
            mean[top : top + len(shares)] += products[done : done + len(shares)]
            done += len(shares)
    return [mean.reshape(len(mean), width, 4) for mean in means]


def _shares(height: int, count: int, first: int, length: int) -> tuple[int, np.ndarray]:
    """How much of each of `length` rows, from `first` on, goes into which of the `count` rows that all become.

    Returns:
      The first row they go into, and float32 [n, length], shares of that row and the next ones.
    """
    pitch = height / count
    start, stop = int(first / pitch), min(count, int(np.ceil((first + length) / pitch)))
    tops = np.arange(start, stop)[:, None] * pitch
    rows = first + np.arange(length)
    overlap = np.minimum(tops + pitch, rows + 1) - np.maximum(tops, rows)
    return start, (overlap.clip(0) / pitch).astype(np.float32)
