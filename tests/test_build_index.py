"""celebface build-index: a new version with the same shards and another index, from the command line."""

import dataclasses
import json
import pathlib
import shutil

import fakes
import numpy as np
import pytest

from celebface.indexing import annoy_index, hnsw_index, publish, storage
from celebface.indexing.gallery import Gallery
from celebface.indexing.manifest import Manifest
from celebface.models.encoder_card import INCEPTION_RESNET_V1, PREPROCESSING, EncoderCard
from celebface.pipelines import cli

VECTORS, PEOPLE = fakes.crowds([4] * 30, 16, 0.5)
CARD = EncoderCard("fake", INCEPTION_RESNET_V1, 16, "00" * 32, PREPROCESSING, evidence="LFW")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> pathlib.Path:
    """A root with one gallery of one version, v1."""
    root = tmp_path_factory.mktemp("galleries")
    version = pathlib.Path(fakes.gallery(str(root), VECTORS, PEOPLE, shards=4))
    found = Manifest.from_json((version / "manifest.json").read_bytes())
    (version / "run.json").write_text("{}")
    files = {name: entry for name, entry in fakes.manifest(str(version), "v1").files.items() if name != "manifest.json"}
    card = json.loads(CARD.to_json())
    whole = dataclasses.replace(
        found, encoder=card, encoder_id=CARD.encoder_id, files=files, counts={"faces": 120, "items": 120, "done": 120}
    )
    (version / "manifest.json").write_bytes(whole.to_json())
    return root


@pytest.fixture
def gallery(root, tmp_path) -> pathlib.Path:
    """<root>/<name> of a copy that a test may change."""
    shutil.copytree(root / "gallery", tmp_path / "galleries" / "gallery")
    return tmp_path / "galleries" / "gallery"


def latest(gallery: pathlib.Path) -> tuple[pathlib.Path, Manifest]:
    version = pathlib.Path(publish.find_version(str(gallery)))
    return version, Manifest.from_json((version / "manifest.json").read_bytes())


def build_index(gallery: pathlib.Path, *flags: str) -> int:
    return cli.main(["build-index", f"--gallery={gallery}", *flags])


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_a_new_version_has_the_same_faces_and_another_index(gallery, kind, capsys):
    old = gallery / "v1"
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    assert build_index(gallery, f"--index_kind={kind}", "--min_recall=0.95") == 0
    version, manifest = latest(gallery)
    assert version.name != "v1" and version.parent == gallery
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    shards = sorted(path.name for path in old.iterdir() if path.suffix in (".parquet", ".json"))
    assert sorted(path.name for path in version.iterdir() if path.is_file()) == shards
    for name in shards:
        if name != "manifest.json":
            assert (version / name).read_bytes() == (old / name).read_bytes()
    assert (manifest.index["kind"], manifest.index["recall_at_10"]) == (kind, 1.0)
    assert (version / "index" / "faces.hnsw").exists() == (kind == "hnsw")
    assert not (version / "index" / "faces.ann").exists()
    assert manifest.counts == {"faces": 120, "items": 120, "done": 120, "identities": 30}
    assert (manifest.encoder_id, manifest.precision) == (CARD.encoder_id, "float32")
    assert manifest.config["index"] == {"kind": kind, "min_recall": 0.95, "max_latency_ms": None, "parts": 0}
    assert manifest.config["indexed_from"] == "v1"
    assert manifest.config["shards"] == 2  # what the build was asked for stays

    answers = [Gallery.open(str(each)).nearest_people(VECTORS[:10], 3) for each in (old, version)]
    assert answers[0] == answers[1]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith(f"index {kind}, recall@1 1.0000, recall@10 1.0000, p99 ")
    assert lines[-1] == f"published {version}"
    assert not [path for path in gallery.iterdir() if path.name.startswith(".")]


def test_auto_shows_and_keeps_what_was_measured(gallery, capsys):
    assert build_index(gallery, "--index_kind=auto") == 0
    _, manifest = latest(gallery)
    assert [row["kind"] for row in manifest.index["measured"]] == ["exact", "annoy", "hnsw"]
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"index {kind} was left out: to look at all 120 faces is sooner" for kind in ("annoy", "hnsw")
    ]


def test_kinds_that_were_measured_are_shown_beside_each_other(gallery, capsys, monkeypatch):
    for module in (annoy_index, hnsw_index):
        monkeypatch.setattr(module, "FACES_PER_EFFORT", 0)
    assert build_index(gallery, "--index_kind=auto") == 0
    head, *rows, chosen, _ = map(str.split, capsys.readouterr().out.splitlines())
    assert head[:3] == ["index", "effort", "recall@1"]
    assert [row[:2] for row in rows] == [["exact", "in"], ["annoy", "500"], ["hnsw", "100"]]  # "in full"
    assert chosen[1].strip(",") in ("exact", "annoy", "hnsw")


