"""The triplet loss and its miners, held against the formulas written out slowly."""

import itertools

import numpy as np
import pytest

from celebface.models import siamese
from celebface.models.quiet_tensorflow import tf

MARGIN = 0.2


def random_batch(seed: int, people: int = 5, most: int = 4, size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of people with one to `most` photos, in no order; spread so that all kinds of triplets occur."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), rng.integers(1, most + 1, people))
    who[-2:] = who[-1]  # at least one pair
    rng.shuffle(who)
    vectors = rng.standard_normal((people, size))[who] + 0.8 * rng.standard_normal((len(who), size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), who


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum((a.astype(np.float64) - b) ** 2))


def slow_table(vectors: np.ndarray) -> np.ndarray:
    return np.array([[distance(a, b) for b in vectors] for a in vectors])


def valid_triplets(people: np.ndarray) -> list[tuple[int, int, int]]:
    rows = range(len(people))
    return [
        (a, p, n)
        for a, p, n in itertools.product(rows, rows, rows)
        if a != p and people[a] == people[p] and people[a] != people[n]
    ]


def slow_batch_all(table: np.ndarray, people: np.ndarray) -> list[tuple[int, int, int]]:
    return [(a, p, n) for a, p, n in valid_triplets(people) if table[a, p] - table[a, n] + MARGIN > 0]


def slow_semi_hard(table: np.ndarray, people: np.ndarray) -> list[tuple[int, int, int]]:
    best: dict[tuple[int, int], int] = {}
    for a, p, n in valid_triplets(people):
        within = table[a, p] < table[a, n] < table[a, p] + MARGIN
        if within and ((a, p) not in best or table[a, n] < table[a, best[a, p]]):
            best[a, p] = n
    return [(a, p, n) for (a, p), n in best.items()]


def slow_batch_hard(table: np.ndarray, people: np.ndarray) -> list[tuple[int, int, int]]:
    found = []
    for a in range(len(people)):
        mine = [row for row in range(len(people)) if row != a and people[row] == people[a]]
        others = [row for row in range(len(people)) if people[row] != people[a]]
        if mine and others:
            found.append((a, max(mine, key=lambda p: table[a, p]), min(others, key=lambda n: table[a, n])))
    return found


SLOW = {"batch_all": slow_batch_all, "semi_hard": slow_semi_hard, "batch_hard": slow_batch_hard}


def mine(name: str, table: np.ndarray, people: np.ndarray, margin: float = MARGIN) -> list[tuple[int, ...]]:
    found = siamese.MINERS[name](tf.constant(table, tf.float32), tf.constant(people), margin)
    return [tuple(row) for row in found.numpy().tolist()]


@pytest.mark.parametrize("seed", range(20))
def test_distances_are_squared_differences(seed):
    vectors, _ = random_batch(seed)
    np.testing.assert_allclose(siamese.squared_distances(vectors), slow_table(vectors), atol=2e-6)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", siamese.MINERS)
def test_each_miner_finds_what_its_definition_says(name, seed):
    vectors, people = random_batch(seed)
    table = slow_table(vectors)
    found = mine(name, table, people)
    assert len(found) == len(set(found))
    assert sorted(found) == sorted(SLOW[name](table, people))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", siamese.MINERS)
def test_the_loss_is_the_papers_formula(name, seed):
    vectors, people = random_batch(seed)
    table = slow_table(vectors)
    triplets = SLOW[name](table, people)
    wanted = [
        max(distance(vectors[a], vectors[p]) - distance(vectors[a], vectors[n]) + MARGIN, 0) for a, p, n in triplets
    ]
    assert wanted, "the seed gives no triplets: nothing would be compared"
    distances = siamese.squared_distances(vectors)
    loss = siamese.triplet_loss(distances, siamese.MINERS[name](distances, tf.constant(people), MARGIN), MARGIN)
    assert float(loss) == pytest.approx(np.mean(wanted), abs=2e-6)


@pytest.mark.parametrize("name", siamese.MINERS)
def test_gradients_are_the_numeric_ones(name):
    """In float64, with central differences; through the normalisation, as the network is trained."""
    vectors, people = random_batch(3)
    raw = tf.constant(vectors.astype(np.float64) * np.linspace(0.5, 2, len(vectors))[:, None])
    distances = siamese.squared_distances(tf.math.l2_normalize(raw, axis=1))
    triplets = siamese.MINERS[name](distances, tf.constant(people), MARGIN)
    assert len(triplets) > 0

    def loss_of(values: tf.Tensor) -> tf.Tensor:
        unit = tf.math.l2_normalize(values, axis=1)
        return siamese.triplet_loss(siamese.squared_distances(unit), triplets, MARGIN)

    theoretical, numeric = tf.test.compute_gradient(loss_of, [raw], delta=1e-6)
    assert np.abs(theoretical[0]).max() > 1e-3
    np.testing.assert_allclose(theoretical[0], numeric[0], atol=1e-7)


def test_semi_hard_negatives_lie_between_the_positive_and_the_margin():
    """One anchor and positive at D 0.5; negatives nearer, in the band twice, on its ends, and beyond it."""
    from_anchor = [0.0, 0.5, 0.4, 0.69, 0.55, 0.5, 0.75, 1.5]
    table = np.full((8, 8), 3.0)
    table[0], table[:, 0] = from_anchor, from_anchor
    people = np.array([0, 0, 1, 2, 3, 4, 5, 6])
    assert mine("semi_hard", table, people, 0.2) == [(0, 1, 4)]


@pytest.mark.parametrize("name", siamese.MINERS)
@pytest.mark.parametrize("people", [[0, 1, 2, 3], [5, 5, 5, 5], [7]])
def test_without_triplets_the_loss_and_its_gradient_are_zero(name, people):
    values = tf.Variable(np.eye(len(people), 6, dtype=np.float32))
    with tf.GradientTape() as tape:
        distances = siamese.squared_distances(values)
        triplets = siamese.MINERS[name](distances, tf.constant(people), MARGIN)
        loss = siamese.triplet_loss(distances, triplets, MARGIN)
    assert len(triplets) == 0
    assert float(loss) == 0.0
    assert np.all(tape.gradient(loss, values, unconnected_gradients="zero") == 0)


@pytest.mark.parametrize("seed", range(5))
def test_the_health_of_a_batch(seed):
    vectors, people = random_batch(seed)
    table = slow_table(vectors)
    triplets = valid_triplets(people)
    pairs = [(a, b) for a in range(len(people)) for b in range(len(people)) if a != b]
    health = siamese.batch_health(tf.constant(vectors), siamese.squared_distances(vectors), tf.constant(people), MARGIN)
    assert float(health.active) == pytest.approx(len(slow_batch_all(table, people)) / len(triplets))
    assert float(health.positive) == pytest.approx(
        np.mean([table[p] for p in pairs if people[p[0]] == people[p[1]]]), abs=1e-5
    )
    assert float(health.negative) == pytest.approx(
        np.mean([table[p] for p in pairs if people[p[0]] != people[p[1]]]), abs=1e-5
    )
    assert float(health.spread) == pytest.approx(1 - np.sum(vectors.mean(axis=0) ** 2), abs=1e-6)


def test_a_collapsed_batch_has_no_spread_and_loses_the_margin():
    vectors = np.tile(np.float32([[0.6, 0.8]]), (6, 1))
    people = np.array([0, 0, 1, 1, 2, 2])
    distances = siamese.squared_distances(vectors)
    health = siamese.batch_health(tf.constant(vectors), distances, tf.constant(people), MARGIN)
    assert float(health.spread) == pytest.approx(0, abs=1e-6)
    assert float(health.active) == 1.0
    for miner in (siamese.batch_all, siamese.batch_hard):
        loss = siamese.triplet_loss(distances, miner(distances, tf.constant(people), MARGIN), MARGIN)
        assert float(loss) == pytest.approx(MARGIN, abs=1e-6)
