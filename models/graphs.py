"""Parts of which the networks' graphs are made: weights are constants, arithmetic is float32 or bfloat16 throughout.

A graph of constants lets TensorFlow lay out weights once and fuse a convolution with its bias and activation. bfloat16
is asked for by casting, which concerns this graph alone; TensorFlow's own switch concerns the whole process.
"""

import numpy as np

from celebface.models.quiet_tensorflow import tf


def constant(values: np.ndarray, dtype: tf.DType) -> tf.Tensor:
    """A constant of the graph."""
    return tf.constant(np.asarray(values, np.float32).astype(dtype.as_numpy_dtype))


def conv(
    x: tf.Tensor, kernel: np.ndarray, bias: np.ndarray, strides: int = 1, padding: str = "VALID", relu: bool = False
) -> tf.Tensor:
    """A convolution with bias, in the type of `x`.

    Args:
      x: [N, H, W, C].
      kernel: [h, w, C, D].
      bias: [D].
      strides: Step in both directions.
      padding: "VALID" or "SAME".
      relu: Whether negative outputs become 0.
    """
    y = tf.nn.bias_add(tf.nn.conv2d(x, constant(kernel, x.dtype), strides, padding), constant(bias, x.dtype))
    return tf.nn.relu(y) if relu else y


def dense(x: tf.Tensor, kernel: np.ndarray, bias: np.ndarray) -> tf.Tensor:
    """A fully connected layer: [N, C] to [N, D]."""
    return tf.nn.bias_add(tf.matmul(x, constant(kernel, x.dtype)), constant(bias, x.dtype))


def prelu(x: tf.Tensor, slopes: np.ndarray) -> tf.Tensor:
    """Multiplies what is negative by its channel's slope, none of which may be above 1: max(x, slope x)."""
    if slopes.max() > 1:
        raise ValueError("slopes above 1 need another formula")
    return tf.maximum(x, x * constant(slopes, x.dtype))


def conv_prelu_pool(
    x: tf.Tensor, kernel: np.ndarray, bias: np.ndarray, slopes: np.ndarray, size: int, padding: str
) -> tuple[tf.Tensor, np.ndarray]:
    """A convolution, a PReLU and a max pooling with step 2, in the order conv, pool, PReLU: a quarter of the values.

    PReLU is max(x, slope x), or min for slopes above 1. Of rising functions the maximum may be taken first. Where the
    slope is negative, max over a window of max(x, slope x) = max(max of x, max of slope x): the convolution has those
    channels twice, once multiplied by the slope.

    Args:
      x: [N, H, W, C].
      kernel: [h, w, C, D].
      bias: [D].
      slopes: [D].
      size: Side of the pooling window.
      padding: Of the pooling, "VALID" or "SAME".

    Returns:
      [N, H', W', D], and which channel of the convolution each of its channels is.
    """
    falling, rising, steep = (np.flatnonzero(kind) for kind in (slopes < 0, (slopes >= 0) & (slopes <= 1), slopes > 1))
    order = np.concatenate([falling, rising, steep])
    kernels = np.concatenate([kernel[..., order], kernel[..., falling] * slopes[falling]], axis=-1)
    biases = np.concatenate([bias[order], bias[falling] * slopes[falling]])
    most = tf.nn.max_pool2d(conv(x, kernels, biases), size, 2, padding)
    ends = np.cumsum([len(falling), len(rising), len(steep)])
    parts = [tf.maximum(most[..., : ends[0]], most[..., ends[2] :])]
    for start, end, extreme in ((ends[0], ends[1], tf.maximum), (ends[1], ends[2], tf.minimum)):
        values = most[..., start:end]
        parts.append(extreme(values, values * constant(slopes[order[start:end]], x.dtype)))
    return tf.concat([part for part in parts if part.shape[-1]], axis=-1), order
