"""A training run: batches, evaluations, checkpoints. A run that was killed goes on where its last checkpoint is."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from celebface.indexing import storage, verification
from celebface.models import encoder_card
from celebface.models.encoder_card import BadEncoder
from celebface.pipelines.training_faces import LabelledFaces

if TYPE_CHECKING:
    from celebface.models.augmentation import Augmentation
    from celebface.models.sampling import PeopleSampler
    from celebface.models.training import Trainer

FALSE_MATCH_RATES = (1e-2, 1e-3)
_CHECKPOINT = "checkpoint.npz"
_HISTORY = "history"  # its array in the checkpoint; the others are the trainer's
_RECENT = 50  # steps that a warning looks at
# Below which a batch is told to be collapsing, or to teach nothing. Runs that learn kept a spread of 0.9, and 8 % and
# 0.5 % of their triplets active (from scratch, and of the pre-trained encoder); collapsed ones go to 0.
_LEAST_SPREAD, _LEAST_ACTIVE = 0.02, 1e-3

Weights = dict[str, np.ndarray]
Material = Sequence[bytes] | np.ndarray


class BadCheckpoint(Exception):
    """A run cannot go on where it was; the message is for the user."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """When a run evaluates, and when it ends.

    Attributes:
      evaluate_every: Steps from one evaluation, and checkpoint, to the next.
      patience: Evaluations without a better one after which the run ends.
      far: The false match rate whose VAL decides which is better.
      seed: Of batches and of their changes.
    """

    evaluate_every: int = 100
    patience: int = 10
    far: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.evaluate_every < 1 or self.patience < 1 or not 0 < self.far < 1:
            raise ValueError("evaluate_every and patience must be positive, far lie between 0 and 1")


@dataclasses.dataclass
class History:
    """What a run has seen so far.

    Attributes:
      steps: Each step's `StepReport`, by column.
      evaluations: Of each evaluation the number of steps done, and the `Separation` of the validation people.
      best: The number of steps done at the best evaluation.
    """

    steps: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    evaluations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: int = 0

    @property
    def done(self) -> int:
        """Steps done."""
        return len(next(iter(self.steps.values()), []))

    def add(self, step: Mapping[str, float]) -> None:
        """Appends a step."""
        for name, value in step.items():
            self.steps.setdefault(name, []).append(value)

    def recent(self, column: str) -> float:
        """Mean of the last steps."""
        return float(np.mean(self.steps[column][-_RECENT:]))


def train(
    trainer: "Trainer",
    faces: LabelledFaces,
    sampler: "PeopleSampler",
    how: "Augmentation",
    validation: LabelledFaces,
    config: RunConfig,
    folder: str,
    told: Callable[[History], None],
) -> tuple[Weights, History]:
    """Trains until the steps are done or validation has stopped getting better.

    Args:
      trainer: The network at its start.
      faces: What it learns from.
      sampler: Which of them each step gets.
      how: How strongly they are changed; not at all if the trunk is frozen.
      validation: Faces of other people.
      config: When it evaluates and when it ends.
      folder: URI of a folder for checkpoints; one of the same run that lies there is gone on with.
      told: Called after each step, and after the evaluation at the start.

    Returns:
      The weights of the best evaluation, the one at the start among them, and what was seen.

    Raises:
      BadCheckpoint: If what lies there is no checkpoint of this run.
      FloatingPointError: If the network's output is not finite.
    """
    material, held = (_material(trainer, part.crops) for part in (faces, validation))
    history = _resume(trainer, folder)
    if not history.evaluations:
        _evaluate(trainer, held, validation.people, history, config, folder)
        told(history)
    steps = range(history.done, 0 if _is_over(history, config) else trainer.config.max_steps)
    for batch in _batches(trainer, material, faces.people, sampler, how, config.seed, steps):
        history.add(dataclasses.asdict(trainer.step(*batch)))
        if history.done % config.evaluate_every == 0 or history.done == trainer.config.max_steps:
            _evaluate(trainer, held, validation.people, history, config, folder)
        told(history)
        if _is_over(history, config):
            break
    return _read_weights(folder, history.best), history


def _material(trainer: "Trainer", crops: Sequence[bytes]) -> Material:
    """What the network is shown: crops, or, if its trunk is frozen, what that makes of them, once and for all."""
    return trainer.features(crops) if trainer.frozen else crops


def _batches(
    trainer: "Trainer",
    material: Material,
    people: np.ndarray,
    sampler: "PeopleSampler",
    how: "Augmentation",
    seed: int,
    steps: range,
) -> Iterable[tuple[Any, Any]]:
    if isinstance(material, np.ndarray):
        drawn = (sampler.batch(step) for step in steps)
        return ((material[rows], people[rows]) for rows in drawn)
    from celebface.models.training_data import batches  # here, so that wrong usage does not wait for TensorFlow

    return batches(material, people.tolist(), sampler, trainer.side, how, seed, steps)


def score(measured: Mapping[str, Any], far: float) -> tuple[float, float]:
    """What is better is larger: VAL at a false match rate, equals by AUC."""
    (rate,) = (rate for rate in measured["rates"] if rate["false_match_rate"] == far)
    return rate["true_match_rate"], measured["auc"]


def measure(vectors: np.ndarray, people: np.ndarray, far: float) -> dict[str, Any]:
    """The `Separation` of some people's vectors, with the rate that decides among its rates."""
    rates = sorted({*FALSE_MATCH_RATES, far}, reverse=True)
    return dataclasses.asdict(verification.separation(vectors, people, rates))


