"""Face crops to vectors, through Beam's RunInference."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import ModelHandler, RunInference

from celebface.transforms.encoders import load_encoder
from celebface.transforms.metrics import StageMetrics
from celebface.transforms.records import DetectedPhoto, EmbeddedPhoto

if TYPE_CHECKING:
    from celebface.models.facenet import FaceEncoder

STAGE = "encode"
FACES_TOGETHER = 128  # faces that are encoded together: four full runs of the network


@dataclasses.dataclass
class EncodeFaces(beam.PTransform):
    """DetectedPhoto to EmbeddedPhoto.

    Attributes:
      encoder: URI of the encoder.
      precision: "float32" or "bfloat16".
    """

    encoder: str
    precision: str

    def expand(self, faces: beam.PCollection) -> beam.PCollection:
        return faces | RunInference(_EncoderHandler(self.encoder, self.precision))


class _EncoderHandler(ModelHandler[DetectedPhoto, EmbeddedPhoto, "FaceEncoder"]):
    """Encodes the faces of several photos together."""

    def __init__(self, encoder: str, precision: str):
        super().__init__(min_batch_size=FACES_TOGETHER, max_batch_size=FACES_TOGETHER, element_size_fn=_weight)
        self._encoder = encoder
        self._precision = precision
        self._metrics = StageMetrics(STAGE)

    def load_model(self) -> "FaceEncoder":
        return load_encoder(self._encoder, self._precision)

    def run_inference(
        self,
        batch: Sequence[DetectedPhoto],
        model: "FaceEncoder",
        inference_args: Mapping[str, Any] | None = None,
    ) -> list[EmbeddedPhoto]:
        if not batch:  # BatchElements opens with an empty batch when its first element is a full one
            return []
        start = time.perf_counter()
        self._metrics.taken(len(batch))
        crops = [face.pixels for photo in batch for face in photo.found.faces]
        vectors = model.encode(np.stack(crops))
        ends = np.cumsum([len(photo.found.faces) for photo in batch])
        self._metrics.spent("encode", time.perf_counter() - start)
        self._metrics.passed(len(batch))
        return [EmbeddedPhoto(photo, mine) for photo, mine in zip(batch, np.split(vectors, ends[:-1]), strict=True)]

    def get_num_bytes(self, batch: Sequence[DetectedPhoto]) -> int:
        return sum(face.pixels.nbytes for photo in batch for face in photo.found.faces)

    def get_metrics_namespace(self) -> str:
        return STAGE


def _weight(photo: DetectedPhoto) -> int:
    return min(FACES_TOGETHER, len(photo.found.faces))
