import gc
import io

import images
import numpy as np
import pytest
from PIL import Image

from celebface.models import patches
from celebface.models.patches import BEYOND, pixel_words, sample_patches
from celebface.models.quiet_tensorflow import tf

# --- pixels in place --------------------------------------------------------------------------------------------------


def rgb(words: np.ndarray) -> np.ndarray:
    """The colours among the bytes of words, uint8 [H, W, 3]."""
    return words.view(np.uint8).reshape(*words.shape, 4)[..., :3]


def test_words_are_the_pixels():
    pixels = images.noise(37, 23)

    words = pixel_words(Image.fromarray(pixels))
    assert (words.dtype, words.shape) == (np.uint32, (23, 37))
    assert np.array_equal(rgb(words), pixels)


@pytest.mark.parametrize("method", list(Image.Transpose))
def test_words_of_a_turned_image_are_its_pixels(method):
    image = Image.fromarray(images.noise(37, 23)).transpose(method)

    assert np.array_equal(rgb(pixel_words(image)), np.asarray(image))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.crop((3, 5, 60, 40)),
        lambda image: image.resize((51, 77)),
        lambda image: image.convert("L").convert("RGB"),
        lambda image: Image.open(io.BytesIO(images.encoded(image, "JPEG"))),
        lambda image: Image.open(io.BytesIO(images.encoded(image, "PNG"))),
        lambda image: Image.open(io.BytesIO(images.encoded(image, "BMP"))),
    ],
    ids=["cropped", "resized", "converted", "jpeg", "png", "bmp"],
)
def test_words_are_the_pixels_wherever_they_come_from(change):
    image = change(Image.fromarray(images.noise(64, 48)))

    assert np.array_equal(rgb(pixel_words(image)), np.asarray(image))


def test_a_large_image_lies_in_one_piece():
    # 4 bytes a pixel make 17.6 million; Pillow by itself would spread them over blocks of 16.8 million.
    image = images.scenery(2200, 2000)
    image.putpixel((2199, 1999), (1, 2, 3))

    words = pixel_words(image)
    assert words.nbytes > 16 * 2**20
    assert np.array_equal(rgb(words), np.asarray(image))
    turned = image.transpose(Image.Transpose.ROTATE_90)
    assert np.array_equal(rgb(pixel_words(turned)), np.asarray(turned))


def test_an_image_that_lies_otherwise_in_memory_is_copied(monkeypatch):
    image = Image.fromarray(images.noise(37, 23))
    monkeypatch.setattr(Image.core, "get_alignment", lambda: 64)
    assert np.array_equal(rgb(pixel_words(image)), np.asarray(image))
    assert not np.shares_memory(pixel_words(image), pixel_words(image))


def test_an_image_in_several_blocks_is_copied():
    whole = Image.core.get_block_size()
    Image.core.set_block_size(2**20)
    try:
        image = Image.fromarray(images.noise(700, 600))
    finally:
        Image.core.set_block_size(whole)

    assert np.array_equal(rgb(pixel_words(image)), np.asarray(image))


def test_words_are_no_copy():
    image = images.plain(40, 30)
    words = pixel_words(image)

    image.putpixel((7, 5), (200, 100, 50))
    assert rgb(words)[5, 7].tolist() == [200, 100, 50]
    assert np.shares_memory(words, pixel_words(image))


def test_words_outlive_their_image():
    words = [pixel_words(Image.fromarray(images.noise(300, 200, seed))) for seed in range(20)]
    gc.collect()
    others = [images.plain(300, 200, (seed, seed, seed)) for seed in range(40)]  # would take the memory if it were free

    assert len(others) == 40
    assert all(np.array_equal(rgb(each), images.noise(300, 200, seed)) for seed, each in enumerate(words))


# --- samples ----------------------------------------------------------------------------------------------------------


