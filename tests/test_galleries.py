"""celebface galleries: what it shows of published versions, and what it does to them, in folders and in stores."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import sys
import types

import fakes
import numpy as np
import object_stores
import pytest

from celebface.indexing import publish, storage, upkeep, versions
from celebface.indexing.manifest import Manifest
from celebface.pipelines import cli

FIRST, SECOND, THIRD = (f"2026010{day}T030405Z-0000000{day}" for day in (1, 2, 3))
VECTORS = fakes.unit_vectors(9, 8)
# The third version has lost eve, gained zoe, and knows one of bob's photos as ann's.
PEOPLE = {
    FIRST: ["ann", "ann", "bob", "bob", "eve"],
    SECOND: ["ann", "ann", "bob", "bob", "eve"],
    THIRD: ["ann", "ann", "bob", "ann", "zoe"],
}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a gallery is published.

    Attributes:
      root: URI.
      gallery: URI of the gallery in it.
    """

    root: str

    @property
    def gallery(self) -> str:
        return f"{self.root}/stars"


def run(*arguments: str) -> int:
    try:
        return cli.main(["galleries", *arguments])
    except SystemExit as error:
        return error.code


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, tuple[str, Manifest]]:
    """Three versions, assembled: folder and manifest by name."""
    found = {}
    for number, (name, people) in enumerate(PEOPLE.items()):
        root = tmp_path_factory.mktemp(name)
        # the photo of a vector has the same bytes whoever it is of
        folder = fakes.gallery(str(root), VECTORS[: len(people)], people)
        manifest = versions.find(folder).manifest
        counts = {"faces": len(people), "identities": len(set(people)), "items": 6}
        config = {"shards": 2, "reader": {"max_faces": 20 + number}}
        found[name] = (folder, dataclasses.replace(manifest, version=name, counts=counts, config=config))
    return found


@pytest.fixture(scope="module", params=["local", *object_stores.SWAPPING])
def store(request):
    if request.param == "local":
        yield "local", ""
        return
    with object_stores.server(request.param) as address:
        yield request.param, address


@pytest.fixture
def place(store, made, tmp_path, monkeypatch) -> Place:
    """Three versions, published one after the other."""
    monkeypatch.setenv("CELEBFACE_CACHE", str(tmp_path / "cache"))
    root = str(tmp_path / "galleries")
    if store[0] != "local":
        object_stores.point_to(monkeypatch, *store)
        root = f"{object_stores.make_bucket(*store).uri}/galleries"
    return publish_all(made, root)


@pytest.fixture
def local(made, tmp_path) -> Place:
    return publish_all(made, str(tmp_path / "galleries"))


def publish_all(made, root: str) -> Place:
    for folder, manifest in made.values():
        publish.publish(folder, f"{root}/stars", manifest)
    return Place(root)


def names(place: Place) -> list[str]:
    return [version.name for version in versions.versions(place.gallery)]


def flip_a_bit(uri: str) -> None:
    data = storage.read_bytes(uri)
    storage.write_bytes(uri, data[:-1] + bytes([data[-1] ^ 1]))


def age(path: pathlib.Path, hours: float) -> None:
    """Lets everything below a path have been written some hours ago."""
    for each in path.rglob("*"):
        when = each.stat().st_mtime - hours * 3600
        os.utime(each, (when, when))


# --- list and show ----------------------------------------------------------------------------------------------------


def test_galleries_are_listed_with_their_versions(place, made, capsys):
    folder, manifest = made[FIRST]
    publish.publish(folder, f"{place.root}/friends", manifest)
    storage.write_bytes(f"{place.root}/notes/todo.txt", b"not a gallery")
    assert run("list", f"--output_root={place.root}") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["gallery", "version", "created", "people", "faces", "index", "recall@10", "size"]
    assert [(line[0], line[1], line[4:8], line[-1]) for line in lines[1:]] == [
        ("friends", FIRST, ["3", "5", "annoy", "1.0000"], "latest"),
        ("stars", THIRD, ["3", "5", "annoy", "1.0000"], "latest"),
        ("stars", SECOND, ["3", "5", "annoy", "1.0000"], "kB"),
        ("stars", FIRST, ["3", "5", "annoy", "1.0000"], "kB"),
    ]


def test_a_version_whose_manifest_cannot_be_read_is_listed_as_such(local, capsys):
    pathlib.Path(local.gallery, SECOND, "manifest.json").write_bytes(b"{}")
    assert run("list", f"--output_root={local.root}") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if SECOND in line]
    assert len(lines) == 1 and "manifest cannot be read" in lines[0]


