"""How an encoder is trained. Loads no TensorFlow, so that wrong usage is told at once."""

import dataclasses
import math

from celebface.models.networks import NETWORKS
from celebface.models.precision import check_precision

MARGIN = 0.2  # alpha of the FaceNet paper
LAYERS = ("all", "last_block", "head", "offset")
FROZEN = ("head", "offset")  # with which what lies before the head stays as it is
MINING = ("batch_all", "batch_hard", "semi_hard")  # see `siamese`


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Attributes:
      architecture: One of `networks.NETWORKS`.
      embedding_size: Length d of a vector.
      layers: Which are trained: "all"; the "last_block" and what follows it; the "head", the dense layer that makes
        the vector; or its "offset" alone, d numbers that are added to every vector before it is put on the sphere.
      mining: One of `MINING`.
      margin: alpha of the loss, in D.
      learning_rate: Of Adam, after the warm-up; from there it falls to 0 at `max_steps` along a cosine.
      warmup_steps: In which it rises from 0.
      weight_decay: Share of a weight, times the learning rate, that is taken off at each step.
      max_steps: Batches to learn from.
      seed: Of the initial weights and of dropout.
      precision: Of the arithmetic; weights are float32 in any case.
    """

    architecture: str
    embedding_size: int
    layers: str = "all"
    mining: str = "semi_hard"
    margin: float = MARGIN
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.0
    max_steps: int = 1000
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_precision(self.precision)
        for name, value, known in (
            ("architecture", self.architecture, NETWORKS),
            ("layers", self.layers, LAYERS),
            ("mining", self.mining, MINING),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        if not 0 < self.margin <= 4:
            raise ValueError(f"margin must lie in 0..4, where D lies, not {self.margin}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0..2^32 - 1, not {self.seed}")
        if not math.isfinite(self.weight_decay):
            raise ValueError(f"weight decay must be a number, not {self.weight_decay}")
        if self.max_steps < 1 or self.learning_rate <= 0 or self.warmup_steps < 0 or self.weight_decay < 0:
            raise ValueError("steps and learning rate must be positive, warm-up and weight decay not negative")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How strongly crops are changed, besides being mirrored.

    Attributes:
      scale: They grow or shrink by this share.
      shift: They move by this share of their side, across and up.
      rotation: They turn by so many degrees.
      colour: Brightness moves by this share; contrast and saturation, too.
      grey: Share of faces without colour.
      blur: Share of faces seen at half to a sixth of their pixels.
      jpeg: Share of faces compressed anew, at qualities of 30 to 95.
      erased: Share of faces of which a rectangle is grey.
    """

    scale: float = 0.0
    shift: float = 0.0
    rotation: float = 0.0
    colour: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    jpeg: float = 0.0
    erased: float = 0.0


# "strong" is what training from scratch was found to take (benchmarks/siamese.md); "light" is a third of it, untried.
AUGMENTATIONS = {
    "none": Augmentation(),
    "light": Augmentation(0.05, 0.03, 3.0, 0.1, 0.05, 0.1, 0.1),
    "strong": Augmentation(0.12, 0.08, 8.0, 0.25, 0.1, 0.15, 0.1, 0.3),
}
