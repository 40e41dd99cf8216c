import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import h5py
import numpy as np
import pytest

from celebface.indexing.cache import default_cache
from celebface.models import encoder_card, weights
from celebface.models.encoder_card import EncoderCard
from celebface.models.faces import PhotoLimits
from celebface.models.photo import Photo
from celebface.models.weights import FetchError

PHOTOS = f"{weights._PHOTOS_FOLDER}/train"


@pytest.fixture(scope="module")
def archive() -> pathlib.Path:
    """The source package that the models come from."""
    own = os.environ.get("CELEBFACE_ARCHIVE")
    path = pathlib.Path(own) if own else default_cache() / "downloads" / weights._ARCHIVE_NAME
    if not path.is_file():
        pytest.skip(f"no {weights._ARCHIVE_NAME}: set CELEBFACE_ARCHIVE to where it lies")
    return path


@pytest.fixture(scope="module")
def filled(archive, tmp_path_factory) -> pathlib.Path:
    """A cache with all in it; tests work on copies."""
    cache = tmp_path_factory.mktemp("filled")
    weights.fetch_models(cache, archive)
    return cache


def snapshot(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of all that is in a folder."""
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def sizes(found: dict[str, tuple[int, int]]) -> dict[str, int]:
    return {name: size for name, (size, _) in found.items()}


def left_over(cache: pathlib.Path) -> list[pathlib.Path]:
    """Scratch folders that were not removed."""
    return [path for path in cache.rglob("*") if path.name.startswith(".")]


# --- fetching ---------------------------------------------------------------------------------------------------------


def test_fetching_fills_the_cache_once(archive, tmp_path):
    cache = tmp_path / "new" / "cache"
    assert weights.fetch_models(cache, archive) is True

    people = ["ben_afflek", "elton_john", "jerry_seinfeld", "madonna", "mindy_kaling"]
    for part, count in (("train", 93), ("val", 25)):
        photos = list(weights.sample_folder(cache, part).glob("*/*"))
        assert len(photos) == count
        assert {path.suffix for path in photos} == {".jpg"}
        assert all(Photo(path.read_bytes(), PhotoLimits()).width > 100 for path in photos)
        assert sorted(path.name for path in weights.sample_folder(cache, part).iterdir()) == people

    folder = weights.encoder_folder(cache)
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "weights.npz"]
    card = EncoderCard.from_json((folder / "card.json").read_bytes())
    assert card.encoder_id == "10ef0db40b7277d4"
    assert (card.embedding_size, card.best_tau) == (128, 1.22)
    arrays = encoder_card.weights_from_bytes((folder / "weights.npz").read_bytes(), card)
    assert sum(array.size for array in arrays.values()) == 22_808_144
    assert left_over(cache) == []
    assert all(path.stat().st_mode & 0o055 == 0o055 for path in (folder, weights.sample_folder(cache, "val")))

    before = snapshot(cache)
    assert weights.fetch_models(cache, archive) is False
    assert weights.fetch_models(cache, None) is False  # nothing is needed
    with pytest.raises(FetchError, match="there is no file"):
        weights.fetch_models(cache, tmp_path / "no such file")
    assert snapshot(cache) == before


def test_a_run_killed_half_way_is_simply_run_again(archive, tmp_path, monkeypatch):
    write = pathlib.Path.write_text

    def killed(path, *arguments, **options):
        if path.name == encoder_card.CARD_NAME:  # the weights beside it are written by now
            assert (path.parent / encoder_card.WEIGHTS_NAME).stat().st_size > 90_000_000
            raise KeyboardInterrupt
        return write(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            weights.fetch_models(tmp_path, archive)
    assert not weights.encoder_folder(tmp_path).exists()
    assert left_over(tmp_path) == []
    before = snapshot(tmp_path / "sample")
    assert len(before) == 93 + 25 + 2 * 5 + 2

    assert weights.fetch_models(tmp_path, archive) is True
    assert (weights.encoder_folder(tmp_path) / encoder_card.CARD_NAME).is_file()
    assert snapshot(tmp_path / "sample") == before


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("sample/val", shutil.rmtree),
        ("sample/val", lambda folder: next(folder.glob("madonna/*.jpg")).unlink()),
        ("encoders/facenet-ms1m-128", shutil.rmtree),
        ("encoders/facenet-ms1m-128", lambda folder: os.truncate(folder / "weights.npz", 10_000_000)),
    ],
    ids=["no val", "one photo lost", "no encoder", "half the weights"],
)
def test_only_what_is_missing_or_damaged_is_made_again(part, damage, filled, archive, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(filled, cache)
    damage(cache / part)
    before = snapshot(cache)

    assert weights.fetch_models(cache, archive) is True
    after = snapshot(cache)
    assert sizes(after) == sizes(snapshot(filled))
    for name in after:
        kept = name in before and not name.startswith(part) and name != str(pathlib.Path(part).parent)
        assert (after[name] == before.get(name)) is kept
    assert weights.fetch_models(cache, archive) is False


def test_a_wrong_archive_is_refused(tmp_path):
    wrong = tmp_path / "wrong.tar.gz"
    with tarfile.open(wrong, "w:gz") as package:
        package.addfile(tarfile.TarInfo(f"{PHOTOS}/madonna/a.jpg"))

    with pytest.raises(FetchError, match=r"wrong\.tar\.gz is not the known .*: its sha256 differs"):
        weights.fetch_models(tmp_path / "cache", wrong)
    assert not weights.encoder_folder(tmp_path / "cache").exists()
    assert not weights.sample_folder(tmp_path / "cache", "train").exists()


def test_an_archive_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FetchError, match="there is no file"):
        weights.fetch_models(tmp_path / "cache", tmp_path / "missing.tar.gz")


# --- downloading ------------------------------------------------------------------------------------------------------


def python_that(command: str, folder: pathlib.Path) -> str:
    """A program in the place of Python and its pip; $last is the folder that pip is to fill."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\nfor last; do :; done\n{command}\n")
    program.chmod(0o755)
    return str(program)


