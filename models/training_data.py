"""Batches of augmented faces, from the crops of labelled people. TensorFlow's data pipeline."""

from collections.abc import Iterator, Sequence

import numpy as np

from celebface.models.augmentation import augment
from celebface.models.inception_resnet import INPUT_SIZE
from celebface.models.quiet_tensorflow import tf
from celebface.models.sampling import PeopleSampler
from celebface.models.training_config import Augmentation


def batches(
    crops: Sequence[bytes],
    people: Sequence[int],
    sampler: PeopleSampler,
    side: int,
    how: Augmentation,
    seed: int,
    steps: range,
) -> tf.data.Dataset:
    """Makes the batches of some steps, while others are learnt from.

    A step's batch depends on the seed and its number alone.

    Args:
      crops: JPEGs of 160 x 160 pixels.
      people: Who is on each.
      sampler: Chooses the photos of each step.
      side: Pixels a side of the faces.
      how: How strongly they are changed.
      seed: Of the changes.
      steps: Which.

    Returns:
      Of each step float32 [P K, side, side, 3], RGB, 0..255, and int64 [P K], who is on them.
    """
    count = len(sampler.batch(0))

    def faces() -> Iterator[tuple[bytes, int, np.ndarray]]:
        for step in steps:
            for place, row in enumerate(sampler.batch(step)):
                yield crops[row], people[row], np.array([seed, step * count + place])

    def read(jpeg: tf.Tensor, person: tf.Tensor, chance: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return augment(decode(jpeg), side, chance, how), person

    signature = (tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.int64), tf.TensorSpec((2,), tf.int64))
    single = tf.data.Dataset.from_generator(faces, output_signature=signature)
    return single.map(read, tf.data.AUTOTUNE, deterministic=True).batch(count).prefetch(2)


def decode(jpeg: tf.Tensor) -> tf.Tensor:
    """A crop's pixels, uint8 [160, 160, 3], RGB."""
    pixels = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")
    return tf.ensure_shape(pixels, (INPUT_SIZE, INPUT_SIZE, 3))
