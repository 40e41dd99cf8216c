"""Exact distances, and an order that does not depend on how the candidates came."""

import fakes
import numpy as np
import pytest

from celebface.indexing import annoy_index, search


def slow_nearest(query: np.ndarray, vectors: np.ndarray, rows, count: int) -> list[tuple[int, float]]:
    """Rows with their squared distances, nearest first, equals by row."""
    return sorted(
        ((int(row), sum((float(a) - float(b)) ** 2 for a, b in zip(vectors[row], query, strict=True))) for row in rows),
        key=lambda entry: (entry[1], entry[0]),
    )[:count]


def test_the_nearest_rows_are_those_of_a_slow_search():
    vectors, queries = fakes.unit_vectors(200, 12), fakes.unit_vectors(20, 12, seed=1)
    for query in queries:
        rows, distances = search.nearest_exact(query, vectors, 7)
        expected = slow_nearest(query, vectors, range(200), 7)
        assert rows.tolist() == [row for row, _ in expected]
        assert distances == pytest.approx([distance for _, distance in expected], abs=1e-6)


def test_distances_are_squared_and_float32():
    vectors = np.eye(4, dtype=np.float32)
    rows, distances = search.nearest_exact(vectors[2], np.concatenate([vectors, -vectors[2:3]]), 5)
    assert rows.tolist() == [2, 0, 1, 3, 4]
    assert distances.tolist() == [0.0, 2.0, 2.0, 2.0, 4.0]
    assert distances.dtype == np.float32


def test_near_distances_are_not_rounded_away():
    vectors = fakes.unit(np.array([[1.0, 0.0], [1.0, 1e-4], [1.0, 3e-4]]))  # 2 - 2ab would give 0 for all
    rows, distances = search.nearest_exact(vectors[0], vectors, 3)
    assert rows.tolist() == [0, 1, 2]
    assert distances == pytest.approx([0.0, 1e-8, 9e-8], rel=1e-2)


@pytest.mark.parametrize("rows", [[5, 0, 3, 1, 4, 2], [0, 1, 2, 3, 4, 5], [4, 5, 2, 3, 0, 1]])
def test_equals_are_ordered_by_row_however_the_candidates_come(rows):
    pair = fakes.unit_vectors(2, 8)
    vectors = pair[[0, 1, 0, 1, 0, 1]]
    found, distances = search.rerank(pair[1], vectors, np.array(rows), 5)
    assert found.tolist() == [1, 3, 5, 0, 2]
    assert distances.tolist() == [0.0, 0.0, 0.0, distances[3], distances[3]]


def test_only_candidates_are_ranked():
    vectors = fakes.unit_vectors(50, 8)
    found, distances = search.rerank(vectors[7], vectors, np.array([30, 20, 10]), 10)
    assert [(row, pytest.approx(distance, abs=1e-6)) for row, distance in zip(found, distances, strict=True)] == (
        slow_nearest(vectors[7], vectors, [10, 20, 30], 3)
    )


def test_no_candidates_no_answer():
    found, distances = search.rerank(np.ones(3, np.float32), np.ones((2, 3), np.float32), np.array([], np.int64), 5)
    assert (found.tolist(), distances.tolist()) == ([], [])


# --- many queries -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[1, 2**10, 2**30], ids=["rows alone", "blocks", "all at once"])
def cells(request, monkeypatch) -> None:
    monkeypatch.setattr(search, "_CELLS", request.param)


def same(answers, expected) -> bool:
    return [(rows.tolist(), distances.tolist()) for rows, distances in answers] == [
        (rows.tolist(), distances.tolist()) for rows, distances in expected
    ]


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("count", [1, 7, 30, 200, 500])
def test_each_query_gets_what_it_gets_alone(count):
    vectors, queries = fakes.unit_vectors(200, 12), fakes.unit_vectors(20, 12, seed=1)
    answers = search.nearest_of_each(queries, vectors, count)
    assert same(answers, [search.nearest_exact(query, vectors, count) for query in queries])


@pytest.mark.usefixtures("cells")
def test_equals_are_ordered_by_row_also_where_they_are_many():
    vectors = np.repeat(fakes.unit_vectors(2, 8), 300, axis=0)
    queries = np.concatenate([vectors[::300], fakes.unit_vectors(3, 8, seed=1)])
    answers = search.nearest_of_each(queries, vectors, 5)
    assert same(answers, [search.nearest_exact(query, vectors, 5) for query in queries])
    assert [rows.tolist() for rows, _ in answers[:2]] == [[0, 1, 2, 3, 4], [300, 301, 302, 303, 304]]


@pytest.mark.usefixtures("cells")
def test_no_row_that_was_not_chosen_is_nearer_than_told():
    vectors, queries = fakes.unit_vectors(500, 128), fakes.unit_vectors(9, 128, seed=1)
    for query, (rows, beyond) in zip(queries, search.shortlists(queries, vectors, 20), strict=True):
        assert len(set(rows.tolist())) == 20
        order, distances = search.nearest_exact(query, vectors, 500)
        assert set(rows.tolist()) == set(order[:20].tolist())
        assert distances[19] - 2e-4 < beyond < distances[20]


def test_where_all_rows_are_chosen_there_is_no_other():
    vectors = fakes.unit_vectors(20, 8)
    for count in (20, 21):
        for rows, beyond in search.shortlists(vectors[:3], vectors, count):
            assert (sorted(rows.tolist()), beyond) == (list(range(20)), np.inf)


def test_no_queries_no_shortlists():
    assert search.shortlists(np.empty((0, 8), np.float32), fakes.unit_vectors(20, 8), 5) == []


@pytest.mark.parametrize("others", [1, 7, 31, 32, 100, 128, 1000])
def test_a_distance_does_not_depend_on_what_else_is_measured(others):
    vectors, query = fakes.unit_vectors(3000, 128), fakes.unit_vectors(1, 128, seed=1)[0]
    order, distances = search.nearest_exact(query, vectors, 3000)
    chosen = np.random.default_rng(others).choice(3000, others, replace=False)
    found, some = search.rerank(query, vectors, chosen, others)
    assert some.tolist() == distances[np.argsort(order)][found].tolist()


@pytest.mark.parametrize(
    ("faces", "search_k", "worth"), [(8000, 500, False), (8001, 500, True), (10**6, 10**5, False), (10**6, 10**4, True)]
)
def test_an_index_is_worth_it_for_many_faces_and_little_effort(faces, search_k, worth):
    assert search.worth_an_index(faces, search_k) == worth


def test_candidates_of_an_exhaustive_search_are_the_nearest_rows(tmp_path):
    vectors = fakes.unit_vectors(300, 16)
    (tmp_path / "faces.ann").write_bytes(annoy_index.build(vectors))
    index = annoy_index.load(str(tmp_path / "faces.ann"), vectors)
    rows = search.candidates(index, vectors[5], 20, 300 * 50)
    assert rows.dtype == np.int64
    assert rows.tolist() == [row for row, _ in slow_nearest(vectors[5], vectors, range(300), 20)]
