"""celebface galleries remove: people, photos and faces leave a gallery for good, and nobody else is touched."""

import dataclasses
import hashlib
import json
import os
import pathlib

import fakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celebface.indexing import bundle_cache, publish, removal, schemas, storage, tombstones, versions
from celebface.indexing.gallery import Gallery
from celebface.indexing.kinds import IndexRequest
from celebface.indexing.removal import Found
from celebface.indexing.schemas import Kind, Status
from celebface.indexing.tombstones import Mark
from celebface.models.encoder_card import PREPROCESSING, EncoderCard
from celebface.models.networks import INCEPTION_RESNET_V1
from celebface.pipelines import bundle, report, take_down
from celebface.pipelines.arguments import UsageError
from celebface.pipelines.bundle import Vectors
from celebface.pipelines.proof import StillFound, prove
from celebface.transforms import shard, stage, staged
from celebface.transforms.records import Outcome, Person, Provenance, rejected
from celebface.transforms.shard import ShardLayout
from celebface.transforms.staged import read_outcomes, staging_schema

DIMENSION = 8
CARD = EncoderCard("fake", INCEPTION_RESNET_V1, DIMENSION, "0" * 64, PREPROCESSING)
CHER = Person.of("Cher", "wikidata:Q12003", ["Cherilyn Sarkisian"])
ANN, JOANN = Person.of("Ann"), Person.of("Jo Ann Cher")  # whose name holds others
SMITH, OTHER_SMITH = Person.of("John Smith", "wikidata:Q1"), Person.of("John Smith", "wikidata:Q2")
FIRST = "20260101T000000Z-00000001"  # the version that is published first
CONFIG = {"intake": {"source": {"places": ["/lists/Cher.csv", "/photos"]}}, "near": "web"}
SHARED = b"a photo given for two"
PEOPLE = (CHER, ANN, JOANN, SMITH, OTHER_SMITH)


def outcomes() -> list[Outcome]:
    """Three photos of each person; one that repeats one, one that is given for two people, one without a face."""
    vectors, _ = fakes.crowds([3] * len(PEOPLE), DIMENSION, 0.2)
    made = [
        fakes.photo_outcome(f"/photos/{person.identity_id}/{number}.jpg", person, vectors=vectors[[3 * who + number]])
        for who, person in enumerate(PEOPLE)
        for number in range(3)
    ]
    made += [
        fakes.photo_outcome("/photos/of cher/a copy.jpg", CHER, vectors=vectors[[0]], content=made[0].ref.uri.encode()),
        fakes.photo_outcome("/photos/cher and ann.jpg", CHER, vectors=vectors[[1]], content=SHARED),
        fakes.photo_outcome("/photos/ann/duo.jpg", ANN, vectors=vectors[[1]], content=SHARED),
        rejected(fakes.item("/photos/cher/none.jpg", CHER, "1-1", content_sha256="00ff" * 16), "detect", "no_face", ""),
    ]
    return made


def write_tables(folder: pathlib.Path, made: list[Outcome], shards: int = 2) -> None:
    layout = ShardLayout(str(folder), "faces", schemas.faces_schema(DIMENSION), shards, "face_id")
    places = stage.write_part(made, str(folder.parent / "parts"), layout.rows, shards)
    for number in range(shards):
        table = read_outcomes(place for wanted, place in places if wanted == number)
        table = staging_schema(layout.rows).empty_table() if table is None else table
        shard.write_shard(table, shard.find_repeats(table, layout), number, layout)


def publish_gallery(
    tmp_path: pathlib.Path, made: list[Outcome], request: IndexRequest | None = None, config: dict = CONFIG
) -> pathlib.Path:
    folder = tmp_path / "assembled"
    write_tables(folder, made)
    return publish_tables(tmp_path, request, config)


