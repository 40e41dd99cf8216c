"""Publishing: whatever fails, and whenever, a reader finds a whole version."""

import contextlib
import dataclasses
import datetime
import pathlib
import shutil

import fakes
import object_stores
import pytest

from benchmarks import publishing
from celebface.indexing import publish, storage, upkeep
from celebface.indexing.manifest import BadBundle, Manifest

NAMES = ["faces-00000-of-00001.parquet", "index/faces.ann", "run.json"]  # in the order of their names
STEPS = [*NAMES, "manifest.json", "LATEST"]


class Killed(Exception):
    """Stands for the end of the process."""


def assemble(folder: pathlib.Path, contents: bytes) -> str:
    for name in NAMES:
        storage.write_bytes(str(folder / name), contents + name.encode())
    return str(folder)


def publish_version(tmp_path: pathlib.Path, version: str) -> str:
    folder = assemble(tmp_path / f"assembled-{version}", version.encode())
    return publish.publish(folder, str(tmp_path / "gallery"), fakes.manifest(folder, version))


def check_whole(version: str) -> Manifest:
    """Reads a version as its reader does: every file of its manifest is there, and what it should be."""
    manifest = Manifest.from_json(storage.read_bytes(storage.join(version, "manifest.json")))
    for name, entry in manifest.files.items():
        assert storage.checksum(storage.join(version, name)) == (entry["sha256"], entry["bytes"])
    assert sorted(manifest.files) == NAMES
    return manifest


def wrap_writes(monkeypatch, around) -> None:
    """Has `around(target, write)` called in place of everything that publishing writes, with a call that does it."""
    copy_file, write_bytes, replace = storage.copy_file, storage.write_bytes, storage.replace_tagged
    monkeypatch.setattr(storage, "copy_file", lambda source, target: around(target, lambda: copy_file(source, target)))
    monkeypatch.setattr(storage, "write_bytes", lambda target, data: around(target, lambda: write_bytes(target, data)))
    monkeypatch.setattr(
        storage, "replace_tagged", lambda target, data, tag: around(target, lambda: replace(target, data, tag))
    )


# --- order and atomicity ----------------------------------------------------------------------------------------------


def test_files_come_first_then_the_manifest_then_latest(tmp_path, monkeypatch):
    written = []

    def note(target, write):
        written.append(target)
        write()

    folder = assemble(tmp_path / "assembled", b"contents")
    manifest = fakes.manifest(folder, "v1")
    wrap_writes(monkeypatch, note)
    version = publish.publish(folder, str(tmp_path / "gallery"), manifest)
    assert version == str(tmp_path / "gallery" / "v1")
    assert written == [
        *(f"{version}/{name}" for name in NAMES),
        f"{version}/manifest.json",
        str(tmp_path / "gallery" / "LATEST"),
    ]
    assert (tmp_path / "gallery" / "LATEST").read_bytes() == b"v1\n"
    assert check_whole(version) == manifest


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_publisher_killed_at_any_step_leaves_a_whole_latest(tmp_path, monkeypatch, step, done):
    old = publish_version(tmp_path, "v1")

    def die(target, write):
        if not target.endswith(step):
            write()
            return
        if done:
            write()
        raise Killed

    folder = assemble(tmp_path / "assembled", b"new")
    manifest = fakes.manifest(folder, "v2")
    with monkeypatch.context() as broken, pytest.raises(Killed):
        wrap_writes(broken, die)
        publish.publish(folder, str(tmp_path / "gallery"), manifest)

    found = publish.find_version(str(tmp_path / "gallery"))
    if step == "LATEST" and done:
        assert found == str(tmp_path / "gallery" / "v2")
    else:
        assert found == old
        assert (tmp_path / "gallery" / "LATEST").read_bytes() == b"v1\n"
    check_whole(found)

    again = publish.publish(folder, str(tmp_path / "gallery"), manifest)
    assert publish.find_version(str(tmp_path / "gallery")) == again
    assert check_whole(again).version == "v2"
    assert check_whole(old).version == "v1"


