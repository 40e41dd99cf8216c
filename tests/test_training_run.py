"""A run: evaluations, the best of them, early stopping, going on after a kill; with a network that does not learn."""

import dataclasses

import numpy as np
import pytest

from celebface.indexing import storage
from celebface.models import encoder_card
from celebface.models.sampling import PeopleSampler
from celebface.models.training import StepReport
from celebface.models.training_config import AUGMENTATIONS, TrainingConfig
from celebface.pipelines import training_run
from celebface.pipelines.training_faces import LabelledFaces
from celebface.pipelines.training_run import History, RunConfig

PEOPLE = np.repeat(np.arange(4), 3)
FACES = LabelledFaces([b"%d" % row for row in range(12)], PEOPLE, list("abcd"))
RUN = RunConfig(evaluate_every=2, patience=3, far=1e-2)


class FakeTrainer:
    """Its vectors are as far from their people as `noise` says after so many steps; a step's loss tells its rows."""

    frozen = True
    side = 80

    def __init__(self, noise, max_steps=20):
        self.config = TrainingConfig("small_inception", 8, max_steps=max_steps)
        self._noise = noise
        self._done = 0

    def features(self, crops):
        return np.array([int(crop) for crop in crops])

    def embed(self, features):
        rng = np.random.default_rng(0)
        people = rng.standard_normal((4, 8))[PEOPLE[features]]
        noisy = people + self._noise[self._done // 2] * rng.standard_normal(people.shape)
        return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)

    def step(self, features, people):
        assert np.array_equal(PEOPLE[features], people)
        self._done += 1
        return StepReport(float(features @ np.arange(len(features))), 1.0, 0.1, 0.5, 0.4, 1.5, 0.9)

    def weights(self):
        return {"layer/done": np.array([self._done], np.float32)}

    def state(self):
        return {"done": np.array(self._done)}

    def restore(self, state):
        self._done = int(state["done"])


def run(folder, noise, max_steps=20, told=lambda history: None, config=RUN):
    sampler = PeopleSampler(PEOPLE, 2, 2, seed=1)
    trainer = FakeTrainer(noise, max_steps)
    return training_run.train(trainer, FACES, sampler, AUGMENTATIONS["none"], FACES, config, str(folder), told)


def test_the_best_evaluation_is_kept(tmp_path):
    weights, history = run(tmp_path, [2.0, 1.5, 0.9, 0.3, 0.9, 1.0, 1.5], max_steps=11)
    assert [entry["step"] for entry in history.evaluations] == [0, 2, 4, 6, 8, 10, 11]
    assert (history.best, history.done) == (6, 11)
    assert weights["layer/done"] == [6]
    scores = [training_run.score(entry, RUN.far) for entry in history.evaluations]
    assert max(scores) == scores[3] and scores.count(scores[3]) == 1
    assert sorted(storage.list_names(str(tmp_path))) == ["best-00000006.npz", "checkpoint.npz"]


def test_a_run_ends_when_nothing_gets_better_and_stays_ended(tmp_path):
    noise = [2.0, 1.0, 0.5, *np.linspace(1, 3, 8)]
    weights, history = run(tmp_path, noise)
    assert (history.best, history.done) == (4, 4 + 3 * RUN.evaluate_every)
    again, same = run(tmp_path, noise)
    assert dataclasses.asdict(same) == dataclasses.asdict(history)
    assert again == weights


def test_the_start_counts_too(tmp_path):
    weights, history = run(tmp_path, [0.1, *np.linspace(1, 3, 10)])
    assert history.best == 0
    assert weights["layer/done"] == [0]


def test_equals_at_the_rate_are_decided_by_the_area_under_the_curve():
    def entry(val, auc):
        return {"rates": [{"false_match_rate": 0.01, "true_match_rate": val}], "auc": auc}

    assert training_run.score(entry(0.5, 0.9), 0.01) < training_run.score(entry(0.5, 0.91), 0.01)
    assert training_run.score(entry(0.5, 0.99), 0.01) < training_run.score(entry(0.6, 0.9), 0.01)


class Killed(Exception):
    """Stands for a kill: nothing of the process is left but its files."""


@pytest.mark.parametrize("killed_after", range(10))
def test_a_killed_run_goes_on_and_sees_the_same(tmp_path, killed_after):
    noise = [2.0, 1.5, 0.9, 0.3, 0.9, 1.0]
    unbroken = run(tmp_path / "unbroken", noise, 10)

    def kill(history: History) -> None:
        if history.done == killed_after:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "broken", noise, 10, kill)
    went_on = []
    broken = run(tmp_path / "broken", noise, 10, lambda history: went_on.append(history.done))
    assert dataclasses.asdict(broken[1]) == dataclasses.asdict(unbroken[1])
    assert broken[0] == unbroken[0]
    assert went_on[0] == killed_after // 2 * 2 + 1, "no step before the last checkpoint is done again"


def history_of(steps=60, **columns):
    values = {"loss": 0.1, "active": 0.3, "positive": 0.5, "negative": 1.6, "spread": 0.95} | columns
    return History({name: [value] * steps for name, value in values.items()})


@pytest.mark.parametrize(
    "columns, told",
    [
        ({}, ""),
        ({"spread": 0.004, "negative": 0.51}, "collapsing"),
        ({"loss": 0.2, "positive": 0.30, "negative": 0.305, "active": 0.99}, "collapsing"),
        ({"loss": 0.2}, ""),
        ({"active": 0.0002, "loss": 0.01}, "batch_hard"),
    ],
)
def test_what_goes_wrong_is_said(columns, told):
    found = training_run.warning(history_of(**columns), 0.2)
    assert told in found and bool(told) == bool(found)


def test_the_first_steps_are_not_judged():
    assert training_run.warning(history_of(steps=10, spread=0.0), 0.2) == ""


@pytest.mark.parametrize("field", ["evaluate_every", "patience", "far"])
def test_values_that_cannot_be_are_refused(field):
    with pytest.raises(ValueError, match=field):
        RunConfig(**{field: 0})


def test_what_is_no_checkpoint_of_the_run_is_told(tmp_path):
    run(tmp_path, [1.0] * 4, max_steps=4)
    whole = (tmp_path / "checkpoint.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", encoder_card.arrays_to_bytes({"other": np.zeros(2)})):
        (tmp_path / "checkpoint.npz").write_bytes(damaged)
        with pytest.raises(training_run.BadCheckpoint, match="begin anew"):
            run(tmp_path, [1.0] * 4, max_steps=4)


def test_weights_that_are_gone_are_told(tmp_path):
    run(tmp_path, [1.0, 0.5, 0.4], max_steps=4)
    (tmp_path / "best-00000004.npz").unlink()
    with pytest.raises(training_run.BadCheckpoint, match="begin anew"):
        run(tmp_path, [1.0, 0.5, 0.4], max_steps=4)