def publish_tables(tmp_path: pathlib.Path, request: IndexRequest | None = None, config: dict = CONFIG) -> pathlib.Path:
    folder = tmp_path / "assembled"
    ledger = report.count_ledger(str(folder))
    report.write_json(str(folder / "run.json"), {"items": dataclasses.asdict(ledger), "config": config})
    for name in ("audit.html", "notes.html"):
        (folder / name).write_text("<p>Cher")
    manifest = bundle.complete(str(folder), Vectors(CARD, "float32"), ledger.counts, config, request)
    publish.publish(str(folder), str(tmp_path / "gallery"), dataclasses.replace(manifest, version=FIRST))
    return tmp_path / "gallery"


@pytest.fixture
def gallery(tmp_path) -> pathlib.Path:
    """<root>/<name> of a gallery of five people."""
    return publish_gallery(tmp_path, outcomes())


def remove(gallery: pathlib.Path, *flags: str) -> int:
    return take_down.main([str(gallery), *flags])


def latest(gallery: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(publish.find_version(str(gallery)))


def table(version: pathlib.Path, name: str) -> list[dict]:
    return [row for path in sorted(version.glob(f"{name}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def everything(version: pathlib.Path) -> str:
    """All that is in a version, tables decoded, in small letters."""
    texts = []
    for path in version.rglob("*.*"):
        texts.append(str(pq.read_table(path).to_pydict()) if path.suffix == ".parquet" else repr(path.read_bytes()))
    return "\n".join(texts).lower()


def keys(gallery: pathlib.Path, mark: Mark) -> set[str]:
    return set(tombstones.read(str(gallery)).dates.get(mark, ()))


# --- people -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "who", ["Cher", "  Cher ", "Cherilyn Sarkisian", "wikidata:Q12003", CHER.identity_id], ids=str.strip
)
def test_a_person_is_gone_by_any_of_their_names(gallery, who):
    assert "cher" in everything(latest(gallery)).replace("jo ann cher", "")
    assert remove(gallery, f"--identity={who}") == 0
    left = everything(latest(gallery)).replace("jo ann cher", "")
    for trace in ("cher", "q12003", "sarkisian", CHER.identity_id):
        assert trace not in left
    assert {face["identity"] for face in table(latest(gallery), "faces")} == {"Ann", "Jo Ann Cher", "John Smith"}
    assert keys(gallery, Mark.IDENTITY) == {
        Person.of(*named).identity_id for named in [("Cher",), ("Cher", "wikidata:Q12003"), ("Cherilyn Sarkisian",)]
    }


def test_their_photos_are_kept_out_by_content_also_under_another_name(gallery):
    assert remove(gallery, "--identity=Cher") == 0
    contents = {hashlib.sha256(data).hexdigest() for data in [SHARED, *photos_of(CHER)]}
    assert keys(gallery, Mark.PHOTO) == contents
    assert not contents & {face["content_sha256"] for face in table(latest(gallery), "faces")}
    assert sum(face["identity"] == "Ann" for face in table(latest(gallery), "faces")) == 3


def photos_of(person: Person) -> list[bytes]:
    return [f"/photos/{person.identity_id}/{number}.jpg".encode() for number in range(3)]


def test_the_ledger_keeps_a_row_for_each_item_that_names_nobody(gallery):
    before = table(latest(gallery), "ledger")
    assert remove(gallery, "--identity=Cher") == 0
    after = table(latest(gallery), "ledger")
    assert {row["item_id"] for row in after} == {row["item_id"] for row in before}
    gone = [row for row in after if row["reason"] == "removed"]
    assert len(gone) == 7  # three photos, a copy, one without a face, and one that is also given for Ann, twice
    assert {tuple(row[name] for name in removal.REDACTED) for row in gone} == {tuple(removal.REDACTED.values())}
    ids = {row["item_id"] for row in gone}
    assert [row for row in after if row["item_id"] not in ids] == [row for row in before if row["item_id"] not in ids]


def test_others_are_as_they_were(gallery):
    old = latest(gallery)
    before = {face["face_id"]: face for face in table(old, "faces")}
    probes = fakes.unit_vectors(20, DIMENSION, seed=5)
    undisturbed = {person.identity_id for person in (JOANN, SMITH, OTHER_SMITH)}  # Ann has lost a photo

    def distances() -> list[list]:
        found = Gallery.open(str(gallery)).nearest_people(probes, 5)
        return [[one for one in people if one.identity_id in undisturbed] for people in found]

    near = distances()
    assert remove(gallery, "--identity=Cher") == 0
    after = table(latest(gallery), "faces")
    assert after == [before[face["face_id"]] for face in after] and len(after) == 12
    assert distances() == near


def test_the_bundle_says_what_is_in_it(gallery):
    old = latest(gallery)
    assert remove(gallery, "--identity=Cher") == 0
    version = latest(gallery)
    assert version != old and old.is_dir()
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["counts"] == {"faces": 12, "items": 19, "done": 12, "skipped": 7, "identities": 4}
    assert manifest["config"]["intake"]["source"]["places"] == ["/lists/(removed)", "/photos"]
    run = json.loads((version / "run.json").read_text())
    assert run["items"]["reasons"] == {"removed": 7} and run["config"] == manifest["config"]
    assert run["taken_down"] == {"from": old.name, "rows": {"faces": 5, "ledger": 7, "repeats": 1}}
    page = (version / "audit.html").read_text()
    assert "<html" in page and "Cher" not in page


def test_what_is_left_out_and_changed_is_told(gallery, capsys):
    assert remove(gallery, "--identity=Cher") == 0
    out = capsys.readouterr().out
    assert "left out: notes.html" in out and "audit.html" not in out
    assert "2 texts of run.json and the manifest named what goes" in out
    assert f"still holds {gallery}/{FIRST} (13 rows of what was taken down)" in out


def test_the_proof_holds_only_hashes_and_counts(gallery, tmp_path, capsys):
    old = latest(gallery)
    assert remove(gallery, "--identity=Cher", f"--proof={tmp_path / 'proof.json'}") == 0
    text = (tmp_path / "proof.json").read_text()
    proof = json.loads(text)
    assert proof["search"]["queries"] == 6 and proof["search"]["found"] == 0
    assert proof["scan"]["found"] == 0 and proof["scan"]["files"] == len(list(latest(gallery).rglob("*.*")))
    assert (proof["version"], proof["based_on"]) == (latest(gallery).name, old.name)
    people = {person.identity_id for person in PEOPLE} - {CHER.identity_id}
    assert {entry["identity_id"] for entry in proof["search"]["nearest"]} <= people
    assert "cher" not in text.lower() and "/photos" not in text
    out = capsys.readouterr().out
    assert "search: none of 6 faces taken out finds itself or its person" in out and "scan: none of " in out


@pytest.mark.parametrize("name", ["Conan O'Brien", "Sammy Davis, Jr.", "Prince (musician)", "AC/DC"])
def test_a_name_that_holds_what_others_lie_between_goes_everywhere(tmp_path, name):
    vectors = fakes.unit_vectors(2, DIMENSION)
    ann = fakes.photo_outcome("/photos/2.jpg", "Ann", vectors=vectors[[1]])
    made = [
        fakes.photo_outcome(f"/photos/{name}/1.jpg", name, vectors=vectors[[0]]),
        dataclasses.replace(ann, detail=f"also given for {name}"),
    ]
    config = {"intake": {"source": {"places": [f"/lists/{name}.csv"]}}}
    gallery = publish_gallery(tmp_path, made, config=config)
    assert name.lower() in everything(latest(gallery)).replace("\\'", "'")
    assert remove(gallery, f"--identity={name}") == 0
    assert name.lower() not in everything(latest(gallery)).replace("\\'", "'")
    manifest = json.loads((latest(gallery) / "manifest.json").read_text())
    assert manifest["config"]["intake"]["source"]["places"] == ["/lists/(removed)"]


@pytest.mark.parametrize("kind", ["annoy", "hnsw"])
def test_an_index_of_several_parts_has_several_parts_afterwards(tmp_path, kind):
    gallery = publish_gallery(tmp_path, outcomes(), IndexRequest(kind, parts=2))
    assert len(list((latest(gallery) / "index").glob("labels-*"))) == 2
    assert remove(gallery, "--identity=Cher") == 0
    index = json.loads((latest(gallery) / "manifest.json").read_text())["index"]
    assert (index["kind"], index["parts"], index["faces"]) == (kind, 2, 12)
    assert not versions.faults(versions.find(str(gallery)))
    found = Gallery.open(str(gallery)).nearest_people(fakes.unit_vectors(5, DIMENSION), 9)
    assert {one.identity for people in found for one in people} == {"Ann", "Jo Ann Cher", "John Smith"}


# --- photos and faces -------------------------------------------------------------------------------------------------


def test_a_photo_goes_by_its_place_with_its_copies(gallery):
    uri = f"/photos/{CHER.identity_id}/0.jpg"
    assert remove(gallery, f"--uri={uri}") == 0
    content = hashlib.sha256(uri.encode()).hexdigest()
    assert (keys(gallery, Mark.URI), keys(gallery, Mark.PHOTO)) == ({tombstones.uri_hash(uri)}, {content})
    rows = [row for name in ("faces", "repeats", "ledger") for row in table(latest(gallery), name)]
    assert content not in {row["content_sha256"] for row in rows}
    assert sum(face["identity"] == "Cher" for face in table(latest(gallery), "faces")) == 3
    assert uri not in everything(latest(gallery))  # nor as that of which another is a copy


def test_a_face_goes_and_the_same_photo_of_another_person_stays(gallery):
    faces = {face["identity"]: face["face_id"] for face in table(latest(gallery), "faces") if "ann" in face["uri"]}
    assert remove(gallery, f"--face={faces['Ann']}") == 0
    left = {face["face_id"] for face in table(latest(gallery), "faces")}
    assert faces["Ann"] not in left and faces["Cher"] in left and len(left) == 16
    assert [row["kind"] for row in table(latest(gallery), "ledger") if row["reason"] == "removed"] == ["photo"]


# --- who is meant -----------------------------------------------------------------------------------------------------


def test_a_name_of_several_people_is_refused_with_their_ids(gallery):
    ids = ", ".join(sorted([SMITH.identity_id, OTHER_SMITH.identity_id]))
    with pytest.raises(UsageError, match=f"several people are called John Smith; .* {ids}$"):
        remove(gallery, "--identity=John Smith")
    assert not (gallery / tombstones.NAME).exists()


def test_one_of_two_people_of_a_name_goes(gallery):
    assert remove(gallery, "--identity=wikidata:Q1") == 0
    left = {face["identity_id"] for face in table(latest(gallery), "faces")}
    assert SMITH.identity_id not in left and OTHER_SMITH.identity_id in left


def test_who_bears_an_alias_of_somebody_removed_stays_and_is_told(tmp_path, capsys):
    vectors = fakes.unit_vectors(3, DIMENSION)
    prince = Person.of("Prince", "", ["The Artist"])
    made = [
        fakes.photo_outcome(f"/{number}.jpg", who, vectors=vectors[[number]])
        for number, who in enumerate([prince, "The Artist", "Ann"])
    ]
    gallery = publish_gallery(tmp_path, made)
    assert remove(gallery, "--identity=Prince") == 0
    assert {face["identity"] for face in table(latest(gallery), "faces")} == {"The Artist", "Ann"}
    assert f"--identity {Person.of('The Artist').identity_id}" in capsys.readouterr().out
    assert keys(gallery, Mark.IDENTITY) == {prince.identity_id}


@pytest.mark.parametrize("flag", ["--identity=Nobody", "--uri=/photos/none", "--face=00112233445566aa"])
def test_what_the_gallery_does_not_have_is_refused_or_kept_out_in_advance(gallery, flag):
    version = latest(gallery)
    with pytest.raises(UsageError, match=f"does not have {flag.replace('=', ' ')}; --tombstone_only"):
        remove(gallery, "--identity=Cher", flag)
    assert not (gallery / tombstones.NAME).exists()
    assert remove(gallery, flag, "--tombstone_only") == 0
    assert latest(gallery) == version
    assert len(tombstones.read(str(gallery))) == {"--identity": 2, "--uri": 1, "--face": 1}[flag.split("=")[0]]
    assert remove(gallery, flag) == 0  # known by now


def test_tombstones_may_come_before_the_gallery(tmp_path):
    assert remove(tmp_path / "gallery", "--identity=Cher", "--tombstone_only") == 0
    assert Person.of("Cher").identity_id in keys(tmp_path / "gallery", Mark.IDENTITY)
    assert [path.name for path in (tmp_path / "gallery").iterdir()] == [tombstones.NAME]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "say what is to be removed"),
        (["--identity= "], "an empty name"),
        (["--face=xyz"], "a face_id has 16 hex digits"),
        (["--identity=Cher", "--tombstone_only", "--prune"], "--tombstone_only takes nothing out"),
    ],
)
def test_bad_usage_is_one_line(gallery, flags, told):
    with pytest.raises(UsageError, match=told):
        remove(gallery, *flags)


