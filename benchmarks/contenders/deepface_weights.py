"""Puts celebface's FaceNet weights where DeepFace looks for its own, which is the same network.

Run by the Python of DeepFace's environment, with the encoder's weights.npz and a file of probes: inputs of the network
and the vectors that celebface's network gives for them. DeepFace would download its file.
"""

import os
import pathlib
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["DEEPFACE_HOME"] = os.path.join(sys.prefix, "home")
os.environ["DEEPFACE_BACKEND_ENGINE"] = "tensorflow"

import numpy as np
from deepface import DeepFace
from deepface.models.facial_recognition.tf.Facenet import InceptionResNetV1


def main() -> None:
    """Builds DeepFace's model, sets its weights by layer name, saves them, and tries them as DeepFace loads them."""
    with np.load(sys.argv[1], allow_pickle=False) as file:
        left = {name.replace("|", "/"): file[name] for name in file.files}
    model = InceptionResNetV1()
    for layer in model.layers:
        # From the second block on, DeepFace calls the second branch by the block's number.
        known = re.sub(r"^(Block(?:17|8)_\d+_Branch)_[1-9]\d*", r"\1_1", layer.name)
        names = [variable.name.removesuffix(":0").rpartition("/")[2] for variable in layer.weights]
        if names:
            layer.set_weights([left.pop(f"{known}/{name}") for name in names])
    if left:
        raise SystemExit(f"DeepFace's network has no place for {sorted(left)[:3]}")
    folder = pathlib.Path(sys.prefix) / "home" / ".deepface" / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    model.save_weights(folder / "facenet_weights.h5")

    with np.load(sys.argv[2], allow_pickle=False) as probes:
        away = np.abs(
            DeepFace.build_model("Facenet").model.predict(probes["faces"], verbose=0) - probes["vectors"]
        ).max()
    if not away < 1e-3:
        raise SystemExit(f"DeepFace's vectors are {away} away from celebface's with the same weights")


if __name__ == "__main__":
    main()
