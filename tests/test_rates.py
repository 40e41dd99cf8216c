"""Intervals of shares, and the lower end of an encoder's distances."""

import math
import statistics

import fakes
import pytest

from celebface.indexing import rates
from celebface.indexing.rates import Tail


@pytest.mark.parametrize(("found", "trials"), [(16, 1664), (1, 10), (3, 4), (2.5, 7.5)])
def test_the_ends_of_an_interval_are_what_the_share_is_just_compatible_with(found, trials):
    for end in rates.wilson(found, trials):
        assert abs(found / trials - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / trials), rel=1e-5)


def test_none_and_all_of_few():
    low, high = rates.wilson(0, 5)
    assert (low, high) == (0.0, pytest.approx(0.434482, abs=1e-5))
    assert rates.wilson(5, 5) == (pytest.approx(1 - high), 1.0)


def test_without_trials_a_share_may_be_anything():
    assert rates.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("found", "chance"), [(0, 1.0), (1, 1 - 0.99**10), (2, 1 - 0.99**10 - 10 * 0.01 * 0.99**9)])
def test_the_chance_of_so_many_or_more(found, chance):
    assert rates.at_least(found, 10, 0.01) == pytest.approx(chance)


def test_a_rate_against_many_people_and_back():
    assert rates.against_people(1e-3, 1000) == pytest.approx(1 - 0.999**1000)
    assert rates.against_people(1.0, 3) == 1.0
    assert rates.for_each_person(rates.against_people(1e-6, 5000), 5000) == pytest.approx(1e-6)


def test_several_faces_of_a_person_count_as_fewer_people():
    assert rates.comparisons([1, 1, 1]) == 3
    assert rates.comparisons([32]) == pytest.approx(8.0, abs=0.1)


def test_the_tail_passes_through_the_encoders_points():
    tail = Tail.through(fakes.POINTS[::-1], "LFW")
    assert [tail.tau(point["false_match_rate"], 1) for point in fakes.POINTS] == pytest.approx([1.02, 1.29])
    assert tail.evidence == "LFW"
    assert tail.tau(0.01, 1) > tail.tau(0.01, 5) > tail.tau(0.01, 400)
    single = 1 - (1 - 0.01) ** (1 / 400)
    assert tail.tau(0.01, 400) == pytest.approx(statistics.NormalDist(tail.mean, tail.deviation).inv_cdf(single))


@pytest.mark.parametrize(
    "points",
    [[], fakes.POINTS[:1], [fakes.POINTS[0]] * 2, [{"tau": 1.3, "false_match_rate": 1e-3}, fakes.POINTS[1]]],
    ids=["none", "one", "one twice", "falling"],
)
def test_points_that_determine_no_tail(points):
    assert Tail.through(points, "LFW") is None


@pytest.mark.parametrize("people", [1, 5, 400])
def test_the_rate_of_a_threshold_is_that_which_it_was_chosen_for(people):
    tail = Tail.through(fakes.POINTS, "LFW")
    for rate in (0.001, 0.01, 0.1):
        assert tail.rate(tail.tau(rate, people), people) == pytest.approx(rate)
