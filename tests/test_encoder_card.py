import dataclasses
import io
import json
import pathlib
import zipfile

import numpy as np
import pytest

from celebface.models import encoder_card
from celebface.models.encoder_card import BadEncoder, EncoderCard, OperatingPoint
from celebface.models.networks import INCEPTION_RESNET_V1


def some_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = {"Conv2d_1a_3x3/kernel": (3, 3, 3, 4), "Conv2d_1a_3x3_BatchNorm/beta": (4,), "Bottleneck/kernel": (4, 2)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def card_of(weights: dict[str, np.ndarray], **changes) -> EncoderCard:
    fields = {
        "name": "small",
        "architecture": INCEPTION_RESNET_V1,
        "embedding_size": 2,
        "weights_sha256": encoder_card.weights_digest(weights),
        "preprocessing": encoder_card.PREPROCESSING,
        "best_tau": 1.25,
        "operating_points": (OperatingPoint(1.0, 1e-3, 0.9), OperatingPoint(1.5, 1e-2, 0.99)),
        "evidence": "none",
        "source": "a test",
        "licence": "MIT",
    }
    return EncoderCard(**{**fields, **changes})


def tampered(card: EncoderCard, **changes) -> str:
    return json.dumps({**json.loads(card.to_json()), **changes})


# --- the card ---------------------------------------------------------------------------------------------------------


def test_a_card_survives_json():
    card = card_of(some_weights())

    for text in (card.to_json(), card.to_json().encode()):
        assert EncoderCard.from_json(text) == card
        assert EncoderCard.from_json(text).encoder_id == card.encoder_id


def test_a_card_without_measurements_survives_json():
    card = EncoderCard("plain", INCEPTION_RESNET_V1, 2, "00", encoder_card.PREPROCESSING)

    assert EncoderCard.from_json(card.to_json()) == card


def test_the_card_file_is_readable_and_stable():
    text = card_of(some_weights()).to_json()

    body = json.loads(text)
    assert body["format"] == "celebface-encoder/1"
    assert body["encoder_id"] == card_of(some_weights()).encoder_id
    assert body["operating_points"][0] == {"tau": 1.0, "false_match_rate": 1e-3, "true_match_rate": 0.9}
    assert text == json.dumps(body, indent=2, sort_keys=True) + "\n"


def test_the_id_covers_all_that_decides_what_a_vector_means():
    card = card_of(some_weights())
    decisive = {
        "architecture": "another",
        "embedding_size": 3,
        "weights_sha256": "00",
        "preprocessing": {**encoder_card.PREPROCESSING, "size": 161},
    }
    indifferent = {
        "name": "x",
        "best_tau": None,
        "operating_points": (),
        "evidence": "x",
        "source": "x",
        "licence": "x",
    }
    assert decisive.keys() | indifferent.keys() == {field.name for field in dataclasses.fields(EncoderCard)}

    ids = {dataclasses.replace(card, **{name: value}).encoder_id for name, value in decisive.items()}
    assert len(ids | {card.encoder_id}) == 5
    assert all(dataclasses.replace(card, **{name: value}).encoder_id == card.encoder_id
               for name, value in indifferent.items())  # fmt: skip
    assert len(card.encoder_id) == 16 and int(card.encoder_id, 16) >= 0


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "resnet"},
        {"embedding_size": 512},
        {"weights_sha256": "0" * 64},
        {"preprocessing": {**encoder_card.PREPROCESSING, "crop": "with margin"}},
        {"encoder_id": "0123456789abcdef"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_tampered_card_is_refused(change):
    with pytest.raises(BadEncoder, match=r"says id .*, its contents say"):
        EncoderCard.from_json(tampered(card_of(some_weights()), **change))


@pytest.mark.parametrize(
    "change", [{"colour_order": "BGR"}, {"size": 224}, {"crop": "22 px margin"}, {"mirror": True}], ids=str
)
def test_a_card_with_other_preprocessing_is_refused(change):
    # Its id is right: it is another encoder, not a damaged card.
    card = card_of(some_weights(), preprocessing={**encoder_card.PREPROCESSING, **change})

    with pytest.raises(BadEncoder, match="wants its input made in another way"):
        EncoderCard.from_json(card.to_json())


def test_a_card_of_an_unknown_network_is_refused():
    with pytest.raises(BadEncoder, match="network 'vgg16' is unknown"):
        EncoderCard.from_json(card_of(some_weights(), architecture="vgg16").to_json())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "null",
        "{}",
        "[" * 100_000,
        b"\xff\xfe\x00",
        tampered(card_of(some_weights()), format="celebface-encoder/2"),
        tampered(card_of(some_weights()), surprise=1),
        tampered(card_of(some_weights()), operating_points=[{"tau": 1}]),
        tampered(card_of(some_weights()), operating_points=3),
        tampered(card_of(some_weights()), preprocessing=None),
        tampered(card_of(some_weights()), preprocessing="RGB"),
    ],
)
def test_other_text_is_no_card(text):
    with pytest.raises(BadEncoder):
        EncoderCard.from_json(text)


