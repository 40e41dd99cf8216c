"""What a later run does with earlier work: what is done, what is there, what is still to be had."""

import dataclasses
import hashlib
import itertools
import pathlib
from collections.abc import Sequence

import apache_beam as beam
import fakes
import numpy as np
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from celebface.indexing import schemas
from celebface.indexing.schemas import Kind, Reason
from celebface.transforms import resume, stage
from celebface.transforms.records import ItemRef, Outcome, Person, Provenance, rejected, skipped
from celebface.transforms.resume import CollapseRepeats, ResumeItems, Reuse
from celebface.transforms.shard import ShardLayout, WriteShards
from celebface.transforms.stage import StageOutcomes
from celebface.transforms.staged import (
    Known,
    StagedRow,
    StoredBytes,
    digest,
    read_outcomes,
    staging_schema,
    write_photos,
)

ROWS = schemas.faces_schema(4)
SHARDS = 3
DATE = "Fri, 02 Jan 2026 03:04:05 GMT"


def web_outcome(number: int | str, who: str | Person = "ann", **fields: object) -> Outcome:
    """A photo from the web that gave a face."""
    fields = {"revision": "", "etag": f'"{number}"', "last_modified": DATE, **fields}
    return fakes.photo_outcome(f"https://example.org/{number}.jpg", who, **fields)


def asked_for(ref: ItemRef) -> ItemRef:
    """A reference as a source names it: what is known of the bytes of a photo from the web is not known yet."""
    return dataclasses.replace(ref, content_sha256="", etag="", last_modified="")


def keyed(refs: Sequence[ItemRef]) -> list[tuple[str, ItemRef]]:
    return [(ref.item_id, ref) for ref in refs]


def stage_part(folder: pathlib.Path, outcomes: Sequence[Outcome]) -> dict[str, tuple[int, StagedRow]]:
    """Keeps outcomes in one part; returns where, by item id."""
    places = stage.write_part(outcomes, str(folder), ROWS, SHARDS)
    return {read_outcomes([place])["item_id"][0].as_py(): (shard, place) for shard, place in places}


def ledger_row(outcome: Outcome) -> dict[str, object]:
    return outcome.ledger_row()


# --- sorting one item -------------------------------------------------------------------------------------------------

PLACE, OTHER = StagedRow("part-1.arrow", 0, 0), StagedRow("part-2.arrow", 0, 0)
PUBLISHED_PLACE = StagedRow("published-1.arrow", 0, 7)
STORED = StoredBytes("bytes-1.arrow", 3)
FILE = fakes.item("/photos/1.jpg", "ann", "5-1")
OBJECT = fakes.item("gs://bucket/1.jpg", "ann", "5-1")
UNKNOWN = fakes.item("/photos/1.jpg", "ann", "")
PHOTO = fakes.item("https://example.org/1.jpg", "ann")


NAMED, DESCRIBED = digest(PHOTO.named()), digest(PHOTO.described())  # of the items above, too


def of_file(revision: str = "5-1", published: bool = False, reason: str = "", place: StagedRow | None = None) -> Known:
    return kept(revision, "", "", "" if reason else "0123", reason, published, place)


def of_web(
    reason: str = "",
    content: str = "0123",
    published: bool = False,
    place: StagedRow | None = None,
    etag: str = '"7"',
    last_modified: str = DATE,
) -> Known:
    return kept("", etag, last_modified, content, reason, published, place)


def kept(
    revision: str, etag: str, last_modified: str, content: str, reason: str, published: bool, place: StagedRow | None
) -> Known:
    """What is known of an item that is named and described as it is now."""
    return Known(
        revision,
        etag,
        last_modified,
        content,
        reason,
        9 if published else 2,
        place or (PUBLISHED_PLACE if published else PLACE),
        published=published,
        named=NAMED,
        described="" if reason else DESCRIBED,
    )


def of_bytes(stored: StoredBytes = STORED) -> Known:
    return Known("", '"8"', DATE, "4567", stored=stored)


TAKEN, TAKEN_FROM_VERSION = ("staged", (2, PLACE)), ("staged", (9, PUBLISHED_PLACE))
READ_FILE = ("fresh", (FILE, None))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([], READ_FILE),
        ([of_file()], TAKEN),
        ([of_file(reason="no_face")], TAKEN),
        ([of_file("5-2")], READ_FILE),
        ([of_file("")], READ_FILE),
        ([of_file(place=OTHER), of_file()], TAKEN),
        ([of_file("5-2"), of_file(place=OTHER)], ("staged", (2, OTHER))),
    ],
    ids=["new", "done", "lost to its bytes", "changed", "state not known then", "kept twice", "changed and kept again"],
)
@pytest.mark.parametrize("retry", ["", "failed", "all", "none"])
def test_a_file_is_read_unless_this_run_has_done_it_in_its_state(known, expected, retry):
    assert resume.sort_out(FILE, known, retry) == expected
    assert resume.sort_out(FILE, known[::-1], retry) == expected


@pytest.mark.parametrize(
    ("known", "failed", "none"),
    [
        ([of_file(published=True)], TAKEN_FROM_VERSION, TAKEN_FROM_VERSION),
        ([of_file(published=True, reason="no_face")], TAKEN_FROM_VERSION, TAKEN_FROM_VERSION),
        ([of_file("5-2", published=True)], READ_FILE, READ_FILE),
        ([of_file(published=True, reason="not_found")], READ_FILE, TAKEN_FROM_VERSION),
        ([of_file(published=True, reason="unreadable")], READ_FILE, TAKEN_FROM_VERSION),
        ([of_file(published=True), of_file()], TAKEN, TAKEN),
        ([of_file("5-2"), of_file(published=True)], TAKEN_FROM_VERSION, TAKEN_FROM_VERSION),
        ([of_file("5-2", published=True), of_file()], TAKEN, TAKEN),
    ],
    ids=[
        "done",
        "lost to its bytes",
        "changed",
        "not found",
        "unreadable",
        "done by this run, too",
        "changed and back again",
        "changed since",
    ],
)
def test_a_file_is_read_unless_the_version_has_it_in_its_state(known, failed, none):
    assert resume.sort_out(FILE, known, "failed") == failed
    assert resume.sort_out(FILE, known, "all") == failed
    assert resume.sort_out(FILE, known, "none") == none
    assert resume.sort_out(FILE, known[::-1], "failed") == failed


