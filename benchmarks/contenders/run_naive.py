"""The two networks as a notebook uses them: `mtcnn` and Keras, photo by photo. Same weights as celebface."""

import os
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_facenet
import numpy as np
from mtcnn import MTCNN
from PIL import Image
from protocol import Found, serve

INPUT_SIZE = 160


def _standardised(face: np.ndarray) -> np.ndarray:
    pixels = face.astype(np.float32)
    return (pixels - pixels.mean()) / max(pixels.std(), 1 / pixels.size**0.5)


def load():
    """Loads the models."""
    model = keras_facenet.load_model()
    detector = MTCNN()

    def encode_photo(path: str) -> int:
        with Image.open(path) as photo:
            pixels = np.asarray(photo.convert("RGB"))
        faces = []
        for detected in detector.detect_faces(pixels):
            x, y, width, height = detected["box"]
            crop = pixels[max(y, 0) : y + height, max(x, 0) : x + width]
            if crop.size:
                faces.append(_standardised(np.asarray(Image.fromarray(crop).resize((INPUT_SIZE, INPUT_SIZE)))))
        # All of a photo's faces at once: faster than one by one, and still what a notebook may do.
        return len(model.predict(np.stack(faces), verbose=0)) if faces else 0

    def read_photos(paths: Sequence[str]) -> Found:
        found = failed = 0
        for path in paths:
            try:
                found += encode_photo(path)
            except MemoryError:
                failed += 1
        return Found(found, failed)

    return read_photos


if __name__ == "__main__":
    serve(load, ("mtcnn", "keras", "tensorflow"), "photo by photo, the faces of a photo in one predict")
