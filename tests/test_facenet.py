import copy
import pathlib

import images
import numpy as np
import pytest

from celebface.models import encoder_card, facenet, precision, trainable_facenet
from celebface.models.face_reader import FaceReader
from celebface.models.faces import ReaderConfig
from celebface.models.quiet_tensorflow import tf

import keras  # isort: skip  # after TensorFlow was loaded without its greetings

DIMENSIONS = 128


@pytest.fixture(scope="module")
def weights(encoder) -> dict[str, np.ndarray]:
    folder = pathlib.Path(encoder)
    card = encoder_card.EncoderCard.from_json((folder / encoder_card.CARD_NAME).read_bytes())
    return encoder_card.weights_from_bytes((folder / encoder_card.WEIGHTS_NAME).read_bytes(), card)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return trainable_facenet.build_model(DIMENSIONS)


@pytest.fixture(scope="module")
def exact(weights) -> facenet.FaceEncoder:
    return facenet.FaceEncoder(weights, DIMENSIONS, "float32")


@pytest.fixture(scope="module")
def quick(weights) -> facenet.FaceEncoder:
    return facenet.FaceEncoder(weights, DIMENSIONS, "bfloat16")


@pytest.fixture(params=["float32", "bfloat16"])
def either(request) -> facenet.FaceEncoder:
    return request.getfixturevalue("exact" if request.param == "float32" else "quick")


@pytest.fixture(scope="module")
def photos(probes) -> list[pathlib.Path]:
    return sorted(probes.glob("*/*.jpg"))


@pytest.fixture(scope="module")
def faces(photos) -> np.ndarray:
    """The face of each photo, uint8 [N, 160, 160, 3]."""
    found = FaceReader(ReaderConfig(one_face=True)).read([path.read_bytes() for path in photos])
    return np.stack([photo.faces[0].pixels for photo in found])


def standardised(crops: np.ndarray) -> np.ndarray:
    """(x - mean) / max(std, 1 / sqrt(n)) of each crop, in double precision."""
    values = crops.astype(np.float64)
    mean, std = (f(values, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.std))
    return (values - mean) / np.maximum(std, 1 / np.sqrt(160 * 160 * 3))


# --- the network ------------------------------------------------------------------------------------------------------


def test_the_network_has_its_published_size(network):
    assert network.count_params() == 22_808_144
    assert network.input_shape == (None, 160, 160, 3)
    assert network.output_shape == (None, 128)


def test_the_length_of_a_vector_is_a_choice():
    assert trainable_facenet.build_model(512).output_shape == (None, 512)


def test_weights_are_set_by_name(network, weights):
    trainable_facenet.set_weights_by_name(network, weights)

    held = {f"{layer.name}/{variable.name}": variable for layer in network.layers for variable in layer.weights}
    assert held.keys() == weights.keys()
    assert all(np.array_equal(held[name].numpy(), weights[name]) for name in held)


def test_the_network_refuses_a_missing_weight(network, weights):
    name = "Block17_3_Branch_1_Conv2d_0b_1x7/kernel"
    rest = {key: value for key, value in weights.items() if key != name}

    with pytest.raises(ValueError, match=f"the weights lack {name}"):
        trainable_facenet.set_weights_by_name(network, rest)


def test_the_network_refuses_a_weight_too_many(network, weights):
    with pytest.raises(ValueError, match="no place for Logits/kernel"):
        trainable_facenet.set_weights_by_name(network, {**weights, "Logits/kernel": np.zeros((128, 10), np.float32)})


def test_the_network_refuses_a_misshapen_weight(network, weights):
    name = "Bottleneck/kernel"

    # Transposed or of another length; assigning might otherwise fit by broadcasting.
    for wrong in (weights[name].T, weights[name][:, :1], weights[name][0]):
        with pytest.raises(ValueError, match=f"{name} has shape .* the network needs"):
            trainable_facenet.set_weights_by_name(network, {**weights, name: wrong})


# --- the encoder ------------------------------------------------------------------------------------------------------