@pytest.mark.parametrize("known", [of_file(""), of_file("", published=True), of_file()])
@pytest.mark.parametrize("retry", ["failed", "all", "none"])
def test_a_file_whose_state_cannot_be_known_is_read(known, retry):
    assert resume.sort_out(UNKNOWN, [known], retry) == ("fresh", (UNKNOWN, None))


def test_an_object_of_a_store_is_sorted_as_a_file():
    assert resume.sort_out(OBJECT, [], "failed") == ("fresh", (OBJECT, None))
    assert resume.sort_out(OBJECT, [of_file()], "failed") == TAKEN
    assert resume.sort_out(OBJECT, [of_file("5-2", published=True)], "failed") == ("fresh", (OBJECT, None))


HAD = dataclasses.replace(PHOTO, etag='"8"', last_modified=DATE, content_sha256="4567")
READ_STORED = ("fresh", (HAD, STORED))
ASK = ("web", (PHOTO, None))
DONE, NO_FACE = of_web(published=True), of_web("no_face", published=True)
FAILED = of_web("timeout", "", published=True, etag="", last_modified="")
DATED, TAGGED = of_web(published=True, etag=""), of_web(published=True, last_modified="")
UNTOLD = of_web(published=True, etag="", last_modified="")
UNTOLD_NO_FACE = dataclasses.replace(UNTOLD, reason="no_face")


@pytest.mark.parametrize(
    ("known", "failed", "none"),
    [
        ([], ASK, ASK),
        ([of_web()], TAKEN, TAKEN),
        ([of_web("no_face")], TAKEN, TAKEN),
        ([of_web("timeout", "")], TAKEN, TAKEN),
        ([of_bytes()], READ_STORED, READ_STORED),
        ([of_web(), of_bytes()], TAKEN, TAKEN),
        ([DONE], ("web", (PHOTO, DONE)), TAKEN_FROM_VERSION),
        ([NO_FACE], ("web", (PHOTO, NO_FACE)), TAKEN_FROM_VERSION),
        ([DATED], ("web", (PHOTO, DATED)), TAKEN_FROM_VERSION),
        ([TAGGED], ("web", (PHOTO, TAGGED)), TAKEN_FROM_VERSION),
        ([FAILED], ASK, TAKEN_FROM_VERSION),
        ([of_web(), DONE], TAKEN, TAKEN),
        ([of_web(), FAILED], TAKEN, TAKEN),
        ([of_bytes(), DONE], READ_STORED, TAKEN_FROM_VERSION),
        ([of_bytes(), FAILED], READ_STORED, TAKEN_FROM_VERSION),
        ([of_web(), of_bytes(), DONE], TAKEN, TAKEN),
        ([of_web(place=OTHER), of_web()], TAKEN, TAKEN),
        ([of_bytes(StoredBytes("bytes-2.arrow", 0)), of_bytes()], READ_STORED, READ_STORED),
        ([of_bytes(StoredBytes("bytes-1.arrow", 4)), of_bytes()], READ_STORED, READ_STORED),
    ],
    ids=[
        "new",
        "done",
        "no face",
        "failed",
        "bytes there",
        "done, bytes there",
        "published",
        "published without a face",
        "published with a date",
        "published with a tag",
        "published as failed",
        "published and done",
        "published as failed and done",
        "published, bytes there",
        "published as failed, bytes there",
        "published and done, bytes there",
        "kept twice",
        "bytes there twice",
        "bytes there twice in one part",
    ],
)
def test_a_photo_from_the_web_is_asked_for_only_if_it_must_be(known, failed, none):
    for order in (known, known[::-1]):
        assert resume.sort_out(PHOTO, order, "failed") == failed
        assert resume.sort_out(PHOTO, order, "all") == failed
        assert resume.sort_out(PHOTO, order, "none") == none
        if not any(entry.published for entry in known):
            assert resume.sort_out(PHOTO, order, "") == failed


@pytest.mark.parametrize("known", [UNTOLD, UNTOLD_NO_FACE])
def test_a_photo_that_cannot_be_told_to_be_unchanged_is_sent_again_only_if_that_is_asked_for(known):
    assert resume.sort_out(PHOTO, [known], "failed") == TAKEN_FROM_VERSION
    assert resume.sort_out(PHOTO, [known], "none") == TAKEN_FROM_VERSION
    assert resume.sort_out(PHOTO, [known], "all") == ("web", (PHOTO, known))
    assert resume.sort_out(PHOTO, [of_bytes(), known], "failed") == READ_STORED


# --- items that are named otherwise now -------------------------------------------------------------------------------

ANNIE = Person("Annie", Person.of("ann").identity_id, "", ("ann",))
FOUND = Provenance("https://example.org/ann", "CC0", "Eve")


@pytest.mark.parametrize(
    "changed",
    [{"person": ANNIE}, {"origin": "a.csv:3"}, {"provenance": FOUND}, {"person": ANNIE, "origin": "a.csv:3"}],
    ids=["name", "row", "provenance", "name and row"],
)
@pytest.mark.parametrize("published", [False, True])
def test_what_is_taken_over_is_named_as_it_is_now(changed, published):
    place = PUBLISHED_PLACE if published else PLACE
    shard = 9 if published else 2
    for ref, known in ((FILE, of_file(published=published)), (PHOTO, of_web(published=published))):
        ref = dataclasses.replace(ref, **changed)
        now = dataclasses.replace(
            ref, etag=known.etag, last_modified=known.last_modified, content_sha256=known.content_sha256
        )
        restated = dataclasses.replace(place, restated=now, identity=ref.person.name)
        assert resume.sort_out(ref, [known], "none") == ("staged", (shard, restated))


