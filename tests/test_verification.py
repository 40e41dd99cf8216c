"""The measures of the LFW protocol, each against a plain statement of what it measures."""

import itertools
import math

import fakes
import numpy as np
import pytest

from celebface.indexing import verification

SEEDS = range(8)
RATES = [0.0, 0.001, 0.01, 0.1, 0.29, 1 / 3, 0.5, 0.999]


def random_pairs(seed: int, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Distances of pairs, many of them equal and some without a face, and which pairs are of one person."""
    random = np.random.default_rng(seed)
    same = random.random(count) < 0.4
    distances = np.round(np.where(same, random.normal(0.7, 0.4, count), random.normal(1.4, 0.4, count)).clip(0, 4), 2)
    return np.where(random.random(count) < 0.05, np.nan, distances), same


def slow_accuracy(distances, same, tau: float) -> float:
    right = 0
    for distance, truth in zip(distances, same, strict=True):
        judged_same = not math.isnan(distance) and distance <= tau
        right += judged_same == truth
    return right / len(same)


def slow_best_tau(distances, same) -> float:
    """Tries a threshold in every gap, from the smallest."""
    levels = sorted({float(distance) for distance in distances if not math.isnan(distance)})
    gaps = [levels[0] / 2, *((low + high) / 2 for low, high in itertools.pairwise(levels)), levels[-1]]
    return max(gaps, key=lambda tau: (slow_accuracy(distances, same, tau), -tau))


def shares(distances, same, tau: float) -> tuple[float, float]:
    """False match rate and true match rate of a threshold."""
    matched = [not math.isnan(distance) and distance <= tau for distance in distances]
    false = [match for match, truth in zip(matched, same, strict=True) if not truth]
    true = [match for match, truth in zip(matched, same, strict=True) if truth]
    return sum(false) / len(false), sum(true) / len(true)


# --- accuracy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.02, 1.5, 4.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_accuracy(seed, tau):
    distances, same = random_pairs(seed)
    assert verification.accuracy(distances, same, tau) == pytest.approx(slow_accuracy(distances, same, tau), abs=1e-12)


def test_a_distance_of_tau_is_a_match_and_no_face_is_none():
    distances, same = np.array([1.0, 1.0, np.nan, np.nan]), np.array([True, False, True, False])
    assert [verification.accuracy(distances[[place]], same[[place]], 1.0) for place in range(4)] == [1, 0, 0, 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_best_tau(seed):
    distances, same = random_pairs(seed)
    assert verification.best_tau(distances, same) == slow_best_tau(distances, same)


@pytest.mark.parametrize(
    ("distances", "same", "tau"),
    [
        ([0.5, 1.5], [True, False], 1.0),
        ([0.5, 0.6, 1.4, 1.5], [True, True, False, False], 1.0),
        ([0.5, 1.5], [False, False], 0.25),
        ([0.5, 1.5], [True, True], 1.5),
        ([0.5, 1.0, 1.5, 2.0], [True, False, True, False], 0.75),
        ([0.5, math.nan, 1.5, math.nan], [True, True, False, False], 1.0),
        ([math.nan, math.nan], [True, False], 0.0),
    ],
    ids=["gap", "wide gap", "nobody", "everybody", "smallest of equals", "no faces", "no face at all"],
)
def test_best_tau_lies_in_the_middle_of_its_gap(distances, same, tau):
    assert verification.best_tau(np.array(distances), np.array(same)) == tau


@pytest.mark.parametrize("seed", SEEDS)
def test_cross_validated(seed):
    distances, same = random_pairs(seed)
    folds = np.random.default_rng(seed).permutation(np.arange(300) % 5)
    expected = []
    for fold in range(5):
        tau = slow_best_tau(distances[folds != fold], same[folds != fold])
        expected.append(slow_accuracy(distances[folds == fold], same[folds == fold], tau))
    assert verification.cross_validated(distances, same, folds) == pytest.approx(expected, abs=1e-12)


def test_a_fold_does_not_choose_its_own_threshold():
    distances = np.array([0.5, 1.5, 2.5, 3.5])
    same = np.array([True, False, True, False])
    folds = np.array([1, 1, 2, 2])  # each fold would be judged without a mistake by a threshold of its own
    assert verification.cross_validated(distances, same, folds).tolist() == [0.5, 0.5]


# --- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seed", SEEDS)
def test_true_match_rate_at(seed, rate, precision):
    distances, same = random_pairs(seed)
    distances = distances.astype(precision)
    at = verification.true_match_rate_at(distances, same, rate)
    false, true = shares(distances, same, precision(at.tau))
    assert at.false_match_rate == rate
    assert at.true_match_rate == pytest.approx(true, abs=1e-12)
    assert false <= rate
    just_above = np.nextafter(precision(at.tau), precision(5))  # a larger threshold would not keep the rate
    assert shares(distances, same, just_above)[0] > rate or not np.isfinite(distances[distances >= just_above]).any()


def test_the_rate_is_kept_with_as_many_false_matches_as_it_allows():
    distances = np.concatenate([np.arange(1, 101) / 100, [0.285, 0.295, 0.305]])
    same = np.arange(103) >= 100
    at = verification.true_match_rate_at(distances, same, 0.29)  # 29 of 100, though 0.29 * 100 < 29 in floats
    assert at.tau == math.nextafter(0.3, 0)
    assert at.true_match_rate == 2 / 3


def test_a_rate_of_nothing_excludes_two_names_for_one_photo():
    at = verification.true_match_rate_at(np.array([0.0, 1.0, 0.0]), np.array([False, False, True]), 0.0)
    assert at.tau < 0
    assert at.true_match_rate == 0


def test_a_rate_of_everything_takes_every_face():
    at = verification.true_match_rate_at(np.array([1.0, 3.0, 0.5, np.nan]), np.array([False, False, True, True]), 1.0)
    assert (at.tau, at.true_match_rate) == (3.0, 0.5)


@pytest.mark.parametrize("seed", SEEDS)
def test_area_under_curve(seed):
    distances, same = random_pairs(seed)
    ordered = [math.inf if math.isnan(distance) else distance for distance in distances]
    genuine = [distance for distance, truth in zip(ordered, same, strict=True) if truth]
    impostor = [distance for distance, truth in zip(ordered, same, strict=True) if not truth]
    nearer = sum((near < far) + (near == far) / 2 for near in genuine for far in impostor)
    expected = nearer / (len(genuine) * len(impostor))
    assert verification.area_under_curve(distances, same) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("distances", "area"), [([0.5, 1.5], 1.0), ([1.5, 0.5], 0.0), ([1.0, 1.0], 0.5), ([math.nan, 4.0], 0.0)]
)
def test_area_of_one_pair_each(distances, area):
    assert verification.area_under_curve(np.array(distances), np.array([True, False])) == area


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_error_rate(seed):
    distances, same = random_pairs(seed)
    errors = []
    for tau in sorted({float(distance) for distance in distances if not math.isnan(distance)}):
        false, true = shares(distances, same, tau)
        errors.append((false, 1 - true))
    expected = sum(min(errors, key=lambda pair: round(abs(pair[0] - pair[1]), 12))) / 2
    assert verification.equal_error_rate(distances, same) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("distances", "same", "rate"),
    [
        ([0.5, 1.5], [True, False], 0.0),
        ([1.5, 0.5], [True, False], 1.0),
        ([0.4, 1.2, 0.8, 1.6], [True, True, False, False], 0.5),
        ([math.nan, math.nan], [True, False], 0.5),
    ],
    ids=["told apart", "upside down", "one of two", "no face at all"],
)
def test_equal_error_rate_of_few_pairs(distances, same, rate):
    assert verification.equal_error_rate(np.array(distances), np.array(same)) == rate


# --- identification ---------------------------------------------------------------------------------------------------


def slow_rank_one(vectors: np.ndarray, people: list[str]) -> tuple[float, int, int]:
    enrolled: dict[str, np.ndarray] = {}
    probes = []
    for vector, person in zip(vectors.astype(np.float64), people, strict=True):
        if person in enrolled:
            probes.append((vector, person))
        else:
            enrolled[person] = vector
    right = 0
    for vector, person in probes:
        right += person == min(enrolled, key=lambda other: float(np.sum((enrolled[other] - vector) ** 2)))
    return right / len(probes), len(enrolled), len(probes)


@pytest.mark.parametrize("seed", range(3))
def test_rank_one(seed):
    vectors, people = fakes.crowds([9] * 30, 8, 0.5, seed)
    order = np.random.default_rng(seed).permutation(len(people))
    vectors, people = vectors[order], np.array(people)[order]
    share, enrolled, probes = verification.rank_one(vectors, people)
    assert (share, enrolled, probes) == slow_rank_one(vectors, people.tolist())
    assert 0.3 < share < 0.95  # neither too easy nor too hard to tell a mistake by


def test_rank_one_of_more_probes_than_are_looked_at_together():
    vectors, people = fakes.crowds([131] * 10, 8, 1.5)
    share, enrolled, probes = verification.rank_one(vectors, np.array(people))
    assert (share, enrolled, probes) == slow_rank_one(vectors, people)
    assert probes == 1300


def test_rank_one_without_probes_is_not_known():
    share, enrolled, probes = verification.rank_one(fakes.unit_vectors(3, 8), np.array(["ann", "bob", "eve"]))
    assert math.isnan(share)
    assert (enrolled, probes) == (3, 0)


# --- all pairs --------------------------------------------------------------------------------------------------------


def test_the_separation_of_people_is_that_of_all_their_pairs():
    """Of six people with 2 to 7 faces; the eighth and later faces would not be compared."""
    vectors, people = fakes.crowds([2, 3, 7, 1, 5, 4], 8, 0.7)
    who = np.unique(people, return_inverse=True)[1]
    pairs = [(i, j) for i in range(len(who)) for j in range(i)]
    distances = np.array([np.sum((vectors[i].astype(np.float64) - vectors[j]) ** 2) for i, j in pairs])
    same = np.array([who[i] == who[j] for i, j in pairs])
    found = verification.separation(vectors, who, [0.1, 0.01], most_faces=7)
    assert (found.people, found.faces, found.genuine, found.impostor) == (6, 22, same.sum(), (~same).sum())
    for rate in found.rates:
        expected = verification.true_match_rate_at(distances, same, rate.false_match_rate)
        assert rate.tau == pytest.approx(expected.tau, abs=1e-5)
        assert rate.true_match_rate == expected.true_match_rate
    assert found.auc == pytest.approx(verification.area_under_curve(distances, same))
    assert found.eer == pytest.approx(verification.equal_error_rate(distances, same))
    assert found.accuracy == pytest.approx(max(
        (np.mean(distances[same] <= tau) + np.mean(distances[~same] > tau)) / 2 for tau in distances
    ))  # fmt: skip
    assert (found.rank_one, found.probes) == (slow_rank_one(vectors, who.tolist())[0], 16)


def test_only_so_many_faces_of_a_person_are_compared():
    vectors, people = fakes.crowds([2, 9], 8, 0.7)
    who = np.unique(people, return_inverse=True)[1]
    found = verification.separation(vectors, who, [0.1], most_faces=3)
    first = np.concatenate([np.flatnonzero(who == person)[:3] for person in (0, 1)])
    first.sort()
    assert found == verification.separation(vectors[first], who[first], [0.1], most_faces=9)
    assert (found.faces, found.genuine, found.impostor) == (5, 4, 6)


@pytest.mark.parametrize("people", [[0, 1, 2], [0, 0, 0]])
def test_without_both_kinds_of_pairs_nothing_is_measured(people):
    with pytest.raises(ValueError, match="pair"):
        verification.separation(fakes.unit_vectors(3, 8), np.array(people), [0.1])


def test_the_best_threshold_counts_both_kinds_of_pairs_the_same_if_asked():
    """Ninety impostors at 1.0 and ten beyond, two of four genuine at 1.1: by number they are to be let go."""
    distances = np.array([0.1, 0.2, 1.1, 1.1, *[1.0] * 10, *[2.0] * 90])
    same = np.arange(len(distances)) < 4
    assert verification.best_tau(distances, same) == pytest.approx(0.6)
    assert verification.best_tau(distances, same, balanced=True) == pytest.approx(1.55)
