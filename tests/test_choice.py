"""The kind of index that a gallery gets: the cheapest that meets what was asked for, the simplest of equals."""

import pathlib
import sys

import fakes
import pytest

from celebface.indexing import annoy_index, build, choice, hnsw_index, recall
from celebface.indexing.kinds import IndexRequest
from celebface.indexing.parts import Parts
from celebface.indexing.recall import RecallTooLow
from celebface.indexing.searcher import Searcher

VECTORS, PEOPLE = fakes.crowds([5] * 60, 16, 0.5)
AUTO = IndexRequest("auto")


@pytest.fixture
def rates(monkeypatch) -> dict[str, float]:
    """Queries a second that each kind is taken to answer; each is asked, however small the gallery."""
    for module in (annoy_index, hnsw_index):
        monkeypatch.setattr(module, "FACES_PER_EFFORT", 0)
    rates = {"exact": 1000.0, "annoy": 1000.0, "hnsw": 1000.0}
    real = recall.report

    def report(opened, kind, *rest):
        row = real(opened, kind, *rest)
        return {**row, "queries_per_second": {"128": rates[kind], "1000": 1.0}, "p99_ms": 1e4 / rates[kind]}

    monkeypatch.setattr(recall, "report", report)
    return rates


def built(folder: pathlib.Path, request: IndexRequest = AUTO) -> dict:
    return build.build_index(fakes.write_shards(str(folder), VECTORS, PEOPLE, shards=3), str(folder), request)


@pytest.mark.parametrize(
    ("exact", "annoy", "hnsw", "chosen"),
    [
        (1000, 1000, 1000, "exact"),
        (1000, 1100, 1111, "exact"),  # within a tenth
        (1000, 1150, 1120, "annoy"),
        (1000, 2000, 2200, "annoy"),
        (1000, 2000, 2300, "hnsw"),
        (1000, 900, 3000, "hnsw"),
        (3000, 900, 1000, "exact"),
    ],
)
def test_the_fastest_is_taken_and_of_those_near_it_the_simplest(tmp_path, rates, exact, annoy, hnsw, chosen):
    rates.update(exact=exact, annoy=annoy, hnsw=hnsw)
    entry = built(tmp_path)
    assert entry["kind"] == chosen
    assert [row["kind"] for row in entry["measured"]] == ["exact", "annoy", "hnsw"]
    assert entry["p99_ms"] == pytest.approx(1e4 / rates[chosen])
    files = {"exact": [], "annoy": ["faces.ann"], "hnsw": ["faces.components.npy", "faces.hnsw"]}[chosen]
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [*files, "labels.parquet", "vectors.npy"]
    answers = Searcher.open(str(tmp_path), entry).nearest_people(VECTORS[::10], 1)
    assert [answer[0].identity for answer in answers] == PEOPLE[::10]


def test_every_kind_tried_is_in_the_table_with_what_was_measured(tmp_path, rates):
    for row in built(tmp_path)["measured"]:
        assert row["recall_at_1"] >= 0.99 and row["recall_at_10"] >= 0.99
        assert row["searched"] == ("in full" if row["kind"] == "exact" else "by index")
        assert row["bytes"] > VECTORS.nbytes
        assert {"effort", "p50_ms", "p99_ms", "queries_per_second", "build_seconds"} < row.keys()


def test_a_kind_that_misses_the_latency_is_passed_over(tmp_path, rates, monkeypatch):
    rates.update(exact=1000, annoy=3000, hnsw=2000)
    real = recall.meets
    monkeypatch.setattr(recall, "meets", lambda row, request: row["kind"] != "annoy" and real(row, request))
    assert built(tmp_path)["kind"] == "hnsw"


def test_where_none_meets_what_is_asked_for_nothing_is_left(tmp_path, rates):
    with pytest.raises(RecallTooLow, match=r"exact has .*; annoy has .*; hnsw has recall@1 .*, p99 10 ms$"):
        built(tmp_path, IndexRequest("auto", max_latency_ms=1.0))
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["labels.parquet", "vectors.npy"]


def test_what_cannot_win_is_not_built(tmp_path):
    entry = built(tmp_path)
    assert entry["kind"] == "exact"
    assert [row.get("left_out") for row in entry["measured"]] == [None, *["to look at all 300 faces is sooner"] * 2]


def test_what_takes_longer_than_to_look_at_all_faces_is_left_out(tmp_path, rates, monkeypatch):
    rates.update(exact=1, annoy=5, hnsw=2)
    monkeypatch.setattr(annoy_index, "FIRST_EFFORT", 1)
    monkeypatch.setattr(annoy_index, "FACES_PER_EFFORT", 250)
    entry = built(tmp_path)
    assert entry["kind"] == "hnsw"
    annoy = entry["measured"][1]
    assert annoy.pop("build_seconds") > 0
    assert annoy == {"kind": "annoy", "left_out": "to look at all 300 faces is sooner than recall 0.99 by it"}


def test_what_is_not_installed_or_takes_too_long_is_not_built(tmp_path, rates, monkeypatch):
    monkeypatch.setattr(choice, "_TOO_MANY_FOR_ANNOY", 299)
    _, annoy, hnsw = built(tmp_path)["measured"]
    assert annoy["left_out"] == "of more than 299 faces hnsw answers many times sooner"
    assert "left_out" not in hnsw
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    _, annoy, hnsw = built(tmp_path)["measured"]
    assert "left_out" not in annoy  # without hnsw it is the only one that may win
    assert "needs usearch" in hnsw["left_out"]


def test_a_gallery_in_parts_goes_by_its_first(tmp_path, rates):
    rates.update(exact=1, annoy=5, hnsw=2)
    entry = built(tmp_path, IndexRequest("auto", parts=3))
    assert (entry["kind"], entry["parts"], entry["faces"]) == ("annoy", 3, 300)
    assert len(Parts.open(str(tmp_path), entry)) == 300
    assert {path.suffix for path in (tmp_path / "index").iterdir()} == {".ann", ".parquet", ".npy"}
