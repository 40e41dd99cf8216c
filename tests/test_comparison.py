"""Thresholds of one comparison, and what is stated of them."""

import dataclasses
import math

import fakes
import numpy as np
import pytest

from celebface.indexing import calibrate
from celebface.indexing.calibration import LFW_CURVE, Calibration, Trials, Unstated
from celebface.indexing.manifest import BadBundle
from celebface.indexing.rates import Tail
from celebface.models.encoder_card import PREPROCESSING, EncoderCard, OperatingPoint
from celebface.models.faces import NoFace
from celebface.models.networks import INCEPTION_RESNET_V1
from celebface.pipelines import comparison
from celebface.pipelines.comparison import MainFace

POINTS = tuple(OperatingPoint(**point) for point in fakes.POINTS)
CARD = EncoderCard("fake", INCEPTION_RESNET_V1, 128, "0" * 64, PREPROCESSING, 1.22, POINTS, "LFW")
WITHOUT = dataclasses.replace(CARD, best_tau=None, operating_points=(), evidence="")


def test_the_usual_threshold_is_that_of_the_best_accuracy_and_its_rate_lies_between_the_measured_ones():
    found = comparison.by_card(CARD)
    assert (found.tau, found.method, found.interval) == (1.22, "interpolated", None)
    assert 0.001 < found.false_match_rate < 0.01
    assert found.stated == f"false match rate {100 * found.false_match_rate:g} %, in one comparison (interpolated; LFW)"


@pytest.mark.parametrize(("tau", "rate"), [(1.02, 0.001), (1.29, 0.01)])
def test_the_cards_own_points_are_measured(tau, rate):
    by_tau, by_rate = comparison.by_card(CARD, tau=tau), comparison.by_card(CARD, far=rate)
    assert (by_tau.tau, by_tau.false_match_rate, by_tau.method) == (tau, rate, "measured")
    assert by_rate == by_tau


def test_beyond_the_cards_points_rates_are_extrapolated():
    found = comparison.by_card(CARD, far=0.05)
    assert found.tau > 1.29 and found.method == "extrapolated"
    assert comparison.by_card(CARD, tau=found.tau).false_match_rate == 0.05


@pytest.mark.parametrize(("tau", "bound"), [(0.3, "below 0.1 %"), (3.0, "above 10 %")])
def test_where_no_rate_is_stated_only_a_bound_is(tau, bound):
    found = comparison.by_card(CARD, tau=tau)
    assert (found.tau, found.false_match_rate, found.method) == (tau, None, "")
    assert found.stated == f"false match rate {bound}, where none is stated, in one comparison"


def test_a_card_without_points_states_nothing():
    for asked in ({}, {"far": 0.01}):
        with pytest.raises(Unstated):
            comparison.by_card(WITHOUT, **asked)
    found = comparison.by_card(WITHOUT, tau=1.0)
    assert (found.tau, found.false_match_rate) == (1.0, None)
    assert "the encoder's card has none" in found.stated


def pairs(impostors: int) -> Calibration:
    """A calibration of D 1.00, 1.01 ... of two people."""
    impostor = 1.0 + 0.01 * np.arange(impostors)
    tail = Tail.through(fakes.POINTS, "LFW")
    return calibrate.of_pairs(np.linspace(0.1, 0.9, 50), impostor, CARD.encoder_id, tail)


def test_labelled_pairs_of_ones_own_decide_if_there_are_enough():
    found = comparison.by_calibration(pairs(1000), CARD.encoder_id)
    assert (found.false_match_rate, found.method) == (0.01, "measured")
    assert found.tau == pytest.approx(1.09)  # ten of 1,001
    assert found.stated.endswith("in one comparison (1000 pairs of two people)")
    assert comparison.by_calibration(pairs(1000), CARD.encoder_id, far=0.1).tau == pytest.approx(1.99)
    by_tau = comparison.by_calibration(pairs(1000), CARD.encoder_id, tau=1.195)
    assert (by_tau.false_match_rate, by_tau.method) == (0.02, "measured")
    assert by_tau.interval[0] < 0.02 < by_tau.interval[1]


def test_a_gallerys_calibration_is_none_of_pairs():
    gallery = dataclasses.replace(pairs(1000), subject="a stranger against the whole gallery")
    with pytest.raises(BadBundle, match="gallery's"):
        comparison.by_calibration(gallery, CARD.encoder_id)
    with pytest.raises(BadBundle, match="of encoder"):
        comparison.by_calibration(pairs(1000), "0123456789abcdef")


def test_one_person_if_d_is_within_tau():
    first = np.array([1, 0], np.float32)
    second = np.array([math.cos(1), math.sin(1)], np.float32)
    distance = 2 - 2 * math.cos(1)
    for tau, same in ((distance + 1e-5, True), (distance - 1e-5, False)):
        found = comparison.compare(first, second, comparison.by_card(CARD, tau=tau))
        assert found.distance == pytest.approx(distance, abs=1e-6)
        assert found.similarity == LFW_CURVE.percent(found.distance)
        assert (found.same, found.threshold.tau) == (same, tau)


def test_a_photo_without_a_face_has_no_main_one():
    with pytest.raises(NoFace):
        MainFace.of("a.jpg", NoFace("the detector found no face"))


def test_no_trials_state_nothing_of_a_threshold():
    nothing = Calibration("one comparison", "e0", 1, 1.0, Trials(0), Trials(0), 0, None)
    with pytest.raises(Unstated, match="has none"):
        nothing.at_tau(1.0)
