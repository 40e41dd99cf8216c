"""The HNSW index: the same bytes each time, answers that owe nothing to batch or threads, refusals in one line."""

import pathlib
import sys

import fakes
import numpy as np
import pytest

from celebface.indexing import hnsw_index, index
from celebface.indexing.index import BrokenIndex, MissingLibrary

VECTORS, _ = fakes.crowds([5] * 400, 32, 0.5)
QUERIES = fakes.unit_vectors(300, 32, seed=1)


def opened(vectors: np.ndarray, path: pathlib.Path):
    return hnsw_index.open(str(path), vectors, hnsw_index.PARAMS)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("index") / "faces.hnsw"
    hnsw_index.build(VECTORS, str(path))
    return path


def test_two_builds_give_the_same_bytes(path, tmp_path):
    hnsw_index.build(VECTORS.copy(), str(tmp_path / "again.hnsw"))
    assert (tmp_path / "again.hnsw").read_bytes() == path.read_bytes()


def test_it_proposes_nearly_all_of_the_nearest_rows(path):
    rows, beyond = opened(VECTORS, path).candidates(QUERIES, 10, 200)
    assert (rows.dtype, rows.shape, beyond.tolist()) == (np.int64, (300, 10), [np.inf] * 300)
    truth = np.argsort(((QUERIES[:, None] - VECTORS) ** 2).sum(axis=2), axis=1)[:, :10]
    found = [len(set(mine) & set(true)) for mine, true in zip(rows.tolist(), truth.tolist(), strict=True)]
    assert np.mean(found) >= 9.9


def test_what_a_query_gets_owes_nothing_to_the_others_nor_to_threads(path, monkeypatch):
    opens = opened(VECTORS, path)
    together, _ = opens.candidates(QUERIES, 10, 50)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert opens.candidates(QUERIES[::-1], 10, 50)[0].tolist() == together[::-1].tolist()
    for number in (0, 7, 299):
        assert opens.candidates(QUERIES[number : number + 1], 10, 50)[0].tolist() == [together[number].tolist()]


def test_more_effort_finds_no_less(path):
    truth = np.argsort(((QUERIES[:, None] - VECTORS) ** 2).sum(axis=2), axis=1)[:, :1]
    hits = [(opened(VECTORS, path).candidates(QUERIES, 1, effort)[0] == truth).mean() for effort in (1, 400)]
    assert hits[0] < hits[1] >= 0.99


def test_no_queries_no_rows(path):
    rows, beyond = opened(VECTORS, path).candidates(QUERIES[:0], 10, 50)
    assert (rows.shape, beyond.shape) == ((0, 10), (0,))


@pytest.mark.parametrize("count", [1, 2, 11])
def test_small_galleries_have_an_index_too(tmp_path, count):
    vectors = fakes.unit_vectors(count, 8)
    hnsw_index.build(vectors, str(tmp_path / "faces.hnsw"))
    rows, _ = opened(vectors, tmp_path / "faces.hnsw").candidates(vectors, 100, 100)
    assert [sorted(mine) for mine in rows.tolist()] == [list(range(count))] * count


@pytest.mark.parametrize("others", [-VECTORS, VECTORS[::-1]], ids=["mirrored", "other order"])
def test_the_index_of_other_vectors_is_refused(path, others):
    with pytest.raises(BrokenIndex, match="does not find its own vectors"):
        opened(others, path)


def test_another_number_of_vectors_is_refused(path):
    with pytest.raises(BrokenIndex, match="the index holds 2000 faces, its vectors are 1999"):
        opened(VECTORS[:-1], path)


@pytest.mark.parametrize("data", [b"", b"no index", bytes(1000)], ids=["empty", "text", "zeros"])
def test_what_is_no_index_is_refused(tmp_path, data):
    (tmp_path / "faces.hnsw").write_bytes(data)
    with pytest.raises(BrokenIndex):
        opened(VECTORS, tmp_path / "faces.hnsw")


def test_without_its_library_it_is_refused_with_what_to_do(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    for use in (hnsw_index.check, lambda: opened(VECTORS, path), lambda: hnsw_index.build(VECTORS, str(path))):
        with pytest.raises(MissingLibrary, match=r"needs usearch, .* pip install 'celebface\[hnsw\]'$"):
            use()


@pytest.mark.parametrize(("stated", "threads"), [("1", 1), ("3", 3)])
def test_a_worker_uses_its_share_of_the_cores(monkeypatch, stated, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    assert index.threads() == threads


@pytest.mark.parametrize("stated", ["", "0", "2,1", "many"])
def test_all_cores_are_used_where_no_number_is_stated(monkeypatch, stated):
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    monkeypatch.setattr(index.os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    assert index.threads() == 5
