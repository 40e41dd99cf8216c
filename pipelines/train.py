"""celebface train: an encoder trained with the triplet loss, from scratch or from the pre-trained FaceNet."""

import argparse
import collections
import contextlib
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

from celebface.indexing import storage
from celebface.indexing.manifest import BadBundle
from celebface.indexing.schemas import Status
from celebface.models import encoder_card
from celebface.models.encoder_card import BadEncoder, EncoderCard
from celebface.models.sampling import PeopleSampler, split_people
from celebface.pipelines import (
    arguments,
    report,
    terminal,
    training_charts,
    training_faces,
    training_result,
    training_run,
)
from celebface.pipelines.arguments import UsageError
from celebface.pipelines.claim import claimed
from celebface.pipelines.text import complain, plain
from celebface.pipelines.training_faces import LabelledFaces
from celebface.pipelines.training_flags import TrainConfig, parse_args, read_config
from celebface.pipelines.training_progress import TrainingProgress
from celebface.pipelines.training_run import BadCheckpoint, History, Weights
from celebface.transforms.folders import NoSuchSource

_RUN_NAME = "train.json"
_FAULTS_OF_USE = (BadBundle, BadEncoder, NoSuchSource, storage.StorageError, ValueError)


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    args = parse_args(argv)
    try:
        config, start = read_config(args)
        storage.check_writable(config.output)
    except _FAULTS_OF_USE as error:
        raise UsageError(str(error)) from error
    with claimed(config.output):
        return _run(args, config, start, terminal.console())


def _run(args: argparse.Namespace, config: TrainConfig, start: tuple[EncoderCard, Weights] | None, out: Console) -> int:
    try:
        data = _read(config, args, out)
        origin = start[0].encoder_id if start else ""
        decides = [config.decides, origin, data.training.digest, data.validation.digest]
        work = report.staging_folder(config.output, decides)
        if _is_done(config.output, work):
            storage.delete_tree(work)  # which a kill at the very end leaves
            out.print(f"the encoder of this run is in {plain(config.output)} already", markup=False)
            return 0
        if data.ledger is not None:
            _write_table(storage.join(config.output, "ledger.parquet"), data.ledger)
        if data.failed > args.max_failed_ratio:
            complain(f"celebface train: {data.failed:.0%} of the photos have no usable face; see ledger.parquet")
            return 1
        sampler = PeopleSampler(
            data.training.people,
            config.people_per_batch,
            config.photos_per_person,
            config.training.seed,
            config.singles_per_batch,
        )
        for name, people in data.measured.items():
            _check_pairs(name, people)
    except _FAULTS_OF_USE as error:
        raise UsageError(str(error)) from error
    try:
        return _train(config, start, data, sampler, work, out)
    except (BadCheckpoint, FloatingPointError, storage.StorageError) as error:
        complain(f"celebface train: {error}")
        return 1


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
    def failed(self) -> float:
        """Share of the training folder's photos that gave no face."""
        if self.ledger is None or not len(self.ledger):
            return 0.0
        return self.ledger["status"].to_pylist().count(Status.REJECTED) / len(self.ledger)

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
        counts = ", ".join([f"{len(faces.crops)} with a face", *lost])
        out.print(f"{terminal.counted(len(ledger), 'photo')}: {counts}", markup=False)
    test = training_faces.of_folder(config.test_images, *cropping)[0] if config.test_images else None
    if test and (both := set(test.names) & set(faces.names)):
        complain(f"celebface train: {terminal.counted(len(both), 'person is', 'people are')} in --test_images, too")
    aside = split_people(faces.people, config.validation_share, config.training.seed)
    return _Data(faces.part(~aside), faces.part(aside).measurable(), test and test.measurable(), ledger)


def _reasons(ledger: pa.Table) -> dict[str, int]:
    counts = collections.Counter(ledger["reason"].to_pylist())
    return {reason: counts[reason] for reason in sorted(counts) if reason}


def _check_pairs(name: str, faces: LabelledFaces) -> None:
    """Raises ValueError if nothing can be measured of some people."""
    _, counts = np.unique(faces.people, return_counts=True)
    if len(counts) < 2 or counts.max() < 2:
        hint = "; raise --validation_share" if name == "validation" else ""
        raise ValueError(f"{name} needs two people, one of them with two photos, at least; it has {len(counts)}{hint}")


def _is_done(output: str, work: str) -> bool:
    """Whether a folder holds the encoder of this run.

    Raises:
      UsageError: If it holds another.
    """
    if not storage.exists(storage.join(output, encoder_card.CARD_NAME)):
        return False
    place = storage.join(output, _RUN_NAME)
    with contextlib.suppress(FileNotFoundError, ValueError, AttributeError):  # none of ours
        if json.loads(storage.read_bytes(place)).get("run") == posixpath.basename(work):
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
    try:
        trainer = Trainer(config.training, start[1] if start else None)
    except ValueError as error:
        raise UsageError(f"the encoder at {config.init} does not fit its network: {error}") from error
    untrained = trainer.weights()
    with TrainingProgress(config.training.margin, config.training.max_steps, config.run.far, out) as shown:
        weights, history = training_run.train(
            trainer, data.training, sampler, config.augmentation, data.validation, config.run, work, shown.show
        )
    before, after = (_measure(each, config, data.validation) for each in (untrained, weights))
    if training_run.score(after, config.run.far) < training_run.score(before, config.run.far):
        history.best, weights, after = 0, untrained, before  # training rounds otherwise than the pipelines do
    results = {"validation": {"before": before, "after": after}}
    if data.test:
        before, after = (_measure(each, config, data.test) for each in (untrained, weights))
        results["test"] = {"before": before, "after": after}
    if start and not history.best:
        card = start[0]
    else:
        stated = results["validation"]["after"]
        card = training_result.make_card(config.training, weights, start[0] if start else None, stated, data.training)
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
