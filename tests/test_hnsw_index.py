"""The HNSW index: the same bytes each time, answers that owe nothing to batch or threads, refusals in one line."""

import pathlib
import shutil
import sys

import fakes
import numpy as np
import pytest

from celebface.indexing import hnsw_index, index
from celebface.indexing.index import BrokenIndex, MissingLibrary

VECTORS, _ = fakes.crowds([5] * 400, 32, 0.5)
QUERIES = fakes.unit_vectors(300, 32, seed=1)


def paths_in(folder: pathlib.Path) -> list[str]:
    return [str(folder / f"faces.{ending}") for ending in hnsw_index.FILES]


def opened(vectors: np.ndarray, folder: pathlib.Path):
    return hnsw_index.open(paths_in(folder), vectors, hnsw_index.PARAMS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("index")
    hnsw_index.build(VECTORS, paths_in(folder))
    return folder


def test_two_builds_give_the_same_bytes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(hnsw_index, "_AT_ONCE", 700)  # the vectors' bytes do not hang on how many are taken at once
    hnsw_index.build(VECTORS.copy(), paths_in(tmp_path))
    for name in ("faces.hnsw", "faces.components.npy"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_it_proposes_nearly_all_of_the_nearest_rows(folder):
    rows, beyond = opened(VECTORS, folder).candidates(QUERIES, 10, 200)
    assert (rows.dtype, rows.shape, beyond.tolist()) == (np.int64, (300, 10), [np.inf] * 300)
    truth = np.argsort(((QUERIES[:, None] - VECTORS) ** 2).sum(axis=2), axis=1)[:, :10]
    found = [len(set(mine) & set(true)) for mine, true in zip(rows.tolist(), truth.tolist(), strict=True)]
    assert np.mean(found) >= 9.9


def test_what_a_query_gets_owes_nothing_to_the_others_nor_to_threads(folder, monkeypatch):
    opens = opened(VECTORS, folder)
    together, _ = opens.candidates(QUERIES, 10, 50)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert opens.candidates(QUERIES[::-1], 10, 50)[0].tolist() == together[::-1].tolist()
    for number in (0, 7, 299):
        assert opens.candidates(QUERIES[number : number + 1], 10, 50)[0].tolist() == [together[number].tolist()]


def test_more_effort_finds_no_less(folder):
    truth = np.argsort(((QUERIES[:, None] - VECTORS) ** 2).sum(axis=2), axis=1)[:, :1]
    hits = [(opened(VECTORS, folder).candidates(QUERIES, 1, effort)[0] == truth).mean() for effort in (1, 400)]
    assert hits[0] < hits[1] >= 0.99


def test_no_queries_no_rows(folder):
    rows, beyond = opened(VECTORS, folder).candidates(QUERIES[:0], 10, 50)
    assert (rows.shape, beyond.shape) == ((0, 10), (0,))


@pytest.mark.parametrize("count", [1, 2, 11])
def test_small_galleries_have_an_index_too(tmp_path, count):
    vectors = fakes.unit_vectors(count, 8)
    hnsw_index.build(vectors, paths_in(tmp_path))
    rows, _ = opened(vectors, tmp_path).candidates(vectors, 100, 100)
    assert [sorted(mine) for mine in rows.tolist()] == [list(range(count))] * count


@pytest.mark.parametrize("others", [-VECTORS, VECTORS[::-1]], ids=["mirrored", "other order"])
def test_the_index_of_other_vectors_is_refused(folder, others):
    with pytest.raises(BrokenIndex, match="does not find its own vectors"):
        opened(others, folder)


def test_another_number_of_vectors_is_refused(folder):
    with pytest.raises(BrokenIndex, match="the index holds 2000 faces, its vectors are 1999"):
        opened(VECTORS[:-1], folder)


@pytest.mark.parametrize("name", ["faces.hnsw", "faces.components.npy"])
@pytest.mark.parametrize("data", [b"", b"no index", bytes(1000)], ids=["empty", "text", "zeros"])
def test_what_is_no_index_is_refused(folder, tmp_path, data, name):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BrokenIndex, match="the index file"):
        opened(VECTORS, tmp_path)


@pytest.mark.parametrize("shape", [(32,), (31, 32), (32, 16)])
def test_components_of_another_shape_are_refused(folder, tmp_path, shape):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    np.save(tmp_path / "faces.components.npy", np.eye(32, dtype=np.float32).ravel()[: np.prod(shape)].reshape(shape))
    with pytest.raises(BrokenIndex):
        opened(VECTORS, tmp_path)


# --- principal components ---------------------------------------------------------------------------------------------


def vectors_of(held: list[float], count: int = 4000) -> np.ndarray:
    """Vectors of which the components hold these shares, in directions that are nowhere along the axes."""
    random = np.random.default_rng(3)
    turned, _ = np.linalg.qr(random.normal(size=(len(held), len(held))))
    return (random.normal(size=(count, len(held))) * np.sqrt(held) @ turned).astype(np.float32)


@pytest.mark.parametrize(("held", "count"), [([1.0] * 10 + [1e-6] * 54, 16), ([1.0] * 20 + [1e-6] * 44, 32)])
def test_as_many_components_are_taken_as_hold_nearly_all(held, count):
    vectors = vectors_of(held)
    components = hnsw_index.principal_components(vectors, 0.999)
    assert (components.shape, components.dtype) == ((64, count), np.float32)
    np.testing.assert_allclose(components.T @ components, np.eye(count), atol=2e-3)
    projected = hnsw_index.project(vectors, components)
    np.testing.assert_allclose(projected @ projected[:50].T, vectors @ vectors[:50].T, atol=0.1)


@pytest.mark.parametrize("size", [8, 24])
def test_where_every_component_counts_all_are_taken(size):
    assert hnsw_index.principal_components(vectors_of([1.0] * size), 0.999).shape == (size, size)


def test_what_a_vector_is_projected_to_owes_nothing_to_the_others():
    vectors = vectors_of([1.0] * 20 + [1e-6] * 108, 400)
    components = hnsw_index.principal_components(vectors, 0.999)
    together = hnsw_index.project(vectors, components)
    for some in (slice(0, 1), slice(7, 8), slice(3, 131), slice(399, 400)):
        assert hnsw_index.project(vectors[some], components).tobytes() == together[some].tobytes()


def test_components_do_not_hang_on_the_last_bits():
    vectors = vectors_of(list(np.geomspace(1, 1e-4, 32)))
    nearly = vectors.astype(np.float64) * (1 + 1e-13)
    assert (
        hnsw_index.principal_components(nearly, 0.99).tobytes()
        == hnsw_index.principal_components(vectors, 0.99).tobytes()
    )


def test_without_its_library_it_is_refused_with_what_to_do(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    for use in (hnsw_index.check, lambda: opened(VECTORS, folder), lambda: hnsw_index.build(VECTORS, paths_in(folder))):
        with pytest.raises(MissingLibrary, match=r"needs usearch, .* pip install '\.\[hnsw\]' in celebface's folder$"):
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
