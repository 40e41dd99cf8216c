"""galleries remove in a gallery that was audited: photos under wrong names, in quarantine and out of it."""

import dataclasses
import pathlib

import apache_beam as beam
import fakes
import pyarrow.parquet as pq
import pytest
from test_audit_shards import ROWS, SIZE, photo, write

from celebface.indexing import publish, removal, tombstones
from celebface.indexing.tombstones import Mark
from celebface.models.encoder_card import PREPROCESSING, EncoderCard
from celebface.models.networks import INCEPTION_RESNET_V1
from celebface.pipelines import audit_page, bundle, report, take_down
from celebface.pipelines.bundle import Vectors
from celebface.transforms import resume
from celebface.transforms.records import Outcome
from celebface.transforms.shard import ShardLayout, WriteShards

CARD = EncoderCard("fake", INCEPTION_RESNET_V1, SIZE, "0" * 64, PREPROCESSING)
SHARDS = 3
ZOE, BOB, CID = 0, 1, 2  # who a photo shows
HERS, HIS = "/p/bob/hers.jpg", "https://example.org/his.jpg"


def photos() -> list[Outcome]:
    """Four photos of each; one of Zoe under Bob's name, and one of Cid that is given for Zoe, too."""
    return [
        *(photo(f"/p/zoe/{n}.jpg", "zoe", ZOE, 20 + n) for n in range(4)),
        *(photo(f"/p/bob/{n}.jpg", "bob", BOB, 20 + n) for n in range(4)),
        *(photo(f"/p/cid/{n}.jpg", "cid", CID, 20 + n) for n in range(4)),
        photo(HERS, "bob", ZOE, 25),
        photo(HIS, "zoe", CID, 26),
        photo(HIS, "cid", CID, 26),
    ]


def publish_audited(folder: pathlib.Path, audit: str, made: list[Outcome]) -> pathlib.Path:
    """Publishes photos as a build does; returns the version."""
    write(folder, made, audit, SHARDS)
    assembled = str(folder / "version")
    ledger = report.count_ledger(assembled)
    run = {"items": dataclasses.asdict(ledger), "audit": dataclasses.asdict(report.count_audit(assembled))}
    report.write_json(f"{assembled}/run.json", run)
    audit_page.write_page(assembled)
    manifest = bundle.complete(assembled, Vectors(CARD, "float32"), ledger.counts, {"audit": audit})
    return pathlib.Path(publish.publish(assembled, str(folder / "gallery"), manifest))


def table(version: pathlib.Path, name: str) -> list[dict]:
    return [row for path in sorted(version.glob(f"{name}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def named(version: pathlib.Path, name: str) -> set[tuple[str, str]]:
    return {(row["identity"], row["uri"]) for row in table(version, name)}


def reuse(version: pathlib.Path, folder: pathlib.Path, taken_down: tombstones.Tombstones) -> pathlib.Path:
    """What a build that goes on from a version makes of it, with all that the audit keeps out."""
    places = []
    for tables in resume.version_shards(str(version)):
        known = resume.import_shard(tables, str(folder / "staging"), ROWS, SHARDS, taken_down)
        places += [(each.shard, each.place) for _, each in known if each.place]
    layout = ShardLayout(str(folder / "version"), "faces", ROWS, SHARDS, "face_id", audit="quarantine")
    with fakes.pipeline() as pipeline:
        _ = pipeline | beam.Create(places) | WriteShards(layout)
    return folder / "version"


@dataclasses.dataclass(frozen=True)
class Removed:
    """A gallery that Zoe was taken out of: its version before that and after, and its tombstones."""

    old: pathlib.Path
    new: pathlib.Path
    tombstones: tombstones.Tombstones


@pytest.fixture(scope="module")
def removed(tmp_path_factory) -> Removed:
    return remove_zoe(tmp_path_factory.mktemp("audited"), "quarantine", photos())


def remove_zoe(folder: pathlib.Path, audit: str, made: list[Outcome]) -> Removed:
    old = publish_audited(folder, audit, made)
    gallery = str(folder / "gallery")
    assert take_down.main([gallery, "--identity=zoe"]) == 0
    return Removed(old, pathlib.Path(publish.find_version(gallery)), tombstones.read(gallery))


def test_it_was_found_what_it_is_about(removed):
    assert named(removed.old, "quarantined") == {("bob", HERS), ("zoe", HIS)}
    assert {(row["uri"], row["other"]) for row in table(removed.old, "audit")} == {(HERS, "zoe"), (HIS, "cid")}
    audited = removal.read_audit(str(removed.old))
    assert audited.strangers == {row["face_id"] for row in table(removed.old, "quarantined")}


def test_her_face_under_another_name_goes_with_her(removed):
    (hers,) = (row for row in table(removed.old, "quarantined") if row["uri"] == HERS)
    assert set(removed.tombstones.dates[Mark.FACE]) == {hers["face_id"]}
    assert hers["content_sha256"] in removed.tombstones.dates[Mark.PHOTO]
    for name in ("faces", "ledger", "repeats", "quarantined", "audit"):
        assert not [row for row in table(removed.new, name) if "zoe" in str({**row, "crop_jpeg": b""})], name
        assert HERS not in {row["uri"] for row in table(removed.new, name)}
    assert table(removed.new, "quarantined") == table(removed.new, "audit") == []


def test_a_photo_that_was_wrongly_hers_stays_where_it_is_right(removed):
    assert named(removed.new, "faces") == {("bob", f"/p/bob/{n}.jpg") for n in range(4)} | {
        *(("cid", f"/p/cid/{n}.jpg") for n in range(4)), ("cid", HIS)
    }  # fmt: skip
    (his,) = (row for row in table(removed.new, "ledger") if row["uri"] == HIS)
    assert (his["identity"], his["status"], his["faces"]) == ("cid", "done", 1)
    assert his["content_sha256"] not in removed.tombstones.dates[Mark.PHOTO]


@pytest.mark.parametrize("which", ["old", "new"])
def test_a_later_build_brings_nothing_of_her_back(removed, tmp_path, which):
    version = reuse(getattr(removed, which), tmp_path, removed.tombstones)
    assert named(version, "faces") == named(removed.new, "faces")
    assert table(version, "quarantined") == []


def test_what_was_only_reported_goes_too(tmp_path, capsys):
    removed = remove_zoe(tmp_path, "report", photos())
    assert "1 face under another's name: the audit found whom it shows" in capsys.readouterr().out
    assert ("bob", HERS) in named(removed.old, "faces")
    assert named(removed.new, "faces") >= {("bob", f"/p/bob/{n}.jpg") for n in range(4)}
    assert HERS not in {row["uri"] for row in table(removed.new, "faces")}


def test_a_content_that_a_third_person_has_too_is_left_to_them(tmp_path):
    third = photo(HERS, "dan", 3, 25)  # the same bytes: as a group shows several people
    removed = remove_zoe(tmp_path, "quarantine", [*photos(), third])
    assert ("dan", HERS) in named(removed.new, "faces")
    assert ("bob", HERS) not in named(removed.new, "faces") | named(removed.new, "quarantined")
    assert third.ref.content_sha256 not in removed.tombstones.dates[Mark.PHOTO]
