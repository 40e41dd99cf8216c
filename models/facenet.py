"""FaceNet: the Inception-ResNet-v1 network, and the encoder that runs it.

Schroff et al., "FaceNet: A Unified Embedding for Face Recognition and Clustering", 2015; the network is
Inception-ResNet-v1 of Szegedy et al., 2016, as davidsandberg/facenet trained it.
"""

import contextlib
import ctypes
import gc
from collections.abc import Mapping, Sequence

import numpy as np

from celebface.models.quiet_tensorflow import tf  # isort: skip  # before Keras, which loads TensorFlow too

import keras
from keras import layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from celebface.models.encoder_card import INCEPTION_RESNET_V1, PRECISIONS

INPUT_SIZE = 160
BATCH_SIZE = 32  # faces per run; fixed, so that TensorFlow plans its work once

# Share of each residual branch that is added to its trunk; from the layers of facenet_keras.h5.
_SCALE_35, _SCALE_17, _SCALE_8 = 0.17, 0.10, 0.20


def inception_resnet_v1(embedding_size: int) -> keras.Model:
    """Builds the network; its layers bear the names of davidsandberg/facenet's.

    Args:
      embedding_size: Length d of the output vector.

    Returns:
      A model from float32 [N, 160, 160, 3], standardised RGB, to float32 [N, d], not normalised.
    """
    faces = keras.Input((INPUT_SIZE, INPUT_SIZE, 3))
    x = _conv(faces, 32, 3, "Conv2d_1a_3x3", strides=2, padding="valid")
    x = _conv(x, 32, 3, "Conv2d_2a_3x3", padding="valid")
    x = _conv(x, 64, 3, "Conv2d_2b_3x3")
    x = layers.MaxPooling2D(3, strides=2, name="MaxPool_3a_3x3")(x)
    x = _conv(x, 80, 1, "Conv2d_3b_1x1", padding="valid")
    x = _conv(x, 192, 3, "Conv2d_4a_3x3", padding="valid")
    x = _conv(x, 256, 3, "Conv2d_4b_3x3", strides=2, padding="valid")
    for i in range(1, 6):
        x = _block35(x, f"Block35_{i}")
    x = _reduction_a(x)
    for i in range(1, 11):
        x = _block17(x, f"Block17_{i}")
    x = _reduction_b(x)
    for i in range(1, 6):
        x = _block8(x, f"Block8_{i}", _SCALE_8, "relu")
    x = _block8(x, "Block8_6", 1.0, None)
    x = layers.GlobalAveragePooling2D(name="AvgPool")(x)
    x = layers.Dropout(0.2, name="Dropout")(x)
    x = layers.Dense(embedding_size, use_bias=False, name="Bottleneck")(x)
    x = _norm(x, "Bottleneck")
    return keras.Model(faces, x, name=INCEPTION_RESNET_V1)


def _norm(x, name: str):
    return layers.BatchNormalization(momentum=0.995, epsilon=1e-3, scale=False, name=f"{name}_BatchNorm")(x)


def _conv(x, filters: int, kernel, name: str, strides: int = 1, padding: str = "same"):
    x = layers.Conv2D(filters, kernel, strides=strides, padding=padding, use_bias=False, name=name)(x)
    return layers.Activation("relu", name=f"{name}_Activation")(_norm(x, name))


def _residual(trunk, branches: Sequence, name: str, scale: float, activation: str | None):
    mixed = layers.Concatenate(name=f"{name}_Concatenate")(branches)
    up = layers.Conv2D(trunk.shape[-1], 1, name=f"{name}_Conv2d_1x1")(mixed)
    summed = layers.Add(name=f"{name}_Sum")([trunk, layers.Rescaling(scale, name=f"{name}_Scale")(up)])
    return layers.Activation(activation, name=f"{name}_Activation")(summed) if activation else summed


def _block35(x, name: str):
    a = _conv(x, 32, 1, f"{name}_Branch_0_Conv2d_1x1")
    b = _conv(x, 32, 1, f"{name}_Branch_1_Conv2d_0a_1x1")
    b = _conv(b, 32, 3, f"{name}_Branch_1_Conv2d_0b_3x3")
    c = _conv(x, 32, 1, f"{name}_Branch_2_Conv2d_0a_1x1")
    c = _conv(c, 32, 3, f"{name}_Branch_2_Conv2d_0b_3x3")
    c = _conv(c, 32, 3, f"{name}_Branch_2_Conv2d_0c_3x3")
    return _residual(x, [a, b, c], name, _SCALE_35, "relu")


def _block17(x, name: str):
    a = _conv(x, 128, 1, f"{name}_Branch_0_Conv2d_1x1")
    b = _conv(x, 128, 1, f"{name}_Branch_1_Conv2d_0a_1x1")
    b = _conv(b, 128, (1, 7), f"{name}_Branch_1_Conv2d_0b_1x7")
    b = _conv(b, 128, (7, 1), f"{name}_Branch_1_Conv2d_0c_7x1")
    return _residual(x, [a, b], name, _SCALE_17, "relu")


def _block8(x, name: str, scale: float, activation: str | None):
    a = _conv(x, 192, 1, f"{name}_Branch_0_Conv2d_1x1")
    b = _conv(x, 192, 1, f"{name}_Branch_1_Conv2d_0a_1x1")
    b = _conv(b, 192, (1, 3), f"{name}_Branch_1_Conv2d_0b_1x3")
    b = _conv(b, 192, (3, 1), f"{name}_Branch_1_Conv2d_0c_3x1")
    return _residual(x, [a, b], name, scale, activation)


