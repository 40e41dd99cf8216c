"""Outcomes, and bytes of photos, kept in part files and read back as they were."""

import dataclasses
import hashlib
import io
import pathlib

import fakes
import numpy as np
import pyarrow as pa
import pytest
from apache_beam import Create
from apache_beam.testing.util import assert_that

from celebface.indexing import schemas, storage
from celebface.indexing.schemas import Reason
from celebface.transforms import progress, stage, staged
from celebface.transforms.records import ItemRef, Outcome, Person, Provenance, rejected, skipped
from celebface.transforms.stage import StageOutcomes
from celebface.transforms.staged import Known, StagedRow, StoredBytes, read_outcomes, staging_schema

ROWS = schemas.faces_schema(4)
SHARDS = 3


def some_outcomes() -> list[Outcome]:
    """One of each kind, in no order."""
    return [
        fakes.photo_outcome("/photos/eve/2.jpg", "eve", vectors=fakes.unit_vectors(2, 4), crop=bytes(range(256))),
        rejected(fakes.item("/photos/bob/1.jpg", "bob", "7-7"), "detect", Reason.NO_FACE, "no face was found"),
        fakes.photo_outcome("/photos/caf\udce9.jpg", "caf\\xe9", vectors=fakes.unit_vectors(1, 4, seed=1)),
        skipped(fakes.item("/photos/a.txt", "a"), "list", Reason.UNSUPPORTED_TYPE, "a .txt file"),
        fakes.photo_outcome("/photos/ann/1.jpg", "ann", vectors=fakes.unit_vectors(1, 4, seed=2)),
    ]


def many_outcomes(count: int, faces: int = 1) -> list[Outcome]:
    """Outcomes that say they gave so many faces; what they gave is not there."""
    refs = [fakes.item(f"/photos/{number:04d}.jpg", "", "1-1") for number in range(count)]
    return [Outcome(ref, schemas.Status.DONE, "encode", faces=faces, shard_key=ref.item_id) for ref in refs]


def kept_record(outcome: Outcome) -> dict[str, object]:
    """What is kept of an outcome."""
    shard = stage.shard_of(outcome.shard_key, SHARDS)
    return {**outcome.ledger_row(), "shard": shard, "rows": list(outcome.rows)}


def by_uri(outcomes: list[Outcome]) -> list[dict[str, object]]:
    return sorted(map(kept_record, outcomes), key=lambda record: record["uri"])


def parts(folder: pathlib.Path) -> list[str]:
    return sorted(map(str, folder.iterdir()))


def parts_of(folder: pathlib.Path) -> list[int]:
    """Number of items in each part file."""
    sizes = []
    for part in folder.glob("part-*.arrow"):
        with pa.ipc.open_file(part.read_bytes()) as reader:
            sizes.append(reader.read_all().num_rows)
    return sorted(sizes)


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
    (part,) = parts(tmp_path)
    before = storage.read_bytes(part)
    assert stage.write_part(some_outcomes(), str(tmp_path), ROWS, SHARDS) == places
    assert parts(tmp_path) == [part]
    assert storage.read_bytes(part) == before


def test_an_attempt_that_comes_late_changes_nothing(tmp_path):
    """An engine may try a bundle twice at a time; what the slower one found, with a failing store, does not count."""
    before = stage.write_part(some_outcomes(), str(tmp_path), ROWS, SHARDS)
    kept = read_outcomes(place for _, place in before).to_pylist()
    late = [rejected(outcome.ref, "read", Reason.UNREADABLE, "the store failed") for outcome in some_outcomes()]
    stage.write_part(late, str(tmp_path), ROWS, SHARDS)
    assert read_outcomes(place for _, place in before).to_pylist() == kept


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


def test_a_reference_names_part_batch_and_row_and_who_is_on_the_photo(tmp_path):
    outcomes = some_outcomes()
    places = stage.write_part(outcomes, str(tmp_path), ROWS, SHARDS)
    (part,) = parts(tmp_path)
    batches: dict[int, list[Outcome]] = {}
    for each in sorted(outcomes, key=lambda each: each.ref.item_id):
        batches.setdefault(stage.shard_of(each.shard_key, SHARDS), []).append(each)
    expected = []
    for batch, (shard, members) in enumerate(sorted(batches.items())):
        for row, each in enumerate(members):
            sha256 = each.ref.content_sha256 if each.faces else ""
            person = each.ref.person
            expected.append((shard, StagedRow(part, batch, row, sha256, person.identity_id, person.name)))
    assert places == expected
    assert len(batches) > 1


