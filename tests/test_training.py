"""A network that learns: steps, states, what is trained and what is not. The small network, on drawn faces."""

import dataclasses
import itertools

import numpy as np
import pytest

from celebface.models import facenet, jpeg, siamese
from celebface.models.quiet_tensorflow import tf
from celebface.models.sampling import PeopleSampler
from celebface.models.training import StepReport, Trainer
from celebface.models.training_config import AUGMENTATIONS, MINING, TrainingConfig
from celebface.models.training_data import batches

CONFIG = TrainingConfig("small_inception", 16, mining="batch_all", learning_rate=3e-3, warmup_steps=2, max_steps=12)
PEOPLE = np.repeat(np.arange(6), 3)


@pytest.fixture(scope="module")
def crops() -> list[bytes]:
    """Three pictures each of six people, who differ in colour and pattern."""
    rng = np.random.default_rng(1)
    row, column = np.mgrid[0:160, 0:160]
    found = []
    for person in PEOPLE:
        pattern = np.sin(row / (3 + person))[..., None] * [70, 20, 10] + np.cos(column / (9 - person))[..., None] * 60
        noise = rng.normal(0, 12, (160, 160, 3))
        found.append(jpeg.encode_crop(np.clip(128 + pattern + noise, 0, 255).astype(np.uint8)))
    return found


def steps_of(crops: list[bytes], steps: range, trainer: Trainer) -> list[tuple[tf.Tensor, tf.Tensor]]:
    sampler = PeopleSampler(PEOPLE, 4, 2, seed=3)
    return list(batches(crops, PEOPLE.tolist(), sampler, trainer.side, AUGMENTATIONS["light"], 3, steps))


@pytest.fixture(scope="module")
def trained(crops) -> tuple[Trainer, list[StepReport], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A run of twelve steps: the trainer, what steps told, its weights at the start, its state after seven steps."""
    trainer = Trainer(CONFIG)
    start, told, middle = trainer.weights(), [], {}
    for number, batch in enumerate(steps_of(crops, range(12), trainer)):
        if number == 7:
            middle = trainer.state()
        told.append(trainer.step(*batch))
    return trainer, told, start, middle


def test_the_names_of_the_miners_are_known_without_tensorflow():
    assert set(MINING) == set(siamese.MINERS)


def test_batches_depend_on_the_seed_and_the_step_alone(crops, trained):
    whole, part = steps_of(crops, range(5), trained[0]), steps_of(crops, range(3, 5), trained[0])
    assert len(whole) == 5
    for (faces, people), (again, who) in zip(whole[3:], part, strict=True):
        assert np.array_equal(faces, again)
        assert np.array_equal(people, who)
    faces, people = whole[0]
    assert faces.shape == (8, 80, 80, 3)
    assert people.numpy().tolist() == PEOPLE[PeopleSampler(PEOPLE, 4, 2, seed=3).batch(0)].tolist()
    assert not np.array_equal(faces, whole[1][0])


def test_training_brings_people_together_and_apart(crops, trained):
    trainer, told, start, _ = trained
    losses = [step.loss for step in told]

    def margin_of(weights: dict[str, np.ndarray]) -> float:
        encoder = facenet.FaceEncoder(weights, 16, "float32", "small_inception")
        pixels = np.stack([tf.io.decode_jpeg(crop).numpy() for crop in crops])
        table = np.asarray(siamese.squared_distances(encoder.encode(pixels)))
        same = PEOPLE[:, None] == PEOPLE
        return table[~same].mean() - table[same & ~np.eye(len(PEOPLE), dtype=bool)].mean()

    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert margin_of(trainer.weights()) > margin_of(start) + 0.1


def test_a_state_goes_on_exactly_where_it_was(crops, trained):
    _, told, _, middle = trained
    again = Trainer(CONFIG)
    again.restore(middle)
    assert [again.step(*batch) for batch in steps_of(crops, range(7, 12), again)] == told[7:]
    for name, value in trained[0].weights().items():
        np.testing.assert_array_equal(again.weights()[name], value, err_msg=name)


def test_a_state_of_another_network_is_refused(trained):
    with pytest.raises(ValueError, match="another network"):
        trained[0].restore({name: value for name, value in trained[0].state().items() if "0003" not in name})


def test_a_seed_decides_the_start():
    first, second = Trainer(CONFIG).weights(), Trainer(CONFIG).weights()
    other = Trainer(dataclasses.replace(CONFIG, seed=1)).weights()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["Bottleneck/kernel"], other["Bottleneck/kernel"])


@pytest.mark.parametrize("kind, tolerance", [("float32", 1e-5), ("bfloat16", 0.05)])
def test_the_pipelines_encoder_gives_the_vectors_of_training(crops, trained, kind, tolerance):
    encoder = facenet.FaceEncoder(trained[0].weights(), 16, kind, "small_inception")
    pixels = np.stack([tf.io.decode_jpeg(crop, dct_method="INTEGER_ACCURATE").numpy() for crop in crops])
    np.testing.assert_allclose(encoder.encode(pixels), trained[0].embed(crops), atol=tolerance)


@pytest.mark.parametrize(
    "layers, first",
    [("last_block", ("Block_4", "Bottleneck")), ("head", ("Bottleneck",)), ("offset", ("Bottleneck_BatchNorm",))],
)
def test_only_what_is_asked_for_is_trained(crops, trained, layers, first):
    """Also statistics of batch normalisation stay: a batch of a few people would replace them by its own."""
    start = trained[0].weights()
    trainer = Trainer(dataclasses.replace(CONFIG, layers=layers, margin=2.0), start)
    faces, people = steps_of(crops, range(1), trainer)[0]
    shown = trainer.features(crops)[PeopleSampler(PEOPLE, 4, 2, seed=3).batch(0)] if trainer.frozen else faces
    for _ in range(3):
        trainer.step(shown, people)
    changed = {name for name, value in trainer.weights().items() if not np.array_equal(value, start[name])}
    expected = {name for name in start if name.startswith(first) and "moving" not in name}
    assert changed == expected


def test_what_a_frozen_trunk_makes_leads_to_the_same_vectors(crops, trained):
    whole = Trainer(CONFIG, trained[0].weights())
    frozen = Trainer(dataclasses.replace(CONFIG, layers="head"), trained[0].weights())
    features = frozen.features(crops)
    assert features.shape[0] == len(crops) and features.ndim == 2
    np.testing.assert_allclose(frozen.embed(features), whole.embed(crops), atol=1e-5)


def test_the_learning_rate_rises_and_falls(trained):
    rates = [step.learning_rate for step in trained[1]]
    assert rates[0] == 0 and rates[2] == pytest.approx(3e-3)
    assert all(a > b for a, b in itertools.pairwise(rates[2:]))
    assert 0 < rates[-1] < 1e-4


def test_vectors_that_are_not_finite_end_the_run(crops):
    trainer = Trainer(dataclasses.replace(CONFIG, layers="head"))
    features = trainer.features(crops)
    with pytest.raises(FloatingPointError, match="learning rate"):
        trainer.step(features * np.nan, PEOPLE)


@pytest.mark.parametrize(
    "field, value",
    [("mining", "hardest"), ("layers", "first"), ("architecture", "resnet"), ("precision", "float16"), ("margin", 0)],
)
def test_values_that_cannot_be_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(CONFIG, **{field: value})
