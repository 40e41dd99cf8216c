"""The worth of further photos, against a plain statement of what is measured."""

import dataclasses

import fakes
import numpy as np
import pytest

from celebface.indexing import enrolment
from celebface.indexing.enrolment import Draw, TooFewPhotos

RATES = [0.01, 0.1, 0.5]


def squared(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.square(first.astype(np.float64) - second).sum())


def slow_judgement(vectors, drawn: Draw, count: int, rates) -> tuple[float, list[float]]:
    """Rank-1 and VAL, one probe and one person after the other."""
    right, genuine, impostor = 0, [], []
    for row, owner in zip(drawn.probes, drawn.owners, strict=True):
        near = [min(squared(vectors[row], vectors[other]) for other in rows[:count]) for rows in drawn.enrolled]
        rivals = [distance for subject, distance in enumerate(near) if subject != owner]
        strangers = [squared(vectors[row], vectors[other]) for other in drawn.others]
        right += near[owner] < min(rivals + strangers)
        genuine.append(near[owner])
        impostor += rivals
    vals = []
    for rate in rates:
        accepted = [tau for tau in genuine if sum(other <= tau for other in impostor) <= rate * len(impostor)]
        vals.append(len(accepted) / len(genuine))
    return right / len(drawn.probes), vals


# --- people -----------------------------------------------------------------------------------------------------------


def test_rows_are_those_of_each_person_by_name_and_repeats_are_left_out():
    vectors = fakes.unit_vectors(6, 4)
    vectors[4] = vectors[1]  # Bob's photo again
    vectors[5] = vectors[0]  # the same as Cid's, but Bob's
    people = np.array(["Cid", "Bob", "Ann", "Cid", "Bob", "Bob"])
    assert [rows.tolist() for rows in enrolment.rows_of_people(vectors, people)] == [[2], [1, 5], [0, 3]]


def test_no_photos_are_of_nobody():
    assert enrolment.rows_of_people(np.empty((0, 4), np.float32), np.array([], "U1")) == []


@pytest.mark.parametrize(
    ("sizes", "most", "said"),
    [
        ([], 1, "have 0 and 0"),
        ([9], 1, "two people with 2 photos or more; the two with most have 9 and 0"),
        ([3, 1, 9, 3], 3, "two people with 4 photos or more; the two with most have 9 and 3"),
    ],
)
def test_too_few_photos_are_said_to_be_that(sizes, most, said):
    with pytest.raises(TooFewPhotos, match=said):
        enrolment.check_enough(sizes, most)


def test_two_people_are_enough():
    enrolment.check_enough([1, 4, 4], 3)


# --- draws ------------------------------------------------------------------------------------------------------------


def rows_of(*sizes: int) -> list[np.ndarray]:
    return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])


@pytest.mark.parametrize("seed", range(5))
def test_a_draw_enrols_some_photos_and_probes_with_others(seed):
    people = rows_of(3, 1, 4, 30, 2)
    drawn = enrolment.draw(people, 2, np.random.default_rng(seed))
    assert drawn.enrolled.shape == (3, 2)
    for subject, number in enumerate((0, 2, 3)):
        mine = drawn.probes[drawn.owners == subject]
        assert len(mine) == min(len(people[number]) - 2, enrolment.MOST_PROBES)
        assert len({*mine, *drawn.enrolled[subject]} & {*people[number]}) == len(mine) + 2  # none twice
    assert len(drawn.others) == 2 and drawn.others[0] == 3 and drawn.others[1] in people[4]


def test_all_photos_are_drawn_in_turn():
    random = np.random.default_rng(0)
    draws = [enrolment.draw(rows_of(3, 3, 2), 2, random) for _ in range(50)]
    for place in (0, 1):
        assert {int(drawn.enrolled[0, place]) for drawn in draws} == {0, 1, 2}
    assert {int(drawn.others[0]) for drawn in draws} == {6, 7}


