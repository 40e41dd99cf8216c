"""Tables beside the rows, as a match job has them: written slice by slice, in order, the same bytes on any way."""

import pathlib

import apache_beam as beam
import fakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from celebface.indexing import schemas, storage
from celebface.indexing.schemas import Reason, Status
from celebface.models.faces import DecodedPhoto
from celebface.transforms import shard, stage, staged
from celebface.transforms.records import Outcome, photo_row, rejected, skipped
from celebface.transforms.shard import ShardLayout, WriteShards
from celebface.transforms.stage import StageOutcomes

TABLES = ("matches", "ledger", "photos", "faces")


def matched(number: int, faces: int = 1, thumbnail: bytes = b"\xff\xd8 a thumbnail") -> Outcome:
    """A photo with so many faces, each of them like two people."""
    ref = fakes.item(f"/photos/{number:04d}.jpg", "", "1-1", content_sha256=f"{number:064x}")
    rows, found = [], []
    for face in range(faces):
        box = [face, face + 1, face + 30, face + 40]
        probe = {"photo_uri": ref.uri, "face_id": f"{number:012x}{face:04x}", "box": box, "confidence": 0.5}
        found.append({**probe, "crop_jpeg": bytes([face]), "embedding": [0.5, number, -0.25] if face % 2 else None})
        for rank in (1, 2):
            who = {"identity": f"person {rank}", "identity_id": f"{rank:016x}", "distance": rank / 4, "margin": None}
            nearest = {"similarity": 50.0, "verdict": "match", "gallery_face_id": "f", "gallery_uri": "/a.jpg"}
            rows.append({**probe, "rank": rank, **who, **nearest})
    beside = {"photos": [photo_row(ref, DecodedPhoto(640, 480, thumbnail))], "faces": found}
    return Outcome(ref, Status.DONE, "match", faces=faces, shard_key=ref.item_id, rows=rows, beside=beside)


def lost(number: int, decoded: DecodedPhoto | None) -> Outcome:
    ref = fakes.item(f"/photos/{number:04d}.jpg", "", "1-1")
    return rejected(ref, "detect", Reason.NO_FACE, "the detector found no face", decoded)


def outcomes(count: int) -> list[Outcome]:
    """Photos in no order: with no, one and several faces, decoded or not."""
    found = []
    for number in range(count):
        number = number * 7919 % count
        if number % 5 == 3:
            found.append(lost(number, DecodedPhoto(200, 100, b"lost") if number % 2 else None))
        elif number % 5 == 4:
            ref = fakes.item(f"/photos/{number:04d}.jpg", "")
            found.append(skipped(ref, "list", Reason.UNSUPPORTED_TYPE, "a .txt file"))
        else:
            found.append(matched(number, faces=number % 5 + 1))
    return found


def layout(folder: pathlib.Path, shards: int) -> ShardLayout:
    return ShardLayout(str(folder / "results"), "matches", schemas.MATCHES, shards, beside=schemas.BESIDE_MATCHES)


def write(folder: pathlib.Path, given: list[Outcome], shards: int):
    """Stages and writes outcomes in a pipeline; returns its result."""
    into = layout(folder, shards)
    with fakes.pipeline() as pipeline:
        collections = (pipeline | beam.Create(given),)
        places = collections | StageOutcomes(str(folder / "staging"), into.rows, shards, into.beside)
        expected = [f"{table}-{n:05d}-of-{shards:05d}.parquet" for n in range(shards) for table in TABLES]
        assert_that(places | WriteShards(into), equal_to(expected))
    return pipeline.result


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "results").iterdir())}


def tables(folder: pathlib.Path, table: str) -> list[pa.Table]:
    return [pq.read_table(path) for path in sorted((folder / "results").glob(f"{table}-*"))]


def expected_rows(given: list[Outcome], table: str, shards: int) -> list[list[dict]]:
    """Rows of each shard, by photo."""
    found: list[list[dict]] = [[] for _ in range(shards)]
    for each in sorted(given, key=lambda each: each.ref.uri):
        rows = {"matches": each.rows, "ledger": [each.ledger_row()], **each.beside}.get(table, ())
        found[staged.shard_of(each.shard_key, shards)] += rows
    return found


