"""celebface in a notebook: faces of photos as vectors, and whom they look like, by the code of the pipelines.

    from celebface.pipelines.api import embed, look_alike, verify

    embed(["a.jpg", "b.jpg"])            # faces and vectors
    look_alike("a.jpg")                  # the nearest people of galleries/celebrities
    verify("a.jpg", "b.jpg").same        # one person, or two?

A photo may be a path, an s3:// or gs:// URI, the bytes of a file, a PIL image, or an array, uint8 [H, W, 3], RGB. From
a file come the same vectors, to the bit, as from `celebface match` in the same precision. The networks are loaded at
the first call, which takes some seconds, and are kept. For thousands of photos use the pipelines: they run on all
cores, and write a ledger.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from celebface.indexing.cache import default_cache
from celebface.indexing.calibration import DEFAULT_FALSE_MATCH_RATE, Verdict, ranked_verdict
from celebface.indexing.gallery import Gallery, open_gallery
from celebface.indexing.storage import absolute
from celebface.models.faces import DetectorConfig, FaceCrop, PhotoFault, ReaderConfig
from celebface.models.photo import as_bytes
from celebface.models.precision import PRECISIONS
from celebface.models.weights import encoder_folder, sample_folder
from celebface.pipelines import arguments, comparison
from celebface.pipelines.comparison import Comparison
from celebface.pipelines.embedder import EVERY_FACE, PROBE_GATE, EmbeddedFaces, Embedder, by_few, encoder_of
from celebface.pipelines.photo_bytes import read_photo, shown
from celebface.transforms.encoders import load_card, load_encoder
from celebface.transforms.files import UnreadableFile
from celebface.transforms.web.policy import FetchPolicy

if TYPE_CHECKING:
    from celebface.models.mtcnn import FaceDetector

__all__ = [
    "AnyPhoto",
    "Comparison",
    "Face",
    "FacesOfPhoto",
    "Gallery",
    "LookAlike",
    "Person",
    "UnusablePhoto",
    "Verdict",
    "embed",
    "look_alike",
    "open_gallery",
    "sample_photos",
    "verify",
]

AnyPhoto = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

# How the command reads photos that are matched, and those that are compared.
MATCHED = ReaderConfig(gate=PROBE_GATE)
COMPARED = ReaderConfig(gate=EVERY_FACE, one_face=True)
_KEPT = 4  # encoders, and ways to read photos
_KINDS = (str, os.PathLike, bytes, Image.Image, np.ndarray)  # of AnyPhoto
_encoders_of: dict[tuple[str, str, str], str] = {}  # galleries', which were held against them


class UnusablePhoto(Exception):
    """A photo that cannot be read or has no usable face.

    Attributes:
      reason: The ledger's word for it, such as "no_face" or "not_found".
    """

    def __init__(self, photo: str, reason: str, detail: str):
        super().__init__(f"{photo}: {detail}")
        self.reason = reason


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """A face, cut out of a photo.

    Attributes:
      box: Corners x0, y0, x1, y1 in pixels of the upright photo.
      confidence: The detector's certainty, 0..1.
      landmarks: Eyes, nose and corners of the mouth, float32 [5, 2], x and y in the same pixels.
      sharpness: Variance of the Laplacian; small means blurred.
      crop: What the encoder saw, uint8 [160, 160, 3], RGB.
      vector: float32 [d], of length 1.
    """

    box: tuple[int, int, int, int]
    confidence: float
    landmarks: np.ndarray
    sharpness: float
    crop: np.ndarray
    vector: np.ndarray

    def __repr__(self) -> str:
        return f"Face(box={self.box}, confidence={self.confidence:.3f}, vector=float32[{len(self.vector)}])"


@dataclasses.dataclass(frozen=True, eq=False)
class FacesOfPhoto:
    """What was read from a photo.

    Attributes:
      photo: Its place; or what it was, if it came without one.
      faces: Its faces, the largest first; none if there is a fault.
      faces_found: How many the detector found, also those that are too small or blurred.
      width: Of the upright photo, in pixels; 0 if there is a fault.
      height: Of the upright photo, in pixels; 0 if there is a fault.
      reason: Why it has no faces, in the ledger's word; empty if it has.
      detail: The same in a sentence.
    """

    photo: str
    faces: tuple[Face, ...] = ()
    faces_found: int = 0
    width: int = 0
    height: int = 0
    reason: str = ""
    detail: str = ""

    @property
    def vectors(self) -> np.ndarray:
        """The faces' vectors, float32 [N, d], for `Gallery.nearest`; not to be had without a face."""
        if not self.faces:
            raise UnusablePhoto(self.photo, self.reason, self.detail)
        return np.stack([face.vector for face in self.faces])

    def __repr__(self) -> str:
        what = f"reason={self.reason!r}" if self.reason else f"faces={list(self.faces)}"
        return f"FacesOfPhoto({self.photo!r}, {what})"


