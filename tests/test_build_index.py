"""celebface build-index: a new version with the same shards and another index, from the command line."""

import dataclasses
import json
import pathlib
import shutil

import fakes
import numpy as np
import pytest

from celebface.indexing import annoy_index, hnsw_index, publish, storage, tombstones
from celebface.indexing.gallery import Gallery
from celebface.indexing.manifest import Manifest
from celebface.indexing.tombstones import Mark
from celebface.models.encoder_card import PREPROCESSING, EncoderCard
from celebface.models.networks import INCEPTION_RESNET_V1
from celebface.pipelines import bundle, cli, report

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
    assert {"annoy", "matplotlib", "jinja2"} <= manifest.code.keys()  # which decide what it holds

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


def test_an_old_version_does_not_become_the_latest_unasked(gallery, capsys):
    assert build_index(gallery / "v1", "--index_kind=exact") == 0  # it is the latest
    version, _ = latest(gallery)
    capsys.readouterr()
    assert build_index(gallery / "v1", "--index_kind=exact") == 2
    assert capsys.readouterr().err == (
        f"celebface build-index: v1 is not the latest version of {gallery}, and what is made of it would be: name "
        "another place with --output_root or --name, or go back to it first: celebface galleries rollback "
        f"{gallery} --to v1\n"
    )
    assert latest(gallery)[0] == version
    assert build_index(gallery / "v1", "--index_kind=exact", "--name=other") == 0


def while_it_runs(monkeypatch, happens) -> None:
    """Has something happen between the start of a run and its end."""
    complete = bundle.complete

    def complete_later(*given):
        happens()
        return complete(*given)

    monkeypatch.setattr(bundle, "complete", complete_later)


@pytest.mark.parametrize("named", ["", "v1"])
def test_a_version_published_meanwhile_is_not_undone(gallery, named, monkeypatch, capsys):
    while_it_runs(monkeypatch, lambda: (gallery / "LATEST").write_text("v2\n"))
    assert build_index(gallery / named, "--index_kind=exact") == 1
    assert "v1 is no longer the latest version of" in capsys.readouterr().err
    assert (gallery / "LATEST").read_text() == "v2\n"
    assert sorted(path.name for path in gallery.iterdir()) == ["LATEST", "v1"]


def test_what_was_taken_down_is_kept_out_of_the_other_gallery_too(gallery, tmp_path):
    gone = [(Mark.IDENTITY, fakes.person("Somebody").identity_id), (Mark.URI, tombstones.uri_hash("/gone.jpg"))]
    tombstones.add(str(gallery), gone)
    tombstones.add(str(tmp_path / "other" / "gallery"), [(Mark.FACE, "0123456789abcdef")])
    assert build_index(gallery, f"--output_root={tmp_path / 'other'}", "--index_kind=exact") == 0
    carried = tombstones.read(str(tmp_path / "other" / "gallery"))
    assert all(carried.has(*key) for key in (*gone, (Mark.FACE, "0123456789abcdef"))) and len(carried) == 3
    assert not tombstones.read(str(gallery)).has(Mark.FACE, "0123456789abcdef")


@pytest.mark.parametrize("flags", [[], ["--name=other"]], ids=["same", "other"])
@pytest.mark.parametrize("meanwhile", [False, True])
def test_what_was_taken_down_is_not_published_anew(gallery, flags, meanwhile, monkeypatch, capsys):
    def remove():
        tombstones.add(str(gallery), [(Mark.IDENTITY, fakes.person(PEOPLE[0]).identity_id)])

    while_it_runs(monkeypatch, remove) if meanwhile else remove()
    assert build_index(gallery, "--index_kind=exact", *flags) == 1
    err = capsys.readouterr().err
    assert f"of the rows of {gallery / 'v1'} were taken down since; nothing was published: index a version that" in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in gallery.iterdir()) == ["LATEST", "tombstones.json", "v1"]
    other = gallery.parent / "other"
    assert [path.name for path in other.iterdir()] == ["tombstones.json"] if flags else not other.exists()


def test_two_indexes_of_the_same_second_are_two_versions(gallery, monkeypatch):
    now = report.utc_now()
    monkeypatch.setattr(report, "utc_now", lambda: now)
    for recall in ("0.9", "0.95"):
        assert build_index(gallery, "--index_kind=exact", f"--min_recall={recall}", f"--name=at-{recall}") == 0
    one, two = (latest(gallery.parent / f"at-{recall}")[1] for recall in ("0.9", "0.95"))
    assert one.created == two.created and one.version != two.version


def test_a_store_that_ignores_preconditions_is_told_of(gallery, monkeypatch, capsys):
    monkeypatch.setattr(publish, "check_place", lambda gallery: False)
    assert build_index(gallery, "--index_kind=exact") == 0
    assert capsys.readouterr().err == (
        f"celebface build-index: the store of {gallery} ignores preconditions: of two commands that end together one "
        "may replace the other's version as the latest without a word\n"
    )


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
        "pip install '.[hnsw]' in celebface's folder\n"
    )


def test_a_gallery_of_another_format_is_wrong_usage(gallery, capsys):
    manifest = json.loads((gallery / "v1" / "manifest.json").read_text())
    (gallery / "v1" / "manifest.json").write_text(json.dumps({**manifest, "format": "celebface-gallery/3"}))
    assert build_index(gallery) == 2
    assert "has the format celebface-gallery/3" in capsys.readouterr().err
