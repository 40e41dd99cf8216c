"""What a training run leaves: the encoder with its card, and the measurements before and after."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table

from celebface.models import encoder_card
from celebface.models.encoder_card import EncoderCard, OperatingPoint
from celebface.models.training_config import TrainingConfig
from celebface.pipelines.training_faces import LabelledFaces

_MIN_FALSE_MATCHES = 10  # that a rate must be counted by, to stand on a card

Measured = dict[str, dict[str, Any]]  # before and after, each a `Separation`


def make_card(
    config: TrainingConfig,
    weights: Mapping[str, np.ndarray],
    start: EncoderCard | None,
    measured: Mapping[str, Any],
    faces: LabelledFaces,
) -> EncoderCard:
    """Describes a trained encoder.

    Args:
      config: How it was trained.
      weights: What came of it.
      start: What it was trained from; None for random weights.
      measured: Its `Separation` of the validation people: where its thresholds come from.
      faces: What it learnt from.
    """
    points = tuple(
        OperatingPoint(round(rate["tau"], 4), rate["false_match_rate"], round(rate["true_match_rate"], 4))
        for rate in sorted(measured["rates"], key=lambda rate: rate["false_match_rate"])
        if rate["false_match_rate"] * measured["impostor"] >= _MIN_FALSE_MATCHES
    )
    people = len(np.unique(faces.people))
    what = f"{start.name}, {config.layers} trained" if start else f"{config.architecture}, trained from scratch"
    source = f"celebface train, seed {config.seed}, on {len(faces.crops)} faces of {people} people"
    return EncoderCard(
        name=what,
        architecture=config.architecture,
        embedding_size=config.embedding_size,
        weights_sha256=encoder_card.weights_digest(weights),
        preprocessing=encoder_card.PREPROCESSING,
        best_tau=round(measured["tau"], 4),
        operating_points=points,
        evidence=f"all pairs of {measured['faces']} faces of {measured['people']} people who chose the step but were "
        "not trained on: "
        f"{measured['genuine']} of one person, {measured['impostor']} of two",
        source=f"{source}, from encoder {start.encoder_id} ({start.source})" if start else source,
        licence=start.licence if start else "",
    )


def table(results: Mapping[str, Measured]) -> Table:
    """Before and after, for each set of people."""
    found = Table("", box=None, pad_edge=False)
    for people in results:
        for when in ("before", "after"):
            found.add_column(f"{people}\n{when}", justify="right")
    for name in _rows(next(iter(results.values()))["after"]):
        found.add_row(name, *(_rows(measured[when])[name] for measured in results.values() for when in measured))
    return found


def _rows(measured: Mapping[str, Any]) -> dict[str, str]:
    return {
        **{f"VAL at FAR {rate['false_match_rate']:g}": f"{rate['true_match_rate']:.4f}" for rate in measured["rates"]},
        "rank-1, one enrolled": "n/a" if measured["rank_one"] is None else f"{measured['rank_one']:.4f}",
        "AUC": f"{measured['auc']:.5f}",
        "EER": f"{measured['eer']:.4f}",
        "accuracy, balanced": f"{measured['accuracy']:.4f}",
        "best tau": f"{measured['tau']:.3f}",
        "people, faces": f"{measured['people']}, {measured['faces']}",
        "pairs of one person": str(measured["genuine"]),
        "pairs of two": str(measured["impostor"]),
    }
