import copy

import images
import numpy as np
import pytest
from PIL import Image

from celebface.models import boxes as arithmetic
from celebface.models import mtcnn
from celebface.models.faces import DetectorConfig
from celebface.models.mtcnn import Detections, FaceDetector, Picture
from celebface.models.quiet_tensorflow import tf

import mtcnn as package  # isort: skip  # after TensorFlow was loaded without its greetings
from mtcnn.stages import stage_pnet  # isort: skip
from mtcnn.utils import bboxes as package_boxes  # isort: skip

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(DetectorConfig())


@pytest.fixture(scope="module")
def quick() -> FaceDetector:
    return FaceDetector(DetectorConfig(), "bfloat16")


@pytest.fixture(scope="module")
def theirs() -> package.MTCNN:
    return package.MTCNN()


@pytest.fixture(scope="module")
def photos(probes) -> list[Image.Image]:
    """A dozen photos of several sizes, one of them with three faces."""
    paths = [path for person in sorted(probes.iterdir()) for path in sorted(person.glob("*.jpg"))[:2]]
    crowd = next(probes.glob("jerry_seinfeld/*brianwilliams*.jpg"))
    return [Image.open(path).convert("RGB") for path in [*paths, crowd]]


@pytest.fixture(scope="module")
def alone(detector, photos) -> list[Detections]:
    """The faces of each photo, detected by itself."""
    return [detector.detect([whole(photo)])[0] for photo in photos]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def either(request, detector, quick) -> FaceDetector:
    """The detector in each precision."""
    return {"float32": detector, "bfloat16": quick}[request.param]


@pytest.fixture(scope="module")
def each_alone(either, photos) -> list[Detections]:
    """The faces of each photo, detected by itself, in either precision."""
    return [either.detect([whole(photo)])[0] for photo in photos]


@pytest.fixture(scope="module")
def large(photos) -> Image.Image:
    """A photo larger than those that pass P-Net in one step, three faces on it."""
    scale = int(np.ceil((mtcnn._PIXELS_AT_ONCE / (photos[-1].width * photos[-1].height)) ** 0.5))
    image = photos[-1].resize((photos[-1].width * scale, photos[-1].height * scale + 1), Image.Resampling.BICUBIC)
    assert image.width * image.height > mtcnn._PIXELS_AT_ONCE
    return image


@pytest.fixture(scope="module")
def found_on_large(detector, large) -> Detections:
    """The faces of the large photo, which was scaled in two steps."""
    averaged = []
    average = mtcnn.average_rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mtcnn, "average_rows", lambda *args: averaged.append(1) or average(*args))
        [found] = detector.detect([whole(large)])
    assert averaged and len(found.boxes) >= 3
    return found


def whole(image: Image.Image, min_face: float = 20) -> Picture:
    """A photo decoded in full."""
    return Picture(image, image.width, image.height, min_face)


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


def nearest(box: np.ndarray, found: Detections) -> int:
    """The face whose box lies most as this one does."""
    return int(np.argmax([overlap(box, mine) for mine in found.boxes]))


def of_the_package(theirs: package.MTCNN, image: Image.Image) -> Detections:
    """What the package finds, in its order.

    P-Net is so sure of large faces that several windows have a score of exactly 1. Which of them the package takes is
    up to numpy's sorting; here it takes the one that celebface takes, the upper left.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package_boxes, "sort_by_scores", _upper_left_of_equals)
        rows = theirs.detect_faces(np.asarray(image), output_type="numpy", box_format="xyxy")
    return Detections(rows[:, 1:5], rows[:, 5], rows[:, 6:16].reshape(-1, 2, 5).transpose(0, 2, 1))


def _upper_left_of_equals(rows: np.ndarray, scores: np.ndarray, ascending: bool) -> np.ndarray:
    assert not ascending
    return rows[np.lexsort((rows[:, 1], rows[:, 2], -scores))]


def check_equal(found: Detections, expected: Detections, pixels: float) -> None:
    """The same faces, corners and landmarks within so many pixels; in any order."""
    assert len(found.boxes) == len(expected.boxes)
    rows = [nearest(box, found) for box in expected.boxes]
    assert sorted(rows) == list(range(len(rows)))
    assert np.abs(found.boxes[rows] - expected.boxes).max(initial=0) <= pixels
    assert np.abs(found.landmarks[rows] - expected.landmarks).max(initial=0) <= pixels
    assert np.abs(found.confidence[rows] - expected.confidence).max(initial=0) <= 1e-4


def counting_patches(monkeypatch) -> list[tuple[int, int, int]]:
    """Notes of each sampling the patches' side, how many patches, and how many the network gets at once."""
    counts = []
    sample = mtcnn.sample_patches

    def counting(words, corners, out):
        counts.append((out.shape[1], len(corners), len(out.base) if out.base is not None else len(out)))
        sample(words, corners, out)

    monkeypatch.setattr(mtcnn, "sample_patches", counting)
    return counts