def test_a_photo_that_is_not_asked_for_again_is_named_as_it_is_now():
    ref = dataclasses.replace(PHOTO, person=ANNIE)
    restated = dataclasses.replace(
        PUBLISHED_PLACE, restated=dataclasses.replace(ref, content_sha256="0123"), identity="Annie"
    )
    assert resume.sort_out(ref, [UNTOLD], "failed") == ("staged", (9, restated))


def test_of_a_lost_item_only_its_names_are_told():
    lost = of_file(reason="no_face")
    assert resume.sort_out(dataclasses.replace(FILE, provenance=FOUND), [lost], "") == TAKEN
    ref = dataclasses.replace(FILE, origin="a.csv:3")
    assert resume.sort_out(ref, [lost], "") == ("staged", (2, dataclasses.replace(PLACE, restated=ref, identity="ann")))


def test_an_item_that_must_be_done_anew_is_handed_out_as_it_is_named_now():
    ref = dataclasses.replace(PHOTO, person=ANNIE)
    assert resume.sort_out(ref, [DONE], "failed") == ("web", (ref, DONE))
    had = dataclasses.replace(HAD, person=ANNIE)
    assert resume.sort_out(ref, [of_bytes()], "failed") == ("fresh", (had, STORED))


@pytest.mark.parametrize("retry", ["", "Failed", "everything"])
def test_what_is_asked_for_again_is_one_of_three(retry):
    with pytest.raises(ValueError, match=f"retry must be one of failed, all, none, not {retry}"):
        Reuse("/galleries/x/v1", retry)


# --- rows that repeat another -----------------------------------------------------------------------------------------


def named(origin: str, page: str = "") -> ItemRef:
    return fakes.item("https://example.org/1.jpg", "ann", origin=origin, provenance=Provenance(page))


def test_an_item_named_once_repeats_nothing():
    assert resume.collapse([named("a.csv:1")]) == (named("a.csv:1"), [])


def test_the_first_row_counts_and_the_others_repeat_it():
    origins = ["a.csv:10", "a.csv:9", "a.csv:11"]
    for order in (origins, origins[::-1]):
        first, repeats = resume.collapse(map(named, order))
        assert first == named("a.csv:9")
        assert [each.ref.origin for each in repeats] == ["a.csv:10", "a.csv:11"]
        for each in repeats:
            ref = dataclasses.replace(named(each.ref.origin), item_id=each.ref.item_id)
            assert each.ledger_row() == skipped(ref, "resume", Reason.DUPLICATE, "repeats a.csv:9").ledger_row()


def test_each_row_that_repeats_has_an_id_of_its_own():
    rows = [named("a.csv:1")] * 3 + [named("a.csv:2")] * 2 + [fakes.item("https://example.org/2.jpg", "ann")]
    first, repeats = resume.collapse(rows[:5])
    ids = [first.item_id, *(each.ref.item_id for each in repeats), rows[5].item_id]
    assert len(ids) == len(set(ids)) == 6
    assert {len(each) for each in ids} == {16}
    assert first.item_id == named("").item_id
    again = [each.ref.item_id for each in resume.collapse(rows[4::-1])[1]]
    assert again == ids[1:5]
    other = [dataclasses.replace(ref, item_id="0123456789abcdef") for ref in rows[:5]]
    assert not set(ids) & {each.ref.item_id for each in resume.collapse(other)[1]}


def test_what_a_source_names_by_itself_comes_first():
    first, (repeat,) = resume.collapse([named("a.csv:1"), named("")])
    assert (first.origin, repeat.ref.origin, repeat.detail) == ("", "a.csv:1", "repeats another source")


def test_of_links_on_one_row_the_first_page_counts():
    pages = ["https://example.org/b", "https://example.org/a"]
    first, (repeat,) = resume.collapse([named("a.csv:1", page) for page in pages])
    assert (first.provenance.page, repeat.ref.provenance.page) == (pages[1], pages[0])


def test_of_one_row_that_names_a_person_in_two_ways_always_the_same_counts():
    people = [Person.of("Madonna Ciccone", "wikidata:Q1744"), Person.of("Madonna", "wikidata:Q1744", ["Madge"])]
    people.append(Person.of("Madonna", "wikidata:Q1744"))
    refs = [fakes.item("https://example.org/1.jpg", who, origin="a.csv:1") for who in people]
    assert len({ref.item_id for ref in refs}) == 1
    for order in itertools.permutations(refs):
        first, repeats = resume.collapse(order)
        assert [first.person, *(each.ref.person for each in repeats)] == [people[2], people[1], people[0]]


def test_pages_and_names_are_collapsed_in_a_pipeline():
    def page(number: int, origin: str) -> ItemRef:
        return fakes.item(f"https://example.org/{number}", "ann", kind=Kind.PAGE, origin=origin)

    refs = [page(1, "a.csv:2"), page(2, "a.csv:3"), page(1, "a.csv:1"), page(1, "a.csv:4")]
    with fakes.pipeline() as pipeline:
        once, lost = pipeline | beam.Create(keyed(refs)) | CollapseRepeats("scrape")
        assert_that(once, equal_to([page(1, "a.csv:1"), page(2, "a.csv:3")]), "Once")
        expected = [each.ledger_row() for each in resume.collapse([refs[2], refs[0], refs[3]])[1]]
        assert_that(lost | "Row" >> beam.Map(ledger_row), equal_to(expected), "Lost")
    assert fakes.counters(pipeline.result, "scrape") == {"items_in": 4, "lost_duplicate": 2}


