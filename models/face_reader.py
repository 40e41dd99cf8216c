"""The way from photo bytes to face crops: decode, detect, choose, gate, cut. Pipelines and evaluation share it."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence

import numpy as np
from PIL import Image

from celebface.models import crops, jpeg
from celebface.models.faces import (
    BlurredFace,
    DecodedPhoto,
    FaceCrop,
    FaceTooSmall,
    LowConfidence,
    NoFace,
    PhotoFaces,
    PhotoFault,
    QualityGate,
    ReaderConfig,
)
from celebface.models.inception_resnet import INPUT_SIZE
from celebface.models.mtcnn import Detections, FaceDetector, Picture
from celebface.models.photo import Photo

# Decoded together: as many photos, or pixels and then the photo that goes over them, of 4 bytes each. While these are
# searched the next are decoded, so a caller may hold twice as many; not if they are much more, for a large photo.
_PHOTOS_IN_HAND = 32
_PIXELS_IN_HAND = 16_000_000


class FaceReader:
    """Reads the faces out of batches of encoded photos. Safe to share between threads."""

    def __init__(
        self,
        config: ReaderConfig,
        precision: str = "float32",
        *,
        detector: FaceDetector | None = None,
        thumbnails: bool = False,
    ):
        """Loads the detector.

        Args:
          config: How photos become crops.
          precision: Of the detector's arithmetic, "float32" or "bfloat16".
          detector: One that is loaded already, with `config.detector` and that precision.
          thumbnails: Make one of each photo that can be decoded.
        """
        self.config = config
        self._thumbnails = thumbnails
        self._detector = detector or FaceDetector(config.detector, precision)

    def read(
        self, photos: Sequence[bytes], seconds: MutableMapping[str, float] | None = None
    ) -> list[PhotoFaces | PhotoFault]:
        """Reads a batch.

        Args:
          photos: Encoded photos.
          seconds: Gets the time spent added to its entries decode (with thumbnails), detect and crop. Photos are
            decoded while others are searched, so together they may be more than has passed.

        Returns:
          For each photo its faces, or the fault that keeps it from having any, which has the photo if it was
          decoded; the order is kept.
        """
        spent = collections.defaultdict(float) if seconds is None else seconds
        results: dict[int, PhotoFaces | PhotoFault] = {}
        left = iter(enumerate(photos))
        with concurrent.futures.ThreadPoolExecutor(1, "decode") as decoder:
            coming = decoder.submit(self._decode, left, spent)
            while group := coming.result():
                faults = {i: fault for i, fault in group.items() if isinstance(fault, PhotoFault)}
                opened = {i: photo for i, photo in group.items() if isinstance(photo, _Opened)}
                ahead = None
                if sum(photo.picture.pixels for photo in opened.values()) <= 2 * _PIXELS_IN_HAND:
                    ahead = decoder.submit(self._decode, left, spent)
                results |= faults | self._find_faces(opened, spent)
                coming = ahead or decoder.submit(self._decode, left, spent)
        return [results[i] for i in range(len(photos))]

    def _decode(
        self, photos: Iterator[tuple[int, bytes]], spent: MutableMapping[str, float]
    ) -> dict[int, "_Opened | PhotoFault"]:
        """Decodes the next few photos."""
        opened: dict[int, _Opened | PhotoFault] = {}
        pixels = 0
        with _timed(spent, "decode"):
            for i, data in photos:
                try:
                    photo = _open(data, self.config, self._thumbnails)
                    pixels += photo.picture.pixels
                    opened[i] = photo
                except PhotoFault as fault:
                    opened[i] = fault.bare()
                if pixels > _PIXELS_IN_HAND or len(opened) >= _PHOTOS_IN_HAND:
                    break
        return opened

    def _find_faces(
        self, opened: Mapping[int, "_Opened"], spent: MutableMapping[str, float]
    ) -> dict[int, PhotoFaces | PhotoFault]:
        results: dict[int, PhotoFaces | PhotoFault] = {}
        with _timed(spent, "detect"):
            found = self._detector.detect([photo.picture for photo in opened.values()])
        with _timed(spent, "crop"):
            for (i, photo), detections in zip(opened.items(), found, strict=True):
                try:
                    results[i] = _cut(photo, detections, self.config)
                except PhotoFault as fault:
                    results[i] = fault.bare(photo.decoded)
        return results


@contextlib.contextmanager
def _timed(spent: MutableMapping[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        spent[stage] = spent.get(stage, 0.0) + time.perf_counter() - start


@dataclasses.dataclass(frozen=True, eq=False)
class _Opened:
    """A photo, its pixels as the detector wants them, and what is kept of it as a whole."""

    photo: Photo
    picture: Picture
    decoded: DecodedPhoto


def _open(data: bytes, config: ReaderConfig, thumbnail: bool = False) -> _Opened:
    detector = config.detector
    photo = Photo(data, config.limits)
    min_face = max(detector.min_face_px, detector.min_face_share * photo.longer_side)
    image = photo.decode(detector.decoded_side)
    decoded = DecodedPhoto(photo.width, photo.height, jpeg.encode_thumbnail(image) if thumbnail else None)
    return _Opened(photo, Picture(image, photo.width, photo.height, min_face), decoded)


def _cut(opened: _Opened, found: Detections, config: ReaderConfig) -> PhotoFaces:
    photo = opened.photo
    if not len(found.boxes):
        raise NoFace("the detector found no face")
    edge = np.array([photo.width, photo.height] * 2)
    boxes = np.clip(np.rint(found.boxes), 0, edge).astype(np.int32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)  # at the edge a box may round to nothing
    if config.one_face:
        rows = [crops.main_face(boxes, photo.width, photo.height)]
    else:
        rows = list(range(min(len(boxes), config.max_faces)))
    pixels = _with_enough_pixels(opened, boxes[rows])
    to_pixels = np.array(pixels.size * 2) / edge
    faces, faults = [], []
    for row in rows:
        crop = crops.cut_face(pixels, boxes[row] * to_pixels, INPUT_SIZE)
        face = FaceCrop(boxes[row], float(found.confidence[row]), found.landmarks[row], crops.sharpness(crop), crop)
        if fault := _fault(face, config.gate):
            faults.append(fault)
        else:
            faces.append(face)
    if not faces:
        raise faults[0]  # that of the largest face
    return PhotoFaces(photo.width, photo.height, tuple(faces), len(boxes), opened.decoded.thumbnail)


def _with_enough_pixels(opened: _Opened, boxes: np.ndarray) -> Image.Image:
    """Decodes again, larger, if a face has fewer pixels than the encoder wants while the photo has more."""
    smallest = (boxes[:, 2:] - boxes[:, :2]).max(axis=1).min()
    needed = min(1.0, INPUT_SIZE / max(smallest, 1)) * opened.photo.longer_side
    if max(opened.picture.image.size) >= needed:
        return opened.picture.image
    return opened.photo.decode(min_longer_side=int(np.ceil(needed)))


def _fault(face: FaceCrop, gate: QualityGate) -> PhotoFault | None:
    width, height = face.box[2:] - face.box[:2]
    if min(width, height) < gate.min_face_px:
        return FaceTooSmall(f"{width} x {height} pixels, {gate.min_face_px} are needed")
    if face.confidence < gate.min_confidence:
        return LowConfidence(f"confidence {face.confidence:.3f}, {gate.min_confidence} is needed")
    if face.sharpness < gate.min_sharpness:
        return BlurredFace(f"sharpness {face.sharpness:.1f}, {gate.min_sharpness} is needed")
    return None