def test_no_galleries_are_told(tmp_path, capsys):
    assert run("list", f"--output_root={tmp_path}") == 2
    assert capsys.readouterr().err == (
        f"celebface galleries: there are no galleries at {tmp_path}; celebface build-gallery makes them\n"
    )


def test_a_version_is_shown(place, capsys):
    assert run("show", place.gallery) == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        f"version {THIRD}, the latest",
        f"where {place.gallery}/{THIRD}",
        "faces 5",
        "encoder fake (0123456789abcdef)",
        "index: recall_at_10 1",
        "built with: shards 2",
        "code: annoy 1.17.3",
    ):
        assert line in shown
    assert run("show", f"{place.gallery}/{FIRST}") == 0
    assert f"{FIRST}\n" in capsys.readouterr().out


def test_a_manifest_is_shown_as_it_is(local, capsys):
    assert run("show", local.gallery, "--json") == 0
    assert capsys.readouterr().out == pathlib.Path(local.gallery, THIRD, "manifest.json").read_text()


# --- diff -------------------------------------------------------------------------------------------------------------


def test_what_differs_between_the_last_two_versions_is_told(place, capsys):
    assert run("diff", place.gallery) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{place.gallery}/{SECOND} -> {place.gallery}/{THIRD}",
        "people added: 1",
        "  zoe",
        "people removed: 1",
        "  eve",
        "faces added: 2",
        "  ann (1)",
        "  zoe (1)",
        "faces removed: 2",
        "  bob (1)",
        "  eve (1)",
        "faces moved: 0",
        "settings: 1",
        "  config.reader.max_faces: 21 -> 22",
    ]


