"""A small network of Inception blocks, which a CPU can train from scratch: its plan, for layers of any kind.

Szegedy et al., "Going Deeper with Convolutions", 2015, had blocks of convolutions of several sizes side by side; as in
Inception-ResNet their output is added to their input.
"""

from typing import Any

from celebface.models.inception_resnet import HEAD, Layers, conv_row

_SCALE = 0.3  # share of each residual branch that is added to its trunk; of the order of Inception-ResNet's, not tuned


def small_inception(layers: Layers, faces: Any, embedding_size: int) -> Any:
    """Builds the network.

    Args:
      layers: Of which it is made.
      faces: [N, 80, 80, 3], standardised RGB.
      embedding_size: Length d of the output vector.

    Returns:
      [N, d], not normalised.
    """
    x = layers.conv(faces, 32, 3, "Conv2d_1a_3x3", 2, "same")  # 40 pixels a side
    x = _reduction(layers, x, 64, "Mixed_2")  # 19 pixels, 96 channels
    x = _block(layers, x, 24, "Block_2")
    x = _reduction(layers, x, 96, "Mixed_3")  # 9 pixels, 192 channels
    x = _block(layers, x, 40, "Block_3a")
    x = _block(layers, x, 40, "Block_3b")
    x = _reduction(layers, x, 128, "Mixed_4")  # 4 pixels, 320 channels
    x = _block(layers, x, 64, "Block_4")
    return layers.embed(x, embedding_size, HEAD)


def _block(layers: Layers, x: Any, filters: int, name: str) -> Any:
    a = layers.conv(x, filters, 1, f"{name}_Branch_0_Conv2d_1x1", 1, "same")
    b = conv_row(
        layers, x, (filters, 1, f"{name}_Branch_1_Conv2d_0a_1x1"), (filters, 3, f"{name}_Branch_1_Conv2d_0b_3x3")
    )
    c = conv_row(
        layers,
        x,
        (filters, 1, f"{name}_Branch_2_Conv2d_0a_1x1"),
        (filters, 3, f"{name}_Branch_2_Conv2d_0b_3x3"),
        (filters, 3, f"{name}_Branch_2_Conv2d_0c_3x3"),
    )
    return layers.residual(x, [a, b, c], name, _SCALE, relu=True)


def _reduction(layers: Layers, x: Any, filters: int, name: str) -> Any:
    a = layers.conv(x, filters, 3, f"{name}_Branch_0_Conv2d_1a_3x3", 2, "valid")
    return layers.concatenate([a, layers.max_pool(x, f"{name}_Branch_1_MaxPool_1a_3x3")], name)
