"""Photos to face crops. Decoding, detecting and cutting are one step: pixels of whole photos never leave it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from celebface.indexing.schemas import Reason
from celebface.models.faces import PHOTOS_TOGETHER, PhotoFault, ReaderConfig
from celebface.models.isolated_reader import IsolatedReader
from celebface.transforms.metrics import StageMetrics
from celebface.transforms.records import DetectedPhoto, EncodedPhoto, rejected

STAGE = "detect"


@dataclasses.dataclass
class DetectFaces(beam.PTransform):
    """EncodedPhoto to DetectedPhoto, and outcomes of photos without a usable face.

    Attributes:
      config: How photos become crops.
      precision: Of the detector's arithmetic, "float32" or "bfloat16".
      thumbnails: Make one of each photo that can be decoded.
    """

    config: ReaderConfig
    precision: str
    thumbnails: bool = False

    def expand(self, photos: beam.PCollection) -> Any:  # good ones, lost ones
        detected = (
            photos
            | beam.BatchElements(
                min_batch_size=PHOTOS_TOGETHER, max_batch_size=PHOTOS_TOGETHER, element_size_fn=_weight
            )
            | beam.ParDo(_DetectFacesDoFn(self.config, self.precision, self.thumbnails)).with_outputs(
                "lost", main="faces"
            )
        )
        return detected.faces, detected.lost


def _weight(photo: EncodedPhoto) -> int:
    """So that a batch is of about as many MiB at most."""
    return min(PHOTOS_TOGETHER, 1 + (len(photo.data) >> 20))


class _DetectFacesDoFn(beam.DoFn):
    def __init__(self, config: ReaderConfig, precision: str, thumbnails: bool):
        self._config = config
        self._precision = precision
        self._thumbnails = thumbnails
        self._metrics = StageMetrics(STAGE)

    def setup(self) -> None:
        self._reader = IsolatedReader(self._config, self._precision, thumbnails=self._thumbnails)

    def process(self, photos: Sequence[EncodedPhoto]):
        self._metrics.taken(len(photos))
        seconds: dict[str, float] = {}
        results = self._reader.read([photo.data for photo in photos], seconds)
        for work, spent in seconds.items():
            self._metrics.spent(work, spent)
        for photo, result in zip(photos, results, strict=True):
            if isinstance(result, PhotoFault):
                reason = Reason(result.reason)
                self._metrics.lost(reason)
                lost = rejected(photo.ref, STAGE, reason, str(result), result.decoded)
                yield beam.pvalue.TaggedOutput("lost", lost)
            else:
                self._metrics.passed()
                yield DetectedPhoto(photo.ref, result)
