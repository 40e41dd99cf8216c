"""celebface evaluate: the accuracy of the face path on LFW."""

import json

import pytest

from celebface.pipelines import cli


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