# --- a killed run -----------------------------------------------------------------------------------------------------


def test_only_new_and_changed_photos_are_handed_out(tmp_path):
    names = {"kept": "/photos/kept.jpg", "kept, no UTF-8": "/photos/caf\udce9.jpg", "changed": "/photos/changed.jpg"}
    outcomes = [fakes.photo_outcome(uri, revision="1-1") for uri in names.values()]
    outcomes.append(fakes.photo_outcome("/photos/gone.jpg", revision="1-1"))
    outcomes.append(fakes.photo_outcome("/photos/unknown.jpg", revision=""))
    places = stage_part(tmp_path, outcomes)

    same = [fakes.item(names["kept"], "ann", "1-1"), fakes.item(names["kept, no UTF-8"], "ann", "1-1")]
    to_do = [
        fakes.item(names["changed"], "ann", "1-2"),
        fakes.item("/photos/new.jpg", "ann", "1-1"),
        fakes.item(names["kept"], "bob", "1-1"),  # the same file, said to be of somebody else
        fakes.item("/photos/unknown.jpg", "ann", ""),  # whether it changed cannot be known
    ]
    with fakes.pipeline() as pipeline:
        found = pipeline | beam.Create(keyed(same + to_do)) | ResumeItems(str(tmp_path), ROWS, SHARDS)
        assert_that(found.fresh, equal_to([(ref, None) for ref in to_do]), "Fresh")
        assert_that(found.staged, equal_to([places[ref.item_id] for ref in same]), "Staged")
        assert_that(found.web, equal_to([]), "Web")
        assert_that(found.lost, equal_to([]), "Lost")
    assert fakes.counters(pipeline.result, "resume") == {"items_in": 6, "items_out": 4, "noted_taken_over": 2}


TRIED_AGAIN = [
    Reason.NOT_FOUND,
    Reason.UNREADABLE,
    Reason.ROBOTS_UNREACHABLE,
    Reason.NO_SUCH_HOST,
    Reason.CONNECTION_FAILED,
    Reason.TLS_ERROR,
    Reason.TIMEOUT,
    Reason.RATE_LIMITED,
    Reason.SERVER_ERROR,
    Reason.HOST_FAILING,
]


def test_what_was_lost_to_its_place_is_tried_again(tmp_path):
    reasons = [reason for reason in Reason if reason]
    files = {reason: fakes.item(f"/photos/{reason}.jpg", "ann", "1-1") for reason in reasons}
    photos = {reason: fakes.item(f"https://example.org/{reason}.jpg", "ann") for reason in reasons}
    stage_part(tmp_path, [rejected(ref, "read", reason, "lost") for reason, ref in files.items()])
    stage_part(tmp_path, [rejected(ref, "fetch", reason, "lost") for reason, ref in photos.items()])
    with fakes.pipeline() as pipeline:
        refs = pipeline | beam.Create(keyed([*files.values(), *photos.values()]))
        found = refs | ResumeItems(str(tmp_path), ROWS, SHARDS)
        assert_that(found.fresh, equal_to([(files[reason], None) for reason in TRIED_AGAIN]), "Fresh")
        assert_that(found.web, equal_to([(photos[reason], None) for reason in TRIED_AGAIN]), "Web")
    items, again = 2 * len(reasons), 2 * len(TRIED_AGAIN)
    counted = {"items_in": items, "items_out": again, "noted_taken_over": items - again}
    assert fakes.counters(pipeline.result, "resume") == counted


def test_a_photo_kept_twice_is_taken_from_one_place(tmp_path):
    twice, other = fakes.photo_outcome("/photos/a.jpg"), fakes.photo_outcome("/photos/b.jpg")
    candidates = [stage_part(tmp_path, outcomes)[twice.ref.item_id] for outcomes in ([twice], [twice, other])]
    assert candidates[0] != candidates[1]
    with fakes.pipeline() as pipeline:
        found = pipeline | beam.Create(keyed([twice.ref])) | ResumeItems(str(tmp_path), ROWS, SHARDS)
        assert_that(found.fresh, equal_to([]), "Fresh")
        assert_that(found.staged, equal_to([min(candidates, key=lambda each: each[1].part)]), "Staged")


def test_the_first_run_has_everything_to_do(tmp_path):
    files = [fakes.item("/photos/a.jpg", "ann", "1-1"), fakes.item("/photos/b.jpg", "ann", "")]
    with fakes.pipeline() as pipeline:
        refs = pipeline | beam.Create(keyed([*files, PHOTO]))
        found = refs | ResumeItems(str(tmp_path / "not there yet"), ROWS, SHARDS)
        assert_that(found.fresh, equal_to([(ref, None) for ref in files]), "Fresh")
        assert_that(found.web, equal_to([(PHOTO, None)]), "Web")
        assert_that(found.staged, equal_to([]), "Staged")
        assert_that(found.lost, equal_to([]), "Lost")
    assert fakes.counters(pipeline.result, "resume") == {"items_in": 3, "items_out": 3}