@dataclasses.dataclass(frozen=True)
class Person:
    """One of the people whom a face looks like; the columns of a match job's table.

    Attributes:
      rank: 1 is the nearest.
      identity: The person's name.
      identity_id: Which person of that name.
      distance: D, squared L2 of the unit vectors, 0..4, to the person's nearest face.
      similarity: In per cent.
      verdict: match, ambiguous or lookalike.
      gallery_face_id: The gallery's face.
      gallery_uri: The photo it comes from.
    """

    rank: int
    identity: str
    identity_id: str
    distance: float
    similarity: float
    verdict: Verdict
    gallery_face_id: str = dataclasses.field(repr=False)
    gallery_uri: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, eq=False)
class LookAlike:
    """Whom a face looks like.

    Attributes:
      face: The face.
      people: The nearest people, nearest first.
      margin: How much farther the second is than the first; None in a gallery of one.
      tau: The threshold of the verdicts.
      stated: What the gallery states of it; empty if it was given.
    """

    face: Face
    people: tuple[Person, ...]
    margin: float | None
    tau: float
    stated: str

    @property
    def best(self) -> Person:
        """The nearest person."""
        return self.people[0]

    @property
    def verdict(self) -> Verdict:
        """That of the nearest person: whether it is taken for them, or only resembles."""
        return self.best.verdict

    def __repr__(self) -> str:
        best = self.best
        return (
            f"LookAlike({best.identity!r}, {best.verdict}, D={best.distance:.3f}, {int(best.similarity)} % alike, "
            f"box={self.face.box})"
        )


def embed(
    photos: AnyPhoto | Iterable[AnyPhoto],
    *,
    reader: ReaderConfig = MATCHED,
    precision: str = "auto",
    encoder: str = "",
    cache: pathlib.Path | None = None,
) -> list[FacesOfPhoto]:
    """Reads photos: finds their faces and makes a vector of each.

    Args:
      photos: Photos, or a single one.
      reader: What is taken for a face; as in `celebface match` if not told otherwise.
      precision: "float32", "bfloat16", or "auto": the one that the processor is quicker in.
      encoder: Folder of an encoder; the one that fetch-models brought if empty.
      cache: Where fetched models are; the usual place if None.

    Returns:
      For each photo its faces, or the reason why it has none; the order is kept.

    Raises:
      BadEncoder: If there is no encoder.
      TypeError: If something is no photo.
    """
    listed = [photos] if isinstance(photos, _KINDS) else list(photos)
    uri = absolute(encoder or str(encoder_folder(cache or default_cache())))
    return _embed(listed, _embedder(uri, arguments.precision(precision), reader))


