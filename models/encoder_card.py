"""The encoder card: a small JSON file that says what an encoder is, beside a file of plain arrays.

    card.json      what the network is, how its input is made, where the weights come from, how well it verifies
    weights.npz    one array a variable, no code, no pickle

The encoder id is a hash over architecture, preprocessing and weights: two encoders whose vectors may be compared have
the same id, any others have not. Galleries record it and refuse every other one.
"""

import dataclasses
import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from celebface.models.crops import CROP_RULE
from celebface.models.networks import NETWORKS

FORMAT = "celebface-encoder/1"
CARD_NAME = "card.json"
WEIGHTS_NAME = "weights.npz"

# How a box becomes the network's input. Part of the encoder id: vectors of other inputs are not comparable.
PREPROCESSING = {
    "crop": CROP_RULE,
    "size": 160,
    "colour_order": "RGB",
    "standardisation": "(x - mean) / max(std, 1 / sqrt(n)) over each crop",
}

# What NumPy and zipfile report about bytes that are no archive of arrays; which one depends on where the damage is.
_BROKEN_ARCHIVE = (ValueError, OSError, EOFError, KeyError, TypeError, AttributeError, MemoryError, RuntimeError,
                   struct.error, zlib.error, zipfile.BadZipFile)  # fmt: skip


class BadEncoder(Exception):
    """An encoder card or its weights cannot be used."""


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it was seen to do.

    Attributes:
      tau: Threshold on D = squared L2 between unit vectors, 0..4; same person if D <= tau.
      false_match_rate: Share of different-person pairs accepted at tau.
      true_match_rate: Share of same-person pairs accepted at tau.
    """

    tau: float
    false_match_rate: float
    true_match_rate: float


@dataclasses.dataclass(frozen=True)
class EncoderCard:
    """What an encoder is.

    Attributes:
      name: For people.
      architecture: Name of the network in `networks.NETWORKS`.
      embedding_size: Length d of a vector.
      weights_sha256: `weights_digest` of its weights.
      preprocessing: How its input is made.
      best_tau: Threshold of the best verification accuracy, None if unknown.
      operating_points: Thresholds for stated false match rates, smallest rate first.
      evidence: What the thresholds were measured on.
      source: Where the weights come from.
      licence: Of the weights.
    """

    name: str
    architecture: str
    embedding_size: int
    weights_sha256: str
    preprocessing: Mapping[str, Any]
    best_tau: float | None = None
    operating_points: tuple[OperatingPoint, ...] = ()
    evidence: str = ""
    source: str = ""
    licence: str = ""

    @property
    def encoder_id(self) -> str:
        """16 hex digits over all that decides what a vector means."""
        identity = {
            "architecture": self.architecture,
            "embedding_size": self.embedding_size,
            "preprocessing": dict(self.preprocessing),
            "weights_sha256": self.weights_sha256,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The card as the text of card.json."""
        body = {"format": FORMAT, "encoder_id": self.encoder_id, **dataclasses.asdict(self)}
        return json.dumps(body, indent=2, sort_keys=True) + "\n"

    @staticmethod
    def from_json(text: bytes | str) -> "EncoderCard":
        """Reads card.json.

        Raises:
          BadEncoder: If it is not a card, of an unknown format, or its id is not that of its contents.
        """
        try:
            body = json.loads(text)
            if body.pop("format") != FORMAT:
                raise BadEncoder(f"the encoder card is not of the format {FORMAT}")
            stated = body.pop("encoder_id")
            points = tuple(OperatingPoint(**point) for point in body.pop("operating_points", ()))
            card = EncoderCard(**body, operating_points=points)
            found = card.encoder_id
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadEncoder(f"not an encoder card: {error}") from error
        if found != stated:
            raise BadEncoder(f"the encoder card says id {stated}, its contents say {found}")
        if card.architecture not in NETWORKS:
            raise BadEncoder(f"the encoder's network {card.architecture!r} is unknown to this version of celebface")
        if dict(card.preprocessing) != PREPROCESSING:
            raise BadEncoder("the encoder wants its input made in another way than this version of celebface makes it")
        return card


def weights_digest(weights: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, shapes, types and values, independent of the file they are kept in."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def arrays_to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Named arrays as the bytes of an archive such as weights.npz."""
    buffer = io.BytesIO()
    members: dict[str, Any] = {name.replace("/", "|"): array for name, array in arrays.items()}  # "/" makes folders
    np.savez(buffer, **members)
    return buffer.getvalue()


def arrays_from_bytes(data: bytes) -> dict[str, np.ndarray]:
    """Reads what `arrays_to_bytes` wrote. Archives that hold code are refused.

    Raises:
      BadEncoder: If the bytes are no archive of arrays.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name.replace("|", "/"): arrays[name] for name in arrays.files}
    except _BROKEN_ARCHIVE as error:
        raise BadEncoder(f"the encoder's weights cannot be read: {error}") from error


def weights_from_bytes(data: bytes, card: EncoderCard) -> dict[str, np.ndarray]:
    """Reads weights.npz and holds it against its card.

    Raises:
      BadEncoder: If the bytes are no archive of arrays or not the card's weights.
    """
    weights = arrays_from_bytes(data)
    try:
        found = weights_digest(weights)
    except _BROKEN_ARCHIVE as error:
        raise BadEncoder(f"the encoder's weights cannot be read: {error}") from error
    if found != card.weights_sha256:
        raise BadEncoder("the encoder's weights are not those of its card")
    return weights
