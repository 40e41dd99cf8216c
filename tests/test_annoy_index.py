"""The Annoy index: the same bytes each time, and refused wherever it would answer wrongly."""

import pathlib

import fakes
import numpy as np
import pytest

from celebface.indexing import annoy_index
from celebface.indexing.index import BrokenIndex

VECTORS = fakes.unit_vectors(300, 16)


def file_of(vectors: np.ndarray, folder: pathlib.Path) -> bytes:
    annoy_index.build(vectors, [str(folder / "built.ann")])
    return (folder / "built.ann").read_bytes()


def opened(vectors: np.ndarray, path: str):
    return annoy_index.open([path], vectors, annoy_index.PARAMS)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> bytes:
    return file_of(VECTORS, tmp_path_factory.mktemp("index"))


@pytest.fixture
def path(tmp_path, data) -> str:
    (tmp_path / "faces.ann").write_bytes(data)
    return str(tmp_path / "faces.ann")


def write(path: str, data: bytes) -> str:
    pathlib.Path(path).write_bytes(data)
    return path


# --- building and opening ---------------------------------------------------------------------------------------------


def test_the_same_vectors_give_the_same_bytes(data, tmp_path):
    assert file_of(VECTORS.copy(), tmp_path) == data


def test_other_vectors_give_other_bytes(data, tmp_path):
    assert file_of(VECTORS[::-1], tmp_path) != data


def test_an_opened_index_finds_every_vector_at_its_row(path):
    rows, beyond = opened(VECTORS, path).candidates(VECTORS, 1, 300 * annoy_index.TREES)
    assert rows.dtype == np.int64
    assert rows.tolist() == [[row] for row in range(300)]
    assert beyond.tolist() == [np.inf] * 300


def test_an_exhaustive_search_proposes_the_nearest_rows_in_their_order(path):
    queries = fakes.unit_vectors(9, 16, seed=1)
    rows, _ = opened(VECTORS, path).candidates(queries, 20, 300 * annoy_index.TREES)
    truth = np.argsort(((queries[:, None] - VECTORS) ** 2).sum(axis=2), axis=1)[:, :20]
    assert rows.tolist() == truth.tolist()


def test_places_that_a_lazy_search_does_not_fill_are_empty(tmp_path):
    vectors = fakes.unit_vectors(3000, 16)
    annoy_index.build(vectors, [str(tmp_path / "faces.ann")])
    rows, _ = opened(vectors, str(tmp_path / "faces.ann")).candidates(vectors[:2], 2500, 1)
    assert rows.shape == (2, 2500)
    for mine in rows.tolist():
        found = mine.index(-1)
        assert len(set(mine[:found])) == found > 0
        assert set(mine[found:]) == {-1}


def test_no_more_is_proposed_than_there_is(path):
    rows, _ = opened(VECTORS, path).candidates(VECTORS[:2], 1000, 300 * annoy_index.TREES)
    assert [sorted(mine) for mine in rows.tolist()] == [list(range(300))] * 2


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11])
def test_small_galleries_have_an_index_too(tmp_path, count):
    vectors = fakes.unit_vectors(count, 8)
    write(str(tmp_path / "faces.ann"), file_of(vectors, tmp_path))
    rows, _ = opened(vectors, str(tmp_path / "faces.ann")).candidates(vectors[:1], count, 1000)
    assert sorted(rows[0].tolist()) == list(range(count))


def test_people_with_the_same_photo_are_no_fault(path, tmp_path):
    vectors = np.repeat(fakes.unit_vectors(20, 8), 3, axis=0)
    index = opened(vectors, write(path, file_of(vectors, tmp_path)))
    assert sorted(index.candidates(vectors[:1], 3, 1000)[0][0].tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    "others",
    [fakes.unit_vectors(300, 16, seed=1), -VECTORS, VECTORS[::-1], np.roll(VECTORS, 1, axis=0)],
    ids=["other faces", "mirrored", "other order", "shifted"],
)
def test_the_index_of_other_vectors_is_refused(path, others):
    with pytest.raises(BrokenIndex, match="does not find its own vectors"):
        opened(others, path)


@pytest.mark.parametrize("vectors", [VECTORS[:-1], VECTORS[:1], np.concatenate([VECTORS, VECTORS[:1]])])
def test_another_number_of_vectors_is_refused(path, vectors):
    with pytest.raises(BrokenIndex, match=f"the index holds 300 faces, its vectors are {len(vectors)}"):
        opened(vectors, path)


@pytest.mark.parametrize("share", [0, 1e-9, 0.5, 0.50001, 1], ids=["all", "to 1 byte", "half", "in a node", "1 byte"])
def test_a_truncated_file_is_refused(path, data, share):
    node = next(size for size in range(4 * 16, 4 * 16 + 64, 4) if len(data) % size == 0)  # bytes of one face
    kept = {0: 0, 1e-9: 1, 0.5: len(data) // 2 // node * node, 0.50001: len(data) // 2 // node * node + 1}
    with pytest.raises(BrokenIndex):
        opened(VECTORS, write(path, data[: kept.get(share, len(data) - 1)]))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BrokenIndex, match="cannot be opened"):
        opened(VECTORS, str(tmp_path / "faces.ann"))


def test_an_index_that_fails_at_birth_is_not_written(monkeypatch, tmp_path):
    class SingleNeighbour(annoy_index.AnnoyIndex):  # what clang with -ffast-math makes of Annoy
        def get_nns_by_vector(self, vector, count, search_k):
            return [0]

    monkeypatch.setattr(annoy_index, "AnnoyIndex", SingleNeighbour)
    with pytest.raises(BrokenIndex):
        annoy_index.build(VECTORS, [str(tmp_path / "faces.ann")])
    assert list(tmp_path.iterdir()) == []


def test_the_self_test_takes_no_longer_for_a_large_gallery(monkeypatch, tmp_path):
    efforts = []
    monkeypatch.setattr(annoy_index, "self_test", lambda index, vectors, effort: efforts.append(effort))
    for count in (100, 5000):
        annoy_index.build(fakes.unit_vectors(count, 4), [str(tmp_path / "faces.ann")])
    assert efforts == [100 * 50, 200 * 50]
