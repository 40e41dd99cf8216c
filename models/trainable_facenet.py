"""The encoders' networks as Keras models, whose weights can be trained."""

from collections.abc import Mapping, Sequence

import numpy as np

import celebface.models.quiet_tensorflow  # isort: skip  # noqa: F401  # before Keras, which loads TensorFlow

import keras
from keras import layers

from celebface.models.inception_resnet import EPSILON, POOLING
from celebface.models.networks import INCEPTION_RESNET_V1, NETWORKS


def build_model(embedding_size: int, architecture: str = INCEPTION_RESNET_V1) -> keras.Model:
    """Builds a network.

    Args:
      embedding_size: Length d of the output vector.
      architecture: One of `networks.NETWORKS`.

    Returns:
      A model from float32 [N, side, side, 3], standardised RGB, to float32 [N, d], not normalised.
    """
    plan = NETWORKS[architecture]
    faces = keras.Input((plan.side, plan.side, 3))
    return keras.Model(faces, plan.build(_KerasLayers(), faces, embedding_size), name=architecture)


# Of the statistics of batch normalisation, which matter to training from scratch only. davidsandberg/facenet's 0.995
# takes a thousand steps to forget the first ones.
_MOMENTUM = 0.95


class _KerasLayers:
    """The network's layers as Keras has them."""

    def conv(self, x, filters: int, kernel, name: str, strides: int, padding: str):
        x = layers.Conv2D(filters, kernel, strides=strides, padding=padding, use_bias=False, name=name)(x)
        return layers.Activation("relu", name=f"{name}_Activation")(self._normalised(x, name))

    def residual(self, trunk, branches: Sequence, name: str, scale: float, relu: bool):
        mixed = layers.Concatenate(name=f"{name}_Concatenate")(branches)
        up = layers.Conv2D(trunk.shape[-1], 1, name=f"{name}_Conv2d_1x1")(mixed)
        summed = layers.Add(name=f"{name}_Sum")([trunk, layers.Rescaling(scale, name=f"{name}_Scale")(up)])
        return layers.Activation("relu", name=f"{name}_Activation")(summed) if relu else summed

    def max_pool(self, x, name: str):
        return layers.MaxPooling2D(3, strides=2, name=name)(x)

    def concatenate(self, branches: Sequence, name: str):
        return layers.Concatenate(name=name)(branches)

    def embed(self, x, size: int, name: str):
        x = layers.GlobalAveragePooling2D(name=POOLING)(x)
        x = layers.Dropout(0.2, name="Dropout")(x)
        return self._normalised(layers.Dense(size, use_bias=False, name=name)(x), name)

    def _normalised(self, x, name: str):
        return layers.BatchNormalization(momentum=_MOMENTUM, epsilon=EPSILON, scale=False, name=f"{name}_BatchNorm")(x)


def weights_by_name(model: keras.Model) -> dict[str, np.ndarray]:
    """The network's weights, float32, named "<layer>/<variable>"."""
    return {
        f"{layer.name}/{variable.name}": np.array(variable, np.float32)
        for layer in model.layers
        for variable in layer.weights
    }


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
