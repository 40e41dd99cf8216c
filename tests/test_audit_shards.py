"""The audit in the pipeline: quarantine, report, evidence, and the same bytes whatever the way there."""

import collections
import pathlib

import apache_beam as beam
import fakes
import numpy as np
import pyarrow.parquet as pq
import pytest

from celebface.indexing import schemas
from celebface.indexing.schemas import OF_THE_AUDIT, Finding, Flag, Reason
from celebface.pipelines import report
from celebface.transforms import resume, stage
from celebface.transforms.records import Outcome, rejected
from celebface.transforms.shard import ShardLayout, WriteShards
from celebface.transforms.staged import StagedRow

SIZE = 32
ROWS = schemas.faces_schema(SIZE)
TABLES = ("faces", "ledger", "repeats", "quarantined", "audit")
AXES = np.eye(SIZE, dtype=np.float32)


def photo(uri: str, who: str, shows: int, own: int = 0, found: int = 1) -> Outcome:
    """A photo named after somebody that shows person `shows`, in a way of its own if that is wanted."""
    vectors = fakes.unit((AXES[shows] + 0.3 * (AXES[own] if own else 0))[None])
    return fakes.photo_outcome(uri, who, vectors=vectors, found=found)


def photos() -> list[Outcome]:
    return [
        *(photo(f"/p/ann/{n}.jpg", "ann", 0, 20 + n) for n in range(4)),
        *(photo(f"/p/bob/{n}.jpg", "bob", 1, 20 + n) for n in range(4)),
        photo("/p/ann/wrong.jpg", "ann", 1, 24, found=3),
        photo("https://example.org/wrong.jpg", "bob", 0, 25),
        photo("/p/bob/stranger.jpg", "bob", 2),
        photo("/p/cid/1.jpg", "cid", 3),
        photo("/p/cid/2.jpg", "cid", 4),
        photo("/p/dan/1.jpg", "dan", 5, 26),
        photo("/p/eve/1.jpg", "eve", 5, 27),
        rejected(fakes.item("/p/bob/none.jpg", "bob", "1-1"), "detect", Reason.NO_FACE, "no face was found"),
    ]


WRONG = {
    "/p/ann/wrong.jpg": "wrong_person",
    "https://example.org/wrong.jpg": "wrong_person",
    "/p/bob/stranger.jpg": "outlier",
    "/p/cid/1.jpg": "doubtful",
    "/p/cid/2.jpg": "doubtful",
}


def write(folder: pathlib.Path, outcomes: list[Outcome], audit: str, shards: int = 3):
    """Stages and writes outcomes in a pipeline; returns the counters of the stage."""
    layout = ShardLayout(str(folder / "version"), "faces", ROWS, shards, "face_id", audit=audit)
    with fakes.pipeline() as pipeline:
        staged = (pipeline | beam.Create(outcomes),) | stage.StageOutcomes(str(folder / "staging"), ROWS, shards)
        _ = staged | WriteShards(layout)
    return fakes.counters(pipeline.result, "shard")


def rows(folder: pathlib.Path, table: str) -> list[dict]:
    return [row for path in sorted((folder / "version").glob(f"{table}-*")) for row in pq.read_table(path).to_pylist()]


def ledger(folder: pathlib.Path) -> dict[str, dict]:
    return {row["uri"]: row for row in rows(folder, "ledger")}


def uris(folder: pathlib.Path, table: str) -> set[str]:
    return {row["uri"] for row in rows(folder, table)}


