"""A gallery photo's faces as rows of the gallery."""

import dataclasses

import apache_beam as beam

from celebface.indexing.schemas import Status
from celebface.models.crops import perceptual_hash
from celebface.models.jpeg import encode_crop
from celebface.transforms.records import EmbeddedPhoto, Outcome, face_id, image_id, kept_faces, printable

STAGE = "encode"  # the last stage in which work was done


@dataclasses.dataclass
class DescribeFaces(beam.PTransform):
    """EmbeddedPhoto to Outcome with rows of `schemas.faces_schema`."""

    encoder_id: str

    def expand(self, photos: beam.PCollection) -> beam.PCollection:
        return photos | beam.Map(describe, self.encoder_id)


def describe(photo: EmbeddedPhoto, encoder_id: str) -> Outcome:
    """Makes the rows of one photo."""
    ref, found = photo.photo.ref, photo.photo.found
    person, sha256 = ref.person, ref.content_sha256
    rows = [
        {
            "face_id": face_id(sha256, person.identity_id, number),
            **ref.described(),
            "image_id": image_id(sha256),
            "uri": printable(ref.uri),
            "content_sha256": sha256,
            "image_width": found.width,
            "image_height": found.height,
            "faces_in_image": found.faces_found,
            "box": face.box.tolist(),
            "confidence": face.confidence,
            "landmarks": face.landmarks.tolist(),
            "sharpness": face.sharpness,
            "crop_hash": perceptual_hash(face.pixels),
            "crop_jpeg": encode_crop(face.pixels),
            "embedding": vector.tolist(),
            "encoder_id": encoder_id,
        }
        for number, (face, vector) in enumerate(zip(found.faces, photo.vectors, strict=True))
    ]
    detail = kept_faces(len(rows), found.faces_found)
    return Outcome(ref, Status.DONE, STAGE, detail=detail, faces=len(rows), shard_key=person.identity_id, rows=rows)