# --- the package's own ------------------------------------------------------------------------------------------------


def test_the_faces_are_those_of_the_package(theirs, photos, alone):
    for photo, found in zip(photos, alone, strict=True):
        check_equal(found, of_the_package(theirs, photo), 0.01)
    assert sum(len(found.boxes) for found in alone) >= len(photos) + 2


def test_the_faces_are_near_those_of_the_package_as_it_is(theirs, photos, alone):
    for photo, ours in zip(photos, alone, strict=True):
        expected = theirs.detect_faces(np.asarray(photo), box_format="xyxy")
        assert len(ours.boxes) == len(expected)
        for face in expected:
            box = np.array(face["box"])
            row = nearest(box, ours)
            assert overlap(box, ours.boxes[row]) >= 0.9
            assert ours.confidence[row] == pytest.approx(face["confidence"], abs=0.02)
            points = np.array([face["keypoints"][name] for name in LANDMARKS])
            assert np.abs(ours.landmarks[row] - points).max() <= 2  # theirs are whole pixels


def test_the_faces_of_a_photo_scaled_in_two_steps_are_those_of_the_package(theirs, large, found_on_large):
    check_equal(found_on_large, of_the_package(theirs, large), 0.01)


def test_raising_the_smallest_face_leaves_out_the_levels_of_smaller_ones_only(detector, theirs, photos, monkeypatch):
    scales = stage_pnet.build_scale_pyramid
    compared = 0
    for min_face, left_out in ((28, 0), (28.3, 1), (45, 2), (80, 4)):
        monkeypatch.setattr(stage_pnet, "build_scale_pyramid", lambda *a, n=left_out, **kw: scales(*a, **kw)[n:])
        for photo in photos[::3]:
            [found] = detector.detect([whole(photo, min_face)])
            check_equal(found, of_the_package(theirs, photo), 0.01)
            compared += len(found.boxes)
    assert compared > 10


# --- what is found ----------------------------------------------------------------------------------------------------


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
    width, height = photos[0].size
    cuts = [(middle - 10, 0, width, height), (0, 0, middle + 10, height), (0, level - 20, width, height)]
    parts = [photos[0].crop(cut) for cut in [*cuts, (0, 0, width, level + 30)]]
    found = detector.detect([whole(part) for part in parts])

    assert sum(len(faces.boxes) for faces in found) > 0
    for photo, faces in zip([*photos, *parts], [*alone, *found], strict=True):
        assert (faces.boxes >= 0).all()
        assert (faces.boxes <= (photo.width - 1, photo.height - 1, photo.width - 1, photo.height - 1)).all()


def test_results_have_their_types(alone):
    for found in alone:
        count = len(found.boxes)
        assert (found.boxes.dtype, found.boxes.shape) == (np.float32, (count, 4))
        assert (found.confidence.dtype, found.confidence.shape) == (np.float32, (count,))
        assert (found.landmarks.dtype, found.landmarks.shape) == (np.float32, (count, 5, 2))
        assert (found.confidence > 0.8).all() and (found.confidence <= 1).all()


@pytest.mark.parametrize("size", [(200, 150), (20, 20), (12, 300), (700, 20), (700, 19), (1, 1)])
def test_a_photo_without_faces_gives_empty_arrays(detector, size):
    found = detector.detect([whole(images.plain(*size))])[0]

    assert (found.boxes.dtype, found.boxes.shape) == (np.float32, (0, 4))
    assert (found.confidence.dtype, found.confidence.shape) == (np.float32, (0,))
    assert (found.landmarks.dtype, found.landmarks.shape) == (np.float32, (0, 5, 2))


