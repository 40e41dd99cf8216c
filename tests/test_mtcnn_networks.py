import hashlib
import importlib.util
import io
import pathlib
import pickle
import types

import images
import joblib
import numpy as np
import pytest
from PIL import Image

from celebface.models import mtcnn_networks as networks
from celebface.models.faces import DetectorConfig
from celebface.models.mtcnn import FaceDetector
from celebface.models.quiet_tensorflow import tf

from mtcnn.network import onet, pnet, rnet  # isort: skip  # after TensorFlow was loaded without its greetings
from mtcnn.utils.tensorflow import load_weights  # isort: skip

# bfloat16 has 8 bits: so far may probabilities, and shares of a box's side, be from the exact ones.
FAR = {"float32": 1e-5, "bfloat16": 0.02}


@pytest.fixture(scope="module")
def weights() -> tuple[networks.Weights, ...]:
    return networks.load_weights()


def theirs(network, asset: str):
    """A network as the package has it, for grey levels 0..255."""
    network.build()
    network.set_weights(load_weights(asset))
    return lambda levels: [output.numpy() for output in network((levels[..., :3] - 127.5) / 128.0)]


@pytest.fixture(scope="module")
def package() -> dict:
    return {
        "pnet": theirs(pnet.PNet(), "pnet.lz4"),
        "rnet": theirs(rnet.RNet(), "rnet.lz4"),
        "onet": theirs(onet.ONet(), "onet.lz4"),
    }


def photos(width: int, height: int) -> np.ndarray:
    """Smooth colours, coarse and fine, noise and a plain grey: float32 [N, height, width, 3]."""
    kinds = [images.scenery(width, height, seed, detail) for seed in range(4) for detail in (2, 5, 9)]
    levels = [np.asarray(image) for image in kinds]
    return np.stack([*levels, images.noise(width, height), np.full_like(levels[0], 127)]).astype(np.float32)


def patches(side: int, fourth: float = 0.0) -> np.ndarray:
    """The same as patches with a fourth channel."""
    return np.pad(photos(side, side), ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=fourth)


def run(network, values: np.ndarray, weights, precision: str) -> list[np.ndarray]:
    """As the detector runs it, in a graph."""
    graph = tf.function(lambda levels: network(levels, weights, tf.as_dtype(precision)), autograph=False)
    return [output.numpy() for output in graph(values)]


# --- what they compute ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", FAR)
@pytest.mark.parametrize(("width", "height"), [(60, 47), (12, 12), (13, 30)])
def test_pnet_is_that_of_the_package(package, weights, width, height, precision):
    offsets, classes = package["pnet"](photos(width, height))

    found = run(networks.pnet, photos(width, height), weights[0], precision)
    assert [output.dtype for output in found] == [np.float32] * 2
    assert found[0].shape == offsets.shape and found[1].shape == offsets.shape[:3]
    assert np.abs(found[0] - offsets).max() < FAR[precision]
    assert np.abs(found[1] - classes[..., 1]).max() < FAR[precision]


@pytest.mark.parametrize("precision", FAR)
def test_rnet_is_that_of_the_package(package, weights, precision):
    offsets, classes = package["rnet"](patches(24))

    found = run(networks.rnet, patches(24), weights[1], precision)
    assert [output.dtype for output in found] == [np.float32] * 2
    assert found[1].shape == (len(offsets),)
    assert np.abs(found[0] - offsets).max() < FAR[precision]
    assert np.abs(found[1] - classes[:, 1]).max() < FAR[precision]


@pytest.mark.parametrize("precision", FAR)
def test_onet_is_that_of_the_package(package, weights, precision):
    offsets, points, classes = package["onet"](patches(48))

    found = run(networks.onet, patches(48), weights[2], precision)
    assert [output.dtype for output in found] == [np.float32] * 3
    assert found[2].shape == (len(offsets),)
    assert np.abs(found[0] - offsets).max() < FAR[precision]
    assert np.abs(found[1] - points).max() < FAR[precision]
    assert np.abs(found[2] - classes[:, 1]).max() < FAR[precision]