def test_a_face_under_another_name_has_moved(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fakes, "photo_of", lambda who, number: f"/photos/{number}.jpg")
    olds, news = ["ann", "bob", "bob"], ["ann", "ann", "bob"]
    old, new = (fakes.gallery(str(tmp_path / name), VECTORS[:3], people) for name, people in (("a", olds), ("b", news)))
    assert run("diff", old, new, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["faces_moved"] == [{"from": "bob", "to": "ann", "faces": 1}]
    assert found["faces_added"] == found["faces_removed"] == {}
    assert found["people_added"] == found["people_removed"] == []
    assert (found["old"], found["new"], found["settings"]) == (old, new, {})


def test_a_damaged_table_is_one_line(local, capsys):
    for name in ("faces-00000-of-00002.parquet", "faces-00001-of-00002.parquet"):
        pathlib.Path(local.gallery, SECOND, name).write_bytes(b"PAR1 no table")
    assert run("diff", local.gallery) == 2
    told = capsys.readouterr().err
    assert told.startswith("celebface galleries: a table is damaged or gone: ") and told.count("\n") == 1
    assert "galleries verify tells which" in told


def test_one_version_cannot_be_compared(local, capsys):
    assert run("diff", f"{local.gallery}/{FIRST}") == 2
    assert capsys.readouterr().err.endswith(f"{FIRST} is one version; name two to compare\n")


# --- rollback ---------------------------------------------------------------------------------------------------------


def test_the_version_before_becomes_the_latest_again(place, capsys):
    assert run("rollback", place.gallery) == 0
    assert capsys.readouterr().out == f"{SECOND} is the latest version of {place.gallery}; it was {THIRD}\n"
    assert versions.latest(place.gallery) == SECOND
    assert run("rollback", place.gallery) == 0
    assert run("rollback", place.gallery) == 2
    told = f"there is no version before {FIRST} of {place.gallery}; there are {SECOND}, {THIRD}"
    assert capsys.readouterr().err == f"celebface galleries: {told}\n"
    assert run("rollback", place.gallery, "--to", THIRD) == 0
    assert versions.latest(place.gallery) == THIRD
    assert run("rollback", place.gallery, "--to", THIRD) == 0
    assert capsys.readouterr().out.endswith(f"{THIRD} is the latest version of {place.gallery}\n")


def test_nobody_is_rolled_back_to_what_is_not_whole(local, capsys):
    flip_a_bit(f"{local.gallery}/{SECOND}/index/labels.parquet")
    assert run("rollback", local.gallery) == 2
    told = capsys.readouterr().err
    assert told.startswith(
        f"celebface galleries: {SECOND} cannot be made the latest: the gallery's index/labels.parquet"
    )
    assert told.count("\n") == 1
    assert versions.latest(local.gallery) == THIRD


def test_a_rollback_that_somebody_is_faster_than_is_told(place, monkeypatch, capsys):
    faults = versions.faults

    def publish_meanwhile(version):
        storage.write_bytes(f"{place.gallery}/LATEST", f"{FIRST}\n".encode())
        return faults(version)

    monkeypatch.setattr(versions, "faults", publish_meanwhile)
    assert run("rollback", place.gallery) == 1
    assert capsys.readouterr().err == (
        f"celebface galleries rollback: {place.gallery}/LATEST was changed by somebody else meanwhile\n"
    )
    assert versions.latest(place.gallery) == FIRST


def test_a_version_that_is_pruned_while_it_is_rolled_back_to_is_not_the_latest(local, monkeypatch):
    (doomed,) = upkeep.doomed(local.gallery, 2, 0)
    replace = storage.replace_tagged

    def prune_first(uri, data, tag):
        monkeypatch.setattr(storage, "replace_tagged", replace)
        assert upkeep.delete(local.gallery, doomed)
        replace(uri, data, tag)

    monkeypatch.setattr(storage, "replace_tagged", prune_first)
    with pytest.raises(storage.Conflict, match=f"{FIRST} was deleted meanwhile; {THIRD} is still the latest"):
        upkeep.rollback(local.gallery, FIRST)
    assert versions.latest(local.gallery) == THIRD


# --- prune ------------------------------------------------------------------------------------------------------------


def test_the_oldest_versions_are_deleted(place, capsys):
    assert run("prune", place.gallery, "--keep=1", "--dry_run") == 0
    told = capsys.readouterr().out
    assert re.findall(r"^(\S+)\s+version\s+(\d+)", told, re.M) == [(FIRST, "15"), (SECOND, "15")]
    assert re.search(f"\n2 folders of {place.gallery} would be deleted, [0-9.]+ kB\n", told)
    assert names(place) == [FIRST, SECOND, THIRD]
    assert run("prune", place.gallery, "--keep=1") == 0
    assert f"\n2 folders of {place.gallery} deleted, " in capsys.readouterr().out
    assert names(place) == [THIRD]
    assert [name for name in storage.list_files(place.gallery) if FIRST in name or SECOND in name] == []
    assert run("prune", place.gallery, "--keep=1") == 0
    assert f"0 folders of {place.gallery} deleted, 0 bytes\n" in capsys.readouterr().out


def test_the_latest_is_never_deleted(place):
    assert run("rollback", place.gallery, "--to", FIRST) == 0
    assert run("prune", place.gallery, "--keep=1") == 0
    assert names(place) == [FIRST, THIRD]


def test_a_version_that_becomes_the_latest_meanwhile_stays(local, monkeypatch, capsys):
    delete = storage.delete_file

    def roll_back_first(uri):
        storage.write_bytes(f"{local.gallery}/LATEST", f"{SECOND}\n".encode())
        delete(uri)

    monkeypatch.setattr(storage, "delete_file", roll_back_first)
    assert run("prune", local.gallery, "--keep=1") == 0
    assert f"\n{SECOND} stays: it was made the latest meanwhile\n" in capsys.readouterr().out
    assert names(local) == [SECOND, THIRD]
    assert not versions.faults(versions.find(local.gallery))


def test_the_manifest_goes_first(local, monkeypatch):
    def die(uri):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "delete_tree", die)
    assert cli.main(["galleries", "prune", local.gallery, "--keep=2"]) != 0
    assert names(local) == [SECOND, THIRD]
    assert pathlib.Path(local.gallery, FIRST).is_dir()


def test_what_builds_have_left_is_deleted_when_it_is_old(local, capsys):
    gallery = pathlib.Path(local.gallery)
    left = ["20260101T000000Z-00000000", "failed-20260101T000000Z", ".staging-0123456789ab"]
    for name in [*left, "notes", "20260101T000000Z-11111111"]:
        (gallery / name).mkdir()
        (gallery / name / "part.arrow").write_bytes(b"x" * 1000)
    for name in [*left, "notes"]:
        age(gallery / name, 25)
    assert run("prune", local.gallery) == 0
    told = capsys.readouterr().out
    for name, what in zip(left, ["unfinished version", "ledger of a failed build", "parts of a build"], strict=True):
        assert re.search(rf"{re.escape(name)} +{what} +1 +1.0 kB", told)
        assert not (gallery / name).exists()
    assert "3 folders of" in told
    assert (gallery / "notes").exists() and (gallery / "20260101T000000Z-11111111").exists()
    age(gallery / "20260101T000000Z-11111111", 2)
    assert run("prune", local.gallery, "--unfinished_hours=1.5") == 0
    assert not (gallery / "20260101T000000Z-11111111").exists()
    assert names(local) == [FIRST, SECOND, THIRD]


# --- verify -----------------------------------------------------------------------------------------------------------