def test_no_photos_give_no_results(detector):
    assert detector.detect([]) == []


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, not 'float16'"):
        FaceDetector(DetectorConfig(), "float16")


def test_faces_much_smaller_than_asked_for_are_not_looked_for(detector, photos, alone):
    sides = [(found.boxes[0, 2:] - found.boxes[0, :2]).max() for found in alone]
    small = int(np.argmin(sides))

    assert len(detector.detect([whole(photos[small], sides[small] * 3.6)])[0].boxes) == 0
    assert overlap(detector.detect([whole(photos[small], sides[small] * 0.8)])[0].boxes[0], alone[small].boxes[0]) > 0.8


def test_the_least_confidence_is_held(photos, alone):
    strict = 0.9995
    sure = [(found.confidence > strict).sum() for found in alone]
    assert sum(sure) < sum(len(found.boxes) for found in alone)

    found = FaceDetector(DetectorConfig(min_confidence=strict)).detect([whole(photo) for photo in photos])
    assert [len(faces.boxes) for faces in found] == sure


def test_bfloat16_finds_the_same_faces(quick, photos, alone):
    found = quick.detect([whole(photo) for photo in photos])

    assert any(not same(ours, exact) for ours, exact in zip(found, alone, strict=True))
    for ours, exact in zip(found, alone, strict=True):
        assert len(ours.boxes) == len(exact.boxes)
        for box, points, confidence in zip(exact.boxes, exact.landmarks, exact.confidence, strict=True):
            row = nearest(box, ours)
            assert overlap(box, ours.boxes[row]) >= 0.7
            assert np.abs(ours.landmarks[row] - points).max() < 0.1 * (box[2] - box[0])
            assert abs(ours.confidence[row] - confidence) < 0.1


# --- photos larger than their pixels, and too large for one step ------------------------------------------------------


def test_faces_are_told_in_pixels_of_the_photo_itself(detector, photos):
    # Decoded at half and at a quarter, as JPEGs may be, the photo has the faces it has in full.
    for photo in [*photos[:2], *photos[3:7]]:  # the third has a face of which the detector is hardly sure
        # Sizes that no reduction divides: libjpeg gives the last pixels less than their share of the photo.
        full = photo.resize((photo.width * 4 + 1, photo.height * 4 + 3), Image.Resampling.BICUBIC)
        [expected] = detector.detect([whole(full, 40)])
        assert len(expected.boxes) > 0
        for reduction in (2, 4):
            [found] = detector.detect([Picture(full.reduce(reduction), full.width, full.height, 40)])
            assert len(found.boxes) == len(expected.boxes)
            for box, points in zip(expected.boxes, expected.landmarks, strict=True):
                row = nearest(box, found)
                assert overlap(box, found.boxes[row]) > 0.85
                apart = np.abs(found.landmarks[row] - points) / (box[2] - box[0])
                assert apart.mean() < 0.04 and apart.max() < 0.1


def test_a_sample_falls_on_the_same_spot_of_a_reduced_photo():
    boxes = np.array([[0, 0, 1599, 1199], [400, 300, 799, 899]], np.float32)
    full = mtcnn._in_decoded_pixels(boxes, Picture(images.plain(1600, 1200), 1600, 1200, 20))
    assert np.allclose(full, boxes * np.array([1599 / 1600, 1199 / 1200] * 2))

    # The first pixel of four lies at 1.5, and the centre of the first of a reduced photo is there.
    quarter = mtcnn._in_decoded_pixels(boxes, Picture(images.plain(400, 300), 1600, 1200, 20))
    assert np.allclose((quarter + 0.5) * 4 - 0.5, full)


def test_scaling_in_two_steps_changes_nothing(detector, large, found_on_large, monkeypatch):
    monkeypatch.setattr(mtcnn, "_PIXELS_AT_ONCE", large.width * large.height)
    monkeypatch.setattr(mtcnn, "average_rows", None)
    [found] = detector.detect([whole(large)])
    check_equal(found, found_on_large, 0.01)


@pytest.mark.parametrize("min_face", [20, 50])
def test_small_photos_may_be_scaled_in_two_steps_too(detector, photos, min_face, monkeypatch):
    pictures = [whole(photo, min_face) for photo in photos]
    expected = detector.detect(pictures)

    monkeypatch.setattr(mtcnn, "_PIXELS_AT_ONCE", 0)
    monkeypatch.setattr(mtcnn, "_PIXELS_PER_RUN", 0)
    for ours, exact in zip(detector.detect(pictures), expected, strict=True):
        check_equal(ours, exact, 0.01)