def test_a_version_is_no_gallery_and_a_gallery_must_be_there(gallery, tmp_path):
    with pytest.raises(UsageError, match="is a version, which never changes"):
        remove(latest(gallery), "--identity=Cher")
    with pytest.raises(UsageError, match="there is no gallery at"):
        remove(tmp_path / "other", "--identity=Cher")


# --- what may go wrong ------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_and_writes_nothing(gallery, capsys):
    before = sorted(gallery.rglob("*"))
    assert remove(gallery, "--identity=Cher", "--dry_run") == 0
    out = capsys.readouterr().out
    assert "5 faces of 1 person to be taken out (5 faces, 7 ledger, 1 repeats)\n  Cher\n" in out
    assert sorted(gallery.rglob("*")) == before


def test_the_last_face_is_not_taken_out_but_kept_out(tmp_path, capsys):
    made = [fakes.photo_outcome("/1.jpg", "Cher", vectors=fakes.unit_vectors(1, DIMENSION))]
    gallery = publish_gallery(tmp_path, made)
    version = latest(gallery)
    assert remove(gallery, "--identity=Cher") == 1
    assert "delete the gallery" in capsys.readouterr().err
    assert latest(gallery) == version and Person.of("Cher").identity_id in keys(gallery, Mark.IDENTITY)


