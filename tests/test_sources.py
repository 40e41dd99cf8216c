"""Listing photos: every file once, in one order, whatever it is called and wherever links lead."""

import os
import pathlib

import fakes
import pytest
from apache_beam import Create, Map
from apache_beam.testing.util import assert_that, equal_to

from celebface.indexing.schemas import Reason
from celebface.transforms import sources
from celebface.transforms.records import Outcome, PhotoRef
from celebface.transforms.sources import ListPhotos, NoSuchSource, PhotoSource

PHOTO, UNSUPPORTED, NOBODY = Reason.NONE, Reason.UNSUPPORTED_TYPE, Reason.NO_IDENTITY
LATIN_1 = "caf\udce9"  # the bytes b"caf\xe9", no UTF-8


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def make(root: pathlib.Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def make_or_skip(root: pathlib.Path, *names: str) -> None:
    try:
        make(root, *names)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")


def listed(root: pathlib.Path, *places: str, labelled: bool = False) -> list[tuple[str, str, Reason]]:
    """What is listed, by names relative to the root; the root itself if no place is named."""
    source = PhotoSource(tuple(str(root / place) for place in places or ("",)), labelled)
    return [(os.path.relpath(ref.uri, root), ref.identity, ref.listed) for ref in sources.list_photos(source)]


def names(root: pathlib.Path, *places: str) -> list[str]:
    return [name for name, _, _ in listed(root, *places)]


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_labelled_folder_names_people_by_its_folders(root):
    make(root, "ann/1.jpg", "ann/2020/summer/2.jpg", "bob/1.jpg", "eve.smith.jpg")
    assert listed(root, labelled=True) == [
        ("ann/1.jpg", "ann", PHOTO),
        ("ann/2020/summer/2.jpg", "ann", PHOTO),
        ("bob/1.jpg", "bob", PHOTO),
        ("eve.smith.jpg", "", NOBODY),
    ]


def test_an_unlabelled_folder_names_nobody(root):
    make(root, "ann/1.jpg", "eve.jpg")
    assert listed(root) == [("ann/1.jpg", "", PHOTO), ("eve.jpg", "", PHOTO)]


def test_a_person_has_one_name_however_it_is_written(root):
    make(root, "Zoe\u0308/1.jpg", "Zo\u00eb/2.jpg", "Andre\u0301/3.jpg")
    assert listed(root, labelled=True) == [
        ("Andre\u0301/3.jpg", "Andr\u00e9", PHOTO),
        ("Zoe\u0308/1.jpg", "Zo\u00eb", PHOTO),
        ("Zo\u00eb/2.jpg", "Zo\u00eb", PHOTO),
    ]


def test_hidden_files_and_folders_are_passed_over(root):
    make(root, ".hidden.jpg", ".cache/1.jpg", "ann/.hidden.jpg", "ann/.git/1.jpg", "ann/1.jpg")
    assert names(root) == ["ann/1.jpg"]


def test_a_hidden_place_may_be_named(root):
    make(root, ".cache/1.jpg", ".hidden.jpg")
    assert names(root, ".cache", ".hidden.jpg") == [".cache/1.jpg", ".hidden.jpg"]


def test_files_of_other_types_are_listed_with_a_reason(root):
    make(root, "1.JPG", "2.webp", "3.txt", "4", "5.tar.gz", "6.HEIC", "7.", "8.mp4")
    assert listed(root) == [
        ("1.JPG", "", PHOTO),
        ("2.webp", "", PHOTO),
        ("3.txt", "", UNSUPPORTED),
        ("4", "", PHOTO),  # names do not tell: its bytes will
        ("5.tar.gz", "", UNSUPPORTED),
        ("6.HEIC", "", PHOTO),
        ("7.", "", UNSUPPORTED),
        ("8.mp4", "", UNSUPPORTED),
    ]


def test_the_order_is_that_of_the_names_bytes(root):
    ordered = ["B.jpg", "a/10.jpg", "a/2.jpg", "a.jpg", f"{LATIN_1}.jpg", "\uff21.jpg", "\U0001f600.jpg", "\udcff.jpg"]
    make_or_skip(root, *reversed(ordered))
    assert names(root) == ordered


def test_a_name_that_is_no_utf_8_survives(root):
    make_or_skip(root, f"{LATIN_1}/{LATIN_1}.jpg")
    (ref,) = sources.list_photos(PhotoSource((str(root),), labelled=True))
    assert os.fsencode(ref.uri) == os.fsencode(root) + b"/caf\xe9/caf\xe9.jpg"
    assert os.stat(ref.uri).st_size == 0  # the file can be found by it
    assert ref.identity == "caf\\xe9"


def test_a_reference_tells_the_state_of_its_file(root):
    make(root, "1.jpg")
    (root / "1.jpg").write_bytes(b"12345")
    os.utime(root / "1.jpg", ns=(0, 1_700_000_000_123_456_789))
    place = str(root / "1.jpg")
    assert list(sources.list_photos(PhotoSource((place,)))) == [PhotoRef.of(place, "", "5-1700000000123456789")]


# --- links and what else is no file -----------------------------------------------------------------------------------


def test_links_to_files_and_folders_are_followed(root, tmp_path):
    make(tmp_path, "elsewhere/1.jpg")
    make(root, "ann/1.jpg")
    (root / "bob").symlink_to(tmp_path / "elsewhere")
    (root / "eve.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    assert listed(root, labelled=True) == [
        ("ann/1.jpg", "ann", PHOTO),
        ("bob/1.jpg", "bob", PHOTO),
        ("eve.jpg", "", NOBODY),
    ]


@pytest.mark.timeout(10)
def test_links_in_a_circle_end(root):
    make(root, "a/1.jpg", "b/2.jpg")
    (root / "a" / "to b").symlink_to(root / "b")
    (root / "b" / "to a").symlink_to(root / "a")
    (root / "a" / "up").symlink_to("..")
    (root / "b" / "here").symlink_to(".")
    assert names(root) == ["a/1.jpg", "b/2.jpg"]


def test_a_link_to_another_person_does_not_rename_them(root):
    make(root, "ann/1.jpg", "bob/2.jpg")
    (root / "ann" / "to bob").symlink_to("../bob")
    assert listed(root, labelled=True) == [("ann/1.jpg", "ann", PHOTO), ("bob/2.jpg", "bob", PHOTO)]


@pytest.mark.timeout(10)
def test_folders_full_of_links_to_each_other_do_not_multiply(root):
    folders = [root / str(number) for number in range(9)]
    for folder in folders:
        make(root, f"{folder.name}/{folder.name}.jpg")
        for other in folders:
            (folder / f"to {other.name}").symlink_to(other)
    assert len(names(root)) == 9


def test_a_deep_tree(root):
    deep, folder = "/".join(["d"] * 1200), root
    for name in deep.split("/"):
        folder = folder / name
        folder.mkdir()
    (folder / "1.jpg").write_bytes(b"")
    try:
        assert names(root) == [f"{deep}/1.jpg"]
    finally:  # a tree so deep is too deep for those who clean up after the tests
        (folder / "1.jpg").unlink()
        while folder != root:
            folder.rmdir()
            folder = folder.parent


@pytest.mark.parametrize("target", ["nowhere.jpg", "link.jpg", "file.jpg/below"])
def test_a_link_that_leads_nowhere_is_listed(root, target):
    make(root, "file.jpg")
    (root / "link.jpg").symlink_to(target)
    assert names(root) == ["file.jpg", "link.jpg"]
    ref = list(sources.list_photos(PhotoSource((str(root),))))[1]
    assert ref.revision == ""
    assert names(root, "link.jpg") == ["link.jpg"]  # and may be named by itself


def test_a_pipe_in_a_folder_is_an_item_that_fetching_will_lose(root):
    make(root, "1.jpg")
    os.mkfifo(root / "2.jpg")
    assert names(root) == ["1.jpg", "2.jpg"]


def test_a_folder_that_may_not_be_looked_into_is_listed(root, monkeypatch):
    def scandir(folder):
        if folder.endswith("locked"):
            raise PermissionError(13, "Permission denied", folder)
        return look(folder)

    look = os.scandir
    make(root, "ann/1.jpg", "locked/2.jpg", "zoe/3.jpg")
    monkeypatch.setattr(os, "scandir", scandir)
    assert names(root) == ["ann/1.jpg", "locked", "zoe/3.jpg"]


# --- places -----------------------------------------------------------------------------------------------------------


def test_a_file_named_by_itself_is_a_photo_whatever_it_is_called(root):
    make(root, "ann.jpg", "notes.txt")
    assert listed(root, "notes.txt", "ann.jpg", labelled=True) == [
        ("notes.txt", "photos", PHOTO),
        ("ann.jpg", "photos", PHOTO),
    ]


def test_a_file_named_by_itself_is_a_photo_wherever_else_it_is_met(root):
    make(root, "ann/weird.xyz")
    assert listed(root, "ann", "ann/weird.xyz") == [("ann/weird.xyz", "", PHOTO)]


def test_a_pattern(root):
    make(root, "ann/1.jpg", "ann/2.png", "bob/1.jpg", "bob/deep/3.jpg", "4.jpg")
    assert names(root, "*/*.jpg") == ["ann/1.jpg", "bob/1.jpg"]
    assert names(root, "**/*.jpg") == ["4.jpg", "ann/1.jpg", "bob/1.jpg", "bob/deep/3.jpg"]
    assert names(root, "[ab]*") == ["ann/1.jpg", "ann/2.png", "bob/1.jpg", "bob/deep/3.jpg"]  # folders are opened
    assert names(root, "ann/?.png") == ["ann/2.png"]


def test_a_file_named_like_a_pattern_is_itself(root):
    make(root, "[1].jpg", "1.jpg")
    assert names(root, "[1].jpg") == ["[1].jpg"]


def test_a_file_named_twice_is_listed_once(root):
    make(root, "ann/1.jpg", "ann/2.jpg", "bob/3.jpg")
    assert names(root, "ann/2.jpg", "ann", "", "*/*.jpg", "ann/../ann/2.jpg") == ["ann/2.jpg", "ann/1.jpg", "bob/3.jpg"]


def test_a_file_named_twice_is_of_one_person(root):
    make(root, "ann/1.jpg", "ann/2.jpg")
    assert listed(root, "", "ann", "**", labelled=True) == [("ann/1.jpg", "ann", PHOTO), ("ann/2.jpg", "ann", PHOTO)]


def test_a_pattern_names_people_by_the_folder_of_its_photos(root):
    make(root, "ann/1.jpg", "bob/deep/2.jpg")
    expected = [("ann/1.jpg", "ann", PHOTO), ("bob/deep/2.jpg", "bob", PHOTO)]
    assert listed(root, "*", labelled=True) == expected
    assert listed(root, "*/*.jpg", labelled=True) == expected[:1]
    assert listed(root, "ann", labelled=True) == [("ann/1.jpg", "", NOBODY)]  # a place is no person
    assert listed(root, "ann/1.jpg", labelled=True) == expected[:1]


def test_a_pattern_in_a_folder_with_brackets_in_its_name(root, monkeypatch):
    make(root, "party [2024]/1.jpg")
    monkeypatch.chdir(root / "party [2024]")
    source = PhotoSource((sources.absolute_place("*.jpg"),))
    assert [ref.uri for ref in sources.list_photos(source)] == [str(root / "party [2024]" / "1.jpg")]


def test_excluded_folders_are_passed_over(root):
    make(root, "1.jpg", "matches/2.jpg")
    source = PhotoSource((str(root),), excluded=(str(root / "matches"),))
    assert [os.path.relpath(ref.uri, root) for ref in sources.list_photos(source)] == ["1.jpg"]


def test_places_are_listed_in_their_order(root):
    make(root, "a/1.jpg", "b/2.jpg")
    assert names(root, "b", "a") == ["b/2.jpg", "a/1.jpg"]


def test_a_relative_place(root, monkeypatch):
    make(root, "ann/1.jpg")
    monkeypatch.chdir(root)
    assert [ref.uri for ref in sources.list_photos(PhotoSource(("ann/",)))] == [str(root / "ann" / "1.jpg")]


def test_a_missing_place_is_told(root):
    with pytest.raises(NoSuchSource, match=f"there is no {root}/missing"):
        names(root, "missing")


def test_a_pattern_that_matches_nothing_is_told(root):
    with pytest.raises(NoSuchSource, match=r"nothing matches .*/\*\.jpg"):
        names(root, "*.jpg")


# --- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (2, 2), (3, 3), (4, 3), (1000, 3)])
def test_peek_counts_up_to_its_limit(root, limit, count):
    make(root, "1.jpg", "2.jpg", "3.txt")
    assert sources.peek(PhotoSource((str(root),)), limit) == count


def test_peek_looks_no_further_than_its_limit(root, monkeypatch):
    make(root, *(f"{number}.jpg" for number in range(9)))
    made = []
    monkeypatch.setattr(PhotoRef, "of", lambda path, *fields: made.append(path) or PhotoRef("id", path))
    assert sources.peek(PhotoSource((str(root),)), 4) == 4
    assert len(made) == 4


def test_peek_tells_of_a_source_without_a_file(root):
    make(root, ".hidden.jpg")
    (root / "empty").mkdir()
    with pytest.raises(NoSuchSource, match=f"there is no photo in {root}"):
        sources.peek(PhotoSource((str(root),)), 10)
    make(root, "1.jpg", "2.jpg")
    with pytest.raises(NoSuchSource, match=f"there is no {root}/missing"):
        sources.peek(PhotoSource((str(root), str(root / "missing"))), 1)  # however much there is before it


# --- in a pipeline ----------------------------------------------------------------------------------------------------


def reference(keyed: tuple[str, PhotoRef]) -> tuple[bytes, str, str]:
    key, ref = keyed
    assert key == ref.item_id
    return os.fsencode(ref.uri), ref.identity, ref.revision


def loss(outcome: Outcome) -> tuple[bytes, str, str, str, str, str]:
    ref = outcome.ref
    return os.fsencode(ref.uri), ref.identity, str(outcome.status), outcome.stage, str(outcome.reason), outcome.detail


def test_every_file_is_a_reference_or_lost_with_a_reason(root):
    make_or_skip(root, "ann/1.jpg", f"{LATIN_1}/2.jpg", "bob/notes.txt", f"bob/3.{LATIN_1}")
    for name in ("ann/1.jpg", f"{LATIN_1}/2.jpg"):
        os.utime(root / name, ns=(0, 5))
    (root / "ann" / "eve.jpg").symlink_to("nowhere.jpg")
    make(root, "stray.jpg")
    source = PhotoSource((str(root),), labelled=True)
    place = os.fsencode(root)

    with fakes.pipeline() as pipeline:
        refs, lost = pipeline | Create([source]) | ListPhotos()
        good = [
            (place + b"/ann/1.jpg", "ann", "0-5"),
            (place + b"/caf\xe9/2.jpg", "caf\\xe9", "0-5"),
            (place + b"/ann/eve.jpg", "ann", ""),
        ]
        losses = [
            (place + name, "bob", "skipped", "list", "unsupported_type", f"a {suffix} file is not taken for a photo")
            for name, suffix in ((b"/bob/notes.txt", ".txt"), (b"/bob/3.caf\xe9", ".caf\\xe9"))
        ] + [(place + b"/stray.jpg", "", "rejected", "list", "no_identity", "it lies in no person's folder")]
        assert_that(refs | "Reference" >> Map(reference), equal_to(good), "Good")
        assert_that(lost | "Loss" >> Map(loss), equal_to(losses), "Lost")

    assert fakes.counters(pipeline.result, "list") == {
        "items_in": 6,
        "items_out": 3,
        "lost_unsupported_type": 2,
        "lost_no_identity": 1,
    }
