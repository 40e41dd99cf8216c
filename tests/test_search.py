"""Exact distances, and an order that does not depend on how the candidates came."""

import fakes
import numpy as np
import pytest

from celebface.indexing import search


def slow_nearest(query: np.ndarray, vectors: np.ndarray, rows, count: int) -> list[tuple[int, float]]:
    """Rows with their squared distances, nearest first, equals by row."""
    return sorted(
        ((int(row), sum((float(a) - float(b)) ** 2 for a, b in zip(vectors[row], query, strict=True))) for row in rows),
        key=lambda entry: (entry[1], entry[0]),
    )[:count]


def test_the_nearest_rows_are_those_of_a_slow_search():
    vectors, queries = fakes.unit_vectors(200, 12), fakes.unit_vectors(20, 12, seed=1)
    rows, distances = search.nearest_exact(queries, vectors, 7)
    for query, mine, far in zip(queries, rows, distances, strict=True):
        expected = slow_nearest(query, vectors, range(200), 7)
        assert mine.tolist() == [row for row, _ in expected]
        assert far == pytest.approx([distance for _, distance in expected], abs=1e-6)


def test_distances_are_squared_and_float32():
    vectors = np.eye(4, dtype=np.float32)
    rows, distances = search.nearest_exact(vectors[2:3], np.concatenate([vectors, -vectors[2:3]]), 5)
    assert rows.tolist() == [[2, 0, 1, 3, 4]]
    assert distances.tolist() == [[0.0, 2.0, 2.0, 2.0, 4.0]]
    assert (rows.dtype, distances.dtype) == (np.int64, np.float32)


def test_near_distances_are_not_rounded_away():
    vectors = fakes.unit(np.array([[1.0, 0.0], [1.0, 1e-4], [1.0, 3e-4]]))  # 2 - 2ab would give 0 for all
    rows, distances = search.nearest_exact(vectors[:1], vectors, 3)
    assert rows.tolist() == [[0, 1, 2]]
    assert distances[0] == pytest.approx([0.0, 1e-8, 9e-8], rel=1e-2)


# --- ranking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[5, 0, 3, 1, 4, 2], [0, 1, 2, 3, 4, 5], [4, 5, 2, 3, 0, 1]])
def test_equals_are_ordered_by_row_however_the_candidates_come(rows):
    pair = fakes.unit_vectors(2, 8)
    vectors = pair[[0, 1, 0, 1, 0, 1]]
    found, distances = search.rerank(pair[1:], vectors, np.array([rows]))
    assert found.tolist() == [[1, 3, 5, 0, 2, 4]]
    assert distances[0].tolist() == [0.0, 0.0, 0.0] + 3 * [distances[0, 3]]


def test_only_candidates_are_ranked_and_empty_places_come_last():
    vectors = fakes.unit_vectors(50, 8)
    found, distances = search.rerank(vectors[[7, 9]], vectors, np.array([[30, -1, 20, 10], [-1, -1, 9, -1]]))
    nearest = slow_nearest(vectors[7], vectors, [10, 20, 30], 3)
    assert found.tolist() == [[*(row for row, _ in nearest), -1], [9, -1, -1, -1]]
    assert distances[0].tolist() == [*(pytest.approx(distance, abs=1e-6) for _, distance in nearest), np.inf]
    assert distances[1].tolist() == [0.0, np.inf, np.inf, np.inf]


@pytest.mark.parametrize("shape", [(2, 0), (0, 3), (0, 0)])
def test_no_candidates_no_answer(shape):
    queries, vectors = np.ones((shape[0], 3), np.float32), np.ones((2, 3), np.float32)
    found, distances = search.rerank(queries, vectors, np.empty(shape, np.int64))
    assert (found.shape, distances.shape) == (shape, shape)


def test_keys_sort_by_distance_and_then_by_row():
    distances = np.array([0.0, 1e-40, 1e-8, 0.5, 0.5, 4.0, np.inf, np.inf], np.float32)
    rows = np.array([2**32 - 2, 3, 2, 1, 7, 0, 5, -1])
    keys = search.keys(distances, rows)
    assert (np.diff(keys.astype(object)) > 0).all()
    found, far = search.ranked(keys)
    assert (found.tolist(), far.tolist()) == (rows.tolist(), distances.tolist())


