"""The faces that an encoder learns from: their people, their parts, and crops that are made once. Real detector."""

import pathlib

import numpy as np
import pytest

from celebface.indexing.cache import default_cache
from celebface.indexing.schemas import Reason
from celebface.models.faces import ReaderConfig
from celebface.models.weights import sample_folder
from celebface.pipelines import training_faces
from celebface.pipelines.embedder import EVERY_FACE
from celebface.pipelines.training_faces import LabelledFaces
from celebface.transforms.files import UnreadableFile

READING = ReaderConfig(gate=EVERY_FACE)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Two people with two photos each, and a photo of nobody whose name could be a person's."""
    people = tmp_path / "people"
    for person in ("madonna", "elton_john"):
        (people / person).mkdir(parents=True)
        for photo in sorted((sample_folder(default_cache(), "val") / person).iterdir())[:2]:
            (people / person / photo.name).write_bytes(photo.read_bytes())
    return people


def read(folder: pathlib.Path, cache: pathlib.Path, **config):
    return training_faces.of_folder(str(folder), ReaderConfig(gate=EVERY_FACE, **config), "float32", str(cache))


def test_people_and_crops_of_a_folder(folder, tmp_path):
    faces, ledger = read(folder, tmp_path / "cache")
    assert sorted(faces.names) == ["elton_john", "madonna"]
    assert np.bincount(faces.people).tolist() == [2, 2]
    assert faces.pixels().shape == (4, 160, 160, 3)
    assert ledger.num_rows == 4 and set(ledger["status"].to_pylist()) == {"done"}
    by_name = dict(zip(ledger["uri"].to_pylist(), ledger["identity"].to_pylist(), strict=True))
    assert all(pathlib.Path(uri).parent.name == name for uri, name in by_name.items())


def test_photos_are_searched_once_and_again_when_they_change(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first, ledger = read(folder, cache)

    def nothing_to_read(*arguments):
        raise AssertionError("the photos were read again")

    with monkeypatch.context() as patched:
        patched.setattr(training_faces, "read_photo", nothing_to_read)
        again, same = read(folder, cache)
        assert again.digest == first.digest and same.equals(ledger)
        with pytest.raises(AssertionError, match="read again"):
            read(folder, cache, max_faces=3)
    changed = next((folder / "madonna").iterdir())
    changed.write_bytes(next((folder / "elton_john").iterdir()).read_bytes())
    assert read(folder, cache)[0].digest != first.digest


def test_a_part_keeps_the_numbers_of_its_people():
    faces = LabelledFaces([b"a", b"b", b"c", b"d"], np.array([0, 2, 1, 2]), ["ann", "bob", "eve"])
    part = faces.part(faces.people == 2)
    assert (part.crops, part.people.tolist()) == ([b"b", b"d"], [2, 2])
    assert part.described() == {"faces": 2, "people": 1, "faces_of_people": [["eve", 2]]}


def test_the_digest_is_of_crops_and_people():
    crops, people = [b"a", b"b"], np.array([0, 1])
    whole = LabelledFaces(crops, people, ["x", "y"]).digest
    assert whole == LabelledFaces(list(crops), people.copy(), ["x", "y"]).digest
    assert whole != LabelledFaces(crops[::-1], people, ["x", "y"]).digest
    assert whole != LabelledFaces(crops, people[::-1].copy(), ["x", "y"]).digest


def test_what_is_measured_is_bounded(monkeypatch):
    """Twelve photos of one person, two of another, three of a third, mixed up: the first ten, and so many in all."""
    people = np.random.default_rng(0).permutation(np.repeat([5, 7, 9], [12, 2, 3]))
    faces = LabelledFaces([b"%d" % row for row in range(17)], people, [""] * 10)
    kept = faces.measurable()
    first = set(np.flatnonzero(people == 5)[:10]) | set(np.flatnonzero(people != 5))
    assert [int(crop) for crop in kept.crops] == sorted(first)
    assert kept.people.tolist() == people[sorted(first)].tolist()
    monkeypatch.setattr(training_faces, "_MOST_COMPARED", 12)
    assert np.bincount(faces.measurable().people).tolist() == [0, 0, 0, 0, 0, 10, 0, 2]


def test_a_fault_of_the_place_is_not_remembered(folder, tmp_path, monkeypatch):
    gone = next((folder / "madonna").iterdir())

    def read_photo(uri):
        if uri == str(gone):
            raise UnreadableFile(Reason.UNREADABLE, "the store does not give it")
        return pathlib.Path(uri).read_bytes()

    with monkeypatch.context() as patched:
        patched.setattr(training_faces, "read_photo", read_photo)
        faces, ledger = read(folder, tmp_path / "cache")
    assert len(faces.crops) == 3 and "unreadable" in ledger["reason"].to_pylist()
    assert len(read(folder, tmp_path / "cache")[0].crops) == 4
