"""Who is on each face: read for the hits alone, numbered as if the gallery had one part."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celebface.indexing import labels
from celebface.indexing.labels import Labels

SIZES = {"a": 3, "b": 700, "c": 2, "z": 1100, "ä": 1, "\uffff": 1, "𝄞": 2}  # by bytes; UTF-16 sorts otherwise


def rows_of(people: dict[str, int]) -> pa.Table:
    """Labels of people with so many faces each."""
    rows = [
        {
            "face_id": f"{person} {number:04d}",
            "identity": f"name of {person}",
            "identity_id": person,
            "image_id": f"image {person} {number}",
            "uri": f"/{person}/{number}.jpg",
        }
        for person, faces in sorted(people.items())
        for number in range(faces)
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in labels.COLUMNS]))


ALL = rows_of(SIZES)


def opened(folder, *parts: dict[str, int]) -> Labels:
    paths = []
    for number, people in enumerate(parts):
        paths.append(str(folder / f"{number}.parquet"))
        labels.write(rows_of(people), paths[-1])
    return Labels(paths)


@pytest.fixture(params=[1, 3])
def who(request, tmp_path) -> Labels:
    """The same people in one part or in three, one of which is empty."""
    if request.param == 1:
        return opened(tmp_path, SIZES)
    odd = {person: SIZES[person] for person in ("z", "a", "𝄞")}
    return opened(tmp_path, odd, {}, {person: faces for person, faces in SIZES.items() if person not in odd})


def test_people_are_numbered_by_their_ids(who):
    assert (len(who), who.people) == (1809, 7)
    assert who.starts.tolist() == [0, 3, 703, 705, 1805, 1806, 1807, 1809]
    assert who.people_of(np.array([0, 2, 3, 702, 703, 1808, -1])).tolist() == [0, 0, 1, 1, 2, 6, -1]


def test_labels_are_read_by_row_in_the_order_asked_for(who):
    rows = np.random.default_rng(0).integers(1809, size=300)
    expected = [(ALL["face_id"][row].as_py(), ALL["uri"][row].as_py()) for row in rows.tolist()]
    assert who.read(rows, ["face_id", "uri"]) == expected
    assert who.read(np.array([], np.int64), ["uri"]) == []


def test_names_are_those_of_the_people(who):
    assert who.names() == [f"name of {person}" for person in sorted(SIZES)]


def test_rows_of_parts_become_rows_of_the_gallery_and_back(tmp_path):
    who = opened(tmp_path, {"b": 2, "d": 3}, {"a": 1, "c": 2})  # a b b c c d d d
    assert who.rows_of_part(0, np.array([[0, 1, 2], [3, 4, -1]])).tolist() == [[1, 2, 5], [6, 7, -1]]
    assert who.rows_of_part(1, np.array([0, 1, 2, -1])).tolist() == [0, 3, 4, -1]
    parts, places = who.places(np.arange(8))
    assert parts.tolist() == [1, 0, 0, 1, 1, 0, 0, 0]
    assert places.tolist() == [0, 0, 1, 1, 2, 2, 3, 4]


def test_a_person_may_go_on_over_groups_and_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(labels, "_BATCH", 7)
    assert opened(tmp_path, SIZES).starts.tolist() == [0, 3, 703, 705, 1805, 1806, 1807, 1809]


def test_each_group_is_read_once_and_few_are_kept(tmp_path, monkeypatch):
    read = []

    class Noted(pq.ParquetFile):
        def read_row_group(self, group, **options):
            read.append(group)
            return super().read_row_group(group, **options)

    monkeypatch.setattr(labels.pq, "ParquetFile", Noted)
    monkeypatch.setattr(labels, "_GROUPS_KEPT", 2)
    who = opened(tmp_path, SIZES)
    assert read == []
    rows = np.array([1808, 0, 600, 1, 1700, 511, 512, 1100])
    assert len(who.read(rows, ["uri"])) == 8
    assert read == [0, 1, 2, 3]
    who.read(np.array([1808, 1100]), ["uri"])  # these are there yet
    assert read == [0, 1, 2, 3]
    who.read(np.array([0]), ["uri"])
    assert read == [0, 1, 2, 3, 0]
    assert len(who._groups) == 2