def _reduction_a(x):
    name = "Mixed_6a"
    a = _conv(x, 384, 3, f"{name}_Branch_0_Conv2d_1a_3x3", strides=2, padding="valid")
    b = _conv(x, 192, 1, f"{name}_Branch_1_Conv2d_0a_1x1")
    b = _conv(b, 192, 3, f"{name}_Branch_1_Conv2d_0b_3x3")
    b = _conv(b, 256, 3, f"{name}_Branch_1_Conv2d_1a_3x3", strides=2, padding="valid")
    c = layers.MaxPooling2D(3, strides=2, name=f"{name}_Branch_2_MaxPool_1a_3x3")(x)
    return layers.Concatenate(name=name)([a, b, c])


def _reduction_b(x):
    name = "Mixed_7a"
    a = _conv(x, 256, 1, f"{name}_Branch_0_Conv2d_0a_1x1")
    a = _conv(a, 384, 3, f"{name}_Branch_0_Conv2d_1a_3x3", strides=2, padding="valid")
    b = _conv(x, 256, 1, f"{name}_Branch_1_Conv2d_0a_1x1")
    b = _conv(b, 256, 3, f"{name}_Branch_1_Conv2d_1a_3x3", strides=2, padding="valid")
    c = _conv(x, 256, 1, f"{name}_Branch_2_Conv2d_0a_1x1")
    c = _conv(c, 256, 3, f"{name}_Branch_2_Conv2d_0b_3x3")
    c = _conv(c, 256, 3, f"{name}_Branch_2_Conv2d_1a_3x3", strides=2, padding="valid")
    d = layers.MaxPooling2D(3, strides=2, name=f"{name}_Branch_3_MaxPool_1a_3x3")(x)
    return layers.Concatenate(name=name)([a, b, c, d])


def set_weights_by_name(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Loads weights named "<layer>/<variable>", each exactly once.

    Raises:
      ValueError: If a weight is missing, left over, or of another shape.
    """
    left = dict(weights)
    for layer in model.layers:
        for variable in layer.weights:
            key = f"{layer.name}/{variable.name}"
            if key not in left:
                raise ValueError(f"the weights lack {key}")
            value = left.pop(key)
            if tuple(value.shape) != tuple(variable.shape):
                raise ValueError(f"{key} has shape {tuple(value.shape)}, the network needs {tuple(variable.shape)}")
            variable.assign(value)
    if left:
        raise ValueError(f"the network has no place for {', '.join(sorted(left)[:3])}")


def _frozen(weights: Mapping[str, np.ndarray], embedding_size: int) -> tuple["tf.compat.v1.GraphDef", str, str]:
    """The network with its weights as constants, and the names of its input and output."""
    model = inception_resnet_v1(embedding_size)
    set_weights_by_name(model, weights)
    signature = tf.TensorSpec([BATCH_SIZE, INPUT_SIZE, INPUT_SIZE, 3], tf.float32)
    network = tf.function(lambda faces: model(faces, training=False), input_signature=[signature], autograph=False)
    frozen = convert_variables_to_constants_v2(network.get_concrete_function())
    return frozen.graph.as_graph_def(), frozen.inputs[0].name, frozen.outputs[0].name


def _return_memory() -> None:
    """Gives back what building and optimising a graph took; the allocator would keep some 600 MB (glibc only)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class FaceEncoder:
    """Turns face crops into unit vectors: f of the similarity function D(a, b) = ||f(a) - f(b)||^2.

    The network's variables are frozen into constants, so that TensorFlow folds batch normalisation into the
    convolutions before it. It runs in a session of its own: the switch to bfloat16 is then a matter of this graph and
    not of the whole process, in which the face detector must stay in float32.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], embedding_size: int, precision: str):
        """Builds the graph.

        Args:
          weights: As `set_weights_by_name` wants them.
          embedding_size: Length d of a vector.
          precision: "float32", or "bfloat16" for convolutions and products in bfloat16.

        Raises:
          ValueError: If the weights do not fit or the precision is unknown.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
        self.embedding_size = embedding_size
        self.precision = precision
        definition, self._faces, self._vectors = _frozen(weights, embedding_size)
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(definition, name="")
        config = tf.compat.v1.ConfigProto()
        if precision == "bfloat16":
            rewrites = config.graph_options.rewrite_options
            rewrites.auto_mixed_precision_onednn_bfloat16 = rewrites.ON
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        self._standardise = tf.function(
            tf.image.per_image_standardization,
            input_signature=[tf.TensorSpec([BATCH_SIZE, INPUT_SIZE, INPUT_SIZE, 3], tf.uint8)],
            autograph=False,
        )
        self.encode(
            np.zeros((1, INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
        )  # TensorFlow optimises the graph at its first run
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
            batch = np.zeros((BATCH_SIZE, INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
            batch[: len(chunk)] = chunk
            raw = self._session.run(self._vectors, {self._faces: self._standardise(batch).numpy()})
            vectors[start : start + len(chunk)] = raw[: len(chunk)]
        if not np.isfinite(vectors).all():
            raise FloatingPointError("the encoder gives no finite vectors: its weights are broken")
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