def by_keras(network: keras.Model, weights, crops: np.ndarray) -> np.ndarray:
    """Unit vectors as the Keras model gives them."""
    trainable_facenet.set_weights_by_name(network, weights)
    raw = network(standardised(crops).astype(np.float32), training=False).numpy()
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def test_the_encoder_computes_what_the_network_does(exact, network, weights, faces):
    flat = np.asarray(images.plain(160, 160, (90, 90, 90)))[None]  # its deviation is 0
    crops = np.concatenate([faces[:3], flat, images.noise(160, 160)[None]])

    assert np.abs(exact.encode(crops) - by_keras(network, weights, crops)).max() < 1e-4


def test_every_weight_counts(network, weights, faces):
    # Biases and means of real weights are so small that one left out might not show. These are not.
    rng = np.random.default_rng(4)
    changed = {}
    for name, value in weights.items():
        if name.endswith("moving_variance"):
            changed[name] = value * rng.uniform(0.5, 2, value.shape).astype(np.float32)
        elif name.endswith("kernel"):
            changed[name] = value
        else:
            changed[name] = value + rng.normal(0, 0.1, value.shape).astype(np.float32)
    before = {name: value.copy() for name, value in changed.items()}

    found = facenet.FaceEncoder(changed, DIMENSIONS, "float32").encode(faces[:2])
    assert np.abs(found - by_keras(network, changed, faces[:2])).max() < 1e-4
    assert np.linalg.norm(found - by_keras(network, weights, faces[:2]), axis=1).min() > 0.1
    assert all(np.array_equal(before[name], changed[name]) for name in changed)  # what is folded in goes into copies


def test_vectors_may_have_another_length(weights, faces):
    rng = np.random.default_rng(5)
    wide = dict(weights)
    for name, value in weights.items():
        if name.startswith("Bottleneck"):
            wide[name] = np.concatenate([value, rng.normal(0, 0.1, (*value.shape[:-1], 72)) ** 2], axis=-1)

    encoder = facenet.FaceEncoder(wide, 200, "float32")
    vectors = encoder.encode(faces[:2])
    assert vectors.shape == (2, 200) == (2, encoder.embedding_size)
    expected = by_keras(trainable_facenet.build_model(200), wide, faces[:2])
    assert np.abs(vectors - expected).max() < 1e-4


def test_a_known_crop_has_its_known_vector(exact):
    # As encoded by the network that reaches 0.9935 on LFW; any other constant in it shows here.
    y, x = np.mgrid[:160, :160]
    crop = np.stack([x * 1.5, y * 1.5, (x + y) * 0.75], axis=2).astype(np.uint8)

    vector = exact.encode(crop[None])[0]
    known = [0.005657, -0.091896, -0.034403, -0.072257, 0.097260, 0.033765]
    assert np.abs(vector[:6] - known).max() < 2e-4
    assert np.argmax(np.abs(vector)) == 59


def test_vectors_are_of_length_one(either, faces):
    vectors = either.encode(faces)

    assert (vectors.dtype, vectors.shape) == (np.float32, (len(faces), 128))
    assert np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1).max() < 1e-6


def test_faces_of_one_person_lie_nearer_than_those_of_two(exact, faces, photos):
    vectors = exact.encode(faces)
    distances = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    people = np.array([path.parent.name for path in photos])
    same = people[:, None] == people
    pairs = np.triu_indices(len(photos), k=1)

    assert ((distances <= 1.22) == same)[pairs].mean() > 0.98  # the threshold that is best on LFW


def test_bfloat16_is_close_to_float32(exact, quick, faces):
    apart = np.linalg.norm(quick.encode(faces) - exact.encode(faces), axis=1)

    assert apart.max() < 0.05
    if precision.is_quick_in_bfloat16():
        assert apart.min() > 0  # else it would be float32 under another name


def test_the_order_of_colours_matters(exact, faces):
    colourful = np.abs(faces[..., 0].astype(int) - faces[..., 2]).mean(axis=(1, 2)) > 20
    assert colourful.sum() > 10
    apart = np.linalg.norm(exact.encode(faces) - exact.encode(faces[..., ::-1].copy()), axis=1)

    assert apart[colourful].min() > 0.05
    assert np.median(apart[colourful]) > 0.25


