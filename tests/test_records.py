"""Ids that stay the same from run to run and machine to machine, and names that can be printed."""

import fakes
import numpy as np
import pytest

from celebface.indexing.schemas import LEDGER, Kind, Reason, Status, faces_schema
from celebface.models import faces
from celebface.transforms import records
from celebface.transforms.records import NOBODY, ItemRef, Outcome, Person

SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of b"abc"

# --- people -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Zo\u00eb Kravitz", "Zoe\u0308 Kravitz", "  Zo\u00eb \t\n Kravitz\u00a0"])
def test_a_name_is_normal(name):
    assert Person.of(name) == Person("Zo\u00eb Kravitz", "50c5bb1ada2ac561")


@pytest.mark.parametrize(
    "name",
    ["Zo\u00eb\x00 Kravitz", "\x1bZo\u00eb Kravitz", "Zo\x7f\u00eb\x9f\x85Kravitz\r\n", "Zoe\x08\u0308 Kravitz"],
)
def test_a_name_has_no_control_characters(name):
    """Those that are white space part words as other white space does."""
    assert Person.of(name) == Person("Zo\u00eb Kravitz", "50c5bb1ada2ac561")
    assert Person.of("Madonna", aliases=[name]).aliases == ("Zo\u00eb Kravitz",)


def test_an_id_has_no_control_characters():
    assert Person.of("Madonna", "\x00wiki\x9bdata:Q1744") == Person.of("Madonna", "wikidata:Q1744")


def test_letters_that_only_join_others_stay_in_a_name():
    assert Person.of("\u0646\u200c\u0627").name == "\u0646\u200c\u0627"  # a zero-width non-joiner


def test_names_are_told_apart_by_case_and_accents():
    names = ["Zo\u00eb", "Zoe", "ZO\u00cb", "\u5f20\u4f1f", "\u5f35\u5049"]
    assert len({Person.of(name).identity_id for name in names}) == 5


def test_people_of_one_name_are_apart_if_their_ids_are():
    actor, footballer, unknown = (Person.of("Chris Evans", each) for each in ("wikidata:Q178348", "Q2964710", ""))
    assert len({actor.identity_id, footballer.identity_id, unknown.identity_id}) == 3
    assert {actor.name, footballer.name, unknown.name} == {"Chris Evans"}


def test_an_id_is_one_person_however_the_name_is_written():
    short, long = Person.of("Madonna", " wikidata:Q1744 "), Person.of("Madonna Ciccone", "wikidata:Q1744")
    assert short.identity_id == long.identity_id
    assert short.external_id == long.external_id == "wikidata:Q1744"


def test_a_name_is_no_id():
    assert Person.of("Q1744").identity_id != Person.of("Madonna", "Q1744").identity_id


def test_aliases_are_other_names_each_once():
    aliases = ["Madge", " Madonna ", "", "Zoe\u0308", "Zo\u00eb", "Madge  ", "the Queen  of Pop", " "]
    person = Person.of("Madonna", aliases=aliases)
    assert person.aliases == ("Madge", "Zo\u00eb", "the Queen of Pop")
    assert person.identity_id == Person.of("Madonna").identity_id


@pytest.mark.parametrize("name", ["", " \n", "\x00", "\x1f \x7f"])
def test_no_name_is_nobody(name):
    assert Person.of(name) == NOBODY
    assert Person.of(name, "wikidata:Q1744").identity_id == ""


# --- ids --------------------------------------------------------------------------------------------------------------


def test_ids_are_those_of_every_other_run():
    assert Person.of("ann").identity_id == "51c5be4623ac5787"
    assert Person.of("ann", "wikidata:Q1").identity_id == "e2ac57282c6e0c7b"
    assert fakes.item("/photos/ann/1.jpg", "ann").item_id == "9bc2fd74bb69e63c"
    assert fakes.item("https://example.org/ann", "ann", kind=Kind.PAGE).item_id == "630c9a87aac606ce"
    assert records.image_id(SHA256) == "ba7816bf8f01cfea"
    assert records.face_id(SHA256, "ann", 0) == "73acb014ba7cade9"


def test_an_item_is_its_place_its_person_and_its_kind():
    ref = fakes.item("/photos/ann/1.jpg", "ann", "5-1", Reason.UNSUPPORTED_TYPE, origin="people.csv:17", etag='"7"')
    assert ref == ItemRef(
        ref.item_id,
        "/photos/ann/1.jpg",
        Kind.PHOTO,
        Person.of("ann"),
        origin="people.csv:17",
        revision="5-1",
        etag='"7"',
        listed=Reason.UNSUPPORTED_TYPE,
    )
    assert fakes.item("/photos/ann/1.jpg", "ann").item_id == ref.item_id  # the same item, in another state
    others = [
        fakes.item("/photos/ann/1.jpg", ""),
        fakes.item("/photos/ann/1.jpg", "bob"),
        fakes.item("/photos/ann/1.jpg", Person.of("ann", "wikidata:Q1")),
        fakes.item("/photos/ann/2.jpg", "ann"),
        fakes.item("/photos/ann/1.jpg", "ann", kind=Kind.PAGE),
        fakes.item("/photos/ann/1.jpg", "ann", kind=Kind.NAME),
    ]
    assert len({ref.item_id, *(other.item_id for other in others)}) == 7


def test_place_and_person_are_kept_apart():
    ann, bob = Person("ann", "a1"), Person("bob", "1")
    assert ItemRef.of("/photos/a", ann).item_id != ItemRef.of("/photos/aa", bob).item_id