def look_alike(
    photo: AnyPhoto,
    gallery: str | os.PathLike[str] | Gallery = "galleries/celebrities",
    *,
    top_k: int = 5,
    far: float | None = None,
    tau: float | None = None,
    reader: ReaderConfig = MATCHED,
    precision: str = "auto",
    encoder: str = "",
    cache: pathlib.Path | None = None,
) -> list[LookAlike]:
    """Tells whom the faces of a photo look like, as `celebface match` does.

    Args:
      photo: The photo.
      gallery: A published gallery; for many photos open it once, with `open_gallery`.
      top_k: People listed for each face.
      far: Share of strangers, whom the gallery does not hold, that may be given a match; 0.01 if not told otherwise.
      tau: Threshold on D in its place.
      reader: What is taken for a face.
      precision: "float32", "bfloat16", or "auto": the gallery's.
      encoder: Folder of the gallery's encoder, if it is not where it was.
      cache: Where fetched models and galleries are; the usual place if None.

    Returns:
      An entry for each face, the largest first.

    Raises:
      ValueError: If a value cannot be.
      UnusablePhoto: If the photo cannot be read, or has no usable face.
      BadBundle: If there is no sound gallery.
      BadEncoder: If the encoder is not the gallery's.
      Unstated: If the gallery states no threshold for `far`.
    """
    if far is not None and tau is not None:
        raise ValueError("far and tau exclude each other")
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, not {top_k}")
    _check(tau, precision)
    opened = gallery if isinstance(gallery, Gallery) else open_gallery(gallery, cache)
    point = opened.calibration.at(DEFAULT_FALSE_MATCH_RATE if far is None else far) if tau is None else None
    threshold = point.tau if point else float(tau or 0.0)
    uri = _encoder_of(opened, absolute(encoder) if encoder else "", str(encoder_folder(cache or default_cache())))
    wanted = opened.manifest.precision if precision == "auto" else precision
    (found,) = _embed([photo], _embedder(uri, wanted, reader))
    nearest = opened.nearest(found.vectors, max(top_k, 2))  # the second tells how sure the first is
    curve = opened.calibration.curve
    results = []
    for face, people in zip(found.faces, nearest, strict=True):
        distances = [person.distance for person in people]
        ranked = tuple(
            Person(
                rank,
                person.identity,
                person.identity_id,
                person.distance,
                curve.percent(person.distance),
                ranked_verdict(rank, distances, threshold),
                person.face_id,
                person.uri,
            )
            for rank, person in enumerate(people[:top_k], start=1)
        )
        margin = distances[1] - distances[0] if len(distances) > 1 else None
        results.append(LookAlike(face, ranked, margin, threshold, point.stated if point else ""))
    return results


def verify(
    first: AnyPhoto,
    second: AnyPhoto,
    *,
    tau: float | None = None,
    far: float | None = None,
    precision: str = "auto",
    encoder: str = "",
    cache: pathlib.Path | None = None,
) -> Comparison:
    """Tells whether two photos show one person, as `celebface verify` does, by the main face of each.

    Args:
      first: A photo.
      second: Another.
      tau: Threshold on D; that of the encoder's best accuracy if neither is given.
      far: False match rate of one comparison, in its place.
      precision: As for `embed`.
      encoder: As for `embed`.
      cache: As for `embed`.

    Raises:
      ValueError: If a value cannot be.
      UnusablePhoto: If one cannot be read, or has no face.
      BadEncoder: If there is no encoder.
      Unstated: If the encoder's card states no such threshold.
    """
    if far is not None and tau is not None:
        raise ValueError("far and tau exclude each other")
    _check(tau, precision)
    folder = encoder or str(encoder_folder(cache or default_cache()))
    threshold = comparison.by_card(_card(absolute(folder)), tau, far)
    found = embed([first, second], reader=COMPARED, precision=precision, encoder=folder)
    return comparison.compare(found[0].vectors[0], found[1].vectors[0], threshold)


def _check(tau: float | None, precision: str) -> None:
    if tau is not None and not 0 <= tau <= 4:
        raise ValueError(f"tau must lie in 0..4, not {tau}")
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"precision must be auto, {' or '.join(PRECISIONS)}, not {precision}")


