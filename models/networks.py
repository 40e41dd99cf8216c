"""The networks that an encoder may have, by the name that its card gives."""

import dataclasses
from collections.abc import Callable
from typing import Any

from celebface.models.inception_resnet import INPUT_SIZE, Layers, inception_resnet_v1
from celebface.models.small_inception import small_inception

INCEPTION_RESNET_V1 = "inception_resnet_v1"
SMALL_INCEPTION = "small_inception"


@dataclasses.dataclass(frozen=True)
class Network:
    """A network's plan and what it looks at.

    Attributes:
      side: Pixels a side of its input; crops, of 160, are scaled down to it by areas before they are standardised.
      build: Builds it of layers, from float [N, side, side, 3], standardised RGB, to [N, d], not normalised; d is the
        last argument.
      last_block: With which the names of the layers begin that come before the head.
    """

    side: int
    build: Callable[[Layers, Any, int], Any]
    last_block: str


NETWORKS = {
    INCEPTION_RESNET_V1: Network(INPUT_SIZE, inception_resnet_v1, "Block8_6"),
    SMALL_INCEPTION: Network(INPUT_SIZE // 2, small_inception, "Block_4"),
}