@pytest.fixture(scope="module")
def squares(portrait) -> np.ndarray:
    """Squares of a portrait, a few of which hold its face; of the patches made in code none is one."""
    photo = Image.open(portrait).convert("RGB")
    cut = [
        photo.resize((48, 48), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
        for side in range(60, min(photo.size), 30)
        for x in range(0, photo.width - side, 20)
        for y in range(0, photo.height - side, 20)
    ]
    return np.pad(np.stack(cut), ((0, 0), (0, 0), (0, 0), (0, 1))).astype(np.float32)


@pytest.mark.parametrize("precision", FAR)
def test_faces_are_seen_as_the_package_sees_them(package, weights, squares, precision):
    for network, place, name, step in ((networks.rnet, 1, "rnet", 2), (networks.onet, 2, "onet", 1)):
        levels = squares[:, ::step, ::step]
        *others, classes = package[name](levels)
        assert classes[:, 1].max() > 0.9 and classes[:, 1].min() < 0.1
        found = run(network, levels, weights[place], precision)
        for ours, expected in zip(found, [*others, classes[:, 1]], strict=True):
            assert np.abs(ours - expected).max() < FAR[precision]


@pytest.mark.parametrize(("network", "place", "side"), [(networks.rnet, 1, 24), (networks.onet, 2, 48)])
def test_the_fourth_channel_is_not_looked_at(weights, network, place, side):
    dark, light = (run(network, patches(side, fourth), weights[place], "float32") for fourth in (0, 255))

    assert all(np.array_equal(one, other) for one, other in zip(dark, light, strict=True))


def test_bfloat16_is_not_float32_under_another_name(weights):
    exact, quick = (run(networks.onet, patches(48), weights[2], precision) for precision in FAR)

    assert np.abs(exact[0] - quick[0]).max() > 1e-4


# --- weights ----------------------------------------------------------------------------------------------------------


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def install(folder: pathlib.Path, monkeypatch) -> None:
    """Makes `folder` the installed mtcnn package."""
    find = importlib.util.find_spec
    spec = types.SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: spec if name == "mtcnn" else find(name, *rest))


def test_weights_with_code_are_refused_unread(tmp_path, monkeypatch):
    stream = io.BytesIO()
    joblib.dump(Payload(tmp_path / "executed"), stream)
    pickle.loads(stream.getvalue()).close()
    (tmp_path / "executed").unlink()  # the payload works
    folder = tmp_path / "assets" / "weights"
    folder.mkdir(parents=True)
    (folder / "pnet.lz4").write_bytes(stream.getvalue())
    install(tmp_path, monkeypatch)

    with pytest.raises(RuntimeError, match=r"unknown pnet\.lz4; celebface needs mtcnn 1\.0\.0"):
        FaceDetector(DetectorConfig())
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("asset", ["pnet.lz4", "rnet.lz4", "onet.lz4"])
def test_all_three_networks_are_checked(asset, tmp_path, monkeypatch):
    installed = pathlib.Path(importlib.util.find_spec("mtcnn").submodule_search_locations[0], "assets", "weights")
    folder = tmp_path / "assets" / "weights"
    folder.mkdir(parents=True)
    for path in installed.glob("*.lz4"):
        (folder / path.name).write_bytes(path.read_bytes())
    install(tmp_path, monkeypatch)
    networks.load_weights()
    data = bytearray((folder / asset).read_bytes())
    data[-1] ^= 1
    (folder / asset).write_bytes(data)

    with pytest.raises(RuntimeError, match=f"unknown {asset}"):
        FaceDetector(DetectorConfig())


def test_the_package_must_be_there(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(RuntimeError, match="mtcnn package, which has the detector's weights, is not installed"):
        networks.load_weights()


def test_what_is_checked_is_what_is_read(monkeypatch):
    # Read twice, the file might be another the second time.
    read, checked = [], []
    sha256, load = hashlib.sha256, joblib.load
    monkeypatch.setattr(hashlib, "sha256", lambda data: checked.append(data) or sha256(data))
    monkeypatch.setattr(joblib, "load", lambda stream: read.append(stream.getvalue()) or load(stream))

    networks.load_weights()
    assert len(read) == 3 and read == checked
