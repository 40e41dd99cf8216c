"""The self-test that every index must pass, and when an index is worth asking."""

import fakes
import numpy as np
import pytest

from celebface.indexing import annoy_index, exact_index, hnsw_index
from celebface.indexing.exact_index import ExactIndex
from celebface.indexing.index import BrokenIndex, self_test
from celebface.indexing.kinds import KINDS, IndexRequest, worth_an_index

VECTORS = fakes.unit_vectors(300, 16)


class RightIndex:
    """Answers rightly; `spoil` turns the rows of an answer, and the next one, into what a broken index gives."""

    def __init__(self, spoil):
        self._spoil = spoil

    def candidates(self, queries, count, effort):
        order = np.argsort(((queries[:, None] - VECTORS) ** 2).sum(axis=2), axis=1)[:, : count + 1]
        rows = np.full((len(queries), count), -1)
        for mine, right in zip(rows, order.tolist(), strict=True):
            found = self._spoil(right)[:count]
            mine[: len(found)] = found
        return rows, np.full(len(queries), np.inf)


def test_an_index_that_is_right_passes_and_is_asked_for_a_sample_from_end_to_end():
    asked = []
    self_test(RightIndex(lambda rows: asked.append(rows[0]) or rows), VECTORS, 7)
    assert (asked[0], asked[-1], len(asked)) == (0, 299, 50)


FAULTS = {
    "single": lambda rows: rows[:1],
    "one short": lambda rows: rows[:-2],
    "nothing": lambda rows: [],
    "twice the same": lambda rows: rows[:1] * 2 + rows[1:],
    "no such row": lambda rows: [*rows[:-2], 300],
    "unsorted": lambda rows: rows[:1] + rows[:0:-1],
    "nearest last": lambda rows: rows[1:-1] + rows[:1],
    "all but the nearest": lambda rows: rows[1:],
    "other rows": lambda rows: [(row + 1) % 300 for row in rows],
    "a wrong one at the end": lambda rows: rows[:1] if rows[0] == 299 else rows,
    "not itself, once": lambda rows: rows[1:] if rows[0] == 299 else rows,
}


@pytest.mark.parametrize("spoil", FAULTS.values(), ids=FAULTS.keys())
def test_an_index_that_is_wrong_is_caught(spoil):
    with pytest.raises(BrokenIndex, match="does not find its own vectors"):
        self_test(RightIndex(spoil), VECTORS, 7)


def test_a_kind_may_promise_less_than_all():
    def miss(rows):
        return rows[1:] if rows[0] < 24 else rows  # four of the fifty

    self_test(RightIndex(miss), VECTORS, 7, share=0.9)
    with pytest.raises(BrokenIndex):
        self_test(RightIndex(miss), VECTORS, 7, share=0.95)


def test_copies_of_a_face_may_stand_for_it():
    vectors = np.repeat(VECTORS[:20], 15, axis=0)
    self_test(ExactInOrder(vectors), vectors, 0)


class ExactInOrder(ExactIndex):
    def candidates(self, queries, count, effort=0):
        rows = super().candidates(queries, count)[0]
        return np.sort(rows, axis=1), np.full(len(queries), np.inf)


@pytest.mark.parametrize(
    ("kind", "faces", "effort", "worth"),
    [
        (annoy_index, 16_000, 500, False),
        (annoy_index, 16_001, 500, True),
        (annoy_index, 10**6, 10**5, False),
        (annoy_index, 10**6, 10**4, True),
        (hnsw_index, 25_600, 100, False),
        (hnsw_index, 25_601, 100, True),
        (exact_index, 10**9, 0, False),
    ],
)
def test_an_index_is_worth_it_for_many_faces_and_little_effort(kind, faces, effort, worth):
    assert worth_an_index(kind, faces, effort) == worth


def test_the_exact_search_knows_what_lies_beyond_its_rows():
    queries = fakes.unit_vectors(5, 16, seed=1)
    rows, beyond = ExactIndex(VECTORS).candidates(queries, 20)
    distances = ((queries[:, None] - VECTORS) ** 2).sum(axis=2)
    truth = np.argsort(distances, axis=1)
    assert [sorted(mine) for mine in rows.tolist()] == [sorted(mine) for mine in truth[:, :20].tolist()]
    ordered = np.sort(distances, axis=1)
    assert ((ordered[:, 19] - 2e-4 < beyond) & (beyond < ordered[:, 20])).all()


def test_kinds_are_named_after_their_modules():
    assert list(KINDS) == ["exact", "annoy", "hnsw"]
    assert [kind.NAME for kind in KINDS.values()] == list(KINDS)


@pytest.mark.parametrize("fields", [{"kind": "faiss"}, {"min_recall": 1.1}, {"min_recall": -0.1}])
def test_what_cannot_be_asked_for_is_refused(fields):
    with pytest.raises(ValueError, match="must"):
        IndexRequest(**fields)
