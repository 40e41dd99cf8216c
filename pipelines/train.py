"""celebface train: an encoder trained with the triplet loss, from scratch or from the pre-trained FaceNet."""

import argparse
import collections
import dataclasses
import json
import posixpath
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from celebface.indexing import storage
from celebface.indexing.manifest import BadBundle
from celebface.models import encoder_card
from celebface.models.encoder_card import BadEncoder, EncoderCard
from celebface.models.networks import SMALL_INCEPTION
from celebface.models.precision import PRECISIONS
from celebface.models.sampling import PeopleSampler, split_people
from celebface.models.training_config import AUGMENTATIONS, LAYERS, MINING, Augmentation, TrainingConfig
from celebface.models.weights import encoder_folder
from celebface.pipelines import (
    arguments,
    report,
    terminal,
    training_charts,
    training_faces,
    training_result,
    training_run,
)
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.embedder import EVERY_FACE
from celebface.pipelines.text import complain, plain
from celebface.pipelines.training_faces import LabelledFaces
from celebface.pipelines.training_run import History, RunConfig, Weights
from celebface.transforms.encoders import read_encoder
from celebface.transforms.folders import NoSuchSource

SCRATCH, PRETRAINED = "scratch", "pretrained"
_RUN_NAME = "train.json"

_EXAMPLES = """\
  celebface train --images people/ --output friends-encoder
  celebface train --gallery galleries/celebrities --layers last_block --output encoder
  celebface train --images lfw/train --init scratch --output small --test_images lfw/dev
"""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What flags that are not given stand for.

    Attributes:
      mining: One of `siamese.MINERS`.
      people_per_batch: P.
      photos_per_person: K.
      singles_per_batch: People with one photo that are added.
      margin: alpha, in D.
      learning_rate: After the warm-up.
      warmup_steps: In which it rises.
      weight_decay: See `TrainingConfig`.
      max_steps: Steps at most.
      evaluate_every: Steps.
      augmentation: One of `AUGMENTATIONS`.
    """

    mining: str
    people_per_batch: int
    photos_per_person: int
    singles_per_batch: int
    margin: float
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    max_steps: int
    evaluate_every: int
    augmentation: str


# By what is trained; benchmarks/siamese.md tells how they were found.
_RECIPES = {
    SCRATCH: Recipe("batch_all", 30, 4, 0, 0.5, 2e-3, 50, 1e-4, 5000, 250, "strong"),
    "all": Recipe("semi_hard", 16, 3, 16, 0.2, 1e-5, 50, 0.0, 400, 50, "light"),
    "last_block": Recipe("semi_hard", 16, 3, 16, 0.2, 1e-4, 50, 0.0, 400, 50, "light"),
    "head": Recipe("semi_hard", 64, 4, 64, 0.5, 5e-5, 20, 0.0, 100, 20, "none"),
    "offset": Recipe("semi_hard", 64, 4, 64, 0.5, 1e-2, 0, 0.0, 100, 20, "none"),
}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
      images: URI of the folder of people; empty if a gallery is given.
      gallery: URI of the gallery.
      init: URI of the encoder to start from; empty to start from random weights.
      output: URI of the folder that the encoder is written to.
      test_images: URI of a folder of other people to measure with; may be empty.
      training: How the network is trained.
      run: When the run evaluates and ends.
      augmentation: How strongly faces are changed.
      people_per_batch: P.
      photos_per_person: K.
      singles_per_batch: People with one photo that are added.
      validation_share: Share of the people who are not trained on.
    """

    images: str
    gallery: str
    init: str
    output: str
    test_images: str
    training: TrainingConfig
    run: RunConfig
    augmentation: Augmentation
    people_per_batch: int
    photos_per_person: int
    singles_per_batch: int
    validation_share: float

    @property
    def decides(self) -> list[Any]:
        """All that decides the weights but the faces."""
        parts = dataclasses.asdict(self)
        return [parts[name] for name in ("init", "training", "run", "augmentation")] + [
            self.people_per_batch,
            self.photos_per_person,
            self.singles_per_batch,
            self.validation_share,
        ]


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    args = _parse(argv)
    out = terminal.console()
    try:
        config, start = _config(args)
        storage.check_writable(config.output)
        data = _read(config, args, out)
        sampler = PeopleSampler(
            data.training.people,
            config.people_per_batch,
            config.photos_per_person,
            config.training.seed,
            config.singles_per_batch,
        )
        for name, people in data.measured.items():
            _check_pairs(name, people)
    except (BadBundle, BadEncoder, NoSuchSource, storage.StorageError, ValueError) as error:
        raise UsageError(str(error)) from error
    work = report.staging_folder(config.output, [config.decides, data.training.digest, data.validation.digest])
    if _is_done(config.output, work):
        out.print(f"the encoder of this run is in {plain(config.output)} already", markup=False)
        return 0
    return _train(config, start, data, sampler, work, out)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("train", __doc__, _EXAMPLES)
    parser.add_argument("--images", metavar="FOLDER", help="photos of people, <name>/<photo>.jpg, local or in a store")
    parser.add_argument(
        "--gallery",
        metavar="PLACE",
        help="a published gallery, <root>/<name> or <root>/<name>/<version>: the crops of its faces",
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the encoder goes")
    parser.add_argument(
        "--init",
        default=PRETRAINED,
        metavar="ENCODER",
        help=f"{PRETRAINED}: the encoder that fetch-models brought; {SCRATCH}: a small network with random weights; or "
        "the folder of an encoder (default: %(default)s)",
    )
    parser.add_argument(
        "--layers",
        choices=LAYERS,
        help="what is trained: all; the last block and the head; the dense layer that makes the vector; or its offset, "
        f"128 numbers (default: offset; all with {SCRATCH})",
    )
    parser.add_argument("--test_images", metavar="FOLDER", help="other people, to measure before and after, too")
    loss = parser.add_argument_group("the triplet loss", "defaults depend on what is trained")
    loss.add_argument("--margin", type=float, metavar="D", help="alpha: the distance that is to be kept")
    loss.add_argument("--mining", choices=MINING, help="which triplets are taken")
    loss.add_argument("--people_per_batch", type=arguments.positive, metavar="P", help="people in a batch")
    loss.add_argument("--photos_per_person", type=arguments.positive, metavar="K", help="photos of each")
    loss.add_argument("--singles_per_batch", type=int, metavar="N", help="people with one photo, as negatives")
    loss.add_argument("--augmentation", choices=AUGMENTATIONS, help="how strongly faces are changed each time")
    course = parser.add_argument_group("the course of training")
    course.add_argument("--max_steps", type=arguments.positive, metavar="N", help="batches to learn from, at most")
    course.add_argument("--learning_rate", type=arguments.above_zero, metavar="X", help="after the warm-up")
    course.add_argument("--warmup_steps", type=int, metavar="N", help="in which the learning rate rises")
    course.add_argument("--weight_decay", type=float, metavar="X", help="taken off weights, times the learning rate")
    course.add_argument("--evaluate_every", type=arguments.positive, metavar="N", help="steps; a checkpoint each time")
    course.add_argument(
        "--patience",
        type=arguments.positive,
        default=10,
        metavar="N",
        help="stop after so many evaluations without a better one (default: %(default)s)",
    )
    course.add_argument(
        "--far",
        type=arguments.rate,
        default=1e-3,
        metavar="X",
        help="the evaluation with the largest VAL at this false accept rate is kept (default: %(default)s)",
    )
    course.add_argument(
        "--validation_share",
        type=arguments.rate,
        default=0.2,
        metavar="X",
        help="share of the people who are not trained on (default: %(default)s)",
    )
    course.add_argument(
        "--embedding_size", type=arguments.positive, default=128, metavar="N", help=f"with {SCRATCH} (default: 128)"
    )
    course.add_argument("--seed", type=int, default=0, metavar="N", help="of all that chance decides (default: 0)")
    course.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="of the arithmetic (default: %(default)s)"
    )
    arguments.add_cache_flag(parser)
    arguments.add_reader_flags(parser, EVERY_FACE)
    args = parser.parse_args(argv)
    if bool(args.images) == bool(args.gallery):
        parser.error("name photos with --images, or a gallery with --gallery")
    return args