def test_a_sound_download_is_not_repeated(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", python_that("exit 1", tmp_path))
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / weights._ARCHIVE_NAME).symlink_to(archive)

    assert weights._downloaded(downloads) == downloads / weights._ARCHIVE_NAME


def test_an_unsound_download_is_repeated(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", python_that(f'cp "{archive}" "$last/{weights._ARCHIVE_NAME}"', tmp_path))
    target = tmp_path / "downloads" / weights._ARCHIVE_NAME
    target.parent.mkdir()
    target.write_bytes(b"half of it")

    assert weights._downloaded(target.parent) == target
    assert weights._sha256(target) == weights._ARCHIVE_SHA256
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("exit 1", "pip could not download .* fetch-models --archive"),
        ("exit 0", "pip could not download"),
        (f'echo rubbish > "$last/{weights._ARCHIVE_NAME}"', "its sha256 differs"),
    ],
    ids=["pip fails", "nothing came", "other bytes came"],
)
def test_a_failed_download_leaves_nothing(command, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", python_that(command, tmp_path))

    with pytest.raises(FetchError, match=message):
        weights.fetch_models(tmp_path / "cache")
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []
    assert not weights.encoder_folder(tmp_path / "cache").exists()


def test_pip_is_held_to_the_hash(tmp_path, monkeypatch):
    commands = []

    def run(command, **options):
        wanted = pathlib.Path(command[command.index("--requirement") + 1])
        commands.append((command, wanted.read_text()))
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(FetchError):
        weights._downloaded(tmp_path)
    [(command, wanted)] = commands
    assert {"--require-hashes", "--no-deps", "--no-binary"} < set(command)
    assert wanted == f"{weights._REQUIREMENT} --hash=sha256:{weights._ARCHIVE_SHA256}\n"


# --- members of the archive -------------------------------------------------------------------------------------------


def regular(name: str, data: bytes = b"photo") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member, data


def link(name: str, target: str, kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def opened(*members: tuple[tarfile.TarInfo, bytes]) -> tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as package:
        for member, data in members:
            package.addfile(member, io.BytesIO(data))
    package = tarfile.open(fileobj=io.BytesIO(stream.getvalue()))  # noqa: SIM115 # read by the caller
    return package, {member.name: member for member in package.getmembers()}


@pytest.fixture
def two_photos(monkeypatch):
    monkeypatch.setitem(weights._SAMPLE_COUNTS, "train", 2)


def test_photos_are_written_by_person(two_photos, tmp_path):
    package = opened(
        regular(f"{PHOTOS}/ann/1.jpg", b"first"),
        regular(f"{PHOTOS}/bob/1.jpg", b"second"),
        regular(f"{PHOTOS}/bob/._1.jpg"),
        regular(f"{PHOTOS}/bob/notes.txt"),
        regular(f"{weights._PHOTOS_FOLDER}/val/ann/2.jpg"),
        regular("elsewhere/ann/3.jpg"),
    )

    weights._extract_photos(*package, "train", tmp_path)
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert files == {"ann/1.jpg": b"first", "bob/1.jpg": b"second"}


@pytest.mark.parametrize(
    "name",
    [
        f"{PHOTOS}/../../../escaped.jpg",
        f"{PHOTOS}/ann/../../escaped.jpg",
        f"{PHOTOS}/../escaped.jpg",
        f"{PHOTOS}/./escaped.jpg",
        f"{PHOTOS}//escaped.jpg",
        "/escaped.jpg",
        "../escaped.jpg",
    ],
)
def test_no_name_leads_out_of_the_folder(name, two_photos, tmp_path):
    folder = tmp_path / "a" / "b" / "c" / "d"
    folder.mkdir(parents=True)
    package = opened(regular(f"{PHOTOS}/ann/1.jpg"), regular(f"{PHOTOS}/ann/2.jpg"), regular(name, b"escaped"))

    weights._extract_photos(*package, "train", folder)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg")) == ["ann/1.jpg", "ann/2.jpg"]
    assert list(tmp_path.rglob("escaped*")) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_links_and_other_special_members_are_refused(kind, two_photos, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("not a photo")
    package = opened(regular(f"{PHOTOS}/ann/1.jpg"), link(f"{PHOTOS}/ann/2.jpg", str(secret), kind))
    folder = tmp_path / "train"
    folder.mkdir()

    with pytest.raises(FetchError, match=r"no usable member .*ann/2\.jpg"):
        weights._extract_photos(*package, "train", folder)
    assert [path.name for path in folder.rglob("*.jpg")] == ["1.jpg"]
    assert secret.read_text() == "not a photo"


def test_a_folder_that_is_a_link_is_not_followed(two_photos, tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "train"
    outside.mkdir()
    folder.mkdir()
    package = opened(
        link(f"{PHOTOS}/ann", str(outside), tarfile.SYMTYPE),
        regular(f"{PHOTOS}/ann/1.jpg"),
        regular(f"{PHOTOS}/ann/2.jpg"),
    )

    weights._extract_photos(*package, "train", folder)
    assert list(outside.iterdir()) == []
    assert not (folder / "ann").is_symlink()


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_photos_is_refused(count, two_photos, tmp_path):
    package = opened(*(regular(f"{PHOTOS}/ann/{number}.jpg") for number in range(count)))

    with pytest.raises(FetchError, match=f"holds {count} sample photos of train, 2 were expected"):
        weights._extract_photos(*package, "train", tmp_path)


def test_members_are_read_as_plain_bytes():
    package = opened(regular("model/weights", b"abc"))

    assert weights._read_member(*package, "model/weights") == b"abc"
    with pytest.raises(FetchError, match="no usable member model/other"):
        weights._read_member(*package, "model/other")


def test_a_member_too_large_is_refused_unread(monkeypatch):
    monkeypatch.setattr(weights, "_MAX_MEMBER_BYTES", 1000)
    package = opened(regular("fits", bytes(1000)), regular("bomb", bytes(1001)))

    assert weights._read_member(*package, "fits") == bytes(1000)
    with pytest.raises(FetchError, match="no usable member bomb"):
        weights._read_member(*package, "bomb")


def test_other_weights_are_refused_unread(tmp_path):
    with pytest.raises(FetchError, match="its sha256 differs"):
        weights._write_encoder(b"pickled lambdas", tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_appears_when_its_contents_are_there(tmp_path):
    target = tmp_path / "made" / "folder"
    with weights._appearing(target) as scratch:
        (scratch / "file").write_text("done")
        assert not target.exists()

    assert (target / "file").read_text() == "done"
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_a_damaged_folder_is_replaced(tmp_path):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "rest").write_text("damaged")

    with weights._appearing(tmp_path / "folder") as scratch:
        (scratch / "file").write_text("sound")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["folder", "folder/file"]


def test_of_two_processes_each_leaves_a_whole_folder(tmp_path):
    target = tmp_path / "folder"
    with weights._appearing(target) as slower:
        with weights._appearing(target) as faster:
            (faster / "file").write_text("whole")
        assert (target / "file").read_text() == "whole"
        (slower / "file").write_text("whole")

    assert (target / "file").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_file_in_the_folders_place_is_an_error(tmp_path):
    (tmp_path / "folder").write_text("in the way")

    with pytest.raises(OSError), weights._appearing(tmp_path / "folder"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CELEBFACE_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/celebface"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/celebface"),
        ({}, "/home/me/.cache/celebface"),
    ],
)
def test_the_cache_is_where_the_user_has_it(variables, expected, monkeypatch):
    for name in ("CELEBFACE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)

    assert default_cache() == pathlib.Path(expected)


# --- Keras 2 files ----------------------------------------------------------------------------------------------------


def test_weights_are_read_from_a_keras_file_by_layer_name():
    kernel, beta = np.arange(12, dtype=np.float64).reshape(3, 4), np.ones(4, np.float32)
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = b"\x80\x04pickled lambdas: never looked at"
        layers = file.create_group("model_weights")
        layers.create_group("input_1").attrs["weight_names"] = []
        dense = layers.create_group("Bottleneck")
        dense.attrs["weight_names"] = [b"Bottleneck/kernel:0"]
        dense.create_group("Bottleneck")["kernel:0"] = kernel
        norm = layers.create_group("Bottleneck_BatchNorm")
        norm.attrs["weight_names"] = ["Bottleneck_BatchNorm/beta:0"]
        norm.create_group("Bottleneck_BatchNorm")["beta:0"] = beta

    found = weights.read_keras_weights(stream.getvalue())
    assert found.keys() == {"Bottleneck/kernel", "Bottleneck_BatchNorm/beta"}
    assert found["Bottleneck/kernel"].dtype == np.float32
    assert np.array_equal(found["Bottleneck/kernel"], kernel)
    assert np.array_equal(found["Bottleneck_BatchNorm/beta"], beta)