@pytest.mark.parametrize("step", NAMES)
def test_a_version_that_is_not_whole_is_not_found_by_name(tmp_path, monkeypatch, step):
    publish_version(tmp_path, "v1")

    def die(target, write):
        if target.endswith(step):
            raise Killed
        write()

    folder = assemble(tmp_path / "assembled", b"new")
    with monkeypatch.context() as broken, pytest.raises(Killed):
        wrap_writes(broken, die)
        publish.publish(folder, str(tmp_path / "gallery"), fakes.manifest(folder, "v2"))
    with pytest.raises(BadBundle, match=r"there is no gallery at .*/v2"):
        publish.find_version(str(tmp_path / "gallery" / "v2"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda data: b""],
    ids=["cut short", "other byte", "empty"],
)
def test_a_corrupted_copy_is_refused(tmp_path, monkeypatch, name, damage):
    old = publish_version(tmp_path, "v1")

    def corrupt(target, write):
        write()
        if target.endswith(name):
            path = pathlib.Path(target)
            path.write_bytes(damage(path.read_bytes()))

    folder = assemble(tmp_path / "assembled", b"new")
    manifest = fakes.manifest(folder, "v2")
    with monkeypatch.context() as broken, pytest.raises(BadBundle, match=f"{name} was not written as it should be"):
        wrap_writes(broken, corrupt)
        publish.publish(folder, str(tmp_path / "gallery"), manifest)
    assert not (tmp_path / "gallery" / "v2" / "manifest.json").exists()
    assert publish.find_version(str(tmp_path / "gallery")) == old
    check_whole(old)


# --- the floor of recall ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ({"recall_at_1": 0.9912, "recall_at_10": 0.98}, r"recall@1 0\.9912, recall@10 0\.9800, and at least 0\.99 is"),
        ({"recall_at_1": 0.9, "recall_at_10": 1.0}, r"recall@1 0\.9000, recall@10 1\.0000, and at least 0\.99 is"),
        ({"recall_at_10": 0.5}, r": recall@10 0\.5000, and at least 0\.99 is"),
    ],
)
def test_an_index_that_finds_too_little_is_not_published(tmp_path, index, told):
    folder = assemble(tmp_path / "assembled", b"contents")
    manifest = dataclasses.replace(fakes.manifest(folder, "v1"), index={**fakes.INDEX, **index})
    with pytest.raises(publish.Refused, match=told):
        publish.publish(folder, str(tmp_path / "gallery"), manifest, min_recall=0.99)
    assert not (tmp_path / "gallery").exists()
    publish.publish(folder, str(tmp_path / "gallery"), manifest, min_recall=min(index.values()))
    assert publish.find_version(str(tmp_path / "gallery")) == str(tmp_path / "gallery" / "v1")


# --- several at once --------------------------------------------------------------------------------------------------


def test_a_version_made_from_one_that_is_no_longer_the_latest_is_refused(tmp_path):
    publish_version(tmp_path, "v1")
    publish_version(tmp_path, "v2")
    folder, gallery = assemble(tmp_path / "assembled", b"new"), str(tmp_path / "gallery")
    with pytest.raises(
        publish.Refused, match=f"^v1 is no longer the latest version of {gallery}; run the command again$"
    ):
        publish.publish(folder, gallery, fakes.manifest(folder, "v3"), based_on="v1")
    assert not (tmp_path / "gallery" / "v3").exists()
    publish.publish(folder, gallery, fakes.manifest(folder, "v3"), based_on="v2")
    assert publish.find_version(gallery) == storage.join(gallery, "v3")


def test_who_comes_second_is_told_and_keeps_a_whole_version(tmp_path, monkeypatch):
    first = publish_version(tmp_path, "v1")
    folder, gallery = assemble(tmp_path / "assembled", b"new"), str(tmp_path / "gallery")

    def let_another_in(target, write):
        if target.endswith("v3/manifest.json"):
            with monkeypatch.context() as alone:
                alone.undo()
                publish_version(tmp_path, "v2")
        write()

    wrap_writes(monkeypatch, let_another_in)
    told = f"v3 is whole, but not the latest: celebface galleries rollback {gallery} --to v3 makes it so"
    with pytest.raises(storage.Conflict, match=told):
        publish.publish(folder, gallery, fakes.manifest(folder, "v3"))
    monkeypatch.undo()
    assert publish.find_version(gallery) == storage.join(gallery, "v2")
    assert check_whole(storage.join(gallery, "v3")).version == "v3"
    assert upkeep.rollback(gallery, "v3") == ("v2", "v3")
    assert publish.find_version(gallery) == storage.join(gallery, "v3")
    check_whole(first)