@pytest.mark.parametrize("in_hand", [4096, 10, 1])
def test_each_table_has_the_rows_of_all_photos_in_order(tmp_path, monkeypatch, in_hand):
    monkeypatch.setattr(shard, "_IN_HAND", in_hand)
    monkeypatch.setattr(stage, "ITEMS_PER_PART", 7)
    given = outcomes(60)
    result = write(tmp_path, given, 3)
    schema = {"matches": schemas.MATCHES, "ledger": schemas.LEDGER, "photos": schemas.PHOTOS, "faces": schemas.PROBES}
    for table in TABLES:
        found = tables(tmp_path, table)
        assert all(each.schema.equals(schema[table]) for each in found)
        assert [each.to_pylist() for each in found] == expected_rows(given, table, 3)
    assert fakes.counters(result, "shard") == {"items_in": 60, "items_out": 60}


def test_slices_hold_as_many_photos_and_faces_as_are_bearable(monkeypatch):
    monkeypatch.setattr(shard, "_IN_HAND", 6)
    places = [staged.StagedRow("part", 0, row) for row in range(8)]
    faces = [0, 2, 1, 0, 0, 20, 5, 0]
    slices = list(shard._slices(list(zip(places, faces, strict=True))))
    assert [[place.row for place in each] for each in slices] == [[0, 1, 2], [3, 4], [5], [6], [7]]
    assert list(shard._slices([])) == []


def test_two_runs_write_the_same_bytes_whatever_the_order_and_the_batches(tmp_path, monkeypatch):
    given = outcomes(100)
    monkeypatch.setattr(shard, "_IN_HAND", 40)
    write(tmp_path / "1", given, 2)
    monkeypatch.setattr(stage, "ITEMS_PER_PART", 7)
    write(tmp_path / "2", given[::-1], 2)
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_shards_without_photos_have_their_files(tmp_path):
    write(tmp_path, [matched(1)], 3)
    for table in TABLES:
        assert sorted(map(len, tables(tmp_path, table))) == ([0, 0, 2] if table == "matches" else [0, 0, 1])


def test_what_is_found_is_in_the_order_that_it_is_read_in(tmp_path):
    places = []
    for each in outcomes(30):
        places += stage.write_part([each], str(tmp_path), schemas.MATCHES, 1, schemas.BESIDE_MATCHES)
    found = staged.in_order(place for _, place in places)
    table = staged.read_outcomes(place for place, _ in found)
    assert [faces for _, faces in found] == table["faces"].to_pylist()
    assert [staged.read_outcomes([place])["uri"][0].as_py() for place, _ in found] == table["uri"].to_pylist()


def test_tables_that_a_run_does_not_write_are_left_out(tmp_path):
    ((_, place),) = stage.write_part([matched(1)], str(tmp_path), schemas.MATCHES, 1)
    (record,) = staged.read_outcomes([place]).to_pylist()
    assert record.keys() == {*schemas.LEDGER.names, "shard", "rows"}
    ((_, place),) = stage.write_part([matched(2)], str(tmp_path), schemas.MATCHES, 1, schemas.BESIDE_MATCHES)
    (record,) = staged.read_outcomes([place]).to_pylist()
    assert record["photos_rows"][0]["thumbnail_jpeg"] == b"\xff\xd8 a thumbnail"
    assert record["faces"] == len(record["faces_rows"]) == 1


def test_rows_of_which_none_may_repeat_have_no_tables_beside_them(tmp_path):
    with pytest.raises(ValueError, match="photos, faces cannot be written beside rows of which none may repeat"):
        ShardLayout(str(tmp_path), "faces", schemas.MATCHES, 1, "face_id", beside=schemas.BESIDE_MATCHES)


def test_a_shard_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    write(tmp_path, outcomes(10), 1)
    before = files(tmp_path)

    def broken(places):
        raise OSError("no room")

    places = stage.write_part(outcomes(20), str(tmp_path / "more"), schemas.MATCHES, 1, schemas.BESIDE_MATCHES)
    monkeypatch.setattr(shard, "read_outcomes", broken)
    with pytest.raises(OSError, match="no room"):
        shard.write_by_slices(staged.in_order(place for _, place in places), 0, layout(tmp_path, 1))
    assert {name: data for name, data in files(tmp_path).items() if not name.endswith(".tmp")} == before
    assert set(storage.list_files(str(tmp_path / "results"))) == set(before)
