"""Encoders of a store: fetched once a machine, and checked whenever they are loaded."""

import numpy as np
import object_stores
import pytest
from test_encoder_card import card_of, some_weights

from celebface.indexing import storage
from celebface.models import encoder_card
from celebface.models.encoder_card import BadEncoder
from celebface.transforms.encoders import read_encoder

WEIGHTS = some_weights()


@pytest.fixture(scope="module")
def address():
    with object_stores.server("s3") as found:
        yield found


@pytest.fixture
def encoder(address, tmp_path, monkeypatch) -> str:
    object_stores.point_to(monkeypatch, "s3", address)
    monkeypatch.setenv("CELEBFACE_CACHE", str(tmp_path / "cache"))
    uri = f"{object_stores.make_bucket('s3', address).uri}/encoder"
    storage.write_bytes(f"{uri}/{encoder_card.CARD_NAME}", card_of(WEIGHTS).to_json().encode())
    storage.write_bytes(f"{uri}/{encoder_card.WEIGHTS_NAME}", encoder_card.arrays_to_bytes(WEIGHTS))
    return uri


def assert_reads(encoder: str) -> None:
    _, weights = read_encoder(encoder)
    assert weights.keys() == WEIGHTS.keys()
    assert all(np.array_equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)


def test_weights_are_fetched_once(encoder):
    assert_reads(encoder)
    storage.delete_file(f"{encoder}/{encoder_card.WEIGHTS_NAME}")
    assert_reads(encoder)


def test_what_is_damaged_in_the_cache_is_fetched_anew(encoder, tmp_path):
    assert_reads(encoder)
    [kept] = (tmp_path / "cache" / "encoders-of-stores").glob("*/*")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert_reads(encoder)
    storage.delete_file(f"{encoder}/{encoder_card.WEIGHTS_NAME}")
    assert_reads(encoder)


def test_what_is_damaged_in_the_store_is_refused_and_not_kept(encoder, tmp_path):
    other = {**WEIGHTS, "Bottleneck/kernel": WEIGHTS["Bottleneck/kernel"] + 1}
    storage.write_bytes(f"{encoder}/{encoder_card.WEIGHTS_NAME}", encoder_card.arrays_to_bytes(other))
    with pytest.raises(BadEncoder, match="not those of its card"):
        read_encoder(encoder)
    assert not list((tmp_path / "cache").rglob(encoder_card.WEIGHTS_NAME))
