import images
import numpy as np
import pytest
from PIL import Image

from celebface.models.area import average_rows
from celebface.models.patches import pixel_words
from celebface.models.quiet_tensorflow import tf


def shares(size: int, count: int) -> np.ndarray:
    """float64 [count, size]: how much of each pixel goes into each of the `count` that all become."""
    edges = np.arange(count + 1) * size / count
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return overlap.clip(0) / (size / count)


def rows_of(pixels: np.ndarray, heights) -> list[np.ndarray]:
    return average_rows(pixel_words(Image.fromarray(pixels)), heights)


@pytest.mark.parametrize(
    ("width", "height"),
    [(101, 67), (64, 64), (63, 128), (65, 129), (1, 200), (300, 1), (128, 63), (517, 333)],
)
def test_rows_are_averaged_by_what_of_them_each_becomes(width, height):
    pixels = images.noise(width, height)
    heights = sorted({height, max(1, height - 1), max(1, int(height * 0.6)), max(1, int(height * 0.3)), 1})

    found = rows_of(pixels, heights)
    assert len(found) == len(heights)
    for count, means in zip(heights, found, strict=True):
        assert (means.dtype, means.shape) == (np.float32, (count, width, 4))
        expected = np.einsum("ch,hwk->cwk", shares(height, count), pixels)
        assert np.abs(means[..., :3] - expected).max() < 1e-3


@pytest.mark.parametrize(("width", "height"), [(101, 67), (640, 411), (333, 517), (1000, 130)])
def test_rows_then_columns_are_as_tensorflow_scales_by_area(width, height):
    pixels = images.noise(width, height)
    sides = [(max(1, int(height * 0.6 * 0.709**k)), max(1, int(width * 0.6 * 0.709**k))) for k in range(8)]
    sides.append((1, 1))

    for (rows, columns), means in zip(sides, rows_of(pixels, [rows for rows, _ in sides]), strict=True):
        expected = tf.image.resize(pixels[None], (rows, columns), method="area")[0].numpy()
        by_hand = np.einsum("cw,hwk->hck", shares(width, columns), means[..., :3])
        assert np.abs(by_hand - expected).max() <= 0.02
        by_tensorflow = tf.image.resize(means[None], (rows, columns), method="area")[0].numpy()
        assert np.abs(by_tensorflow[..., :3] - expected).max() <= 0.02


def test_one_row_is_the_mean_of_all():
    pixels = images.noise(75, 211)

    [means] = rows_of(pixels, [1])
    assert np.abs(means[0, :, :3] - pixels.mean(axis=0)).max() < 1e-3


def test_as_many_rows_as_there_are_stay_as_they_are():
    pixels = images.noise(75, 211)

    [means] = rows_of(pixels, [211])
    assert np.array_equal(means[..., :3], pixels)


@pytest.mark.parametrize("order", [[100, 50, 7], [7, 50, 100], [50, 50]])
def test_each_height_is_as_if_asked_for_alone(order):
    pixels = images.noise(90, 170)

    for height, means in zip(order, rows_of(pixels, order), strict=True):
        assert np.abs(means - rows_of(pixels, [height])[0]).max() < 1e-3


def test_an_even_photo_stays_even():
    # Shares that do not add up to one would show as stripes.
    pixels = np.full((997, 70, 3), 255, np.uint8)

    for means in rows_of(pixels, [598, 424, 301, 13, 12]):
        assert np.abs(means[..., :3] - 255).max() < 1e-3
