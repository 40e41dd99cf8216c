"""Outcomes kept in part files: read back as they were, and known again by a later run."""

import os

import fakes
import numpy as np
import pyarrow as pa
import pytest
from apache_beam import Create
from apache_beam.testing.util import assert_that, equal_to

from celebface.indexing import schemas, storage
from celebface.indexing.schemas import Reason
from celebface.transforms import stage
from celebface.transforms.records import Outcome, PhotoRef, rejected, skipped
from celebface.transforms.stage import ResumeStaged, StageOutcomes
from celebface.transforms.staged import StagedRow, read_outcomes, staging_schema

ROWS = schemas.faces_schema(4)
SHARDS = 3


def some_outcomes() -> list[Outcome]:
    """One of each kind, in no order."""
    return [
        fakes.photo_outcome("/photos/eve/2.jpg", "eve", vectors=fakes.unit_vectors(2, 4), crop=bytes(range(256))),
        rejected(PhotoRef.of("/photos/bob/1.jpg", "bob", "7-7"), "detect", Reason.NO_FACE, "no face was found"),
        fakes.photo_outcome("/photos/caf\udce9.jpg", "caf\\xe9", vectors=fakes.unit_vectors(1, 4, seed=1)),
        skipped(PhotoRef.of("/photos/a.txt", "a"), "list", Reason.UNSUPPORTED_TYPE, "a .txt file"),
        fakes.photo_outcome("/photos/ann/1.jpg", "ann", vectors=fakes.unit_vectors(1, 4, seed=2)),
    ]


def many_outcomes(count: int, faces: int = 1) -> list[Outcome]:
    """Outcomes that say they gave so many faces; what they gave is not there."""
    refs = [PhotoRef.of(f"/photos/{number:04d}.jpg", "", "1-1") for number in range(count)]
    return [Outcome(ref, schemas.Status.DONE, "encode", faces=faces, shard_key=ref.item_id) for ref in refs]


def kept_record(outcome: Outcome) -> dict[str, object]:
    """What is kept of an outcome."""
    shard = stage.shard_of(outcome.shard_key, SHARDS)
    return {**outcome.ledger_row(), "revision": outcome.ref.revision, "shard": shard, "rows": list(outcome.rows)}


def by_uri(outcomes: list[Outcome]) -> list[dict[str, object]]:
    return sorted(map(kept_record, outcomes), key=lambda record: record["uri"])


def parts_of(folder) -> list[int]:
    """Number of items in each part file."""
    return sorted(sum(1 for _ in stage.read_keys(part)) for part in stage.staged_parts(str(folder)))


def places_keep(expected: list[dict[str, object]]):
    """Matches (shard, StagedRow) under which just these outcomes are kept."""

    def check(keyed):
        table = read_outcomes(place for _, place in keyed)
        assert table.to_pylist() == expected
        for shard, place in keyed:
            assert read_outcomes([place])["shard"].to_pylist() == [shard]

    return check


# --- parts ------------------------------------------------------------------------------------------------------------


def test_outcomes_are_read_back_as_they_were(tmp_path):
    outcomes = some_outcomes()
    places = stage.write_part(outcomes, str(tmp_path), ROWS, SHARDS)
    table = read_outcomes(place for _, place in places)
    assert table.schema == staging_schema(ROWS)
    assert table.to_pylist() == by_uri(outcomes)
    assert [shard for shard, _ in places] == sorted(stage.shard_of(each.shard_key, SHARDS) for each in outcomes)


def test_vectors_and_crops_keep_their_types(tmp_path):
    vectors = np.array([[0.1, -0.2, 1e-30, 0.3], [1 / 3, np.pi, 0, -1]], np.float32)
    crop = bytes(range(256)) * 10
    places = stage.write_part([fakes.photo_outcome("/a.jpg", vectors=vectors, crop=crop)], str(tmp_path), ROWS, 1)
    rows = read_outcomes(place for _, place in places)["rows"].combine_chunks().flatten()
    embedding, jpeg = rows.field("embedding"), rows.field("crop_jpeg")
    assert embedding.type == pa.list_(pa.float32(), 4)
    assert embedding.flatten().to_numpy().tobytes() == vectors.tobytes()
    assert jpeg.type == pa.binary()
    assert jpeg.to_pylist() == [crop, crop]


