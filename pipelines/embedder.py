"""Photos to vectors in this process, by the pipelines' own decoder, detector and encoder. Loads no Beam."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from celebface.indexing.manifest import Manifest
from celebface.models.encoder_card import BadEncoder
from celebface.models.faces import PHOTOS_TOGETHER, PhotoFaces, PhotoFault, QualityGate, ReaderConfig
from celebface.transforms.encoders import load_card, load_encoder

if TYPE_CHECKING:
    from celebface.models.face_reader import FaceReader
    from celebface.models.facenet import FaceEncoder

Item = TypeVar("Item")

# Of photos that are compared or measured with: every face counts, and its distance tells.
EVERY_FACE = QualityGate(min_face_px=20, min_confidence=0.8, min_sharpness=0.0)
# Of photos that are matched. Looser than a gallery's: a doubtful face gets a doubtful answer, and the reader sees its
# distance.
PROBE_GATE = QualityGate(min_face_px=20, min_confidence=0.8, min_sharpness=1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddedFaces:
    """A photo's faces with their vectors.

    Attributes:
      found: The faces.
      vectors: float32 [N, d], unit rows, one for each of them.
    """

    found: PhotoFaces
    vectors: np.ndarray


class Embedder:
    """A detector and an encoder, loaded. Safe to share between threads."""

    def __init__(self, reader: "FaceReader", encoder: "FaceEncoder"):
        self._reader = reader
        self._encoder = encoder

    @property
    def embedding_size(self) -> int:
        """Length d of a vector."""
        return self._encoder.embedding_size

    def embed(self, photos: Sequence[bytes]) -> list[EmbeddedFaces | PhotoFault]:
        """Reads encoded photos; what a photo gives does not depend on the others.

        Args:
          photos: As many as may be held at once; see `by_few`.

        Returns:
          For each photo its faces, or the fault that keeps it from having any; the order is kept.
        """
        read = self._reader.read(photos)
        crops = [face.pixels for found in read if isinstance(found, PhotoFaces) for face in found.faces]
        left = self._encoder.encode(np.stack(crops)) if crops else np.empty((0, self.embedding_size), np.float32)
        results: list[EmbeddedFaces | PhotoFault] = []
        for found in read:
            if isinstance(found, PhotoFault):
                results.append(found)
                continue
            mine, left = np.split(left, [len(found.faces)])
            results.append(EmbeddedFaces(found, mine))
        return results


def by_few(photos: Sequence[Item]) -> list[Sequence[Item]]:
    """Cuts a list of photos into lists of so many that all of one may be held in memory."""
    return [photos[start : start + PHOTOS_TOGETHER] for start in range(0, len(photos), PHOTOS_TOGETHER)]


def load_embedder(encoder: str, precision: str, config: ReaderConfig) -> Embedder:
    """Loads TensorFlow, the detector and an encoder.

    Args:
      encoder: URI of the encoder.
      precision: "float32" or "bfloat16".
      config: How photos become crops.

    Raises:
      BadEncoder: If the encoder cannot be used.
    """
    from celebface.models.face_reader import FaceReader  # here, so that wrong usage does not wait for TensorFlow

    return Embedder(FaceReader(config, precision), load_encoder(encoder, precision))


def encoder_of(manifest: Manifest, asked: str, default: str) -> str:
    """The encoder to hold photos against a gallery with.

    Args:
      manifest: The gallery's.
      asked: URI of the encoder that the user wants; empty for the one the gallery was built with, where it then was, or
        the default one.
      default: URI of the default one.

    Raises:
      BadEncoder: If there is none, or its vectors cannot be compared with the gallery's.
    """
    wanted = manifest.encoder_id
    if not asked:
        built_with = str(manifest.config.get("encoder", ""))
        with contextlib.suppress(BadEncoder):
            if load_card(built_with).encoder_id == wanted:
                return built_with
    encoder = asked or default
    found = load_card(encoder).encoder_id
    if found != wanted:
        raise BadEncoder(
            f"the gallery was built with encoder {wanted}, the one at {encoder} is {found}: their vectors cannot be "
            "compared; name the gallery's with --encoder"
        )
    return encoder