@pytest.mark.parametrize("min_face", [20, 80])
def test_a_reduced_photo_may_be_scaled_in_two_steps_too(detector, photos, min_face, monkeypatch):
    # At 20 pixels the first level has 0.6 of the photo's rows, more than a photo decoded at half has.
    averaged = []
    average = mtcnn.average_rows
    monkeypatch.setattr(mtcnn, "average_rows", lambda *args: averaged.append(1) or average(*args))
    half = Picture(photos[0].reduce(2), *photos[0].size, min_face)
    [expected] = detector.detect([half])
    assert not averaged

    monkeypatch.setattr(mtcnn, "_PIXELS_AT_ONCE", 0)
    [found] = detector.detect([half])
    assert averaged
    check_equal(found, expected, 0.01)


# --- neighbours -------------------------------------------------------------------------------------------------------


def test_a_photo_does_not_depend_on_its_neighbours(either, photos, each_alone):
    others = [images.plain(300, 300), Image.fromarray(images.noise(12, 300))]  # the second too narrow for any face
    order = np.random.default_rng(3).permutation(len(photos))
    batch = [others[0], *(photos[i] for i in order), others[1]]

    found = either.detect([whole(photo) for photo in batch])
    assert len(found) == len(batch)
    assert len(found[0].boxes) == len(found[-1].boxes) == 0
    for position, i in enumerate(order):
        assert same(found[position + 1], each_alone[i])


def test_copies_of_a_photo_give_the_same_faces(either, photos, each_alone):
    crowd = len(photos) - 1

    for found in either.detect([whole(photos[crowd])] * 9):
        assert same(found, each_alone[crowd])


def test_smallest_faces_may_differ_within_a_batch(detector, photos, alone):
    sides = [(found.boxes[0, 2:] - found.boxes[0, :2]).max() for found in alone]
    small = int(np.argmin(sides))
    alike = [whole(photos[small], size) for size in (20, sides[small] * 3.6, 20)]
    assert [len(found.boxes) for found in detector.detect(alike)] == [1, 0, 1]

    batch = [whole(photos[place], size) for place, size in ((0, 20), (0, 41), (1, 30), (2, 20), (0, 41.5))]
    for picture, found in zip(batch, detector.detect(batch), strict=True):
        assert same(found, detector.detect([picture])[0])


def test_photos_decoded_at_several_scales_may_share_a_batch(detector, photos):
    # Of one size once decoded, yet not of one size.
    doubled = photos[0].resize((photos[0].width * 2, photos[0].height * 2), Image.Resampling.BICUBIC)
    slightly = Picture(photos[0], photos[0].width + 20, photos[0].height + 30, 20)
    batch = [whole(photos[0]), Picture(photos[0], *doubled.size, 20), whole(doubled), slightly, whole(photos[0])]
    assert len(slightly.pyramid) == len(batch[0].pyramid)

    found = detector.detect(batch)
    assert np.allclose(found[1].boxes[0] / 2, found[0].boxes[0], atol=0.1 * photos[0].width)
    for picture, ours in zip(batch, found, strict=True):
        assert same(ours, detector.detect([picture])[0])


@pytest.mark.parametrize(
    "bounds",
    [{"_PIXELS_PER_RUN": 1}, {"_PIXELS_PER_RUN": 200_000}, {"_PATCH_RUNS": (4, 16)}],
    ids=["photo by photo", "few photos", "few patches"],
)
def test_the_size_of_runs_changes_nothing(either, photos, each_alone, bounds, monkeypatch):
    for name, value in bounds.items():
        monkeypatch.setattr(mtcnn, name, value)

    for found, expected in zip(either.detect([whole(photo) for photo in photos]), each_alone, strict=True):
        assert same(found, expected)


