"""Trains an encoder's network with the triplet loss, a step at a time."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from celebface.models import siamese
from celebface.models.quiet_tensorflow import tf  # before Keras, which loads TensorFlow

import keras  # isort: skip

from celebface.models.facenet import standardised
from celebface.models.inception_resnet import HEAD, POOLING
from celebface.models.networks import NETWORKS
from celebface.models.trainable_facenet import build_model, set_weights_by_name, weights_by_name
from celebface.models.training_config import FROZEN, TrainingConfig
from celebface.models.training_data import decode

_NOT_FINITE = "the network's output is not finite: the learning rate or the weight decay is too high"
_CLIP = 5.0  # norm of a gradient at most: far above what steps have, against a single wild batch
_TOGETHER = 64  # faces that are looked at at once


@dataclasses.dataclass(frozen=True)
class StepReport:
    """What a step did.

    Attributes:
      loss: Mean over the triplets chosen.
      triplets: How many were chosen.
      learning_rate: It had.
      active: See `siamese.BatchHealth`, also for the rest.
      positive: Mean D of pairs of one person.
      negative: Mean D of pairs of two people.
      spread: Of the vectors.
    """

    loss: float
    triplets: float
    learning_rate: float
    active: float
    positive: float
    negative: float
    spread: float


class Trainer:
    """A network that learns. Its steps are deterministic: the same batches give the same weights."""

    def __init__(self, config: TrainingConfig, weights: Mapping[str, np.ndarray] | None = None):
        """Builds the network and the optimiser.

        Sets TensorFlow and Keras to be deterministic, in this process from now on.

        Args:
          config: How it is trained.
          weights: To start from, named "<layer>/<variable>"; None for random ones. Batch normalisation keeps the
            statistics of given weights: a batch of a few people would replace them by its own.

        Raises:
          ValueError: If the weights do not fit.
        """
        keras.utils.set_random_seed(config.seed)
        tf.config.experimental.enable_op_determinism()
        self.config = config
        self.side = NETWORKS[config.architecture].side
        with _policy(config.precision):
            self._model = build_model(config.embedding_size, config.architecture)
        if weights is not None:
            set_weights_by_name(self._model, weights)
        self._own_statistics = weights is None
        self.frozen = config.layers in FROZEN
        for layer in self._model.layers:
            layer.trainable = _is_trained(layer.name, config)
        decay = keras.optimizers.schedules.CosineDecay(
            0.0 if config.warmup_steps else config.learning_rate,
            max(1, config.max_steps - config.warmup_steps),
            warmup_target=config.learning_rate if config.warmup_steps else None,
            warmup_steps=config.warmup_steps,
        )
        self._optimizer = keras.optimizers.AdamW(decay, weight_decay=config.weight_decay, global_clipnorm=_CLIP)
        self._optimizer.exclude_from_weight_decay(var_names=["beta", "bias"])
        self._optimizer.build(self._model.trainable_variables)
        self._trunk, self._learner = self._cut() if self.frozen else (self._model, self._model)
        self._learn = tf.function(self._one_step, autograph=False)
        self._look = tf.function(self._seen, reduce_retracing=True, autograph=False)

    def step(self, faces: tf.Tensor, people: tf.Tensor) -> StepReport:
        """Learns from a batch.

        Args:
          faces: float32 [N, side, side, 3], RGB, 0..255; with a frozen trunk its `features`, float32 [N, F].
          people: int64 [N], who is on each.

        Raises:
          FloatingPointError: If the network's output is not finite.
        """
        rate = float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))
        loss, triplets, health = self._learn(faces, people)
        if not np.isfinite([loss, health.spread]).all():  # of vectors that are NaN no triplet violates the margin
            raise FloatingPointError(_NOT_FINITE)
        return StepReport(float(loss), float(triplets), rate, *(float(part) for part in health))

    def features(self, crops: Sequence[bytes]) -> np.ndarray:
        """What the network makes of crops as they are, up to what is trained if the trunk is frozen, float32 [N, F].

        Args:
          crops: JPEGs of 160 x 160 pixels.
        """
        parts = [crops[start : start + _TOGETHER] for start in range(0, len(crops), _TOGETHER)]
        return np.concatenate([self._look(tf.constant(part)).numpy() for part in parts])

    def embed(self, faces: Sequence[bytes] | np.ndarray) -> np.ndarray:
        """Vectors of faces as they are, float32 [N, d], unit rows.

        Args:
          faces: JPEGs of 160 x 160 pixels; with a frozen trunk its `features`.

        Raises:
          FloatingPointError: If they are not finite.
        """
        if isinstance(faces, np.ndarray):
            vectors = _unit(self._learner(tf.constant(faces), training=False)).numpy()
        else:
            vectors = _unit(self.features(faces)).numpy()
        if not np.isfinite(vectors).all():
            raise FloatingPointError(_NOT_FINITE)
        return vectors

    def weights(self) -> dict[str, np.ndarray]:
        """The network's weights by "<layer>/<variable>"."""
        return weights_by_name(self._model)

    def state(self) -> dict[str, np.ndarray]:
        """All that the next step depends on, but its batch."""
        return {name: keras.ops.convert_to_numpy(variable) for name, variable in self._variables().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes back to a state.

        Raises:
          ValueError: If it is of another network or optimiser.
        """
        variables = self._variables()
        if state.keys() != variables.keys():
            raise ValueError("the state is of another network or optimiser")
        for name, variable in variables.items():
            variable.assign(state[name])

    def _variables(self) -> dict[str, keras.Variable]:
        return {
            f"{owner}-{number:04d}": variable
            for owner, variables in (("model", self._model.variables), ("optimizer", self._optimizer.variables))
            for number, variable in enumerate(variables)
        }

    def _one_step(self, faces: tf.Tensor, people: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, siamese.BatchHealth]:
        margin = self.config.margin
        inputs = faces if self.frozen else tf.image.per_image_standardization(faces)
        with tf.GradientTape() as tape:
            vectors = _unit(self._learner(inputs, training=self._own_statistics))
            distances = siamese.squared_distances(vectors)
            triplets = siamese.MINERS[self.config.mining](tf.stop_gradient(distances), people, margin)
            loss = siamese.triplet_loss(distances, triplets, margin)
        trained = self._model.trainable_variables
        self._optimizer.apply(tape.gradient(loss, trained), trained)
        return loss, tf.shape(triplets)[0], siamese.batch_health(vectors, distances, people, margin)

    def _cut(self) -> tuple[keras.Model, keras.Model]:
        """The network before its head, and the head, which share its weights."""
        pooled = self._model.get_layer(POOLING).output
        return keras.Model(self._model.input, pooled), keras.Model(pooled, self._model.output)

    def _seen(self, jpegs: tf.Tensor) -> tf.Tensor:
        crops = tf.map_fn(decode, jpegs, fn_output_signature=tf.uint8)
        return tf.cast(self._trunk(standardised(crops, self.side), training=False), tf.float32)


def _unit(outputs: tf.Tensor) -> tf.Tensor:
    return tf.math.l2_normalize(tf.cast(outputs, tf.float32), axis=1)


def _is_trained(layer: str, config: TrainingConfig) -> bool:
    network = NETWORKS[config.architecture]
    first = {"all": ("",), "last_block": (network.last_block, HEAD), "head": (HEAD,), "offset": (f"{HEAD}_BatchNorm",)}
    return layer.startswith(first[config.layers])


@contextlib.contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Layers that are made in the block compute in a precision."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)
