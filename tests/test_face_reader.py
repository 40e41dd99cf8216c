import concurrent.futures
import copy
import dataclasses
import io
import threading
import weakref

import images
import numpy as np
import pytest
from PIL import Image

from celebface.models import crops, face_reader
from celebface.models.face_reader import FaceReader
from celebface.models.faces import (
    BlurredFace,
    DetectorConfig,
    EmptyPhoto,
    FaceTooSmall,
    LowConfidence,
    NoFace,
    NotAnImage,
    PhotoFaces,
    PhotoLimits,
    QualityGate,
    ReaderConfig,
    TooFewPixels,
    TooManyPixels,
    TruncatedPhoto,
)
from celebface.models.mtcnn import Detections, FaceDetector
from celebface.models.photo import Photo


@pytest.fixture(scope="module")
def reader() -> FaceReader:
    return FaceReader(ReaderConfig())


@pytest.fixture(scope="module")
def people(probes) -> list[bytes]:
    """A photo of each of five people, one face in each."""
    return [sorted(person.glob("*.jpg"))[0].read_bytes() for person in sorted(probes.iterdir())]


@pytest.fixture(scope="module")
def face(reader, portrait) -> Image.Image:
    """A square of about twice the face's side, cut out of a portrait."""
    photo = Image.open(portrait).convert("RGB")
    x0, y0, x1, y1 = (int(corner) for corner in reader.read([portrait.read_bytes()])[0].faces[0].box)
    margin = (y1 - y0) // 2
    return photo.crop((max(x0 - margin, 0), max(y0 - margin, 0), x1 + margin, y1 + margin))


@pytest.fixture(scope="module")
def crowd(face) -> bytes:
    """A photo with three faces of different sizes."""
    photo = images.plain(600, 400)
    for side, corner in ((120, (0, 0)), (300, (280, 50)), (80, (20, 250))):
        photo.paste(face.resize((side, side)), corner)
    return images.encoded(photo, "PNG")


def with_config(reader: FaceReader, **changes) -> FaceReader:
    """The same detector under other rules; loading another takes its time."""
    other = copy.copy(reader)
    other.config = dataclasses.replace(reader.config, **changes)
    return other


def same(found: PhotoFaces, expected: PhotoFaces) -> bool:
    return (
        (found.width, found.height, found.faces_found, len(found.faces))
        == (expected.width, expected.height, expected.faces_found, len(expected.faces))
    ) and all(
        np.array_equal(a.box, b.box)
        and np.array_equal(a.landmarks, b.landmarks)
        and np.array_equal(a.pixels, b.pixels)
        and (a.confidence, a.sharpness) == (b.confidence, b.sharpness)
        for a, b in zip(found.faces, expected.faces, strict=True)
    )


def sides(found: PhotoFaces) -> list[int]:
    """The shorter side of each face's box."""
    return [int(min(face.box[2:] - face.box[:2])) for face in found.faces]


# --- batches ----------------------------------------------------------------------------------------------------------


def test_results_keep_their_places_among_faults(reader, people):
    noise = images.encoded(Image.fromarray(images.noise(64, 48)), "JPEG")
    batch = [
        (people[0], PhotoFaces),
        (b"", EmptyPhoto),
        (people[1], PhotoFaces),
        (b"a letter", NotAnImage),
        (images.png_announcing(50_000, 50_000), TooManyPixels),
        (images.encoded(images.plain(300, 200), "PNG"), NoFace),
        (people[2], PhotoFaces),
        (noise[:-300], TruncatedPhoto),
        (images.encoded(images.plain(300, 10), "PNG"), TooFewPixels),
        (people[1], PhotoFaces),
    ]

    found = reader.read([data for data, _ in batch])
    assert [type(result) for result in found] == [kind for _, kind in batch]
    for (data, _), result in zip(batch, found, strict=True):
        if isinstance(result, PhotoFaces):
            assert same(result, reader.read([data])[0])