def test_nothing_is_published_if_a_place_of_others_names_them(tmp_path, capsys):
    odd = fakes.photo_outcome("/photos/cher/duet.jpg", "Ann", vectors=fakes.unit_vectors(1, DIMENSION, seed=3))
    gallery = publish_gallery(tmp_path, [*outcomes(), odd])
    version = latest(gallery)
    assert remove(gallery, "--identity=Cher") == 1
    err = capsys.readouterr().err
    assert "is still named in faces-0000" in err and "uri (1)" in err and "nothing was published" in err
    assert latest(gallery) == version
    assert remove(gallery, "--identity=Cher", "--uri=/photos/cher/duet.jpg") == 0
    assert latest(gallery) != version


@pytest.mark.parametrize("damage", ["faces-00000-of-00002.parquet", "faces-00001-of-00002.parquet", "flipped"])
def test_a_version_that_is_not_whole_is_not_taken_over(gallery, damage, capsys):
    version = latest(gallery)
    if damage == "flipped":  # readable, and other than it was
        name = "ledger-00000-of-00002.parquet"
        rows = pq.read_table(version / name)
        pq.write_table(rows.slice(1), version / name)
        told = f"the gallery's {name} is not what its manifest says"
    else:
        (version / damage).unlink()
        told = f"the gallery lacks its {damage}"
    with pytest.raises(UsageError, match=f"nothing was taken out: {told}.*--tombstone_only"):
        remove(gallery, "--identity=Cher")
    assert latest(gallery) == version and not (gallery / tombstones.NAME).exists()
    assert remove(gallery, "--identity=Cher", "--tombstone_only") == 0
    assert keys(gallery, Mark.IDENTITY)