def test_a_part_half_written_by_a_killed_worker_is_no_part(tmp_path):
    outcomes = [fakes.photo_outcome("/photos/a.jpg"), fakes.photo_outcome("/photos/b.jpg")]
    places = stage_part(tmp_path, outcomes)
    (part,) = tmp_path.iterdir()
    whole = part.read_bytes()
    part.with_name(f"{part.name}.0123abcd.tmp").write_bytes(whole[: len(whole) // 2])
    with fakes.pipeline() as pipeline:
        refs = pipeline | beam.Create(keyed([each.ref for each in outcomes]))
        found = refs | ResumeItems(str(tmp_path), ROWS, SHARDS)
        assert_that(found.staged, equal_to(list(places.values())))


def test_only_parts_tell_of_earlier_work(tmp_path):
    outcome = fakes.photo_outcome("/photos/a.jpg")
    stage_part(tmp_path, [outcome])
    (part,) = tmp_path.iterdir()
    (tmp_path / "version").mkdir()
    for name in ("published-0123.arrow", "part-0123.parquet", "notes-0123.arrow", "version/faces-00000.parquet"):
        (tmp_path / name).write_bytes(part.read_bytes())
    found = {path.name: list(resume.read_keys(str(path))) for path in tmp_path.rglob("*-*")}
    assert {name for name, keys in found.items() if keys} == {part.name}


def test_what_is_known_of_a_part(tmp_path):
    outcomes = [
        web_outcome(
            1,
            Person.of("ann", "wikidata:Q1", ["Annie"]),
            vectors=fakes.unit_vectors(2, 4),
            provenance=Provenance("https://example.org/ann", "CC0", "Eve"),
        ),
        rejected(dataclasses.replace(PHOTO, content_sha256="0123", etag='"7"'), "detect", Reason.NO_FACE, "none"),
        fakes.photo_outcome("/photos/1.jpg", "bob", revision="5-1", origin="a.csv:2"),
    ]
    places = stage_part(tmp_path, outcomes)
    (part,) = tmp_path.iterdir()
    expected = {}
    for each in outcomes:
        shard, place = places[each.ref.item_id]
        ref = each.ref
        expected[ref.item_id] = Known(
            ref.revision,
            ref.etag,
            ref.last_modified,
            ref.content_sha256,
            str(each.reason),
            shard,
            place,
            named=digest({"identity": ref.person.name, "identity_id": ref.person.identity_id, "origin": ref.origin}),
            described=digest(description(each)) if each.rows else "",
        )
    assert dict(resume.read_keys(str(part))) == expected
    assert len({known.named for known in expected.values()}) == len(outcomes)
    assert len({known.described for known in expected.values()}) == len(outcomes)


DESCRIBING = ("identity", "identity_id", "external_id", "aliases", "source_page", "licence", "author")


def description(outcome: Outcome) -> dict[str, object]:
    """How the faces of a photo are described."""
    return {name: outcome.rows[0][name] for name in DESCRIBING}


def test_a_table_that_does_not_describe_people_is_not_asked_how(tmp_path):
    """Matches name those who were found on a photo, who are no property of the photo."""
    row = {name: None for name in schemas.MATCHES.names} | {"photo_uri": "/a.jpg", "identity": "Eve"}
    ref = fakes.item("/a.jpg", "", "1-1", origin="a.csv:1")
    outcome = Outcome(ref, schemas.Status.DONE, "match", faces=1, shard_key=ref.item_id, rows=[row])
    stage.write_part([outcome], str(tmp_path), schemas.MATCHES, 1)
    ((_, known),) = resume.read_keys(str(next(tmp_path.iterdir())))
    assert (known.named, known.described) == (digest(ref.named()), "")


def test_a_killed_run_goes_on_with_a_list_that_names_its_photos_otherwise(tmp_path):
    """The list was mended between the two runs: what was done is not done again, and takes over the new names."""
    q1 = Person.of("ann", "wikidata:Q1")
    done = [
        web_outcome(1, q1, origin="a.csv:1"),
        web_outcome(2, q1, origin="a.csv:2", provenance=Provenance("https://example.org/a", "CC0", "Eve")),
        rejected(fakes.item("/photos/3.jpg", q1, "1-1", origin="a.csv:3"), "detect", Reason.NO_FACE, "none"),
    ]
    stage_part(tmp_path, done)
    ann = Person.of("Ann", "wikidata:Q1", ["Annie"])
    mended = [
        web_outcome(1, ann, origin="a.csv:7"),
        web_outcome(2, ann, origin="a.csv:2", provenance=Provenance("https://example.org/b", "", "Eve")),
        rejected(fakes.item("/photos/3.jpg", ann, "1-1", origin="a.csv:8"), "detect", Reason.NO_FACE, "none"),
    ]
    with fakes.pipeline() as pipeline:
        refs = pipeline | beam.Create(keyed([asked_for(each.ref) for each in mended]))
        found = refs | ResumeItems(str(tmp_path), ROWS, SHARDS)
        kept_now = [("part", version_row(each)) for each in mended]
        assert_that(found.staged | "Kept" >> beam.Map(what_is_kept), equal_to(kept_now), "Staged")
        assert_that(found.fresh, equal_to([]), "Fresh")
        assert_that(found.web, equal_to([]), "Web")


# --- a published version ----------------------------------------------------------------------------------------------


def everything() -> list[Outcome]:
    """Photos of every end: done, lost, repeated, nearly repeated, of two names, of the web and of files."""
    homonyms = [Person.of("ann", f"wikidata:Q{number}", ["Annie"]) for number in (1, 2)]
    turned = fakes.unit_vectors(2, 4, seed=4)
    return [
        fakes.photo_outcome("/photos/ann/2.jpg", vectors=turned[:1], content=b"copied", found=3),
        fakes.photo_outcome("/photos/ann/1.jpg", vectors=turned[:1], content=b"copied", found=3),
        fakes.photo_outcome("/photos/bob/1.jpg", "bob", vectors=turned[:1], content=b"copied"),
        fakes.photo_outcome("/photos/caf\udce9.jpg", "Zo\u00eb", vectors=turned, crop_hash=2**64 - 1),
        rejected(
            fakes.item("/photos/bob/2.jpg", "bob", "7-7", content_sha256="ab"), "detect", Reason.NO_FACE, "no face"
        ),
        *(web_outcome(f"{who.external_id}/{n}", who, box=(0, 0, 50 + n, 90)) for who in homonyms for n in range(4)),
        web_outcome(
            "far", homonyms[0], vectors=-turned[:1], provenance=Provenance("https://example.org", "CC0", "Eve")
        ),
        rejected(fakes.item("https://example.org/slow.jpg", "ann"), "fetch", Reason.TIMEOUT, "no answer"),
        rejected(
            fakes.item("https://example.org/dog.jpg", "ann", etag='"1"', last_modified=DATE, content_sha256="cd"),
            "detect",
            Reason.NO_FACE,
            "no face",
        ),
        *(
            web_outcome(f"eve/{n}", "eve", vectors=fakes.unit_vectors(1, 4, seed=n), origin="a.csv:7")
            for n in range(30)
        ),
    ]


def listed_apart() -> list[Outcome]:
    """What ended before it could be known: a file of no photo, a page."""
    page = fakes.item("https://example.org/ann", "ann", kind=Kind.PAGE, origin="a.csv:3")
    return [
        skipped(fakes.item("/photos/notes.txt", "ann", "3-3"), "list", Reason.UNSUPPORTED_TYPE, "a .txt file"),
        Outcome(page, schemas.Status.DONE, "scrape", detail="4 photos", shard_key=page.item_id),
    ]


class Worked:
    """Does the work on items, as the steps behind would."""

    def __init__(self, outcomes: Sequence[Outcome]):
        self.outcomes = {each.ref.item_id: each for each in outcomes}

    def __call__(self, handed_out: tuple[ItemRef, object]) -> Outcome:
        return self.outcomes[handed_out[0].item_id]


def build(
    folder: pathlib.Path,
    outcomes: Sequence[Outcome],
    shards: int = SHARDS,
    near: str = "web",
    reuse: Reuse | None = None,
    repeated: Sequence[ItemRef] = (),
) -> dict[str, int]:
    """Builds <folder>/version from items that end like this; returns the counters of the resumption."""
    layout = ShardLayout(str(folder / "version"), "faces", ROWS, shards, "face_id", near)
    staging = str(folder / "staging")
    refs = [*(asked_for(each.ref) for each in outcomes), *repeated]
    with fakes.pipeline() as pipeline:
        found = pipeline | "Refs" >> beam.Create(keyed(refs)) | ResumeItems(staging, ROWS, shards, reuse)
        work = (found.fresh, found.web) | "HandedOut" >> beam.Flatten() | "Work" >> beam.Map(Worked(outcomes))
        apart = pipeline | "Apart" >> beam.Create(listed_apart())
        kept = (work, found.lost, apart) | StageOutcomes(staging, ROWS, shards)
        (kept, found.staged) | "All" >> beam.Flatten() | WriteShards(layout)
    return fakes.counters(pipeline.result, "resume")


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "version").iterdir())}


