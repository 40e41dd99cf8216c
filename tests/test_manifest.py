"""The manifest's file: read back as written, refused if it is another."""

import dataclasses
import json

import fakes
import pytest

from celebface.indexing.manifest import BadBundle, Manifest


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    (tmp_path / "Zoë.parquet").write_bytes(b"rows")
    return fakes.manifest(str(tmp_path), "v1")


def file_of(fields: dict[str, object]) -> bytes:
    return json.dumps(fields).encode()


def test_round_trip(manifest):
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert list(manifest.files) == ["Zoë.parquet"]


def test_the_file_states_its_format_and_every_field(manifest):
    body = json.loads(manifest.to_json())
    assert body == {"format": "celebface-gallery/2", **fakes.manifest_fields(manifest)}
    assert manifest.to_json().endswith(b"}\n")


def test_the_same_manifest_gives_the_same_bytes(manifest):
    turned = dataclasses.replace(manifest, code=dict(reversed(manifest.code.items())))
    assert list(turned.code) != list(manifest.code)
    assert turned.to_json() == manifest.to_json()


@pytest.mark.parametrize(
    ("stated", "remedy"),
    [
        ("celebface-gallery/3", "a newer celebface is needed"),
        ("celebface-gallery/10", "a newer celebface is needed"),
        ("celebface-gallery/1", "celebface build-gallery makes it anew"),
        ("celebface-gallery/²", "celebface build-gallery makes it anew"),
        ("other/3", "celebface build-gallery makes it anew"),
        ("", "celebface build-gallery makes it anew"),
        (None, "celebface build-gallery makes it anew"),
        (1, "celebface build-gallery makes it anew"),
    ],
)
def test_another_format_is_refused_by_name(manifest, stated, remedy):
    data = file_of({"format": stated, **fakes.manifest_fields(manifest), "news": 1})
    with pytest.raises(BadBundle, match=f"has the format {stated}, this .* reads celebface-gallery/2: {remedy}$"):
        Manifest.from_json(data)


@pytest.mark.parametrize("field", ["format", "version", "encoder_id", "files", "index"])
def test_a_missing_field_is_refused(manifest, field):
    body = json.loads(manifest.to_json())
    del body[field]
    with pytest.raises(BadBundle, match=f"manifest cannot be read: .*{field}"):
        Manifest.from_json(file_of(body))


@pytest.mark.parametrize(
    "fields",
    [
        {"files": None},
        {"files": ["index/faces.ann"]},
        {"files": {"index/faces.ann": {}}},
        {"files": {"index/faces.ann": {"sha256": "00"}}},
        {"files": {"index/faces.ann": {"bytes": 1}}},
        {"index": {}},
        *(
            {"index": {name: value for name, value in fakes.INDEX.items() if name != left_out}}
            for left_out in fakes.INDEX
        ),
        {"index": {**fakes.INDEX, "effort": "much"}},
        {"index": {**fakes.INDEX, "effort": None}},
        {"index": {**fakes.INDEX, "effort": -1}},
        {"index": {**fakes.INDEX, "parts": 0}},
        {"index": {**fakes.INDEX, "params": 3}},
        {"index": {**fakes.INDEX, "built_on": None}},
    ],
    ids=str,
)
def test_a_field_without_what_its_readers_use_is_refused(manifest, fields):
    with pytest.raises(BadBundle, match="manifest cannot be read"):
        Manifest.from_json(file_of({**json.loads(manifest.to_json()), **fields}))


def test_an_unknown_field_is_refused(manifest):
    body = {**json.loads(manifest.to_json()), "surprise": 1}
    with pytest.raises(BadBundle, match=r"manifest cannot be read: .*surprise"):
        Manifest.from_json(file_of(body))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"{", b"null", b"[]", b"[1]", b'"text"', b"{}", b"3", b"[" * 100_000],
    ids=lambda data: repr(data[:8]),
)
def test_garbage_is_refused(data):
    with pytest.raises(BadBundle, match="manifest cannot be read"):
        Manifest.from_json(data)


def test_a_manifest_cut_short_is_refused(manifest):
    data = manifest.to_json()
    with pytest.raises(BadBundle, match="manifest cannot be read"):
        Manifest.from_json(data[: len(data) // 2])