def test_a_photo_that_gave_no_face_is_no_photo_of_two_people(tmp_path):
    ref = fakes.item("/photos/a.jpg", "ann", content_sha256="0123")
    ((_, place),) = stage.write_part([rejected(ref, "detect", Reason.NO_FACE, "")], str(tmp_path), ROWS, 1)
    assert place.content_sha256 == ""
    assert read_outcomes([place])["content_sha256"].to_pylist() == ["0123"]


OLD = {"revision": "", "etag": '"old"', "last_modified": "Thu, 01 Jan 2026 00:00:00 GMT"}


def some_web_photos() -> list[Outcome]:
    """Photos from the web with two faces each, and one that was lost."""
    vectors = np.array([[0.1, -0.2, 1e-30, 0.3], [1 / 3, np.pi, -0.0, -1]], np.float32)
    outcomes = [
        fakes.photo_outcome(
            f"https://example.org/{number}.jpg",
            "ann",
            vectors=vectors,
            crop_hash=2**64 - 1,
            origin=f"a.csv:{number}",
            **OLD,
        )
        for number in range(4)
    ]
    lost = fakes.item("https://example.org/lost.jpg", "ann", origin="a.csv:9", **OLD)
    return [*outcomes, rejected(lost, "detect", Reason.NO_FACE, "no face was found")]


def kept_in(folder: pathlib.Path, outcomes: list[Outcome]) -> dict[str, tuple[int, StagedRow]]:
    """Keeps outcomes; returns where, by place."""
    found = {}
    for shard, place in stage.write_part(outcomes, str(folder), ROWS, SHARDS):
        found[read_outcomes([place])["uri"][0].as_py()] = shard, place
    return found


def test_what_a_later_run_tells_of_an_item_takes_the_place_of_what_was_kept(tmp_path):
    outcomes = some_web_photos()
    places = kept_in(tmp_path, outcomes)
    ann = Person("Ann", Person.of("ann").identity_id, "", ("Annie", "ann"))
    changes = {  # and what becomes of the ledger row, and of the rows of faces
        outcomes[1].ref.uri: (
            {"etag": '"new"', "last_modified": "Fri, 02 Jan 2026 00:00:00 GMT"},
            {"etag": '"new"', "last_modified": "Fri, 02 Jan 2026 00:00:00 GMT"},
            {},
        ),
        outcomes[2].ref.uri: (
            {"person": ann, "origin": "b.csv:7", "provenance": Provenance("https://example.org/ann", "CC0", "Eve")},
            {"identity": "Ann", "origin": "b.csv:7"},
            {
                "identity": "Ann",
                "aliases": ["Annie", "ann"],
                "source_page": "https://example.org/ann",
                "licence": "CC0",
                "author": "Eve",
            },
        ),
        outcomes[3].ref.uri: (
            {"etag": "", "last_modified": ""},  # a server may stop to tell
            {"etag": "", "last_modified": ""},
            {},
        ),
        outcomes[4].ref.uri: ({"person": ann, "origin": "b.csv:8"}, {"identity": "Ann", "origin": "b.csv:8"}, {}),
    }
    wanted, expected = [], []
    for each in outcomes:
        _, place = places[each.ref.uri]
        fields, of_ledger, of_faces = changes.get(each.ref.uri, ({}, {}, {}))
        now = dataclasses.replace(each.ref, **fields) if fields else None
        wanted.append(dataclasses.replace(place, restated=now))
        record = {**kept_record(each), **of_ledger}
        expected.append({**record, "rows": [{**row, **of_faces} for row in each.rows]})
    found = read_outcomes(reversed(wanted))
    assert found.schema == staging_schema(ROWS)
    assert found.to_pylist() == expected
    kept = read_outcomes(place for _, place in places.values())
    assert kept.to_pylist() == [kept_record(each) for each in outcomes]  # the part is as it was
    vectors = [table["rows"].combine_chunks().flatten().field("embedding").flatten() for table in (found, kept)]
    assert vectors[0].to_numpy().tobytes() == vectors[1].to_numpy().tobytes()


