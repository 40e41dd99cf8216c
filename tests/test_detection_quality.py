"""The arithmetic of the detection quality benchmark, on boxes made by hand."""

import numpy as np
import pytest

from benchmarks import detection_quality
from benchmarks.detection_quality import Faces, Tally, compare

POINTS = np.array([[10, 10], [30, 10], [20, 20], [12, 30], [28, 30]], float)  # eyes 20 pixels apart


def faces(*boxes: tuple[float, float, float, float], shift: float = 0.0) -> Faces:
    corners = np.array(boxes, float).reshape(-1, 4)
    return Faces(corners, corners[:, None, :2] + POINTS + (shift, 0))


def test_overlap():
    boxes, others = np.array([[0, 0, 10, 10]]), np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10]])
    assert detection_quality.overlaps(boxes, others).tolist() == [[1.0, 50 / 150, 0.0]]


def test_each_box_goes_with_one_other_and_the_best_first():
    boxes = np.array([[0, 0, 100, 100], [10, 0, 110, 100]], float)
    others = np.array([[8, 0, 108, 100], [100, 0, 200, 100], [200, 0, 300, 100]], float)
    assert detection_quality.pairs(boxes, others) == {1: 0}  # and the first, which overlaps it by 0.85, with none


@pytest.mark.parametrize(
    ("moved", "found"), [((17, 0, 117, 100), 1), ((18, 0, 118, 100), 0)]
)  # IoU 83 / 117 = 0.709 and 82 / 118 = 0.695
def test_a_face_is_found_from_an_iou_of_0_7_on(moved, found):
    tally = compare(faces((0, 0, 100, 100)), faces(moved), 1000, "a")
    assert (tally.wanted, tally.found, tally.extra) == (1, found, 1 - found)
    assert len(tally.differing) == 2 * (1 - found)


def test_small_faces_do_not_count():
    theirs = faces((0, 0, 39, 100), (200, 0, 240, 40), (400, 0, 459, 59))
    assert compare(theirs, faces(), 1000, "a").wanted == 2
    assert compare(theirs, faces(), 2000, "a").wanted == 0  # 3 % are 60 pixels
    assert compare(faces(), theirs, 1000, "a").extra == 2


def test_a_face_that_is_just_too_small_for_one_side_is_neither_missed_nor_extra():
    small, large = faces((0, 0, 39.9, 40)), faces((0, 0, 40.1, 40))
    for theirs, ours, wanted in ((small, large, 0), (large, small, 1)):
        tally = compare(theirs, ours, 1000, "a")
        assert (tally.wanted, tally.found, tally.extra, tally.differing) == (wanted, wanted, 0, [])


def test_a_face_that_we_have_twice_is_extra():
    tally = compare(faces((0, 0, 100, 100)), faces((0, 0, 100, 100), (0, 0, 100, 99)), 1000, "a")
    assert (tally.found, tally.extra) == (1, 1)
    assert tally.differing == ["a: extra: 0 0 100 99"]


def test_errors_are_shares_of_the_distance_of_the_eyes():
    tally = compare(faces((0, 0, 100, 100)), faces((0, 0, 100, 100), shift=1.0), 1000, "a")
    assert np.concatenate(tally.errors).tolist() == pytest.approx([0.05] * 5)


def test_sums_and_percentiles():
    boxes = [(200 * number, 0, 200 * number + 100, 100) for number in range(10)]
    good = compare(faces(*boxes), faces(*boxes), 1000, "a")
    bad = compare(faces(boxes[0]), faces(boxes[0], boxes[5], shift=4.0), 1000, "b")
    tally = sum([good, bad], Tally())
    assert (tally.photos, tally.wanted, tally.found, tally.extra) == (2, 11, 11, 1)
    assert tally.found_share == 1.0 and tally.extra_share == pytest.approx(1 / 11)
    assert tally.error(50) == 0.0
    assert tally.error(95) == pytest.approx(0.2)  # of 55 points 5 are off by 0.2; the 95th percentile is among them
    assert tally.error(90) == 0.0
    assert [figure.cells()[2] for figure in detection_quality.figures(tally)] == ["yes", "NO", "NO", ""]
    assert not detection_quality.summary(tally)["met"]
    assert detection_quality.summary(tally)["differing"] == ["b: extra: 1000 0 1100 100"]


def test_no_faces_at_all():
    tally = compare(faces(), faces(), 1000, "a")
    assert (tally.wanted, tally.found, tally.extra, tally.error(95)) == (0, 0, 0, 0.0)


# --- the package's suppression ----------------------------------------------------------------------------------------


def boxes_of_one_photo(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    corner, side = random.uniform(0, 100, (count, 2)), random.uniform(10, 40, (count, 2))
    return np.column_stack([np.zeros(count), corner, corner + side, random.uniform(0.6, 1, count)])


@pytest.mark.parametrize("method", ["union", "min"])
@pytest.mark.parametrize("initial_sort", [True, False])
def test_suppression_is_that_of_all_boxes_by_all(method, initial_sort, monkeypatch):
    monkeypatch.setattr(detection_quality, "_AT_A_TIME", 16)
    boxes = boxes_of_one_photo(100, seed=4)
    stays = detection_quality.suppress(boxes, 0.4, method=method, initial_sort=initial_sort)
    ordered = boxes[np.argsort(boxes[:, 5])[::-1]] if initial_sort else boxes
    areas = (ordered[:, 3:5] - ordered[:, 1:3]).prod(axis=1)
    if method == "union":
        shares = detection_quality.overlaps(ordered[:, 1:5], ordered[:, 1:5])
    else:
        alike = detection_quality.overlaps(ordered[:, 1:5], ordered[:, 1:5])
        shared = alike * (areas[:, None] + areas[None]) / (1 + alike)
        shares = shared / np.minimum(areas[:, None], areas[None])
    expected = ordered[~np.triu(shares > 0.4, k=1).any(axis=0)]
    assert 10 < len(expected) < 90
    assert np.array_equal(stays, expected)


def test_suppression_of_nothing():
    assert detection_quality.suppress(np.empty((0, 6)), 0.5).shape == (0, 6)


def test_suppression_refuses_several_photos():
    boxes = boxes_of_one_photo(4, seed=4)
    boxes[2:, 0] = 1
    with pytest.raises(ValueError, match="one photo"):
        detection_quality.suppress(boxes, 0.5)