def test_no_photos_give_no_results(reader):
    assert reader.read([]) == []
    assert [type(fault) for fault in reader.read([b"", b""])] == [EmptyPhoto, EmptyPhoto]


def test_reading_twice_gives_the_same(reader, people, crowd):
    batch = [*people, crowd]

    for found, again in zip(reader.read(batch), reader.read(batch), strict=True):
        assert same(found, again)


def test_bfloat16_reads_the_same_faces(reader, people, crowd):
    quick = FaceReader(ReaderConfig(), "bfloat16")

    for found, exact in zip(quick.read([*people, crowd]), reader.read([*people, crowd]), strict=True):
        assert found.faces_found == exact.faces_found
        for ours, theirs in zip(found.faces, exact.faces, strict=True):
            side = max(theirs.box[2:] - theirs.box[:2])
            assert np.abs(ours.box - theirs.box).max() < 0.15 * side
            assert np.abs(ours.landmarks - theirs.landmarks).max() < 0.1 * side


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, not 'half'"):
        FaceReader(ReaderConfig(), "half")


def test_threads_may_share_a_reader(people, crowd, reader):
    batches = [[*people, crowd], people[::-1], [crowd, b"", people[0]], [people[2]]]
    fresh = FaceReader(ReaderConfig())  # whose graphs are made by the threads
    with concurrent.futures.ThreadPoolExecutor(len(batches)) as pool:
        together = list(pool.map(fresh.read, batches))

    for batch, results in zip(batches, together, strict=True):
        for found, expected in zip(results, reader.read(batch), strict=True):
            assert same(found, expected) if isinstance(expected, PhotoFaces) else type(found) is type(expected)


@pytest.mark.parametrize(
    "bounds",
    [{"_PIXELS_IN_HAND": 1}, {"_PIXELS_IN_HAND": 100_000}, {"_PHOTOS_IN_HAND": 1}, {"_PHOTOS_IN_HAND": 2}],
    ids=["a pixel", "some pixels", "a photo", "two photos"],
)
def test_photos_in_hand_are_bounded_without_changing_results(reader, people, monkeypatch, bounds):
    batch = [people[0], b"", *people[1:]]
    expected = reader.read(batch)
    photos, pixels = [], []
    find = FaceReader._find_faces

    def counting(self, in_hand, *rest):
        images_in_hand = [opened.picture.image for opened in in_hand.values()]
        photos.append(len(images_in_hand))
        pixels.append(sum(image.width * image.height for image in images_in_hand))
        return find(self, in_hand, *rest)

    for name, value in bounds.items():
        monkeypatch.setattr(face_reader, name, value)
    monkeypatch.setattr(FaceReader, "_find_faces", counting)
    found = reader.read(batch)
    assert len(photos) > 2 and sum(photos) == len(people)
    assert max(photos) <= face_reader._PHOTOS_IN_HAND
    assert max(pixels) <= face_reader._PIXELS_IN_HAND + 300 * 300  # one photo more than the bound at most
    assert [type(result) for result in found] == [type(result) for result in expected]
    assert all(same(a, b) for a, b in zip(found, expected, strict=True) if isinstance(b, PhotoFaces))


def test_time_is_added_up_by_stage(reader, people):
    seconds = {"decode": 100.0}

    reader.read(people, seconds)
    assert seconds.keys() == {"decode", "detect", "crop"}
    assert 100 < seconds["decode"] < 200
    assert seconds["detect"] > 0 and seconds["crop"] > 0


# --- decoding ahead ---------------------------------------------------------------------------------------------------


class OneFaceEach:
    """Stands in for the detector: every photo has a face in its middle, but those whose first pixel is black."""

    def detect(self, pictures):
        found = []
        for picture in pictures:
            count = int(picture.image.getpixel((0, 0)) != (0, 0, 0))
            corners = np.array([[0.25, 0.25, 0.75, 0.75]], np.float32) * ([picture.width, picture.height] * 2)
            found.append(Detections(corners[:count], np.full(count, 0.9), np.zeros((count, 5, 2), np.float32)))
        return found


