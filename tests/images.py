"""Photos made in code: every format and pixel mode, rotated, damaged, announcing too much.

No face is drawn here; tests that need one take it from the sample's photos.
"""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pillow_heif
from PIL import ExifTags, Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)

# How an upright photo must be stored so that a viewer that heeds the EXIF orientation shows it upright.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

# --- pictures ---------------------------------------------------------------------------------------------------------


def plain(width: int, height: int, colour: tuple[int, int, int] = (127, 127, 127)) -> Image.Image:
    """One colour all over."""
    return Image.new("RGB", (width, height), colour)


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Red, green, blue and white quarters, read like a book: no turn or mirror of it looks the same."""
    image = plain(width, height)
    x, y = width // 2, height // 2
    for corner, colour in (((0, 0), RED), ((x, 0), GREEN), ((0, y), BLUE), ((x, y), WHITE)):
        image.paste(colour, (*corner, corner[0] + width - x, corner[1] + height - y))
    return image


def quarter_colours(image: Image.Image) -> list[tuple[int, int, int]]:
    """The colour in the middle of each quarter, read like a book."""
    across, down = (image.width // 4, 3 * image.width // 4), (image.height // 4, 3 * image.height // 4)
    return [image.getpixel((x, y)) for y in down for x in across]


def scenery(width: int, height: int, seed: int = 0, detail: int = 12) -> Image.Image:
    """Smooth random colours with about `detail` blobs a side, as compressible as a photo."""
    blobs = np.random.default_rng(seed).integers(0, 256, (detail, detail, 3), dtype=np.uint8)
    return Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Random pixels, uint8 [height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- files ------------------------------------------------------------------------------------------------------------


def encoded(image: Image.Image, file_format: str, **options) -> bytes:
    """The picture as a file of a format of Pillow's, or as HEIF."""
    stream = io.BytesIO()
    if file_format == "HEIF":  # without telling Pillow of it: that is for the code under test to do
        pillow_heif.from_pillow(image).save(stream, **options)
    else:
        image.save(stream, file_format, **options)
    return stream.getvalue()


def oriented(image: Image.Image, orientation: int, file_format: str, **options) -> bytes:
    """A file that shows `image` when its EXIF orientation is heeded."""
    method = STORED_AS[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = image if method is None else image.transpose(method)
    return encoded(stored, file_format, exif=exif.tobytes(), **options)


def orientation_after_pixels(image: Image.Image, orientation: int) -> bytes:
    """A PNG like `oriented`'s, whose orientation follows its pixels, which the format allows."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(image.transpose(STORED_AS[orientation]), "PNG")
    end = data.index(b"IEND") - 4
    return data[:end] + _png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + data[end:]


def with_damaged_exif(image: Image.Image) -> bytes:
    """A sound JPEG whose EXIF block is rubbish."""
    return encoded(image, "JPEG", exif=b"Exif\0\0rubbish")


def animated(file_format: str, *frames: Image.Image) -> bytes:
    """The frames as one file."""
    return encoded(frames[0], file_format, save_all=True, append_images=frames[1:], duration=100)


def jpeg_with_scans(count: int, between: bytes = b"") -> bytes:
    """A JPEG that passes over its pixels `count` times; `between` lies before each scan that is not its own."""
    data = encoded(plain(64, 48), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scans = data.count(b"\xff\xda")
    return data[:-2] + (between + data[last:-2]) * (count - scans) + data[-2:]


def grey16(levels: list[list[int]], file_format: str) -> bytes:
    """16-bit grey levels, enlarged until no format minds: each level is a square of 20 pixels."""
    return encoded(Image.fromarray(np.kron(np.array(levels), np.ones((20, 20))).astype(np.uint16)), file_format)


# --- files that announce more than they hold --------------------------------------------------------------------------


def png_announcing(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    chunks = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", pixels) + _png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg_announcing(width: int, height: int) -> bytes:
    data = encoded(plain(64, 48), "JPEG")
    size = data.index(b"\xff\xc0") + 5  # marker, length, bits per sample
    return data[:size] + struct.pack(">HH", height, width) + data[size + 4 :]


def webp_announcing(width: int, height: int) -> bytes:
    data = encoded(plain(64, 48), "WEBP", lossless=True)
    size = data.index(b"VP8L") + 9  # name, length, signature
    flags = struct.unpack("<I", data[size : size + 4])[0] >> 28
    return data[:size] + struct.pack("<I", width - 1 | height - 1 << 14 | flags << 28) + data[size + 4 :]


def gif_announcing(width: int, height: int) -> bytes:
    data = encoded(plain(64, 48), "GIF")
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


def bmp_announcing(width: int, height: int) -> bytes:
    data = encoded(plain(64, 48), "BMP")
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


def ppm_announcing(width: int, height: int) -> bytes:
    return b"P6 %d %d 255\n" % (width, height) + bytes(1000)


def heif_announcing(width: int, height: int) -> bytes:
    data = encoded(plain(64, 64), "HEIF")
    size = data.index(b"ispe") + 8  # name, version and flags
    return data[:size] + struct.pack(">II", width, height) + data[size + 8 :]


def heif_cropping_to(height: int) -> bytes:
    """A photo of 64 x 64 pixels, of which the file says to show `height` rows."""
    data = encoded(plain(64, 48), "HEIF")
    rows = data.index(b"clap") + 12  # name, width as a fraction
    return data[:rows] + struct.pack(">I", height) + data[rows + 4 :]


def _png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


# --- damage -----------------------------------------------------------------------------------------------------------


def mutations(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Damages a file in `count` ways: cut short, bytes changed, lost or put in; half of it near the header."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        damaged = bytearray(data)
        reach = len(data) if rng.integers(2) else min(len(data), 200)
        place = int(rng.integers(reach))
        length = int(rng.integers(1, 40))
        match int(rng.integers(4)):
            case 0:
                del damaged[place:]
            case 1:
                del damaged[place : place + length]
            case 2:
                damaged[place:place] = rng.bytes(length)
            case _:
                for spot in rng.integers(reach, size=rng.integers(1, 8)):
                    damaged[spot] = rng.integers(256)
        yield bytes(damaged)
