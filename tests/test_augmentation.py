"""What training changes about a crop."""

import dataclasses

import numpy as np
import pytest

from celebface.models.augmentation import augment
from celebface.models.quiet_tensorflow import tf
from celebface.models.training_config import AUGMENTATIONS, Augmentation

NONE = AUGMENTATIONS["none"]
SEEDS = range(40)


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    """Smooth colours, unlike from left to right and from top to bottom, with fine stripes over them."""
    row, column = np.mgrid[0:160, 0:160] / 160.0
    stripes = 25 * (np.arange(160) % 4 < 2)
    red = 60 + 120 * column + stripes
    return np.stack([red, 40 + 140 * row, 100 + 60 * row * column], axis=-1).round().astype(np.uint8)


def changed(crop: np.ndarray, seed: int, how: Augmentation, side: int = 160) -> np.ndarray:
    return augment(tf.constant(crop), side, tf.constant([3, seed], tf.int64), how).numpy()


def only(**fields: float) -> Augmentation:
    return dataclasses.replace(NONE, **fields)


def test_without_augmentation_a_crop_is_mirrored_or_not_and_nothing_else(crop):
    results = [changed(crop, seed, NONE) for seed in SEEDS]
    mirrored = [np.array_equal(found, crop[:, ::-1]) for found in results]
    assert all(one or np.array_equal(found, crop) for one, found in zip(mirrored, results, strict=True))
    assert 10 < sum(mirrored) < 30


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("side", [80, 160])
def test_results_are_pixels_of_the_side_asked_for(crop, name, side):
    for seed in range(10):
        found = changed(crop, seed, AUGMENTATIONS[name], side)
        assert found.shape == (side, side, 3) and found.dtype == np.float32
        assert found.min() >= 0 and found.max() <= 255


def test_the_seed_decides(crop):
    strong = AUGMENTATIONS["strong"]
    assert np.array_equal(changed(crop, 1, strong), changed(crop, 1, strong))
    assert len({changed(crop, seed, strong).tobytes() for seed in SEEDS}) == len(SEEDS)


@pytest.fixture(scope="module")
def map_of_places() -> np.ndarray:
    """Red tells the column, green the row, of the middle of the crop: what is seen tells where it was."""
    row, column = np.mgrid[0:160, 0:160]
    return np.stack([column, row, np.zeros_like(row)], axis=-1).astype(np.uint8)


def affine(map_of_places: np.ndarray, seed: int, how: Augmentation) -> np.ndarray:
    """Where the middle is taken from, and how the place moves for a step across and a step down, as 3 rows."""
    found = changed(map_of_places, seed, how)[..., :2]
    return np.stack([found[80, 80], (found[80, 110] - found[80, 50]) / 60, (found[110, 80] - found[50, 80]) / 60])


def test_scaled_by_so_much_at_most(map_of_places):
    steps = [abs(affine(map_of_places, seed, only(scale=0.2))[1, 0]) for seed in SEEDS]
    assert 1 / 1.2 <= min(steps) < 0.9 and 1.1 < max(steps) <= 1 / 0.8
    for seed in SEEDS:
        middle, across, down = affine(map_of_places, seed, only(scale=0.2))
        assert abs(across[0]) == pytest.approx(down[1], abs=0.02), "as much down as across"
        assert middle == pytest.approx([79.5, 79.5], abs=0.7), "around the middle"


def test_shifted_by_so_much_at_most(map_of_places):
    moved = np.array([affine(map_of_places, seed, only(shift=0.1))[0] - 79.5 for seed in SEEDS])
    assert np.abs(moved).max() <= 16.6
    assert np.all(moved.max(axis=0) > 9) and np.all(moved.min(axis=0) < -9)


def test_turned_by_so_many_degrees_at_most(map_of_places):
    for seed in SEEDS:
        _, across, down = affine(map_of_places, seed, only(rotation=20))
        assert np.hypot(*across) == pytest.approx(1, abs=0.03) and np.hypot(*down) == pytest.approx(1, abs=0.03)
        assert across @ down == pytest.approx(0, abs=0.03)
    angles = [np.degrees(np.arctan2(*affine(map_of_places, seed, only(rotation=20))[2])) for seed in SEEDS]
    assert -20.5 < min(angles) < -12 and 12 < max(angles) < 20.5


def test_colours_move_by_so_much_at_most(crop):
    grey = np.full_like(crop, 128)
    means = [changed(grey, seed, only(colour=0.2)).mean() for seed in SEEDS]
    assert 127.5 * 0.6 - 2 < min(means) < 115 and 140 < max(means) < 127.5 * 1.4 + 2


def test_so_many_faces_lose_their_colour(crop):
    grey = [np.ptp(changed(crop, seed, only(grey=0.5)), axis=-1).max() < 1e-3 for seed in range(80)]
    assert 25 < sum(grey) < 55


def test_blur_takes_fine_stripes_away(crop):
    stripes = [np.abs(np.diff(changed(crop, seed, only(blur=0.5))[..., 0], axis=1)).mean() for seed in range(60)]
    sharp = np.abs(np.diff(crop[..., 0].astype(float), axis=1)).mean()
    blurred = sum(value < 0.3 * sharp for value in stripes)
    assert 15 < blurred < 45
    assert sum(value > 0.9 * sharp for value in stripes) == 60 - blurred


def test_so_many_faces_are_compressed(crop):
    noise = np.random.default_rng(0).integers(0, 256, crop.shape).astype(np.uint8)
    both = noise, noise[:, ::-1]
    kept = [any(np.array_equal(changed(noise, seed, only(jpeg=0.5)), one) for one in both) for seed in range(40)]
    assert 10 < sum(kept) < 30


def test_a_rectangle_is_covered(crop):
    shares = []
    for seed in range(60):
        found = changed(crop, seed, only(erased=1.0))
        covered = np.all(found == 127.5, axis=-1)
        rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
        assert covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        shares.append((len(rows) / 160, len(columns) / 160))
    assert 0.12 <= np.min(shares) < 0.2 and 0.4 < np.max(shares) <= 0.51
