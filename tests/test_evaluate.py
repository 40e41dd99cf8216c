"""celebface evaluate: the accuracy of the face path on LFW, and by the number of enrolled photos."""

import collections
import io
import json
import pathlib

import fakes
import numpy as np
import pytest
from PIL import Image

from celebface.indexing import enrolment
from celebface.pipelines import cli, labelled_pairs


def test_a_missing_photo_is_wrong_usage(tmp_path, encoder, capsys):
    (tmp_path / "pairs.txt").write_text("A\t1\t2\nA\t1\tB\t2\n")
    assert cli.main(["evaluate", f"--images={tmp_path}", f"--pairs={tmp_path / 'pairs.txt'}"]) == 2
    assert "lacks 3 of the photos, such as A 1" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_accuracy_on_lfw_is_that_of_the_published_weights(shared, encoder, tmp_path, precision):
    """Wrong colour order, crop or standardisation cannot reach it."""
    lfw = shared / "data" / "lfw"
    arguments = [f"--images={lfw / 'dev'}", f"--pairs={lfw / 'pairs_dev.txt'}", f"--precision={precision}"]
    assert cli.main(["evaluate", *arguments, f"--json={tmp_path / 'result.json'}"]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["pairs"] == 600 and result["no_face"] == []
    assert (result["tau"], result["precision"]) == (1.22, precision)
    assert result["accuracy_at_tau"] >= 0.9917
    assert result["rank_one"] >= 0.98
    assert result["auc"] >= 0.998


def test_a_photo_without_a_face_counts_against_the_encoder(probes, encoder, tmp_path):
    people = sorted(probes.iterdir())[:2]
    for person in people:
        (tmp_path / person.name).mkdir()
        for number, photo in enumerate(sorted(person.glob("*.jpg"))[:2], start=1):
            (tmp_path / person.name / f"{person.name}_{number:04d}.jpg").write_bytes(photo.read_bytes())
    (tmp_path / people[0].name / f"{people[0].name}_0003.jpg").write_bytes(b"no photo")
    first, second = (person.name for person in people)
    lines = [
        f"{first}\t1\t2",
        f"{first}\t1\t3",
        f"{second}\t1\t2",
        f"{first}\t1\t{second}\t1",
        f"{first}\t3\t{second}\t2",
    ]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    arguments = [f"--images={tmp_path}", f"--pairs={tmp_path / 'pairs.txt'}", "--folds=1"]
    assert cli.main(["evaluate", *arguments, f"--json={tmp_path / 'result.json'}"]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["no_face"]) == 1
    assert result["accuracy_at_tau"] == pytest.approx(4 / 5)  # the pair of one person with the faceless photo is missed


# --- enrolled photos --------------------------------------------------------------------------------------------------


def copied(photos: list[pathlib.Path], folder: pathlib.Path) -> None:
    """Photos under names that say nothing, in the folders of their people."""
    for number, photo in enumerate(photos):
        (folder / photo.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / photo.parent.name / f"IMG {number}.jpg").write_bytes(photo.read_bytes())


def test_people_are_known_by_one_photo_of_a_folder_with_any_names(probes, encoder, tmp_path, capsys):
    photos = [photo for person in sorted(probes.iterdir())[:3] for photo in sorted(person.glob("*.jpg"))[:3]]
    copied(photos[:7], tmp_path / "people")  # the third person has one
    (tmp_path / "people" / "somebody.jpg").write_bytes(b"no photo")
    flags = [f"--images={tmp_path / 'people'}", "--enrolled=2,1,2", f"--chart={tmp_path / 'chart.png'}"]
    assert cli.main(["evaluate", *flags, f"--json={tmp_path / 'result.json'}"]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result) == {"encoder_id", "precision", "photos", "no_face", "several_faces", "enrolment"}
    assert (result["photos"], result["no_face"]) == (8, [str(tmp_path / "people" / "somebody.jpg")])
    curve = result["enrolment"]
    assert (curve["subjects"], curve["others"], curve["probes"], curve["seed"]) == (2, 1, 20, 1)
    assert [point["enrolled"] for point in curve["points"]] == [1, 2]
    assert all(point["rank_one"] == {"mean": 1.0, "sd": 0.0} for point in curve["points"])
    assert all(point["verified"] == [] for point in curve["points"])  # two false claims show no rate
    assert Image.open(io.BytesIO((tmp_path / "chart.png").read_bytes())).format == "PNG"
    told = capsys.readouterr().out
    assert "2 people among 1 other person with one photo each, 20 probes in 10 draws" in told
    assert "1.0000 +- 0.0000" in told and "accuracy" not in told


@pytest.fixture
def crowd(tmp_path, monkeypatch) -> dict[pathlib.Path, np.ndarray]:
    """A folder of empty photos whose vectors are made up; those of whom there are none have no face."""
    sizes = {"Ann": 7, "Bob": 6, "Cid": 5, "Dan": 4, "Eve": 1}
    vectors, _ = fakes.crowds(list(sizes.values()), 8, spread=1.2, seed=3)
    names = [f"{name}/{name}_{number:04d}.jpg" for name, count in sizes.items() for number in range(1, count + 1)]
    made = {}
    for name, vector in zip(names, vectors, strict=True):
        path = tmp_path / "people" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        made[path] = vector

    def embed(args, precision, paths, command):
        assert len(set(paths)) == len(paths)
        none = np.full(8, np.nan, np.float32)
        return np.stack([made.get(path, none) for path in paths]), 0

    monkeypatch.setattr(labelled_pairs, "embed", embed)
    return made


@pytest.mark.parametrize("suffix", ["png", "SVG"])
def test_enrolled_photos_and_pairs_are_measured_together(crowd, encoder, tmp_path, capsys, suffix):
    (tmp_path / "people" / "Ann" / "by the sea.jpg").write_bytes(b"")  # no pair can name it, and it has no face
    (tmp_path / "pairs.txt").write_text("Ann\t1\t2\nBob\t1\t2\nAnn\t1\tBob\t2\nAnn\t2\tEve\t1\n")
    flags = [f"--images={tmp_path / 'people'}", f"--pairs={tmp_path / 'pairs.txt'}", "--folds=1", "--precision=float32"]
    assert cli.main(["evaluate", *flags, f"--json={tmp_path / 'pairs.json'}"]) == 0
    pairs_alone = capsys.readouterr().out
    more = ["--enrolled=1,3", "--seed=5", f"--chart={tmp_path / 'chart'}.{suffix}", f"--json={tmp_path / 'both.json'}"]
    assert cli.main(["evaluate", *flags, *more]) == 0
    both = capsys.readouterr().out
    assert [line for line in pairs_alone.splitlines()[1:] if line not in both] == []
    assert f"no face: {tmp_path}/people/Ann/by the sea.jpg" in both
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("pairs", "both"))
    changed = {"photos", "no_face", "enrolment"}
    assert {key: value for key, value in second.items() if key not in changed} == {
        key: value for key, value in first.items() if key not in changed
    }
    assert (first["photos"], second["photos"]) == (23, 24)
    people = np.array([path.parent.name for path in crowd])
    expected = enrolment.measure(np.stack(list(crowd.values())), people, (1, 3), (1e-2, 1e-3), seed=5)
    assert second["enrolment"] == json.loads(json.dumps(expected, default=vars))
    assert 0 < second["enrolment"]["points"][0]["rank_one"]["mean"] < 1
    start = {"png": b"\x89PNG", "SVG": b"<?xml"}[suffix]
    assert (tmp_path / f"chart.{suffix}").read_bytes().startswith(start)


def test_enrolled_photos_alone_give_the_same_as_with_pairs(crowd, encoder, tmp_path, capsys):
    tables = []
    (tmp_path / "pairs.txt").write_text("Ann\t1\t2\nAnn\t1\tBob\t2\n")
    for flags in ([], [f"--pairs={tmp_path / 'pairs.txt'}"]):
        assert cli.main(["evaluate", f"--images={tmp_path / 'people'}", "--enrolled=1,2", *flags]) == 0
        tables.append(capsys.readouterr().out.split("by enrolled photos")[1])
    assert tables[0] == tables[1]
    assert "4 people among 1 other person with one photo each" in tables[0]


def test_too_few_photos_with_a_face_are_one_line(crowd, encoder, tmp_path, capsys):
    counts = collections.Counter(path.parent.name for path in crowd)
    for path in [path for path in crowd if path.parent.name == "Bob"][:2]:
        del crowd[path]
    assert (counts["Ann"], counts["Bob"]) == (7, 6)
    assert cli.main(["evaluate", f"--images={tmp_path / 'people'}", "--enrolled=5"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "of photos with a face: to enrol 5" in told and "the two with most have 7 and 5" in told
