"""From face shards to index files, in one part or several, and what the manifest says of them."""

import pathlib

import fakes
import numpy as np
import pyarrow.parquet as pq
import pytest

from celebface.indexing import annoy_index, build, hnsw_index, kinds, parts, recall
from celebface.indexing.index import BrokenIndex, MissingLibrary, machine
from celebface.indexing.kinds import IndexRequest
from celebface.indexing.parts import Parts
from celebface.indexing.recall import RecallTooLow
from celebface.indexing.searcher import Neighbour, Searcher
from celebface.transforms.records import Person

PEOPLE = [f"person {number % 7}" for number in range(60)]
VECTORS = fakes.unit_vectors(60, 16)
TIMES = {"p50_ms", "p99_ms", "queries_per_second", "build_seconds"}


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "index").iterdir()}


def steady(row: dict) -> dict:
    """What does not depend on how fast the machine is."""
    return {name: value for name, value in row.items() if name not in TIMES}


# --- the files --------------------------------------------------------------------------------------------------------


def test_the_three_files_are_aligned_by_person_and_face(tmp_path):
    folder = tmp_path / "version"
    entry = build.build_index(fakes.write_shards(str(folder), VECTORS, PEOPLE, shards=3), str(folder))
    assert sorted(files_of(folder)) == ["faces.ann", "labels.parquet", "vectors.npy"]

    ids = [Person.of(person).identity_id for person in PEOPLE]
    faces = [fakes.face_id_of(person, number) for number, person in enumerate(PEOPLE)]
    expected = sorted(zip(ids, faces, PEOPLE, VECTORS.tolist(), range(60), strict=True))
    labels = pq.read_table(folder / "index" / "labels.parquet")
    assert labels.column_names == ["face_id", "identity", "identity_id", "image_id", "uri"]
    assert labels["identity_id"].to_pylist() == [row[0] for row in expected]
    assert labels["face_id"].to_pylist() == [row[1] for row in expected]
    assert labels["identity"].to_pylist() == [row[2] for row in expected]
    assert labels["uri"].to_pylist() == [f"/photos/{person}/{number}.jpg" for _, _, person, _, number in expected]

    vectors = np.load(folder / "index" / "vectors.npy", allow_pickle=False)
    assert (vectors.dtype, vectors.shape) == (np.float32, (60, 16))
    assert vectors.tolist() == [row[3] for row in expected]

    size = sum(map(len, files_of(folder).values()))
    (row,) = entry.pop("measured")
    assert steady(row) == {
        "kind": "annoy",
        "effort": 500,
        "searched": "in full",
        "recall_at_1": 1.0,
        "recall_at_10": 1.0,
        "bytes": size,
    }
    assert min(row["p50_ms"], row["build_seconds"], *row["queries_per_second"].values()) > 0
    assert list(row["queries_per_second"]) == ["128", "1000"]
    assert entry.pop("p99_ms") == row["p99_ms"] >= row["p50_ms"]
    assert entry == {
        "kind": "annoy",
        "metric": "squared L2 of unit vectors",
        "params": {"trees": 50, "seed": annoy_index.SEED},
        "effort": 500,
        "parts": 1,
        "built_on": machine(),
        "recall_at_1": 1.0,
        "recall_at_10": 1.0,
        "faces": 60,
        "identities": 7,
    }


def test_people_are_counted_by_their_ids(tmp_path):
    people = [Person.of("ann"), Person.of("ann", "wikidata:Q1"), Person.of("ann", "wikidata:Q2")]
    people += [Person.of("Annie", "wikidata:Q2"), Person.of("bob")]
    uris = fakes.write_shards(str(tmp_path / "version"), fakes.unit_vectors(5, 8), people)
    assert build.build_index(uris, str(tmp_path / "version"))["identities"] == 4


@pytest.mark.parametrize("kind", ["annoy", "hnsw", "exact"])
def test_the_files_do_not_depend_on_how_the_faces_are_spread(tmp_path, kind):
    contents = []
    for shards, order in ((1, 1), (5, 1), (5, -1)):
        folder = tmp_path / f"{shards} {order}" / "version"
        uris = fakes.write_shards(str(folder), VECTORS, PEOPLE, shards)[::order]
        build.build_index(uris, str(folder), IndexRequest(kind))
        contents.append(files_of(folder))
    assert contents[0] == contents[1] == contents[2]
    assert len(contents[0]) == 2 + len(kinds.KINDS[kind].FILES)


