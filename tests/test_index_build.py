"""From face shards to index files, and how well the index answers."""

import pathlib

import fakes
import numpy as np
import pyarrow.parquet as pq
import pytest
from annoy import AnnoyIndex

from celebface.indexing import annoy_index, build
from celebface.transforms.records import Person

PEOPLE = [f"person {number % 7}" for number in range(60)]
VECTORS = fakes.unit_vectors(60, 16)


class StuckIndex:
    """Proposes the same row whatever it is asked."""

    def get_nns_by_vector(self, vector, count, search_k):
        return [0]


def slow_recall(index: AnnoyIndex, vectors: np.ndarray, search_k: int) -> float:
    """Share of every face's ten true neighbours that the index finds, the face itself left out."""
    found = asked = 0
    for row, vector in enumerate(vectors.astype(np.float64)):
        distances = np.sum((vectors - vector) ** 2, axis=1)
        truth = [other for other in np.argsort(distances, kind="stable") if other != row][:10]
        answer = [other for other in index.get_nns_by_vector(vector.tolist(), 11, search_k=search_k) if other != row]
        found += len(set(truth) & set(answer))
        asked += len(truth)
    return found / asked


def index_of(vectors: np.ndarray, tmp_path: pathlib.Path) -> AnnoyIndex:
    (tmp_path / "faces.ann").write_bytes(annoy_index.build(vectors))
    return annoy_index.load(str(tmp_path / "faces.ann"), vectors)


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "index").iterdir()}


# --- effort and recall ------------------------------------------------------------------------------------------------


def test_effort_is_doubled_until_the_recall_is_met_on_hard_data(tmp_path):
    vectors = fakes.unit_vectors(900, 128)  # all of them are queries
    index = index_of(vectors, tmp_path)
    search_k, recall = build.tune(index, vectors)
    assert search_k in [500 * 2**doublings for doublings in range(1, 8)]
    assert 0.99 <= recall == pytest.approx(slow_recall(index, vectors, search_k), abs=1e-12)
    assert slow_recall(index, vectors, search_k // 2) < 0.99  # with less the recall is missed
    assert build.tune(index, vectors) == (search_k, recall)


def test_a_sample_of_a_large_gallery_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_RECALL_QUERIES", 300)
    vectors = fakes.unit_vectors(3000, 128)
    index = index_of(vectors, tmp_path)
    search_k, recall = build.tune(index, vectors)
    assert search_k > 500
    assert 0.99 <= recall == pytest.approx(slow_recall(index, vectors, search_k), abs=0.01)


def test_easy_data_costs_the_least_effort(tmp_path):
    vectors, _ = fakes.crowds([11] * 30, 16, 0.1)
    index = index_of(vectors, tmp_path)
    assert build.tune(index, vectors) == (500, pytest.approx(slow_recall(index, vectors, 500), abs=1e-12))


def test_an_index_that_never_answers_well_ends_the_search_with_its_true_recall():
    search_k, recall = build.tune(StuckIndex(), fakes.unit_vectors(100, 16))
    assert search_k == 8000  # the first that reaches every node of 50 trees over 100 faces
    assert 0 < recall < 0.2


@pytest.mark.parametrize("count", [1, 2, 5, 11])
def test_small_galleries_are_answered_in_full(tmp_path, count):
    vectors = fakes.unit_vectors(count, 8)
    assert build.tune(index_of(vectors, tmp_path), vectors)[1] == 1.0


def test_copies_of_a_face_do_not_count_against_the_index(tmp_path):
    vectors = np.repeat(fakes.unit_vectors(1, 8), 30, axis=0)
    assert build.tune(index_of(vectors, tmp_path), vectors) == (500, 1.0)


# --- the files --------------------------------------------------------------------------------------------------------


def test_the_three_files_are_aligned_by_face_id(tmp_path):
    folder = tmp_path / "version"
    entry = build.build_index(fakes.write_shards(str(folder), VECTORS, PEOPLE, shards=3), str(folder))
    assert sorted(files_of(folder)) == ["faces.ann", "labels.parquet", "vectors.npy"]

    faces = [fakes.face_id_of(person, number) for number, person in enumerate(PEOPLE)]
    expected = sorted(zip(faces, PEOPLE, VECTORS.tolist(), range(60), strict=True))
    labels = pq.read_table(folder / "index" / "labels.parquet")
    assert labels.column_names == ["face_id", "identity", "identity_id", "image_id", "uri"]
    assert labels["face_id"].to_pylist() == [face for face, *_ in expected]
    assert labels["identity"].to_pylist() == [person for _, person, *_ in expected]
    assert labels["identity_id"].to_pylist() == [Person.of(person).identity_id for _, person, *_ in expected]
    assert labels["uri"].to_pylist() == [f"/photos/{person}/{number}.jpg" for _, person, _, number in expected]

    vectors = np.load(folder / "index" / "vectors.npy", allow_pickle=False)
    assert (vectors.dtype, vectors.shape) == (np.float32, (60, 16))
    assert vectors.tolist() == [vector for *_, vector, _ in expected]

    index = annoy_index.load(str(folder / "index" / "faces.ann"), vectors)
    assert [index.get_item_vector(row) for row in range(60)] == vectors.tolist()
    assert entry == {
        "kind": "annoy",
        "metric": "squared L2 of unit vectors",
        "trees": 50,
        "seed": annoy_index.SEED,
        "search_k": 500,
        "recall_at_10": slow_recall(index, vectors, 500),
        "recall_queries": 60,
        "identities": 7,
    }


def test_people_are_counted_by_their_ids(tmp_path):
    people = [Person.of("ann"), Person.of("ann", "wikidata:Q1"), Person.of("ann", "wikidata:Q2")]
    people += [Person.of("Annie", "wikidata:Q2"), Person.of("bob")]
    uris = fakes.write_shards(str(tmp_path / "version"), fakes.unit_vectors(5, 8), people)
    assert build.build_index(uris, str(tmp_path / "version"))["identities"] == 4


def test_the_files_do_not_depend_on_how_the_faces_are_spread(tmp_path):
    contents = []
    for shards, order in ((1, 1), (5, 1), (5, -1)):
        folder = tmp_path / f"{shards} {order}" / "version"
        build.build_index(fakes.write_shards(str(folder), VECTORS, PEOPLE, shards)[::order], str(folder))
        contents.append(files_of(folder))
    assert contents[0] == contents[1] == contents[2]


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


@pytest.mark.parametrize(("shards", "refusal"), [(0, "at least one table"), (2, "there is no face to index")])
def test_no_face_is_refused(tmp_path, shards, refusal):
    folder = tmp_path / "version"
    uris = fakes.write_shards(str(folder), np.empty((0, 16), np.float32), [], shards) if shards else []
    with pytest.raises(ValueError, match=refusal):
        build.build_index(uris, str(folder))
    assert not (folder / "index").exists()
