"""The three networks of MTCNN as graphs, with the weights of the `mtcnn` package."""

import hashlib
import importlib.util
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import joblib
import numpy as np

from celebface.models import graphs
from celebface.models.quiet_tensorflow import tf

# The package keeps its weights as joblib pickles. A pickle can carry code, so only these bytes (mtcnn 1.0.0) are read.
_WEIGHTS_SHA256 = {
    "pnet.lz4": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet.lz4": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet.lz4": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}

# Layers with weights, in the files' order. Those named prelu have one array, all others a kernel and a bias.
_PNET = ("conv1", "prelu1", "conv2", "prelu2", "conv3", "prelu3", "offsets", "classes")
_RNET = ("conv1", "prelu1", "conv2", "prelu2", "conv3", "prelu3", "fc4", "prelu4", "offsets", "classes")
_ONET = (
    *("conv1", "prelu1", "conv2", "prelu2", "conv3", "prelu3", "conv4", "prelu4", "fc5", "prelu5"),
    *("offsets", "points", "classes"),
)

CELL, STRIDE = 12, 2  # P-Net's window in pixels, and the step between windows
R_SIDE, O_SIDE = 24, 48  # input sides of R-Net and O-Net in pixels


class Layer(NamedTuple):
    """Weights of a layer that multiplies and adds."""

    kernel: np.ndarray
    bias: np.ndarray


class Weights(NamedTuple):
    """Weights of a network: its layers, and the slopes of its PReLUs, by name."""

    layers: Mapping[str, Layer]
    slopes: Mapping[str, np.ndarray]


def load_weights() -> tuple[Weights, Weights, Weights]:
    """Loads the weights of P-Net, R-Net and O-Net.

    Raises:
      RuntimeError: If the `mtcnn` package is missing or holds other weights than the known ones.
    """
    return _load("pnet.lz4", _PNET), _load("rnet.lz4", _RNET), _load("onet.lz4", _ONET)


def _load(asset: str, names: Sequence[str]) -> Weights:
    spec = importlib.util.find_spec("mtcnn")  # found, not imported: the package would load Keras
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the mtcnn package, which has the detector's weights, is not installed")
    data = pathlib.Path(spec.submodule_search_locations[0], "assets", "weights", asset).read_bytes()
    if hashlib.sha256(data).hexdigest() != _WEIGHTS_SHA256[asset]:
        raise RuntimeError(f"the installed mtcnn package has an unknown {asset}; celebface needs mtcnn 1.0.0")
    arrays = iter(joblib.load(io.BytesIO(data)))
    layers, slopes = {}, {}
    for name in names:
        if name.startswith("prelu"):
            slopes[name] = np.asarray(next(arrays)).ravel()
        else:
            layers[name] = Layer(np.asarray(next(arrays)), np.asarray(next(arrays)))
    return Weights(layers, slopes)