def test_the_work_on_a_photo_full_of_texture_is_bounded(detector, monkeypatch):
    texture = whole(images.scenery(300, 300, detail=100))
    counts = counting_patches(monkeypatch)
    detector.detect([texture, texture])
    assert sum(count for side, count, _ in counts if side == 24) > 100

    counts.clear()
    monkeypatch.setattr(arithmetic, "MOST_IN_GROUP", 5)
    monkeypatch.setattr(mtcnn, "_PATCH_RUNS", (4, 7))
    detector.detect([texture, texture])
    assert 0 < sum(count for side, count, _ in counts if side == 24) <= 2 * 5
    assert max(together for *_, together in counts) <= 7


def test_a_crowd_passes_in_pieces(detector, photos, alone, monkeypatch):
    # More boxes in one run of photos than the networks take together.
    copies = [whole(photos[0])] * 12
    counts = counting_patches(monkeypatch)

    monkeypatch.setattr(mtcnn, "_PATCH_RUNS", (4, 10))
    for found in detector.detect(copies):
        assert same(found, alone[0])
    assert max(count for _, count, _ in counts) > 1
    assert max(together for *_, together in counts) == 10


def test_a_face_within_a_face_is_one(detector):
    # An O-Net that is sure of all it sees: which faces are left is then a matter of how they lie.
    sure = copy.copy(detector)
    sure._onet = lambda patches: (
        tf.zeros([len(patches), 4]),
        tf.fill([len(patches), 10], 0.5),
        tf.fill([len(patches)], 0.9),
    )
    photo = whole(Image.fromarray(images.noise(300, 200)))
    inner, outer, beside = [40, 40, 80, 80], [10, 10, 110, 110], [105, 10, 205, 110]
    faces = np.array([inner, outer, beside], np.float32)
    found = mtcnn._Candidates(np.zeros(3, np.int64), faces, np.full(3, 0.9, np.float32))

    [found] = sure._output([photo], found)
    assert found.boxes.tolist() == [outer, beside]


# --- its parts --------------------------------------------------------------------------------------------------------


def test_runs_hold_photos_of_one_size_and_few_pixels(monkeypatch):
    monkeypatch.setattr(mtcnn, "_PIXELS_PER_RUN", 2500)
    small, large = images.plain(30, 40), images.plain(100, 60)

    # Smallest faces matter as far as they change the pyramid, from 28.2 pixels on.
    batch = [(small, 20), (large, 20), (small, 20), (small, 28), (large, 22), (small, 40), (small, 20)]
    assert mtcnn._runs([whole(image, size) for image, size in batch]) == [[0, 2], [3, 6], [1], [4], [5]]
    halves = [Picture(small, 60, 80, 20), whole(small), Picture(small, 61, 80, 20), Picture(small, 60, 80, 20)]
    assert mtcnn._runs(halves) == [[0, 3], [1], [2]]


@pytest.mark.parametrize(
    ("width", "height", "min_face", "first", "levels"),
    [
        (20, 20, 20, 0, 1),
        (60, 100, 20, 0, 4),
        (100, 60, 20, 0, 4),
        (500, 19, 20, 0, 0),
        (20, 500, 20, 0, 1),
        (100, 60, 28.2, 0, 4),
        (100, 60, 28.3, 1, 3),
        (100, 60, 41, 2, 2),
        (100, 60, 60, 3, 1),
        (100, 60, 61, 0, 0),  # the photo is narrower
        (8_900_000, 20, 267_000, 0, 0),
        (1_000_000, 1_000_000, 20, 0, 32),
    ],
)
def test_the_pyramid_is_the_ladder_less_the_levels_of_smaller_faces(width, height, min_face, first, levels):
    # The picture has been decoded at a reduced scale, which changes nothing.
    scales = Picture(images.plain(5, 5), width, height, min_face).pyramid

    assert len(scales) == levels
    assert scales == tuple(pytest.approx(0.6 * 0.709**level) for level in range(first, first + levels))
    assert all(min(height, width) * scale >= 12 for scale in scales)
    assert all(max(height, width) * scale <= 12 / 0.709 * max(height, width) / min_face for scale in scales)
    if scales and min_face < 60:
        assert 12 / scales[0] <= min_face < 12 / scales[0] / 0.709


@pytest.mark.parametrize(("width", "height"), [(250, 250), (600, 400), (1200, 630), (4000, 3000)])
def test_the_ladder_is_that_of_the_package(width, height):
    expected = stage_pnet.build_scale_pyramid(width, height, min_face_size=20, scale_factor=0.709)

    assert whole(images.plain(width, height)).pyramid == pytest.approx(expected)
