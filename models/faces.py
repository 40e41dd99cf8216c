"""What a photo's faces are: the rules by which they are read, the records, the faults that keep a photo out.

Nothing here loads TensorFlow, so that a driver can configure a run and a reader can open its results without it.
"""

import dataclasses
import math

import numpy as np

PHOTOS_TOGETHER = 64  # photos that are read together: their bytes and crops are held at once


@dataclasses.dataclass(frozen=True)
class DecodedPhoto:
    """A photo as a whole, whatever faces it has.

    Attributes:
      width: Photo width in source pixels, upright.
      height: Photo height in source pixels, upright.
      thumbnail: See `jpeg.encode_thumbnail`; None if it was not asked for.
    """

    width: int
    height: int
    thumbnail: bytes | None = None


class PhotoFault(Exception):
    """A photo that cannot be used.

    Attributes:
      reason: One of the ledger's reasons.
      decoded: The photo, if its pixels could be read.
    """

    reason = ""
    decoded: DecodedPhoto | None = None

    def bare(self, decoded: DecodedPhoto | None = None) -> "PhotoFault":
        """The fault to keep: one that was raised holds the frames it came through, and all photos in them."""
        fault = type(self)(*self.args)
        fault.decoded = decoded
        return fault


class EmptyPhoto(PhotoFault):
    """There are no bytes at all."""

    reason = "empty"


class NotAnImage(PhotoFault):
    """The bytes are of no image format that is read here."""

    reason = "not_an_image"


class TruncatedPhoto(PhotoFault):
    """The image ends before its last pixel."""

    reason = "truncated"


class UndecodablePhoto(PhotoFault):
    """The format was recognised, the pixels could not be read."""

    reason = "undecodable"


class TooManyPixels(PhotoFault):
    """The header announces more pixels than the limit; none was allocated."""

    reason = "too_many_pixels"


class TooManyScans(PhotoFault):
    """A JPEG passes over its pixels so often that it can only be meant to waste time."""

    reason = "too_many_scans"


class CrashedReader(PhotoFault):
    """Whoever decodes it or looks for faces in it dies, or comes to no end."""

    reason = "crashed"


class TooFewPixels(PhotoFault):
    """The photo is smaller than the smallest face that could be found in it."""

    reason = "too_few_pixels"


class NoFace(PhotoFault):
    """The detector found no face."""

    reason = "no_face"


class FaceTooSmall(PhotoFault):
    """No face is large enough."""

    reason = "face_too_small"


class LowConfidence(PhotoFault):
    """No face is certain enough to be one."""

    reason = "low_confidence"


class BlurredFace(PhotoFault):
    """No face is sharp enough."""

    reason = "blurred"


@dataclasses.dataclass(frozen=True)
class PhotoLimits:
    """Bounds on one photo.

    Attributes:
      max_pixels: Most pixels a photo may announce. The default is the size at which Pillow itself calls an image a
        decompression bomb, about 179 megapixels. Decoding needs up to 8 bytes a pixel for a moment, 1.4 GB; a JPEG
        of that size, which is decoded at a reduced scale, far less.
      min_side: Shortest side in pixels worth looking at.
    """

    max_pixels: int = 178_956_970
    min_side: int = 20

    def __post_init__(self) -> None:
        if self.max_pixels < 1 or self.min_side < 1:
            raise ValueError(f"photo limits must be positive, not {self}")


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """What counts as a face, in terms of the photo.

    Attributes:
      min_face_px: Smallest face looked for, in source pixels.
      min_face_share: Smallest face looked for, as a share of the photo's longer side. The larger of the two holds. It
        bounds memory: at 0.01 a photo takes up to 1,700 pixels a side through the detector's first network.
      decoded_side: JPEGs are decoded at half, a quarter or an eighth of their size if that leaves so many pixels on the
        longer side.
      min_confidence: O-Net's least probability of a face.
    """

    min_face_px: int = 20
    min_face_share: float = 0.03
    decoded_side: int = 4000
    min_confidence: float = 0.8

    def __post_init__(self) -> None:
        if self.min_face_px < 20:
            raise ValueError(f"min_face_px must be at least 20, not {self.min_face_px}: MTCNN sees no smaller faces")
        if not 0.01 <= self.min_face_share <= 1:
            raise ValueError(f"min_face_share must lie in 0.01..1, not {self.min_face_share}")
        if self.decoded_side < 400:  # at which faces of 3 % have P-Net's 12 pixels
            raise ValueError(f"decoded_side must be at least 400, not {self.decoded_side}")
        if not 0 < self.min_confidence < 1:
            raise ValueError(f"min_confidence must lie between 0 and 1, not {self.min_confidence}")


@dataclasses.dataclass(frozen=True)
class QualityGate:
    """What a face must have to be used.

    Attributes:
      min_face_px: Least shorter side of the box, in source pixels.
      min_confidence: Least detector probability, 0..1.
      min_sharpness: Least `crops.sharpness` of the 160-pixel crop.
    """

    min_face_px: int = 20
    min_confidence: float = 0.8
    min_sharpness: float = 0.0

    def __post_init__(self) -> None:
        if self.min_face_px < 1:
            raise ValueError(f"min_face_px must be at least 1, not {self.min_face_px}")
        if not 0 < self.min_confidence < 1:
            raise ValueError(f"min_confidence must lie between 0 and 1, not {self.min_confidence}")
        if not 0 <= self.min_sharpness < math.inf:
            raise ValueError(f"min_sharpness must be a number from 0 on, not {self.min_sharpness}")


@dataclasses.dataclass(frozen=True)
class ReaderConfig:
    """How photos become crops.

    Attributes:
      limits: Bounds on one photo.
      detector: What counts as a face.
      gate: Which faces are good enough.
      one_face: Keep only the face a labelled photo is about.
      max_faces: Most faces kept of one photo, the largest first.
    """

    limits: PhotoLimits = PhotoLimits()
    detector: DetectorConfig = DetectorConfig()
    gate: QualityGate = QualityGate()
    one_face: bool = False
    max_faces: int = 100

    def __post_init__(self) -> None:
        if self.max_faces < 1:
            raise ValueError(f"max_faces must be at least 1, not {self.max_faces}")


@dataclasses.dataclass(frozen=True, eq=False)
class FaceCrop:
    """One face, cut out.

    Attributes:
      box: int32 [4], corners x0, y0, x1, y1 in source pixels, upright.
      confidence: Detector probability, 0..1.
      landmarks: float32 [5, 2], x and y in source pixels; see `mtcnn.Detections`.
      sharpness: See `crops.sharpness`.
      pixels: uint8 [160, 160, 3], RGB.
    """

    box: np.ndarray
    confidence: float
    landmarks: np.ndarray
    sharpness: float
    pixels: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class PhotoFaces:
    """What was read from one photo.

    Attributes:
      width: Photo width in source pixels, upright.
      height: Photo height in source pixels, upright.
      faces: The faces kept, largest first; at least one.
      faces_found: How many the detector found in all.
      thumbnail: See `DecodedPhoto`.
    """

    width: int
    height: int
    faces: tuple[FaceCrop, ...]
    faces_found: int
    thumbnail: bytes | None = None

    @property
    def decoded(self) -> DecodedPhoto:
        """The photo as a whole."""
        return DecodedPhoto(self.width, self.height, self.thumbnail)