def sample_photos(part: str = "val", cache: pathlib.Path | None = None) -> list[pathlib.Path]:
    """The sample's photos, <person>/<photo>.jpg, as `celebface fetch-models` brings them.

    Args:
      part: "val", 25 photos to match, or "train", the 93 of the gallery.
      cache: Where fetched models are; the usual place if None.
    """
    return sorted(sample_folder(cache or default_cache(), part).glob("*/*.jpg"))


_card = functools.lru_cache(_KEPT)(load_card)
_encoder = functools.lru_cache(_KEPT)(load_encoder)


def _encoder_of(gallery: Gallery, asked: str, default: str) -> str:
    key = gallery.uri, asked, default
    if key not in _encoders_of:
        _encoders_of[key] = encoder_of(gallery.manifest, asked, default)
    return _encoders_of[key]


@functools.lru_cache(_KEPT)
def _embedder(encoder: str, precision: str, reader: ReaderConfig) -> Embedder:
    from celebface.models.face_reader import FaceReader  # here, so that the import does not load TensorFlow

    return Embedder(
        FaceReader(reader, precision, detector=_detector(reader.detector, precision)), _encoder(encoder, precision)
    )


@functools.lru_cache(_KEPT)
def _detector(config: DetectorConfig, precision: str) -> "FaceDetector":
    from celebface.models.mtcnn import FaceDetector

    return FaceDetector(config, precision)


def _embed(photos: Sequence[AnyPhoto], embedder: Embedder) -> list[FacesOfPhoto]:
    return [found for some in by_few(photos) for found in _embed_some(some, embedder)]


def _embed_some(photos: Sequence[AnyPhoto], embedder: Embedder) -> list[FacesOfPhoto]:
    results: dict[int, FacesOfPhoto] = {}
    data: dict[int, bytes] = {}
    names = [_name(photo) for photo in photos]
    for number, photo in enumerate(photos):
        try:
            data[number] = _bytes(photo)
        except (UnreadableFile, PhotoFault) as fault:
            results[number] = FacesOfPhoto(names[number], reason=str(fault.reason), detail=str(fault))
    for number, embedded in zip(data, embedder.embed(list(data.values())), strict=True):
        results[number] = _result(names[number], embedded)
    return [results[number] for number in range(len(photos))]


def _result(name: str, embedded: EmbeddedFaces | PhotoFault) -> FacesOfPhoto:
    if isinstance(embedded, PhotoFault):
        return FacesOfPhoto(name, reason=embedded.reason, detail=str(embedded))
    found = embedded.found
    faces = tuple(_face(face, vector) for face, vector in zip(found.faces, embedded.vectors, strict=True))
    return FacesOfPhoto(name, faces, found.faces_found, found.width, found.height)


def _face(found: FaceCrop, vector: np.ndarray) -> Face:
    x0, y0, x1, y1 = found.box.tolist()
    return Face((x0, y0, x1, y1), found.confidence, found.landmarks, found.sharpness, found.pixels, vector)


def _name(photo: AnyPhoto) -> str:
    if isinstance(photo, str | os.PathLike):
        return shown(os.fspath(photo))
    if isinstance(photo, bytes):
        return f"{len(photo)} bytes"
    if isinstance(photo, Image.Image):
        return f"a picture of {photo.width} x {photo.height} pixels"
    if isinstance(photo, np.ndarray):
        return f"an array {list(photo.shape)}"
    raise TypeError(f"a photo is a path, bytes, a PIL image or an array, not {type(photo).__name__}")


def _bytes(photo: AnyPhoto) -> bytes:
    if isinstance(photo, bytes):
        return photo
    if isinstance(photo, Image.Image):
        return as_bytes(photo)
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
            raise TypeError(f"a photo as an array is uint8 [H, W, 3], RGB, not {photo.dtype} {list(photo.shape)}")
        return as_bytes(Image.fromarray(photo))
    return read_photo(os.fspath(photo), FetchPolicy(contact=os.environ.get("CELEBFACE_CONTACT", "")))
