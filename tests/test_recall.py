"""The recall contract: probes that are no faces of the gallery, and the effort they take."""

import itertools
import pathlib

import fakes
import numpy as np
import pytest

from celebface.indexing import annoy_index, build, recall
from celebface.indexing.kinds import IndexRequest
from celebface.indexing.parts import Parts
from celebface.indexing.recall import Trial

HARD = fakes.unit_vectors(900, 64)


def parts_of(
    folder: pathlib.Path, vectors: np.ndarray, people: list[str], kind: str = "exact", parts: int = 1
) -> Parts:
    uris = fakes.write_shards(str(folder), vectors, people, shards=3)
    return Parts.open(str(folder), build.build_index(uris, str(folder), IndexRequest(kind, parts=parts)))


@pytest.fixture(scope="module")
def hard(tmp_path_factory) -> Parts:
    """One face each of 900 people, as far apart as can be, behind an Annoy index that is asked."""
    opened = parts_of(tmp_path_factory.mktemp("hard"), HARD, [f"p {number:03d}" for number in range(900)], "annoy")
    opened.by_index = True
    return opened


@pytest.fixture
def asked(monkeypatch) -> None:
    monkeypatch.setattr(annoy_index, "FACES_PER_EFFORT", 0)  # so is every index


class StuckIndex:
    """Proposes the same row whatever it is asked."""

    def candidates(self, queries, count, effort):
        return np.zeros((len(queries), 1), np.int64), np.full(len(queries), np.inf)


# --- probes -----------------------------------------------------------------------------------------------------------


def test_probes_are_unit_vectors_and_no_faces_of_the_gallery(tmp_path):
    vectors, people = fakes.crowds([4] * 50, 32, 0.4)
    queries = recall.held_out(parts_of(tmp_path, vectors, people))
    assert (queries.dtype, queries.shape) == (np.float32, (1000, 32))
    assert np.linalg.norm(queries, axis=1) == pytest.approx(np.ones(1000), abs=1e-6)
    nearest = ((queries[:, None] - vectors) ** 2).sum(axis=2).min(axis=1)
    within = ((vectors[::4] - vectors[1::4]) ** 2).sum(axis=1)
    assert nearest[:500].min() > 0.3 * within.min()
    assert np.median(nearest[:500]) == pytest.approx(np.median(within), rel=0.3)  # as far as two photos of a person
    assert np.median(nearest[500:]) > 2 * np.median(nearest[:500])


def test_strangers_have_the_mean_and_the_covariance_of_the_gallery(tmp_path):
    random = np.random.default_rng(0)
    spread = np.array([3.0, 2.0, 1.0, 0.5, 0.2, 0.1])
    vectors = fakes.unit(random.normal(size=(1500, 6)) * spread + np.array([2.0, 0, 0, 0, 0, 1.0]))
    opened = parts_of(tmp_path, vectors, [f"p {number:04d}" for number in range(1500)])
    strangers = recall.held_out(opened)[500:]
    assert strangers.mean(axis=0) == pytest.approx(vectors.mean(axis=0), abs=0.1)
    assert np.cov(strangers.T) == pytest.approx(
        np.cov(vectors.T), abs=0.08
    )  # 0.35 is the largest; unit length bends it


def test_probes_do_not_depend_on_the_parts(tmp_path):
    vectors, people = fakes.crowds([3] * 30, 16, 0.4)
    whole = recall.held_out(parts_of(tmp_path / "whole", vectors, people))
    assert recall.held_out(parts_of(tmp_path / "parts", vectors, people, parts=3)).tolist() == whole.tolist()


def test_where_nobody_has_two_faces_a_typical_step_is_taken(hard):
    queries = recall.held_out(hard)
    steps = ((queries[:500, None] - HARD) ** 2).sum(axis=2).min(axis=1)
    assert np.median(steps) == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("people", [["ann"], ["ann", "ann"], ["ann", "bob"], ["ann", "ann", "bob"]])
