import concurrent.futures
import copy
import dataclasses
import io

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


def test_threads_may_share_a_reader(people, crowd, reader):
    batches = [[*people, crowd], people[::-1], [crowd, b"", people[0]], [people[2]]]
    fresh = FaceReader(ReaderConfig())  # whose graphs are made by the threads
    with concurrent.futures.ThreadPoolExecutor(len(batches)) as pool:
        together = list(pool.map(fresh.read, batches))

    for batch, results in zip(batches, together, strict=True):
        for found, expected in zip(results, reader.read(batch), strict=True):
            assert same(found, expected) if isinstance(expected, PhotoFaces) else type(found) is type(expected)


@pytest.mark.parametrize("pixels", [1, 100_000])
def test_pixels_in_hand_are_bounded_without_changing_results(reader, people, monkeypatch, pixels):
    batch = [people[0], b"", *people[1:]]
    expected = reader.read(batch)
    held = []
    find = FaceReader._find_faces

    def counting(self, in_hand, *rest):
        held.append(sum(opened.pixels.width * opened.pixels.height for opened in in_hand.values()))
        find(self, in_hand, *rest)

    monkeypatch.setattr(face_reader, "_PIXELS_IN_HAND", pixels)
    monkeypatch.setattr(FaceReader, "_find_faces", counting)
    found = reader.read(batch)
    assert len(held) > 2
    assert max(held) <= pixels + 300 * 300  # one photo more than the bound at most
    assert [type(result) for result in found] == [type(result) for result in expected]
    assert all(same(a, b) for a, b in zip(found, expected, strict=True) if isinstance(b, PhotoFaces))


def test_time_is_added_up_by_stage(reader, people):
    seconds = {"decode": 100.0}

    reader.read(people, seconds)
    assert seconds.keys() == {"decode", "detect", "crop"}
    assert 100 < seconds["decode"] < 200
    assert seconds["detect"] > 0 and seconds["crop"] > 0


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


@pytest.mark.parametrize("size", [(4000, 60), (60, 4000), (20, 20), (1500, 20)])
def test_strips_of_photos_have_no_faces(reader, size):
    [found] = reader.read([images.encoded(Image.fromarray(images.noise(*size)), "PNG")])

    assert isinstance(found, NoFace)


# --- coordinates and pixels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "detector", "expected"),
    [
        (300, DetectorConfig(), 20),
        (1200, DetectorConfig(), 36),  # 3 % of the photo
        (2400, DetectorConfig(), 36),  # 3 % of the scaled photo
        (2400, DetectorConfig(min_face_px=100), 50),
        (2400, DetectorConfig(min_face_share=0), 20),  # not 10: MTCNN sees none below 20
        (2400, DetectorConfig(longest_side=600, min_face_share=0.1), 60),
    ],
)
def test_the_smallest_face_is_meant_in_source_pixels(side, detector, expected):
    data = images.encoded(images.plain(side, side // 2), "JPEG")

    opened = face_reader._open(data, ReaderConfig(detector=detector))
    assert opened.min_face == pytest.approx(expected)
    assert opened.for_detector.shape[1] == min(side, detector.longest_side)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_coordinates_are_in_source_pixels_whatever_the_scale(reader, people, file_format):
    photos = [Image.open(io.BytesIO(data)).convert("RGB") for data in people[:3]]
    enlarged = [photo.resize((photo.width * 8, photo.height * 8), Image.Resampling.BICUBIC) for photo in photos]
    assert all(max(image.size) > reader.config.detector.longest_side for image in enlarged)

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
    [found] = reader.read([data])

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
    monkeypatch.setattr(Photo, "decode", lambda self, least=None, **named: asked.append(named) or decode(self, **named))

    [found] = reader.read([images.encoded(photo, "JPEG")])
    assert found.faces_found == 1
    assert asked == [{"min_longer_side": 1200}]
