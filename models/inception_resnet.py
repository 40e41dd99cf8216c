"""Inception-ResNet-v1, the network of FaceNet: its plan, written once, for layers of any kind.

Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", 2016, as
davidsandberg/facenet trained it. The encoder makes of it a graph with constant weights (`facenet`), training a model
whose weights change (`trainable_facenet`).
"""

from collections.abc import Sequence
from typing import Any, Protocol

INPUT_SIZE = 160  # of the crops that all encoders take
EPSILON = 1e-3  # of batch normalisation
POOLING = "AvgPool"  # name of the layer before the head
HEAD = "Bottleneck"  # with which the names of the head's layers begin

# Share of each residual branch that is added to its trunk; from the layers of facenet_keras.h5.
_SCALE_35, _SCALE_17, _SCALE_8 = 0.17, 0.10, 0.20


class Layers(Protocol):
    """What the network is made of. Tensors are of the layers' own kind."""

    def conv(self, x: Any, filters: int, kernel: int | tuple[int, int], name: str, strides: int, padding: str) -> Any:
        """Convolution, batch normalisation, ReLU; padding is "same" or "valid"."""

    def residual(self, trunk: Any, branches: Sequence[Any], name: str, scale: float, relu: bool) -> Any:
        """Branches side by side, a 1x1 convolution with bias to the trunk's channels, times scale, plus the trunk."""

    def max_pool(self, x: Any, name: str) -> Any:
        """Maximum of 3 x 3, step 2, no padding."""

    def concatenate(self, branches: Sequence[Any], name: str) -> Any:
        """Channels side by side."""

    def embed(self, x: Any, size: int, name: str) -> Any:
        """Mean over the image, a dense layer without bias, batch normalisation."""


def inception_resnet_v1(layers: Layers, faces: Any, embedding_size: int) -> Any:
    """Builds the network; its layers bear the names of davidsandberg/facenet's.

    Args:
      layers: Of which it is made.
      faces: [N, 160, 160, 3], standardised RGB.
      embedding_size: Length d of the output vector.

    Returns:
      [N, d], not normalised.
    """
    x = layers.conv(faces, 32, 3, "Conv2d_1a_3x3", 2, "valid")
    x = layers.conv(x, 32, 3, "Conv2d_2a_3x3", 1, "valid")
    x = layers.conv(x, 64, 3, "Conv2d_2b_3x3", 1, "same")
    x = layers.max_pool(x, "MaxPool_3a_3x3")
    x = layers.conv(x, 80, 1, "Conv2d_3b_1x1", 1, "valid")
    x = layers.conv(x, 192, 3, "Conv2d_4a_3x3", 1, "valid")
    x = layers.conv(x, 256, 3, "Conv2d_4b_3x3", 2, "valid")
    for i in range(1, 6):
        x = _block35(layers, x, f"Block35_{i}")
    x = _reduction_a(layers, x, "Mixed_6a")
    for i in range(1, 11):
        x = _block17(layers, x, f"Block17_{i}")
    x = _reduction_b(layers, x, "Mixed_7a")
    for i in range(1, 6):
        x = _block8(layers, x, f"Block8_{i}", _SCALE_8, relu=True)
    x = _block8(layers, x, "Block8_6", 1.0, relu=False)
    return layers.embed(x, embedding_size, HEAD)


def conv_row(layers: Layers, x: Any, *convolutions: tuple[int, int | tuple[int, int], str]) -> Any:
    """Convolutions one after the other: filters, kernel, name."""
    for filters, kernel, name in convolutions:
        x = layers.conv(x, filters, kernel, name, 1, "same")
    return x


def _block35(layers: Layers, x: Any, name: str) -> Any:
    a = conv_row(layers, x, (32, 1, f"{name}_Branch_0_Conv2d_1x1"))
    b = conv_row(layers, x, (32, 1, f"{name}_Branch_1_Conv2d_0a_1x1"), (32, 3, f"{name}_Branch_1_Conv2d_0b_3x3"))
    c = conv_row(
        layers,
        x,
        (32, 1, f"{name}_Branch_2_Conv2d_0a_1x1"),
        (32, 3, f"{name}_Branch_2_Conv2d_0b_3x3"),
        (32, 3, f"{name}_Branch_2_Conv2d_0c_3x3"),
    )
    return layers.residual(x, [a, b, c], name, _SCALE_35, relu=True)


def _block17(layers: Layers, x: Any, name: str) -> Any:
    a = conv_row(layers, x, (128, 1, f"{name}_Branch_0_Conv2d_1x1"))
    b = conv_row(
        layers,
        x,
        (128, 1, f"{name}_Branch_1_Conv2d_0a_1x1"),
        (128, (1, 7), f"{name}_Branch_1_Conv2d_0b_1x7"),
        (128, (7, 1), f"{name}_Branch_1_Conv2d_0c_7x1"),
    )
    return layers.residual(x, [a, b], name, _SCALE_17, relu=True)


def _block8(layers: Layers, x: Any, name: str, scale: float, relu: bool) -> Any:
    a = conv_row(layers, x, (192, 1, f"{name}_Branch_0_Conv2d_1x1"))
    b = conv_row(
        layers,
        x,
        (192, 1, f"{name}_Branch_1_Conv2d_0a_1x1"),
        (192, (1, 3), f"{name}_Branch_1_Conv2d_0b_1x3"),
        (192, (3, 1), f"{name}_Branch_1_Conv2d_0c_3x1"),
    )
    return layers.residual(x, [a, b], name, scale, relu)


def _reduction_a(layers: Layers, x: Any, name: str) -> Any:
    a = layers.conv(x, 384, 3, f"{name}_Branch_0_Conv2d_1a_3x3", 2, "valid")
    b = conv_row(layers, x, (192, 1, f"{name}_Branch_1_Conv2d_0a_1x1"), (192, 3, f"{name}_Branch_1_Conv2d_0b_3x3"))
    b = layers.conv(b, 256, 3, f"{name}_Branch_1_Conv2d_1a_3x3", 2, "valid")
    return layers.concatenate([a, b, layers.max_pool(x, f"{name}_Branch_2_MaxPool_1a_3x3")], name)


def _reduction_b(layers: Layers, x: Any, name: str) -> Any:
    a = conv_row(layers, x, (256, 1, f"{name}_Branch_0_Conv2d_0a_1x1"))
    a = layers.conv(a, 384, 3, f"{name}_Branch_0_Conv2d_1a_3x3", 2, "valid")
    b = conv_row(layers, x, (256, 1, f"{name}_Branch_1_Conv2d_0a_1x1"))
    b = layers.conv(b, 256, 3, f"{name}_Branch_1_Conv2d_1a_3x3", 2, "valid")
    c = conv_row(layers, x, (256, 1, f"{name}_Branch_2_Conv2d_0a_1x1"), (256, 3, f"{name}_Branch_2_Conv2d_0b_3x3"))
    c = layers.conv(c, 256, 3, f"{name}_Branch_2_Conv2d_1a_3x3", 2, "valid")
    return layers.concatenate([a, b, c, layers.max_pool(x, f"{name}_Branch_3_MaxPool_1a_3x3")], name)
