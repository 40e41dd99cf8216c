"""Faces of user photos to the people of a gallery they look like."""

import dataclasses
import itertools
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.utils.shared import Shared

from celebface.indexing.calibration import Curve, ranked_verdict
from celebface.indexing.gallery import Gallery
from celebface.indexing.schemas import FACE_TABLE, PHOTO_TABLE, Status
from celebface.indexing.searcher import Neighbour
from celebface.models.jpeg import encode_crop
from celebface.transforms.metrics import StageMetrics
from celebface.transforms.records import (
    DetectedPhoto,
    EmbeddedPhoto,
    Outcome,
    face_id,
    kept_faces,
    photo_row,
    printable,
)

STAGE = "match"
_FACES = 128  # that are looked up together


@dataclasses.dataclass(frozen=True)
class Kept:
    """What is kept of users' photos, which is biometric data, beside where the faces are and whom they are like.

    Attributes:
      crops: Pictures: thumbnails of the photos and crops of the faces.
      embeddings: The faces' vectors.
    """

    crops: bool = True
    embeddings: bool = False


@dataclasses.dataclass
class MatchFaces(beam.PTransform):
    """EmbeddedPhoto to Outcome with rows of `schemas.MATCHES`, and beside them of `schemas.PHOTOS` and `PROBES`.

    Attributes:
      gallery: URI of a gallery version.
      top_k: People listed for each face.
      tau: Threshold on D.
      cache: Folder on the workers' machines for the files of a gallery in a store; empty for their usual one.
      kept: What is kept of the photos.
    """

    gallery: str
    top_k: int
    tau: float
    cache: str = ""
    kept: Kept = Kept()

    def expand(self, photos: beam.PCollection) -> beam.PCollection:
        find_people = beam.ParDo(_MatchFacesDoFn(self.gallery, self.top_k, self.tau, self.cache, self.kept))
        return (
            photos
            | beam.BatchElements(min_batch_size=_FACES, max_batch_size=_FACES, element_size_fn=_weight)
            | find_people.with_output_types(Outcome)
        )


def _weight(photo: EmbeddedPhoto) -> int:
    return min(_FACES, len(photo.vectors))  # before an element of more BatchElements would hand on an empty batch


class _MatchFacesDoFn(beam.DoFn):
    def __init__(self, gallery: str, top_k: int, tau: float, cache: str, kept: Kept):
        self._gallery_uri = gallery
        self._cache = pathlib.Path(cache) if cache else None
        self._top_k = top_k
        self._tau = tau
        self._kept = kept
        self._metrics = StageMetrics(STAGE)
        self._shared = Shared()

    def setup(self) -> None:
        self._gallery: Gallery = self._shared.acquire(lambda: Gallery.open(self._gallery_uri, self._cache))

    def process(self, photos: Sequence[EmbeddedPhoto]):
        start = time.perf_counter()
        self._metrics.taken(len(photos))
        outcomes = match(photos, self._gallery, self._top_k, self._tau, self._kept)
        self._metrics.passed(len(photos))
        self._metrics.spent("match", time.perf_counter() - start)
        yield from outcomes


def match(
    photos: Sequence[EmbeddedPhoto],
    gallery: Gallery,
    top_k: int,
    tau: float,
    kept: Kept = Kept(),
) -> list[Outcome]:
    """Looks up the faces of several photos together; what a photo gets does not depend on the others."""
    vectors = np.concatenate([photo.vectors for photo in photos])
    people = iter(gallery.nearest_people(vectors, max(top_k, 2)))  # the second tells how sure the first is
    curve = gallery.calibration.curve
    outcomes = []
    for photo in photos:
        nearest = list(itertools.islice(people, len(photo.vectors)))
        seen = _seen(photo.photo)
        rows = [row for face, mine in zip(seen, nearest, strict=True) for row in _ranks(face, mine, top_k, tau, curve)]
        outcomes.append(_outcome(photo, seen, rows, kept))
    return outcomes


def _seen(photo: DetectedPhoto) -> list[dict[str, Any]]:
    """What the tables have in common of each face."""
    uri = printable(photo.ref.uri)
    return [
        {
            "photo_uri": uri,
            "face_id": face_id(photo.ref.content_sha256, "", number),
            "box": face.box.tolist(),
            "confidence": face.confidence,
        }
        for number, face in enumerate(photo.found.faces)
    ]


def _outcome(photo: EmbeddedPhoto, seen: Sequence[dict[str, Any]], rows: list[dict[str, Any]], kept: Kept) -> Outcome:
    """Puts a photo's matches together with what is kept of it."""
    ref, found = photo.photo.ref, photo.photo.found
    faces = [
        {
            **common,
            "crop_jpeg": encode_crop(face.pixels) if kept.crops else None,
            "embedding": vector.tolist() if kept.embeddings else None,
        }
        for common, face, vector in zip(seen, found.faces, photo.vectors, strict=True)
    ]
    detail = kept_faces(len(faces), found.faces_found)
    beside = {PHOTO_TABLE: [photo_row(ref, found.decoded)], FACE_TABLE: faces}
    return Outcome(
        ref, Status.DONE, STAGE, detail=detail, faces=len(faces), shard_key=ref.item_id, rows=rows, beside=beside
    )


def _ranks(
    face: dict[str, Any], nearest: Sequence[Neighbour], top_k: int, tau: float, curve: Curve
) -> Iterator[dict[str, Any]]:
    """Makes the rows of a face: the nearest people, by rank."""
    distances = [person.distance for person in nearest]
    margin = distances[1] - distances[0] if len(distances) > 1 else None
    for rank, person in enumerate(nearest[:top_k], start=1):
        yield {
            **face,
            "rank": rank,
            "identity": person.identity,
            "identity_id": person.identity_id,
            "distance": person.distance,
            "similarity": curve.percent(person.distance),
            "verdict": str(ranked_verdict(rank, distances, tau)),
            "margin": margin,
            "gallery_face_id": person.face_id,
            "gallery_uri": person.uri,
        }
