"""celebface match, whole, with the real models."""

import csv
import dataclasses
import io
import json
import math
import os
import pathlib
import shutil

import bad_photos
import images
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from celebface.indexing import publish, schemas
from celebface.indexing.calibration import LFW_CURVE, OperatingPoint
from celebface.indexing.gallery import Gallery
from celebface.models import encoder_card
from celebface.pipelines import cli
from celebface.pipelines import match as matching


def rows(output: pathlib.Path, name: str) -> list[dict]:
    return [row for path in sorted(output.glob(f"{name}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def match(gallery: pathlib.Path, output: pathlib.Path, *arguments: str) -> int:
    return cli.main(["match", f"--gallery={gallery}", f"--output={output}", *map(str, arguments)])


@pytest.fixture(scope="module")
def matched(gallery, probes, tmp_path_factory) -> pathlib.Path:
    """The results for the sample's photos."""
    output = tmp_path_factory.mktemp("out") / "matches"
    assert match(gallery, output, probes) == 0
    return output


def test_every_photo_of_the_sample_finds_its_person(matched, probes):
    first = [row for row in rows(matched, "matches") if row["rank"] == 1]
    assert len(first) == 25
    assert {row["photo_uri"] for row in first} == {str(path) for path in probes.glob("*/*.jpg")}
    assert [pathlib.Path(row["photo_uri"]).parent.name for row in first] == [row["identity"] for row in first]
    assert {row["verdict"] for row in first} == {"match"}


def test_ranks_run_over_people_by_distance(matched, gallery):
    faces = {}
    for row in rows(matched, "matches"):
        faces.setdefault((row["photo_uri"], row["face_id"]), []).append(row)
    sources = {row["face_id"]: row for row in rows(pathlib.Path(publish.find_version(str(gallery))), "faces")}
    for ranked in faces.values():
        assert [row["rank"] for row in ranked] == [1, 2, 3, 4, 5]
        assert len({row["identity"] for row in ranked}) == 5
        distances = [row["distance"] for row in ranked]
        assert distances == sorted(distances) and distances[0] >= 0 and distances[-1] <= 4
        for row in ranked:
            assert row["margin"] == pytest.approx(distances[1] - distances[0], abs=1e-6)
            assert row["similarity"] == pytest.approx(LFW_CURVE.percent(row["distance"]), abs=1e-4)
            assert sources[row["gallery_face_id"]]["identity"] == row["identity"]
            assert sources[row["gallery_face_id"]]["uri"] == row["gallery_uri"]


def test_csv_says_what_parquet_says(matched):
    with (matched / "matches.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    table = sorted(rows(matched, "matches"), key=lambda row: row["photo_uri"])
    assert len(lines) == len(table) == 125
    for line, row in zip(lines, table, strict=True):
        assert [int(line[corner]) for corner in ("x0", "y0", "x1", "y1")] == row["box"]
        assert (line["photo_uri"], line["identity"], int(line["rank"])) == (
            row["photo_uri"],
            row["identity"],
            row["rank"],
        )
        assert float(line["distance"]) == pytest.approx(row["distance"], rel=1e-5)


def test_results_have_the_schema_and_a_run_report(matched):
    assert pq.read_schema(matched / "matches-00000-of-00001.parquet").equals(schemas.MATCHES)
    assert pq.read_schema(matched / "ledger-00000-of-00001.parquet").equals(schemas.LEDGER)
    assert pq.read_schema(matched / "photos-00000-of-00001.parquet").equals(schemas.PHOTOS)
    assert pq.read_schema(matched / "faces-00000-of-00001.parquet").equals(schemas.PROBES)
    report = json.loads((matched / "run.json").read_text())
    assert report["items"] == {
        "items": 25,
        "statuses": {"done": 25},
        "reasons": {},
        "faces": 25,
        "kinds": {"photo": {"done": 25}},
        "flags": {},
    }
    assert sorted(path.name for path in matched.iterdir()) == [
        "faces-00000-of-00001.parquet", "ledger-00000-of-00001.parquet", "matches-00000-of-00001.parquet",
        "matches.csv", "photos-00000-of-00001.parquet", "run.json"
    ]  # fmt: skip
    assert (report["config"]["kept"], report["config"]["by_person"]) == ({"crops": True, "embeddings": False}, False)


def decoded(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"), np.float32)


def test_each_photo_is_kept_as_a_thumbnail(matched, probes):
    photos = rows(matched, "photos")
    assert [row["photo_uri"] for row in photos] == sorted(str(path) for path in probes.glob("*/*.jpg"))
    for row in photos:
        photo = Image.open(row["photo_uri"]).convert("RGB")
        assert (row["image_width"], row["image_height"]) == photo.size
        shown = decoded(row["thumbnail_jpeg"])
        assert max(shown.shape) == min(320, max(photo.size))
        assert np.abs(shown - np.asarray(photo.resize(shown.shape[1::-1], Image.Resampling.BOX), np.float32)).mean() < 6


def test_each_face_is_kept_as_its_crop_and_no_vector_is(matched):
    first = [row for row in rows(matched, "matches") if row["rank"] == 1]
    faces = rows(matched, "faces")
    shared = ("photo_uri", "face_id", "box", "confidence")
    assert [[row[name] for name in shared] for row in faces] == [[row[name] for name in shared] for row in first]
    assert {row["embedding"] for row in faces} == {None}
    photos = {row["photo_uri"]: row for row in rows(matched, "photos")}
    for row in faces:
        crop = decoded(row["crop_jpeg"])
        assert crop.shape == (160, 160, 3)
        x0, y0, x1, y1 = row["box"]
        assert 0 <= x0 < x1 <= photos[row["photo_uri"]]["image_width"]
        assert 0 <= y0 < y1 <= photos[row["photo_uri"]]["image_height"]
        box = Image.open(row["photo_uri"]).convert("RGB").crop(row["box"]).resize((1, 1), Image.Resampling.BOX)
        assert np.abs(crop.mean(axis=(0, 1)) - np.asarray(box, np.float32)).max() < 40  # the square is a bit wider


def test_two_processes_and_other_batches_give_the_same_rows(matched, gallery, probes, tmp_path):
    flags = ("--direct_num_workers=2", "--num_shards=3", "--embeddings", "--by_person")
    assert match(gallery, tmp_path / "out", probes, *flags) == 0
    assert len(list((tmp_path / "out").glob("matches-*-of-00003.parquet"))) == 3

    def ordered(output, table):
        return sorted(rows(output, table), key=lambda row: [row[name] for name in row if name.endswith(KEYS)])

    for table in ("matches", "photos", "ledger"):
        assert ordered(tmp_path / "out", table) == ordered(matched, table)
    found = ordered(tmp_path / "out", "faces")
    assert [{**row, "embedding": None} for row in found] == ordered(matched, "faces")
    check_vectors(found, ordered(matched, "matches"), rows(pathlib.Path(publish.find_version(str(gallery))), "faces"))
    check_by_person(tmp_path / "out" / "by_person.parquet", ordered(matched, "matches"))


KEYS = ("uri", "face_id", "rank")


def check_vectors(faces: list[dict], matches: list[dict], known: list[dict]) -> None:
    """The vectors kept are those that the distances are of."""
    vectors = {row["face_id"]: np.array(row["embedding"], np.float32) for row in (*faces, *known)}
    for row in matches:
        distance = ((vectors[row["face_id"]] - vectors[row["gallery_face_id"]]) ** 2).sum()
        assert row["distance"] == pytest.approx(distance, abs=1e-5)


def check_by_person(path: pathlib.Path, matches: list[dict]) -> None:
    """Each person's photos are together, those most alike first."""
    table = pq.read_table(path)
    assert table.schema.equals(schemas.BY_PERSON)
    first = [row for row in matches if row["rank"] == 1]
    first.sort(key=lambda row: (row["identity_id"], row["distance"], row["photo_uri"], row["face_id"]))
    assert table.to_pylist() == [{name: row[name] for name in schemas.BY_PERSON.names} for row in first]


def test_a_photo_with_many_faces(gallery, shared, tmp_path):
    photo = shared / "data" / "photos" / "multiface.jpg"
    assert match(gallery, tmp_path / "out", photo) == 0
    (ledger,) = rows(tmp_path / "out", "ledger")
    assert (ledger["status"], ledger["faces"]) == ("done", 6)
    boxes = [row["box"] for row in rows(tmp_path / "out", "matches") if row["rank"] == 1]
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]
    assert len(boxes) == 6 and areas == sorted(areas, reverse=True)
    assert all(0 <= x0 < x1 <= 1200 and 0 <= y0 < y1 <= 630 for x0, y0, x1, y1 in boxes)
    assert match(gallery, tmp_path / "one", photo, "--one_face") == 0
    assert rows(tmp_path / "one", "ledger")[0]["faces"] == 1


def test_every_kind_of_bad_photo_ends_in_one_ledger_row(gallery, portrait, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    expected = bad_photos.write_folder(folder, portrait)
    assert match(gallery, tmp_path / "out", folder) == 0
    ledger = rows(tmp_path / "out", "ledger")
    found = {os.path.basename(row["uri"]): (row["status"], row["reason"]) for row in ledger}
    assert found == expected and len(ledger) == len(expected)
    with_faces = {row["photo_uri"] for row in rows(tmp_path / "out", "matches")}
    assert with_faces == {row["uri"] for row in ledger if row["status"] == "done"}
    assert {row["identity"] for row in rows(tmp_path / "out", "matches") if row["rank"] == 1} == {"madonna"}
    photos = {row["photo_uri"]: (row["image_width"], row["image_height"]) for row in rows(tmp_path / "out", "photos")}
    assert photos.keys() == with_faces | {str(folder / "wall.png")}  # which was decoded, though it shows nobody
    assert photos[str(folder / "rotated.jpg")] == Image.open(portrait).size  # upright
    assert all(row["thumbnail_jpeg"] for row in rows(tmp_path / "out", "photos"))
    assert f"{len(expected)} photos" in capsys.readouterr().out


def test_photos_without_any_face_are_no_failure(gallery, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "grey.png").write_bytes(images.encoded(images.plain(200, 200), "PNG"))
    assert match(gallery, tmp_path / "out", folder) == 0
    assert rows(tmp_path / "out", "matches") == []
    assert [row["reason"] for row in rows(tmp_path / "out", "ledger")] == ["no_face"]
    assert "0 faces against 5 people" in capsys.readouterr().out


def test_a_broken_budget_writes_the_ledger_alone(gallery, portrait, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    assert match(gallery, tmp_path / "out", portrait, tmp_path / "bad.jpg", "--max_failed_ratio=0.4") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "ledger-00000-of-00001.parquet",
        "run.json",
    ]
    assert "50% of the photos were rejected" in capsys.readouterr().err


def test_results_replace_earlier_results_but_nothing_else(gallery, portrait, tmp_path, capsys):
    output = tmp_path / "out"
    assert match(gallery, output, portrait, "--num_shards=2", "--embeddings", "--by_person") == 0
    assert (output / "by_person.parquet").exists()
    assert "thumbnails and crops of faces (--no_crops keeps none), vectors of faces" in capsys.readouterr().out
    killed = output / ".staging-0123456789ab"  # what a run with other flags has left
    killed.mkdir()
    (killed / "part-0123456789abcdef.arrow").write_bytes(b"faces")
    (output / "photos-00000-of-00001.parquet.0123abcd.tmp").write_bytes(b"half of the photos")

    assert match(gallery, output, portrait, "--no_crops", "--no_embeddings") == 0
    tables = [f"{table}-00000-of-00001.parquet" for table in ("faces", "ledger", "matches", "photos")]
    assert sorted(path.name for path in output.iterdir()) == sorted([*tables, "matches.csv", "run.json"])
    (photo,), (face,) = rows(output, "photos"), rows(output, "faces")
    assert (photo["photo_uri"], photo["thumbnail_jpeg"]) == (str(portrait), None)
    assert photo["image_width"] and photo["image_height"]
    assert (face["crop_jpeg"], face["embedding"]) == (None, None)
    assert face["face_id"] in {row["face_id"] for row in rows(output, "matches")}
    assert "kept of the photos: no thumbnails, no crops, no vectors" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["thesis.txt", "photos.parquet", "photos-of-us.parquet", "faces-2.parquet"])
def test_a_folder_with_other_files_is_left_alone(gallery, portrait, tmp_path, capsys, name):
    (tmp_path / name).write_text("precious")
    (tmp_path / "matches.csv").write_text("earlier")
    assert match(gallery, tmp_path, portrait) == 2
    assert name in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "precious"
    assert (tmp_path / "matches.csv").read_text() == "earlier"


def test_keeping_vectors_or_not_must_be_clear(gallery, portrait, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        match(gallery, tmp_path / "out", portrait, "--embeddings", "--no_embeddings")
    assert capsys.readouterr().err == "celebface match: --embeddings and --no_embeddings exclude each other\n"


def test_a_run_goes_on_only_where_one_that_keeps_the_same_was_killed():
    terms = matching.Terms("/gallery", "/encoder", "float32", 1.0, None)

    def staging(*flags: str) -> str:
        return matching._staging(matching.parse_args(["a.jpg", "--output=/out", *flags])[0], terms)

    assert staging() == staging("--no_embeddings") == staging("--by_person")  # which is made of the finished tables
    assert len({staging(), staging("--no_crops"), staging("--embeddings"), staging("--no_crops", "--embeddings")}) == 4


def test_a_report_is_made_on_demand_and_goes_with_its_results(gallery, portrait, tmp_path, capsys):
    output = tmp_path / "out"
    assert match(gallery, output, portrait, "--report") == 0
    assert f"open {output / 'report' / 'index.html'}" in capsys.readouterr().out
    assert (output / "report" / "index.html").exists() and list((output / "report" / "img").rglob("*.jpg"))
    assert match(gallery, output, portrait) == 0
    assert not (output / "report").exists()
    (output / "report").mkdir()
    (output / "report" / "thesis.txt").write_text("precious")
    assert match(gallery, output, portrait) == 2
    assert (output / "report" / "thesis.txt").read_text() == "precious"


def test_tau_decides_the_verdict_and_has_no_stated_rate(gallery, portrait, tmp_path, capsys):
    assert match(gallery, tmp_path / "out", portrait, "--tau=0.01", "--top_k=1") == 0
    config = json.loads((tmp_path / "out" / "run.json").read_text())["config"]
    assert (config["far"], config["tau"], config["point"]) == (None, 0.01, None)
    assert "at tau 0.01: 0 match" in capsys.readouterr().out
    assert [row["verdict"] for row in rows(tmp_path / "out", "matches")] == ["lookalike"]


def check_point(output: pathlib.Path, gallery: pathlib.Path, far: float) -> OperatingPoint:
    point = Gallery.open(str(gallery)).calibration.at(far)
    config = json.loads((output / "run.json").read_text())["config"]
    assert (config["far"], config["tau"]) == (far, point.tau)
    assert config["point"]["interval"] == list(point.interval)
    return point


def test_the_usual_rate_is_one_in_a_hundred(matched, gallery):
    check_point(matched, gallery, 0.01)


def test_the_rate_asked_for_chooses_tau_and_is_recorded(gallery, portrait, tmp_path, capsys):
    assert match(gallery, tmp_path / "out", portrait, "--far=0.001") == 0
    point = check_point(tmp_path / "out", gallery, 0.001)
    shown = capsys.readouterr().out
    assert f"at tau {point.tau:.4g}, {point.stated}: 1 match" in shown
    (row,) = (row for row in rows(tmp_path / "out", "matches") if row["rank"] == 1)
    assert f"{math.floor(row['similarity'])} %" in shown


def test_a_rate_that_the_gallery_does_not_state_is_wrong_usage(gallery, portrait, tmp_path, capsys):
    assert match(gallery, tmp_path / "out", portrait, "--far=0.0001") == 2
    error = capsys.readouterr().err
    assert "only rates from 0.001 to 0.1" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_gallery_of_one_person_has_no_margin(sample, portrait, tmp_path, capsys):
    shutil.copytree(sample / "madonna", tmp_path / "people" / "madonna")
    assert cli.main(["build-gallery", f"--source={tmp_path / 'people'}", f"--output_root={tmp_path}"]) == 0
    assert match(tmp_path / "celebrities", tmp_path / "out", portrait) == 0
    assert [(row["rank"], row["margin"]) for row in rows(tmp_path / "out", "matches")] == [(1, None)]
    with (tmp_path / "out" / "matches.csv").open(newline="") as file:
        assert [line["margin"] for line in csv.DictReader(file)] == [""]
    assert "nan" not in capsys.readouterr().out


def test_results_in_the_photos_folder_are_no_photos(gallery, portrait, tmp_path):
    shutil.copy(portrait, tmp_path / "a.jpg")
    for _ in range(2):
        assert match(gallery, tmp_path / "matches", tmp_path) == 0
        assert [row["uri"] for row in rows(tmp_path / "matches", "ledger")] == [str(tmp_path / "a.jpg")]


def test_an_output_that_cannot_be_written_is_known_before_the_work(gallery, portrait, tmp_path, capsys):
    (tmp_path / "file").write_text("precious")
    for output in (tmp_path / "file", tmp_path / "file" / "below", pathlib.Path("/proc/nowhere")):
        assert match(gallery, output, portrait) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "precious"


def copy_of(gallery: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    shutil.copytree(gallery, target)
    return pathlib.Path(publish.find_version(str(target)))


def other_encoder(encoder: str, folder: pathlib.Path) -> str:
    """An encoder of the same network with other weights; returns its id."""
    card = encoder_card.EncoderCard.from_json((pathlib.Path(encoder) / "card.json").read_bytes())
    weights = encoder_card.weights_from_bytes((pathlib.Path(encoder) / "weights.npz").read_bytes(), card)
    weights["Bottleneck/kernel"] = weights["Bottleneck/kernel"] * 0.5 + 1e-3
    folder.mkdir()
    (folder / "weights.npz").write_bytes(encoder_card.arrays_to_bytes(weights))
    other = dataclasses.replace(card, weights_sha256=encoder_card.weights_digest(weights))
    (folder / "card.json").write_text(other.to_json())
    return other.encoder_id


def test_another_encoder_is_refused(gallery, portrait, encoder, tmp_path, capsys):
    other = other_encoder(encoder, tmp_path / "encoder")
    assert match(gallery, tmp_path / "out", portrait, f"--encoder={tmp_path / 'encoder'}") == 2
    error = capsys.readouterr().err
    assert other in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_gallery_knows_its_own_encoder(sample, portrait, encoder, tmp_path):
    other = other_encoder(encoder, tmp_path / "encoder")
    arguments = [f"--source={sample / 'madonna'}/../*", f"--encoder={tmp_path / 'encoder'}", "--precision=float32"]
    assert cli.main(["build-gallery", *arguments, f"--output_root={tmp_path}"]) == 0
    assert match(tmp_path / "celebrities", tmp_path / "out", portrait) == 0
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (report["config"]["encoder"], report["config"]["precision"]) == (str(tmp_path / "encoder"), "float32")
    assert {row["encoder_id"] for row in rows(pathlib.Path(report["config"]["gallery"]), "faces")} == {other}


def test_damaged_weights_are_refused(gallery, portrait, encoder, tmp_path, capsys):
    folder = tmp_path / "encoder"
    shutil.copytree(encoder, folder)
    data = bytearray((folder / "weights.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "weights.npz").write_bytes(bytes(data))
    assert match(gallery, tmp_path / "out", portrait, f"--encoder={folder}") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["index/vectors.npy", "index/labels.parquet", "index/faces.ann"])
def test_a_damaged_gallery_is_refused_before_any_match(gallery, portrait, tmp_path, capsys, name):
    version = copy_of(gallery, tmp_path / "gallery")
    data = bytearray((version / name).read_bytes())
    data[len(data) // 2] ^= 1
    (version / name).write_bytes(bytes(data))
    assert match(tmp_path / "gallery", tmp_path / "out", portrait) == 2
    error = capsys.readouterr().err
    assert name in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
