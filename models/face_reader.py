"""The way from photo bytes to face crops: decode, detect, choose, gate, cut. Pipelines and evaluation share it."""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Iterator, MutableMapping, Sequence

import numpy as np
from PIL import Image

from celebface.models import crops
from celebface.models.facenet import INPUT_SIZE
from celebface.models.faces import (
    BlurredFace,
    FaceCrop,
    FaceTooSmall,
    LowConfidence,
    NoFace,
    PhotoFaces,
    PhotoFault,
    QualityGate,
    ReaderConfig,
)
from celebface.models.mtcnn import Detections, FaceDetector
from celebface.models.photo import Photo

# Decoded pixels held at a time; one photo over it is read alone. 3 bytes each, so 96 MB.
_PIXELS_IN_HAND = 32_000_000


class FaceReader:
    """Reads the faces out of batches of encoded photos. Safe to share between threads."""

    def __init__(self, config: ReaderConfig):
        """Loads the detector."""
        self.config = config
        self._detector = FaceDetector(config.detector)

    def read(
        self, photos: Sequence[bytes], seconds: MutableMapping[str, float] | None = None
    ) -> list[PhotoFaces | PhotoFault]:
        """Reads a batch.

        Args:
          photos: Encoded photos.
          seconds: Gets the time spent added to its entries decode, detect and crop.

        Returns:
          For each photo its faces, or the fault that keeps it from having any; the order is kept.
        """
        spent = collections.defaultdict(float) if seconds is None else seconds
        results: dict[int, PhotoFaces | PhotoFault] = {}
        in_hand: dict[int, _Opened] = {}
        for i, data in enumerate(photos):
            try:
                with _timed(spent, "decode"):
                    in_hand[i] = _open(data, self.config)
            except PhotoFault as fault:
                results[i] = fault
            if sum(opened.pixels.width * opened.pixels.height for opened in in_hand.values()) > _PIXELS_IN_HAND:
                self._find_faces(in_hand, results, spent)
                in_hand = {}
        self._find_faces(in_hand, results, spent)
        return [results[i] for i in range(len(photos))]

    def _find_faces(
        self,
        in_hand: dict[int, "_Opened"],
        results: dict[int, PhotoFaces | PhotoFault],
        spent: MutableMapping[str, float],
    ) -> None:
        with _timed(spent, "detect"):
            found = self._detector.detect(
                [opened.for_detector for opened in in_hand.values()], [opened.min_face for opened in in_hand.values()]
            )
        with _timed(spent, "crop"):
            for (i, opened), detections in zip(in_hand.items(), found, strict=True):
                try:
                    results[i] = _cut(opened, detections, self.config)
                except PhotoFault as fault:
                    results[i] = fault


@contextlib.contextmanager
def _timed(spent: MutableMapping[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        spent[stage] = spent.get(stage, 0.0) + time.perf_counter() - start


@dataclasses.dataclass(eq=False)
class _Opened:
    """A photo on its way to the detector.

    Attributes:
      photo: The photo.
      pixels: Its pixels, perhaps at a reduced scale.
      for_detector: uint8 [H, W, 3], RGB, the longer side at most the detector's.
      min_face: Smallest face looked for, in pixels of `for_detector`.
    """

    photo: Photo
    pixels: Image.Image
    for_detector: np.ndarray
    min_face: float


def _open(data: bytes, config: ReaderConfig) -> _Opened:
    detector = config.detector
    photo = Photo(data, config.limits)
    pixels = photo.decode(min_longer_side=detector.longest_side)
    scale = min(1.0, detector.longest_side / photo.longer_side)
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    small = pixels if size == pixels.size else pixels.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    min_face = max(detector.min_face_px, detector.min_face_share * photo.longer_side) * scale
    return _Opened(photo, pixels, np.asarray(small), max(min_face, 20.0))


def _cut(opened: _Opened, found: Detections, config: ReaderConfig) -> PhotoFaces:
    photo = opened.photo
    if not len(found.boxes):
        raise NoFace("the detector found no face")
    to_source = np.array([photo.width, photo.height]) / opened.for_detector.shape[1::-1]
    edge = np.array([photo.width, photo.height] * 2)
    boxes = np.clip(np.rint(found.boxes * np.tile(to_source, 2)), 0, edge).astype(np.int32)
    landmarks = (found.landmarks * to_source).astype(np.float32)
    if config.one_face:
        rows = [crops.main_face(boxes, photo.width, photo.height)]
    else:
        rows = list(range(min(len(boxes), config.max_faces)))
    pixels = _with_enough_pixels(opened, boxes[rows])
    to_pixels = np.array(pixels.size * 2) / edge
    faces, faults = [], []
    for row in rows:
        crop = crops.cut_face(pixels, boxes[row] * to_pixels, INPUT_SIZE)
        face = FaceCrop(boxes[row], float(found.confidence[row]), landmarks[row], crops.sharpness(crop), crop)
        if fault := _fault(face, config.gate):
            faults.append(fault)
        else:
            faces.append(face)
    if not faces:
        raise faults[0]  # that of the largest face
    return PhotoFaces(photo.width, photo.height, tuple(faces), len(boxes))


def _with_enough_pixels(opened: _Opened, boxes: np.ndarray) -> Image.Image:
    """Decodes again, larger, if a face has fewer pixels than the encoder wants while the photo has more."""
    smallest = (boxes[:, 2:] - boxes[:, :2]).max(axis=1).min()
    needed = min(1.0, INPUT_SIZE / max(smallest, 1)) * opened.photo.longer_side
    if max(opened.pixels.size) >= needed:
        return opened.pixels
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
