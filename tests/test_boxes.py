import numpy as np
import pytest

from celebface.models import boxes as arithmetic
from celebface.models.boxes import best_first, corrected, squared, survivors


def boxes_at_random(count: int, seed: int = 0) -> np.ndarray:
    """float64 [N, 4] within 120 pixels, so that many overlap; some without area, some inside out."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    span = rng.uniform(5, 60, (count, 2))
    span[rng.random(count) < 0.05] *= (0, 1)
    span[rng.random(count) < 0.05] *= -0.2
    return np.concatenate([corner, corner + span], axis=1)


def overlaps(better, worse, threshold: float, of_smaller: bool) -> bool:
    across = min(better[2], worse[2]) - max(better[0], worse[0])
    down = min(better[3], worse[3]) - max(better[1], worse[1])
    shared = max(across, 0) * max(down, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (worse, better)]
    return shared > threshold * (min(areas) if of_smaller else sum(areas) - shared)


def slow_survivors(boxes, groups, threshold: float, of_smaller: bool) -> list[int]:
    """Each box against each better one of its group, whether that one stays or not."""
    return [
        row
        for row, (box, group) in enumerate(zip(boxes, groups, strict=True))
        if not any(
            groups[other] == group and overlaps(boxes[other], box, threshold, of_smaller) for other in range(row)
        )
    ]


# --- survivors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("of_smaller", [False, True])
def test_survivors_are_as_a_slow_loop_has_them(threshold, of_smaller):
    kept, counts = 0, (0, 1, 2, 5, 40, 90)
    for seed, count in enumerate(counts):
        boxes = boxes_at_random(count, seed)
        groups = np.zeros(count, np.int64)
        expected = slow_survivors(boxes.tolist(), groups.tolist(), threshold, of_smaller)
        assert survivors(boxes, groups, threshold, of_smaller).tolist() == expected
        kept += len(expected)
    assert 5 < kept < sum(counts)


@pytest.mark.parametrize("of_smaller", [False, True])
def test_boxes_meet_only_those_of_their_group(of_smaller):
    rng = np.random.default_rng(1)
    boxes = boxes_at_random(300, 1)
    groups = np.sort(rng.choice([0, 1, 4, 5, 9, 1000], 300, p=[0.5, 0.3, 0.1, 0.05, 0.04, 0.01]))

    found = survivors(boxes, groups, 0.4, of_smaller).tolist()
    assert found == slow_survivors(boxes.tolist(), groups.tolist(), 0.4, of_smaller)
    alone = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    assert found == [row for rows in alone for row in rows[survivors(boxes[rows], groups[rows], 0.4, of_smaller)]]
    assert len(found) > len(survivors(boxes, np.zeros(300, int), 0.4, of_smaller))  # groups make a difference here


def test_the_same_box_in_each_of_many_groups_stays():
    boxes = np.tile([10.0, 10, 50, 50], (7, 1))

    assert survivors(boxes, np.arange(7), 0.5).tolist() == list(range(7))
    assert survivors(boxes, np.zeros(7, int), 0.5).tolist() == [0]


def test_a_box_goes_even_if_the_better_one_went_too():
    # Each overlaps the one before it by three quarters, the first and the last do not touch by half.
    boxes = np.array([[0, 0, 100, 10], [25, 0, 125, 10], [50, 0, 150, 10]], float)

    assert survivors(boxes, np.zeros(3, int), 0.5).tolist() == [0]


def test_a_box_far_down_the_order_meets_the_best():
    # Between the first and its copy lie boxes that touch neither.
    apart = np.arange(1, 60)[:, None] * 100.0 + np.array([0, 0, 40, 40])
    boxes = np.concatenate([[[0, 0, 40, 40]], apart, [[0, 0, 40, 40]]])

    assert survivors(boxes, np.zeros(61, int), 0.5).tolist() == list(range(60))


def test_a_box_goes_above_the_threshold_not_at_it():
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], float)

    assert survivors(boxes, np.zeros(2, int), 0.5).tolist() == [0, 1]
    assert survivors(boxes, np.zeros(2, int), 0.49).tolist() == [0]


def test_a_box_within_another_goes_by_the_smaller_alone():
    boxes = np.array([[0, 0, 100, 100], [40, 40, 60, 60], [90, 90, 110, 110]], float)

    assert survivors(boxes, np.zeros(3, int), 0.7).tolist() == [0, 1, 2]
    assert survivors(boxes, np.zeros(3, int), 0.7, of_smaller=True).tolist() == [0, 2]


@pytest.mark.parametrize("of_smaller", [False, True])
def test_no_boxes_have_no_survivors(of_smaller):
    found = survivors(np.empty((0, 4), np.float32), np.empty(0, np.int64), 0.5, of_smaller)

    assert found.shape == (0,) and found.dtype.kind == "i"


# --- order ------------------------------------------------------------------------------------------------------------


def test_the_order_is_group_then_score_then_place():
    boxes = np.array([[5, 9, 0, 0], [7, 3, 0, 0], [2, 3, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], np.float32)
    scores = np.array([0.5, 0.5, 0.5, 0.4, 0.9, 0.1], np.float32)
    groups = np.array([1, 1, 1, 1, 1, 0])

    assert best_first(boxes, scores, groups).tolist() == [5, 4, 2, 1, 0, 3]


def test_the_order_does_not_depend_on_that_of_the_input():
    rng = np.random.default_rng(2)
    boxes = boxes_at_random(500, 2).astype(np.float32)
    scores = rng.choice(np.array([0.6, 0.7, 0.9, 1.0], np.float32), 500)  # hundreds of equals
    groups = rng.integers(0, 5, 500)
    expected = boxes[best_first(boxes, scores, groups)]

    for _ in range(5):
        mixed = rng.permutation(500)
        order = best_first(boxes[mixed], scores[mixed], groups[mixed])
        assert np.array_equal(boxes[mixed][order], expected)


def test_only_so_many_of_a_group_take_part(monkeypatch):
    rng = np.random.default_rng(3)
    boxes, scores = boxes_at_random(100, 3), rng.random(100)
    groups = rng.choice([0, 1, 2], 100, p=[0.6, 0.35, 0.05])
    everything = best_first(boxes, scores, groups)
    assert sorted(everything.tolist()) == list(range(100))

    monkeypatch.setattr(arithmetic, "MOST_IN_GROUP", 20)
    expected = [everything[groups[everything] == group][:20] for group in range(3)]
    assert [len(rows) for rows in expected][:2] == [20, 20] and 0 < len(expected[2]) < 20
    assert best_first(boxes, scores, groups).tolist() == np.concatenate(expected).tolist()


def test_a_group_is_bounded_from_the_start():
    count = arithmetic.MOST_IN_GROUP + 10
    scores = np.linspace(0, 1, count)

    order = best_first(np.zeros((count, 4)), scores, np.zeros(count, int))
    assert order.tolist() == list(range(count - 1, 9, -1))
    assert 1_960 < arithmetic.MOST_IN_GROUP < 10_000  # a crowd's windows have room, and the work stays bounded


def test_no_boxes_have_no_order():
    assert best_first(np.empty((0, 4)), np.empty(0), np.empty(0, int)).shape == (0,)


# --- corrections ------------------------------------------------------------------------------------------------------


def test_offsets_are_shares_of_whole_pixels():
    boxes = np.array([[10, 20, 29, 59], [0, 0, 9, 9]], float)  # 20 by 40 pixels, 10 by 10
    offsets = np.array([[0.1, 0.1, -0.1, -0.2], [-0.5, 0, 0, 0.3]])

    assert np.allclose(corrected(boxes, offsets), [[12, 24, 27, 51], [-5, 0, 9, 12]])
    assert np.array_equal(corrected(boxes, np.zeros((2, 4))), boxes)
    assert corrected(np.empty((0, 4), np.float32), np.empty((0, 4), np.float32)).shape == (0, 4)


def test_squares_have_the_longer_side_and_the_same_centre():
    boxes = np.array([[0, 0, 10, 30], [5, 5, 25, 15], [1, 1, 4, 4]], float)

    assert np.allclose(squared(boxes), [[-10, 0, 20, 30], [5, 0, 25, 20], [1, 1, 4, 4]])
    assert squared(np.empty((0, 4), np.float32)).shape == (0, 4)
    assert squared(boxes.astype(np.float32)).dtype == np.float32
