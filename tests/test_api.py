"""The API for notebooks gives what the pipelines give, to the bit."""

import pathlib

import images
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from celebface.indexing import publish
from celebface.models.faces import QualityGate, ReaderConfig
from celebface.pipelines import api, cli, embedder
from celebface.pipelines.api import UnusablePhoto, embed, look_alike, open_gallery, sample_photos, verify

EMBEDDED = 6  # photos held against the gallery's shards, of each person's first


def rows(folder: pathlib.Path, name: str) -> list[dict]:
    return [row for path in sorted(folder.glob(f"{name}-*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def photos(probes) -> list[pathlib.Path]:
    """One photo of each of the sample's people, with a copy that has two faces."""
    return [sorted(person.glob("*.jpg"))[0] for person in sorted(probes.iterdir())]


@pytest.fixture(scope="module")
def two_faces(photos, tmp_path_factory) -> pathlib.Path:
    page = images.plain(900, 600)
    for number, photo in enumerate(photos[:2]):
        page.paste(Image.open(photo).convert("RGB").resize((400 - 100 * number, 500 - 120 * number)), (450 * number, 0))
    path = tmp_path_factory.mktemp("photos") / "two.png"
    page.save(path)
    return path


# --- embed ------------------------------------------------------------------------------------------------------------


def test_vectors_are_those_of_the_gallerys_shards(gallery, sample):
    """Read as build-gallery reads: one face of each photo, of the gallery's quality."""
    opened = open_gallery(gallery)
    stored = {row["uri"]: row for row in rows(pathlib.Path(opened.uri), "faces")}
    chosen = [uri for uri in sorted(stored) if pathlib.Path(uri).parent.name][:: len(stored) // EMBEDDED]
    reader = ReaderConfig(gate=QualityGate(), one_face=True)
    for found, uri in zip(embed(chosen, reader=reader, precision=opened.manifest.precision), chosen, strict=True):
        row = stored[uri]
        assert found.photo == uri and (found.width, found.height) == (row["image_width"], row["image_height"])
        (face,) = found.faces
        assert list(face.box) == row["box"]
        assert np.array_equal(face.vector, np.array(row["embedding"], np.float32))
    assert publish.find_version(str(gallery)) == opened.uri


def test_all_kinds_of_photos_give_the_same(photos, tmp_path, monkeypatch):
    path = photos[0]
    picture = Image.open(path)
    with Image.open(path) as opened:
        array = np.asarray(opened.convert("RGB"))
    monkeypatch.chdir(path.parent)
    kinds = [path, str(path), path.name, path.read_bytes(), picture, array]
    results = embed(kinds)
    for found in results:
        assert [face.box for face in found.faces] == [face.box for face in results[0].faces]
        assert np.array_equal(found.vectors, results[0].vectors)
    assert results[0].vectors.shape == (1, 128)
    assert np.linalg.norm(results[0].vectors) == pytest.approx(1)
    assert [found.photo for found in results[2:]] == [
        path.name,
        f"{path.stat().st_size} bytes",
        f"a picture of {array.shape[1]} x {array.shape[0]} pixels",
        f"an array {list(array.shape)}",
    ]


def test_pictures_are_turned_as_their_files_are(photos, tmp_path):
    upright = Image.open(photos[0]).convert("RGB")
    path = tmp_path / "turned.png"
    path.write_bytes(images.oriented(upright, 6, "PNG"))
    turned, whole = embed([Image.open(path), upright])
    assert turned.faces[0].box == whole.faces[0].box
    assert np.array_equal(turned.vectors, whole.vectors)


def test_what_a_photo_gives_owes_nothing_to_the_others(photos):
    together = embed(photos)
    for photo, found in zip(photos, together, strict=True):
        (alone,) = embed(photo)
        assert np.array_equal(alone.vectors, found.vectors)


def test_photos_without_faces_have_a_reason(photos, tmp_path):
    grey = images.plain(200, 200)
    results = embed([grey, photos[0], b"no photo", tmp_path / "nowhere.jpg", tmp_path, b""])
    assert [found.reason for found in results] == ["no_face", "", "not_an_image", "not_found", "unreadable", "empty"]
    assert results[0].faces == () and results[0].detail == "the detector found no face"
    with pytest.raises(UnusablePhoto, match=r"nowhere\.jpg: there is no such file") as caught:
        _ = results[3].vectors
    assert caught.value.reason == "not_found"
    assert repr(results[0]) == "FacesOfPhoto('a picture of 200 x 200 pixels', reason='no_face')"


@pytest.mark.parametrize("thing", [3, None, np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)], ids=str)
def test_what_is_no_photo_is_told(thing):
    with pytest.raises(TypeError, match="photo"):
        embed([thing])


def test_no_photos_give_nothing(cache):
    assert embed([]) == []


def test_faces_show_what_they_are(photos):
    (found,) = embed(photos[0])
    (face,) = found.faces
    assert repr(face) == f"Face(box={face.box}, confidence={face.confidence:.3f}, vector=float32[128])"
    assert repr(found) == f"FacesOfPhoto({str(photos[0])!r}, faces=[{face!r}])"
    assert face.crop.shape == (160, 160, 3) and face.landmarks.shape == (5, 2)


# --- look-alikes ------------------------------------------------------------------------------------------------------


def test_look_alikes_are_those_of_a_match_job(gallery, photos, two_faces, tmp_path):
    output = tmp_path / "out"
    places = [*map(str, photos[:3]), str(two_faces)]
    assert cli.main(["match", *places, f"--gallery={gallery}", f"--output={output}", "--top_k=4"]) == 0
    expected: dict[tuple, list[dict]] = {}
    for row in sorted(rows(output, "matches"), key=lambda row: row["rank"]):
        expected.setdefault((row["photo_uri"], tuple(row["box"])), []).append(row)
    opened = open_gallery(gallery)
    found = {}
    for place in places:
        for each in look_alike(place, opened, top_k=4):
            found[place, each.face.box] = each
    assert found.keys() == expected.keys() and len(found) == 5
    for key, each in found.items():
        ranked = expected[key]
        assert [
            (person.rank, person.identity, person.identity_id, person.gallery_face_id, person.gallery_uri)
            for person in each.people
        ] == [
            (row["rank"], row["identity"], row["identity_id"], row["gallery_face_id"], row["gallery_uri"])
            for row in ranked
        ]
        assert [str(person.verdict) for person in each.people] == [row["verdict"] for row in ranked]
        for name in ("distance", "similarity"):
            mine = np.array([getattr(person, name) for person in each.people], np.float32)
            assert np.array_equal(mine, np.array([row[name] for row in ranked], np.float32))
        assert np.float32(each.margin) == np.float32(ranked[0]["margin"])
        assert each.tau == opened.calibration.at(0.01).tau and each.stated == opened.calibration.at(0.01).stated


def test_the_largest_face_comes_first(gallery, two_faces):
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (each.face.box for each in look_alike(two_faces, gallery))]
    assert len(areas) == 2 and areas == sorted(areas, reverse=True)


def test_tau_or_the_rate_decides(gallery, photos):
    (found,) = look_alike(photos[0], gallery, tau=0.0)
    assert (found.verdict, found.tau, found.stated) == ("lookalike", 0.0, "")
    (found,) = look_alike(photos[0], gallery, far=0.1, top_k=1)
    assert found.verdict == "match" and len(found.people) == 1 and found.margin > 0
    assert repr(found).startswith(f"LookAlike({photos[0].parent.name!r}, match, D=")
    with pytest.raises(ValueError, match="exclude"):
        look_alike(photos[0], gallery, far=0.1, tau=1.0)


@pytest.mark.parametrize("wrong", [{"top_k": 0}, {"tau": 4.1}, {"tau": -0.1}, {"precision": "half"}])
def test_values_that_cannot_be_are_refused(gallery, photos, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        look_alike(photos[0], gallery, **wrong)
    if "top_k" not in wrong:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            verify(photos[0], photos[1], **wrong)


def test_many_photos_are_read_by_a_few(photos, monkeypatch):
    at_once = embed([b"none", *photos[:3]])
    monkeypatch.setattr(embedder, "PHOTOS_TOGETHER", 2)
    by_two = embed([b"none", *photos[:3]])
    assert [photo.reason for photo in by_two] == ["not_an_image", "", "", ""]
    assert [photo.vectors.tobytes() for photo in by_two[1:]] == [photo.vectors.tobytes() for photo in at_once[1:]]


def test_a_photo_without_a_face_looks_like_nobody(gallery):
    with pytest.raises(UnusablePhoto, match="the detector found no face"):
        look_alike(images.plain(200, 200), gallery)


def test_vectors_can_be_asked_for_in_a_gallery(gallery, photos):
    opened = open_gallery(gallery)
    (found,) = embed(photos[0], precision=opened.manifest.precision)
    ((nearest, *_),) = opened.nearest(found.vectors, k=1)
    ((each),) = look_alike(photos[0], opened)
    assert (nearest.identity, nearest.distance) == (each.best.identity, each.best.distance)


# --- verify -----------------------------------------------------------------------------------------------------------


def test_verify_answers_as_the_command(probes, capsys):
    import json

    first, second = sorted(probes.glob("madonna/*.jpg"))[:2]
    other = sorted(probes.glob("elton_john/*.jpg"))[0]
    found = verify(first, second)
    assert cli.main(["verify", str(first), str(second), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert found.same and not verify(first, other, far=0.001).same
    assert (found.distance, found.similarity, found.threshold.stated) == (
        told["distance"], told["similarity"], told["stated"]
    )  # fmt: skip
    with pytest.raises(UnusablePhoto):
        verify(first, images.plain(200, 200))


def test_the_samples_photos(cache, probes):
    assert len(sample_photos()) == 25 and len(sample_photos("train")) == 93
    assert sample_photos()[0].is_relative_to(probes)


def test_the_networks_are_loaded_once(photos):
    embed(photos[0])
    loaded = api._embedder.cache_info().misses, api._encoder.cache_info().misses
    embed(photos[1])
    assert (api._embedder.cache_info().misses, api._encoder.cache_info().misses) == loaded
    detectors = api._detector.cache_info().misses
    embed(photos[1], reader=ReaderConfig(max_faces=1))
    assert api._detector.cache_info().misses == detectors
    assert (api._embedder.cache_info().misses, api._encoder.cache_info().misses) == (loaded[0] + 1, loaded[1])