def pnet(photos: tf.Tensor, weights: Weights, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    """Proposes windows.

    Args:
      photos: float32 [N, H, W, 3], RGB, grey levels 0..255.
      weights: Of P-Net.
      dtype: Of the arithmetic.

    Returns:
      For each window offsets of its corners, float32 [N, h, w, 4], and its probability of a face, float32 [N, h, w].
    """
    layers, slopes = weights
    x, order = graphs.conv_prelu_pool(
        tf.cast(_normalised(photos), dtype), *layers["conv1"], slopes["prelu1"], 2, "SAME"
    )
    x = graphs.prelu(graphs.conv(x, *_reordered(layers["conv2"], order)), slopes["prelu2"])
    x = graphs.prelu(graphs.conv(x, *layers["conv3"]), slopes["prelu3"])
    out = tf.cast(graphs.conv(x, *_side_by_side(layers["offsets"], _odds(layers["classes"]))), tf.float32)
    return out[..., :4], tf.sigmoid(out[..., 4])


def rnet(patches: tf.Tensor, weights: Weights, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    """Refines boxes.

    Args:
      patches: float32 [N, 24, 24, 4], RGB and a channel that is not looked at, grey levels 0..255.
      weights: Of R-Net.
      dtype: Of the arithmetic.

    Returns:
      Offsets of the corners, float32 [N, 4], and the probability of a face, float32 [N].
    """
    layers, slopes = weights
    x, order = graphs.conv_prelu_pool(
        tf.cast(_normalised(patches), dtype), *_blind_to_fourth(layers["conv1"]), slopes["prelu1"], 3, "SAME"
    )
    x, order = graphs.conv_prelu_pool(x, *_reordered(layers["conv2"], order), slopes["prelu2"], 3, "VALID")
    x = graphs.prelu(graphs.conv(x, *_reordered(layers["conv3"], order)), slopes["prelu3"])
    x = graphs.prelu(graphs.dense(*_flattened(x, layers["fc4"])), slopes["prelu4"])
    out = tf.cast(graphs.dense(x, *_side_by_side(layers["offsets"], _odds(layers["classes"]))), tf.float32)
    return out[:, :4], tf.sigmoid(out[:, 4])


def onet(patches: tf.Tensor, weights: Weights, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gives the final boxes and their landmarks.

    Args:
      patches: float32 [N, 48, 48, 4], RGB and a channel that is not looked at, grey levels 0..255.
      weights: Of O-Net.
      dtype: Of the arithmetic.

    Returns:
      Offsets of the corners, float32 [N, 4]; landmarks as shares of the box, float32 [N, 10], five x and five y; the
      probability of a face, float32 [N].
    """
    layers, slopes = weights
    x, order = graphs.conv_prelu_pool(
        tf.cast(_normalised(patches), dtype), *_blind_to_fourth(layers["conv1"]), slopes["prelu1"], 3, "SAME"
    )
    x, order = graphs.conv_prelu_pool(x, *_reordered(layers["conv2"], order), slopes["prelu2"], 3, "VALID")
    x, order = graphs.conv_prelu_pool(x, *_reordered(layers["conv3"], order), slopes["prelu3"], 2, "SAME")
    x = graphs.prelu(graphs.conv(x, *_reordered(layers["conv4"], order)), slopes["prelu4"])
    x = graphs.prelu(graphs.dense(*_flattened(x, layers["fc5"])), slopes["prelu5"])
    heads = _side_by_side(layers["offsets"], layers["points"], _odds(layers["classes"]))
    out = tf.cast(graphs.dense(x, *heads), tf.float32)
    return out[:, :4], out[:, 4:14], tf.sigmoid(out[:, 14])


def _normalised(levels: tf.Tensor) -> tf.Tensor:
    """Grey levels 0..255 to the range the networks were trained with."""
    return (levels - 127.5) / 128.0


def _odds(classes: Layer) -> Layer:
    """Two classes' softmax is the sigmoid of their difference."""
    return Layer(classes.kernel[..., 1:] - classes.kernel[..., :1], classes.bias[1:] - classes.bias[:1])


def _side_by_side(*layers: Layer) -> Layer:
    return Layer(*(np.concatenate(arrays, axis=-1) for arrays in zip(*layers, strict=True)))


def _reordered(layer: Layer, order: np.ndarray) -> Layer:
    """A convolution for inputs whose channels come in another order."""
    return Layer(layer.kernel[:, :, order], layer.bias)


def _blind_to_fourth(layer: Layer) -> Layer:
    return Layer(np.pad(layer.kernel, ((0, 0), (0, 0), (0, 1), (0, 0))), layer.bias)


def _flattened(x: tf.Tensor, layer: Layer) -> tuple[tf.Tensor, np.ndarray, np.ndarray]:
    """Rows of all values, and the layer over them. Its weights stand in the order column, row, channel."""
    height, width, channels = x.shape[1:]
    kernel = layer.kernel.reshape(width, height, channels, -1).transpose(1, 0, 2, 3).reshape(-1, layer.kernel.shape[1])
    return tf.reshape(x, [-1, height * width * channels]), kernel, layer.bias
