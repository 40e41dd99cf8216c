"""The encoder: face crops to vectors.

Schroff et al., "FaceNet: A Unified Embedding for Face Recognition and Clustering", 2015.
"""

import contextlib
import ctypes
import gc
from collections.abc import Mapping, Sequence

import numpy as np

from celebface.models import graphs
from celebface.models.inception_resnet import EPSILON, INPUT_SIZE
from celebface.models.networks import INCEPTION_RESNET_V1, NETWORKS
from celebface.models.precision import check_precision
from celebface.models.quiet_tensorflow import tf

BATCH_SIZE = 32  # faces per run; fixed, so that TensorFlow plans its work once


class FaceEncoder:
    """Turns face crops into unit vectors: f of the similarity function D(a, b) = ||f(a) - f(b)||^2."""

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        embedding_size: int,
        precision: str,
        architecture: str = INCEPTION_RESNET_V1,
    ):
        """Builds the graph.

        Args:
          weights: Named "<layer>/<variable>", as `encoder_card` reads them.
          embedding_size: Length d of a vector.
          precision: "float32", or "bfloat16" for convolutions in bfloat16.
          architecture: One of `networks.NETWORKS`.

        Raises:
          ValueError: If the weights do not fit or the precision is unknown.
        """
        check_precision(precision)
        self.embedding_size = embedding_size
        self.precision = precision
        layers = _FoldedLayers(weights)
        plan = NETWORKS[architecture]

        def network(faces: tf.Tensor) -> tf.Tensor:
            return plan.build(layers, tf.cast(standardised(faces, plan.side), tf.as_dtype(precision)), embedding_size)

        signature = [tf.TensorSpec([BATCH_SIZE, INPUT_SIZE, INPUT_SIZE, 3], tf.uint8)]
        self._network = tf.function(network, input_signature=signature, autograph=False).get_concrete_function()
        layers.check_all_used()
        self._network(tf.zeros(signature[0].shape, tf.uint8))  # TensorFlow optimises at the first run
        _return_memory()

    def encode(self, crops: np.ndarray) -> np.ndarray:
        """Encodes faces.

        Each crop is standardised by itself, (x - mean) / max(std, 1 / sqrt(n)), as the network was trained with.

        Args:
          crops: uint8 [N, 160, 160, 3], RGB.

        Returns:
          float32 [N, d], each row of length 1. A row depends on its own crop only.

        Raises:
          ValueError: If the crops have another shape or type.
          FloatingPointError: If the network's output is not finite.
        """
        if crops.dtype != np.uint8 or crops.shape[1:] != (INPUT_SIZE, INPUT_SIZE, 3):
            raise ValueError(f"crops must be uint8 [N, 160, 160, 3], not {crops.dtype} {list(crops.shape)}")
        vectors = np.empty((len(crops), self.embedding_size), np.float32)
        for start in range(0, len(crops), BATCH_SIZE):
            chunk = crops[start : start + BATCH_SIZE]
            if len(chunk) < BATCH_SIZE:
                chunk = np.pad(chunk, ((0, BATCH_SIZE - len(chunk)), (0, 0), (0, 0), (0, 0)))
            vectors[start : start + BATCH_SIZE] = self._network(tf.constant(chunk)).numpy()[: len(vectors) - start]
        if not np.isfinite(vectors).all():
            raise FloatingPointError("the encoder gives no finite vectors: its weights are broken")
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def standardised(crops: tf.Tensor, side: int) -> tf.Tensor:
    """What a network sees of crops: scaled down by areas, and each standardised by itself.

    Args:
      crops: uint8 or float [N, 160, 160, 3], RGB, 0..255.
      side: The network's.

    Returns:
      float32 [N, side, side, 3], (x - mean) / max(std, 1 / sqrt(n)).
    """
    if side != INPUT_SIZE:
        crops = tf.image.resize(crops, (side, side), method="area")
    return tf.image.per_image_standardization(crops)


class _FoldedLayers:
    """The network's layers as parts of a graph with constant weights.

    Batch normalisation and the residual branches' scale are multiplied into the convolutions before them. So each
    convolution, with its bias, the trunk it is added to and its ReLU, is one operation: one and a half times as fast
    as the network with the scale as a layer of its own.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]):
        self._weights = weights
        self._left = set(weights)

    def check_all_used(self) -> None:
        """Raises ValueError if weights are left over."""
        if self._left:
            raise ValueError(f"the network has no place for {', '.join(sorted(self._left)[:3])}")

    def conv(self, x: tf.Tensor, filters: int, kernel, name: str, strides: int, padding: str) -> tf.Tensor:
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        scale, bias = self._normalisation(name, filters)
        weights = self._take(f"{name}/kernel", (*size, x.shape[-1], filters)) * scale
        return graphs.conv(x, weights, bias, strides, padding.upper(), relu=True)

    def residual(self, trunk: tf.Tensor, branches: Sequence[tf.Tensor], name: str, scale: float, relu: bool):
        mixed = tf.concat(branches, axis=-1)
        channels = trunk.shape[-1]
        kernel = self._take(f"{name}_Conv2d_1x1/kernel", (1, 1, mixed.shape[-1], channels)) * scale
        summed = graphs.conv(mixed, kernel, self._take(f"{name}_Conv2d_1x1/bias", (channels,)) * scale) + trunk
        return tf.nn.relu(summed) if relu else summed

    def max_pool(self, x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.nn.max_pool2d(x, 3, 2, "VALID", name=name)

    def concatenate(self, branches: Sequence[tf.Tensor], name: str) -> tf.Tensor:
        return tf.concat(branches, axis=-1, name=name)

    def embed(self, x: tf.Tensor, size: int, name: str) -> tf.Tensor:
        mean = tf.reduce_mean(tf.cast(x, tf.float32), axis=(1, 2))
        scale, bias = self._normalisation(name, size)
        return graphs.dense(mean, self._take(f"{name}/kernel", (mean.shape[-1], size)) * scale, bias)

    def _normalisation(self, name: str, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch normalisation in use, not in training, is x scale + bias."""
        beta, mean, variance = (
            self._take(f"{name}_BatchNorm/{part}", (channels,)) for part in ("beta", "moving_mean", "moving_variance")
        )
        scale = 1 / np.sqrt(variance + EPSILON)
        return scale, beta - mean * scale

    def _take(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        if key not in self._weights:
            raise ValueError(f"the weights lack {key}")
        value = self._weights[key]
        if tuple(value.shape) != shape:
            raise ValueError(f"{key} has shape {tuple(value.shape)}, the network needs {shape}")
        self._left.discard(key)
        return value


def _return_memory() -> None:
    """Gives back what building and optimising a graph took; the allocator would keep some 600 MB (glibc only)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
