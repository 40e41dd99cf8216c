"""celebface train, from photos to an encoder that the pipelines take. With the real detector, on the sample."""

import json
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from celebface.indexing.cache import default_cache
from celebface.models import encoder_card
from celebface.models.quiet_tensorflow import tf
from celebface.models.weights import encoder_folder, sample_folder
from celebface.pipelines import cli
from celebface.transforms.encoders import load_card

CACHE = default_cache()
QUICK = ("--people_per_batch", "3", "--photos_per_person", "3", "--validation_share", "0.4", "--cache", str(CACHE))


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> pathlib.Path:
    """Five people with six photos each, one file that is no photo, and one photo without a face."""
    folder = tmp_path_factory.mktemp("people")
    for person in sorted(sample_folder(CACHE, "train").iterdir()):
        (folder / person.name).mkdir()
        for photo in sorted(person.iterdir())[:6]:
            (folder / person.name / photo.name).symlink_to(photo)
    (folder / "madonna" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    return folder


def train(*argv: str) -> int:
    return cli.main(["train", *QUICK, *argv])


def scratch(images: pathlib.Path, output: pathlib.Path, *argv: str) -> list[str]:
    return ["--images", str(images), "--output", str(output), "--init", "scratch", "--max_steps", "6",
            "--evaluate_every", "2", *argv]  # fmt: skip


def losses(output: pathlib.Path) -> list[float]:
    return pq.read_table(output / "history.parquet")["loss"].to_pylist()


@pytest.fixture(scope="module")
def small(people, tmp_path_factory) -> pathlib.Path:
    """A small network, trained for six steps."""
    output = tmp_path_factory.mktemp("small") / "encoder"
    assert train(*scratch(people, output, "--test_images", str(sample_folder(CACHE, "val")))) == 0
    return output


def test_a_run_leaves_an_encoder_and_its_story(small, people):
    card, body = load_card(str(small)), json.loads((small / "train.json").read_text())
    assert card.architecture == "small_inception"
    assert card.encoder_id == body["encoder_id"]
    assert "trained from scratch" in card.name and "seed 0" in card.source
    parts = {name: body["data"][name] for name in ("training", "validation", "test")}
    assert [parts[name]["people"] for name in parts] == [3, 2, 5]
    trained, held = ({name for name, _ in parts[part]["faces_of_people"]} for part in ("training", "validation"))
    assert trained | held == {folder.name for folder in people.iterdir()} and not trained & held
    assert body["steps"] == 6 == len(losses(small))
    assert [entry["step"] for entry in body["evaluations"]] == [0, 2, 4, 6]
    for part in ("validation", "test"):
        assert body["results"][part].keys() == {"before", "after"}
        assert body["results"][part]["after"]["faces"] == parts[part]["faces"]
    left = {path.name for path in small.iterdir()}
    assert left == {"card.json", "weights.npz", "train.json", "curves.png", "history.parquet", "ledger.parquet",
                    "tensorboard"}, "checkpoints are gone"  # fmt: skip


def test_the_result_after_is_that_of_the_encoder(small):
    """The validation people's vectors, made by the encoder that was written, give the figures that were stated."""
    body = json.loads((small / "train.json").read_text())
    best = next(entry for entry in body["evaluations"] if entry["step"] == body["best_step"])
    after = body["results"]["validation"]["after"]
    for name in ("auc", "accuracy", "rank_one", "genuine", "impostor"):
        assert after[name] == pytest.approx(best[name], abs=0.02), name


def test_each_photo_ends_in_one_ledger_row(small, people):
    rows = pq.read_table(small / "ledger.parquet").to_pylist()
    assert sorted(row["uri"] for row in rows) == sorted(str(path) for path in people.glob("*/*"))
    reasons = {row["uri"]: row["reason"] for row in rows if row["status"] != "done"}
    assert reasons.pop(str(people / "madonna" / "broken.jpg")) == "truncated"
    assert set(reasons.values()) <= {"no_face"}
    body = json.loads((small / "train.json").read_text())
    assert sum(row["faces"] for row in rows) == sum(body["data"][part]["faces"] for part in ("training", "validation"))


def test_curves_and_events_tell_every_step(small):
    assert (small / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    (events,) = (small / "tensorboard").iterdir()
    seen: dict[str, dict[int, float]] = {}
    for record in tf.data.TFRecordDataset(str(events)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            seen.setdefault(value.tag, {})[event.step] = value.simple_value
    assert seen["train/loss"] == pytest.approx(dict(enumerate(losses(small), 1)))
    assert list(seen["validation/auc"]) == [0, 2, 4, 6]


def test_the_same_command_again_has_nothing_to_do_and_another_is_refused(small, people, capfd):
    before = {path: path.stat().st_mtime_ns for path in small.iterdir()}
    again = scratch(people, small, "--test_images", str(sample_folder(CACHE, "val")))
    assert train(*again) == 0
    assert "already" in capfd.readouterr().out
    assert train(*again, "--seed", "1") == 2
    assert "holds another encoder" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in small.iterdir()} == before


def test_a_run_killed_by_sigkill_gives_the_loss_curve_of_one_that_was_not(small, people, tmp_path):
    output = tmp_path / "encoder"
    command = [sys.executable, "-m", "celebface.pipelines.cli", "train", *QUICK]
    command += scratch(people, output)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            if line.startswith("step      4"):
                run.send_signal(signal.SIGKILL)
                break
    assert run.wait() == -signal.SIGKILL
    assert not (output / "card.json").exists()
    assert len(list(output.glob(".staging-*/checkpoint.npz"))) == 1
    went_on = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "step      2" not in went_on and "step      6" in went_on
    assert losses(output) == losses(small)
    assert load_card(str(output)).encoder_id == load_card(str(small)).encoder_id


def test_the_pipelines_take_a_trained_encoder_and_a_gallery_refuses_another(small, people, tmp_path, capfd):
    root = str(tmp_path / "galleries")
    photos = str(sample_folder(CACHE, "val") / "madonna")
    assert cli.main(["build-gallery", "--source", str(people), "--encoder", str(small), "--output_root", root]) == 0
    manifest = next(pathlib.Path(root).glob("*/*/manifest.json"))
    assert json.loads(manifest.read_text())["encoder_id"] == load_card(str(small)).encoder_id
    gallery = str(manifest.parent.parent)
    assert cli.main(["match", photos, "--gallery", gallery, "--tau", "1", "--output", str(tmp_path / "matches")]) == 0
    rows = pq.read_table(next((tmp_path / "matches").glob("matches-*.parquet"))).to_pylist()
    assert {row["photo_uri"] for row in rows} and all(0 <= row["distance"] <= 4 for row in rows)
    capfd.readouterr()
    other = str(encoder_folder(CACHE))
    assert (
        cli.main(
            ["match", photos, "--gallery", gallery, "--encoder", other, "--tau", "1", "--output", str(tmp_path / "m")]
        )
        == 2
    )
    assert "cannot be compared" in capfd.readouterr().err


def test_a_gallerys_crops_train_the_pretrained_encoders_head(gallery, tmp_path, capfd):
    """From shards; other layers stay as they were, and the new encoder is another one."""
    output = tmp_path / "encoder"
    flags = ["--gallery", str(gallery), "--output", str(output), "--layers", "offset", "--max_steps", "4"]
    assert train(*flags, "--evaluate_every", "2", "--margin", "2", "--seed", "3") == 0
    said = capfd.readouterr().out
    assert "before" in said and "VAL at FAR 0.001" in said
    assert not (output / "ledger.parquet").exists(), "the gallery has it"
    body = json.loads((output / "train.json").read_text())
    assert body["data"]["training"]["people"] + body["data"]["validation"]["people"] == 5
    start = encoder_card.arrays_from_bytes((encoder_folder(CACHE) / "weights.npz").read_bytes())
    found = encoder_card.arrays_from_bytes((output / "weights.npz").read_bytes())
    changed = {name for name in start if not np.array_equal(start[name], found[name])}
    assert changed == ({"Bottleneck_BatchNorm/beta"} if body["best_step"] else set())


def test_a_folder_of_mostly_bad_photos_trains_nothing(people, tmp_path, capfd):
    bad = tmp_path / "bad"
    for person in ("madonna", "elton_john"):
        (bad / person).mkdir(parents=True)
        for number, photo in enumerate(sorted((people / person).glob("*.jpg"))):
            (bad / person / f"{number}.jpg").write_bytes(photo.read_bytes() if number < 2 else b"no photo")
    assert train(*scratch(bad, tmp_path / "encoder")) == 1
    assert "ledger.parquet" in capfd.readouterr().err
    rows = pq.read_table(tmp_path / "encoder" / "ledger.parquet").to_pylist()
    assert sum(row["status"] == "rejected" for row in rows) > len(rows) / 2


@pytest.mark.parametrize("left", [b"{", b"[]", b'{"run": "another"}', None])
def test_an_encoder_of_somebody_else_is_not_overwritten(people, tmp_path, capfd, left):
    output = tmp_path / "encoder"
    output.mkdir()
    (output / "card.json").write_bytes(b"theirs")
    if left is not None:
        (output / "train.json").write_bytes(left)
    assert train(*scratch(people, output)) == 2
    assert "holds another encoder" in capfd.readouterr().err
    assert {path.name for path in output.iterdir()} <= {"card.json", "train.json"}


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--output", "x"], "name photos with --images, or a gallery with --gallery"),
        (["--images", "a", "--gallery", "b", "--output", "x"], "name photos with --images, or a gallery"),
        (["--images", "nowhere", "--output", "x"], "there is no folder"),
        (["--gallery", "nowhere", "--output", "x"], "nowhere"),
        (["--images", "people", "--output", "x", "--init", "nowhere"], "there is no encoder"),
        (["--images", "people", "--output", "x", "--init", "scratch", "--layers", "head"], "trains all layers"),
        (["--images", "people", "--output", "x", "--margin", "5"], "margin"),
        (["--images", "people", "--output", "x", "--max_steps", "0"], "--max_steps"),
        (["--images", "people", "--output", "x", "--seed", "-1"], "--seed"),
        (["--images", "people", "--output", "x", "--singles_per_batch", "-1"], "--singles_per_batch"),
        (["--images", "people", "--output", "x", "--weight_decay", "-1"], "weight decay"),
        (["--images", "people", "--output", "x", "--weight_decay", "nan"], "weight decay"),
        (["--images", "people", "--output", "x", "--seed", str(2**32)], "seed"),
        (["--images", "people", "--output", "x", "--people_per_batch", "1"], "a batch needs two people"),
        (["--images", "people", "--output", "x", "--embedding_size", "64"], "--embedding_size goes with"),
        (["--images", "people", "--output", "x", "--augmentation", "light"], "--augmentation does nothing"),
        (["--images", ".", "--output", "./x/y"], "lies among the photos"),
        (["--images", "people", "--output", "x", "--mining", "hard"], "--mining"),
        (["--images", "."], "--output"),
    ],
)
def test_wrong_usage_is_one_line(argv, said, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people").mkdir()
    try:
        status = cli.main(["train", *argv])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0]
    assert not (tmp_path / "x" / "card.json").exists()


def test_too_few_people_are_told(people, tmp_path, capfd):
    one = tmp_path / "one"
    one.mkdir()
    (one / "madonna").symlink_to(people / "madonna")
    assert train(*scratch(one, tmp_path / "encoder")) == 2
    assert "two people" in capfd.readouterr().err
    assert pq.read_table(tmp_path / "encoder" / "ledger.parquet").num_rows == 7, "photos are accounted for all the same"
