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


def test_candidates_of_an_exhaustive_search_are_the_nearest_rows(tmp_path):
    vectors = fakes.unit_vectors(300, 16)
    (tmp_path / "faces.ann").write_bytes(annoy_index.build(vectors))
    index = annoy_index.load(str(tmp_path / "faces.ann"), vectors)
    rows = search.candidates(index, vectors[5], 20, 300 * 50)
    assert rows.dtype == np.int64
    assert rows.tolist() == [row for row, _ in slow_nearest(vectors[5], vectors, range(300), 20)]