def test_a_part_is_written_again_under_its_name(tmp_path):
    places = stage.write_part(some_outcomes(), str(tmp_path), ROWS, SHARDS)
    (part,) = stage.staged_parts(str(tmp_path))
    before = storage.read_bytes(part)
    assert stage.write_part(some_outcomes(), str(tmp_path), ROWS, SHARDS) == places
    assert stage.staged_parts(str(tmp_path)) == [part]
    assert storage.read_bytes(part) == before


def test_other_items_and_other_states_of_them_have_parts_of_their_own(tmp_path):
    for outcome in (
        fakes.photo_outcome("/a.jpg", revision="1-1"),
        fakes.photo_outcome("/a.jpg", revision="1-2"),
        fakes.photo_outcome("/b.jpg", revision="1-1"),
    ):
        stage.write_part([outcome], str(tmp_path), ROWS, SHARDS)
    assert parts_of(tmp_path) == [1, 1, 1]


def test_outcomes_of_several_parts_are_read_in_one_order(tmp_path):
    outcomes = some_outcomes()
    places = []
    for each in reversed(outcomes):
        places += [place for _, place in stage.write_part([each], str(tmp_path), ROWS, SHARDS)]
    assert read_outcomes(places).to_pylist() == by_uri(outcomes)
    assert read_outcomes(reversed(places)).to_pylist() == by_uri(outcomes)


def test_only_the_places_named_are_read(tmp_path):
    outcomes = some_outcomes()
    places = [place for _, place in stage.write_part(outcomes, str(tmp_path), ROWS, SHARDS)]
    found = [record for place in places for record in read_outcomes([place]).to_pylist()]
    assert sorted(found, key=lambda record: record["uri"]) == by_uri(outcomes)
    assert read_outcomes(places[1:4]).num_rows == 3
    assert read_outcomes([]) is None


@pytest.mark.parametrize(("key", "shard"), [("", 0), ("a", 3), ("ba7816bf8f01cfea", 0)])
def test_a_key_has_the_same_shard_on_every_machine(key, shard):
    assert stage.shard_of(key, 4) == shard
    assert stage.shard_of(key, 1) == 0


# --- staging in a pipeline --------------------------------------------------------------------------------------------


def test_staged_outcomes_are_kept_and_counted(tmp_path):
    outcomes = some_outcomes()
    with fakes.pipeline() as pipeline:
        places = (pipeline | Create(outcomes),) | StageOutcomes(str(tmp_path), ROWS, SHARDS)
        assert_that(places, places_keep(by_uri(outcomes)))
    assert sum(parts_of(tmp_path)) == 5
    assert fakes.counters(pipeline.result, "stage") == {"items_in": 5, "items_out": 5}


@pytest.mark.parametrize(
    ("count", "faces", "largest"), [(600, 1, 256), (50, 100, 21), (5, 5000, 1)], ids=["items", "faces", "crowds"]
)
def test_no_part_grows_without_bound(tmp_path, count, faces, largest):
    with fakes.pipeline() as pipeline:
        places = (pipeline | Create(many_outcomes(count, faces)),) | StageOutcomes(str(tmp_path), ROWS, SHARDS)
        assert_that(places, places_keep(by_uri(many_outcomes(count, faces))))
    assert max(parts_of(tmp_path)) == largest
    assert fakes.counters(pipeline.result, "stage") == {"items_in": count, "items_out": count}


def test_slow_work_is_kept_as_it_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "_SECONDS_PER_PART", -1)  # every outcome has taken longer
    with fakes.pipeline() as pipeline:
        places = (pipeline | Create(many_outcomes(5)),) | StageOutcomes(str(tmp_path), ROWS, SHARDS)
        assert_that(places, places_keep(by_uri(many_outcomes(5))))
    assert parts_of(tmp_path) == [1, 1, 1, 1, 1]


# --- a later run ------------------------------------------------------------------------------------------------------


