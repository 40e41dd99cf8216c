"""celebface build-gallery with relabelled photos: what it says, keeps out, and writes for people."""

import json
import pathlib
import shutil

import pyarrow.parquet as pq
import pytest

from celebface.pipelines import cli

# Photos of the sample that are put under another name: who they show, and who they are said to show.
MOVED = {"jerry_seinfeld": "mindy_kaling", "ben_afflek": "jerry_seinfeld"}


@pytest.fixture(scope="module")
def people(sample, tmp_path_factory) -> pathlib.Path:
    """Eight photos each of three people, and two that are under the wrong name."""
    folder = tmp_path_factory.mktemp("people")
    for person in ("ben_afflek", "jerry_seinfeld", "mindy_kaling"):
        photos = sorted((sample / person).glob("*.jpg"))
        (folder / person).mkdir(exist_ok=True)
        for photo in photos[:8]:
            shutil.copy(photo, folder / person)
        if person in MOVED:
            (folder / MOVED[person]).mkdir(exist_ok=True)
            shutil.copy(photos[8], folder / MOVED[person] / "moved.jpg")
    return folder


def build(people: pathlib.Path, root: pathlib.Path, *flags: str) -> pathlib.Path:
    """Builds a gallery; returns its version."""
    arguments = [f"--source={people}", f"--output_root={root}", "--num_shards=2", "--direct_num_workers=1"]
    assert cli.main(["build-gallery", *arguments, *flags]) == 0
    gallery = root / "celebrities"
    return gallery / (gallery / "LATEST").read_text().strip()


def table(version: pathlib.Path, name: str) -> list[dict]:
    return [row for path in sorted(version.glob(f"{name}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def moved(people: pathlib.Path) -> set[str]:
    return {str(people / person / "moved.jpg") for person in MOVED.values()}


@pytest.fixture(scope="module")
def reported(people, tmp_path_factory) -> pathlib.Path:
    return build(people, tmp_path_factory.mktemp("galleries"))


def test_photos_from_files_are_reported_by_default_and_stay(reported, people):
    assert {row["uri"]: row["action"] for row in table(reported, "audit")} == dict.fromkeys(moved(people), "reported")
    ledger = {row["uri"]: row for row in table(reported, "ledger")}
    flags = {uri: row["flag"] for uri, row in ledger.items() if row["flag"]}
    assert flags == dict.fromkeys(moved(people), "wrong_person")
    assert {row["status"] for row in ledger.values()} == {"done"} and len(table(reported, "faces")) == 26
    assert json.loads((reported / "run.json").read_text())["audit"] == {
        "quarantined": {}, "reported": {"wrong_person": 2}, "close_pairs": 0
    }  # fmt: skip
    page = (reported / "audit.html").read_text()
    assert page.count("<article") == 2 and page.count("data:image/jpeg;base64,") == 10
    assert "audit.html" in json.loads((reported / "manifest.json").read_text())["files"]


def test_a_later_build_keeps_them_out_without_reading_them_again(reported, people, capsys):
    version = build(people, reported.parents[1], "--reuse=latest", "--audit=quarantine", "--max_failed_ratio=0.01")
    assert "audit: 2 quarantined: 2 wrong_person\n" in capsys.readouterr().out
    assert json.loads((version / "run.json").read_text())["stages"]["resume"]["noted"] == {"taken_over": 26}
    assert {row["uri"] for row in table(version, "quarantined")} == moved(people)
    assert {row["uri"] for row in table(version, "faces")}.isdisjoint(moved(people))
    rejected = {row["uri"]: row for row in table(version, "ledger") if row["status"] == "rejected"}
    assert {uri: (row["stage"], row["reason"]) for uri, row in rejected.items()} == dict.fromkeys(
        moved(people), ("audit", "wrong_person")
    )
    assert "to jerry_seinfeld; " in rejected[str(people / "mindy_kaling" / "moved.jpg")]["detail"]
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["counts"]["faces"] == 24 and manifest["counts"]["rejected"] == 2

    back = build(people, reported.parents[1], "--reuse=latest", "--audit=off")
    assert "audit:" not in capsys.readouterr().out
    assert len(table(back, "faces")) == 26 and table(back, "audit") == []
    assert not (back / "audit.html").exists()
    assert json.loads((back / "run.json").read_text())["stages"]["resume"]["noted"] == {"taken_over": 26}
