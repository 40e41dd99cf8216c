"""The final tables: their columns, their order, repeats, and the same bytes whatever the way there."""

import pathlib

import apache_beam as beam
import fakes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from celebface.indexing import schemas
from celebface.indexing.schemas import Reason
from celebface.transforms import shard, stage
from celebface.transforms.records import Outcome, Person, Provenance, rejected, skipped
from celebface.transforms.shard import ShardLayout, WriteShards
from celebface.transforms.stage import StageOutcomes
from celebface.transforms.staged import read_outcomes, staging_schema

ROWS = schemas.faces_schema(4)

FACES_COLUMNS = {
    "face_id": "string",
    "identity": "string",
    "identity_id": "string",
    "external_id": "string",
    "aliases": "list<element: string>",
    "image_id": "string",
    "uri": "string",
    "source_page": "string",
    "licence": "string",
    "author": "string",
    "content_sha256": "string",
    "image_width": "int32",
    "image_height": "int32",
    "faces_in_image": "int32",
    "box": "fixed_size_list<element: int32>[4]",
    "confidence": "float",
    "landmarks": "fixed_size_list<element: fixed_size_list<element: float>[2]>[5]",
    "sharpness": "float",
    "crop_hash": "uint64",
    "crop_jpeg": "binary",
    "embedding": "fixed_size_list<element: float>[4]",
    "encoder_id": "string",
}
LEDGER_COLUMNS = {
    "item_id": "string",
    "kind": "string",
    "uri": "string",
    "identity": "string",
    "identity_id": "string",
    "status": "string",
    "stage": "string",
    "reason": "string",
    "detail": "string",
    "faces": "int32",
    "flag": "string",
    "origin": "string",
    "content_sha256": "string",
    "revision": "string",
    "etag": "string",
    "last_modified": "string",
}


def columns(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) for field in schema}


def layout(folder: pathlib.Path, shards: int, unique: str = "face_id", near: str = "none") -> ShardLayout:
    return ShardLayout(str(folder / "version"), "faces", ROWS, shards, unique, near)


def table_names(shards: int, unique: str = "face_id") -> list[str]:
    tables = ("faces", "ledger", "repeats", "quarantined", "audit") if unique else ("faces", "ledger")
    return [f"{name}-{n:05d}-of-{shards:05d}.parquet" for n in range(shards) for name in tables]


def write(folder: pathlib.Path, outcomes: list[Outcome], shards: int, unique: str = "face_id", near: str = "none"):
    """Stages and writes outcomes in a pipeline; returns its result."""
    with fakes.pipeline() as pipeline:
        staged = (pipeline | beam.Create(outcomes),) | StageOutcomes(str(folder / "staging"), ROWS, shards)
        names = staged | WriteShards(layout(folder, shards, unique, near))
        assert_that(names, equal_to(table_names(shards, unique)))
    return pipeline.result


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "version").iterdir())}


def tables(folder: pathlib.Path, table: str) -> list[pa.Table]:
    return [pq.read_table(path) for path in sorted((folder / "version").glob(f"{table}-*"))]


def rows(folder: pathlib.Path, table: str) -> list[dict]:
    return [row for each in tables(folder, table) for row in each.to_pylist()]


def copies(*uris: str, who: str | Person = "ann", faces: int = 1) -> list[Outcome]:
    """The same photo at several places."""
    vectors = fakes.unit_vectors(faces, 4)
    return [fakes.photo_outcome(uri, who, vectors=vectors, content=b"the photo") for uri in uris]


def photos(count: int, crop: bytes = b"") -> list[Outcome]:
    """Photos of ten people, a copy and a loss among every ten."""
    found = []
    for number in range(count):
        uri, person = f"/photos/{number * 7919 % count:05d}.jpg", f"person {number % 10}"
        if number % 10 == 9:
            found.append(rejected(fakes.item(uri, person, "1-1"), "detect", Reason.NO_FACE, "no face was found"))
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
    assert [columns(table.schema) for table in tables(tmp_path, "repeats")] == [FACES_COLUMNS] * 2


