"""Who is let in, by vectors of whom no network was asked."""

import pathlib

import fakes
import numpy as np
import pytest
from test_comparison import CARD

from celebface.indexing.calibration import Verdict
from celebface.models.faces import FaceCrop, NoFace, PhotoFaces, PhotoFault
from celebface.pipelines import door
from celebface.pipelines.comparison import MainFace
from celebface.pipelines.door import Enrolment, LeftOut
from celebface.pipelines.embedder import EmbeddedFaces
from celebface.transforms.folders import NoSuchSource

VECTORS = fakes.unit_vectors(60, 128)
NO_FACE = b"nobody"


def embedded(vector: np.ndarray, faces: int = 1) -> EmbeddedFaces:
    crop = FaceCrop(np.array([1, 2, 30, 40], np.int32), 0.9, np.zeros((5, 2)), 8.0, np.zeros((2, 2, 3), np.uint8))
    return EmbeddedFaces(PhotoFaces(64, 48, (crop,), faces), vector[None])


class NumberedFaces:
    """An embedder of photos that hold the number of a vector."""

    def embed(self, photos: list[bytes]) -> list[EmbeddedFaces | PhotoFault]:
        return [
            NoFace("the detector found no face") if photo == NO_FACE else embedded(VECTORS[int(photo)])
            for photo in photos
        ]


def enroll(folder: pathlib.Path, **photos: bytes) -> Enrolment:
    """Enrols people by files, in which "__" is a folder's end and "_" a dot."""
    for name, data in photos.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return door.enroll(door.list_photos(str(folder)), NumberedFaces(), CARD)


def visitor(vector: np.ndarray) -> MainFace:
    return MainFace.of("visitor.jpg", embedded(vector.astype(np.float32)))


def between(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    return fakes.unit(((1 - share) * first + share * second)[None])[0]


def test_people_are_named_by_their_file_or_folder(tmp_path):
    found = enroll(tmp_path, ann_jpg=b"0", bob__1_jpg=b"1", bob__2_jpg=b"2", notes_txt=b"3")
    assert (len(found.roster), found.calibration.people, found.left_out) == (3, 2, [])
    people = {face.identity: face.uri for (face,) in found.roster.nearest_people(VECTORS[:3], 1)}
    assert people == {"ann": str(tmp_path / "ann.jpg"), "bob": str(tmp_path / "bob" / "2.jpg")}
    assert {face.photo for face in found.faces.values()} == {
        str(tmp_path / name) for name in ("ann.jpg", "bob/1.jpg", "bob/2.jpg")
    }


def test_a_photo_without_a_face_is_named_and_the_others_are_enrolled(tmp_path):
    found = enroll(tmp_path, ann_jpg=b"0", bob_jpg=NO_FACE)
    assert found.left_out == [LeftOut(str(tmp_path / "bob.jpg"), "no_face", "the detector found no face")]
    assert found.calibration.people == 1


def test_a_photo_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "bob.jpg").symlink_to(tmp_path / "nowhere")
    found = enroll(tmp_path, ann_jpg=b"0")
    assert [(lost.reason, lost.detail) for lost in found.left_out] == [("not_found", "a link that leads nowhere")]


def test_nobody_with_a_face_is_nobody_enrolled(tmp_path):
    with pytest.raises(NoSuchSource, match=r"nobody is enrolled: none of 1 photo has a usable face"):
        enroll(tmp_path, bob_jpg=NO_FACE)


@pytest.mark.parametrize("name", ["nowhere", "empty", "notes", "file"])
def test_a_folder_without_photos_is_none_of_people(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("")
    (tmp_path / "file").write_text("")
    with pytest.raises(NoSuchSource):
        door.list_photos(str(tmp_path / name))


def test_the_door_opens_for_the_one_who_is_near(tmp_path):
    enrolled = enroll(tmp_path, ann_jpg=b"0", bob_jpg=b"1")
    found = door.admit(visitor(VECTORS[1]), enrolled, enrolled.threshold())
    assert (found.opened, found.verdict, found.nearest[0].identity) == (True, Verdict.MATCH, "bob")
    assert found.margin == pytest.approx(float(np.square(VECTORS[0] - VECTORS[1]).sum()), abs=1e-5)
    assert found.similarity > 99


def test_the_door_stays_shut_for_a_stranger(tmp_path):
    enrolled = enroll(tmp_path, ann_jpg=b"0", bob_jpg=b"1")
    found = door.admit(visitor(VECTORS[2]), enrolled, enrolled.threshold())
    assert (found.opened, found.verdict) == (False, Verdict.LOOKALIKE)
    assert [person.distance > found.threshold.tau for person in found.nearest] == [True, True]


def test_the_door_stays_shut_for_who_may_be_two(tmp_path):
    enrolled = enroll(tmp_path, ann_jpg=b"0", bob_jpg=b"1")
    found = door.admit(visitor(between(VECTORS[0], VECTORS[1], 0.5)), enrolled, enrolled.threshold(tau=2.0))
    assert (found.opened, found.verdict) == (False, Verdict.AMBIGUOUS)
    assert found.margin < 0.1 and found.nearest[0].distance < 2.0


def test_one_person_alone_has_no_margin(tmp_path):
    enrolled = enroll(tmp_path, ann_jpg=b"0")
    found = door.admit(visitor(VECTORS[0]), enrolled, enrolled.threshold())
    assert (found.opened, found.margin) == (True, None)


def test_the_more_are_enrolled_the_nearer_one_must_be(tmp_path):
    """A stranger has as many chances as there are people, and more with several photos of each."""
    one = enroll(tmp_path / "1", ann_jpg=b"0").threshold()
    three = enroll(tmp_path / "3", ann_jpg=b"0", bob_jpg=b"1", eve_jpg=b"2").threshold()
    photos = enroll(tmp_path / "5", ann_jpg=b"0", bob_jpg=b"1", eve__1_jpg=b"2", eve__2_jpg=b"3").threshold()
    many = enroll(tmp_path / "50", **{f"p{number}_jpg": b"%d" % number for number in range(50)}).threshold()
    assert one.tau == pytest.approx(1.29)  # of one comparison
    assert one.tau > three.tau > photos.tau > many.tau
    assert {found.false_match_rate for found in (one, three, photos, many)} == {0.01}
    assert three.stated == (
        f"false match rate 1 % (extrapolated, 95 %: 0 to {100 * three.interval[1]:.2g} %), "
        "for a stranger before 3 enrolled people"
    )


def test_the_rate_chooses_tau_and_tau_the_rate(tmp_path):
    enrolled = enroll(tmp_path, ann_jpg=b"0", bob_jpg=b"1", eve_jpg=b"2")
    strict = enrolled.threshold(far=0.001)
    assert strict.tau < enrolled.threshold().tau
    assert enrolled.threshold(tau=strict.tau).false_match_rate == 0.001
    assert enrolled.threshold(tau=1.22).false_match_rate == pytest.approx(3 * 0.0058, rel=0.05)
    assert enrolled.threshold(tau=0.1).stated.startswith("false match rate below 0.1 %")


def test_who_is_enrolled_twice_is_no_stranger_to_themselves(tmp_path):
    enrolled = enroll(tmp_path, ann_jpg=b"0", ann2_jpg=b"0", bob_jpg=b"1")
    assert (enrolled.calibration.copies, enrolled.calibration.strangers.count) == (2, 1)