def warning(history: History, margin: float) -> str:
    """What is wrong with the last steps, for a person; empty if nothing is."""
    if history.done < _RECENT:
        return ""
    spread, active, loss = (history.recent(column) for column in ("spread", "active", "loss"))
    apart = history.recent("negative") - history.recent("positive")
    if spread < _LEAST_SPREAD or (abs(loss - margin) < 0.05 * margin and apart < 0.1 * margin):
        return (
            f"the network is collapsing: all faces get nearly the same vector (spread {spread:.3f}, loss {loss:.3f} at "
            f"margin {margin:g}); try semi_hard or batch_all mining, a lower learning rate or a longer warm-up"
        )
    if active < _LEAST_ACTIVE:
        return (
            f"{100 * active:.2g} % of the triplets still teach something; try batch_hard mining, more people in a "
            "batch, or a larger margin"
        )
    return ""


def _is_over(history: History, config: RunConfig) -> bool:
    evaluated = [entry["step"] for entry in history.evaluations]
    return len(evaluated) - 1 - evaluated.index(history.best) >= config.patience


def _evaluate(
    trainer: "Trainer", held: Material, people: np.ndarray, history: History, config: RunConfig, folder: str
) -> None:
    """Measures the network as it is, and leaves a checkpoint, with its weights beside it if they are the best."""
    measured = measure(trainer.embed(held), people, config.far)
    best = {entry["step"]: entry for entry in history.evaluations}.get(history.best)
    history.evaluations.append({"step": history.done, **measured})
    if best is None or score(measured, config.far) > score(best, config.far):
        history.best = history.done
        storage.write_bytes(_weights_place(folder, history.best), encoder_card.arrays_to_bytes(trainer.weights()))
    text = json.dumps(dataclasses.asdict(history)).encode()
    state = trainer.state() | {_HISTORY: np.frombuffer(text, np.uint8)}
    storage.write_bytes(storage.join(folder, _CHECKPOINT), encoder_card.arrays_to_bytes(state))
    _delete_older(folder, history.best)


def _resume(trainer: "Trainer", folder: str) -> History:
    place = storage.join(folder, _CHECKPOINT)
    if not storage.exists(place):
        return History()
    try:
        state = encoder_card.arrays_from_bytes(storage.read_bytes(place))
        history = History(**json.loads(state.pop(_HISTORY).tobytes()))
        trainer.restore(state)
    except (BadEncoder, KeyError, TypeError, ValueError) as error:
        raise BadCheckpoint(f"{place} is no checkpoint of this run; delete its folder to begin anew") from error
    return history


def _weights_place(folder: str, step: int) -> str:
    return storage.join(folder, f"best-{step:08d}.npz")


def _read_weights(folder: str, step: int) -> Weights:
    place = _weights_place(folder, step)
    try:
        return encoder_card.arrays_from_bytes(storage.read_bytes(place))
    except (BadEncoder, FileNotFoundError) as error:
        raise BadCheckpoint(f"{place} cannot be read; delete its folder to begin anew") from error


def _delete_older(folder: str, step: int) -> None:
    """Deletes the weights that were the best before; the checkpoint no longer names them."""
    for name in storage.list_names(folder):
        if "best-" <= name < f"best-{step:08d}.npz":
            storage.delete_file(storage.join(folder, name))