def test_a_version_may_be_named_and_another_gallery_made(gallery, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    flags = [f"--output_root={elsewhere}", "--name=other", "--index_kind=exact"]
    assert build_index(gallery / "v1", *flags) == 0
    assert sorted(path.name for path in gallery.iterdir()) == ["LATEST", "v1"]
    version, manifest = latest(elsewhere / "other")
    assert manifest.config["indexed_from"] == "v1"
    assert len(Gallery.open(str(version))) == 120


def test_parts_are_built_by_workers_and_give_the_same_answers(gallery):
    assert build_index(gallery, "--index_parts=3", "--direct_num_workers=1") == 0
    version, manifest = latest(gallery)
    assert (manifest.index["kind"], manifest.index["parts"]) == ("annoy", 3)
    assert sorted(path.name for path in (version / "index").iterdir()) == [
        *[f"calibration.{ending}" for ending in ("json", "png", "svg")],
        *[f"faces-0000{number}.ann" for number in range(3)],
        *[f"labels-0000{number}.parquet" for number in range(3)],
        *[f"vectors-0000{number}.npy" for number in range(3)],
    ]
    queries = np.concatenate([VECTORS[:10], fakes.unit_vectors(10, 16, seed=1)])
    answers = [Gallery.open(str(each)).nearest_people(queries, 5) for each in (gallery / "v1", version)]
    assert answers[0] == answers[1]


def test_what_misses_its_mark_is_not_published(gallery, capsys):
    assert build_index(gallery, "--max_latency_ms=0.000001") == 1
    err = capsys.readouterr().err
    assert err.startswith(
        "celebface build-index: nothing was published: no index meets recall 0.99 within 1e-06 ms: annoy has recall@1 "
    )
    assert len(err.splitlines()) == 1
    assert latest(gallery)[0].name == "v1"


def test_a_damaged_shard_is_not_published(gallery, capsys):
    shard = next(iter(gallery.glob("v1/ledger-*.parquet")))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert build_index(gallery) == 1
    assert f"nothing was published: the gallery's {shard.name} is not what its manifest says" in capsys.readouterr().err
    assert latest(gallery)[0].name == "v1"


def test_a_missing_shard_is_not_published(gallery, capsys):
    next(iter(gallery.glob("v1/faces-*.parquet"))).unlink()
    assert build_index(gallery) == 1
    assert "nothing was published: the gallery lacks its faces-" in capsys.readouterr().err


def test_an_index_that_a_killed_run_left_is_not_taken_along(gallery, monkeypatch):
    real = storage.copy_file

    def copy_and_leave(source, target):
        real(source, target)
        left = pathlib.Path(target).parent / "index" / "faces.hnsw"
        if ".staging-" in target and not left.exists() and left.parent.parent.name.startswith(".staging-"):
            left.parent.mkdir(exist_ok=True)
            left.write_bytes(b"half an index")

    monkeypatch.setattr(storage, "copy_file", copy_and_leave)
    assert build_index(gallery, "--index_kind=exact") == 0
    version, manifest = latest(gallery)
    assert "index/faces.hnsw" not in manifest.files
    assert not (version / "index" / "faces.hnsw").exists()


@pytest.mark.parametrize(
    ("flags", "refusal"),
    [
        (["--gallery=nowhere"], "there is no gallery at "),
        ([], "the following arguments are required: --gallery"),
        (["--gallery={}", "--index_kind=faiss"], "argument --index_kind: invalid choice: 'faiss'"),
        (["--gallery={}", "--min_recall=1.5"], "argument --min_recall: invalid ratio value: '1.5'"),
        (["--gallery={}", "--max_latency_ms=0"], "argument --max_latency_ms: invalid above_zero value: '0'"),
        (["--gallery={}", "--index_parts=0"], "argument --index_parts: invalid positive value: '0'"),
        (["--gallery={}", "--name=../x"], "a gallery name consists of letters"),
        (["--gallery={}", "--photos=x"], "unknown argument --photos"),
    ],
)
def test_wrong_usage_is_one_line(gallery, flags, refusal, capsys):
    try:
        assert cli.main(["build-index", *(flag.format(gallery) for flag in flags)]) == 2
    except SystemExit as end:
        assert end.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"celebface build-index: {refusal}")
    assert len(err.splitlines()) == 1


def test_a_kind_that_is_not_installed_is_wrong_usage(gallery, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "usearch.index", None)
    assert build_index(gallery, "--index_kind=hnsw") == 2
    assert capsys.readouterr().err == (
        "celebface build-index: an index of the kind hnsw needs usearch, which is not installed: "
        "pip install 'celebface[hnsw]'\n"
    )


def test_a_gallery_of_another_format_is_wrong_usage(gallery, capsys):
    manifest = json.loads((gallery / "v1" / "manifest.json").read_text())
    (gallery / "v1" / "manifest.json").write_text(json.dumps({**manifest, "format": "celebface-gallery/3"}))
    assert build_index(gallery) == 2
    assert "has the format celebface-gallery/3" in capsys.readouterr().err