def ledger(folder: pathlib.Path) -> dict[str, dict]:
    """Ledger rows by place."""
    rows = [row for path in (folder / "version").glob("ledger-*") for row in pq.read_table(path).to_pylist()]
    return {row["uri"]: row for row in rows}


def reuse_of(folder: pathlib.Path, retry: str = "none") -> Reuse:
    return Reuse(str(folder / "version"), retry)


REPEATED = [asked_for(everything()[-1].ref)] * 2 + [fakes.item("/photos/ann/1.jpg", "ann", "1-1", origin="a.csv:8")]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> pathlib.Path:
    """A folder with a version of everything."""
    folder = tmp_path_factory.mktemp("original")
    counted = build(folder, everything(), repeated=REPEATED)
    count = len(everything())
    assert counted == {"items_in": count + 3, "items_out": count, "lost_duplicate": 3}
    reasons = {row["reason"] for row in ledger(folder).values()}
    assert reasons == {"", "no_face", "timeout", "duplicate", "near_duplicate", "unsupported_type"}
    assert {row["flag"] for row in ledger(folder).values()} == {"", "two_names"}
    return folder


def test_a_version_names_its_shards(original):
    version = str(original / "version")
    tables = ("ledger", "faces", "repeats", "quarantined")
    assert resume.version_shards(version) == [
        tuple(f"{version}/{table}-0000{number}-of-00003.parquet" for table in tables) for number in range(3)
    ]


def test_only_ledger_shards_are_taken_for_some(tmp_path):
    for name in ("ledger-00000-of-00001.parquet", "ledgers.txt", "manifest.json", "faces-00000-of-00001.parquet"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "index").mkdir()
    assert [ledger for ledger, *_ in resume.version_shards(str(tmp_path))] == [
        f"{tmp_path}/ledger-00000-of-00001.parquet"
    ]


def test_a_published_shard_is_restored_as_it_was_before_repeats_were_left_out(original, tmp_path):
    known = [
        entry
        for tables in resume.version_shards(str(original / "version"))
        for entry in resume.import_shard(tables, str(tmp_path), ROWS, 5)
    ]
    expected = {}
    for each in everything():
        record = {**each.ledger_row(), "shard": stage.shard_of(each.shard_key, 5), "rows": list(each.rows)}
        expected[each.ref.item_id] = record
    assert sorted(item_id for item_id, _ in known) == sorted(expected)
    assert len(list(tmp_path.glob("published-*.arrow"))) == 3
    for item_id, entry in known:
        table = read_outcomes([entry.place])
        assert table.schema == staging_schema(ROWS)
        assert table.to_pylist() == [expected[item_id]]
        record = expected[item_id]
        assert entry == Known(
            record["revision"],
            record["etag"],
            record["last_modified"],
            record["content_sha256"],
            record["reason"],
            record["shard"],
            dataclasses.replace(
                entry.place,
                content_sha256=record["content_sha256"] if record["faces"] else "",
                identity_id=record["identity_id"],
                identity=record["identity"],
            ),
            published=True,
            named=digest({name: record[name] for name in ("identity", "identity_id", "origin")}),
            described=digest({name: record["rows"][0][name] for name in DESCRIBING}) if record["rows"] else "",
        )