class Decoded:
    """Counts the photos whose pixels are held.

    Attributes:
      held: How many are now.
      most: How many were at any time.
      opened: How many were decoded in all.
    """

    def __init__(self, monkeypatch):
        self.held = self.most = self.opened = 0
        self._lock = threading.RLock()
        opened = face_reader._open
        monkeypatch.setattr(face_reader, "_open", lambda *args: self._counted(opened(*args)))

    def _counted(self, opened):
        with self._lock:
            self.opened += 1
            self.held += 1
            self.most = max(self.most, self.held)
        weakref.finalize(opened.picture.image, self._gone)
        return opened

    def _gone(self):
        with self._lock:
            self.held -= 1


def with_detector(reader: FaceReader, detector, **changes) -> FaceReader:
    other = with_config(reader, **changes)
    other._detector = detector
    return other


def pngs(count: int, level: int = 90) -> list[bytes]:
    return [images.encoded(images.plain(40 + i, 60, (level, level, level)), "PNG") for i in range(count)]


def test_no_more_than_two_groups_are_decoded_at_once(reader, monkeypatch):
    monkeypatch.setattr(face_reader, "_PHOTOS_IN_HAND", 3)
    decoded = Decoded(monkeypatch)

    found = with_detector(reader, OneFaceEach()).read(pngs(20))
    assert [result.width for result in found] == list(range(40, 60))
    assert decoded.opened == 20
    assert 3 < decoded.most <= 6
    assert decoded.held == 0  # results keep no photo


def test_no_more_than_two_groups_of_pixels_are_decoded_at_once(reader, monkeypatch):
    # A group ends with the photo that goes over the bound: three of these.
    monkeypatch.setattr(face_reader, "_PIXELS_IN_HAND", 2 * 59 * 60)
    decoded = Decoded(monkeypatch)

    found = with_detector(reader, OneFaceEach()).read(pngs(20))
    assert [result.width for result in found] == list(range(40, 60))
    assert 1 < decoded.most <= 6


@pytest.mark.parametrize(
    "fault",
    [b"a letter", images.encoded(images.plain(50, 50), "PNG")[:60], pngs(1, level=0)[0]],
    ids=["no image", "cut short", "no face"],
)
def test_faults_keep_no_photos_decoded(reader, monkeypatch, fault):
    monkeypatch.setattr(face_reader, "_PHOTOS_IN_HAND", 3)
    decoded = Decoded(monkeypatch)
    batch = pngs(20)
    batch[1::3] = [fault] * len(batch[1::3])

    found = with_detector(reader, OneFaceEach()).read(batch)
    assert [isinstance(result, PhotoFaces) for result in found] == [i % 3 != 1 for i in range(20)]
    assert decoded.opened >= 13
    assert decoded.most <= 6
    assert decoded.held == 0


def test_the_next_photos_are_decoded_while_the_detector_works(reader, monkeypatch):
    monkeypatch.setattr(face_reader, "_PHOTOS_IN_HAND", 3)
    decoded = Decoded(monkeypatch)
    ahead = threading.Event()
    gone_on = []

    class Waiting(OneFaceEach):
        def detect(self, pictures):
            gone_on.append(ahead.wait(10))
            return super().detect(pictures)

    counted = decoded._counted
    monkeypatch.setattr(decoded, "_counted", lambda opened: counted(opened) if decoded.opened < 5 else last(opened))

    def last(opened):  # of the second group
        ahead.set()
        return counted(opened)

    found = with_detector(reader, Waiting()).read(pngs(6))
    assert gone_on == [True, True]
    assert [result.width for result in found] == list(range(40, 46))


