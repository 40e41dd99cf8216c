import copy
import importlib.resources
import io
import pickle

import images
import joblib
import mtcnn as package
import numpy as np
import pytest
from PIL import Image

from celebface.models import mtcnn
from celebface.models.faces import DetectorConfig
from celebface.models.mtcnn import Detections, FaceDetector
from celebface.models.quiet_tensorflow import tf

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(DetectorConfig())


@pytest.fixture(scope="module")
def photos(probes) -> list[np.ndarray]:
    """A dozen photos of several sizes, one of them with three faces."""
    paths = [path for person in sorted(probes.iterdir()) for path in sorted(person.glob("*.jpg"))[:2]]
    crowd = next(probes.glob("jerry_seinfeld/*brianwilliams*.jpg"))
    return [np.asarray(Image.open(path).convert("RGB")) for path in [*paths, crowd]]


@pytest.fixture(scope="module")
def alone(detector, photos) -> list[Detections]:
    """The faces of each photo, detected by itself."""
    return [detector.detect([photo], [20])[0] for photo in photos]


def same(found: Detections, expected: Detections) -> bool:
    return (
        np.array_equal(found.boxes, expected.boxes)
        and np.array_equal(found.confidence, expected.confidence)
        and np.array_equal(found.landmarks, expected.landmarks)
    )


