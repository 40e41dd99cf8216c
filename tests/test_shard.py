"""The final tables: their columns, their order, duplicates, and the same bytes whatever the way there."""

import pathlib

import apache_beam as beam
import fakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from celebface.indexing import schemas
from celebface.indexing.schemas import Reason
from celebface.transforms import shard, stage
from celebface.transforms.records import Outcome, PhotoRef, rejected, skipped
from celebface.transforms.shard import ShardLayout, WriteShards
from celebface.transforms.stage import StageOutcomes
from celebface.transforms.staged import read_outcomes, staging_schema

ROWS = schemas.faces_schema(4)

FACES_COLUMNS = {
    "face_id": "string",
    "identity": "string",
    "image_id": "string",
    "uri": "string",
    "source_page": "string",
    "licence": "string",
    "content_sha256": "string",
    "image_width": "int32",
    "image_height": "int32",
    "faces_in_image": "int32",
    "box": "fixed_size_list<element: int32>[4]",
    "confidence": "float",
    "landmarks": "fixed_size_list<element: fixed_size_list<element: float>[2]>[5]",
    "sharpness": "float",
    "crop_jpeg": "binary",
    "embedding": "fixed_size_list<element: float>[4]",
    "encoder_id": "string",
}
LEDGER_COLUMNS = {
    "item_id": "string",
    "uri": "string",
    "identity": "string",
    "status": "string",
    "stage": "string",
    "reason": "string",
    "detail": "string",
    "faces": "int32",
}


def columns(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) for field in schema}


def layout(folder: pathlib.Path, shards: int, unique: str = "face_id") -> ShardLayout:
    return ShardLayout(str(folder / "version"), "faces", ROWS, shards, unique)


def table_names(shards: int) -> list[str]:
    return [f"{name}-{n:05d}-of-{shards:05d}.parquet" for n in range(shards) for name in ("faces", "ledger")]


def write(folder: pathlib.Path, outcomes: list[Outcome], shards: int, unique: str = "face_id"):
    """Stages and writes outcomes in a pipeline; returns its result."""
    with fakes.pipeline() as pipeline:
        staged = (pipeline | beam.Create(outcomes),) | StageOutcomes(str(folder / "staging"), ROWS, shards)
        names = staged | WriteShards(layout(folder, shards, unique))
        assert_that(names, equal_to(table_names(shards)))
    return pipeline.result


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "version").iterdir())}


def tables(folder: pathlib.Path, table: str) -> list[pa.Table]:
    return [pq.read_table(path) for path in sorted((folder / "version").glob(f"{table}-*"))]


def rows(folder: pathlib.Path, table: str) -> list[dict]:
    return [row for each in tables(folder, table) for row in each.to_pylist()]


def copies(*uris: str, identity: str = "ann", faces: int = 1) -> list[Outcome]:
    """The same photo at several places."""
    vectors = fakes.unit_vectors(faces, 4)
    return [fakes.photo_outcome(uri, identity, vectors=vectors, content=b"the photo") for uri in uris]


def photos(count: int, crop: bytes = b"") -> list[Outcome]:
    """Photos of ten people, a copy and a loss among every ten."""
    found = []
    for number in range(count):
        uri, person = f"/photos/{number * 7919 % count:05d}.jpg", f"person {number % 10}"
        if number % 10 == 9:
            found.append(rejected(PhotoRef.of(uri, person, "1-1"), "detect", Reason.NO_FACE, "no face was found"))
        else:
            content = b"copied" if number % 10 == 8 else None
            vectors = fakes.unit_vectors(1 + number % 2, 4, seed=number)
            found.append(fakes.photo_outcome(uri, person, vectors=vectors, content=content, crop=crop + uri.encode()))
    return found


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_columns_are_those_of_the_contract(tmp_path):
    write(tmp_path, photos(20), 2)
    for faces, ledger in zip(tables(tmp_path, "faces"), tables(tmp_path, "ledger"), strict=True):
        assert columns(faces.schema) == FACES_COLUMNS
        assert list(columns(faces.schema)) == list(FACES_COLUMNS)
        assert columns(ledger.schema) == LEDGER_COLUMNS
        assert list(columns(ledger.schema)) == list(LEDGER_COLUMNS)
        assert not any(field.nullable for field in ledger.schema)