def test_results_keep_their_places_across_groups(reader, monkeypatch):
    monkeypatch.setattr(face_reader, "_PHOTOS_IN_HAND", 3)
    batch = pngs(17)
    batch[0] = batch[4] = batch[5] = batch[16] = b""
    batch[9:12] = [b"a letter"] * 3  # a group of nothing but faults

    found = with_detector(reader, OneFaceEach()).read(iter_once(batch))
    for i, result in enumerate(found):
        if i in (0, 4, 5, 16):
            assert isinstance(result, EmptyPhoto)
        elif i in (9, 10, 11):
            assert isinstance(result, NotAnImage)
        else:
            assert result.width == 40 + i


def iter_once(batch: list[bytes]) -> list[bytes]:
    """A batch that can be gone through once only: each photo is decoded for one group."""

    class Once(list):
        gone = False

        def __iter__(self):
            assert not self.gone
            self.gone = True
            return super().__iter__()

    return Once(batch)


@pytest.mark.parametrize("place", ["_open", "detect"])
def test_an_error_that_is_no_fault_reaches_the_caller(reader, monkeypatch, place):
    monkeypatch.setattr(face_reader, "_PHOTOS_IN_HAND", 2)
    broken = with_detector(reader, OneFaceEach())
    with monkeypatch.context() as patch:

        def fail(*_):
            raise MemoryError("no room")

        patch.setattr(face_reader if place == "_open" else OneFaceEach, place, fail)
        with pytest.raises(MemoryError, match="no room"):
            broken.read(pngs(7))

    assert [result.width for result in broken.read(pngs(7))] == list(range(40, 47))  # and it goes on afterwards


def test_two_threads_that_share_a_reader_get_their_own_results(reader, monkeypatch):
    monkeypatch.setattr(face_reader, "_PHOTOS_IN_HAND", 2)
    both = threading.Barrier(2, timeout=10)

    class Together(OneFaceEach):
        def detect(self, pictures):
            both.wait()  # until each of them is at the same group
            return super().detect(pictures)

    shared = with_detector(reader, Together())
    batches = [pngs(11), [*pngs(5), b"", *pngs(11)[6:]][::-1]]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(shared.read, batches))

    assert [result.width for result in found[0]] == list(range(40, 51))
    assert [getattr(result, "width", None) for result in found[1]] == [50, 49, 48, 47, 46, None, 44, 43, 42, 41, 40]


# --- which faces ------------------------------------------------------------------------------------------------------


def test_all_faces_are_read_largest_first(reader, crowd):
    [found] = reader.read([crowd])

    assert (found.width, found.height, found.faces_found, len(found.faces)) == (600, 400, 3, 3)
    areas = [np.prod(face.box[2:] - face.box[:2]) for face in found.faces]
    assert areas == sorted(areas, reverse=True)
    for face in found.faces:
        assert (face.box.dtype, face.box.shape) == (np.int32, (4,))
        assert (face.landmarks.dtype, face.landmarks.shape) == (np.float32, (5, 2))
        assert (face.pixels.dtype, face.pixels.shape) == (np.uint8, (160, 160, 3))
        assert 0.8 < face.confidence <= 1
        assert face.sharpness == crops.sharpness(face.pixels)


def test_faces_are_capped(reader, crowd):
    [everything] = reader.read([crowd])

    [found] = with_config(reader, max_faces=2).read([crowd])
    assert found.faces_found == 3
    assert [face.box.tolist() for face in found.faces] == [face.box.tolist() for face in everything.faces[:2]]


def test_one_face_is_the_central_one_not_the_largest(reader, face):
    # The larger face lies in a corner.
    photo = images.plain(900, 700)
    photo.paste(face.resize((260, 260)), (0, 0))
    photo.paste(face.resize((200, 200)), (350, 250))
    data = images.encoded(photo, "PNG")

    [everything] = reader.read([data])
    [found] = with_config(reader, one_face=True).read([data])
    assert everything.faces_found == found.faces_found == 2
    assert len(found.faces) == 1
    assert np.array_equal(found.faces[0].box, everything.faces[1].box)
    assert np.array_equal(found.faces[0].pixels, everything.faces[1].pixels)
    assert (found.faces[0].box >= (350, 250, 350, 250)).all()