def test_of_a_match_only_the_photo_is_named_otherwise(tmp_path):
    """Who was found on it stays: that is no property of the photo."""
    names = schemas.MATCHES.names
    row = dict.fromkeys(names) | {"photo_uri": "/a.jpg", "identity": "Eve", "identity_id": "e1", "rank": 1}
    ref = fakes.item("/a.jpg", "", "1-1", origin="a.csv:1")
    outcome = Outcome(ref, schemas.Status.DONE, "match", faces=1, shard_key=ref.item_id, rows=[row])
    ((_, place),) = stage.write_part([outcome], str(tmp_path), schemas.MATCHES, 1)
    now = dataclasses.replace(ref, origin="b.csv:2")
    found = read_outcomes([dataclasses.replace(place, restated=now)])
    assert found.schema == staging_schema(schemas.MATCHES)
    assert found.to_pylist() == [{**outcome.ledger_row(), "origin": "b.csv:2", "shard": 0, "rows": [row]}]


# --- taking over ------------------------------------------------------------------------------------------------------


def known_of(outcome: Outcome, shard: int, place: StagedRow) -> Known:
    """What a later run knows of an outcome."""
    ref = outcome.ref
    return Known(
        ref.revision,
        ref.etag,
        ref.last_modified,
        ref.content_sha256,
        str(outcome.reason),
        shard,
        place,
        named=staged.digest(ref.named()),
        described=staged.digest(ref.described()) if outcome.rows else "",
    )


def asked_for(ref: ItemRef) -> ItemRef:
    return dataclasses.replace(ref, etag="", last_modified="", content_sha256="")


def test_an_outcome_under_the_same_names_is_taken_over_as_it_is(tmp_path):
    outcomes = some_web_photos()
    places = kept_in(tmp_path, outcomes)
    for each in outcomes:
        shard, place = places[each.ref.uri]
        assert staged.taken_over(asked_for(each.ref), known_of(each, shard, place)) == (shard, place)


def test_validators_are_told_anew_if_they_are_others(tmp_path):
    outcomes = some_web_photos()
    each = outcomes[0]
    shard, place = kept_in(tmp_path, outcomes)[each.ref.uri]
    known = dataclasses.replace(known_of(each, shard, place), etag='"new"', last_modified="")
    found = staged.taken_over(asked_for(each.ref), known, restate=True)
    now = dataclasses.replace(each.ref, etag='"new"', last_modified="")
    assert found == (shard, dataclasses.replace(place, restated=now))
    record = {**kept_record(each), "etag": '"new"', "last_modified": ""}
    assert read_outcomes([found[1]]).to_pylist() == [record]


@pytest.mark.parametrize(
    "changed",
    [
        {"person": Person("Ann", Person.of("ann").identity_id)},
        {"person": Person("ann", Person.of("ann").identity_id, "", ("Annie",))},
        {"origin": "b.csv:1"},
        {"provenance": Provenance("https://example.org/ann")},
        {"provenance": Provenance(licence="CC0")},
        {"provenance": Provenance(author="Eve")},
    ],
    ids=["name", "aliases", "row", "page", "licence", "author"],
)
def test_an_outcome_is_taken_over_under_the_names_that_the_item_has_now(tmp_path, changed):
    outcomes = some_web_photos()
    each = outcomes[0]
    shard, place = kept_in(tmp_path, outcomes)[each.ref.uri]
    ref = dataclasses.replace(asked_for(each.ref), **changed)
    found = staged.taken_over(ref, known_of(each, shard, place))
    now = dataclasses.replace(each.ref, **changed)
    assert found == (shard, dataclasses.replace(place, restated=now, identity=now.person.name))
    record = kept_record(dataclasses.replace(each, ref=now))
    described = {
        "identity": now.person.name,
        "aliases": list(now.person.aliases),
        "source_page": now.provenance.page,
        "licence": now.provenance.licence,
        "author": now.provenance.author,
    }
    record["rows"] = [{**row, **described} for row in each.rows]
    assert read_outcomes([found[1]]).to_pylist() == [record]


# --- photos' bytes ----------------------------------------------------------------------------------------------------


