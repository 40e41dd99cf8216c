"""Photo bytes to RGB pixels, with the limits that keep one photo from harming a worker."""

import contextlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator

import numpy as np
import pillow_heif
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from celebface.models.faces import (
    EmptyPhoto,
    NotAnImage,
    PhotoLimits,
    TooFewPixels,
    TooManyPixels,
    TooManyScans,
    TruncatedPhoto,
    UndecodablePhoto,
)

pillow_heif.register_heif_opener()

# The readers that may touch untrusted bytes. Pillow has others that start programs (EPS) or that nobody's photos use.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF", "PPM")

# Pillow's readers report broken input with all of these; which one depends on the format and on where the damage is.
_BROKEN_INPUT = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    TypeError,
    EOFError,
    KeyError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)

# libjpeg can decode at 1/2, 1/4 and 1/8 of the size for a fraction of the cost.
_JPEG_REDUCTIONS = (8, 4, 2)

# A progressive JPEG has about 10 scans, each a pass over all pixels. Without a bound a small file keeps a core busy for
# hours.
_MAX_SCANS = 100
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # those that a segment follows, and the end
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9

# What makes the pixels of each EXIF orientation upright, and those that swap width and height.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPING = (5, 6, 7, 8)


class Photo:
    """One photo, opened: its true size is known, its pixels are decoded when asked for.

    Attributes:
      width: Pixels across, after EXIF orientation.
      height: Pixels down, after EXIF orientation.
    """

    def __init__(self, data: bytes, limits: PhotoLimits):
        """Reads the header; of a PNG all, because its orientation may come after its pixels.

        Args:
          data: The file's bytes.
          limits: Bounds to hold it to.

        Raises:
          PhotoFault: If the bytes are empty, of no known format, too large, too small or damaged.
        """
        if not data:
            raise EmptyPhoto("the file has no bytes")
        self._data = data
        image = self._open()
        width, height = image.size
        if width * height > limits.max_pixels:
            raise TooManyPixels(f"{width} x {height} pixels, the limit is {limits.max_pixels} in all")
        if min(width, height) < limits.min_side:
            raise TooFewPixels(f"{width} x {height} pixels, the shorter side must have {limits.min_side}")
        if image.format in ("JPEG", "MPO") and _has_too_many_scans(data):
            raise TooManyScans(f"the JPEG has more than {_MAX_SCANS} scans")
        if image.format == "PNG":
            with _faults():
                image.load()
        # Pillow gives a TIFF's size with its tag heeded, though its pixels are turned only when they are loaded.
        heeded = isinstance(image, TiffImageFile) and image.tag_v2.get(ExifTags.Base.Orientation) in _SWAPPING
        swap = _orientation(image) in _SWAPPING and not heeded
        self.width, self.height = (height, width) if swap else (width, height)
        self._unused: Image.Image | None = image  # the first decoding takes it, others open anew

    @property
    def longer_side(self) -> int:
        """The longer side in source pixels."""
        return max(self.width, self.height)

    def decode(self, min_longer_side: int | None = None) -> Image.Image:
        """Decodes the pixels, upright and in RGB.

        A JPEG is decoded at half, a quarter or an eighth of its size when that still leaves the longer side with
        `min_longer_side` pixels; other formats come at full size.

        Args:
          min_longer_side: Pixels that the longer side must keep at least; None for all of them.

        Returns:
          The first frame, mode RGB, orientation applied. Transparent parts lie on white.

        Raises:
          TruncatedPhoto: If the data ends too early.
          UndecodablePhoto: If the pixels cannot be read for any other reason.
        """
        image, self._unused = self._unused or self._open(), None
        reduction = 1
        if min_longer_side is not None and image.format in ("JPEG", "MPO"):
            enough = (r for r in _JPEG_REDUCTIONS if self.longer_side >= r * min_longer_side)
            reduction = next(enough, 1)
            image.draft(None, (image.width // reduction, image.height // reduction))
        with _faults():
            image.load()
            upright = _upright(image)
        if reduction == 1 and upright.size != (self.width, self.height):
            size = f"{upright.width} x {upright.height}"
            raise UndecodablePhoto(f"the header announces {self.width} x {self.height} pixels, there are {size}")
        return upright

    def _open(self) -> Image.Image:
        with _faults(), warnings.catch_warnings():  # Pillow warns from half of max_pixels on; the limit is ours to set
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(self._data), formats=FORMATS)


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Names what Pillow reports about broken input."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise TooManyPixels(_one_line(error)) from error
    except UnidentifiedImageError as error:
        raise NotAnImage("the bytes are of no known image format") from error
    except _BROKEN_INPUT as error:
        fault = TruncatedPhoto if "truncated" in str(error).lower() else UndecodablePhoto
        raise fault(_one_line(error)) from error


def _has_too_many_scans(data: bytes) -> bool:
    """Counts the scans of a JPEG's first image; what its other segments hold, and what follows it, may be anything."""
    scans, place = 0, 2
    while (marker := _MARKER.search(data, place)) and scans <= _MAX_SCANS:
        place = marker.end()
        kind = data[place - 1]
        if kind == _END_OF_IMAGE:
            break
        scans += kind == _START_OF_SCAN
        place += int.from_bytes(data[place : place + 2])
    return scans > _MAX_SCANS


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8; 1 if the EXIF data is damaged, for the pixels may well be sound."""
    try:
        stated = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BROKEN_INPUT:
        return 1
    return stated if stated in _UPRIGHT else 1


def _upright(image: Image.Image) -> Image.Image:
    """A loaded picture, turned as its EXIF orientation says, in RGB."""
    turn = _UPRIGHT.get(_orientation(image))
    return to_rgb(image.transpose(turn) if turn is not None else image)


def as_bytes(image: Image.Image) -> bytes:
    """A picture as an encoded photo that decodes to its very pixels, upright and in RGB, or its current frame's.

    Raises:
      PhotoFault: If its pixels cannot be read.
    """
    with _faults():
        image.load()
        upright = _upright(image)
    stream = io.BytesIO()
    upright.save(stream, "PPM")
    return stream.getvalue()


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts any Pillow mode to 8-bit RGB.

    Sixteen-bit greys are scaled, not clipped as Pillow's own conversion does; transparency is laid on white.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _scale_grey(np.asarray(image))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGB", layer.size, "white")
        ground.paste(layer, mask=layer.getchannel("A"))
        return ground
    return image.convert("RGB")


def _scale_grey(values: np.ndarray) -> Image.Image:
    """16-bit grey levels, [H, W], to RGB; wider types hold 16-bit data in practice, and some hold 8-bit data."""
    if values.dtype != np.uint16:
        values = np.nan_to_num(values).clip(0, 65535).astype(np.uint16)
    if values.size and values.max() > 255:
        values = values >> 8
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
