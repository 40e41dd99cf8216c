"""Small squares sampled out of photos, for the detector's second and third network."""

import numpy as np
import pyarrow as pa
from PIL import Image

# Pillow spreads a large image over several blocks of memory; in one it can be read in place. Holds for the process.
Image.core.set_block_size(2**31 - 4096)

BEYOND = 127.5  # grey level outside the photo: what the networks take for 0
_AT_ONCE = 65536  # samples worked on together, so that they stay in the processor's cache


def pixel_words(image: Image.Image) -> np.ndarray:
    """A photo's pixels, without a copy where Pillow's memory allows it.

    Args:
      image: Mode RGB.

    Returns:
      uint32 [H, W]; the bytes of each are red, green, blue, and one that means nothing. It keeps the image's memory.
    """
    try:
        if Image.core.get_alignment() > 1:  # as an environment variable may ask for; rows are then padded
            raise ValueError
        values = pa.array(image).buffers()[-1]
    except ValueError:  # several blocks after all: over 2 GB
        values = image.convert("RGBX").tobytes()
    return np.frombuffer(values, np.uint32).reshape(image.height, image.width)


def sample_patches(words: np.ndarray, corners: np.ndarray, out: np.ndarray) -> None:
    """Samples squares as TensorFlow's `crop_and_resize` does.

    Each sample is interpolated between the four pixels around it; nothing is averaged, however large a square is.

    Args:
      words: What `pixel_words` gives.
      corners: float [N, 4], x and y of each square's first and last sample, in pixels; 0 is the first pixel's centre.
      out: float32 [N, S, S, 4], gets grey levels 0..255; BEYOND where a sample lies outside the photo.
    """
    side = out.shape[1]
    step = max(1, _AT_ONCE // side**2)
    for start in range(0, len(corners), step):
        _sample(words, corners[start : start + step], out[start : start + step])


def _sample(words: np.ndarray, corners: np.ndarray, out: np.ndarray) -> None:
    height, width = words.shape
    side = out.shape[1]
    x, left, right, x_inside = _samples(corners[:, 0], corners[:, 2], side, width)
    y, top, bottom, y_inside = _samples(corners[:, 1], corners[:, 3], side, height)
    flat = words.reshape(-1)
    top, bottom = top[:, :, None] * width, bottom[:, :, None] * width
    left, right = left[:, None, :], right[:, None, :]
    across, down = x[:, None, :, None], y[:, :, None, None]
    lower = _blend(flat, bottom + left, bottom + right, across)
    out[:] = _blend(flat, top + left, top + right, across)
    lower -= out
    lower *= down
    out += lower
    out[~(y_inside[:, :, None] & x_inside[:, None, :])] = BEYOND


def _samples(first: np.ndarray, last: np.ndarray, side: int, size: int) -> tuple[np.ndarray, ...]:
    """Along one axis: how far each sample lies between two pixels, which these are, and whether the photo has it."""
    places = first[:, None] + np.arange(side) * ((last - first) / (side - 1))[:, None]
    inside = (places >= 0) & (places <= size - 1)
    places = places.clip(0, size - 1)
    before = np.floor(places).astype(np.int64)
    after = np.minimum(before + 1, size - 1)
    return (places - before).astype(np.float32), before, after, inside


def _blend(flat: np.ndarray, first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """float32 [N, S, S, 4] between the pixels of two places."""
    start = flat.take(first).view(np.uint8).reshape(*first.shape, 4).astype(np.float32)
    end = flat.take(second).view(np.uint8).reshape(*second.shape, 4).astype(np.float32)
    end -= start
    end *= share
    start += end
    return start
