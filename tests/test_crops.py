import io
import itertools

import images
import numpy as np
import pytest
from PIL import Image, ImageFilter

from celebface.models import crops

# --- which face -------------------------------------------------------------------------------------------------------


def slow_main_face(boxes, width, height) -> int:
    best, best_score = 0, -float("inf")
    for row, (x0, y0, x1, y1) in enumerate(boxes):
        across, down = (x0 + x1) / 2 - width / 2, (y0 + y1) / 2 - height / 2
        score = (x1 - x0) * (y1 - y0) - 2 * (across * across + down * down)
        if score > best_score:
            best, best_score = row, score
    return best


def test_the_main_face_is_as_a_slow_statement_has_it():
    rng = np.random.default_rng(1)
    chosen = set()
    for _ in range(200):
        width, height = rng.integers(50, 500, 2)
        corners = np.sort(rng.integers(0, 400, (rng.integers(1, 8), 2, 2)), axis=1).reshape(-1, 4)
        chosen.add(crops.main_face(corners, width, height))
        assert crops.main_face(corners, width, height) == slow_main_face(corners.tolist(), width, height)
    assert len(chosen) > 3


def test_a_central_face_beats_a_somewhat_larger_one_at_the_edge():
    centre, edge, giant = [80, 80, 120, 120], [0, 0, 50, 50], [0, 0, 180, 180]

    assert crops.main_face(np.array([edge, centre]), 200, 200) == 1
    assert crops.main_face(np.array([edge, centre, giant]), 200, 200) == 2


def test_the_main_face_of_equals_is_the_first():
    assert crops.main_face(np.array([[90, 40, 110, 60], [90, 140, 110, 160]]), 200, 200) == 0


def test_areas_do_not_overflow():
    # 46,341 squared is the first to leave int32; it would come out negative.
    boxes = np.array([[24_990, 24_990, 25_010, 25_010], [0, 0, 50_000, 50_000]], np.int32)
    assert crops.main_face(boxes, 50_000, 50_000) == 1


# --- the square -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((10, 20, 30, 40), (10, 20, 20)),
        ((10, 20, 30, 60), (0, 20, 40)),
        ((10, 20, 51, 30), (10, 4.5, 41)),
        ((0, 0, 10, 100), (-45, 0, 100)),
    ],
    ids=["square", "tall", "wide", "beyond the edge"],
)
def test_the_square_has_the_longer_side_and_the_same_centre(box, square):
    assert crops.square_around(np.array(box, np.int32)) == square


# --- the crop ---------------------------------------------------------------------------------------------------------


def test_a_square_of_the_output_size_is_cut_as_it_is():
    pixels = images.noise(300, 200)

    crop = crops.cut_face(Image.fromarray(pixels), np.array([40, 30, 200, 190]), 160)
    assert crop.dtype == np.uint8
    assert np.array_equal(crop, pixels[30:190, 40:200])


def test_a_crop_has_the_colours_of_its_place():
    photo = images.quarters(400, 300)  # the quarters meet at 200, 150

    crop = crops.cut_face(photo, np.array([160, 110, 240, 190]), 64)
    assert crop.shape == (64, 64, 3)
    assert (crop[:30, :30] == images.RED).all()
    assert (crop[:30, 34:] == images.GREEN).all()
    assert (crop[34:, :30] == images.BLUE).all()
    assert (crop[34:, 34:] == images.WHITE).all()


def test_a_tall_box_is_widened_not_stretched():
    photo = images.quarters(400, 300)

    crop = crops.cut_face(photo, np.array([180, 110, 200, 190]), 80)  # the square reaches from x = 150 to 230
    assert (crop[:38, :48] == images.RED).all()
    assert (crop[:38, 52:] == images.GREEN).all()


def test_corners_between_pixels_are_kept():
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)

    whole = crops.cut_face(Image.fromarray(ramp), np.array([50, 20, 90, 60]), 40)
    half = crops.cut_face(Image.fromarray(ramp), np.array([50.5, 20, 90.5, 60]), 40)
    assert (whole[:, :, 0] == np.arange(50, 90)).all()
    shift = half[:, :, 0].astype(float) - whole[:, :, 0]
    assert np.isin(shift, (0, 1)).all() and 0.2 < shift.mean() <= 1  # grey levels are whole: 50.5 is 50 or 51


@pytest.mark.parametrize(
    "box",
    [(-20, -30, 60, 50), (150, 100, 230, 180), (-40, 50, 40, 130), (90, -70, 170, 10), (-40, -40, 240, 190)],
    ids=["upper left", "lower right", "left", "above", "all around"],
)
def test_beyond_the_edge_lie_the_edge_pixels(box):
    pixels = images.noise(200, 150)
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0)
    left, top = (x0 + x1 - side) // 2, (y0 + y1 - side) // 2

    crop = crops.cut_face(Image.fromarray(pixels), np.array(box), side)
    rows = np.clip(np.arange(top, top + side), 0, 149)
    columns = np.clip(np.arange(left, left + side), 0, 199)
    assert np.array_equal(crop, pixels[np.ix_(rows, columns)])


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (199, 149, 200, 150), (-3.5, -2.25, 1, 9.75), (198.5, 20, 300.1, 21)])
@pytest.mark.parametrize("size", [1, 37, 160])
def test_a_crop_has_exactly_the_size_asked_for(box, size):
    crop = crops.cut_face(images.quarters(200, 150), np.array(box), size)
    assert (crop.shape, crop.dtype) == ((size, size, 3), np.uint8)


