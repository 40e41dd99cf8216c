"""celebface build-gallery, whole, with the real models."""

import hashlib
import json
import pathlib
import shutil
import signal
import subprocess
import sys

import apache_beam as beam
import fakes
import numpy as np
import pyarrow.parquet as pq
import pytest

from celebface.indexing import publish, schemas, storage, versions
from celebface.pipelines import build_gallery, cli
from celebface.pipelines.report import LedgerCounts
from celebface.transforms import shard

PEOPLE = {"ben_afflek": 14, "elton_john": 16, "jerry_seinfeld": 21, "madonna": 19, "mindy_kaling": 22}


def latest(gallery: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(publish.find_version(str(gallery)))


def table(version: pathlib.Path, name: str):
    return [row for path in sorted(version.glob(f"{name}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def run_json(version: pathlib.Path) -> dict:
    return json.loads((version / "run.json").read_text())


def test_the_sample_becomes_a_gallery_of_five_people(gallery, sample):
    version = latest(gallery)
    faces = table(version, "faces")
    counts = {person: sum(face["identity"] == person for face in faces) for person in PEOPLE}
    assert counts == PEOPLE
    assert len({face["face_id"] for face in faces}) == len(faces) == 92
    photos = {str(path) for path in sample.glob("*/*.jpg")}
    ledger = table(version, "ledger")
    assert {row["uri"] for row in ledger} == photos and len(ledger) == len(photos) == 93
    lost = [(row["status"], row["stage"], row["reason"], row["faces"]) for row in ledger if row["status"] != "done"]
    assert lost == [("rejected", "detect", "no_face", 0)]


def test_rows_hold_what_the_contract_says(gallery):
    version = latest(gallery)
    shards = sorted(version.glob("faces-*.parquet"))
    assert [path.name for path in shards] == [f"faces-{i:05d}-of-00004.parquet" for i in range(4)]
    assert pq.read_schema(shards[0]).equals(schemas.faces_schema(128))
    card = json.loads((version / "manifest.json").read_text())["encoder"]
    for face in table(version, "faces"):
        x0, y0, x1, y1 = face["box"]
        assert 0 <= x0 < x1 <= face["image_width"] and 0 <= y0 < y1 <= face["image_height"]
        assert np.isclose(np.linalg.norm(face["embedding"]), 1, atol=1e-5)
        assert face["crop_jpeg"].startswith(b"\xff\xd8") and face["encoder_id"] == card["encoder_id"]
        data = pathlib.Path(face["uri"]).read_bytes()
        assert face["content_sha256"] == hashlib.sha256(data).hexdigest()


def test_the_manifest_tells_the_truth(gallery):
    version = latest(gallery)
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["version"] == version.name == (gallery / "LATEST").read_text().strip()
    assert manifest["counts"] == {"faces": 92, "identities": 5, "items": 93, "done": 92, "rejected": 1}
    assert manifest["index"]["recall_at_10"] >= 0.99
    on_disk = {str(path.relative_to(version)) for path in version.rglob("*") if path.is_file()} - {"manifest.json"}
    assert set(manifest["files"]) == on_disk
    for name, entry in manifest["files"].items():
        data = (version / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def test_nothing_but_the_version_stays_behind(gallery):
    assert {path.name for path in gallery.iterdir()} == {"LATEST", latest(gallery).name}


def test_the_stages_reconcile(gallery):
    stages = run_json(latest(gallery))["stages"]
    assert stages["list"]["items_in"] == 93
    assert stages["detect"] | {"seconds": None} == {
        "items_in": 93, "items_out": 92, "lost": {"no_face": 1}, "noted": {}, "seconds": None
    }  # fmt: skip
    assert stages["encode"]["items_in"] == stages["encode"]["items_out"] == 92


def test_the_same_photos_give_the_same_bytes_from_two_processes(gallery, tmp_path):
    arguments = [f"--output_root={tmp_path}", "--name=sample", "--direct_num_workers=2"]
    assert cli.main(["build-gallery", *arguments]) == 0
    first, second = latest(gallery), latest(tmp_path / "sample")
    assert run_json(second)["workers"] == 2
    files = {name: entry for name, entry in json.loads((first / "manifest.json").read_text())["files"].items()}
    again = {name: entry for name, entry in json.loads((second / "manifest.json").read_text())["files"].items()}
    del files["run.json"], again["run.json"]  # it holds times
    assert files == again


def people_folder(sample: pathlib.Path, folder: pathlib.Path, copies: int) -> pathlib.Path:
    """Photos whose content differs although they look alike: bytes behind a JPEG's end are not read."""
    for photo in sorted(sample.glob("madonna/*.jpg"))[:10]:
        (folder / "madonna").mkdir(parents=True, exist_ok=True)
        for copy in range(copies):
            (folder / "madonna" / f"{copy}-{photo.name}").write_bytes(photo.read_bytes() + b"%d" % copy)
    return folder


def test_a_run_that_fails_after_its_work_is_finished_by_the_next(sample, tmp_path, monkeypatch):
    source = people_folder(sample, tmp_path / "people", 1)
    arguments = ["build-gallery", f"--source={source}", f"--output_root={tmp_path}"]

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(shard, "write_shard", fail)
        with pytest.raises(OSError, match="disk full"):
            cli.main(arguments)
    assert not (tmp_path / "celebrities" / "LATEST").exists()
    (source / "madonna" / "new.jpg").write_bytes(sorted(sample.glob("elton_john/*.jpg"))[0].read_bytes())
    assert cli.main(arguments) == 0
    stages = run_json(latest(tmp_path / "celebrities"))["stages"]
    assert (stages["resume"]["items_in"], stages["resume"]["items_out"]) == (11, 1)
    assert stages["detect"]["items_in"] == 1
    assert len(table(latest(tmp_path / "celebrities"), "ledger")) == 11


def test_a_killed_run_leaves_latest_alone_and_the_next_goes_on(sample, tmp_path):
    root = tmp_path / "galleries"
    source = people_folder(sample, tmp_path / "people", 36)
    small = people_folder(sample, tmp_path / "small", 1)
    assert cli.main(["build-gallery", f"--source={small}", f"--output_root={root}"]) == 0
    before = (root / "celebrities" / "LATEST").read_text()
    arguments = ["build-gallery", f"--source={source}", f"--output_root={root}", "--direct_num_workers=1"]
    process = subprocess.Popen([sys.executable, "-m", "celebface.pipelines.cli", *arguments])
    while not list(root.glob("celebrities/.staging-*/part-*.arrow")):
        with pytest.raises(subprocess.TimeoutExpired):  # it must not end before it is killed
            process.wait(timeout=0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (root / "celebrities" / "LATEST").read_text() == before
    assert cli.main(arguments) == 0
    version = latest(root / "celebrities")
    assert version.name != before.strip()
    resume = run_json(version)["stages"]["resume"]
    assert resume["items_in"] == 360
    assert 0 < resume["items_out"] < 360  # a part was kept, and it came while there was work left
    ledger = table(version, "ledger")
    assert len(ledger) == 360 and {row["status"] for row in ledger} == {"done"}


def test_the_same_photo_twice_is_indexed_once(sample, tmp_path):
    source = tmp_path / "people"
    shutil.copytree(sample / "madonna", source / "madonna")
    first, other = sorted((source / "madonna").glob("*.jpg"))[:2]
    shutil.copy(first, source / "madonna" / "zz-again.jpg")
    shutil.copytree(
        source / "madonna", source / "somebody_else", ignore=lambda folder, names: set(names) - {other.name}
    )
    assert cli.main(["build-gallery", f"--source={source}", f"--output_root={tmp_path}"]) == 0
    version = latest(tmp_path / "celebrities")
    ledger = {row["uri"]: row for row in table(version, "ledger")}
    again = ledger[str(source / "madonna" / "zz-again.jpg")]
    assert (again["status"], again["stage"], again["reason"]) == ("skipped", "shard", "duplicate")
    assert again["detail"] == f"the same photo as {first}"
    assert ledger[str(first)]["status"] == "done"
    faces = table(version, "faces")
    same_photo = [face["identity"] for face in faces if face["uri"].endswith(other.name)]
    assert sorted(same_photo) == ["madonna", "somebody_else"]  # two people said to be on one photo: both stand
    assert len({face["face_id"] for face in faces}) == len(faces)


def test_nothing_is_published_without_a_face(tmp_path, capsys):
    (tmp_path / "people" / "nobody").mkdir(parents=True)
    (tmp_path / "people" / "nobody" / "x.jpg").write_bytes(b"no photo")
    assert cli.main(["build-gallery", f"--source={tmp_path / 'people'}", f"--output_root={tmp_path}"]) == 1
    gallery = tmp_path / "celebrities"
    assert not (gallery / "LATEST").exists()
    assert "no photo gave a face" in capsys.readouterr().err
    (failed,) = gallery.glob("failed-*")
    assert [row["reason"] for row in table(failed, "ledger")] == ["not_an_image"]


@pytest.mark.parametrize(
    ("ledger", "fault"),
    [
        (LedgerCounts(9, {}, {}, 3, {"photo": {"done": 3, "rejected": 6}}, {}), ""),
        (LedgerCounts(9, {}, {}, 0, {"photo": {"rejected": 9}}, {}), "no photo gave a face"),
        (
            LedgerCounts(9, {}, {"outlier": 2, "no_face": 7}, 0, {"photo": {"rejected": 9}}, {}),
            "the audit keeps every photo with a face out; --audit report leaves them in",
        ),
        (
            LedgerCounts(9, {}, {"outlier": 2}, 1, {"photo": {"done": 1, "rejected": 8}}, {}),
            "67% of the photos were rejected, --max_failed_ratio is 66%",
        ),
    ],
)
def test_why_nothing_is_published(tmp_path, ledger, fault):
    ratio = 0.66 if ledger.faces == 1 else 0.67
    config, _ = build_gallery.parse_args([f"--source={tmp_path}", f"--max_failed_ratio={ratio}"])
    assert build_gallery._fault(config, ledger) == fault


def test_what_goes_on_from_the_latest_version_must_follow_it(tmp_path, monkeypatch):
    root = str(tmp_path)
    version = fakes.gallery(root, fakes.unit_vectors(4, 16), list("abcd"))

    def based_on(*flags: str) -> str:
        given = [f"--source={tmp_path}", f"--output_root={root}", "--name=gallery", *flags]
        return build_gallery.parse_args(given)[0].based_on

    assert (based_on(), based_on("--reuse=latest"), based_on("--reuse=v1")) == ("", "v1", "v1")
    shutil.copytree(version, tmp_path / "gallery" / "v2")
    (tmp_path / "gallery" / "LATEST").write_text("v2\n")
    assert (based_on(), based_on("--reuse=latest"), based_on("--reuse=v1")) == ("", "v2", "")
    monkeypatch.setattr(versions, "latest", lambda gallery: "v3")  # published since v2 was found
    assert based_on("--reuse=latest") == "v2"


def test_a_broken_budget_publishes_nothing_but_keeps_the_ledger(sample, tmp_path, capsys):
    source = people_folder(sample, tmp_path / "people", 1)
    for number in range(10):
        (source / "madonna" / f"bad-{number}.jpg").write_bytes(b"no photo")
    arguments = ["build-gallery", f"--source={source}", f"--output_root={tmp_path}", "--max_failed_ratio=0.4"]
    assert cli.main(arguments) == 1
    assert "50% of the photos were rejected" in capsys.readouterr().err
    (failed,) = (tmp_path / "celebrities").iterdir()  # no LATEST, no staging
    assert sorted(path.name for path in failed.iterdir()) == [
        *(f"ledger-{number:05d}-of-00004.parquet" for number in range(4)),
        "run.json",
    ]
    assert len(table(failed, "ledger")) == 20


def test_an_index_that_misses_its_mark_is_not_published_and_the_same_command_goes_on(sample, tmp_path, capsys):
    source = people_folder(sample, tmp_path / "people", 1)
    arguments = ["build-gallery", f"--source={source}", f"--output_root={tmp_path}", "--index_kind=exact"]
    assert cli.main([*arguments, "--max_latency_ms=0.000001"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(
        "celebface build-gallery: nothing was published: no index meets recall 0.99 within 1e-06 ms: "
    )
    assert "the same command goes on from here" in err and len(err.splitlines()) == 1
    gallery = tmp_path / "celebrities"
    (failed,) = gallery.glob("failed-*")
    assert len(table(failed, "ledger")) == 10
    assert not (gallery / "LATEST").exists()
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "10 photos taken over from an earlier run" in out
    assert "index exact, recall@1 1.0000, recall@10 1.0000, p99 " in out
    manifest = json.loads((latest(gallery) / "manifest.json").read_text())
    assert manifest["config"]["index"] == {"kind": "exact", "min_recall": 0.99, "max_latency_ms": None, "parts": 0}
    assert not [path for path in gallery.iterdir() if path.name.startswith(".")]


def test_an_item_that_vanishes_on_the_way_fails_the_run(sample, tmp_path, monkeypatch):
    source = people_folder(sample, tmp_path / "people", 1)
    monkeypatch.setattr(build_gallery, "DescribeFaces", LoseOne)
    with pytest.raises(build_gallery.report.DoesNotReconcile):
        cli.main(["build-gallery", f"--source={source}", f"--output_root={tmp_path}"])
    assert not storage.exists(str(tmp_path / "celebrities" / "LATEST"))


class LoseOne(build_gallery.DescribeFaces):
    """Drops a photo without a word."""

    def expand(self, photos):
        return super().expand(photos) | "Lose" >> beam.Filter(lambda outcome: "closermag" not in outcome.ref.uri)