@pytest.mark.parametrize(
    ("gate", "fault", "reason"),
    [
        (QualityGate(min_face_px=250), FaceTooSmall, "face_too_small"),
        (QualityGate(min_confidence=0.9999999), LowConfidence, "low_confidence"),
        (QualityGate(min_sharpness=1e6), BlurredFace, "blurred"),
    ],
)
def test_a_face_below_the_gate_is_a_fault_by_name(reader, people, gate, fault, reason):
    for one_face in (False, True):
        for found in with_config(reader, gate=gate, one_face=one_face).read(people[:2]):
            assert type(found) is fault
            assert found.reason == reason
            assert "needed" in str(found)


def test_the_gate_keeps_the_faces_that_pass(reader, crowd):
    [everything] = reader.read([crowd])
    large, *small = sides(everything)
    assert large > 2 * max(small)

    [found] = with_config(reader, gate=QualityGate(min_face_px=large)).read([crowd])
    assert sides(found) == [large]
    assert found.faces_found == 3
    [none] = with_config(reader, gate=QualityGate(min_face_px=large + 1)).read([crowd])
    assert isinstance(none, FaceTooSmall)
    assert str(large) in str(none)  # what is said is said of the largest face


def test_a_blurred_photo_is_told_from_a_sharp_one(reader, portrait):
    sharp = Image.open(portrait).convert("RGB")
    blurred = sharp.resize((sharp.width // 4, sharp.height // 4)).resize(sharp.size)
    both = [images.encoded(image, "PNG") for image in (sharp, blurred)]
    values = [found.faces[0].sharpness for found in reader.read(both)]
    assert values[0] > 4 * values[1]

    between = QualityGate(min_sharpness=2 * values[1])
    assert [type(found) for found in with_config(reader, gate=between).read(both)] == [PhotoFaces, BlurredFace]


def test_limits_are_those_of_the_configuration(reader, people):
    [found] = with_config(reader, limits=PhotoLimits(max_pixels=1000)).read(people[:1])

    assert isinstance(found, TooManyPixels)


def test_a_strip_that_is_cheap_to_send_is_cheap_to_search(reader, monkeypatch):
    monkeypatch.setattr(FaceDetector, "_windows_of_levels", None)  # P-Net has nothing to do
    strip = images.encoded(images.plain(1_000_000, 20), "PNG")
    assert len(strip) < 200_000

    assert [type(found) for found in reader.read([strip])] == [NoFace]


@pytest.mark.parametrize("size", [(4000, 60), (60, 4000), (20, 20), (1500, 20)])
def test_strips_of_photos_have_no_faces(reader, size):
    [found] = reader.read([images.encoded(Image.fromarray(images.noise(*size)), "PNG")])

    assert isinstance(found, NoFace)


# --- coordinates and pixels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "detector", "expected", "decoded"),
    [
        (300, DetectorConfig(), 20, 300),
        (1200, DetectorConfig(), 36, 1200),  # 3 % of the photo
        (2400, DetectorConfig(), 72, 2400),
        (2400, DetectorConfig(min_face_px=100), 100, 2400),
        (1600, DetectorConfig(min_face_share=0.01), 20, 1600),  # MTCNN sees none below 20
        (2400, DetectorConfig(decoded_side=600, min_face_share=0.1), 240, 600),
        (2400, DetectorConfig(decoded_side=601), 72, 1200),
        (7998, DetectorConfig(min_face_share=0.01), 79.98, 7998),
        (8000, DetectorConfig(), 240, 4000),
    ],
)
def test_the_smallest_face_is_meant_in_source_pixels(side, detector, expected, decoded):
    data = images.encoded(images.plain(side, side // 4), "JPEG")

    picture = face_reader._open(data, ReaderConfig(detector=detector)).picture
    assert picture.min_face == pytest.approx(expected)
    assert (picture.width, picture.height) == (side, side // 4)
    assert picture.image.size == (decoded, decoded // 4)


def test_other_formats_than_jpeg_are_searched_in_full():
    data = images.encoded(images.plain(2400, 600), "PNG")

    picture = face_reader._open(data, ReaderConfig(detector=DetectorConfig(decoded_side=600))).picture
    assert picture.image.size == (picture.width, picture.height) == (2400, 600)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_coordinates_are_in_source_pixels_whatever_the_scale(reader, people, file_format):
    # Without the second, of which the detector is so unsure (0.84) that it loses it among other samples.
    photos = [Image.open(io.BytesIO(people[place])).convert("RGB") for place in (0, 2, 3)]
    enlarged = [photo.resize((photo.width * 8, photo.height * 8), Image.Resampling.BICUBIC) for photo in photos]
    reader = with_config(reader, detector=DetectorConfig(decoded_side=600))
    assert all(max(image.size) >= 2 * reader.config.detector.decoded_side for image in enlarged)

    small = reader.read([images.encoded(photo, "PNG") for photo in photos])
    large = reader.read([images.encoded(image, file_format) for image in enlarged])
    boxes, landmarks = [], []
    for one, eightfold, image in zip(small, large, enlarged, strict=True):
        assert (eightfold.width, eightfold.height) == image.size
        assert len(one.faces) == len(eightfold.faces) == 1
        a, b = one.faces[0], eightfold.faces[0]
        side = 8 * max(a.box[2:] - a.box[:2])
        boxes.append(np.abs(b.box - 8 * a.box).max() / side)
        landmarks.append(np.abs(b.landmarks - 8 * a.landmarks).max() / side)
    assert max(landmarks) < 0.03
    assert max(boxes) < 0.07


def test_boxes_lie_within_the_photo(reader, face):
    for part in (face.crop((0, 0, face.width // 2 + 10, face.height)), face.crop((0, face.height // 4, *face.size))):
        large = part.resize((part.width * 5, part.height * 5))
        for result in reader.read([images.encoded(part, "PNG"), images.encoded(large, "PNG")]):
            if isinstance(result, PhotoFaces):
                assert (result.faces[0].box >= 0).all()
                assert (result.faces[0].box <= [result.width, result.height] * 2).all()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_photo_has_the_faces_of_the_upright_one(reader, portrait, orientation):
    upright = Image.open(portrait).convert("RGB")

    expected, found = reader.read([images.encoded(upright, "PNG"), images.oriented(upright, orientation, "PNG")])
    assert same(found, expected)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_small_face_in_a_large_jpeg_is_cut_from_all_its_pixels(reader, face, orientation, monkeypatch):
    asked = []
    decode = Photo.decode

    def counting(photo, min_longer_side=None):
        asked.append(min_longer_side)
        return decode(photo, min_longer_side)

    photo = images.scenery(4800, 3000, detail=4)
    photo.paste(face.resize((1500, 1500), Image.Resampling.BICUBIC), (500, 500))
    photo.paste(face.resize((340, 340), Image.Resampling.BICUBIC), (4000, 1500))
    data = images.oriented(photo, orientation, "JPEG", quality=92)
    monkeypatch.setattr(Photo, "decode", counting)
    [found] = with_config(reader, detector=DetectorConfig(decoded_side=1200)).read([data])

    assert len(found.faces) == 2
    small = found.faces[1]
    assert (small.box >= (4000, 1500, 4000, 1500)).all() and (small.box <= (4340, 1840, 4340, 1840)).all()
    assert len(asked) == 2
    assert asked[0] == 1200
    assert asked[1] >= 4800 * 160 / max(small.box[2:] - small.box[:2])
    full = Image.open(io.BytesIO(images.oriented(photo, 1, "JPEG", quality=92)))
    expected = crops.cut_face(full, small.box, 160)
    assert np.abs(small.pixels.astype(int) - expected).mean() < (1 if orientation == 1 else 4)
    reduced = crops.cut_face(full.reduce(4), small.box / 4, 160)
    assert small.sharpness > 2 * crops.sharpness(reduced)


def test_a_large_face_is_cut_from_the_reduced_photo(reader, face, monkeypatch):
    asked = []
    decode = Photo.decode
    photo = images.scenery(4800, 3000, detail=4)
    photo.paste(face.resize((2400, 2400), Image.Resampling.BICUBIC), (1200, 300))
    monkeypatch.setattr(Photo, "decode", lambda self, least=None: asked.append(least) or decode(self, least))

    [found] = with_config(reader, detector=DetectorConfig(decoded_side=1200)).read([images.encoded(photo, "JPEG")])
    assert found.faces_found == 1
    assert asked == [1200]


# --- thumbnails -------------------------------------------------------------------------------------------------------


def with_thumbnails(reader: FaceReader, detector, **changes) -> FaceReader:
    other = with_detector(reader, detector, **changes)
    other._thumbnails = True
    return other


def decoded(result) -> tuple[int, int, tuple[int, int] | None] | None:
    """Size of a photo and of its thumbnail."""
    if result.decoded is None:
        return None
    thumbnail = result.decoded.thumbnail
    size = Image.open(io.BytesIO(thumbnail)).size if thumbnail else None
    return result.decoded.width, result.decoded.height, size


def test_every_photo_that_is_decoded_has_a_thumbnail(reader):
    black = images.encoded(images.plain(640, 400, (0, 0, 0)), "PNG")  # in which no face is found
    small = images.encoded(images.plain(200, 100), "PNG")  # whose face is too small
    whole = images.encoded(images.scenery(640, 480), "JPEG")
    batch = [whole, black, small, b"no photo", whole[: len(whole) // 2], b""]
    expected = [(640, 480, (320, 240)), (640, 400, (320, 200)), (200, 100, (200, 100)), None, None, None]

    found = with_thumbnails(reader, OneFaceEach(), gate=QualityGate(min_face_px=60)).read(batch)
    kinds = [PhotoFaces, NoFace, FaceTooSmall, NotAnImage, TruncatedPhoto, EmptyPhoto]
    assert [type(result) for result in found] == kinds
    assert [decoded(result) for result in found] == expected


def test_no_thumbnails_are_made_if_nobody_asks(reader):
    black = images.encoded(images.plain(640, 400, (0, 0, 0)), "PNG")
    found = with_detector(reader, OneFaceEach()).read([black, images.encoded(images.scenery(640, 480), "PNG")])
    assert [decoded(result) for result in found] == [(640, 400, None), (640, 480, None)]
    assert FaceReader(ReaderConfig())._thumbnails is False


@pytest.mark.parametrize("orientation", [1, 6, 7, 8])
def test_a_thumbnail_is_upright(reader, orientation):
    data = images.oriented(images.quarters(), orientation, "PNG")
    (found,) = with_thumbnails(reader, OneFaceEach()).read([data])
    thumbnail = Image.open(io.BytesIO(found.thumbnail))
    assert (found.width, found.height, thumbnail.size) == (64, 48, (64, 48))
    for shown, exact in zip(images.quarter_colours(thumbnail), images.quarter_colours(images.quarters()), strict=True):
        assert np.abs(np.subtract(shown, exact)).max() < 12


def test_a_thumbnail_changes_nothing_else(reader, people, crowd):
    batch = [*people, crowd]
    thumbnailing = FaceReader(ReaderConfig(), thumbnails=True)
    for found, expected in zip(thumbnailing.read(batch), reader.read(batch), strict=True):
        assert same(found, expected) and found.thumbnail and not expected.thumbnail


def test_a_fault_that_keeps_its_photo_holds_none_of_its_pixels(reader, monkeypatch):
    held = Decoded(monkeypatch)
    found = with_thumbnails(reader, OneFaceEach()).read(pngs(5, level=0))
    assert [type(fault) for fault in found] == [NoFace] * 5 and all(fault.decoded.thumbnail for fault in found)
    assert (held.opened, held.held) == (5, 0)