def test_those_beyond_the_most_subjects_are_others(monkeypatch):
    monkeypatch.setattr(enrolment, "MOST_SUBJECTS", 2)
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        drawn = enrolment.draw(rows_of(2, 2, 2, 2), 1, random)
        people = [int(row) // 2 for row in (*drawn.enrolled[:, 0], *drawn.others)]
        assert sorted(people) == [0, 1, 2, 3] and (drawn.probes // 2).tolist() == people[:2]
        seen.add(tuple(people[:2]))
    assert len(seen) == 6


# --- judgement --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rows", [4, 256])
def test_judgement(seed, rows, monkeypatch):
    monkeypatch.setattr(enrolment, "_ROWS", rows)
    vectors, people = fakes.crowds([9, 7, 6, 5, 4, 2, 1, 1, 1], 4, spread=0.8, seed=seed)
    found = enrolment.rows_of_people(vectors, np.array(people))
    drawn = enrolment.draw(found, 3, np.random.default_rng(seed))
    judged = enrolment.judge(vectors, drawn, [1, 3], RATES)
    for (right, at_rates), count in zip(judged, (1, 3), strict=True):
        slow_right, slow_rates = slow_judgement(vectors, drawn, count, RATES)
        assert right == pytest.approx(slow_right)
        assert [each.true_match_rate for each in at_rates] == pytest.approx(slow_rates)
        assert 0 < right < 1  # else nothing is shown


def towards(*degrees: float) -> np.ndarray:
    """Unit vectors of the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_a_second_photo_that_is_nearer_is_what_counts():
    """Ann's first photo is far from her probe, her second near; Bob's are near his own."""
    vectors = towards(120, 10, 0, 40, 42, 41)
    drawn = Draw(np.array([[0, 1], [3, 4]]), np.array([2, 5]), np.array([0, 1]), np.array([], np.int64))
    judged = enrolment.judge(vectors, drawn, [1, 2], [0.5])
    assert [right for right, _ in judged] == [0.5, 1.0]
    assert [rates[0].true_match_rate for _, rates in judged] == [0.5, 1.0]


def test_others_take_part_in_the_search_but_not_in_the_claims():
    vectors = towards(10, 0, 90, 91, 1)
    drawn = Draw(np.array([[0], [2]]), np.array([1, 3]), np.array([0, 1]), np.array([4]))
    ((right, rates),) = enrolment.judge(vectors, drawn, [1], [0.5])
    assert right == 0.5  # the other is nearer to Ann's probe than Ann
    assert rates[0].true_match_rate == 1.0


def test_a_rival_as_near_is_an_error():
    vectors = towards(0, 0, 0, 0)
    drawn = Draw(np.array([[0], [1]]), np.array([2, 3]), np.array([0, 1]), np.array([], np.int64))
    assert enrolment.judge(vectors, drawn, [1], [])[0][0] == 0


# --- the whole --------------------------------------------------------------------------------------------------------


def crowd(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    vectors, people = fakes.crowds([12] * 8 + [3] * 5, 8, spread=0.9, seed=seed)
    return vectors, np.array(people)


def test_the_curve_is_the_mean_of_its_draws():
    vectors, people = crowd()
    found = enrolment.measure(vectors, people, (1, 4), [0.01, 0.1], seed=3)
    assert (found.subjects, found.others, found.probes) == (8, 5, 8 * 5 * enrolment.DRAWS)
    assert (found.draws, found.seed, found.repeats) == (10, 3, 0)
    random = np.random.default_rng(3)
    rows = enrolment.rows_of_people(vectors, people)
    judged = [slow_judgement(vectors, enrolment.draw(rows, 4, random), 4, [0.1]) for _ in range(enrolment.DRAWS)]
    last = found.points[1]
    assert last.enrolled == 4
    ranks, vals = [right for right, _ in judged], [rates[0] for _, rates in judged]
    assert dataclasses.astuple(last.rank_one) == pytest.approx((np.mean(ranks), np.std(ranks)))
    assert last.verified[1].false_match_rate == 0.1
    assert dataclasses.astuple(last.verified[1].true_match_rate) == pytest.approx((np.mean(vals), np.std(vals)))
    assert found.points[0].rank_one.mean < last.rank_one.mean


def test_the_same_seed_gives_the_same_and_another_does_not():
    first, again, other = (enrolment.measure(*crowd(), (1, 2), [0.1], seed=seed) for seed in (1, 1, 2))
    assert first == again and first.points != other.points


def test_fewer_counts_of_the_same_most_change_nothing():
    all_of, some = (enrolment.measure(*crowd(), counts, [0.1], seed=1) for counts in ((1, 2, 3), (2, 3)))
    assert all_of.points[1:] == some.points


def test_a_rate_that_so_few_claims_cannot_show_is_left_out():
    vectors, people = fakes.crowds([6, 6, 6], 8, spread=0.5)  # 15 probes, 30 false claims
    found = enrolment.measure(vectors, np.array(people), (1,), [0.01, 1 / 30, 0.5], seed=1)
    assert [each.false_match_rate for each in found.points[0].verified] == [1 / 30, 0.5]


def test_photos_that_lie_there_twice_do_not_count():
    vectors, people = fakes.crowds([3, 3], 8, spread=0.5)
    with pytest.raises(TooFewPhotos, match="have 3 and 3"):
        enrolment.measure(np.repeat(vectors, 2, axis=0), np.repeat(people, 2), (3,), [], seed=1)
    found = enrolment.measure(np.repeat(vectors, 2, axis=0), np.repeat(people, 2), (2,), [], seed=1)
    assert (found.repeats, found.probes) == (6, 2 * enrolment.DRAWS)
