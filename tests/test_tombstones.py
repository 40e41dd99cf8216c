"""What was taken down: how it is kept, and how it is known again in tables and parts."""

import json
import pathlib

import fakes
import pyarrow as pa
import pytest

from celebface.indexing import publish, schemas, storage, tombstones
from celebface.indexing.manifest import BadBundle
from celebface.indexing.tombstones import NONE, Mark, TakenDown, Tombstones, uri_hash
from celebface.transforms import stage
from celebface.transforms.records import Person
from celebface.transforms.removed import is_removed, shows_removed, withdrawn
from celebface.transforms.resume import collapse_standing, import_shard, version_shards

ANN, BO = Person.of("ann"), Person.of("bo")


def of(*keys: tuple[Mark, str]) -> Tombstones:
    return NONE.adding(keys, "2026-01-02")


# --- the file ---------------------------------------------------------------------------------------------------------


def test_they_are_only_added_to_and_keep_their_day(tmp_path):
    gallery = str(tmp_path / "gallery")
    assert tombstones.read(gallery) == NONE
    (tmp_path / "gallery").mkdir()
    old = {"format": tombstones.FORMAT, "identity": {"aa": "2020-01-02"}}
    (tmp_path / "gallery" / tombstones.NAME).write_text(json.dumps(old))
    tombstones.add(gallery, [(Mark.IDENTITY, "aa"), (Mark.URI, "bb")])
    kept = tombstones.read(gallery)
    assert kept.dates["identity"] == {"aa": "2020-01-02"} and list(kept.dates["uri"]) == ["bb"]
    assert kept.dates["uri"]["bb"] > "2026" and len(kept) == 2


def test_nothing_to_add_writes_nothing(tmp_path):
    assert tombstones.add(str(tmp_path), []) == NONE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"format": "celebface-tombstones/2"}', '{"format": "celebface-tombstones/1", "voice": {}}',
     '{"format": "celebface-tombstones/1", "uri": ["aa"]}'],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_and_left_alone(tmp_path, text):
    (tmp_path / tombstones.NAME).write_text(text)
    with pytest.raises(BadBundle, match=r"tombstones\.json"):
        tombstones.read(str(tmp_path))
    if text:
        with pytest.raises(BadBundle):
            tombstones.add(str(tmp_path), [(Mark.FACE, "aa")])
        assert (tmp_path / tombstones.NAME).read_text() == text


def test_the_digest_changes_with_what_is_kept_out_and_not_with_its_day():
    one = of((Mark.URI, "aa"))
    assert NONE.digest() == ""
    assert one.digest() == NONE.adding([(Mark.URI, "aa")], "2030-01-01").digest()
    assert len({NONE.digest(), one.digest(), of((Mark.FACE, "aa")).digest(), of((Mark.URI, "bb")).digest()}) == 4


# --- items and photos -------------------------------------------------------------------------------------------------


def test_items_are_known_by_person_and_place():
    ref = fakes.item("/photos/\udcff.jpg", ANN)  # a name that is no UTF-8
    assert not is_removed(ref, NONE)
    assert not is_removed(ref, of((Mark.IDENTITY, BO.identity_id), (Mark.URI, uri_hash("/photos/other.jpg"))))
    assert is_removed(ref, of((Mark.IDENTITY, ANN.identity_id)))
    assert is_removed(ref, of((Mark.URI, uri_hash("/photos/\\xff.jpg"))))


def test_photos_are_known_by_content_and_by_the_face_they_give_one_person():
    outcome = fakes.photo_outcome("/photos/1.jpg", ANN)
    content, face = outcome.ref.content_sha256, outcome.rows[0]["face_id"]
    assert not shows_removed(content, ANN.identity_id, NONE)
    assert shows_removed(content, BO.identity_id, of((Mark.PHOTO, content)))
    assert shows_removed(content, ANN.identity_id, of((Mark.FACE, face)))
    assert not shows_removed(content, BO.identity_id, of((Mark.FACE, face)))