def test_only_new_and_changed_photos_are_handed_out(tmp_path):
    names = {"kept": "/photos/kept.jpg", "kept, no UTF-8": "/photos/caf\udce9.jpg", "changed": "/photos/changed.jpg"}
    outcomes = [fakes.photo_outcome(uri, revision="1-1") for uri in names.values()]
    outcomes.append(fakes.photo_outcome("/photos/gone.jpg", revision="1-1"))
    outcomes.append(fakes.photo_outcome("/photos/unknown.jpg", revision=""))
    places = {}
    for shard, place in stage.write_part(outcomes, str(tmp_path), ROWS, SHARDS):
        places[read_outcomes([place])["item_id"][0].as_py()] = shard, place

    same = [PhotoRef.of(names["kept"], "ann", "1-1"), PhotoRef.of(names["kept, no UTF-8"], "ann", "1-1")]
    to_do = [
        PhotoRef.of(names["changed"], "ann", "1-2"),
        PhotoRef.of("/photos/new.jpg", "ann", "1-1"),
        PhotoRef.of(names["kept"], "bob", "1-1"),  # the same file, said to be of somebody else
        PhotoRef.of("/photos/unknown.jpg", "ann", ""),  # whether it changed cannot be known
    ]
    with fakes.pipeline() as pipeline:
        refs = pipeline | Create([(ref.item_id, ref) for ref in same + to_do])
        fresh, staged = refs | ResumeStaged(str(tmp_path))
        assert_that(fresh, equal_to(to_do), "Fresh")
        assert_that(staged, equal_to([places[ref.item_id] for ref in same]), "Staged")
    assert fakes.counters(pipeline.result, "resume") == {"items_in": 6, "items_out": 4}


def test_what_was_lost_to_its_place_is_tried_again(tmp_path):
    tried_again = {Reason.NOT_FOUND, Reason.UNREADABLE}
    refs = {reason: PhotoRef.of(f"/photos/{reason}.jpg", "ann", "1-1") for reason in Reason if reason}
    outcomes = [rejected(ref, "fetch", reason, "lost") for reason, ref in refs.items()]
    stage.write_part(outcomes, str(tmp_path), ROWS, SHARDS)
    with fakes.pipeline() as pipeline:
        fresh, _ = pipeline | Create([(ref.item_id, ref) for ref in refs.values()]) | ResumeStaged(str(tmp_path))
        assert_that(fresh, equal_to([refs[reason] for reason in tried_again]))
    counted = {"items_in": len(refs), "items_out": 2}
    assert fakes.counters(pipeline.result, "resume") == counted


def test_a_photo_kept_twice_is_taken_from_one_place(tmp_path):
    twice, other = fakes.photo_outcome("/photos/a.jpg"), fakes.photo_outcome("/photos/b.jpg")
    first = stage.write_part([twice], str(tmp_path), ROWS, SHARDS)
    second = stage.write_part([twice, other], str(tmp_path), ROWS, SHARDS)
    candidates = [
        (shard, place)
        for shard, place in first + second
        if read_outcomes([place])["item_id"].to_pylist() == [twice.ref.item_id]
    ]
    assert len(candidates) == 2
    with fakes.pipeline() as pipeline:
        fresh, staged = pipeline | Create([(twice.ref.item_id, twice.ref)]) | ResumeStaged(str(tmp_path))
        assert_that(fresh, equal_to([]), "Fresh")
        assert_that(staged, equal_to([min(candidates, key=lambda each: each[1].part)]), "Staged")


def test_the_first_run_has_everything_to_do(tmp_path):
    refs = [PhotoRef.of("/photos/a.jpg", "ann", "1-1"), PhotoRef.of("/photos/b.jpg", "ann", "")]
    with fakes.pipeline() as pipeline:
        keyed = pipeline | Create([(ref.item_id, ref) for ref in refs])
        fresh, staged = keyed | ResumeStaged(str(tmp_path / "not there yet"))
        assert_that(fresh, equal_to(refs), "Fresh")
        assert_that(staged, equal_to([]), "Staged")


def test_a_part_half_written_by_a_killed_worker_is_no_part(tmp_path):
    stage.write_part(some_outcomes(), str(tmp_path), ROWS, SHARDS)
    (part,) = stage.staged_parts(str(tmp_path))
    whole = storage.read_bytes(part)
    with open(f"{part}.0123abcd.tmp", "wb") as file:
        file.write(whole[: len(whole) // 2])
    assert stage.staged_parts(str(tmp_path)) == [part]
    assert len(os.listdir(tmp_path)) == 2


def test_a_reference_names_part_batch_and_row(tmp_path):
    outcomes = some_outcomes()
    places = stage.write_part(outcomes, str(tmp_path), ROWS, 1)
    (part,) = stage.staged_parts(str(tmp_path))
    assert places == [(0, StagedRow(part, 0, row)) for row in range(5)]
    refs = sorted((each.ref for each in outcomes), key=lambda ref: ref.item_id)
    assert list(stage.read_keys(part)) == [
        (ref.item_id, (ref.revision, 0, StagedRow(part, 0, row))) for row, ref in enumerate(refs)
    ]