def some_photos() -> list[tuple[str, str, str, str, bytes]]:
    contents = [b"\xff\xd8 a photo", b"", bytes(range(256)) * 1000]
    names = ["00aa", "11bb", "22cc"]
    etags = ['W/"1"', "", '"Zo\u00eb"']
    dates = ["Fri, 02 Jan 2026 03:04:05 GMT", "", "yesterday"]
    digests = [hashlib.sha256(data).hexdigest() for data in contents]
    return list(zip(names, etags, dates, digests, contents, strict=True))


def test_photos_are_read_back_as_they_were(tmp_path):
    places = staged.write_photos(str(tmp_path), some_photos())
    (part,) = parts(tmp_path)
    assert pathlib.Path(part).name.startswith("bytes-")
    assert places == [StoredBytes(part, number) for number in range(3)]
    assert [staged.read_stored(place) for place in reversed(places)] == [photo[-1] for photo in some_photos()[::-1]]
    assert staged.read_photo_keys(part) == [
        (item_id, Known("", etag, modified, sha256, stored=StoredBytes(part, number)))
        for number, (item_id, etag, modified, sha256, _) in enumerate(some_photos())
    ]


def test_the_photos_themselves_are_not_read_to_know_which_they_are(tmp_path, monkeypatch):
    photos = [(f"{number:04x}", "", "", "", bytes(500_000)) for number in range(8)]
    staged.write_photos(str(tmp_path), photos)
    (part,) = parts(tmp_path)
    file = CountedFile(part)
    monkeypatch.setattr(storage, "open_input", lambda uri: pa.PythonFile(file, "r"))
    assert [item_id for item_id, _ in staged.read_photo_keys(part)] == [photo[0] for photo in photos]
    assert file.bytes_read < 100_000


class CountedFile(io.FileIO):
    """A file that tells how much of it was read."""

    bytes_read = 0

    def read(self, size=-1):
        data = super().read(size)
        self.bytes_read += len(data)
        return data


def test_photos_are_written_again_under_their_name(tmp_path):
    places = staged.write_photos(str(tmp_path), some_photos())
    (part,) = parts(tmp_path)
    before = storage.read_bytes(part)
    assert staged.write_photos(str(tmp_path), some_photos()) == places
    assert parts(tmp_path) == [part]
    assert storage.read_bytes(part) == before


def test_other_photos_and_other_bytes_of_them_have_parts_of_their_own(tmp_path):
    first, second, _ = some_photos()
    changed = (*first[:3], second[3], second[4])
    for photos in ([first], [second], [changed], [first, second]):
        staged.write_photos(str(tmp_path), photos)
    assert len(parts(tmp_path)) == 4


def test_bytes_are_kept_beside_outcomes(tmp_path):
    staged.write_photos(str(tmp_path), some_photos())
    stage.write_part(some_outcomes(), str(tmp_path), ROWS, SHARDS)
    assert [pathlib.Path(part).name.partition("-")[0] for part in parts(tmp_path)] == ["bytes", "part"]
    assert parts_of(tmp_path) == [5]


# --- staging in a pipeline --------------------------------------------------------------------------------------------


def test_staged_outcomes_are_kept_and_counted(tmp_path):
    outcomes = some_outcomes()
    with fakes.pipeline() as pipeline:
        places = (pipeline | Create(outcomes),) | StageOutcomes(str(tmp_path), ROWS, SHARDS)
        assert_that(places, places_keep(by_uri(outcomes)))
    assert sum(parts_of(tmp_path)) == 5
    assert fakes.counters(pipeline.result, "stage") == {"items_in": 5, "items_out": 5}


def test_every_photo_is_shown_to_whom_watches_when_the_bundle_ends(tmp_path, monkeypatch):
    watched = tmp_path / "watched"
    watched.mkdir()
    monkeypatch.setenv(progress.FOLDER_VARIABLE, str(watched))
    monkeypatch.setattr(progress, "_SECONDS_UNSEEN", 3600)
    progress.reset()
    with fakes.pipeline() as pipeline:
        _ = (pipeline | Create(some_outcomes()),) | StageOutcomes(str(tmp_path), ROWS, SHARDS)
    assert progress.total(watched) == {"photos": 5, "faces": 4, "done": 3, "no_face": 1, "unsupported_type": 1}
    progress.reset()


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