@pytest.mark.parametrize("kind", ["local", *object_stores.SWAPPING])
def test_of_two_publishers_at_once_one_wins_and_the_other_is_told(kind, tmp_path, monkeypatch):
    """Fewer rounds in stores, where each takes long; `python -m benchmarks.publishing` runs them all."""
    rounds = 100 if kind == "local" else 12
    with contextlib.ExitStack() as stack:
        gallery = str(tmp_path / "gallery")
        if kind != "local":
            address = stack.enter_context(object_stores.server(kind))
            object_stores.point_to(monkeypatch, kind, address)
            gallery = f"{object_stores.make_bucket(kind, address).uri}/gallery"
        ended = publishing.race(gallery, rounds)
        assert (ended.rounds, ended.won, ended.told) == (rounds, rounds, rounds)
        assert ended.seen > 0


def test_a_publisher_killed_at_any_moment_leaves_a_whole_latest_and_is_simply_run_again(tmp_path):
    reached = publishing.kill_publishers(str(tmp_path / "gallery"), 6)
    assert sum(state in ("files", "version") for state in reached) == 6
    assert set(reached) <= {"nothing", "files", "version", "latest"}


# --- finding ----------------------------------------------------------------------------------------------------------


def test_a_version_is_found_by_gallery_and_by_itself(tmp_path, monkeypatch):
    first, second = publish_version(tmp_path, "v1"), publish_version(tmp_path, "v2")
    assert publish.find_version(str(tmp_path / "gallery")) == second
    assert publish.find_version(f"{tmp_path}/gallery/") == second
    assert publish.find_version(first) == first
    assert publish.find_version(f"{first}/") == first
    assert publish.find_version((tmp_path / "gallery").as_uri()) == (tmp_path / "gallery" / "v2").as_uri()
    assert publish.find_version(f"file://{first}/") == f"file://{first}"
    monkeypatch.chdir(tmp_path)
    assert publish.find_version("gallery") == second


def test_no_gallery_is_a_bad_bundle(tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("empty", "missing"):
        with pytest.raises(BadBundle, match=f"there is no gallery at {tmp_path}/{place}"):
            publish.find_version(str(tmp_path / place))


def test_latest_of_a_version_taken_away_is_a_bad_bundle(tmp_path):
    shutil.rmtree(publish_version(tmp_path, "v1"))
    with pytest.raises(BadBundle, match=r"LATEST of .* names v1, which is not a whole version"):
        publish.find_version(str(tmp_path / "gallery"))


@pytest.mark.parametrize(
    "contents",
    [b"", b"\n", b"..", b"../other/v1", b"/etc", b"v1/../../other/v1", b"v1\nv2", b"v1\x00", b"\x1b[31mv1", b"v\xff1"],
)
def test_a_hostile_latest_is_refused(tmp_path, contents):
    publish_version(tmp_path, "v1")
    shutil.copytree(tmp_path / "gallery", tmp_path / "other")  # where "../other/v1" would lead is a whole version
    (tmp_path / "gallery" / "LATEST").write_bytes(contents)
    with pytest.raises(BadBundle, match=r"LATEST of .* names no version") as refusal:
        publish.find_version(str(tmp_path / "gallery"))
    assert str(refusal.value).isprintable()


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["celebrities", "0", "v1.2_x-3", "A..b"])
def test_fit_names_are_given_back(name):
    assert publish.check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-x", "_x", "a/b", "/a", "a/", "../a", "a\\b", "a b", "a\n", "a\x00", "Zoë", "s3://a"],
)
def test_unfit_names_are_refused(name):
    with pytest.raises(ValueError, match="a gallery name consists of letters"):
        publish.check_name(name)


def test_version_names_sort_by_time_and_tell_contents_apart():
    early = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    late = datetime.datetime(2026, 11, 2, 3, 4, 5, tzinfo=datetime.UTC)
    assert publish.version_name(early, "fedcba9876543210") == "20260102T030405Z-fedcba98"
    assert publish.version_name(early, "ff" * 32) < publish.version_name(late, "00" * 32)
    assert publish.check_name(publish.version_name(early, "00" * 32)) == "20260102T030405Z-00000000"