def test_copies_whose_names_are_printed_alike_are_kept_apart(tmp_path):
    uris = ["/photos/caf\udce9.jpg", "/photos/caf\\xe9.jpg"]
    outcomes = [fakes.photo_outcome(uri, vectors=fakes.unit_vectors(2, 4), content=b"copied") for uri in uris]
    build(tmp_path / "1", outcomes)
    build(tmp_path / "2", outcomes, reuse=reuse_of(tmp_path / "1"))
    assert files(tmp_path / "2") == files(tmp_path / "1")


def test_a_shard_without_photos_makes_no_part(tmp_path):
    build(tmp_path, [], shards=1)
    (tables,) = resume.version_shards(str(tmp_path / "version"))
    assert list(resume.import_shard(tables, str(tmp_path / "new"), ROWS, 1)) == []
    assert not (tmp_path / "new").exists()


def test_vectors_and_crops_are_restored_to_the_bit(tmp_path):
    vectors = np.array([[0.1, -0.2, 1e-30, 0.3], [1 / 3, np.pi, -0.0, -1]], np.float32)
    build(tmp_path, [fakes.photo_outcome("/a.jpg", vectors=vectors, crop=bytes(range(256)))], shards=1)
    (tables,) = resume.version_shards(str(tmp_path / "version"))
    ((_, known),) = resume.import_shard(tables, str(tmp_path / "new"), ROWS, 1)
    rows = read_outcomes([known.place])["rows"].combine_chunks().flatten()
    assert rows.field("embedding").flatten().to_numpy().tobytes() == vectors.tobytes()
    assert rows.field("crop_jpeg").to_pylist() == [bytes(range(256))] * 2


def test_a_build_from_a_version_writes_the_same_bytes(original, tmp_path):
    counted = build(tmp_path, everything(), reuse=reuse_of(original), repeated=REPEATED)
    count = len(everything())
    assert counted == {"items_in": count + 3, "lost_duplicate": 3, "noted_taken_over": count}
    assert files(tmp_path) == files(original)


@pytest.mark.parametrize(("shards", "near"), [(1, "web"), (5, "web"), (3, "none"), (2, "all")])
def test_a_build_from_a_version_may_be_cut_up_otherwise(original, tmp_path, shards, near):
    counted = build(tmp_path / "reused", everything(), shards, near, reuse_of(original))
    assert counted == {"items_in": len(everything()), "noted_taken_over": len(everything())}
    build(tmp_path / "anew", everything(), shards, near)
    assert files(tmp_path / "reused") == files(tmp_path / "anew")


def test_a_version_of_a_version_is_as_the_first(original, tmp_path):
    build(tmp_path / "1", everything(), near="none", reuse=reuse_of(original), repeated=REPEATED)
    build(tmp_path / "2", everything(), reuse=reuse_of(tmp_path / "1"), repeated=REPEATED)
    assert files(tmp_path / "1") != files(original)
    assert files(tmp_path / "2") == files(original)


def test_a_killed_build_from_a_version_goes_on(original, tmp_path):
    staging = str(tmp_path / "staging")
    for tables in resume.version_shards(str(original / "version")):  # as far as the killed run had come
        list(resume.import_shard(tables, staging, ROWS, SHARDS))
    counted = build(tmp_path, everything(), reuse=reuse_of(original), repeated=REPEATED)
    assert counted["noted_taken_over"] == len(everything())
    assert files(tmp_path) == files(original)


def test_a_photo_takes_the_place_of_the_one_that_it_repeated(original, tmp_path):
    gone = ["/photos/ann/1.jpg", "https://example.org/wikidata:Q1/3.jpg"]
    rest = [each for each in everything() if each.ref.uri not in gone]
    build(tmp_path / "reused", rest, reuse=reuse_of(original))
    build(tmp_path / "anew", rest)
    assert files(tmp_path / "reused") == files(tmp_path / "anew")
    before, after = ledger(original), ledger(tmp_path / "reused")
    assert before["/photos/ann/2.jpg"]["detail"] == "the same photo as /photos/ann/1.jpg"
    assert after["/photos/ann/2.jpg"]["detail"] == "2 of 3 faces left out; also given for bob"
    places = [f"https://example.org/wikidata:Q1/{number}.jpg" for number in range(4)]
    assert [before[place]["reason"] for place in places] == ["near_duplicate"] * 3 + [""]
    assert [after[place]["reason"] for place in places[:3]] == ["near_duplicate"] * 2 + [""]


def test_the_other_name_of_a_photo_is_forgotten_when_it_is_gone(original, tmp_path):
    rest = [each for each in everything() if each.ref.person.name != "bob"]
    build(tmp_path, rest, reuse=reuse_of(original))
    row = ledger(tmp_path)["/photos/ann/1.jpg"]
    assert (row["flag"], row["detail"]) == ("", "2 of 3 faces left out")


def named_again(outcome: Outcome) -> Outcome:
    """The same outcome of an item that a mended list names otherwise: person, aliases, row, page, licence."""
    ref = outcome.ref
    name = "Ann Bee" if ref.person.external_id else ref.person.name
    person = Person.of(name, ref.person.external_id, [*ref.person.aliases, "Queen Bee"])
    assert person.identity_id == ref.person.identity_id
    number = len(ref.uri)
    ref = dataclasses.replace(
        ref, person=person, origin=f"mended.csv:{number}", provenance=Provenance(f"/{number}", "", f"author {number}")
    )
    columns = {
        "identity": name,
        "aliases": [*person.aliases],
        "source_page": f"/{number}",
        "licence": "",
        "author": f"author {number}",
    }
    return dataclasses.replace(outcome, ref=ref, rows=[{**row, **columns} for row in outcome.rows])