def test_names_that_look_alike_are_different_items():
    assert fakes.item("/photos/caf\udce9.jpg").item_id != fakes.item("/photos/caf\\xe9.jpg").item_id
    assert fakes.item("/photos/Zo\u00eb.jpg").item_id != fakes.item("/photos/Zoe\u0308.jpg").item_id


@pytest.mark.parametrize(
    ("uri", "web"),
    [
        ("https://example.org/1.jpg", True),
        ("http://example.org/1.jpg", True),
        ("/photos/http/1.jpg", False),
        ("/photos/https:/1.jpg", False),
        ("gs://bucket/http://1.jpg", False),
        ("httpx://example.org/1.jpg", False),
    ],
)
def test_what_is_asked_for_by_http(uri, web):
    assert fakes.item(uri).is_web == web


def test_a_face_is_its_photo_its_person_and_its_place_in_the_photo():
    ids = {
        records.face_id(SHA256, "ann", 0),
        records.face_id(SHA256, "ann", 1),
        records.face_id(SHA256, "bob", 0),
        records.face_id(SHA256[::-1], "ann", 0),
        records.face_id(SHA256, "", 0),
    }
    assert len(ids) == 5
    assert {len(each) for each in ids} == {16}


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("/photos/ann/1.jpg", "/photos/ann/1.jpg"),
        ("/photos/Zoë/张伟.jpg", "/photos/Zoë/张伟.jpg"),
        ("/photos/caf\udce9.jpg", "/photos/caf\\xe9.jpg"),
        ("/photos/\udcff\udcfe", "/photos/\\xff\\xfe"),
        ("gs://bucket/a b.jpg", "gs://bucket/a b.jpg"),
    ],
)
def test_printable(uri, text):
    assert records.printable(uri) == text
    assert text.encode().decode() == text  # what goes into a table is UTF-8


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_the_ledger_row_of_a_photo_that_is_done():
    outcome = fakes.photo_outcome("/photos/caf\udce9.jpg", "ann", vectors=np.eye(2), content=b"abc", found=3)
    row = outcome.ledger_row()
    assert row == {
        "item_id": outcome.ref.item_id,
        "kind": "photo",
        "uri": "/photos/caf\\xe9.jpg",
        "identity": "ann",
        "identity_id": Person.of("ann").identity_id,
        "status": "done",
        "stage": "encode",
        "reason": "",
        "detail": "1 of 3 faces left out",
        "faces": 2,
        "flag": "",
        "origin": "",
        "content_sha256": SHA256,
        "revision": "1-1",
        "etag": "",
        "last_modified": "",
    }
    assert row.keys() == set(LEDGER.names)


@pytest.mark.parametrize(("make", "status"), [(records.rejected, Status.REJECTED), (records.skipped, Status.SKIPPED)])
def test_the_ledger_row_of_an_item_that_is_lost(make, status):
    ref = fakes.item(
        "https://example.org/ann",
        "ann",
        kind=Kind.PAGE,
        origin="people.csv:17",
        etag='"7"',
        last_modified="Fri, 02 Jan 2026 03:04:05 GMT",
    )
    outcome = make(ref, "scrape", Reason.NOT_FOUND, "there is no such page")
    assert outcome.ledger_row() == {
        "item_id": ref.item_id,
        "kind": "page",
        "uri": "https://example.org/ann",
        "identity": "ann",
        "identity_id": Person.of("ann").identity_id,
        "status": str(status),
        "stage": "scrape",
        "reason": "not_found",
        "detail": "there is no such page",
        "faces": 0,
        "flag": "",
        "origin": "people.csv:17",
        "content_sha256": "",
        "revision": "",
        "etag": '"7"',
        "last_modified": "Fri, 02 Jan 2026 03:04:05 GMT",
    }
    assert (outcome.rows, outcome.shard_key) == ((), ref.item_id)


def test_the_values_of_a_ledger_row_are_plain():
    outcome = Outcome(fakes.item("https://example.org", kind=Kind.NAME), Status.REJECTED, "search", Reason.NO_IMAGES)
    assert {type(value) for value in outcome.ledger_row().values()} == {str, int}


@pytest.mark.parametrize(
    ("kept", "found", "detail"), [(2, 2, ""), (1, 3, "2 of 3 faces left out"), (100, 101, "1 of 101 faces left out")]
)
def test_faces_left_out_are_told(kept, found, detail):
    assert records.kept_faces(kept, found) == detail


@pytest.mark.parametrize(
    ("count", "detail"), [(0, "0 photos found"), (1, "1 photo found"), (2, "2 photos found"), (20, "20 photos found")]
)
def test_photos_of_a_page_are_counted(count, detail):
    assert records.photos_found(count) == detail


def test_how_an_item_is_named_and_described():
    ref = fakes.item(
        "https://example.org/1.jpg",
        Person.of("Madonna", "wikidata:Q1744", ["Madge"]),
        origin="people.csv:17",
        provenance=records.Provenance("https://example.org/", "CC0", "Eve"),
    )
    person = {"identity": "Madonna", "identity_id": ref.person.identity_id}
    assert ref.named() == {**person, "origin": "people.csv:17"}
    assert ref.described() == {
        **person,
        "external_id": "wikidata:Q1744",
        "aliases": ["Madge"],
        "source_page": "https://example.org/",
        "licence": "CC0",
        "author": "Eve",
    }
    assert ref.named().keys() <= set(LEDGER.names)
    assert ref.described().keys() <= set(faces_schema(4).names)


def test_every_fault_of_a_photo_has_a_reason_in_the_closed_list():
    faults = faces.PhotoFault.__subclasses__()
    assert len(faults) == 12
    assert len({Reason(fault.reason) for fault in faults} - {Reason.NONE}) == len(faults)
