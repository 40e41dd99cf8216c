"""The Annoy index: the same bytes each time, and refused wherever it would answer wrongly."""

import fakes
import numpy as np
import pytest

from celebface.indexing import annoy_index
from celebface.indexing.annoy_index import BrokenIndex

VECTORS = fakes.unit_vectors(300, 16)
FILE = annoy_index.build(VECTORS)


class ExactIndex:
    """Answers rightly; `spoil` turns an answer, and the next that would follow, into what a broken index gives."""

    def __init__(self, vectors: np.ndarray, spoil):
        self._vectors = vectors
        self._spoil = spoil

    def get_nns_by_vector(self, vector, count, search_k, include_distances):
        assert include_distances
        distances = np.linalg.norm(self._vectors - np.array(vector, np.float32), axis=1)
        rows = np.argsort(distances, kind="stable")[: count + 1]
        found, far = self._spoil(rows.tolist(), distances[rows].tolist())
        return found[:count], far[:count]


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "faces.ann")


def write(path: str, data: bytes) -> str:
    with open(path, "wb") as file:
        file.write(data)
    return path


# --- building and loading ---------------------------------------------------------------------------------------------


def test_the_same_vectors_give_the_same_bytes():
    assert annoy_index.build(VECTORS.copy()) == FILE


def test_other_vectors_give_other_bytes():
    assert annoy_index.build(VECTORS[::-1]) != FILE


def test_a_loaded_index_finds_every_vector_at_its_row(path):
    index = annoy_index.load(write(path, FILE), VECTORS)
    assert index.get_n_items() == 300
    assert index.get_n_trees() == 50
    found = [index.get_nns_by_vector(vector.tolist(), 1, search_k=300 * 50)[0] for vector in VECTORS]
    assert found == list(range(300))


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11])
def test_small_galleries_have_an_index_too(path, count):
    vectors = fakes.unit_vectors(count, 8)
    index = annoy_index.load(write(path, annoy_index.build(vectors)), vectors)
    assert sorted(index.get_nns_by_vector(vectors[0].tolist(), count, search_k=1000)) == list(range(count))


def test_people_with_the_same_photo_are_no_fault(path):
    vectors = np.repeat(fakes.unit_vectors(20, 8), 3, axis=0)
    assert annoy_index.load(write(path, annoy_index.build(vectors)), vectors).get_n_items() == 60


@pytest.mark.parametrize(
    "others",
    [fakes.unit_vectors(300, 16, seed=1), -VECTORS, VECTORS[::-1], np.roll(VECTORS, 1, axis=0)],
    ids=["other faces", "mirrored", "other order", "shifted"],
)
def test_the_index_of_other_vectors_is_refused(path, others):
    with pytest.raises(BrokenIndex, match="does not find its own vectors"):
        annoy_index.load(write(path, FILE), others)


@pytest.mark.parametrize("vectors", [VECTORS[:-1], VECTORS[:1], np.concatenate([VECTORS, VECTORS[:1]])])
def test_another_number_of_vectors_is_refused(path, vectors):
    with pytest.raises(BrokenIndex, match=f"the index holds 300 faces, its vectors are {len(vectors)}"):
        annoy_index.load(write(path, FILE), vectors)


NODE = next(size for size in range(4 * 16, 4 * 16 + 64, 4) if len(FILE) % size == 0)  # bytes of one face in the file


HALF = len(FILE) // 2 // NODE * NODE


@pytest.mark.parametrize("size", [0, 1, HALF, HALF + 1, len(FILE) - 1])
def test_a_truncated_file_is_refused(path, size):
    with pytest.raises(BrokenIndex):
        annoy_index.load(write(path, FILE[:size]), VECTORS)


def test_a_missing_file_is_refused(path):
    with pytest.raises(BrokenIndex, match="cannot be opened"):
        annoy_index.load(path, VECTORS)


# --- the self-test ----------------------------------------------------------------------------------------------------


def test_the_self_test_passes_an_index_that_is_right():
    asked = []

    def note(rows, distances):
        asked.append(rows[0])
        return rows, distances

    annoy_index.self_test(ExactIndex(VECTORS, note), VECTORS)
    assert (asked[0], asked[-1], len(asked)) == (0, 299, 50)  # a sample from end to end


FAULTS = {
    "single": lambda rows, distances: (rows[:1], distances[:1]),
    "one short": lambda rows, distances: (rows[:-2], distances[:-2]),
    "nothing": lambda rows, distances: ([], []),
    "unsorted": lambda rows, distances: (rows[:1] + rows[:0:-1], distances[:1] + distances[:0:-1]),
    "nearest last": lambda rows, distances: (rows[1:-1] + rows[:1], distances[1:-1] + distances[:1]),
    "all but the nearest": lambda rows, distances: (rows[1:], distances[1:]),
    "itself too far": lambda rows, distances: (rows, [0.01, *distances[1:]]),
    "others too far": lambda rows, distances: (rows, [distance * 2 for distance in distances]),
    "other rows": lambda rows, distances: ([(row + 1) % 300 for row in rows], distances),
    "no numbers": lambda rows, distances: (rows, [float("nan")] * len(rows)),
}


@pytest.mark.parametrize("spoil", FAULTS.values(), ids=FAULTS.keys())
def test_the_self_test_catches_an_index_that_is_wrong(spoil):
    with pytest.raises(BrokenIndex, match="does not find its own vectors"):
        annoy_index.self_test(ExactIndex(VECTORS, spoil), VECTORS)


def test_the_self_test_catches_one_wrong_row_of_the_sample():
    def spoil_the_last(rows, distances):
        return (rows[:1], distances[:1]) if rows[0] == 299 else (rows, distances)

    with pytest.raises(BrokenIndex):
        annoy_index.self_test(ExactIndex(VECTORS, spoil_the_last), VECTORS)


def test_the_self_test_takes_no_longer_for_a_large_gallery():
    efforts = []

    class Index(ExactIndex):
        def get_nns_by_vector(self, vector, count, search_k, include_distances):
            efforts.append(search_k)
            return super().get_nns_by_vector(vector, count, search_k, include_distances)

    for vectors in (fakes.unit_vectors(100, 4), fakes.unit_vectors(5000, 4)):
        annoy_index.self_test(Index(vectors, lambda rows, distances: (rows, distances)), vectors)
    assert set(efforts[:50]) == {100 * 50} and set(efforts[50:]) == {200 * 50}


def test_an_index_that_fails_at_birth_is_not_written(monkeypatch):
    class SingleNeighbour(annoy_index.AnnoyIndex):  # what clang with -ffast-math makes of Annoy
        def get_nns_by_vector(self, vector, count, search_k, include_distances):
            return [0], [0.0]

    monkeypatch.setattr(annoy_index, "AnnoyIndex", SingleNeighbour)
    with pytest.raises(BrokenIndex):
        annoy_index.build(VECTORS)