def test_the_smallest_galleries_are_tried_too(tmp_path, people):
    trial = Trial.of(parts_of(tmp_path, fakes.unit_vectors(len(people), 8), people))
    assert np.isfinite(trial.queries).all()
    assert trial.nearest.shape == (1000, len(people))


# --- recall and effort ------------------------------------------------------------------------------------------------


def slow_recall(opened: Parts, trial: Trial, wanted: int) -> float:
    """Share of the true nearest rows among the nearest of those that the index proposes."""
    rows = opened.nearest(trial.queries, 100)[0][:, :wanted]
    vectors = opened.vectors_of(np.arange(len(opened))).astype(np.float64)
    found = 0
    for query, mine in zip(trial.queries.astype(np.float64), rows, strict=True):
        truth = np.argsort(((vectors - query) ** 2).sum(axis=1))[:wanted]
        found += len(set(truth.tolist()) & set(mine.tolist()))
    return found / (wanted * len(trial.queries))


def test_recall_is_the_share_of_the_true_nearest_that_are_found(hard):
    trial = Trial.of(hard)
    hard.effort = 100
    first, ten = trial.recall(hard)
    assert first == pytest.approx(slow_recall(hard, trial, 1), abs=1e-9)
    assert ten == pytest.approx(slow_recall(hard, trial, 10), abs=1e-9)
    assert 0.3 < ten < 0.95


@pytest.mark.usefixtures("asked")
def test_effort_is_raised_until_both_recalls_are_met(hard):
    trial = Trial.of(hard)
    recall.tune(hard, "annoy", trial, 0.97)
    assert hard.by_index
    tried = list(itertools.islice(recall.efforts(500), 12))
    assert tried[:4] == [500, 750, 1125, 1687]
    assert hard.effort in tried[1:]
    assert min(trial.recall(hard)) >= 0.97
    hard.effort = tried[tried.index(hard.effort) - 1]
    assert min(trial.recall(hard)) < 0.97
    recall.tune(hard, "annoy", trial, 0.0)
    assert hard.effort == 500  # the least is enough


def test_where_all_faces_are_sooner_looked_at_that_is_done(hard):
    recall.tune(hard, "annoy", Trial.of(hard), 0.99)
    assert (hard.by_index, hard.effort) == (False, 500)
    hard.by_index = True


def test_an_index_that_never_answers_well_is_not_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(annoy_index, "FACES_PER_EFFORT", 0.1)
    opened = parts_of(tmp_path, HARD, ["ann"] * 900)
    opened._indexes = [StuckIndex()]
    trial = Trial.of(opened)
    recall.tune(opened, "annoy", trial, 0.99)
    assert (opened.by_index, opened.effort) == (False, 12_807)  # the first that costs more than all 900 faces
    assert trial.recall(opened) == (1.0, 1.0)
    opened.by_index = True
    first, ten = trial.recall(opened)
    assert 0 <= first < 0.05 and 0 <= ten < 0.05


def test_copies_of_a_face_do_not_count_against_the_index(tmp_path):
    vectors = np.repeat(fakes.unit_vectors(3, 8), 60, axis=0)
    opened = parts_of(tmp_path, vectors, [f"p {number // 60}" for number in range(180)], "annoy")
    opened.by_index = True
    opened.effort = 180 * 50
    assert Trial.of(opened).recall(opened) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("row", "request_", "met"),
    [
        ((0.99, 0.99, 5.0), IndexRequest(), True),
        ((0.98, 1.0, 5.0), IndexRequest(), False),
        ((1.0, 0.98, 5.0), IndexRequest(), False),
        ((1.0, 0.98, 5.0), IndexRequest(min_recall=0.98), True),
        ((1.0, 1.0, 5.0), IndexRequest(max_latency_ms=4.9), False),
        ((1.0, 1.0, 5.0), IndexRequest(max_latency_ms=5.0), True),
    ],
)
def test_both_recalls_and_the_latency_must_be_met(row, request_, met):
    assert recall.meets(dict(zip(("recall_at_1", "recall_at_10", "p99_ms"), row, strict=True)), request_) == met