def _config(args: argparse.Namespace) -> tuple[TrainConfig, tuple[EncoderCard, Weights] | None]:
    """The run that is asked for, and the encoder that it starts from.

    Raises:
      BadEncoder: If that cannot be used.
      ValueError: If a value cannot be.
    """
    start = None
    init = ""
    if args.init != SCRATCH:
        init = storage.absolute(str(encoder_folder(args.cache)) if args.init == PRETRAINED else args.init)
        start = read_encoder(init)
    layers = args.layers or ("offset" if start else "all")
    if not start and layers != "all":
        raise UsageError(f"--init {SCRATCH} trains all layers: there is nothing yet that the others could keep")
    recipe = _RECIPES[layers if start else SCRATCH]
    chosen = {name: value for name, value in vars(args).items() if value is not None}
    recipe = dataclasses.replace(recipe, **{name: chosen[name] for name in vars(recipe) if name in chosen})
    training = TrainingConfig(
        architecture=start[0].architecture if start else SMALL_INCEPTION,
        embedding_size=start[0].embedding_size if start else args.embedding_size,
        layers=layers,
        mining=recipe.mining,
        margin=recipe.margin,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_steps=recipe.max_steps,
        seed=args.seed,
        precision=args.precision,
    )
    images, gallery, test = (
        storage.absolute(place) if place else "" for place in (args.images, args.gallery, args.test_images)
    )
    config = TrainConfig(
        images=images,
        gallery=gallery,
        init=init,
        output=storage.absolute(args.output),
        test_images=test,
        training=training,
        run=RunConfig(recipe.evaluate_every, args.patience, args.far, args.seed),
        augmentation=AUGMENTATIONS[recipe.augmentation],
        people_per_batch=recipe.people_per_batch,
        photos_per_person=recipe.photos_per_person,
        singles_per_batch=recipe.singles_per_batch,
        validation_share=args.validation_share,
    )
    return config, start