def test_a_matches_table_has_the_columns_of_the_contract():
    assert columns(schemas.MATCHES) == {
        "photo_uri": "string",
        "face_id": "string",
        "box": "fixed_size_list<item: int32>[4]",
        "confidence": "float",
        "rank": "int32",
        "identity": "string",
        "distance": "float",
        "similarity": "float",
        "verdict": "string",
        "margin": "float",
        "gallery_face_id": "string",
        "gallery_uri": "string",
    }


def test_rows_are_written_as_they_were_sorted_by_uri(tmp_path):
    outcomes = [fakes.photo_outcome(f"/photos/{n}.jpg", vectors=fakes.unit_vectors(2, 4, seed=n)) for n in range(12)]
    write(tmp_path, outcomes[::-1], 1)
    expected = [row for each in sorted(outcomes, key=lambda each: each.ref.uri) for row in each.rows]
    assert rows(tmp_path, "faces") == expected


def test_the_ledger_has_one_row_for_each_item(tmp_path):
    outcomes = [
        *photos(30),
        rejected(PhotoRef.of("/photos/caf\udce9.jpg", "eve"), "fetch", Reason.NOT_FOUND, "there is no such file"),
        skipped(PhotoRef.of("/photos/notes.txt", "eve"), "list", Reason.UNSUPPORTED_TYPE, "a .txt file"),
    ]
    result = write(tmp_path, outcomes, 3, unique="")
    expected = sorted((each.ledger_row() for each in outcomes), key=lambda row: row["uri"])
    assert sorted(rows(tmp_path, "ledger"), key=lambda row: row["uri"]) == expected
    for ledger in tables(tmp_path, "ledger"):
        assert ledger["uri"].to_pylist() == sorted(ledger["uri"].to_pylist())
    assert fakes.counters(result, "shard") == {"items_in": 32, "items_out": 32}


def test_items_of_one_key_land_in_one_shard(tmp_path):
    outcomes = photos(40)
    write(tmp_path, outcomes, 4, unique="")
    for number, (faces, ledger) in enumerate(zip(tables(tmp_path, "faces"), tables(tmp_path, "ledger"), strict=True)):
        mine = [each for each in outcomes if stage.shard_of(each.shard_key, 4) == number]
        assert sorted(ledger["item_id"].to_pylist()) == sorted(each.ref.item_id for each in mine)
        assert sorted(faces["face_id"].to_pylist()) == sorted(row["face_id"] for each in mine for row in each.rows)


@pytest.mark.parametrize("outcomes", [[], photos(1)], ids=["no item", "one item"])
def test_empty_shards_are_written_too(tmp_path, outcomes):
    result = write(tmp_path, outcomes, 5)
    assert list(files(tmp_path)) == sorted(table_names(5))
    assert sorted(map(len, tables(tmp_path, "ledger"))) == [0, 0, 0, 0, len(outcomes)]
    assert [columns(table.schema) for table in tables(tmp_path, "faces")] == [FACES_COLUMNS] * 5
    assert [columns(table.schema) for table in tables(tmp_path, "ledger")] == [LEDGER_COLUMNS] * 5
    assert fakes.counters(result, "shard") == {"items_in": len(outcomes), "items_out": len(outcomes)}


@pytest.mark.parametrize("shards", [0, -1])
def test_there_must_be_a_shard(tmp_path, shards):
    with pytest.raises(ValueError, match=f"at least one shard, not {shards}"):
        layout(tmp_path, shards)


# --- duplicates -------------------------------------------------------------------------------------------------------


def test_copies_of_a_photo_are_skipped_and_stay_in_the_ledger(tmp_path):
    outcomes = [
        *copies("/photos/c.jpg", "/photos/a.jpg", "/photos/b.jpg", faces=2),
        fakes.photo_outcome("/photos/d.jpg"),
    ]
    result = write(tmp_path, outcomes, 1)

    assert [(row["uri"], row["face_id"]) for row in rows(tmp_path, "faces")] == [
        ("/photos/a.jpg", outcomes[1].rows[0]["face_id"]),
        ("/photos/a.jpg", outcomes[1].rows[1]["face_id"]),
        ("/photos/d.jpg", outcomes[3].rows[0]["face_id"]),
    ]
    turned = {"status": "skipped", "stage": "shard", "reason": "duplicate", "faces": 0}
    detail = "the same photo as /photos/a.jpg"
    assert rows(tmp_path, "ledger") == [
        outcomes[1].ledger_row(),
        outcomes[3].ledger_row(),
        {**outcomes[2].ledger_row(), **turned, "detail": detail},
        {**outcomes[0].ledger_row(), **turned, "detail": detail},
    ]
    assert fakes.counters(result, "shard") == {"items_in": 4, "items_out": 2, "lost_duplicate": 2}


