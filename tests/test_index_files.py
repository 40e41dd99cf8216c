"""The index of a folder that is elsewhere: built here or by workers, found at both places."""

import pathlib

import fakes
import object_stores
import pytest

from celebface.indexing import storage
from celebface.indexing.kinds import IndexRequest
from celebface.indexing.parts import file_names
from celebface.indexing.searcher import Searcher
from celebface.pipelines import execution
from celebface.pipelines.index_files import add_index

VECTORS, PEOPLE = fakes.crowds([4] * 30, 16, 0.5)


def names(folder: pathlib.Path) -> list[str]:
    return sorted(f"index/{path.name}" for path in (folder / "index").iterdir())


@pytest.mark.parametrize(
    ("request_", "kind", "workers"),
    [
        (IndexRequest("annoy"), "annoy", False),
        (IndexRequest("annoy", parts=3), "annoy", True),
        (IndexRequest("auto", parts=3), "exact", True),  # the first was built to choose by
    ],
)
def test_the_index_is_found_at_both_places(tmp_path, request_, kind, workers, monkeypatch):
    built = []
    real = execution.run
    monkeypatch.setattr(execution, "run", lambda *args, **options: built.append(args[3]) or real(*args, **options))
    folder, local = tmp_path / "version", tmp_path / "here"
    fakes.write_shards(str(folder), VECTORS, PEOPLE, shards=4)
    entry = add_index(str(folder), str(local), request_, ["--direct_num_workers=1"])
    assert entry["kind"] == kind
    assert built == (["index parts"] if workers else [])
    assert names(folder) == names(local) == sorted(file_names(kind, entry["parts"]))
    for name in names(folder):
        assert (folder / name).read_bytes() == (local / name).read_bytes()
    answers = Searcher.open(str(folder), entry).nearest_people(VECTORS, 1)
    assert [answer[0].identity for answer in answers] == PEOPLE


def test_workers_give_the_same_bytes_as_one_process(tmp_path):
    contents = []
    for name, flags in (("one", ["--direct_num_workers=1"]), ("two", ["--direct_num_workers=2"])):
        folder = tmp_path / name / "version"
        fakes.write_shards(str(folder), VECTORS, PEOPLE, shards=4)
        add_index(str(folder), str(folder), IndexRequest("hnsw", parts=2), flags)
        contents.append({path.name: path.read_bytes() for path in (folder / "index").iterdir()})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 8


@pytest.mark.parametrize("parts", [1, 2])
def test_the_folder_may_be_in_a_store(tmp_path, parts, monkeypatch):
    with object_stores.server("s3") as address:
        object_stores.point_to(monkeypatch, "s3", address)
        folder = storage.join(object_stores.make_bucket("s3", address).uri, "version")
        for shard in fakes.write_shards(str(tmp_path / "made"), VECTORS, PEOPLE, shards=4):
            storage.copy_file(shard, storage.join(folder, pathlib.Path(shard).name))
        flags = ["--direct_num_workers=1"]
        entry = add_index(folder, str(tmp_path / "here"), IndexRequest("hnsw", parts=parts), flags)
        assert (entry["parts"], names(tmp_path / "here")) == (parts, sorted(file_names("hnsw", parts)))
        for name in names(tmp_path / "here"):
            assert storage.read_bytes(storage.join(folder, name)) == (tmp_path / "here" / name).read_bytes()
