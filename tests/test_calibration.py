"""Thresholds and verdicts."""

import json
import math

import fakes
import numpy as np
import pytest

from celebface.indexing.calibration import Calibration, Verdict, similarity, verdict
from celebface.indexing.manifest import BadBundle

TAU = 1.02
ABOVE_TAU = math.nextafter(TAU, 4)


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "margin", "expected"),
    [
        (0.0, 1.0, Verdict.MATCH),
        (1.01, 0.5, Verdict.MATCH),
        (TAU, 0.5, Verdict.MATCH),
        (ABOVE_TAU, 0.5, Verdict.LOOKALIKE),
        (4.0, 0.0, Verdict.LOOKALIKE),
        (0.5, None, Verdict.MATCH),
        (TAU, None, Verdict.MATCH),
        (ABOVE_TAU, None, Verdict.LOOKALIKE),
        (0.5, 0.0, Verdict.AMBIGUOUS),
        (0.5, 0.0999, Verdict.AMBIGUOUS),
        (0.5, 0.1, Verdict.MATCH),
        (TAU, 0.05, Verdict.AMBIGUOUS),
        (ABOVE_TAU, 0.05, Verdict.LOOKALIKE),
    ],
)
def test_verdict(distance, margin, expected):
    assert verdict(distance, margin, TAU) is expected


def test_verdicts_are_written_as_words():
    assert [str(each) for each in Verdict] == ["match", "ambiguous", "lookalike"]


@pytest.mark.parametrize(("distance", "cosine"), [(0.0, 1.0), (1.0, 0.5), (2.0, 0.0), (4.0, -1.0)])
def test_similarity_is_the_cosine(distance, cosine):
    assert similarity(distance) == cosine


def test_similarity_of_vectors_is_their_inner_product():
    one, other = fakes.unit_vectors(2, 128).astype(np.float64)
    assert similarity(float(np.sum((one - other) ** 2))) == pytest.approx(one @ other, abs=1e-6)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_encoders_points_give_tau_at_one_false_match_in_a_thousand():
    assert Calibration.of_encoder(fakes.POINTS, "LFW") == Calibration(1.02, 1e-3, fakes.POINTS, "LFW")


@pytest.mark.parametrize("points", [[], [fakes.POINTS[1]]])
def test_an_encoder_without_that_point_has_no_tau(points):
    assert Calibration.of_encoder(points, "nothing") == Calibration(None, None, points, "nothing")


@pytest.mark.parametrize("points", [[], fakes.POINTS])
def test_round_trip(points):
    written = Calibration.of_encoder(tuple(points), "LFW, a é b")
    assert Calibration.from_json(written.to_json()) == written
    assert json.loads(written.to_json())["operating_points"] == points
    assert written.to_json().endswith(b"}\n")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"tau": 1.0}',
        b'{"tau": 1.0, "false_match_rate": 0.001, "operating_points": [], "evidence": "", "format": 2}',
        b"[" * 100_000,
    ],
    ids=lambda data: repr(data[:14]),
)
def test_garbage_is_refused(data):
    with pytest.raises(BadBundle, match="calibration cannot be read"):
        Calibration.from_json(data)
