"""celebface within one process: the face reader on batches of photos, the encoder on the faces of all of them."""

import os
import pathlib
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from protocol import Found, serve

from celebface.models import weights
from celebface.models.face_reader import FaceReader
from celebface.models.faces import NoFace, PhotoFaces, ReaderConfig
from celebface.models.precision import cpu_has_bfloat16
from celebface.transforms.encode import load_encoder

BATCH = 64
PRECISION = "bfloat16" if cpu_has_bfloat16() else "float32"


def load():
    """Loads the models."""
    reader = FaceReader(ReaderConfig())
    encoder = load_encoder(str(weights.encoder_folder(weights.default_cache())), PRECISION)

    def read_photos(paths: Sequence[str]) -> Found:
        crops, failed = [], 0
        for start in range(0, len(paths), BATCH):
            photos = [pathlib.Path(path).read_bytes() for path in paths[start : start + BATCH]]
            for read in reader.read(photos):
                if isinstance(read, PhotoFaces):
                    crops += [face.pixels for face in read.faces]
                elif not isinstance(read, NoFace):
                    failed += 1
        return Found(len(encoder.encode(np.stack(crops))) if crops else 0, failed)

    return read_photos


if __name__ == "__main__":
    serve(load, ("tensorflow-cpu", "numpy", "pillow"), f"batches of {BATCH} photos, encoder in {PRECISION}")
