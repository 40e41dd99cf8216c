"""celebface evaluate: the pairs file, and the accuracy of the face path on LFW."""

import json

import pytest

from celebface.pipelines import cli, evaluate


def test_pairs_without_a_header_are_dealt_out_by_kind():
    text = "A\t1\t2\nB\t1\t3\nA\t1\tB\t2\nC\t1\tB\t1\n"
    pairs = evaluate.read_pairs(text, folds=2)
    assert [(pair.first, pair.second, pair.same, pair.fold) for pair in pairs] == [
        (("A", 1), ("A", 2), True, 0),
        (("B", 1), ("B", 3), True, 1),
        (("A", 1), ("B", 2), False, 0),
        (("C", 1), ("B", 1), False, 1),
    ]


def test_pairs_with_a_header_keep_its_folds():
    text = "2\t1\nA\t1\t2\nA\t1\tB\t2\nB\t1\t2\nC\t1\tB\t1\n"
    assert [pair.fold for pair in evaluate.read_pairs(text, folds=10)] == [0, 0, 1, 1]


def test_a_header_of_one_number_makes_one_fold():
    text = "2\nA\t1\t2\nB\t1\t2\nA\t1\tB\t2\nC\t1\tB\t1\n"
    assert [pair.fold for pair in evaluate.read_pairs(text, folds=10)] == [0, 0, 0, 0]


@pytest.mark.parametrize("text", ["A\t1\n", "A\tx\t2\n", "A\t1\t2\n", "", "A 1 2\n"])
def test_what_is_no_list_of_pairs_is_refused(text):
    with pytest.raises(ValueError, match="pair"):
        evaluate.read_pairs(text, folds=10)


def test_photos_are_found_by_person_and_number(tmp_path):
    (tmp_path / "Ann_Lee").mkdir()
    for name in ("Ann_Lee_0001.jpg", "Ann_Lee_12.PNG", "notes.txt", "x.jpg"):
        (tmp_path / "Ann_Lee" / name).write_bytes(b"")
    assert {key: path.name for key, path in evaluate.find_photos(tmp_path).items()} == {
        ("Ann_Lee", 1): "Ann_Lee_0001.jpg",
        ("Ann_Lee", 12): "Ann_Lee_12.PNG",
    }


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