@dataclasses.dataclass(frozen=True, eq=False)
class _Data:
    """The faces of a run.

    Attributes:
      training: Learnt from.
      validation: Of other people: they decide what is kept.
      test: Of a folder of its own; they decide nothing.
      ledger: A row for each photo of the training folder; None if the faces are a gallery's.
    """

    training: LabelledFaces
    validation: LabelledFaces
    test: LabelledFaces | None
    ledger: pa.Table | None

    @property
    def measured(self) -> dict[str, LabelledFaces]:
        """What is measured before and after."""
        return {"validation": self.validation} | ({"test": self.test} if self.test else {})


def _read(config: TrainConfig, args: argparse.Namespace, out: Console) -> _Data:
    cropping = arguments.reader_config(args, one_face=True), arguments.precision("auto"), str(args.cache / "crops")
    ledger = None
    if config.gallery:
        faces = training_faces.of_gallery(config.gallery)
    else:
        faces, ledger = training_faces.of_folder(config.images, *cropping)
        lost = [f"{count} {reason}" for reason, count in _reasons(ledger).items()]
        out.print(f"{terminal.counted(len(ledger), 'photo')}: {', '.join([f'{len(faces.crops)} with a face', *lost])}")
    test = training_faces.of_folder(config.test_images, *cropping)[0] if config.test_images else None
    aside = split_people(faces.people, config.validation_share, config.training.seed)
    return _Data(faces.part(~aside), faces.part(aside), test, ledger)


def _reasons(ledger: pa.Table) -> dict[str, int]:
    counts = collections.Counter(ledger["reason"].to_pylist())
    return {reason: counts[reason] for reason in sorted(counts) if reason}


def _check_pairs(name: str, faces: LabelledFaces) -> None:
    """Raises ValueError if nothing can be measured of some people."""
    _, counts = np.unique(faces.people, return_counts=True)
    if len(counts) < 2 or counts.max() < 2:
        raise ValueError(f"{name} needs two people, one of them with two photos, at least; it has {len(counts)}")


def _is_done(output: str, work: str) -> bool:
    """Whether a folder holds the encoder of this run.

    Raises:
      UsageError: If it holds another.
    """
    if not storage.exists(storage.join(output, encoder_card.CARD_NAME)):
        return False
    place = storage.join(output, _RUN_NAME)
    if storage.exists(place) and json.loads(storage.read_bytes(place)).get("run") == posixpath.basename(work):
        return True
    raise UsageError(f"{output} holds another encoder; name another folder with --output")


def _train(
    config: TrainConfig,
    start: tuple[EncoderCard, Weights] | None,
    data: _Data,
    sampler: PeopleSampler,
    work: str,
    out: Console,
) -> int:
    from celebface.models.training import Trainer  # here, so that wrong usage does not wait for TensorFlow

    people = len(np.unique(data.training.people)), len(np.unique(data.validation.people))
    out.print(
        f"{config.training.layers} of {config.training.architecture}, {config.training.mining}, margin "
        f"{config.training.margin:g}: {len(data.training.crops)} faces of {people[0]} people ({sampler.people} with "
        f"two or more), {people[1]} others for validation",
        markup=False,
    )
    began = time.monotonic()
    trainer = Trainer(config.training, start[1] if start else None)
    untrained = trainer.weights()
    with _Shown(config, out) as shown:
        weights, history = training_run.train(
            trainer, data.training, sampler, config.augmentation, data.validation, config.run, work, shown.show
        )
    results = {
        name: {
            "before": _measure(untrained, config, faces),
            "after": _measure(weights, config, faces),
        }
        for name, faces in data.measured.items()
    }
    card = training_result.make_card(
        config.training, weights, start[0] if start else None, results["validation"]["after"], data.training
    )
    _write(config, card, weights, history, data, results, work, time.monotonic() - began)
    storage.delete_tree(work)
    out.print(training_result.table(results))
    if not history.best:
        out.print("no evaluation was better than the start: the encoder is the one that it started from")
    out.print(
        f"encoder {card.encoder_id}, of step {history.best} of {history.done}, in {plain(config.output)}", markup=False
    )
    return 0


