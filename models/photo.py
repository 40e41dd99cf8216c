"""Photo bytes to RGB pixels, with the limits that keep one photo from harming a worker."""

import io
import struct
import warnings
import zlib

import numpy as np
import pillow_heif
from PIL import Image, ImageOps, UnidentifiedImageError

from celebface.models.faces import (
    EmptyPhoto,
    NotAnImage,
    PhotoLimits,
    TooFewPixels,
    TooManyPixels,
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
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)

# libjpeg can decode at 1/2, 1/4 and 1/8 of the size for a fraction of the cost.
_JPEG_REDUCTIONS = (8, 4, 2)


class Photo:
    """One photo, opened: its true size is known, its pixels are decoded when asked for.

    Attributes:
      width: Pixels across, after EXIF orientation.
      height: Pixels down, after EXIF orientation.
    """

    def __init__(self, data: bytes, limits: PhotoLimits):
        """Reads the header.

        Args:
          data: The file's bytes.
          limits: Bounds to hold it to.

        Raises:
          PhotoFault: If the bytes are empty, of no known format, too large or too small.
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
        self._turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        self.width, self.height = (height, width) if self._turned else (width, height)

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
        image = self._open()
        if min_longer_side is not None and image.format in ("JPEG", "MPO"):
            for reduction in _JPEG_REDUCTIONS:
                if self.longer_side >= reduction * min_longer_side:
                    width, height = image.size
                    image.draft(None, (width // reduction, height // reduction))
                    break
        try:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
        except _BROKEN_INPUT as error:
            fault = TruncatedPhoto if "truncated" in str(error) else UndecodablePhoto
            raise fault(_one_line(error)) from error

    def _open(self) -> Image.Image:
        try:
            with warnings.catch_warnings():  # Pillow warns from half of max_pixels on; the limit is ours to set
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                return Image.open(io.BytesIO(self._data), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise TooManyPixels(_one_line(error)) from error
        except UnidentifiedImageError as error:
            raise NotAnImage("the bytes are of no known image format") from error
        except _BROKEN_INPUT as error:
            raise UndecodablePhoto(_one_line(error)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts any Pillow mode to 8-bit RGB.

    Sixteen-bit greys are scaled, not clipped as Pillow's own conversion does; transparency is laid on white.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _scale_grey(np.asarray(image))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def _scale_grey(values: np.ndarray) -> Image.Image:
    """16-bit (or wider) grey levels, [H, W], to RGB; wider types hold 16-bit data in practice."""
    top = 255.0 if values.size and values.max() <= 255 else 65535.0
    grey = np.clip(np.nan_to_num(values.astype(np.float32)) * (255.0 / top), 0, 255)
    return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