def test_only_face_shards_are_read(tmp_path):
    folder = str(tmp_path / "version")
    fakes.write_shards(folder, VECTORS, PEOPLE, shards=2)
    (tmp_path / "version" / "faces-notes.txt").write_text("")
    (tmp_path / "version" / "old").mkdir()
    (tmp_path / "version" / "old" / "faces-00000-of-00001.parquet").write_bytes(b"no shard of this version")
    assert build.face_shards(folder) == [
        f"{folder}/faces-00000-of-00002.parquet",
        f"{folder}/faces-00001-of-00002.parquet",
    ]


@pytest.mark.parametrize("shards", [0, 2])
@pytest.mark.parametrize("kind", ["annoy", "auto"])
def test_no_face_is_refused(tmp_path, shards, kind):
    folder = tmp_path / "version"
    uris = fakes.write_shards(str(folder), np.empty((0, 16), np.float32), [], shards) if shards else []
    with pytest.raises(ValueError, match="there is no face to index"):
        build.build_index(uris, str(folder), IndexRequest(kind))
    assert not (folder / "index").exists()


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_gallery_that_misses_the_latency_asked_for_is_refused_with_what_was_measured(tmp_path):
    uris = fakes.write_shards(str(tmp_path), VECTORS, PEOPLE)
    with pytest.raises(RecallTooLow, match=r"^no index meets recall 0.9 within 1e-06 ms: exact has recall@1 1.0000, "):
        build.build_index(uris, str(tmp_path), IndexRequest("exact", min_recall=0.9, max_latency_ms=1e-6))


def test_a_kind_without_its_library_is_refused_before_any_work(tmp_path, monkeypatch):
    uris = fakes.write_shards(str(tmp_path / "version"), VECTORS, PEOPLE)
    monkeypatch.setitem(__import__("sys").modules, "usearch.index", None)
    with pytest.raises(MissingLibrary, match="needs usearch"):
        build.build_index(uris, str(tmp_path / "version"), IndexRequest("hnsw"))
    assert not (tmp_path / "version" / "index").exists()


@pytest.mark.parametrize("built_on", [{"machine": "s390x", "byte_order": "big"}, {**machine(), "byte_order": "big"}])
def test_the_index_of_another_machine_is_refused_with_what_to_do(tmp_path, built_on):
    entry = build.build_index(fakes.write_shards(str(tmp_path), VECTORS, PEOPLE), str(tmp_path))
    names = " ".join(built_on.values())
    with pytest.raises(BrokenIndex, match=f"annoy index was built for {names}, .*: celebface build-index makes one"):
        Searcher.open(str(tmp_path), {**entry, "built_on": built_on})


def test_vectors_alone_are_read_on_every_machine(tmp_path):
    uris = fakes.write_shards(str(tmp_path), VECTORS, PEOPLE)
    entry = build.build_index(uris, str(tmp_path), IndexRequest("exact"))
    other = {**entry, "built_on": {"machine": "s390x", "byte_order": "big"}}
    assert Searcher.open(str(tmp_path), other).nearest_people(VECTORS, 1)[8][0].identity == PEOPLE[8]


def test_an_unknown_kind_is_refused(tmp_path):
    entry = build.build_index(fakes.write_shards(str(tmp_path), VECTORS, PEOPLE), str(tmp_path))
    with pytest.raises(BrokenIndex, match="of the kind 'new', which this version of celebface does not know"):
        Searcher.open(str(tmp_path), {**entry, "kind": "new"})


def test_labels_of_other_faces_are_refused(tmp_path):
    entry = build.build_index(fakes.write_shards(str(tmp_path / "a"), VECTORS, PEOPLE), str(tmp_path / "a"))
    build.build_index(fakes.write_shards(str(tmp_path / "b"), VECTORS[1:], PEOPLE[1:]), str(tmp_path / "b"))
    (tmp_path / "b" / "index" / "labels.parquet").rename(tmp_path / "a" / "index" / "labels.parquet")
    with pytest.raises(BrokenIndex, match="labels for 59 faces, its vectors are 60"):
        Searcher.open(str(tmp_path / "a"), entry)


# --- parts ------------------------------------------------------------------------------------------------------------

