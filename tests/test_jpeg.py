"""Crops and thumbnails: how large, how good, and that nothing of the photo's file comes along."""

import io

import images
import numpy as np
import pytest
from PIL import Image

from celebface.models import jpeg
from celebface.models.photo import Photo, PhotoLimits


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    image.load()
    return image


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((4000, 3000), (320, 240)),
        ((3000, 4000), (240, 320)),
        ((321, 321), (320, 320)),
        ((320, 200), (320, 200)),
        ((250, 250), (250, 250)),
        ((20, 20), (20, 20)),
        ((1000, 1), (320, 1)),
        ((1, 7000), (1, 320)),
    ],
)
def test_the_longer_side_is_bounded_and_nothing_is_enlarged(size, expected):
    assert opened(jpeg.encode_thumbnail(images.plain(*size))).size == expected


def test_a_thumbnail_shows_the_photo():
    photo = images.scenery(1200, 900)
    shown = np.asarray(opened(jpeg.encode_thumbnail(photo)), np.float32)
    exact = np.asarray(photo.resize((320, 240), Image.Resampling.LANCZOS), np.float32)
    assert np.abs(shown - exact).mean() < 2


def test_a_thumbnail_leaves_the_photo_as_it_was():
    for side in (100, 1000):
        photo = images.scenery(side, side)
        photo.info["comment"] = b"precious"
        before = photo.tobytes()
        jpeg.encode_thumbnail(photo)
        assert (photo.tobytes(), photo.info["comment"]) == (before, b"precious")


@pytest.mark.parametrize("side", [200, 900])
def test_what_the_file_says_stays_behind(side):
    exif = Image.Exif()
    exif[0x010E] = "at home"  # ImageDescription
    exif.get_ifd(0x8825)[1] = "N"  # GPS
    options = {
        "exif": exif,
        "comment": b"a secret",
        "xmp": b"<x:xmpmeta>a secret</x:xmpmeta>",
        "icc_profile": b"profile",
    }
    data = images.encoded(images.scenery(side, side), "JPEG", **options)
    assert data.count(b"secret") == 2 and b"at home" in data

    kept = jpeg.encode_thumbnail(Photo(data, PhotoLimits()).decode())
    assert not any(secret in kept for secret in (b"secret", b"at home", b"Exif", b"profile", b"xmp"))
    assert not opened(kept).getexif()


def test_a_crop_is_kept_in_full():
    pixels = np.asarray(images.scenery(160, 160))
    crop = opened(jpeg.encode_crop(pixels))
    assert crop.size == (160, 160)
    assert np.abs(np.asarray(crop, np.float32) - pixels).mean() < 1


def test_the_same_pixels_give_the_same_bytes():
    photo = images.scenery(800, 500)
    assert jpeg.encode_thumbnail(photo) == jpeg.encode_thumbnail(photo.copy())
    assert jpeg.encode_crop(np.asarray(photo)) == jpeg.encode_crop(np.asarray(photo.copy()))
