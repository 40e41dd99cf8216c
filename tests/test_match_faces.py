"""Faces of photos to rows of matches, many photos at a time."""

import io

import fakes
import numpy as np
import pytest
from apache_beam import Create
from apache_beam.testing.util import assert_that
from PIL import Image

from celebface.indexing.gallery import Gallery
from celebface.models.faces import FaceCrop, PhotoFaces
from celebface.transforms import match
from celebface.transforms.match import Kept, MatchFaces
from celebface.transforms.records import DetectedPhoto, EmbeddedPhoto, face_id

TAU = 1.0
THUMBNAIL = b"\xff\xd8 a thumbnail"
VECTORS, PEOPLE = fakes.crowds([3] * 40, 128, 0.6)


@pytest.fixture(scope="module")
def version(tmp_path_factory) -> str:
    return fakes.gallery(str(tmp_path_factory.mktemp("galleries")), VECTORS, PEOPLE)


def photo(number: int, vectors: np.ndarray) -> EmbeddedPhoto:
    """A photo with a face for each of `vectors`, of as many and one more that were found."""
    ref = fakes.item(f"/photos/{number:04d}.jpg", content_sha256=f"{number:064x}")
    faces = tuple(
        FaceCrop(
            np.arange(4, dtype=np.int32) + face,
            0.5,
            np.zeros((5, 2), np.float32),
            8.0,
            np.full((16, 16, 3), face, np.uint8),
        )
        for face in range(len(vectors))
    )
    return EmbeddedPhoto(DetectedPhoto(ref, PhotoFaces(640, 480, faces, len(faces) + 1, THUMBNAIL)), vectors)


def photos(faces: list[int]) -> list[EmbeddedPhoto]:
    """Photos with so many faces each, some of them of people in the gallery."""
    count = sum(faces)
    near = fakes.unit(np.resize(VECTORS, (count, 128)) + 0.4 * fakes.unit_vectors(count, 128, seed=1))
    vectors = np.where(np.arange(count)[:, None] % 2, near, fakes.unit_vectors(count, 128, seed=2))
    parts = np.split(vectors, np.cumsum(faces)[:-1])
    return [photo(number, mine) for number, mine in enumerate(parts)]


def rows_of(outcomes):
    return {
        outcome.ref.uri: (outcome.ledger_row(), outcome.shard_key, list(outcome.rows), dict(outcome.beside))
        for outcome in outcomes
    }


def test_a_photo_gets_the_same_rows_alone_and_among_others(version):
    gallery, given = Gallery.open(version), photos([1, 3, 1, 2, 40, 1, 1])
    alone = [outcome for each in given for outcome in match.match([each], gallery, 3, TAU)]
    assert rows_of(match.match(given, gallery, 3, TAU)) == rows_of(alone)
    assert rows_of(match.match(given[::-1], gallery, 3, TAU)) == rows_of(alone)


def test_rows_are_by_face_and_rank(version):
    gallery = Gallery.open(version)
    given = photos([2, 1])
    outcomes = match.match(given, gallery, 2, TAU)
    for each, outcome in zip(given, outcomes, strict=True):
        assert (outcome.ref, outcome.faces, outcome.shard_key) == (
            each.photo.ref,
            len(each.vectors),
            outcome.ref.item_id,
        )
        assert outcome.detail == f"1 of {len(each.vectors) + 1} faces left out"
        rows = iter(outcome.rows)
        for number, nearest in enumerate(gallery.nearest_people(each.vectors, 2)):
            for rank, person in enumerate(nearest, start=1):
                row = next(rows)
                assert row["photo_uri"] == outcome.ref.uri
                assert row["face_id"] == face_id(outcome.ref.content_sha256, "", number)
                assert (row["rank"], row["box"]) == (rank, [number, number + 1, number + 2, number + 3])
                assert (row["identity"], row["gallery_face_id"]) == (person.identity, person.face_id)
                assert row["similarity"] == gallery.calibration.curve.percent(person.distance)
                assert row["margin"] == nearest[1].distance - nearest[0].distance
        assert next(rows, None) is None


@pytest.mark.parametrize(
    "kept", [Kept(), Kept(crops=False), Kept(embeddings=True), Kept(crops=False, embeddings=True)], ids=str
)
def test_of_a_photo_is_kept_what_is_to_be_kept(version, kept):
    (given,) = photos([3])
    (outcome,) = match.match([given], Gallery.open(version), 2, TAU, kept)
    uri, sha256 = outcome.ref.uri, outcome.ref.content_sha256
    assert outcome.beside.keys() == {"photos", "faces"}
    assert outcome.beside["photos"] == [
        {"photo_uri": uri, "image_width": 640, "image_height": 480, "thumbnail_jpeg": THUMBNAIL}
    ]
    assert [(row["photo_uri"], row["face_id"], row["box"], row["confidence"]) for row in outcome.beside["faces"]] == [
        (uri, face_id(sha256, "", number), [number, number + 1, number + 2, number + 3], 0.5) for number in range(3)
    ]
    for number, row in enumerate(outcome.beside["faces"]):
        if kept.crops:
            crop = np.asarray(Image.open(io.BytesIO(row["crop_jpeg"])))
            assert crop.shape == (16, 16, 3) and np.abs(crop.astype(int) - number).max() <= 1
        else:
            assert row["crop_jpeg"] is None
        assert row["embedding"] == (given.vectors[number].tolist() if kept.embeddings else None)


def test_no_vectors_are_kept_if_nobody_asks(version):
    (outcome,) = match.match(photos([1]), Gallery.open(version), 2, TAU)
    assert [row["embedding"] for row in outcome.beside["faces"]] == [None]


@pytest.mark.parametrize("faces", [[1] * 300, [200, 1, 130, 1]], ids=["many photos", "crowds"])
def test_photos_are_matched_and_counted(version, faces):
    given = photos(faces)
    kept = Kept(crops=False, embeddings=True)
    expected = rows_of(match.match(given, Gallery.open(version), 2, TAU, kept))

    def check(outcomes):
        assert len(outcomes) == len(faces)
        assert rows_of(outcomes) == expected

    with fakes.pipeline() as pipeline:
        assert_that(pipeline | Create(given) | MatchFaces(version, 2, TAU, kept=kept), check)
    assert fakes.counters(pipeline.result, "match") == {"items_in": len(faces), "items_out": len(faces)}