def test_a_build_from_a_version_names_everything_as_the_list_does_now(original, tmp_path):
    outcomes = [named_again(each) for each in everything()]
    counted = build(tmp_path / "reused", outcomes, reuse=reuse_of(original))
    assert counted == {"items_in": len(outcomes), "noted_taken_over": len(outcomes)}
    build(tmp_path / "anew", outcomes)
    assert files(tmp_path / "reused") == files(tmp_path / "anew")
    same = {name for name, data in files(original).items() if data == files(tmp_path / "anew")[name]}
    assert {name.split("-")[0] for name in same} == {"audit", "quarantined"}  # they are empty


def test_the_other_name_of_a_photo_is_the_one_that_it_has_now(tmp_path):
    def copied(name: str) -> list[Outcome]:
        people = [Person.of("ann", "wikidata:Q1"), Person.of(name, "wikidata:Q2")]
        return [fakes.photo_outcome(f"/photos/{who.external_id}.jpg", who, content=b"copied") for who in people]

    build(tmp_path / "1", copied("bob"))
    build(tmp_path / "2", copied("Bob Dylan"), reuse=reuse_of(tmp_path / "1"))
    details = [
        [ledger(tmp_path / folder)[f"/photos/wikidata:{key}.jpg"]["detail"] for key in ("Q1", "Q2")]
        for folder in ("1", "2")
    ]
    assert details == [["also given for bob", "also given for ann"], ["also given for Bob Dylan", "also given for ann"]]


def test_by_default_the_web_is_asked_what_changed(original, tmp_path):
    outcomes = everything()
    counted = build(tmp_path, outcomes, reuse=reuse_of(original, "failed"))
    files_of_a_user = sum(not each.ref.is_web for each in outcomes)
    assert counted == {
        "items_in": len(outcomes),
        "items_out": len(outcomes) - files_of_a_user,
        "noted_taken_over": files_of_a_user,
    }


def test_every_item_has_one_way_on(tmp_path):
    """All that earlier work may leave, together."""
    version = [
        fakes.photo_outcome("/photos/published.jpg", revision="1-1"),
        fakes.photo_outcome("/photos/touched.jpg", revision="1-1"),
        fakes.photo_outcome("/photos/unlisted.jpg", revision="1-1"),
        rejected(fakes.item("/photos/locked.jpg", "ann", "1-1"), "read", Reason.UNREADABLE, "Permission denied"),
        web_outcome("published"),
        web_outcome("stored"),
        rejected(fakes.item("https://example.org/failed.jpg", "ann"), "fetch", Reason.TIMEOUT, "no answer"),
    ]
    build(tmp_path / "earlier", version, near="none")
    staging = tmp_path / "staging"
    killed = stage_part(staging, [web_outcome("done"), fakes.photo_outcome("/photos/done.jpg", revision="1-1")])
    data = b"a photo"
    sha256 = hashlib.sha256(data).hexdigest()
    stored = fakes.item("https://example.org/stored.jpg", "ann")
    (place,) = write_photos(str(staging), [(stored.item_id, '"8"', DATE, sha256, data)])

    local = {
        name: fakes.item(f"/photos/{name}.jpg", "ann", revision)
        for name, revision in [
            ("published", "1-1"),
            ("touched", "1-2"),
            ("locked", "1-1"),
            ("done", "1-1"),
            ("new", "1-1"),
        ]
    }
    web = {
        name: fakes.item(f"https://example.org/{name}.jpg", "ann", origin="a.csv:1")
        for name in ("published", "stored", "failed", "done", "new")
    }
    again = [dataclasses.replace(web["new"], origin=f"a.csv:{row}") for row in (3, 2)]
    reuse = reuse_of(tmp_path / "earlier", "failed")
    with fakes.pipeline() as pipeline:
        refs = pipeline | beam.Create(keyed([*local.values(), *web.values(), *again]))
        found = refs | ResumeItems(str(staging), ROWS, SHARDS, reuse)
        had = dataclasses.replace(web["stored"], etag='"8"', last_modified=DATE, content_sha256=sha256)
        fresh = [(local[name], None) for name in ("touched", "locked", "new")]
        assert_that(found.fresh, equal_to([*fresh, (had, place)]), "Fresh")
        asked = [
            (web["published"], ('"published"', DATE, version[4].ref.content_sha256, "published")),
            (web["failed"], None),
            (web["new"], None),
        ]
        assert_that(found.web | "Known" >> beam.Map(what_is_known), equal_to(asked), "Web")
        staged = [
            ("part", version_row(web_outcome("done", origin="a.csv:1"))),
            ("part", version_row(fakes.photo_outcome("/photos/done.jpg", revision="1-1"))),
            ("published", version_row(version[0])),
        ]
        assert_that(found.staged | "Kept" >> beam.Map(what_is_kept), equal_to(staged), "Staged")
        repeats = [each.ledger_row() for each in resume.collapse([web["new"], *again])[1]]
        assert_that(found.lost | "Row" >> beam.Map(ledger_row), equal_to(repeats), "Lost")
    assert len(killed) == 2
    counted = fakes.counters(pipeline.result, "resume")
    assert counted == {"items_in": 12, "items_out": 7, "lost_duplicate": 2, "noted_taken_over": 3}
    assert counted["items_in"] == sum(counted.values()) - counted["items_in"]


def what_is_known(handed_out: tuple[ItemRef, Known | None]) -> tuple[ItemRef, tuple[str, str, str, str] | None]:
    ref, known = handed_out
    if known is None:
        return ref, None
    part = pathlib.Path(known.place.part).name.partition("-")[0]
    return ref, (known.etag, known.last_modified, known.content_sha256, part)


def what_is_kept(keyed: tuple[int, StagedRow]) -> tuple[str, dict]:
    shard, place = keyed
    (record,) = read_outcomes([place]).to_pylist()
    assert record["shard"] == shard
    return pathlib.Path(place.part).name.partition("-")[0], record


def version_row(outcome: Outcome) -> dict:
    shard = stage.shard_of(outcome.shard_key, SHARDS)
    return {**outcome.ledger_row(), "shard": shard, "rows": list(outcome.rows)}