@pytest.mark.parametrize("others", [1, 7, 31, 32, 100, 128, 1000])
def test_a_distance_does_not_depend_on_what_else_is_measured(others, monkeypatch):
    vectors, queries = fakes.unit_vectors(3000, 128), fakes.unit_vectors(3, 128, seed=1)
    rows = np.broadcast_to(np.arange(3000), (3, 3000))
    distances = search.squared_distances(queries, vectors, rows)
    monkeypatch.setattr(search, "_ROWS", 97)
    assert search.squared_distances(queries, vectors, rows).tolist() == distances.tolist()
    chosen = np.random.default_rng(others).choice(3000, (1, others), replace=False)
    some = search.squared_distances(queries[1:2], vectors, chosen)
    assert some.tolist() == distances[1:2, chosen[0]].tolist()


# --- products ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[1, 2**10, 2**30], ids=["rows alone", "blocks", "all at once"])
def cells(request, monkeypatch) -> None:
    monkeypatch.setattr(search, "_CELLS", request.param)


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("count", [1, 7, 30, 200, 500])
def test_each_query_gets_what_it_gets_alone(count):
    vectors, queries = fakes.unit_vectors(200, 12), fakes.unit_vectors(20, 12, seed=1)
    rows, distances = search.nearest_exact(queries, vectors, count)
    for number in range(20):
        mine, far = search.nearest_exact(queries[number : number + 1], vectors, count)
        assert (mine[0].tolist(), far[0].tolist()) == (rows[number].tolist(), distances[number].tolist())


@pytest.mark.usefixtures("cells")
def test_equals_are_ordered_by_row_also_where_they_are_many():
    vectors = np.repeat(fakes.unit_vectors(2, 8), 300, axis=0)
    queries = np.concatenate([vectors[::300], fakes.unit_vectors(3, 8, seed=1)])
    rows, _ = search.nearest_exact(queries, vectors, 5)
    assert rows[:2].tolist() == [[0, 1, 2, 3, 4], [300, 301, 302, 303, 304]]
    for query, mine in zip(queries, rows.tolist(), strict=True):
        assert mine == [row for row, _ in slow_nearest(query, vectors, range(600), 5)]


@pytest.mark.usefixtures("cells")
def test_no_row_that_was_not_chosen_is_nearer_than_told():
    vectors, queries = fakes.unit_vectors(500, 128), fakes.unit_vectors(9, 128, seed=1)
    order, distances = search.nearest_exact(queries, vectors, 500)
    rows, beyond = search.shortlists(queries, vectors, 20)
    for number in range(9):
        assert sorted(rows[number].tolist()) == sorted(order[number, :20].tolist())
        assert distances[number, 19] - 2e-4 < beyond[number] < distances[number, 20]


@pytest.mark.usefixtures("cells")
def test_the_nearest_may_come_first_or_last():
    query = fakes.unit_vectors(1, 32)
    away = np.linspace(0.1, 1.5, 700)[:, None]
    vectors = fakes.unit(np.cos(away) * query + np.sin(away) * fakes.unit_vectors(1, 32, seed=1))
    for turned in (vectors, vectors[::-1]):
        rows, _ = search.shortlists(query, np.ascontiguousarray(turned), 9)
        truth = np.argsort(((turned - query) ** 2).sum(axis=1))[:9]
        assert sorted(rows[0].tolist()) == sorted(truth.tolist())


def test_where_all_rows_are_chosen_there_is_no_other():
    vectors = fakes.unit_vectors(20, 8)
    for count in (20, 21):
        rows, beyond = search.shortlists(vectors[:3], vectors, count)
        assert rows.tolist() == [list(range(20))] * 3
        assert beyond.tolist() == [np.inf] * 3


def test_no_queries_no_shortlists():
    rows, beyond = search.shortlists(np.empty((0, 8), np.float32), fakes.unit_vectors(20, 8), 5)
    assert (rows.shape, beyond.shape) == ((0, 5), (0,))