def test_a_version_that_is_short_of_faces_is_not_published(gallery, monkeypatch, capsys):
    version = latest(gallery)
    lost = next(path for path in version.glob("faces-*") if pq.read_metadata(path).num_rows)
    lost.unlink()
    monkeypatch.setattr(versions, "faults", lambda version: [])
    assert remove(gallery, "--identity=Cher") == 1
    assert "the ledger counts 12 faces and the shards have" in capsys.readouterr().err
    assert latest(gallery) == version


def test_a_table_that_cannot_be_read_is_one_line(gallery, capsys):
    (latest(gallery) / "faces-00000-of-00002.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(UsageError, match=r"a table of .* is damaged or gone"):
        remove(gallery, "--identity=Cher", "--tombstone_only")


def test_an_older_version_that_cannot_be_read_is_told_and_stays(gallery, capsys):
    assert remove(gallery, "--identity=Cher") == 0
    (gallery / FIRST / "faces-00000-of-00002.parquet").write_bytes(b"PAR1 no table")
    assert remove(gallery, "--identity=Cher", "--prune") == 0
    assert f"may still hold {gallery}/{FIRST} (a table of it cannot be read)" in capsys.readouterr().out
    assert (gallery / FIRST).is_dir()


@pytest.mark.parametrize("step", ["write_without", "complete", "publish"])
def test_the_same_command_finishes_a_killed_removal(gallery, monkeypatch, step):
    version = latest(gallery)
    module = {"write_without": removal, "complete": bundle, "publish": publish}[step]

    def die(*_, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, step, die)
        with pytest.raises(KeyboardInterrupt):
            remove(gallery, "--identity=Cher")
    assert latest(gallery) == version and keys(gallery, Mark.IDENTITY)
    assert remove(gallery, "--identity=Cher") == 0
    assert latest(gallery) != version


def test_once_more_says_that_nothing_is_left(gallery, capsys):
    assert remove(gallery, "--identity=Cherilyn Sarkisian") == 0
    version, written = latest(gallery), (gallery / tombstones.NAME).read_bytes()
    capsys.readouterr()
    assert remove(gallery, "--identity=Cherilyn Sarkisian") == 0
    out = capsys.readouterr().out
    assert "nothing of it is in the latest version" in out and "scan: none of" in out
    assert latest(gallery) == version and (gallery / tombstones.NAME).read_bytes() == written


def leave_behind(gallery: pathlib.Path) -> dict[str, pathlib.Path]:
    """What builds and others may leave beside versions, with rows of all that was published first."""
    left = {
        "parts": gallery / ".staging-0123456789ab" / "version",  # beside its parts
        "failed": gallery / "failed-20260101T000000Z",
        "unfinished": gallery / "20260101T000000Z-00000009",
        "foreign": gallery / "mine",
    }
    for folder in left.values():
        folder.mkdir(parents=True)
        write_tables(folder, outcomes())
    (gallery / "mine" / "precious.txt").write_text("precious")
    return left


def age(folder: pathlib.Path, hours: float) -> None:
    for path in folder.rglob("*"):
        when = path.stat().st_mtime - hours * 3600
        os.utime(path, (when, when))


def test_prune_deletes_what_still_holds_them_and_nothing_else(gallery, monkeypatch, capsys):
    assert remove(gallery, "--identity=Ann") == 0
    first, with_cher = gallery / FIRST, latest(gallery)
    assert remove(gallery, "--identity=Cher") == 0
    without = latest(gallery)
    left = leave_behind(gallery)
    age(gallery, 25)
    before = sorted(path.read_bytes() for path in left["foreign"].iterdir())
    deleted, delete_file = [], storage.delete_file
    monkeypatch.setattr(storage, "delete_file", lambda uri: (deleted.append(uri), delete_file(uri)))
    capsys.readouterr()
    assert remove(gallery, "--identity=Cher", "--prune") == 0
    assert {path.name for path in gallery.iterdir()} == {"LATEST", tombstones.NAME, without.name, "mine", "parts"}
    assert {f"{folder}/manifest.json" for folder in (first, with_cher)} <= set(deleted)
    assert latest(gallery) == without
    assert sorted(path.read_bytes() for path in left["foreign"].iterdir()) == before
    out = capsys.readouterr().out
    assert f"still holds {gallery}/mine (" in out and "no build has made mine" in out


def test_what_a_build_may_still_write_to_stays_and_is_told(gallery, capsys):
    assert remove(gallery, "--identity=Cher") == 0
    left = leave_behind(gallery)
    assert remove(gallery, "--identity=Cher", "--prune") == 0
    there = {name for name, folder in left.items() if folder.exists()}
    assert there == {"parts", "unfinished", "foreign"}  # the ledger of a failed build is all written
    out = capsys.readouterr().out
    assert f"still holds {gallery}/.staging-0123456789ab" in out and "prune --unfinished_hours=0 deletes it" in out


def test_photos_of_a_killed_run_that_do_not_tell_who_is_on_them_are_told_and_deleted(gallery, capsys):
    """None goes on with that run: tombstones are part of its folder's name."""
    staged.write_photos(str(gallery / ".staging-0123456789ab"), [("item", "", "", "00ff", b"\xff\xd8")])
    assert remove(gallery, "--identity=Cher") == 0
    told = f"{gallery}/.staging-0123456789ab (1 photo of which nobody knows who is on them)"
    assert f"may still hold {told}" in capsys.readouterr().out
    age(gallery, 25)
    assert remove(gallery, "--identity=Cher", "--prune") == 0
    assert f"deleted {told}" in capsys.readouterr().out
    assert not (gallery / ".staging-0123456789ab").exists()


def test_a_version_that_is_made_the_latest_while_it_is_pruned_stays(gallery, monkeypatch, capsys):
    assert remove(gallery, "--identity=Cher") == 0
    delete = storage.delete_file

    def roll_back_first(uri):
        (gallery / "LATEST").write_text(f"{FIRST}\n")
        delete(uri)

    monkeypatch.setattr(storage, "delete_file", roll_back_first)
    assert remove(gallery, "--identity=Cher", "--prune") == 0
    assert latest(gallery).name == FIRST and not versions.faults(versions.find(str(gallery)))
    assert f"still holds {gallery}/{FIRST}" in capsys.readouterr().out


def test_a_pruned_version_leaves_the_cache_too(gallery, monkeypatch):
    forgotten = []
    monkeypatch.setattr(bundle_cache, "forget", lambda manifest, cache: forgotten.append(manifest))
    manifest = (gallery / FIRST / "manifest.json").read_bytes()
    assert remove(gallery, "--identity=Cher", "--prune") == 0
    assert forgotten == [manifest]


def test_the_latest_version_is_never_pruned(gallery, monkeypatch):
    assert remove(gallery, "--identity=Cher") == 0
    version = latest(gallery)
    monkeypatch.setattr(tombstones, "holds_removed", lambda *_: 1)
    assert remove(gallery, "--identity=Cher", "--prune") == 0
    assert [path.name for path in gallery.iterdir() if path.is_dir()] == [version.name]


def test_what_was_only_kept_out_goes_with_the_next_removal(gallery):
    place = f"/photos/{ANN.identity_id}/0.jpg"
    assert remove(gallery, f"--uri={place}", "--tombstone_only") == 0
    assert place in everything(latest(gallery))
    assert remove(gallery, "--identity=Cher") == 0
    assert place not in everything(latest(gallery))


# --- others -----------------------------------------------------------------------------------------------------------


def test_rows_of_others_that_name_them_do_not_any_more(tmp_path, capsys):
    vectors = fakes.unit_vectors(3, DIMENSION)
    made = [
        fakes.photo_outcome("/photos/1.jpg", "Cher", vectors=vectors[[0]]),
        fakes.photo_outcome("/photos/2.jpg", "Ann", vectors=vectors[[1]], provenance=Provenance("", "CC0", "Cher")),
        dataclasses.replace(
            fakes.photo_outcome("/photos/3.jpg", "Ann", vectors=vectors[[2]]), detail="of /photos/1.jpg, nearer to Cher"
        ),
    ]
    gallery = publish_gallery(tmp_path, made)
    assert remove(gallery, "--identity=Cher") == 0
    assert {face["author"] for face in table(latest(gallery), "faces")} == {"(removed)", ""}
    assert "of (removed), nearer to (removed)" in {row["detail"] for row in table(latest(gallery), "ledger")}
    assert "2 texts of others' rows named what goes" in capsys.readouterr().out


def test_pages_and_placeholders_that_others_have_too_are_left_to_them(tmp_path):
    page, own = "https://example.org/cast.html", "https://example.org/only.html"
    ann = fakes.photo_outcome(
        "/photos/2.jpg", "Ann", vectors=fakes.unit_vectors(1, DIMENSION, seed=9), provenance=Provenance(page)
    )
    made = [*outcomes(), ann]
    for who in (CHER, ANN):
        lost = fakes.item(f"/{who.identity_id}.gif", who, content_sha256="11" * 32)
        made.append(rejected(lost, "detect", "no_face", ""))
        made.append(Outcome(fakes.item(page, who, kind=Kind.PAGE), Status.DONE, "scrape", shard_key="x"))
    made.append(Outcome(fakes.item(own, CHER, kind=Kind.PAGE), Status.DONE, "scrape", shard_key="x"))
    gallery = publish_gallery(tmp_path, made)
    before = [row for row in table(latest(gallery), "ledger") if row["identity"] == "Ann" and "duo" not in row["uri"]]
    assert remove(gallery, "--identity=Cher") == 0
    assert [row for row in table(latest(gallery), "ledger") if row["identity"] == "Ann"] == before
    assert page in {face["source_page"] for face in table(latest(gallery), "faces")}
    assert own not in everything(latest(gallery))


def test_a_table_that_pairs_people_loses_the_pairs_with_them(tmp_path):
    pairs = pa.table({"first": ["Ann", "Cher", "Ann"], "second": ["Cher", "Ann", "Bo"], "crop": [b"1", b"2", b"3"]})
    folder = tmp_path / "assembled"
    folder.mkdir()
    pq.write_table(pairs, folder / "pairs-0.parquet")
    gallery = publish_gallery(tmp_path, outcomes())
    assert remove(gallery, "--identity=Cher") == 0
    assert table(latest(gallery), "pairs") == [{"first": "Ann", "second": "Bo", "crop": b"3"}]


def test_somebody_of_whom_there_are_only_ledger_rows_goes_too(tmp_path):
    lost = rejected(fakes.item("/photos/x.jpg", "Zoe", "1-1"), "read", "not_found", "")
    gallery = publish_gallery(tmp_path, [*outcomes(), lost])
    assert remove(gallery, "--identity=Zoe") == 0
    assert "zoe" not in everything(latest(gallery))
    assert len(table(latest(gallery), "faces")) == 17


def test_a_search_that_still_finds_them_is_no_proof(gallery, tmp_path):
    version, found = latest(gallery), Found(people={ANN.identity_id}, vectors=fakes.unit_vectors(1, DIMENSION))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StillFound, match="a search still finds"):
        prove(str(tmp_path / "empty"), Gallery.open(str(version)), found)