@pytest.mark.parametrize("name", ["encoder_id", "format", "name", "architecture", "weights_sha256", "preprocessing"])
def test_a_card_lacking_a_field_is_refused(name):
    body = json.loads(card_of(some_weights()).to_json())
    del body[name]

    with pytest.raises(BadEncoder, match=name):
        EncoderCard.from_json(json.dumps(body))


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_survive_their_file():
    weights = some_weights()

    found = encoder_card.weights_from_bytes(encoder_card.arrays_to_bytes(weights), card_of(weights))
    assert list(found) == list(weights)
    for name, array in weights.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def test_weights_of_another_card_are_refused():
    weights = some_weights()
    other = {name: array + 1 for name, array in weights.items()}

    with pytest.raises(BadEncoder, match="not those of its card"):
        encoder_card.weights_from_bytes(encoder_card.arrays_to_bytes(other), card_of(weights))


def arrays_file(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def single_array_file() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones(3, np.float32))
    return stream.getvalue()


def file_with_letter() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("letter.txt", "no array")
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an archive",
        encoder_card.arrays_to_bytes(some_weights())[:500],
        encoder_card.arrays_to_bytes(some_weights())[:-1],
        encoder_card.arrays_to_bytes(some_weights())[100:],
        encoder_card.arrays_to_bytes({}),
        single_array_file(),
        file_with_letter(),
        arrays_file(dates=np.array(["2020-01-01"], "datetime64[D]")),
    ],
    ids=["empty", "text", "half", "last byte", "first bytes", "no array", "bare array", "letter", "dates"],
)
def test_other_files_are_no_weights(data):
    with pytest.raises(BadEncoder):
        encoder_card.weights_from_bytes(data, card_of(some_weights()))


def test_damaged_weights_are_refused():
    weights = some_weights()
    data = encoder_card.arrays_to_bytes(weights)
    refused = 0
    for spot in range(len(data)):
        damaged = data[:spot] + bytes([data[spot] ^ 0xFF]) + data[spot + 1 :]
        try:
            found = encoder_card.weights_from_bytes(damaged, card_of(weights))
        except BadEncoder:
            refused += 1
        else:  # the damage may lie where nobody looks, such as a time stamp
            assert encoder_card.weights_digest(found) == card_of(weights).weights_sha256
    assert refused > len(data) / 2


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: pathlib.Path):
        self.mark = mark

    def __reduce__(self):
        return self.mark.write_text, ("executed",)


def test_weights_with_code_are_refused_unexecuted(tmp_path):
    mark = tmp_path / "mark"
    stream = io.BytesIO()
    np.savez(stream, **{"Bottleneck|kernel": np.array([Payload(mark)], object)})
    with np.load(io.BytesIO(stream.getvalue()), allow_pickle=True) as arrays:
        assert arrays["Bottleneck|kernel"].shape == (1,)
    assert mark.read_text() == "executed"  # the payload works
    mark.unlink()

    with pytest.raises(BadEncoder, match="cannot be read"):
        encoder_card.weights_from_bytes(stream.getvalue(), card_of(some_weights()))
    assert not mark.exists()


def test_a_bare_pickle_is_refused_unexecuted(tmp_path):
    mark = tmp_path / "mark"
    stream = io.BytesIO()
    np.save(stream, np.array([Payload(mark)], object), allow_pickle=True)
    raw = stream.getvalue()

    for data in (raw, raw[raw.index(b"\x80") :]):
        with pytest.raises(BadEncoder):
            encoder_card.weights_from_bytes(data, card_of(some_weights()))
    assert not mark.exists()


# --- the digest -------------------------------------------------------------------------------------------------------


def test_the_digest_does_not_depend_on_the_container():
    weights = some_weights()
    digest = encoder_card.weights_digest(weights)
    compressed = io.BytesIO()
    np.savez_compressed(compressed, **{name.replace("/", "|"): array for name, array in reversed(weights.items())})

    assert encoder_card.weights_digest(dict(reversed(weights.items()))) == digest
    assert encoder_card.weights_digest({name: np.asfortranarray(array) for name, array in weights.items()}) == digest
    found = encoder_card.weights_from_bytes(compressed.getvalue(), card_of(weights))
    assert encoder_card.weights_digest(found) == digest


def test_the_digest_depends_on_names_values_shapes_and_types():
    weights = {"a/kernel": np.arange(6, dtype=np.float32), "b/kernel": np.ones(2, np.float32)}
    moved = weights["a/kernel"].copy()
    moved[3] = np.nextafter(moved[3], 9)
    others = [
        {"c/kernel": weights["a/kernel"], "b/kernel": weights["b/kernel"]},
        {"a/kernel": weights["b/kernel"], "b/kernel": weights["a/kernel"]},
        {"a/kernel": moved, "b/kernel": weights["b/kernel"]},
        {"a/kernel": weights["a/kernel"].reshape(2, 3), "b/kernel": weights["b/kernel"]},
        {"a/kernel": weights["a/kernel"].view(np.int32), "b/kernel": weights["b/kernel"]},
        {"a/kernel": weights["a/kernel"]},
    ]

    digests = {encoder_card.weights_digest(case) for case in [weights, *others]}
    assert len(digests) == len(others) + 1