def test_a_vector_depends_on_its_own_face_only(either, faces):
    together = either.encode(faces)

    assert np.array_equal(either.encode(faces[:1]), together[:1])
    assert np.array_equal(either.encode(faces[::-1])[::-1], together)
    other = np.concatenate([images.noise(160, 160)[None], np.zeros((30, 160, 160, 3), np.uint8), faces])  # two runs
    assert np.array_equal(either.encode(other)[31:], together)


def test_more_faces_than_one_run_takes_are_encoded_in_order(either, faces):
    count = facenet.BATCH_SIZE + 1
    rows = np.arange(count) % len(faces)

    assert np.array_equal(either.encode(faces[rows]), either.encode(faces)[rows])


def test_no_faces_give_no_vectors(either):
    vectors = either.encode(np.empty((0, 160, 160, 3), np.uint8))

    assert (vectors.dtype, vectors.shape) == (np.float32, (0, 128))


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((2, 160, 160, 3), np.float32),
        np.zeros((2, 160, 160), np.uint8),
        np.zeros((2, 3, 160, 160), np.uint8),
        np.zeros((2, 160, 160, 4), np.uint8),
        np.zeros((2, 182, 182, 3), np.uint8),
        np.zeros((160, 160, 3), np.uint8),
    ],
    ids=["float", "grey", "channels first", "alpha", "larger", "single"],
)
def test_other_input_is_refused(exact, crops):
    with pytest.raises(ValueError, match=r"crops must be uint8 \[N, 160, 160, 3\]"):
        exact.encode(crops)


def test_vectors_without_numbers_are_not_handed_out(exact, faces):
    broken = copy.copy(exact)
    broken._network = lambda crops: tf.fill([len(crops), DIMENSIONS], np.nan)

    with pytest.raises(FloatingPointError, match="no finite vectors"):
        broken.encode(faces[:1])


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, not 'float16'"):
        facenet.FaceEncoder({}, DIMENSIONS, "float16")


@pytest.mark.parametrize("kind", precision.PRECISIONS)
@pytest.mark.parametrize(
    "name",
    [
        "Conv2d_1a_3x3/kernel",
        "Block35_2_Branch_1_Conv2d_0a_1x1_BatchNorm/moving_variance",
        "Block35_1_Conv2d_1x1/bias",
        "Block8_6_Conv2d_1x1/kernel",
        "Bottleneck/kernel",
        "Bottleneck_BatchNorm/beta",
    ],
)
def test_an_encoder_refuses_a_missing_weight(weights, name, kind):
    rest = {key: value for key, value in weights.items() if key != name}

    with pytest.raises(ValueError, match=f"the weights lack {name}"):
        facenet.FaceEncoder(rest, DIMENSIONS, kind)


@pytest.mark.parametrize("kind", precision.PRECISIONS)
def test_an_encoder_refuses_a_weight_too_many(weights, kind):
    with pytest.raises(ValueError, match="no place for Logits/kernel"):
        facenet.FaceEncoder({**weights, "Logits/kernel": np.zeros((128, 10), np.float32)}, DIMENSIONS, kind)


@pytest.mark.parametrize(
    ("name", "misshape"),
    [
        ("Conv2d_1a_3x3/kernel", lambda value: value[..., :1]),  # would be broadcast
        ("Conv2d_1a_3x3/kernel", lambda value: value.transpose(3, 0, 1, 2)),
        ("Conv2d_1a_3x3_BatchNorm/beta", lambda value: value[:1]),
        ("Conv2d_1a_3x3_BatchNorm/moving_variance", lambda value: value[None]),
        ("Block35_1_Conv2d_1x1/bias", lambda value: value[:1]),
        ("Block35_1_Conv2d_1x1/kernel", lambda value: value[0, 0]),
        ("Bottleneck/kernel", lambda value: value.T),
        ("Bottleneck/kernel", lambda value: value[:, :64]),
    ],
)
def test_an_encoder_refuses_a_misshapen_weight(weights, name, misshape):
    with pytest.raises(ValueError, match=f"{name} has shape .* the network needs"):
        facenet.FaceEncoder({**weights, name: misshape(weights[name])}, DIMENSIONS, "float32")


def test_an_encoder_refuses_weights_of_another_length(weights):
    with pytest.raises(ValueError, match="Bottleneck"):
        facenet.FaceEncoder(weights, 512, "float32")
