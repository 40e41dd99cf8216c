"""The pairs file, and the photos that it names."""

import pytest

from celebface.pipelines import labelled_pairs


def test_pairs_without_a_header_are_dealt_out_by_kind():
    text = "A\t1\t2\nB\t1\t3\nA\t1\tB\t2\nC\t1\tB\t1\n"
    pairs = labelled_pairs.read_pairs(text, folds=2)
    assert [(pair.first, pair.second, pair.same, pair.fold) for pair in pairs] == [
        (("A", 1), ("A", 2), True, 0),
        (("B", 1), ("B", 3), True, 1),
        (("A", 1), ("B", 2), False, 0),
        (("C", 1), ("B", 1), False, 1),
    ]


def test_pairs_with_a_header_keep_its_folds():
    text = "2\t1\nA\t1\t2\nA\t1\tB\t2\nB\t1\t2\nC\t1\tB\t1\n"
    assert [pair.fold for pair in labelled_pairs.read_pairs(text, folds=10)] == [0, 0, 1, 1]


def test_a_header_of_one_number_makes_one_fold():
    text = "2\nA\t1\t2\nB\t1\t2\nA\t1\tB\t2\nC\t1\tB\t1\n"
    assert [pair.fold for pair in labelled_pairs.read_pairs(text, folds=10)] == [0, 0, 0, 0]


@pytest.mark.parametrize("text", ["A\t1\n", "A\tx\t2\n", "A\t1\t2\n", "", "A 1 2\n"])
def test_what_is_no_list_of_pairs_is_refused(text):
    with pytest.raises(ValueError, match="pair"):
        labelled_pairs.read_pairs(text, folds=10)


def test_photos_are_found_by_person_and_number(tmp_path):
    (tmp_path / "Ann_Lee").mkdir()
    for name in ("Ann_Lee_0001.jpg", "Ann_Lee_12.PNG", "notes.txt", "x.jpg"):
        (tmp_path / "Ann_Lee" / name).write_bytes(b"")
    assert {key: path.name for key, path in labelled_pairs.find_photos(tmp_path).items()} == {
        ("Ann_Lee", 1): "Ann_Lee_0001.jpg",
        ("Ann_Lee", 12): "Ann_Lee_12.PNG",
    }


def test_people_are_found_whatever_their_photos_are_called(tmp_path):
    for name in ("Ann Lee/holiday.jpg", "Ann Lee/2019/x.PNG", "Ann Lee/notes.txt", "Bob.webp", "Cid_0001/Bob_2.jpg"):
        (tmp_path / "people" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "people" / name).write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.jpg").write_bytes(b"")
    (tmp_path / "people" / "Dan").symlink_to(tmp_path / "elsewhere")
    found = labelled_pairs.find_people(tmp_path / "people")
    assert [(name, str(path.relative_to(tmp_path / "people"))) for name, path in found] == [
        ("Ann Lee", "Ann Lee/2019/x.PNG"),
        ("Ann Lee", "Ann Lee/holiday.jpg"),
        ("Bob", "Bob.webp"),
        ("Cid_0001", "Cid_0001/Bob_2.jpg"),
        ("Dan", "Dan/1.jpg"),
    ]
