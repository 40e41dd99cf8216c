"""Folders and patterns: every file once, in one order, whatever it is called and wherever links lead."""

import os
import pathlib

import object_stores
import pytest

from celebface.indexing.schemas import Reason
from celebface.transforms import folders, sources
from celebface.transforms.folders import ListedFile, NoSuchSource
from celebface.transforms.records import ItemRef
from celebface.transforms.sources import ItemSource

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
    source = ItemSource(tuple(str(root / place) for place in places or ("",)), labelled)
    return [(os.path.relpath(ref.uri, root), ref.person.name, ref.listed) for ref in sources.list_items(source)]


def names(root: pathlib.Path, *places: str) -> list[str]:
    return [name for name, _, _ in listed(root, *places)]


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_labelled_folder_names_people_by_its_folders(root):
    make(root, "ann/1.jpg", "ann/2020/summer/2.jpg", "bob/1.jpg", "eve.smith.jpg")
    assert listed(root, labelled=True) == [
        ("ann/1.jpg", "ann", PHOTO),
        ("ann/2020/summer/2.jpg", "ann", PHOTO),
        ("bob/1.jpg", "bob", PHOTO),
        ("eve.smith.jpg", "eve.smith", PHOTO),
    ]


def test_a_photo_directly_in_a_labelled_folder_names_its_person(root):
    make(root, "Zoe\u0308_Kravitz.jpg", "bob", "notes.txt", " .jpg", "eve.jpg/1.jpg", "deep/eve.jpg")
    assert listed(root, labelled=True) == [
        (" .jpg", "", NOBODY),
        ("Zoe\u0308_Kravitz.jpg", "Zo\u00eb_Kravitz", PHOTO),
        ("bob", "bob", PHOTO),
        ("deep/eve.jpg", "deep", PHOTO),
        ("eve.jpg/1.jpg", "eve.jpg", PHOTO),
        ("notes.txt", "", UNSUPPORTED),
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
    (ref,) = sources.list_items(ItemSource((str(root),), labelled=True))
    assert os.fsencode(ref.uri) == os.fsencode(root) + b"/caf\xe9/caf\xe9.jpg"
    assert os.stat(ref.uri).st_size == 0  # the file can be found by it
    assert ref.person.name == "caf\\xe9"


def test_a_reference_tells_the_state_of_its_file(root):
    make(root, "1.jpg")
    (root / "1.jpg").write_bytes(b"12345")
    os.utime(root / "1.jpg", ns=(0, 1_700_000_000_123_456_789))
    place = str(root / "1.jpg")
    assert list(sources.list_items(ItemSource((place,)))) == [ItemRef.of(place, revision="5-1700000000123456789")]


# --- links and what else is no file -----------------------------------------------------------------------------------


def test_links_to_files_and_folders_are_followed(root, tmp_path):
    make(tmp_path, "elsewhere/1.jpg")
    make(root, "ann/1.jpg")
    (root / "bob").symlink_to(tmp_path / "elsewhere")
    (root / "eve.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    assert listed(root, labelled=True) == [
        ("ann/1.jpg", "ann", PHOTO),
        ("bob/1.jpg", "bob", PHOTO),
        ("eve.jpg", "eve", PHOTO),
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
    ref = list(sources.list_items(ItemSource((str(root),))))[1]
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
    make(root, "ann.jpg", "weird.xyz")
    assert listed(root, "weird.xyz", "ann.jpg", labelled=True) == [
        ("weird.xyz", "photos", PHOTO),
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
    assert listed(root, "ann", labelled=True) == [("ann/1.jpg", "1", PHOTO)]  # a place is no person
    assert listed(root, "ann/1.jpg", labelled=True) == expected[:1]


def test_a_pattern_in_a_folder_with_brackets_in_its_name(root, monkeypatch):
    make(root, "party [2024]/1.jpg")
    monkeypatch.chdir(root / "party [2024]")
    source = ItemSource((sources.absolute_place("*.jpg"),))
    assert [ref.uri for ref in sources.list_items(source)] == [str(root / "party [2024]" / "1.jpg")]


def test_excluded_folders_are_passed_over(root):
    make(root, "1.jpg", "matches/2.jpg")
    source = ItemSource((str(root),), excluded=(str(root / "matches"),))
    assert [os.path.relpath(ref.uri, root) for ref in sources.list_items(source)] == ["1.jpg"]


def test_reports_are_passed_over_wherever_they_lie(root):
    make(root, "1.jpg", "matches/report/img/ab/2.jpg", "matches/report/made-by-celebface.txt", "site/3.jpg")
    assert names(root, ".") == ["1.jpg", "site/3.jpg"]


def test_places_are_listed_in_their_order(root):
    make(root, "a/1.jpg", "b/2.jpg")
    assert names(root, "b", "a") == ["b/2.jpg", "a/1.jpg"]


def test_a_relative_place(root, monkeypatch):
    make(root, "ann/1.jpg")
    monkeypatch.chdir(root)
    assert [ref.uri for ref in sources.list_items(ItemSource(("ann/",)))] == [str(root / "ann" / "1.jpg")]


def test_a_missing_place_is_told(root):
    with pytest.raises(NoSuchSource, match=f"there is no {root}/missing"):
        names(root, "missing")


def test_a_pattern_that_matches_nothing_is_told(root):
    with pytest.raises(NoSuchSource, match=r"nothing matches .*/\*\.jpg"):
        names(root, "*.jpg")


# --- object stores ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=object_stores.KINDS)
def store(request):
    with object_stores.server(request.param) as address:
        yield request.param, address


@pytest.fixture
def bucket(store, monkeypatch) -> object_stores.Bucket:
    object_stores.point_to(monkeypatch, *store)
    return object_stores.make_bucket(*store)


def fill(bucket: object_stores.Bucket, *keys: str) -> None:
    for key in keys:
        bucket.put(key, b"12345")


def found(bucket: object_stores.Bucket, *places: str, **options) -> list[tuple[str, str, Reason]]:
    """What is listed, by keys."""
    source = ItemSource(tuple(f"{bucket.uri}{place}" for place in places), **options)
    return [(ref.uri[len(bucket.uri) + 1 :], ref.person.name, ref.listed) for ref in sources.list_items(source)]


def test_a_prefix_is_listed_like_a_folder(bucket):
    fill(bucket, "p/ann/1.jpg", "p/ann/2020/2.JPG", "p/ann/notes.txt", "p/Zoe\u0308.png", "p/.hidden/3.jpg", "q/4.jpg")
    fill(bucket, "p/bob/.5.jpg", "p/b #%3F?/6.jpg")
    expected = [
        ("p/Zoe\u0308.png", "Zo\u00eb", PHOTO),
        ("p/ann/1.jpg", "ann", PHOTO),
        ("p/ann/2020/2.JPG", "ann", PHOTO),
        ("p/ann/notes.txt", "ann", UNSUPPORTED),
        ("p/b #%3F?/6.jpg", "b #%3F?", PHOTO),
    ]
    assert found(bucket, "/p", labelled=True) == found(bucket, "/p/", labelled=True) == expected
    assert found(bucket, "/p") == [(key, "", fault) for key, _, fault in expected]
    assert found(bucket, "", labelled=True)[-1] == ("q/4.jpg", "q", PHOTO)
    assert found(bucket, "/q", labelled=True) == [("q/4.jpg", "4", PHOTO)]


def test_an_object_named_by_itself_is_a_photo(bucket):
    fill(bucket, "p/ann/1.jpg", "top.jpg")
    assert found(bucket, "/p/ann/1.jpg", "/top.jpg", labelled=True) == [
        ("p/ann/1.jpg", "ann", PHOTO),
        ("top.jpg", "", NOBODY),
    ]
    (ref,) = sources.list_items(ItemSource((f"{bucket.uri}/top.jpg",)))
    assert ref.revision.startswith("5-") and len(ref.revision) > 10


def test_overlapping_places_of_a_store_are_listed_once(bucket):
    fill(bucket, "p/ann/1.jpg", "p/bob/2.xyz")
    assert found(bucket, "/p/bob/2.xyz", "", "/p", "/p/*") == [("p/bob/2.xyz", "", PHOTO), ("p/ann/1.jpg", "", PHOTO)]


def test_excluded_prefixes_are_passed_over(bucket):
    fill(bucket, "p/ann/1.jpg", "p/annex/2.jpg")
    assert found(bucket, "/p", excluded=(f"{bucket.uri}/p/ann",)) == [("p/annex/2.jpg", "", PHOTO)]


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("*/*.jpg", ["ann/1.jpg", "bob/1.jpg", "[x]/1.jpg"]),
        ("**/*.jpg", ["4.jpg", "ann/1.jpg", "bob/1.jpg", "bob/deep/3.jpg", "[x]/1.jpg"]),
        ("[ab]*", ["ann/1.jpg", "ann/2.png", "bob/1.jpg", "bob/deep/3.jpg"]),
        ("[!b]*", ["4.jpg", "ann/1.jpg", "ann/2.png", "[x]/1.jpg"]),
        ("[a-c]o?/1.*", ["bob/1.jpg"]),
        ("ann/?.png", ["ann/2.png"]),
        ("[[]x]/*", ["[x]/1.jpg"]),
        ("[x]/1.jpg", ["[x]/1.jpg"]),  # itself
        ("b**/3.jpg", []),
        ("bob/**/3.jpg", ["bob/deep/3.jpg"]),
        ("**", ["4.jpg", "ann/1.jpg", "ann/2.png", "bob/1.jpg", "bob/deep/3.jpg", "[x]/1.jpg"]),
    ],
)
def test_a_pattern_in_a_store_matches_what_it_would_here(bucket, root, pattern, keys):
    everything = ["4.jpg", "ann/1.jpg", "ann/2.png", "bob/1.jpg", "bob/deep/3.jpg", "[x]/1.jpg"]
    fill(bucket, *(f"p/{key}" for key in everything))
    make(root, *everything)
    if not keys:
        with pytest.raises(NoSuchSource, match="nothing matches"):
            found(bucket, f"/p/{pattern}")
        with pytest.raises(NoSuchSource, match="nothing matches"):
            listed(root, pattern)
        return
    there = found(bucket, f"/p/{pattern}", labelled=True)
    assert sorted(key.removeprefix("p/") for key, _, _ in there) == sorted(keys)
    here = {
        (f"p/{key}", name.replace("photos", "p"), fault) for key, name, fault in listed(root, pattern, labelled=True)
    }
    assert set(there) == here


def test_a_prefix_that_is_not_there_is_told(bucket):
    for place in ("/missing", "/missing/*.jpg"):
        with pytest.raises(NoSuchSource, match=r"^(there is no|nothing matches) "):
            found(bucket, place)
    with pytest.raises(NoSuchSource, match=f"there is no {bucket.kind}://no-such-bucket/photos"):
        list(sources.list_items(ItemSource((f"{bucket.kind}://no-such-bucket/photos",))))


def test_files_of_a_folder_are_told_by_themselves(root):
    make(root, "ann/1.jpg", "ann/2.txt")
    os.utime(root / "ann" / "1.jpg", ns=(0, 7))
    os.utime(root / "ann" / "2.txt", ns=(0, 8))
    assert list(folders.list_folder(str(root), str(root), (), {str(root / "ann" / "2.txt")})) == [
        ListedFile(f"{root}/ann/1.jpg", "ann", "0-7"),
        ListedFile(f"{root}/ann/2.txt", "ann", "0-8"),
    ]
