import images
import numpy as np
import pytest
from PIL import Image

from celebface.models.faces import (
    EmptyPhoto,
    NotAnImage,
    PhotoFault,
    PhotoLimits,
    TooFewPixels,
    TooManyPixels,
    TooManyScans,
    TruncatedPhoto,
    UndecodablePhoto,
)
from celebface.models.photo import FORMATS, Photo, to_rgb

LIMITS = PhotoLimits()
QUARTERS = [images.RED, images.GREEN, images.BLUE, images.WHITE]
LOSSY = 8  # grey levels that a lossy format may be off in an even area


def decoded(data: bytes) -> Image.Image:
    image = Photo(data, LIMITS).decode()
    assert image.mode == "RGB"
    return image


def near(image: Image.Image, colours: list[tuple[int, int, int]], tolerance: int = 0) -> bool:
    found = np.array(images.quarter_colours(image))
    return bool(np.abs(found - np.array(colours)).max() <= tolerance)


def size(image) -> tuple[int, int]:
    return image.width, image.height


# --- formats and modes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", [*FORMATS, "MPO"])
def test_every_format_gives_its_colours(file_format):
    data = images.encoded(images.quarters(), file_format)

    assert size(Photo(data, LIMITS)) == (64, 48)
    assert size(decoded(data)) == (64, 48)
    assert near(decoded(data), QUARTERS, LOSSY)


def test_lossless_pixels_come_as_they_are():
    pixels = images.noise(40, 30)
    for data in (images.encoded(Image.fromarray(pixels), name) for name in ("PNG", "TIFF", "BMP", "PPM")):
        assert np.array_equal(decoded(data), pixels)


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "RGBA", "RGBX", "PA"])
def test_colour_modes_become_rgb(mode):
    image = images.quarters().convert("P").convert(mode) if mode == "PA" else images.quarters().convert(mode)

    assert near(to_rgb(image), QUARTERS, 1)


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_files_become_rgb(file_format):
    data = images.encoded(images.quarters().convert("CMYK"), file_format)

    assert near(decoded(data), QUARTERS, LOSSY)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_modes_become_rgb(mode):
    grey = Image.new("L", (64, 48), 0)
    grey.paste(255, (32, 0, 64, 48))

    black, white = (0, 0, 0), (255, 255, 255)
    assert near(decoded(images.encoded(grey.convert(mode), "PNG")), [black, white, black, white])


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_greys_are_scaled_not_clipped(file_format):
    data = images.grey16([[0, 20000], [32768, 65535]], file_format)

    greys = [colour[0] for colour in images.quarter_colours(decoded(data))]
    assert greys == [0, 78, 128, 255]  # level * 255 / 65535


@pytest.mark.parametrize("mode", ["I", "F"])
def test_wide_pixels_that_hold_eight_bit_levels_are_not_scaled(mode):
    levels = np.kron(np.array([[0, 10], [200, 255]]), np.ones((20, 20))).astype(np.int32 if mode == "I" else np.float32)

    image = decoded(images.encoded(Image.fromarray(levels), "TIFF"))
    assert [colour[0] for colour in images.quarter_colours(image)] == [0, 10, 200, 255]


@pytest.mark.filterwarnings("error::RuntimeWarning")  # what becomes of it is up to the machine
def test_no_number_in_a_float_photo_gives_black():
    levels = np.full((40, 40), np.nan, np.float32)
    levels[20:] = 255

    image = decoded(images.encoded(Image.fromarray(levels), "TIFF"))
    assert near(image, [(0, 0, 0), (0, 0, 0), images.WHITE, images.WHITE])


def half_transparent() -> Image.Image:
    """Clear red over half red, clear blue over half black; opaque nowhere."""
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[:24, :32], pixels[:24, 32:], pixels[24:, :32], pixels[24:, 32:] = (
        (255, 0, 0, 0),
        (0, 0, 255, 0),
        (255, 0, 0, 128),
        (0, 0, 0, 128),
    )
    return Image.fromarray(pixels)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