def test_a_sound_gallery_is_verified(place, capsys):
    assert run("verify", place.gallery) == 0
    ended = capsys.readouterr()
    assert ended.out == f"3 versions of {place.gallery} read: all as their manifests say\n"
    assert ended.err == ""
    assert run("verify", f"{place.gallery}/{SECOND}") == 0
    assert capsys.readouterr().out.startswith("1 version of")


def test_each_fault_is_a_line(place, capsys):
    first, second = f"{place.gallery}/{FIRST}", f"{place.gallery}/{SECOND}"
    flip_a_bit(f"{first}/index/vectors.npy")
    storage.delete_file(f"{first}/faces-00000-of-00002.parquet")
    storage.write_bytes(f"{second}/notes.txt", b"besides")
    storage.write_bytes(f"{place.gallery}/LATEST", b"20260109T030405Z-00000009\n")
    assert run("verify", place.gallery) == 1
    ended = capsys.readouterr()
    assert ended.err.splitlines() == [
        f"celebface galleries verify: the gallery lacks its faces-00000-of-00002.parquet: {first}",
        f"celebface galleries verify: the gallery's index/vectors.npy is not what its manifest says: {first}",
        f"celebface galleries verify: the gallery's notes.txt is not in its manifest: {second}",
        f"celebface galleries verify: LATEST of {place.gallery} names 20260109T030405Z-00000009, which is not a whole "
        "version",
    ]
    assert ended.out == f"3 versions of {place.gallery} read: 4 faults\n"


def test_an_index_that_does_not_find_its_own_is_a_fault(made, tmp_path, capsys):
    """Whole, by its checksums, and still useless."""
    folder, manifest = made[FIRST]
    shutil.copytree(folder, tmp_path / "assembled")
    np.save(tmp_path / "assembled" / "index" / "vectors.npy", VECTORS[4::-1])
    files = fakes.manifest(str(tmp_path / "assembled"), FIRST).files
    files = {name: entry for name, entry in files.items() if name != "manifest.json"}
    publish.publish(str(tmp_path / "assembled"), str(tmp_path / "stars"), dataclasses.replace(manifest, files=files))
    assert run("verify", str(tmp_path / "stars")) == 1
    told = capsys.readouterr().err
    assert "does not find its own vectors" in told and told.count("\n") == 1


def test_a_version_under_another_name_is_a_fault(local, capsys):
    os.rename(f"{local.gallery}/{FIRST}", f"{local.gallery}/20251231T030405Z-00000000")
    assert run("verify", local.gallery) == 1
    assert f"the manifest is that of version {FIRST}: {local.gallery}/20251231T030405Z" in capsys.readouterr().err


# --- usage ------------------------------------------------------------------------------------------------------------

WRONG = {
    "no action": "",
    "no such action": "frobnicate",
    "no gallery": "show",
    "gallery that is not there": "show {tmp}/nowhere",
    "nothing to verify": "verify {tmp}/nowhere",
    "nothing to roll back": "rollback {tmp}/nowhere",
    "version as a gallery": "rollback {gallery}/" + FIRST,
    "version that is not there": "rollback {gallery} --to 20260101T000000Z-00000000",
    "keep nothing": "prune {gallery} --keep 0",
    "hours that are none": "prune {gallery} --unfinished_hours nan",
    "unknown flag": "list --bogus",
    "place of another kind": "list --output_root hdfs://a/b",
}


@pytest.mark.parametrize("command", WRONG.values(), ids=WRONG.keys())
def test_wrong_usage_is_one_line_and_exit_2(command, local, tmp_path, capsys):
    assert run(*command.format(tmp=tmp_path, gallery=local.gallery).split()) == 2
    ended = capsys.readouterr()
    assert ended.out == "" and ended.err.startswith("celebface galleries") and ended.err.count("\n") == 1, ended.err
    assert names(local) == [FIRST, SECOND, THIRD] and versions.latest(local.gallery) == THIRD


@pytest.mark.parametrize("action", ["list", "show", "diff", "rollback", "prune", "verify"])
def test_each_action_has_help_with_examples(action, capsys):
    assert run(action, "--help") == 0
    text = capsys.readouterr().out
    assert f"usage: celebface galleries {action}" in text
    assert f"  celebface galleries {action}" in text.split("examples:")[1]


def test_remove_is_a_command_of_its_own(monkeypatch):
    given = []
    module = types.SimpleNamespace(main=lambda argv: given.append(argv) or 7)
    monkeypatch.setitem(sys.modules, "celebface.pipelines.take_down", module)
    assert run("remove", "g", "--identity=x", "--help") == 7
    assert given == [["g", "--identity=x", "--help"]]
