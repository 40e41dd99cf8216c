"""Crops as training sees them: each time a little different, as another photo of the face would be. TensorFlow ops.

What is drawn depends on a seed for each face alone, so that a run that goes on after a kill sees the same pixels.
"""

import math
from collections.abc import Callable

from celebface.models.quiet_tensorflow import tf
from celebface.models.training_config import Augmentation


def augment(crop: tf.Tensor, side: int, seed: tf.Tensor, how: Augmentation) -> tf.Tensor:
    """Mirrors, turns, scales, shifts, recolours, blurs, compresses and covers a crop.

    Args:
      crop: uint8 [160, 160, 3], RGB.
      side: Pixels a side of the result.
      seed: int64 [2].
      how: How strongly.

    Returns:
      float32 [side, side, 3], 0..255.
    """
    chance = tf.random.stateless_uniform([17], seed)
    face = tf.image.resize(crop, (side, side), method="area")
    face = _move(face, side, chance[0:5], how)
    face = _recolour(face, chance[5:9], how)
    face = _either(chance[9] < how.blur, lambda: _blur(face, side, chance[10]), face)
    face = _either(chance[11] < how.jpeg, lambda: _compress(face, seed), face)
    face = _either(chance[12] < how.erased, lambda: _erase(face, side, chance[13:17]), face)
    return tf.ensure_shape(face, (side, side, 3))


def _move(face: tf.Tensor, side: int, chance: tf.Tensor, how: Augmentation) -> tf.Tensor:
    """Mirrors, turns, scales and shifts around the middle; what lies outside mirrors what is inside."""
    across, up, turn, size = tf.unstack(2.0 * chance[:4] - 1.0)
    angle = turn * how.rotation * math.pi / 180.0
    step = 1.0 / (1.0 + size * how.scale)  # pixels of the crop for one of the result
    flip = tf.where(chance[4] < 0.5, -1.0, 1.0)
    cosine, sine = step * tf.cos(angle), step * tf.sin(angle)
    middle = (side - 1) / 2.0
    left = middle * (1.0 - flip * cosine + sine) + across * how.shift * side
    top = middle * (1.0 - flip * sine - cosine) + up * how.shift * side
    transform = tf.stack([flip * cosine, -sine, left, flip * sine, cosine, top, 0.0, 0.0])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=face[None],
        transforms=transform[None],
        output_shape=(side, side),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )[0]


def _recolour(face: tf.Tensor, chance: tf.Tensor, how: Augmentation) -> tf.Tensor:
    """Brightness and contrast, saturation, or no colour at all."""
    brightness, contrast, saturation = tf.unstack(how.colour * (2.0 * chance[:3] - 1.0))
    face = (face - 127.5) * (1.0 + contrast) + 127.5 * (1.0 + 2.0 * brightness)
    grey = tf.image.rgb_to_grayscale(face)
    kept = tf.where(chance[3] < how.grey, 0.0, 1.0 + saturation)
    return tf.clip_by_value(grey + (face - grey) * kept, 0.0, 255.0)


def _blur(face: tf.Tensor, side: int, chance: tf.Tensor) -> tf.Tensor:
    small = tf.cast(float(side) / (2.0 + 4.0 * chance), tf.int32)
    return tf.image.resize(tf.image.resize(face, (small, small), antialias=True), (side, side), method="bicubic")


def _compress(face: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    pixels = tf.cast(tf.round(tf.clip_by_value(face, 0.0, 255.0)), tf.uint8)
    return tf.cast(tf.image.stateless_random_jpeg_quality(pixels, 30, 95, seed), tf.float32)


def _erase(face: tf.Tensor, side: int, chance: tf.Tensor) -> tf.Tensor:
    """Covers a rectangle of an eighth to half of each side."""
    extent = side * (0.125 + 0.375 * chance[:2])
    start = (side - extent) * chance[2:]
    place = tf.range(side, dtype=tf.float32)
    rows, columns = ((place >= start[i]) & (place < start[i] + extent[i]) for i in range(2))
    return tf.where((rows[:, None] & columns[None, :])[..., None], 127.5, face)


def _either(condition: tf.Tensor, changed: Callable[[], tf.Tensor], otherwise: tf.Tensor) -> tf.Tensor:
    """Unlike tf.where this does the work only where it is wanted."""
    return tf.cond(condition, changed, lambda: otherwise)
