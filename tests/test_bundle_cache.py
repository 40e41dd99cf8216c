"""Galleries of stores on this machine: fetched once, checked whenever they are opened, refused if they are damaged."""

import pathlib
import shutil
import subprocess
import sys

import fakes
import numpy as np
import object_stores
import pytest

from celebface.indexing import bundle_cache, publish, storage, upkeep, versions
from celebface.indexing.gallery import Gallery
from celebface.indexing.manifest import BadBundle, Manifest

VECTORS, PEOPLE = fakes.crowds([3, 4, 5], 16, 0.3)
INDEX = ["index/calibration.json", "index/faces.ann", "index/labels.parquet", "index/vectors.npy"]


@pytest.fixture(scope="module", params=object_stores.SWAPPING)
def store(request):
    with object_stores.server(request.param) as address:
        yield request.param, address


@pytest.fixture
def version(store, tmp_path, monkeypatch) -> str:
    """A version in a store."""
    object_stores.point_to(monkeypatch, *store)
    monkeypatch.setenv("CELEBFACE_CACHE", str(tmp_path / "cache"))
    local = fakes.gallery(str(tmp_path / "local"), VECTORS, PEOPLE)
    manifest = Manifest.from_json(storage.read_bytes(storage.join(local, "manifest.json")))
    return publish.publish(local, f"{object_stores.make_bucket(*store).uri}/gallery", manifest)


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """Names of the files that are fetched into the cache."""
    names, fetch = [], bundle_cache.fetch
    monkeypatch.setattr(bundle_cache, "fetch", lambda *given: names.append(given[1]) or fetch(*given))
    return names


def cached(tmp_path: pathlib.Path) -> pathlib.Path:
    (place,) = (tmp_path / "cache" / "galleries").iterdir()
    return place


def answers(gallery: Gallery) -> list[str]:
    return [found[0].identity for found in gallery.nearest_people(VECTORS, 1)]


def test_a_gallery_of_a_store_is_fetched_once(version, fetched, tmp_path):
    assert answers(Gallery.open(version)) == PEOPLE
    assert sorted(fetched) == INDEX
    assert answers(Gallery.open(publish.find_version(version))) == PEOPLE
    assert answers(Gallery.open(version.rpartition("/")[0])) == PEOPLE
    assert sorted(fetched) == INDEX
    assert sorted(str(path.relative_to(cached(tmp_path))) for path in cached(tmp_path).rglob("index/*")) == INDEX


def test_the_cache_is_where_it_is_asked_for(version, tmp_path):
    Gallery.open(version, tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "galleries").is_dir()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", INDEX)
@pytest.mark.parametrize(
    "damage", [lambda data: bytes([data[0] ^ 1]) + data[1:], lambda data: data[:-1]], ids=["a bit", "cut short"]
)
def test_what_is_damaged_in_the_cache_is_fetched_anew(version, fetched, tmp_path, name, damage):
    Gallery.open(version)
    path = cached(tmp_path) / name
    path.write_bytes(damage(path.read_bytes()))
    fetched.clear()
    assert answers(Gallery.open(version)) == PEOPLE
    assert fetched == [name]


@pytest.mark.parametrize("name", INDEX)
def test_what_is_damaged_in_the_store_is_refused(version, tmp_path, name):
    target = storage.join(version, name)
    data = storage.read_bytes(target)
    storage.write_bytes(target, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BadBundle, match=f"^the gallery's {name} is not what its manifest says: {version}$"):
        Gallery.open(version)
    assert not (cached(tmp_path) / name).exists()
    storage.delete_file(target)
    with pytest.raises(BadBundle, match=f"^the gallery lacks its {name}: {version}$"):
        Gallery.open(version)


def test_what_is_in_the_cache_is_not_asked_for_again(version, monkeypatch):
    """So a whole job may go on with a version of which a file was lost."""
    Gallery.open(version)
    storage.delete_file(storage.join(version, INDEX[1]))
    assert answers(Gallery.open(version)) == PEOPLE


_OPEN = """
import sys
from celebface.indexing import bundle_cache
from celebface.indexing.gallery import Gallery
fetch = bundle_cache.fetch
bundle_cache.fetch = lambda *given: print(given[1]) or fetch(*given)
print(len(Gallery.open(sys.argv[1])))
"""


def test_of_several_processes_one_fetches(version):
    command = [sys.executable, "-c", _OPEN, version]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") for _ in range(4)]
    lines = [line for process in processes for line in process.communicate()[0].split()]
    assert sorted(lines) == [*["12"] * 4, *INDEX]


def test_old_versions_leave_the_cache(version, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_cache, "_KEPT", 2)
    gallery = version.rpartition("/")[0]
    manifest = versions.find(gallery).manifest
    opened = [Gallery.open(version)]
    for number in (2, 3, 4):
        local = tmp_path / "local" / "gallery" / "v1"
        later = Manifest(**{**vars(manifest), "version": f"v{number}"})
        opened.append(Gallery.open(publish.publish(str(local), gallery, later)))
    assert len(list((tmp_path / "cache" / "galleries").iterdir())) == 2
    assert all(answers(each) == PEOPLE for each in opened)  # what is open stays open


def test_a_version_that_is_pruned_leaves_the_cache(version, tmp_path):
    gallery = version.rpartition("/")[0]
    Gallery.open(version)
    later = Manifest(**{**vars(versions.find(gallery).manifest), "version": "v2"})
    publish.publish(str(tmp_path / "local" / "gallery" / "v1"), gallery, later)
    (doomed,) = upkeep.doomed(gallery, 1, 0)
    assert upkeep.delete(gallery, doomed)
    assert list((tmp_path / "cache" / "galleries").iterdir()) == []


def test_a_local_version_is_opened_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("CELEBFACE_CACHE", str(tmp_path / "cache"))
    version = fakes.gallery(str(tmp_path / "local"), VECTORS, PEOPLE)
    assert answers(Gallery.open(version)) == PEOPLE
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["../outside", "index/../../outside", "/etc/outside", "index//x", "./x"])
def test_a_manifest_whose_files_lead_elsewhere_is_refused(tmp_path, name):
    version = fakes.gallery(str(tmp_path / "local"), VECTORS, PEOPLE)
    manifest = versions.find(version).manifest
    files = {**manifest.files, name: {"sha256": "0" * 64, "bytes": 1}}
    storage.write_bytes(
        storage.join(version, "manifest.json"), Manifest(**{**vars(manifest), "files": files}).to_json()
    )
    with pytest.raises(BadBundle, match="a file's name leads out of the version"):
        Gallery.open(version)


def test_a_reader_goes_on_when_its_version_is_pruned(tmp_path):
    version = fakes.gallery(str(tmp_path / "local"), VECTORS, PEOPLE)
    gallery = Gallery.open(version)
    shutil.rmtree(version)
    assert answers(gallery) == PEOPLE
    assert np.isclose(gallery.nearest_people(VECTORS[:1], 1)[0][0].distance, 0, atol=1e-6)
