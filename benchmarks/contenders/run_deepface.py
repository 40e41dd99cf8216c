"""DeepFace with the detector and the weights that celebface has: MTCNN and FaceNet-128."""

import os
import sys
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["DEEPFACE_HOME"] = os.path.join(sys.prefix, "home")  # where deepface_weights.py put the weights
os.environ["DEEPFACE_BACKEND_ENGINE"] = "tensorflow"

from deepface import DeepFace
from deepface.modules.exceptions import FaceNotDetected
from protocol import Found, serve


def load():
    """Loads the models, as a first use of them does."""
    DeepFace.build_model("Facenet")
    DeepFace.build_model("mtcnn", task="face_detector")

    def read_photos(paths: Sequence[str]) -> Found:
        faces = failed = 0
        for path in paths:
            try:
                faces += len(DeepFace.represent(path, model_name="Facenet", detector_backend="mtcnn"))
            except FaceNotDetected:  # else it would encode the whole photo: more work, and nothing to count
                continue
            except (ValueError, MemoryError):
                failed += 1
        return Found(faces, failed)

    return read_photos


if __name__ == "__main__":
    serve(load, ("deepface", "mtcnn", "tensorflow", "tf-keras"), "represent, photo by photo, same detector and weights")