def test_transparency_lies_on_white(file_format):
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    data = images.encoded(half_transparent(), file_format, **options)

    tolerance = LOSSY if file_format in ("AVIF", "HEIF") else 0
    assert near(decoded(data), [images.WHITE, images.WHITE, (255, 127, 127), (127, 127, 127)], tolerance)


def test_transparent_grey_lies_on_white():
    pixels = np.zeros((40, 40, 2), np.uint8)
    pixels[:, 20:, 1] = 255

    image = decoded(images.encoded(Image.fromarray(pixels), "PNG"))
    assert near(image, [images.WHITE, (0, 0, 0)] * 2)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_lies_on_white(mode):
    image = Image.new("RGB", (40, 40), (90, 90, 90))
    image.paste((10, 10, 10), (20, 0, 40, 40))
    stored = image.quantize(2) if mode == "P" else image.convert(mode)
    data = images.encoded(stored, "PNG", transparency=stored.getpixel((0, 0)))

    assert near(decoded(data), [images.WHITE, (10, 10, 10)] * 2)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "AVIF", "TIFF", "MPO"])
def test_the_first_of_several_frames_counts(file_format):
    data = images.animated(file_format, images.quarters(), images.plain(64, 48), images.plain(64, 48, (9, 9, 9)))

    assert near(decoded(data), QUARTERS, LOSSY)