# 40 people, of whom some share a photo: their faces are at the same distance from every query.
CROWD, CROWD_PEOPLE = fakes.crowds(range(1, 41), 24, 0.6)
CROWD[100:130] = CROWD[700:730]
QUERIES = np.concatenate([CROWD[::60], CROWD[95:135:3], fakes.unit_vectors(40, 24, seed=5)])


def answers_of(folder: pathlib.Path, request: IndexRequest) -> list[list[Neighbour]]:
    uris = fakes.write_shards(str(folder), CROWD, CROWD_PEOPLE, shards=5)
    entry = build.build_index(uris, str(folder), request)
    assert entry["parts"] == max(1, min(5, request.parts))
    return Searcher.open(str(folder), entry).nearest_people(QUERIES, 7)


@pytest.fixture(scope="module")
def right(tmp_path_factory) -> list[list[Neighbour]]:
    return answers_of(tmp_path_factory.mktemp("right"), IndexRequest("exact"))


@pytest.mark.parametrize("kind", ["exact", "annoy", "hnsw"])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_parts_are_searched_as_one(tmp_path, right, kind, count, monkeypatch):
    monkeypatch.setattr(recall, "_QUERIES", 60)
    monkeypatch.setattr(recall, "_ALONE", 5)
    for module, effort in ((annoy_index, 820 * annoy_index.TREES), (hnsw_index, 820)):
        monkeypatch.setattr(module, "FACES_PER_EFFORT", 0)  # the index is asked, and looks at all there is
        monkeypatch.setattr(module, "FIRST_EFFORT", effort)
    assert answers_of(tmp_path, IndexRequest(kind, parts=count)) == right  # to the last bit
    numbers = [""] if count == 1 else [f"-{number:05d}" for number in range(min(count, 5))]
    whats = ["vectors", "labels", *["faces" for _ in kinds.KINDS[kind].FILES]]
    expected = [f"{what}{number}" for number in numbers for what in whats]
    assert sorted(path.name.split(".")[0] for path in (tmp_path / "index").iterdir()) == sorted(expected)
    assert sorted(f"index/{path.name}" for path in (tmp_path / "index").iterdir()) == sorted(
        parts.file_names(kind, len(numbers))
    )


def test_people_with_the_same_photo_stand_in_one_order(right):
    shared = [answer for answer in right if len(answer) > 1 and answer[0].distance == answer[1].distance]
    assert len(shared) >= 10
    for answer in right:
        order = [(neighbour.distance, neighbour.identity_id) for neighbour in answer]
        assert order == sorted(order)


def test_a_part_that_got_nobody_is_no_fault(tmp_path):
    uris = fakes.write_shards(str(tmp_path), VECTORS[:2], ["ann", "bob"], shards=6)
    for kind in ("exact", "annoy", "hnsw", "auto"):
        entry = build.build_index(uris, str(tmp_path), IndexRequest(kind, parts=6))
        (answer,) = Searcher.open(str(tmp_path), entry).nearest_people(VECTORS[1:2], 5)
        assert (entry["parts"], entry["identities"]) == (6, 2)
        assert [neighbour.identity for neighbour in answer] == ["bob", "ann"]


def test_a_large_gallery_is_cut_into_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_FACES_PER_PART", 25)
    uris = fakes.write_shards(str(tmp_path), VECTORS, PEOPLE, shards=4)
    assert build.plan_index(uris, str(tmp_path), IndexRequest()).parts == 3
    assert build.plan_index(uris[:2], str(tmp_path), IndexRequest()).parts <= 2
    assert build.plan_index(uris, str(tmp_path), IndexRequest(parts=2)).parts == 2
    assert build.plan_index(uris, str(tmp_path), IndexRequest(parts=9)).parts == 4


def test_vectors_are_found_by_their_row_in_the_gallery(tmp_path):
    uris = fakes.write_shards(str(tmp_path), VECTORS, PEOPLE, shards=4)
    entry = build.build_index(uris, str(tmp_path), IndexRequest("exact", parts=4))
    opened = Parts.open(str(tmp_path), entry)
    rows = opened.nearest_exact(VECTORS, 1)[0][:, 0]
    assert sorted(rows.tolist()) == list(range(60))
    assert opened.vectors_of(rows).tolist() == VECTORS.tolist()
