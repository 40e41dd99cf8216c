"""Verdicts, thresholds for stated rates, and the file they are kept in."""

import json
import math

import fakes
import numpy as np
import pytest

from celebface.indexing import calibration
from celebface.indexing.calibration import (
    LFW_CURVE,
    Calibration,
    Curve,
    Trials,
    Unstated,
    Verdict,
    ranked_verdict,
    verdict,
)
from celebface.indexing.manifest import BadBundle
from celebface.indexing.rates import Tail, wilson

TAU = 1.02
ABOVE_TAU = math.nextafter(TAU, 4)
TAIL = Tail.through(fakes.POINTS, "LFW")
NOBODY = Trials(0)
CURVE = Curve(1.2, 10.0, "somewhere")


def calibrated(scores=(), count=None, known=NOBODY, tail=TAIL, people=100, twice=()) -> Calibration:
    """A calibration of strangers who come so near."""
    count = len(scores) if count is None else count
    strangers = Trials(count, tuple(sorted(scores)), (), tuple(twice))
    return Calibration("a stranger against it", "e0", people, float(people), strangers, known, 0, tail, CURVE)


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


def test_per_cent_falls_with_distance_and_is_half_in_the_middle():
    percents = [CURVE.percent(distance) for distance in np.linspace(0, 4, 401)]
    assert percents == sorted(percents, reverse=True)
    assert percents[0] <= 100 and percents[-1] >= 0
    assert CURVE.percent(1.2) == 50
    assert CURVE.percent(1.0) == pytest.approx(100 / (1 + math.exp(-2)))
    assert Curve(0.1, 1e6, "").percent(4) == pytest.approx(0)


# --- thresholds -------------------------------------------------------------------------------------------------------


def test_tau_is_the_score_up_to_which_the_rate_holds_for_the_next_stranger():
    scores = [0.5 + number / 1000 for number in range(1000)]
    point = calibrated(scores).at(0.01)
    assert (point.tau, point.method) == (0.509, "measured")  # the tenth of 1,000: ten of 1,001
    assert point.interval == pytest.approx(wilson(10, 1000))
    assert point.interval[0] < 0.01 < point.interval[1]


@pytest.mark.parametrize("rate", [0.005, 0.01, 0.0137, 0.03, 0.1])
def test_at_tau_as_many_strangers_pass_as_is_stated(rate):
    scores = np.random.default_rng(1).normal(1.0, 0.15, 1000)
    tau = calibrated(scores).at(rate).tau
    passed = np.mean([verdict(score, 0.2, tau) is Verdict.MATCH for score in scores])
    assert rate - 1 / 1000 < passed <= rate


def test_scores_that_are_equal_pass_or_fail_together():
    point = calibrated([0.5] * 20 + [0.9] * 80).at(0.1)
    assert point.tau == 0.5 and point.interval == pytest.approx(wilson(20, 100))


def test_two_who_are_each_others_nearest_make_the_interval_wider():
    scores = [0.5 + number / 1000 for number in range(1000)]
    one, other = calibrated(scores).at(0.01), calibrated(scores, twice=(0.501, 0.503, 0.505, 0.9)).at(0.01)
    assert one.tau == other.tau
    assert other.interval[0] < one.interval[0] < one.interval[1] < other.interval[1]
    assert other.interval == pytest.approx(wilson(10 / 1.6, 1000 / 1.6))


def test_rates_and_thresholds_rise_together():
    scores = np.random.default_rng(2).normal(0.9, 0.12, 700)
    found = calibrated(scores, people=700)
    asked = np.geomspace(0.001, 0.1, 60)
    taus = [found.at(rate).tau for rate in asked]
    assert taus == sorted(taus)
    assert {found.at(rate).method for rate in asked} == {"measured", "extrapolated"}
    assert [point.false_match_rate for point in found.operating_points] == [0.001, 0.003, 0.01, 0.03, 0.1]


def test_few_strangers_leave_it_to_the_encoders_figures():
    point = calibrated([1.5, 1.6, 1.4, 1.7, 1.5], people=5).at(0.01)
    assert (point.tau, point.method) == (round(TAIL.tau(0.01, 5), 4), "extrapolated")
    assert point.interval == pytest.approx(wilson(0, 5))
    assert calibrated(people=1).at(0.01).interval == (0.0, 1.0)
    assert "extrapolated from the encoder's figures (LFW)" in calibrated([1.5] * 5).evidence


def test_the_encoders_figures_are_moved_to_meet_the_strangers():
    """Here all are more alike than the people of the encoder's figures."""
    nearest = [TAIL.tau(0.1 * (number + 1) / 20, 200) - 0.2 for number in range(20)]
    moved = calibrated([*nearest, *np.linspace(nearest[-1], 2, 181)[1:]], people=200)
    assert moved.at(0.01).method == "extrapolated"
    assert moved.at(0.01).tau == pytest.approx(TAIL.tau(0.01, 200) - 0.2, abs=0.01)


def test_strangers_who_contradict_the_encoders_figures_lower_tau():
    """One pair in ten is chance, two faces that nobody expected are not."""
    far = [1.5 + number / 100 for number in range(8)]
    expected = round(TAIL.tau(0.01, 10), 4)
    assert calibrated([0.4, 1.4, *far], people=10).at(0.01).tau == expected
    assert 0.499 < calibrated([0.4, 0.5, *far], people=10).at(0.01).tau < 0.5
    assert calibrated([0.4, 0.5, *far], people=10, twice=[0.5]).at(0.01).tau == expected  # one event, not two