def _measure(weights: Weights, config: TrainConfig, faces: LabelledFaces) -> dict[str, Any]:
    """Measures weights as the pipelines will use them."""
    from celebface.models.facenet import FaceEncoder

    training = config.training
    encoder = FaceEncoder(weights, training.embedding_size, "float32", training.architecture)
    return training_run.measure(encoder.encode(faces.pixels()), faces.people, config.run.far)


def _write(
    config: TrainConfig,
    card: EncoderCard,
    weights: Weights,
    history: History,
    data: _Data,
    results: dict[str, training_result.Measured],
    work: str,
    seconds: float,
) -> None:
    """Writes all that a run leaves; the card, which makes it an encoder, comes last."""
    output = config.output
    storage.write_bytes(storage.join(output, encoder_card.WEIGHTS_NAME), encoder_card.arrays_to_bytes(weights))
    storage.write_bytes(storage.join(output, "curves.png"), training_charts.draw(history, config.training.margin))
    training_charts.write_events(history, storage.join(output, "tensorboard"))
    _write_table(storage.join(output, "history.parquet"), pa.table(history.steps))
    if data.ledger is not None:
        _write_table(storage.join(output, "ledger.parquet"), data.ledger)
    body = {
        "run": posixpath.basename(work),
        "encoder_id": card.encoder_id,
        "config": report.as_json(config),
        "data": {name: faces.described() for name, faces in (("training", data.training), *data.measured.items())},
        "results": results,
        "best_step": history.best,
        "steps": history.done,
        "seconds": round(seconds, 1),
        "evaluations": history.evaluations,
        "versions": report.versions(),
    }
    report.write_json(storage.join(output, _RUN_NAME), body)
    storage.write_bytes(storage.join(output, encoder_card.CARD_NAME), card.to_json().encode())


def _write_table(uri: str, table: pa.Table) -> None:
    with storage.open_output(uri) as stream:
        pyarrow.parquet.write_table(table, stream)


class _Shown:
    """What a person sees meanwhile: a bar on stderr, a line for each evaluation and each new warning on stdout."""

    def __init__(self, config: TrainConfig, out: Console):
        self._config = config
        self._out = out
        self._evaluated = 0
        self._warned = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[health]}"),
            console=terminal.error_console(),
            transient=True,
        )
        self._task = self._bar.add_task("training", total=config.training.max_steps, health="")

    def __enter__(self) -> "_Shown":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def show(self, history: History) -> None:
        """Shows a step."""
        loss = f"loss {history.steps['loss'][-1]:.3f}" if history.done else ""
        self._bar.update(self._task, completed=history.done, health=loss)
        warning = training_run.warning(history, self._config.training.margin)
        if warning and warning[:40] != self._warned[:40]:
            complain(f"celebface train: {warning}")
        self._warned = warning
        if len(history.evaluations) > self._evaluated:
            self._out.print(self._line(history), markup=False)
        self._evaluated = len(history.evaluations)

    def _line(self, history: History) -> str:
        measured = history.evaluations[-1]
        val, _ = training_run.score(measured, self._config.run.far)
        seen = ""
        if history.done:
            loss, active, positive, negative, spread = (
                history.recent(name) for name in ("loss", "active", "positive", "negative", "spread")
            )
            seen = (
                f"  loss {loss:.4f}  active {100 * active:5.1f} %  D {positive:.2f} / {negative:.2f}  "
                f"spread {spread:.3f}"
            )
        kept = "  *" if measured["step"] == history.best else ""
        rank_one = "" if measured["rank_one"] is None else f"  rank-1 {measured['rank_one']:.4f}"
        return (
            f"step {measured['step']:>6}{seen}  VAL at FAR {self._config.run.far:g} {val:.4f}{rank_one}  "
            f"accuracy {measured['accuracy']:.4f}{kept}"
        )