def test_a_matches_table_has_the_columns_of_the_contract():
    assert columns(schemas.MATCHES) == {
        "photo_uri": "string",
        "face_id": "string",
        "box": "fixed_size_list<item: int32>[4]",
        "confidence": "float",
        "rank": "int32",
        "identity": "string",
        "identity_id": "string",
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


def test_who_is_on_a_photo_and_where_it_was_found_are_kept(tmp_path):
    person = Person.of("Zo\u00eb", "wikidata:Q1", ["Zo", "\u5f20\u4f1f"])
    provenance = Provenance("https://example.org/zoe", "CC BY 4.0", "Eve")
    photo = fakes.photo_outcome("https://example.org/1.jpg", person, provenance=provenance, crop_hash=2**64 - 1)
    write(tmp_path, [photo], 1)
    (face,) = rows(tmp_path, "faces")
    assert face == photo.rows[0]
    assert (face["identity_id"], face["external_id"], face["aliases"]) == (
        person.identity_id,
        "wikidata:Q1",
        ["Zo", "\u5f20\u4f1f"],
    )
    assert (face["source_page"], face["licence"], face["author"]) == ("https://example.org/zoe", "CC BY 4.0", "Eve")
    assert face["crop_hash"] == 2**64 - 1


def test_the_ledger_has_one_row_for_each_item(tmp_path):
    outcomes = [
        *photos(30),
        rejected(fakes.item("/photos/caf\udce9.jpg", "eve"), "fetch", Reason.NOT_FOUND, "there is no such file"),
        skipped(fakes.item("/photos/notes.txt", "eve"), "list", Reason.UNSUPPORTED_TYPE, "a .txt file"),
    ]
    result = write(tmp_path, outcomes, 3, unique="")
    expected = sorted((each.ledger_row() for each in outcomes), key=lambda row: row["uri"])
    assert sorted(rows(tmp_path, "ledger"), key=lambda row: row["uri"]) == expected
    for ledger in tables(tmp_path, "ledger"):
        assert ledger["uri"].to_pylist() == sorted(ledger["uri"].to_pylist())
    assert fakes.counters(result, "shard") == {"items_in": 32, "items_out": 32}


def test_all_photos_of_a_person_lie_in_one_shard(tmp_path):
    write(tmp_path, photos(60), 4)
    people = [set(faces["identity"].to_pylist()) for faces in tables(tmp_path, "faces")]
    assert sum(map(len, people)) == len(set().union(*people)) == 9  # the tenth person's photos are lost
    assert sum(map(bool, people)) > 1


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
    assert [columns(table.schema) for table in tables(tmp_path, "repeats")] == [FACES_COLUMNS] * 5
    assert rows(tmp_path, "repeats") == []
    assert fakes.counters(result, "shard") == {"items_in": len(outcomes), "items_out": len(outcomes)}


@pytest.mark.parametrize("shards", [0, -1])
def test_there_must_be_a_shard(tmp_path, shards):
    with pytest.raises(ValueError, match=f"at least one shard, not {shards}"):
        layout(tmp_path, shards)


@pytest.mark.parametrize("near", ["", "local", None])
def test_what_may_be_left_out_is_one_of_three(tmp_path, near):
    with pytest.raises(ValueError, match=f"near must be one of web, all, none, not {near}"):
        layout(tmp_path, 1, near=near)


# --- duplicates -------------------------------------------------------------------------------------------------------


def test_copies_of_a_photo_are_skipped_and_stay_in_the_ledger(tmp_path):
    outcomes = [
        *copies("/photos/c.jpg", "/photos/a.jpg", "/photos/b.jpg", faces=2),
        fakes.photo_outcome("/photos/d.jpg"),
    ]
    result = write(tmp_path, outcomes, 1)

    assert rows(tmp_path, "faces") == [*outcomes[1].rows, *outcomes[3].rows]
    assert rows(tmp_path, "repeats") == [*outcomes[2].rows, *outcomes[0].rows]
    turned = {"status": "skipped", "stage": "shard", "reason": "duplicate", "faces": 0}
    detail = "the same photo as /photos/a.jpg"
    assert rows(tmp_path, "ledger") == [
        outcomes[1].ledger_row(),
        {**outcomes[2].ledger_row(), **turned, "detail": detail},
        {**outcomes[0].ledger_row(), **turned, "detail": detail},
        outcomes[3].ledger_row(),
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


def test_copies_stand_where_nothing_must_be_unique(tmp_path):
    outcomes = copies("/photos/a.jpg", "/photos/b.jpg")
    write(tmp_path, outcomes, 1, unique="")
    assert rows(tmp_path, "faces") == [outcomes[0].rows[0], outcomes[1].rows[0]]
    assert [row["status"] for row in rows(tmp_path, "ledger")] == ["done", "done"]


@pytest.mark.parametrize("near", ["web", "all", "none"])
def test_nothing_repeats_where_nothing_is_alike(tmp_path, near):
    alike = photos(8)
    assert repeats(tmp_path, alike, near) == {}
    assert repeats(tmp_path, [], near) == {}
    lost = [rejected(fakes.item("/photos/a.jpg", "ann"), "detect", Reason.NO_FACE, "no face was found")]
    assert repeats(tmp_path, lost, near) == {}


# --- photos that are nearly the same ----------------------------------------------------------------------------------

WEB = "https://example.org/{}.jpg"


def angle(distance: float) -> float:
    """The angle between unit vectors at a distance D."""
    return 2 * np.arcsin(np.sqrt(distance) / 2)


def photo(uri: str, who: str | Person = "ann", at: float = 0.0, size: int = 100, crop_hash: int = 0) -> Outcome:
    """A photo whose face is `size` pixels high and wider, its vector turned by the angle of D = `at`."""
    vector = np.array([[np.cos(angle(at)), np.sin(angle(at)), 0, 0]], np.float32)
    return fakes.photo_outcome(uri, who, vectors=vector, box=(10, 20, 300, 20 + size), crop_hash=crop_hash)


def repeats(folder: pathlib.Path, outcomes: list[Outcome], near: str) -> dict[str, tuple[str, str, str]]:
    """What each photo repeats, and how, by their places."""
    places = stage.write_part(outcomes, str(folder / "staging"), ROWS, 1)
    table = read_outcomes(place for _, place in places)
    if table is None:
        table = staging_schema(ROWS).empty_table()
    uris = table["uri"].to_pylist()
    found = shard.find_repeats(table, layout(folder, 1, near=near))
    return {uris[row]: (uris[repeat.of], str(repeat.reason), repeat.detail) for row, repeat in found.items()}


def near_pairs(folder: pathlib.Path, outcomes: list[Outcome], near: str = "all") -> dict[str, str]:
    found = repeats(folder, outcomes, near)
    assert all(reason == "near_duplicate" for _, reason, _ in found.values())
    return {place: of for place, (of, _, _) in found.items()}


def test_of_photos_nearly_the_same_the_one_with_the_largest_face_is_kept(tmp_path):
    outcomes = [
        photo(WEB.format("a"), size=99, at=0.01, crop_hash=0b1111),
        photo(WEB.format("b"), size=101),
        photo(WEB.format("c"), size=100, at=0.02, crop_hash=0b11110000),
        photo(WEB.format("d"), size=50, at=2.0),  # another photo of her
    ]
    a, b, c, d = outcomes
    result = write(tmp_path, outcomes, 1, near="web")
    assert rows(tmp_path, "faces") == [*b.rows, *d.rows]
    assert rows(tmp_path, "repeats") == [*a.rows, *c.rows]
    turned = {"status": "skipped", "stage": "shard", "reason": "near_duplicate", "faces": 0}
    of = "nearly the same photo as https://example.org/b.jpg"
    assert rows(tmp_path, "ledger") == [
        {**a.ledger_row(), **turned, "detail": f"{of} (D 0.010)"},
        b.ledger_row(),
        {**c.ledger_row(), **turned, "detail": f"{of} (D 0.020)"},
        d.ledger_row(),
    ]
    assert fakes.counters(result, "shard") == {"items_in": 4, "items_out": 2, "lost_near_duplicate": 2}


def test_the_size_of_a_face_is_its_shorter_side(tmp_path):
    wide = fakes.photo_outcome("/a.jpg", box=(0, 0, 500, 100))
    square = fakes.photo_outcome("/b.jpg", box=(0, 0, 120, 120))
    assert near_pairs(tmp_path, [wide, square]) == {"/a.jpg": "/b.jpg"}


def test_of_faces_of_one_size_the_first_place_is_kept(tmp_path):
    outcomes = [photo(f"/{name}.jpg") for name in "cab"]
    assert near_pairs(tmp_path, outcomes) == {"/b.jpg": "/a.jpg", "/c.jpg": "/a.jpg"}


@pytest.mark.parametrize(
    ("at", "crop_hash", "alike"),
    [
        (0.0, 0, True),
        (0.099, 0, True),
        (0.101, 0, False),
        (0.0, 0xFF << 56, True),
        (0.0, 0b1001001001001001001001001, False),
        (0.099, 0xFF, True),
        (0.099, 0x1FF, False),
        (0.101, 0xFF, False),
    ],
)
def test_both_vectors_and_hashes_must_be_near(tmp_path, at, crop_hash, alike):
    outcomes = [photo("/a.jpg"), photo("/b.jpg", at=at, crop_hash=crop_hash)]
    assert near_pairs(tmp_path, outcomes) == ({"/b.jpg": "/a.jpg"} if alike else {})


@pytest.mark.parametrize(
    ("near", "left_out"),
    [
        ("none", {}),
        ("web", {"https://example.org/1.jpg": "/b.jpg", "https://example.org/2.jpg": "/b.jpg"}),
        (
            "all",
            {
                "/a.jpg": "https://example.org/2.jpg",
                "/b.jpg": "https://example.org/2.jpg",
                "https://example.org/1.jpg": "https://example.org/2.jpg",
            },
        ),
    ],
)
def test_a_users_own_photos_are_left_out_only_if_that_is_asked_for(tmp_path, near, left_out):
    outcomes = [
        photo(WEB.format(1), size=200),
        photo(WEB.format(2), size=300),
        photo("/a.jpg", size=40, at=0.001),
        photo("/b.jpg", size=50),
    ]
    assert near_pairs(tmp_path, outcomes, near) == left_out


def test_objects_of_a_store_are_a_users_own(tmp_path):
    outcomes = [photo("gs://bucket/a.jpg"), photo("s3://bucket/a.jpg"), photo(WEB.format(1), size=200)]
    assert near_pairs(tmp_path, outcomes, "web") == {"https://example.org/1.jpg": "gs://bucket/a.jpg"}


def test_the_nearest_of_those_kept_is_named(tmp_path):
    outcomes = [photo("/a.jpg", size=300), photo("/b.jpg", size=200, at=0.15), photo("/c.jpg", size=100, at=0.06)]
    assert repeats(tmp_path, outcomes, "all") == {
        "/c.jpg": ("/b.jpg", "near_duplicate", "nearly the same photo as /b.jpg (D 0.021)")
    }


@pytest.mark.parametrize(
    ("sizes", "left_out"),
    [
        ((30, 20, 10), {"/b.jpg": "/a.jpg"}),  # c is like b only, and b is not there
        ((20, 30, 10), {"/a.jpg": "/b.jpg", "/c.jpg": "/b.jpg"}),
        ((10, 20, 30), {"/b.jpg": "/c.jpg"}),
    ],
    ids=["from its end", "from its middle", "from its other end"],
)
def test_a_photo_is_left_out_only_for_one_that_is_kept(tmp_path, sizes, left_out):
    chain = [
        photo(f"/{name}.jpg", at=at, size=size) for name, at, size in zip("abc", (0, 0.08, 0.3), sizes, strict=True)
    ]
    assert near_pairs(tmp_path, chain) == left_out


def test_photos_of_different_people_are_never_nearly_the_same(tmp_path):
    people = ["ann", "bob", Person.of("ann", "wikidata:Q1"), Person.of("ann", "wikidata:Q2")]
    outcomes = [photo(f"/{number}.jpg", who) for number, who in enumerate(people)]
    assert near_pairs(tmp_path, outcomes) == {}
    again = [photo(f"/{number + 4}.jpg", who) for number, who in enumerate(people)]
    assert near_pairs(tmp_path, outcomes + again) == {f"/{number + 4}.jpg": f"/{number}.jpg" for number in range(4)}


def test_faces_of_one_photo_do_not_repeat_each_other(tmp_path):
    twins = fakes.photo_outcome("/a.jpg", vectors=np.eye(4, dtype=np.float32)[[0, 0]])
    assert near_pairs(tmp_path, [twins]) == {}


def test_a_copy_is_a_duplicate_and_not_what_another_is_nearly_the_same_as(tmp_path):
    first, copy = copies("/photos/b.jpg", "/photos/c.jpg")
    small = fakes.photo_outcome("/photos/a.jpg", box=(10, 20, 50, 60))
    assert repeats(tmp_path, [first, copy, small], "all") == {
        "/photos/a.jpg": (
            "/photos/b.jpg",
            "near_duplicate",
            "nearly the same photo as /photos/b.jpg (D 0.000)",
        ),
        "/photos/c.jpg": ("/photos/b.jpg", "duplicate", "the same photo as /photos/b.jpg"),
    }


def test_of_two_copies_one_stays_wherever_they_lie(tmp_path):
    outcomes = copies("https://example.org/1.jpg", "s3://bucket/1.jpg")
    assert repeats(tmp_path, outcomes, "web") == {
        "s3://bucket/1.jpg": ("https://example.org/1.jpg", "duplicate", "the same photo as https://example.org/1.jpg")
    }


def test_as_a_slow_statement_has_it(tmp_path):
    random = np.random.default_rng(5)
    centres = fakes.unit_vectors(3, 4)
    outcomes = []
    for number in range(150):
        vector = fakes.unit(centres[[number % 3]] + 0.25 * fakes.unit(random.normal(size=(1, 4))))
        uri = (WEB if number % 4 else "/photos/{}.jpg").format(number)
        box = (0, 0, 500, int(random.integers(30, 60)))
        crop_hash = sum(1 << int(bit) for bit in random.integers(0, 64, 5))
        outcomes.append(fakes.photo_outcome(uri, f"person {number % 2}", vectors=vector, box=box, crop_hash=crop_hash))
    found = near_pairs(tmp_path, outcomes, "web")
    assert found == slow_near_pairs(outcomes)
    assert 20 < len(found) < 130


def slow_near_pairs(outcomes: list[Outcome]) -> dict[str, str]:
    def rank(each):
        return each.ref.is_web, -each.rows[0]["box"][3], each.ref.uri

    kept, left_out = [], {}
    for each in sorted(outcomes, key=rank):
        (face,) = each.rows
        alike = []
        for other in kept:
            (against,) = other.rows
            distance = sum((a - b) ** 2 for a, b in zip(face["embedding"], against["embedding"], strict=True))
            bits = (face["crop_hash"] ^ against["crop_hash"]).bit_count()
            if other.ref.person == each.ref.person and distance <= 0.1 and bits <= 8:
                alike.append((distance, other.ref.uri))
        if alike and each.ref.is_web:
            left_out[each.ref.uri] = min(alike)[1]
        else:
            kept.append(each)
    return left_out


# --- photos of two people ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 16])
def test_a_photo_given_for_several_people_stands_with_each_of_them_flagged(tmp_path, shards):
    people = ["cat", "ann", "bob"]
    outcomes = [copies(f"/photos/{who}.jpg", who=who, faces=2)[0] for who in people]
    other = fakes.photo_outcome("/photos/other.jpg", "ann")
    result = write(tmp_path, [*outcomes, other], shards)
    if shards > 1:
        assert sum(map(bool, map(len, tables(tmp_path, "faces")))) == 3  # they meet although they lie apart

    found = {row["uri"]: row for row in rows(tmp_path, "ledger")}
    details = {"cat": "also given for ann, bob", "ann": "also given for bob, cat", "bob": "also given for ann, cat"}
    assert found == {
        **{
            f"/photos/{who}.jpg": {**each.ledger_row(), "flag": "two_names", "detail": details[who]}
            for who, each in zip(people, outcomes, strict=True)
        },
        "/photos/other.jpg": other.ledger_row(),
    }
    expected = [row for each in [*outcomes, other] for row in each.rows]
    assert sorted(rows(tmp_path, "faces"), key=face_key) == sorted(expected, key=face_key)
    assert rows(tmp_path, "repeats") == []
    assert fakes.counters(result, "shard") == {"items_in": 4, "items_out": 4}


def face_key(row: dict) -> str:
    return row["face_id"]


def test_a_flag_adds_to_what_was_to_be_told(tmp_path):
    outcomes = [fakes.photo_outcome(f"/photos/{who}.jpg", who, content=b"the photo", found=3) for who in ("ann", "bob")]
    write(tmp_path, outcomes, 2)
    found = {row["identity"]: (row["flag"], row["detail"]) for row in rows(tmp_path, "ledger")}
    assert found == {
        "ann": ("two_names", "2 of 3 faces left out; also given for bob"),
        "bob": ("two_names", "2 of 3 faces left out; also given for ann"),
    }


def test_two_people_of_one_name_are_two_people(tmp_path):
    people = [Person.of("ann", "wikidata:Q1"), Person.of("ann", "wikidata:Q2")]
    write(tmp_path, [copies(f"/{n}.jpg", who=who)[0] for n, who in enumerate(people)], 2)
    assert [(row["flag"], row["detail"]) for row in rows(tmp_path, "ledger")] == [
        ("two_names", "also given for ann"),
        ("two_names", "also given for ann"),
    ]


def test_a_copy_that_is_left_out_carries_no_flag(tmp_path):
    outcomes = copies("/ann/1.jpg", "/ann/2.jpg") + copies("/bob/1.jpg", who="bob")
    write(tmp_path, outcomes, 1)
    assert [(row["uri"], row["reason"], row["flag"], row["detail"]) for row in rows(tmp_path, "ledger")] == [
        ("/ann/1.jpg", "", "two_names", "also given for bob"),
        ("/ann/2.jpg", "duplicate", "", "the same photo as /ann/1.jpg"),
        ("/bob/1.jpg", "", "two_names", "also given for ann"),
    ]


def test_a_person_written_in_two_ways_is_one_person(tmp_path):
    ways = [Person.of("Madonna", "wikidata:Q1744"), Person.of("Madonna Ciccone", "wikidata:Q1744")]
    outcomes = [copies(f"/{number}.jpg", who=who)[0] for number, who in enumerate(ways)]
    write(tmp_path, outcomes, 1)
    assert [(row["reason"], row["flag"]) for row in rows(tmp_path, "ledger")] == [("", ""), ("duplicate", "")]


def test_the_other_is_named_in_one_way_whatever_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "ITEMS_PER_PART", 1)
    ways = [Person.of("Madonna", "wikidata:Q1744"), Person.of("Ciccone", "wikidata:Q1744")]
    outcomes = [copies(f"/{number}.jpg", who=who)[0] for number, who in enumerate([*ways, "bob"])]
    details = set()
    for name, order in (("1", outcomes), ("2", outcomes[::-1])):
        write(tmp_path / name, order, 1)
        details.add(rows(tmp_path / name, "ledger")[2]["detail"])
    assert len(details) == 1


def test_a_lost_photo_is_not_flagged(tmp_path):
    def lost(who: str) -> Outcome:
        ref = fakes.item(f"/{who}/lost.jpg", who, content_sha256=ann.ref.content_sha256)
        return rejected(ref, "detect", Reason.NO_FACE, "no face was found")

    (ann,), (bob,) = copies("/ann/1.jpg", who="ann"), copies("/bob/1.jpg", who="bob")
    write(tmp_path, [ann, bob, lost("ann"), lost("cat")], 1)
    assert [(row["uri"], row["flag"], row["detail"]) for row in rows(tmp_path, "ledger")] == [
        ("/ann/1.jpg", "two_names", "also given for bob"),
        ("/ann/lost.jpg", "", "no face was found"),
        ("/bob/1.jpg", "two_names", "also given for ann"),
        ("/cat/lost.jpg", "", "no face was found"),
    ]


# --- the same bytes ---------------------------------------------------------------------------------------------------


def test_two_runs_write_the_same_bytes_whatever_the_order_and_the_batches(tmp_path, monkeypatch):
    outcomes = photos(300, crop=b"\xff\xd8" + bytes(8000))  # more than one page of crops in each file
    write(tmp_path / "1", outcomes, 3)
    monkeypatch.setattr(stage, "ITEMS_PER_PART", 7)
    write(tmp_path / "2", outcomes[150:] + outcomes[:150][::-1], 3)
    parts = [len(list((tmp_path / run / "staging").iterdir())) for run in ("1", "2")]
    assert parts[0] < parts[1]
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
