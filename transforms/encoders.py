"""Encoders from where they are kept. Loads no Beam, and TensorFlow only when an encoder is to run."""

import contextlib
import os
from typing import TYPE_CHECKING

import numpy as np

from celebface.indexing import bundle_cache, storage
from celebface.indexing.cache import default_cache
from celebface.indexing.swap import locked
from celebface.models import encoder_card
from celebface.models.encoder_card import BadEncoder, EncoderCard

if TYPE_CHECKING:
    from celebface.models.facenet import FaceEncoder


def load_card(uri: str) -> EncoderCard:
    """Reads the card of an encoder, and holds its weights against it, so that a run does not start in vain.

    Args:
      uri: The encoder's folder or its card.json.

    Raises:
      BadEncoder: If there is none, or it cannot be used.
    """
    return read_encoder(uri)[0]


def load_encoder(uri: str, precision: str) -> "FaceEncoder":
    """Loads an encoder, ready to run.

    Args:
      uri: As for `load_card`.
      precision: "float32" or "bfloat16".

    Raises:
      BadEncoder: If it cannot be used.
    """
    from celebface.models.facenet import FaceEncoder  # here, so that the driver does not load TensorFlow

    card, weights = read_encoder(uri)
    try:
        return FaceEncoder(weights, card.embedding_size, precision, card.architecture)
    except ValueError as error:
        raise BadEncoder(f"the encoder at {uri} does not fit its network: {error}") from error


def read_encoder(uri: str) -> tuple[EncoderCard, dict[str, np.ndarray]]:
    """Reads an encoder's card and weights.

    Args:
      uri: As for `load_card`.

    Raises:
      BadEncoder: If there is none, or it cannot be used.
    """
    folder = uri.removesuffix(f"/{encoder_card.CARD_NAME}")
    try:
        card = EncoderCard.from_json(storage.read_bytes(storage.join(folder, encoder_card.CARD_NAME)))
        return card, _read_weights(storage.join(folder, encoder_card.WEIGHTS_NAME), card)
    except FileNotFoundError as error:
        raise BadEncoder(f"there is no encoder at {uri}; celebface fetch-models brings the default one") from error
    except (OSError, storage.StorageError) as error:
        raise BadEncoder(f"the encoder at {uri} cannot be read: {error}") from error


def _read_weights(uri: str, card: EncoderCard) -> dict[str, np.ndarray]:
    """Reads weights; those of a store once a machine, by their checksum, which is checked each time."""
    if not storage.is_stored(uri):
        return encoder_card.weights_from_bytes(storage.read_bytes(uri), card)
    place = default_cache() / "encoders-of-stores" / card.weights_sha256
    kept = place / encoder_card.WEIGHTS_NAME
    place.mkdir(parents=True, exist_ok=True)
    with locked(place):  # of processes that want the same one fetches it
        if kept.exists():
            with contextlib.suppress(BadEncoder):  # damaged: it is fetched anew
                os.utime(place)
                return encoder_card.weights_from_bytes(kept.read_bytes(), card)
        data = storage.read_bytes(uri)
        weights = encoder_card.weights_from_bytes(data, card)
        storage.write_bytes(str(kept), data)
    bundle_cache.forget_the_oldest(place.parent)
    return weights