def overlap(a, b) -> float:
    """Intersection over union."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(across, 0) * max(down, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


# --- what is found ----------------------------------------------------------------------------------------------------


def test_the_faces_are_those_of_the_package(photos, alone):
    theirs = package.MTCNN()
    compared = 0
    for photo, ours in zip(photos, alone, strict=True):
        expected = theirs.detect_faces(photo, box_format="xyxy")
        assert len(ours.boxes) == len(expected)
        for face in expected:
            box = np.array(face["box"])
            row = int(np.argmax([overlap(box, mine) for mine in ours.boxes]))
            assert overlap(box, ours.boxes[row]) >= (0.9 if min(box[2:] - box[:2]) >= 40 else 0.8)
            assert ours.confidence[row] == pytest.approx(face["confidence"], abs=0.02)
            points = np.array([face["keypoints"][name] for name in LANDMARKS])
            assert np.abs(ours.landmarks[row] - points).max() <= 2  # theirs are whole pixels
            compared += 1
    assert compared >= len(photos) + 2


def test_landmarks_lie_as_in_a_face(alone):
    for found in alone:
        for box, (left_eye, right_eye, nose, left_mouth, right_mouth) in zip(found.boxes, found.landmarks, strict=True):
            assert left_eye[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
            assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
            assert (box[:2] < nose).all() and (nose < box[2:]).all()


def test_faces_come_largest_first(alone):
    areas = [np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1) for found in alone]

    assert max(len(area) for area in areas) == 3
    for area in areas:
        assert np.array_equal(area, np.sort(area)[::-1])


def test_boxes_lie_within_the_photo(detector, photos, alone):
    # Cut through the face, so that its box would reach over each edge in turn.
    x0, y0, x1, y1 = alone[0].boxes[0].astype(int)
    middle, level = (x0 + x1) // 2, (y0 + y1) // 2
    parts = [photos[0][:, middle - 10 :], photos[0][:, : middle + 10], photos[0][level - 20 :], photos[0][: level + 30]]
    found = detector.detect(parts, [20] * len(parts))

    assert sum(len(faces.boxes) for faces in found) > 0
    for photo, faces in zip([*photos, *parts], [*alone, *found], strict=True):
        height, width = photo.shape[:2]
        assert (faces.boxes >= 0).all()
        assert (faces.boxes <= (width - 1, height - 1, width - 1, height - 1)).all()


def test_results_have_their_types(alone):
    for found in alone:
        count = len(found.boxes)
        assert (found.boxes.dtype, found.boxes.shape) == (np.float32, (count, 4))
        assert (found.confidence.dtype, found.confidence.shape) == (np.float32, (count,))
        assert (found.landmarks.dtype, found.landmarks.shape) == (np.float32, (count, 5, 2))
        assert (found.confidence > 0.8).all() and (found.confidence <= 1).all()


@pytest.mark.parametrize("size", [(200, 150), (20, 20), (12, 300), (700, 20)])
def test_a_photo_without_faces_gives_empty_arrays(detector, size):
    found = detector.detect([np.asarray(images.plain(*size))], [20])[0]

    assert (found.boxes.dtype, found.boxes.shape) == (np.float32, (0, 4))
    assert (found.confidence.dtype, found.confidence.shape) == (np.float32, (0,))
    assert (found.landmarks.dtype, found.landmarks.shape) == (np.float32, (0, 5, 2))


def test_no_photos_give_no_results(detector):
    assert detector.detect([], []) == []


def test_each_photo_needs_its_smallest_face(detector):
    with pytest.raises(ValueError, match="shorter"):
        detector.detect([np.asarray(images.plain(50, 50))] * 2, [20])


def test_faces_much_smaller_than_asked_for_are_not_looked_for(detector, photos, alone):
    sides = [found.boxes[0, 2] - found.boxes[0, 0] for found in alone]
    small = int(np.argmin(sides))

    assert len(detector.detect([photos[small]], [sides[small] * 2.5])[0].boxes) == 0
    assert overlap(detector.detect([photos[small]], [sides[small] * 0.8])[0].boxes[0], alone[small].boxes[0]) > 0.8


def test_the_least_confidence_is_held(photos, alone):
    strict = 0.9995
    sure = [(found.confidence > strict).sum() for found in alone]
    assert sum(sure) < sum(len(found.boxes) for found in alone)

    found = FaceDetector(DetectorConfig(min_confidence=strict)).detect(photos, [20] * len(photos))
    assert [len(faces.boxes) for faces in found] == sure


# --- neighbours -------------------------------------------------------------------------------------------------------


def test_a_photo_does_not_depend_on_its_neighbours(detector, photos, alone):
    others = [np.asarray(images.plain(300, 300)), images.noise(12, 300)]  # the second too narrow for any face
    order = np.random.default_rng(3).permutation(len(photos))
    batch = [others[0], *(photos[i] for i in order), others[1]]

    found = detector.detect(batch, [20] * len(batch))
    assert len(found) == len(batch)
    assert len(found[0].boxes) == len(found[-1].boxes) == 0
    for position, i in enumerate(order):
        assert same(found[position + 1], alone[i])


def test_copies_of_a_photo_give_the_same_faces(detector, photos, alone):
    crowd = len(photos) - 1

    for found in detector.detect([photos[crowd]] * 9, [20] * 9):
        assert same(found, alone[crowd])


def test_smallest_faces_may_differ_within_a_batch(detector, photos):
    batch, sizes = [photos[0], photos[0], photos[1], photos[2]], [20, 41, 30, 20]

    for photo, size, found in zip(batch, sizes, detector.detect(batch, sizes), strict=True):
        assert same(found, detector.detect([photo], [size])[0])


@pytest.mark.parametrize(
    "bounds",
    [{"_PIXELS_PER_RUN": 1}, {"_PIXELS_PER_RUN": 200_000}, {"_PATCH_RUNS": (4, 16)}],
    ids=["photo by photo", "few photos", "few patches"],
)
def test_the_size_of_runs_changes_nothing(detector, photos, alone, bounds, monkeypatch):
    for name, value in bounds.items():
        monkeypatch.setattr(mtcnn, name, value)

    for found, expected in zip(detector.detect(photos, [20] * len(photos)), alone, strict=True):
        assert same(found, expected)


def test_the_work_on_a_photo_full_of_texture_is_bounded(detector, monkeypatch):
    texture = np.asarray(images.scenery(300, 300, detail=100))
    refined = []
    cut = mtcnn._cut_patches

    def counting(run, faces, side):
        refined.append((side, len(faces)))
        return cut(run, faces, side)

    monkeypatch.setattr(mtcnn, "_cut_patches", counting)
    detector.detect([texture, texture], [20, 20])
    assert sum(count for side, count in refined if side == 24) > 100

    refined.clear()
    monkeypatch.setattr(mtcnn, "_MOST_BOXES", 5)
    monkeypatch.setattr(mtcnn, "_PATCH_RUNS", (4, 7))
    detector.detect([texture, texture], [20, 20])
    assert 0 < sum(count for side, count in refined if side == 24) <= 2 * 5
    assert max(count for _, count in refined) <= 7


def test_a_crowd_passes_in_pieces(detector, photos, alone, monkeypatch):
    # More boxes in one run of photos than the networks take together.
    copies = [photos[0]] * 12
    pieces = []
    cut = mtcnn._cut_patches

    def counting(run, faces, side):
        pieces.append(len(faces))
        return cut(run, faces, side)

    monkeypatch.setattr(mtcnn, "_PATCH_RUNS", (4, 10))
    monkeypatch.setattr(mtcnn, "_cut_patches", counting)
    for found in detector.detect(copies, [20] * len(copies)):
        assert same(found, alone[0])
    assert max(pieces) == 10


def test_a_face_within_a_face_is_one(detector):
    # An O-Net that is sure of all it sees: which faces are left is then a matter of how they lie.
    sure = copy.copy(detector)
    sure._onet = lambda patches: [
        tf.ones([len(patches), width]) * value for width, value in ((4, 0), (10, 0.5), (2, 0.9))
    ]
    runs = mtcnn._runs([images.noise(300, 200)], [20])
    inner, outer, beside = [40, 40, 80, 80], [10, 10, 110, 110], [105, 10, 205, 110]
    faces = np.array([[0, *box, 0.9] for box in (inner, outer, beside)], np.float32)

    [found] = sure._output(runs, faces, [(200, 300)])
    assert found.boxes.tolist() == [outer, beside]


# --- its parts --------------------------------------------------------------------------------------------------------


def slow_survivors(boxes, threshold, of_smaller) -> list[int]:
    kept = []
    for i, a in enumerate(boxes):
        gone = False
        for b in boxes[:i]:
            shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
            areas = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
            whole = min(areas) if of_smaller else sum(areas) - shared
            gone = gone or shared > threshold * whole
        if not gone:
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("of_smaller", [False, True])
def test_survivors_are_as_a_slow_loop_has_them(threshold, of_smaller):
    rng = np.random.default_rng(4)
    kept = 0
    counts = (0, 1, 2, 5, 40, 90)
    for count in counts:
        corner = rng.uniform(0, 60, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (count, 2))], axis=1)
        expected = slow_survivors(boxes.tolist(), threshold, of_smaller)
        assert mtcnn._survivors(boxes, threshold, of_smaller).tolist() == expected
        kept += len(expected)
    assert 5 < kept < sum(counts)


def test_a_box_goes_even_if_the_better_one_went_too():
    # Each overlaps the one before it by three quarters, the first and the last do not touch by half.
    boxes = np.array([[0, 0, 100, 10], [25, 0, 125, 10], [50, 0, 150, 10]], float)

    assert mtcnn._survivors(boxes, 0.5).tolist() == [0]


def test_a_box_goes_above_the_threshold_not_at_it():
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], float)

    assert mtcnn._survivors(boxes, 0.5).tolist() == [0, 1]
    assert mtcnn._survivors(boxes, 0.49).tolist() == [0]


def test_runs_hold_photos_of_one_size_and_few_pixels(monkeypatch):
    monkeypatch.setattr(mtcnn, "_PIXELS_PER_RUN", 2500)
    small, large = images.noise(30, 40), images.noise(100, 60)

    runs = mtcnn._runs([small, large, small, small, large, small], [20, 20, 21, 22, 20, 40])
    assert [(run.images, run.min_face) for run in runs] == [([0, 2], 20), ([3], 20), ([1], 20), ([4], 20), ([5], 40)]
    assert [run.batch.shape.as_list() for run in runs[:3]] == [[2, 40, 30, 3], [1, 40, 30, 3], [1, 60, 100, 3]]


@pytest.mark.parametrize(
    ("height", "width", "min_face", "levels"), [(12, 12, 12, 1), (100, 60, 20, 4), (19, 500, 20, 0), (20, 500, 20, 1)]
)
def test_the_pyramid_ends_where_the_window_fills_the_photo(height, width, min_face, levels):
    scales = mtcnn._pyramid(height, width, min_face)

    assert len(scales) == levels
    assert scales == tuple(pytest.approx(12 / min_face * 0.709**level) for level in range(levels))
    assert all(min(height, width) * scale >= 12 for scale in scales)


# --- weights ----------------------------------------------------------------------------------------------------------


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def test_weights_with_code_are_refused_unread(tmp_path, monkeypatch):
    stream = io.BytesIO()
    joblib.dump(Payload(tmp_path / "executed"), stream)
    pickle.loads(stream.getvalue()).close()
    (tmp_path / "executed").unlink()  # the payload works
    (tmp_path / "pnet.lz4").write_bytes(stream.getvalue())
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)

    with pytest.raises(RuntimeError, match=r"unknown pnet\.lz4; celebface needs mtcnn 1\.0\.0"):
        FaceDetector(DetectorConfig())
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("asset", ["pnet.lz4", "rnet.lz4", "onet.lz4"])
def test_all_three_networks_are_checked(asset, monkeypatch):
    monkeypatch.setitem(mtcnn._WEIGHTS_SHA256, asset, "0" * 64)

    with pytest.raises(RuntimeError, match=f"unknown {asset}"):
        FaceDetector(DetectorConfig())