def test_corners_of_any_fraction_can_be_cut():
    photo, rng = images.quarters(90, 70), np.random.default_rng(2)
    for _ in range(500):
        corner, span = rng.uniform(-20, 60, 2), rng.uniform(21, 80, 2)
        assert crops.cut_face(photo, np.concatenate([corner, corner + span]), 8).shape == (8, 8, 3)


def test_a_large_face_is_averaged_not_sampled():
    # Every second pixel white: taking single pixels would give black or white.
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255

    crop = crops.cut_face(Image.fromarray(stripes), np.array([0, 0, 640, 640]), 80)
    assert np.abs(crop.astype(int) - 127).max() <= 8


# --- sharpness --------------------------------------------------------------------------------------------------------


def test_sharpness_is_the_variance_of_the_laplacian():
    crop = images.noise(9, 7)
    grey = crop @ np.array([0.299, 0.587, 0.114])
    laplacian = [
        grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x]
        for y in range(1, 6)
        for x in range(1, 8)
    ]

    assert crops.sharpness(crop) == pytest.approx(np.var(laplacian), rel=1e-4)


def test_sharpness_falls_with_blur():
    photo = images.scenery(160, 160, detail=80)
    blurred = [photo.filter(ImageFilter.GaussianBlur(radius)) for radius in (0, 1, 2, 4, 8)]

    found = [crops.sharpness(np.asarray(image)) for image in blurred]
    assert found == sorted(found, reverse=True)
    assert found[0] > 10 * found[2] > 0


def test_an_even_area_has_no_sharpness():
    assert crops.sharpness(np.asarray(images.plain(160, 160))) == pytest.approx(0, abs=1e-6)


# --- perceptual hash --------------------------------------------------------------------------------------------------


def bits_apart(first: Image.Image, second: Image.Image) -> int:
    hashes = [crops.perceptual_hash(np.asarray(image)) for image in (first, second)]
    return (hashes[0] ^ hashes[1]).bit_count()


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(images.encoded(image, "JPEG", quality=quality))).convert("RGB")


def test_a_hash_says_which_of_two_neighbours_is_lighter():
    wanted = 0x0123456789ABCDEF
    levels = np.full((8, 9, 3), 128, np.uint8)
    for row in range(8):
        for column in range(8):
            lighter = wanted >> (63 - 8 * row - column) & 1
            levels[row, column + 1] = levels[row, column].astype(int) + (5 if lighter else -5)
    assert crops.perceptual_hash(levels) == wanted
    assert crops.perceptual_hash(levels.repeat(20, axis=0).repeat(20, axis=1)) == wanted
    assert crops.perceptual_hash(255 - levels) == wanted ^ (2**64 - 1)


@pytest.mark.parametrize(
    ("step", "value"), [(1, 2**64 - 1), (-1, 0), (0, 0)], ids=["lighter to the right", "darker", "even"]
)
def test_the_hash_of_a_gradient(step, value):
    gradient = (128 + step * np.arange(-80, 80)).astype(np.uint8)[None, :, None].repeat(160, axis=0).repeat(3, axis=2)
    assert crops.perceptual_hash(gradient) == value
    assert crops.perceptual_hash(gradient.transpose(1, 0, 2)) == 0  # from top to bottom no neighbour is lighter


def test_a_hash_has_64_bits_that_photos_make_use_of():
    hashes = [crops.perceptual_hash(images.noise(160, 160, seed)) for seed in range(64)]
    assert len(set(hashes)) == 64
    assert all(0 <= each < 2**64 for each in hashes)
    assert np.bitwise_or.reduce(np.array(hashes, np.uint64)) == 2**64 - 1
    assert np.bitwise_and.reduce(np.array(hashes, np.uint64)) == 0


@pytest.mark.parametrize("seed", range(5))
def test_copies_of_a_picture_nearly_share_its_hash(seed):
    picture = images.scenery(160, 160, seed)
    assert bits_apart(picture, picture.copy()) == 0
    for side in (107, 240):
        scaled = picture.resize((side, side), Image.Resampling.BICUBIC)
        assert bits_apart(picture, scaled) <= 4
        assert bits_apart(picture, recompressed(scaled, 60)) <= 6
    assert bits_apart(picture, recompressed(picture, 30)) <= 6
    brighter = picture.point([min(255, level + 20) for level in range(256)] * 3)
    assert bits_apart(picture, brighter) <= 4
    assert bits_apart(picture, picture.convert("L").convert("RGB")) <= 2


def test_noise_hardly_changes_a_hash():
    picture = np.asarray(images.scenery(160, 160)).astype(int)
    grain = np.random.default_rng(3).integers(-40, 41, (160, 160, 1))
    grainy = Image.fromarray(np.clip(picture + grain, 0, 255).astype(np.uint8))
    assert bits_apart(images.scenery(160, 160), grainy) <= 2


def test_other_pictures_have_other_hashes():
    pictures = [images.scenery(160, 160, seed) for seed in range(12)]
    apart = [bits_apart(one, other) for one, other in itertools.combinations(pictures, 2)]
    assert min(apart) > 14
    assert all(bits_apart(each, each.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) > 14 for each in pictures)
