"""The comparison of two outputs: tests of `deploy.same`, by which engines are held against each other."""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy import same


def write(folder: pathlib.Path, uris=("a", "b"), shift=0.0, shards=1) -> str:
    folder.mkdir()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.full(4, 0.5 + shift, np.float32)), 2)
    table = pa.table({"uri": list(uris), "embedding": vectors})
    for shard in range(shards):
        pq.write_table(table, folder / f"faces-{shard:05d}-of-{shards:05d}.parquet")
    return str(folder)


def test_equal_outputs_are_the_same_to_the_byte(tmp_path):
    [found] = same.compare(write(tmp_path / "one"), write(tmp_path / "other"))
    assert (found.name, found.rows, found.fault, found.same_bytes) == ("faces", 2, "", True)


def test_rounding_is_no_difference(tmp_path):
    [found] = same.compare(write(tmp_path / "one"), write(tmp_path / "other", shift=2e-5))
    assert not found.fault
    assert found.same_bytes is False
    assert found.apart == pytest.approx(2e-5, rel=0.01)
    assert same.faults([found], to_the_byte=True) == {"faces": "other bytes"}
    assert same.main([str(tmp_path / "one"), str(tmp_path / "other")]) == 0
    assert same.main([str(tmp_path / "one"), str(tmp_path / "other"), "--bytes"]) == 1


def write_lists(folder: pathlib.Path, lists: list) -> str:
    folder.mkdir()
    pq.write_table(
        pa.table({"scores": pa.array(lists, pa.list_(pa.float32()))}), folder / "faces-00000-of-00001.parquet"
    )
    return str(folder)


@pytest.mark.parametrize(
    ("one", "other"),
    [([[0.5, None]], [[None, 0.5]]), ([[1, 2], [3]], [[1], [2, 3]]), ([[1], None], [[1], []])],
)
def test_numbers_that_lie_elsewhere_are_others(tmp_path, one, other):
    [found] = same.compare(write_lists(tmp_path / "one", one), write_lists(tmp_path / "other", other))
    assert found.fault == "scores has other numbers"


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"uris": ("a", "c")}, "uri differs, first in row 1"),
        ({"uris": ("b", "a")}, "uri differs, first in row 0"),
        ({"shift": 0.01}, "numbers differ by 0.01"),
        ({"shards": 2}, "1 and 2 shards"),
    ],
)
def test_a_difference_is_told_and_exits_1(tmp_path, changed, fault, capsys):
    folders = [write(tmp_path / "one"), write(tmp_path / "other", **changed)]
    [found] = same.compare(*folders)
    assert found.fault == fault
    assert same.main(folders) == 1
    assert "NO: " in capsys.readouterr().out


def test_a_folder_without_results_is_wrong_usage(tmp_path, capsys):
    assert same.main([write(tmp_path / "one"), str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("same: ")