def test_a_row_of_what_was_taken_down_names_nobody():
    ref = fakes.item("/photos/1.jpg", ANN, "1-1", origin="a.csv:2", etag='"1"', content_sha256="ab")
    row = withdrawn(ref, "read").ledger_row()
    left = {name: value for name, value in row.items() if value}
    assert left == {
        "item_id": ref.item_id, "kind": "photo", "uri": "(removed)", "status": "skipped", "stage": "read",
        "reason": "removed",
    }  # fmt: skip


def test_of_an_item_named_twice_no_row_names_it():
    refs = [fakes.item("/photos/1.jpg", ANN, origin=f"a.csv:{line}") for line in (2, 7)]
    assert collapse_standing(refs, "resume", NONE)[0] == refs[0]
    ref, lost = collapse_standing(refs, "resume", of((Mark.IDENTITY, ANN.identity_id)))
    assert ref is None
    assert [(outcome.reason, outcome.detail, outcome.ref.uri) for outcome in lost] == [("removed", "", "(removed)")] * 2
    assert lost[0].ref.item_id == refs[0].item_id != lost[1].ref.item_id


# --- versions and staging folders -------------------------------------------------------------------------------------


@pytest.fixture
def version(tmp_path) -> str:
    """A version of three photos of ann and one of bo, two of them with one content."""
    vectors = fakes.unit_vectors(4, 4)
    return fakes.gallery(str(tmp_path), vectors, [ANN, ANN, ANN, BO])


def test_a_version_is_known_to_hold_what_was_taken_down(version):
    place, face = fakes.photo_of(BO, 3), fakes.face_id_of(BO, 3)
    content = fakes.photo_outcome(place, BO).ref.content_sha256
    assert tombstones.holds_removed(version, NONE) == 0
    assert tombstones.holds_removed(version, of((Mark.IDENTITY, "00"), (Mark.URI, "00"), (Mark.FACE, "00"))) == 0
    assert tombstones.holds_removed(version, of((Mark.IDENTITY, ANN.identity_id))) == 6  # faces and ledger
    assert tombstones.holds_removed(version, of((Mark.URI, uri_hash(place)))) == 2
    assert tombstones.holds_removed(version, of((Mark.PHOTO, content))) == 2
    assert tombstones.holds_removed(version, of((Mark.FACE, face))) == 1


def test_parts_of_a_run_are_known_to_hold_it(tmp_path):
    outcomes = [fakes.photo_outcome(f"/{number}.jpg", who) for number, who in enumerate([ANN, BO, ANN])]
    stage.write_part(outcomes, str(tmp_path), schemas.faces_schema(4), 2)
    assert tombstones.holds_removed(str(tmp_path), of((Mark.IDENTITY, ANN.identity_id))) == 2


def test_a_published_shard_is_taken_over_without_it(version, tmp_path):
    face = (Mark.FACE, fakes.face_id_of(ANN, 1))
    for taken_down, left in ((NONE, 4), (of((Mark.IDENTITY, ANN.identity_id)), 1), (of(face), 3)):
        known = [
            entry
            for tables in version_shards(version)
            for entry in import_shard(tables, str(tmp_path / "staging"), schemas.faces_schema(4), 2, taken_down)
        ]
        assert len(known) == left


def test_what_was_taken_down_meanwhile_is_not_published(tmp_path):
    folder = str(tmp_path / "assembled")
    fakes.write_shards(folder, fakes.unit_vectors(2, 4), [ANN, BO])
    gallery, manifest = str(tmp_path / "gallery"), fakes.manifest(folder, "v1")
    tombstones.add(gallery, [(Mark.IDENTITY, "00")])
    tombstones.check(folder, gallery)
    tombstones.add(gallery, [(Mark.IDENTITY, BO.identity_id)])
    with pytest.raises(TakenDown, match=r"2 of the rows .* run the same command again"):
        publish.publish(folder, gallery, manifest)
    assert not storage.exists(storage.join(gallery, publish.LATEST))
    assert [path.name for path in pathlib.Path(gallery).iterdir()] == [tombstones.NAME]


def test_tables_that_do_not_tell_are_passed_over(tmp_path):
    table = pa.table({"identity": ["ann"], "number": [1]})
    assert tombstones.covered(table, of((Mark.IDENTITY, ANN.identity_id))).tolist() == [False]