def sampled(pixels: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
    out = np.full((len(corners), side, side, 4), np.nan, np.float32)
    sample_patches(pixel_words(Image.fromarray(pixels)), corners, out)
    assert np.isfinite(out).all()
    return out


def as_tensorflow_samples(pixels: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    shares = corners[:, (1, 0, 3, 2)] / (height - 1, width - 1, height - 1, width - 1)
    places = np.zeros(len(corners), np.int32)
    return tf.image.crop_and_resize(pixels[None], shares, places, (side, side), extrapolation_value=127.5).numpy()


def well_within(size: int, first: np.ndarray, last: np.ndarray, side: int) -> np.ndarray:
    """Which samples do not lie on the very edge, where the last bit decides whether the photo has them."""
    places = first[:, None] + np.linspace(0, 1, side) * (last - first)[:, None]
    return (np.abs(places) > 1e-3) & (np.abs(places - (size - 1)) > 1e-3)


BOXES = {
    "inside": lambda rng: rng.uniform(5, 50, (300, 2)),
    "across the edges": lambda rng: rng.uniform(-30, 90, (300, 2)),
    "mostly outside": lambda rng: rng.uniform(-200, 200, (300, 2)),
}


@pytest.mark.parametrize("side", [24, 48])
@pytest.mark.parametrize("where", BOXES)
def test_samples_are_those_of_tensorflow(where, side):
    rng = np.random.default_rng(side)
    pixels = np.asarray(images.scenery(131, 97, detail=7))
    corner = BOXES[where](rng)
    corners = np.concatenate([corner, corner + rng.uniform(3, 45, (300, 2))], axis=1)
    x = well_within(131, corners[:, 0], corners[:, 2], side)
    y = well_within(97, corners[:, 1], corners[:, 3], side)

    apart = np.abs(sampled(pixels, corners, side)[..., :3] - as_tensorflow_samples(pixels, corners, side))
    certain = y[:, :, None] & x[:, None, :]
    assert certain.mean() > 0.99
    assert apart[certain].max() < 1e-3


def test_samples_on_pixels_are_the_pixels():
    # Steps of whole pixels through noise: any shift, however small, would show.
    pixels = images.noise(97, 64)
    corners = np.array([[0, 0, 23, 23], [73, 40, 96, 63], [4, 17, 27, 40], [2, 3, 94, 49]], float)

    found = sampled(pixels, corners, 24)[..., :3]
    for patch, (x0, y0, x1, y1) in zip(found, corners.astype(int), strict=True):
        assert np.array_equal(patch, pixels[y0 : y1 + 1 : (y1 - y0) // 23, x0 : x1 + 1 : (x1 - x0) // 23])


def test_samples_between_pixels_are_blended_in_both_directions():
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 1], pixels[1, 0], pixels[1, 1] = 100, 40, 200
    corners = np.array([[0.25, 0.5, 0.75, 1]])

    found = sampled(pixels, corners, 3)[0, :, :, 0]
    expected = [[(1 - y) * x * 100 + y * (1 - x) * 40 + y * x * 200 for x in (0.25, 0.5, 0.75)] for y in (0.5, 0.75, 1)]
    assert np.abs(found - expected).max() < 1e-4


def test_beyond_the_photo_lies_mid_grey():
    pixels = np.full((30, 40, 3), 200, np.uint8)
    corners = np.array([[-8, -8, 15, 15], [25, 20, 48, 43], [100, 100, 123, 123], [-60, 3, -37, 26]], float)

    found = sampled(pixels, corners, 24)[..., :3]
    assert BEYOND == 127.5
    inside = np.zeros((4, 24, 24), bool)
    inside[0, 8:, 8:] = inside[1, :10, :15] = True
    assert (found[inside] == 200).all()
    assert (found[~inside] == BEYOND).all()


def test_the_very_last_pixel_belongs_to_the_photo():
    pixels = images.noise(24, 24)

    [found] = sampled(pixels, np.array([[0, 0, 23, 23]], float), 24)
    assert np.array_equal(found[..., :3], pixels)
    [found] = sampled(pixels, np.array([[-0.001, 0, 23, 23.001]], float), 24)
    assert (found[:, 0, :3] == BEYOND).all() and (found[-1, :, :3] == BEYOND).all()
    assert (found[:-1, 1:, :3] != BEYOND).all()


def test_corners_of_either_kind_of_number_will_do():
    pixels, corners = images.noise(60, 50), np.array([[3.5, -2.25, 40.75, 30]])

    assert np.abs(sampled(pixels, corners, 24) - sampled(pixels, corners.astype(np.float32), 24)).max() < 1e-2


def test_the_number_worked_on_together_changes_nothing(monkeypatch):
    rng = np.random.default_rng(5)
    pixels = images.noise(60, 50)
    corner = rng.uniform(-20, 50, (23, 2))
    corners = np.concatenate([corner, corner + rng.uniform(3, 45, (23, 2))], axis=1)
    expected = sampled(pixels, corners, 24)

    for samples in (1, 24 * 24, 24 * 24 * 7, 24 * 24 * 23):
        monkeypatch.setattr(patches, "_AT_ONCE", samples)
        assert np.array_equal(sampled(pixels, corners, 24), expected)


def test_no_corners_give_no_samples():
    assert sampled(images.noise(30, 20), np.empty((0, 4)), 24).shape == (0, 24, 24, 4)