def test_copies_meet_in_one_shard(tmp_path):
    write(tmp_path, [*copies(*(f"/photos/{number}.jpg" for number in range(8))), *photos(20)], 4)
    holders = [
        {row["status"] for row in ledger.to_pylist() if row["uri"] in {f"/photos/{number}.jpg" for number in range(8)}}
        for ledger in tables(tmp_path, "ledger")
    ]
    assert sorted(map(sorted, holders)) == [[], [], [], ["done", "skipped"]]
    assert [row["uri"] for row in rows(tmp_path, "faces")].count("/photos/0.jpg") == 1


def test_a_photo_of_two_people_is_no_duplicate(tmp_path):
    outcomes = copies("/photos/ann/1.jpg", identity="ann") + copies("/photos/bob/1.jpg", identity="bob")
    result = write(tmp_path, outcomes, 2)
    assert sorted(row["identity"] for row in rows(tmp_path, "faces")) == ["ann", "bob"]
    assert fakes.counters(result, "shard") == {"items_in": 2, "items_out": 2}


def test_copies_stand_where_nothing_must_be_unique(tmp_path):
    outcomes = copies("/photos/a.jpg", "/photos/b.jpg")
    write(tmp_path, outcomes, 1, unique="")
    assert rows(tmp_path, "faces") == [outcomes[0].rows[0], outcomes[1].rows[0]]
    assert [row["status"] for row in rows(tmp_path, "ledger")] == ["done", "done"]


def test_a_table_without_duplicates_is_left_alone(tmp_path):
    places = stage.write_part(photos(5), str(tmp_path), ROWS, 1)
    table = read_outcomes(place for _, place in places)
    assert shard.mark_duplicates(table, "face_id") == (table, 0)
    empty = staging_schema(ROWS).empty_table()
    assert shard.mark_duplicates(empty, "face_id") == (empty, 0)


# --- the same bytes ---------------------------------------------------------------------------------------------------


def test_two_runs_write_the_same_bytes_whatever_the_order_and_the_batches(tmp_path, monkeypatch):
    outcomes = photos(300, crop=b"\xff\xd8" + bytes(8000))  # more than one page of crops in each file
    write(tmp_path / "1", outcomes, 3)
    monkeypatch.setattr(stage, "_ITEMS_PER_PART", 7)
    write(tmp_path / "2", outcomes[150:] + outcomes[:150][::-1], 3)
    assert len(stage.staged_parts(str(tmp_path / "2" / "staging"))) > len(
        stage.staged_parts(str(tmp_path / "1" / "staging"))
    )
    assert files(tmp_path / "1") == files(tmp_path / "2")
    assert {row["reason"] for row in rows(tmp_path / "1", "ledger")} == {"", "no_face", "duplicate"}


def test_a_run_that_goes_on_with_anothers_work_writes_the_same_bytes(tmp_path):
    outcomes = photos(40)
    write(tmp_path / "whole", outcomes, 2)
    staged = stage.write_part(outcomes[:25], str(tmp_path / "resumed" / "staging"), ROWS, 2)
    with fakes.pipeline() as pipeline:
        earlier = pipeline | "Earlier" >> beam.Create(staged)
        rest = pipeline | "Rest" >> beam.Create(outcomes[25:])
        now = (rest,) | StageOutcomes(str(tmp_path / "resumed" / "staging"), ROWS, 2)
        names = (now, earlier) | "All" >> beam.Flatten() | WriteShards(layout(tmp_path / "resumed", 2))
        assert_that(names, equal_to(table_names(2)))
    assert files(tmp_path / "resumed") == files(tmp_path / "whole")


def test_a_run_writes_over_what_a_killed_one_left(tmp_path):
    write(tmp_path, photos(20), 2)
    expected = files(tmp_path)
    (tmp_path / "version" / table_names(2)[0]).write_bytes(b"half a shard")
    write(tmp_path, photos(20), 2)
    assert files(tmp_path) == expected