@pytest.mark.parametrize("rate", [0.00099, 0.11, 0.5])
def test_rates_out_of_range_are_not_stated(rate):
    with pytest.raises(Unstated, match=r"only rates from 0.001 to 0.1"):
        calibrated([1.0] * 1000).at(rate)


def test_too_few_strangers_and_no_figures_state_nothing():
    found = calibrated([1.0 + number / 100 for number in range(100)], tail=None)
    with pytest.raises(Unstated, match="100 strangers are too few"):
        found.at(0.01)
    assert [point.false_match_rate for point in found.operating_points] == [0.1]
    assert "there is no tau" in found.evidence


def test_a_gallery_that_keeps_strangers_far_still_has_a_threshold():
    assert calibrated([1.5] * 3, count=1000).at(0.01).tau == 4.0


def test_known_people():
    known = Trials(10, (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 1.3), (0.35, 1.4))
    found = calibrated([0.8 + number / 1000 for number in range(1000)], known=known)
    point = found.at(0.01)
    assert (point.true_match_rate, point.ambiguous) == (0.6, 0.1)
    assert point.true_match_interval == pytest.approx(wilson(6, 10))
    assert found.rank_one == 0.9
    assert point.recognised == "true match rate 60 % (31 to 83 %)"
    assert point.stated == "false match rate 1 % (measured, 95 %: 0.54 to 1.8 %)"
    assert calibrated([1.0] * 1000).at(0.01).recognised == "true match rate unknown"
    assert calibrated([1.0] * 1000).rank_one is None


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [TAIL, None])
def test_round_trip(tail):
    written = calibrated([0.8, 0.9, 1.0], known=Trials(2, (0.1,), (0.2,)), tail=tail, twice=[0.9])
    read = Calibration.from_json(written.to_json())
    assert read == written
    assert read.to_json() == written.to_json()
    body = json.loads(written.to_json())
    assert len(body["operating_points"]) == (5 if tail else 0)
    assert body["evidence"] == written.evidence and body["encoder_id"] == "e0"
    assert written.to_json().endswith(b"}\n")


def changed(**fields) -> bytes:
    return json.dumps({**json.loads(calibrated([0.8, 0.9]).to_json()), **fields}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"tau": 1.0, "false_match_rate": 0.001, "operating_points": [], "evidence": ""}',
        changed(format=2),
        changed(strangers=None),
        changed(strangers={"count": "many", "scores": [], "ambiguous": [], "twice": []}),
        changed(strangers={"count": 2, "scores": ["a"], "ambiguous": [], "twice": []}),
        changed(tail={"mean": "x", "deviation": 1, "evidence": ""}),
        changed(curve=None),
        changed(comparisons=0),
        b"[" * 100_000,
    ],
    ids=lambda data: repr(data[-24:]),
)
def test_garbage_is_refused(data):
    with pytest.raises(BadBundle, match="calibration cannot be read"):
        Calibration.from_json(data)


def test_the_usual_rates_hold_the_default():
    assert calibration.DEFAULT_FALSE_MATCH_RATE in calibration.FALSE_MATCH_RATES
    assert LFW_CURVE.percent(0.43) > 99 and LFW_CURVE.percent(1.6) < 2  # LFW's median pairs lie at 0.43 and 1.93


# --- thresholds that somebody else chose ------------------------------------------------------------------------------


def test_a_threshold_is_counted_if_enough_strangers_pass():
    found = calibrated(np.linspace(0.5, 1.5, 1000)).at_tau(0.52)
    assert (found.false_match_rate, found.tau, found.method) == (0.02, 0.52, "measured")
    assert found.interval == wilson(20, 1000)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1])
def test_without_strangers_the_rate_of_a_threshold_is_the_encoders(rate):
    nobody = calibrated()
    assert nobody.at_tau(nobody.at(rate).tau).false_match_rate == pytest.approx(rate, rel=0.01)
    assert nobody.at_tau(nobody.at(rate).tau).method == "extrapolated"


@pytest.mark.parametrize(("tau", "bound"), [(0.0, "below 0.1 %"), (3.0, "above 10 %")])
def test_beyond_the_rates_that_are_stated_a_threshold_has_none(tau, bound):
    with pytest.raises(Unstated, match=f"false match rate {bound}"):
        calibrated().at_tau(tau)
    with pytest.raises(Unstated, match="the encoder's card has none"):
        calibrated(tail=None).at_tau(1.0)


def test_a_rate_of_which_nothing_was_counted_may_be_anything():
    assert calibrated().at(0.01).stated == "false match rate 1 % (extrapolated, 95 %: 0 to 100 %)"


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        ([0.5], ["match"]),
        ([1.1], ["lookalike"]),
        ([0.5, 0.7, 0.75], ["match", "lookalike", "lookalike"]),
        ([0.5, 0.55, 0.7], ["ambiguous", "ambiguous", "lookalike"]),
        ([0.98, 1.05], ["ambiguous", "lookalike"]),
    ],
)
def test_others_are_ambiguous_only_if_the_first_is(distances, expected):
    ranks = range(1, len(distances) + 1)
    assert [str(ranked_verdict(rank, distances, TAU)) for rank in ranks] == expected