@pytest.fixture(scope="module")
def quarantined(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("quarantined")
    counted = write(folder, photos(), "quarantine")
    assert counted == {
        "items_in": 16, "items_out": 11, "lost_doubtful": 2, "lost_outlier": 1, "lost_wrong_person": 2
    }  # fmt: skip
    return folder


def test_photos_in_quarantine_are_kept_apart_with_all_that_was_found_of_them(quarantined, tmp_path):
    assert uris(quarantined, "quarantined") == WRONG.keys()
    right = {each.ref.uri for each in photos() if each.rows} - WRONG.keys()
    assert uris(quarantined, "faces") == right
    write(tmp_path, photos(), "off")
    faces = {row["uri"]: row for row in rows(tmp_path, "faces")}
    assert {row["uri"]: row for row in rows(quarantined, "quarantined")} == {uri: faces[uri] for uri in WRONG}


def test_each_item_has_one_row_of_the_ledger_that_says_why(quarantined):
    lines = ledger(quarantined)
    assert lines.keys() == {each.ref.uri for each in photos()} and len(rows(quarantined, "ledger")) == 16
    for uri, row in lines.items():
        if uri in WRONG:
            assert (row["status"], row["stage"], row["reason"]) == ("rejected", "audit", WRONG[uri])
            assert (row["faces"], row["flag"]) == (0, "")
        elif uri != "/p/bob/none.jpg":
            assert (row["status"], row["stage"], row["reason"], row["faces"]) == ("done", "encode", "", 1)
    assert lines["/p/bob/none.jpg"]["reason"] == "no_face"


def test_the_evidence_is_told_in_words(quarantined):
    details = {uri: ledger(quarantined)[uri]["detail"] for uri in WRONG}
    assert details["/p/ann/wrong.jpg"] == (
        "2 of 3 faces left out; D 0.11 to bob; D 2.00 to the others of ann (4 agree); 3 faces on the photo, "
        "perhaps the wrong one was taken"
    )
    assert details["/p/bob/stranger.jpg"].startswith("D 2.00 to the others of bob (4 agree); D 2.00 to ")
    assert details["/p/cid/1.jpg"].startswith("the photos of cid disagree (the nearest is at D 2.00); D 2.00 to ")


def test_the_table_of_findings_holds_the_evidence(quarantined):
    found = rows(quarantined, "audit")
    assert pq.read_schema(next((quarantined / "version").glob("audit-*"))).equals(schemas.AUDIT)
    faces = {row["uri"]: row for row in found if row["face_id"]}
    assert {uri: row["finding"] for uri, row in faces.items()} == WRONG
    assert {row["action"] for row in faces.values()} == {"quarantined"}
    by_uri = {row["uri"]: row["face_id"] for row in rows(quarantined, "quarantined")}
    assert {uri: row["face_id"] for uri, row in faces.items()} == by_uri
    wrong = faces["/p/ann/wrong.jpg"]
    assert (wrong["identity"], wrong["other"], wrong["support"], wrong["faces_in_image"]) == ("ann", "bob", 4, 3)
    assert wrong["other_id"] == fakes.person("bob").identity_id
    assert wrong["near_distance"] < 0.2 and wrong["own_distance"] > 1.9
    (pair,) = (row for row in found if not row["face_id"])
    assert (pair["finding"], pair["action"]) == ("close_pair", "reported")
    assert {pair["identity"], pair["other"]} == {"dan", "eve"}


def test_a_report_keeps_the_photos_and_flags_them(tmp_path):
    counted = write(tmp_path, photos(), "report")
    assert counted == {"items_in": 16, "items_out": 16}
    assert rows(tmp_path, "quarantined") == [] and uris(tmp_path, "faces") > WRONG.keys()
    lines = ledger(tmp_path)
    assert {uri: row["flag"] for uri, row in lines.items() if row["flag"]} == WRONG
    assert {lines[uri]["status"] for uri in WRONG} == {"done"}
    assert lines["/p/bob/stranger.jpg"]["detail"].startswith("D 2.00 to the others of bob (4 agree); D 2.00 to ")
    assert {row["action"] for row in rows(tmp_path, "audit")} == {"reported"}


def test_by_itself_it_keeps_out_what_is_from_the_web(tmp_path):
    write(tmp_path, photos(), "auto")
    assert uris(tmp_path, "quarantined") == {"https://example.org/wrong.jpg"}
    actions = {row["uri"]: row["action"] for row in rows(tmp_path, "audit") if row["face_id"]}
    assert actions == {uri: "quarantined" if uri.startswith("http") else "reported" for uri in WRONG}


def test_off_looks_at_nothing_but_writes_the_tables(tmp_path):
    assert write(tmp_path, photos(), "off") == {"items_in": 16, "items_out": 16}
    assert rows(tmp_path, "audit") == rows(tmp_path, "quarantined") == []
    assert {path.name.split("-")[0] for path in (tmp_path / "version").iterdir()} == set(TABLES)
    assert {row["flag"] for row in ledger(tmp_path).values()} == {""}


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_neither_order_nor_shards_change_what_is_found(quarantined, tmp_path, shards):
    write(tmp_path, photos()[::-1], "quarantine", shards)
    for table in TABLES:
        assert sorted(map(repr, rows(tmp_path, table))) == sorted(map(repr, rows(quarantined, table)))
    if shards == 3:
        for path in (quarantined / "version").iterdir():
            assert (tmp_path / "version" / path.name).read_bytes() == path.read_bytes()


def test_a_copy_is_no_second_opinion(tmp_path):
    """Bob's stranger is there in three copies: they are one photo, and the other two do not agree with it."""
    copies = [fakes.photo_outcome(f"/p/bob/{n}.jpg", "bob", vectors=AXES[2:3], content=b"copied") for n in range(3)]
    outcomes = [photo("/p/bob/a.jpg", "bob", 1, 20), photo("/p/bob/b.jpg", "bob", 1, 21), *copies]
    write(tmp_path, outcomes, "quarantine")
    reasons = {uri: row["reason"] for uri, row in ledger(tmp_path).items() if row["reason"]}
    assert reasons == {"/p/bob/0.jpg": "outlier", "/p/bob/1.jpg": "duplicate", "/p/bob/2.jpg": "duplicate"}
    assert uris(tmp_path, "repeats") == {"/p/bob/1.jpg", "/p/bob/2.jpg"}


def test_a_photo_given_for_two_people_is_decided_by_their_other_photos(tmp_path):
    both = [
        fakes.photo_outcome(f"/p/{who}/both.jpg", who, vectors=fakes.unit(AXES[:1] + 0.3 * AXES[24]), content=b"both")
        for who in ("ann", "bob")
    ]
    write(tmp_path, [*photos()[:8], *both], "quarantine")
    lines = ledger(tmp_path)
    assert (lines["/p/ann/both.jpg"]["status"], lines["/p/ann/both.jpg"]["flag"]) == ("done", "two_names")
    wrong = lines["/p/bob/both.jpg"]
    assert (wrong["reason"], wrong["flag"]) == ("wrong_person", "")
    assert wrong["detail"].startswith("also given for ann; D 0.0")


def test_what_is_only_reported_is_still_said_to_have_two_names(tmp_path):
    both = [
        fakes.photo_outcome(f"/p/{who}/both.jpg", who, vectors=fakes.unit(AXES[:1] + 0.3 * AXES[24]), content=b"both")
        for who in ("ann", "bob")
    ]
    write(tmp_path, [*photos()[:8], *both], "report")
    wrong = ledger(tmp_path)["/p/bob/both.jpg"]
    assert (wrong["status"], wrong["flag"]) == ("done", "two_names")
    assert wrong["detail"].startswith("also given for ann; D 0.0")
    assert [row["finding"] for row in rows(tmp_path, "audit")] == ["wrong_person"]


@pytest.mark.parametrize("audit", ["off", "report", "quarantine"])
def test_a_later_build_has_what_is_in_quarantine_and_audits_anew(quarantined, tmp_path, audit):
    places: list[StagedRow] = []
    staging = tmp_path / "staging"
    for tables in resume.version_shards(str(quarantined / "version")):
        places += [
            (known.shard, known.place) for _, known in resume.import_shard(tables, str(staging), ROWS, 3) if known.place
        ]
    layout = ShardLayout(str(tmp_path / "version"), "faces", ROWS, 3, "face_id", audit=audit)
    with fakes.pipeline() as pipeline:
        _ = pipeline | beam.Create(places) | WriteShards(layout)
    write(tmp_path / "anew", photos(), audit)
    for path in (tmp_path / "anew" / "version").iterdir():
        assert (tmp_path / "version" / path.name).read_bytes() == path.read_bytes(), path.name


def test_an_unknown_way_to_audit_is_refused():
    with pytest.raises(ValueError, match="audit must be one of auto, off, report, quarantine, not maybe"):
        ShardLayout("x", "faces", ROWS, 1, audit="maybe")


def test_findings_reasons_and_flags_have_the_same_names():
    faces = {str(finding) for finding in Finding} - {str(Finding.CLOSE_PAIR)}
    assert {str(reason) for reason in OF_THE_AUDIT} == faces
    assert {str(flag) for flag in Flag} - {""} == faces


def test_quarantine_does_not_count_as_failed(quarantined):
    counts = report.count_ledger(str(quarantined / "version"))
    assert counts.photos == {"done": 10, "rejected": 6}
    assert counts.failed_ratio == 1 / 16


def test_the_findings_are_counted(quarantined):
    counts = report.count_audit(str(quarantined / "version"))
    assert counts == report.AuditCounts({"wrong_person": 2, "outlier": 1, "doubtful": 2}, {}, 1)


def test_faces_of_each_kind_are_as_many_as_the_photos(quarantined):
    tables = collections.Counter({table: len(rows(quarantined, table)) for table in TABLES})
    assert tables == {"faces": 10, "ledger": 16, "repeats": 0, "quarantined": 5, "audit": 6}
