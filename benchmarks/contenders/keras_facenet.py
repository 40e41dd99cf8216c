"""celebface's FaceNet as a plain Keras model.

Run by itself, it writes a file of inputs and vectors, by which a copy of the network elsewhere can be tried.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from celebface.indexing.cache import default_cache
from celebface.models import encoder_card, weights
from celebface.models.encoder_card import EncoderCard
from celebface.models.inception_resnet import INPUT_SIZE
from celebface.models.trainable_facenet import build_model, set_weights_by_name


def load_model():
    """Builds the network and loads the default encoder's weights."""
    folder = weights.encoder_folder(default_cache())
    card = EncoderCard.from_json((folder / encoder_card.CARD_NAME).read_bytes())
    model = build_model(card.embedding_size)
    arrays = encoder_card.weights_from_bytes((folder / encoder_card.WEIGHTS_NAME).read_bytes(), card)
    set_weights_by_name(model, arrays)
    return model


def main() -> None:
    """Writes inputs of the network and the vectors that it gives for them."""
    faces = np.random.default_rng(4).normal(size=(2, INPUT_SIZE, INPUT_SIZE, 3)).astype(np.float32)
    np.savez(sys.argv[1], faces=faces, vectors=load_model().predict(faces, verbose=0))


if __name__ == "__main__":
    main()