# --- orientation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "MPO"])
def test_orientation_turns_pixels_and_size(file_format, orientation):
    data = images.oriented(images.quarters(64, 48), orientation, file_format)

    assert size(Photo(data, LIMITS)) == (64, 48)
    assert size(decoded(data)) == (64, 48)
    assert near(decoded(data), QUARTERS, LOSSY)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_compressed_tiffs_once(orientation):
    data = images.oriented(images.quarters(64, 48), orientation, "TIFF", compression="tiff_lzw")

    assert size(Photo(data, LIMITS)) == (64, 48)
    assert near(decoded(data), QUARTERS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_is_turned_once(orientation):
    # Phones write the turn twice, as a property of the image and as EXIF; the decoder heeds the first.
    data = images.oriented(images.quarters(64, 48), orientation, "HEIF")

    assert size(Photo(data, LIMITS)) == (64, 48)
    assert near(decoded(data), QUARTERS, LOSSY)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_png_may_state_its_orientation_after_its_pixels(orientation):
    data = images.orientation_after_pixels(images.quarters(64, 48), orientation)

    assert size(Photo(data, LIMITS)) == (64, 48)
    assert near(decoded(data), QUARTERS)


def test_each_decoding_of_a_photo_gives_the_same_pixels():
    for file_format in ("JPEG", "PNG", "TIFF", "HEIF"):
        photo = Photo(images.oriented(images.scenery(64, 48), 6, file_format), LIMITS)
        assert np.array_equal(photo.decode(), photo.decode())


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_unknown_orientations_turn_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = images.encoded(images.quarters(), "JPEG", exif=exif.tobytes())

    assert near(decoded(data), QUARTERS, LOSSY)


def test_damaged_exif_does_not_cost_the_photo():
    assert near(decoded(images.with_damaged_exif(images.quarters())), QUARTERS, LOSSY)


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_pixels(monkeypatch):
    """Fails the test when Pillow allocates memory for pixels."""

    def refuse(*_):
        raise AssertionError("pixels were allocated")

    monkeypatch.setattr(Image.core, "new", refuse)


def test_the_trap_for_pixels_springs(no_pixels, request):
    photo = Photo(images.jpeg_announcing(64, 48), LIMITS)

    with pytest.raises(AssertionError, match="pixels were allocated"):
        photo.decode()


@pytest.mark.parametrize(
    "announcing",
    [
        images.png_announcing,
        images.jpeg_announcing,
        images.gif_announcing,
        images.bmp_announcing,
        images.ppm_announcing,
        images.heif_announcing,
    ],
)
@pytest.mark.parametrize("side", [13_378, 50_000])  # just over the limit, and over all of Pillow's own
def test_bombs_are_refused_unopened(announcing, side, request):
    data = announcing(side, side)
    request.getfixturevalue("no_pixels")

    with pytest.raises(TooManyPixels):
        Photo(data, LIMITS)


def test_a_webp_bomb_is_refused_unopened(request):
    data = images.webp_announcing(16_383, 16_383)  # the most that the format has
    request.getfixturevalue("no_pixels")

    with pytest.raises(TooManyPixels):
        Photo(data, LIMITS)


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_limit_is_exact_and_comes_before_the_pixels(file_format, request):
    data = images.encoded(images.quarters(64, 48), file_format)
    assert size(Photo(data, PhotoLimits(max_pixels=64 * 48))) == (64, 48)
    request.getfixturevalue("no_pixels")

    with pytest.raises(TooManyPixels, match="64 x 48 pixels, the limit is 3071 in all"):
        Photo(data, PhotoLimits(max_pixels=64 * 48 - 1))


def test_a_photo_without_room_for_a_face_is_refused():
    with pytest.raises(TooFewPixels, match="300 x 19 pixels"):
        Photo(images.encoded(images.plain(300, 19), "PNG"), LIMITS)
    assert size(Photo(images.encoded(images.plain(300, 20), "PNG"), LIMITS)) == (300, 20)


def test_a_jpeg_may_have_some_scans_but_not_thousands():
    assert near(decoded(images.jpeg_with_scans(100)), [(127, 127, 127)] * 4, LOSSY)
    for many in (images.jpeg_with_scans(101), images.jpeg_with_scans(5000), images.jpeg_with_scans(101, b"rubbish")):
        with pytest.raises(TooManyScans) as caught:
            Photo(many, LIMITS)
        assert caught.value.reason == "too_many_scans"


def test_what_looks_like_a_scan_beside_the_picture_is_none():
    # Phones append a film to the photo, cameras put previews and notes of their own into it.
    film = b"ftypmp42" + b"\xff\xda\0\2" * 20_000
    notes = b"Exif\0\0" + b"\xff\xda" * 200

    for data in (
        images.encoded(images.quarters(), "JPEG") + film,
        images.encoded(images.quarters(), "JPEG", exif=notes),
    ):
        assert near(decoded(data), QUARTERS, LOSSY)


def test_limits_must_be_positive():
    for options in ({"max_pixels": 0}, {"min_side": 0}):
        with pytest.raises(ValueError, match="must be positive"):
            PhotoLimits(**options)


# --- damage -----------------------------------------------------------------------------------------------------------


def test_no_bytes_are_empty():
    with pytest.raises(EmptyPhoto) as caught:
        Photo(b"", LIMITS)
    assert caught.value.reason == "empty"


@pytest.mark.parametrize(
    "data",
    [
        b"a letter, not a photo\n" * 50,
        b"<!doctype html><html><body>404</body></html>",
        bytes(1000),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\n",  # Pillow would start Ghostscript for it
    ],
    ids=["text", "html", "zeros", "eps"],
)
def test_other_files_are_no_image(data):
    with pytest.raises(NotAnImage) as caught:
        Photo(data, LIMITS)
    assert caught.value.reason == "not_an_image"


@pytest.mark.parametrize("kept", [0.25, 0.5, 0.75, 0.95])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM"])
def test_a_photo_that_ends_early_is_truncated(file_format, kept):
    data = images.encoded(Image.fromarray(images.noise(64, 48)), file_format)

    with pytest.raises(TruncatedPhoto) as caught:
        decoded(data[: int(len(data) * kept)])
    assert caught.value.reason == "truncated"


def test_a_jpeg_that_ends_in_its_header_is_truncated():
    data = images.encoded(images.scenery(64, 48), "JPEG")

    with pytest.raises(TruncatedPhoto):
        decoded(data[:100])


def test_a_damaged_png_is_told_when_it_is_opened():
    # Its orientation may come last, so that its size is not known without reading all of it.
    data = images.encoded(Image.fromarray(images.noise(64, 48)), "PNG")

    with pytest.raises(TruncatedPhoto):
        Photo(data[: len(data) // 2], LIMITS)


def test_a_header_at_odds_with_its_pixels_is_undecodable():
    # Boxes would be measured by the one and cut by the other.
    with pytest.raises(UndecodablePhoto, match="announces 64 x 640 pixels, there are 64 x"):
        decoded(images.heif_cropping_to(640))


def test_a_fault_is_told_in_one_line():
    data = images.encoded(Image.fromarray(images.noise(64, 48)), "PNG")
    with pytest.raises(PhotoFault) as caught:
        decoded(data[:1000])
    assert str(caught.value) == "image file is truncated"


def damaged_sources() -> dict[str, bytes]:
    picture = images.scenery(48, 36, detail=24)
    return {
        "jpeg": images.oriented(picture, 6, "JPEG"),
        "jpeg progressive": images.encoded(picture, "JPEG", progressive=True),
        "jpeg cmyk": images.encoded(picture.convert("CMYK"), "JPEG"),
        "png": images.oriented(picture, 6, "PNG"),
        "png palette": images.encoded(picture.quantize(16), "PNG", transparency=1),
        "png 16 bit": images.grey16([[0, 30000], [40000, 65535]], "PNG"),
        "webp": images.oriented(picture, 6, "WEBP"),
        "webp lossless": images.encoded(picture, "WEBP", lossless=True),
        "gif": images.animated("GIF", picture, picture.rotate(90)),
        "tiff": images.oriented(picture, 6, "TIFF"),
        "tiff lzw": images.encoded(picture, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": images.encoded(picture, "TIFF", compression="jpeg"),
        "bmp": images.encoded(picture, "BMP"),
        "ppm": images.encoded(picture, "PPM"),
        "avif": images.oriented(picture, 6, "AVIF"),
        "heif": images.oriented(picture, 6, "HEIF"),
    }


@pytest.mark.filterwarnings("ignore")  # Pillow's, about the damage
@pytest.mark.parametrize("kind", damaged_sources())
def test_damage_raises_nothing_but_photo_faults(kind):
    faults = 0
    for data in images.mutations(damaged_sources()[kind], 300, seed=len(kind)):
        try:
            photo = Photo(data, LIMITS)
            image = photo.decode()
        except PhotoFault as fault:
            faults += 1
            assert fault.reason and "\n" not in str(fault)
        else:
            assert (image.mode, image.size) == ("RGB", size(photo))
    assert faults > 30


# --- decoding at a reduced scale --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "longer_side"),
    [(None, 1601), (1601, 1601), (801, 1601), (800, 801), (401, 801), (400, 401), (201, 401), (200, 201), (9, 201)],
)
def test_a_jpeg_keeps_the_longer_side_asked_for(asked, longer_side):
    for width, height in ((1601, 900), (900, 1601)):
        photo = Photo(images.encoded(images.scenery(width, height), "JPEG"), LIMITS)

        assert max(photo.decode(min_longer_side=asked).size) == longer_side
        assert size(photo) == (width, height)


@pytest.mark.parametrize(("asked", "expected"), [(800, (800, 600)), (400, (400, 300)), (150, (200, 150))])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_reduced_jpeg_shows_what_the_scaled_one_does(asked, expected, orientation):
    photo = Photo(images.oriented(images.scenery(1600, 1200), orientation, "JPEG", quality=95), LIMITS)

    small = photo.decode(min_longer_side=asked)
    assert small.size == expected
    scaled = photo.decode().resize(expected, Image.Resampling.BOX)
    assert np.abs(np.asarray(small, np.float32) - np.asarray(scaled, np.float32)).mean() < 1.0


def test_other_formats_are_decoded_in_full():
    for file_format in ("PNG", "WEBP", "TIFF"):
        photo = Photo(images.encoded(images.scenery(400, 300), file_format), LIMITS)
        assert size(photo.decode(min_longer_side=50)) == (400, 300)


def test_a_reduced_cmyk_jpeg_keeps_its_colours():
    data = images.encoded(images.quarters(640, 480).convert("CMYK"), "JPEG")

    small = Photo(data, LIMITS).decode(min_longer_side=80)
    assert small.size == (80, 60)
    assert near(small, QUARTERS, LOSSY)
