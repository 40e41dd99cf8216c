"""What places name: photos in folders, rows of lists, URLs; and who is on them."""

import gzip
import os
import pathlib
import pickle

import fakes
import object_stores
import pytest
from apache_beam import Create, Map
from apache_beam.testing.util import assert_that, equal_to

from celebface.indexing import storage
from celebface.indexing.schemas import Kind, Reason
from celebface.transforms import folders, lists, progress, sources
from celebface.transforms.lists import Row
from celebface.transforms.records import NOBODY, ItemRef, Outcome, Person, Provenance
from celebface.transforms.sources import Columns, ItemSource, ListItems, NoSuchSource

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


def write(path: pathlib.Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def items(*places: str, labelled: bool = True, **options) -> list[ItemRef]:
    return list(sources.list_items(ItemSource(places, labelled, **options)))


def one(*places: str, **options) -> ItemRef:
    (ref,) = items(*places, **options)
    return ref


def told(refs: list[ItemRef]) -> list[tuple[str, str, str, str]]:
    """Where each was named, what it is, who is on it, and its fault."""
    return [(ref.origin, ref.uri, ref.person.name, str(ref.listed)) for ref in refs]


# --- what a place is --------------------------------------------------------------------------------------------------


def test_a_source_of_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="format must be one of csv, tsv, jsonl, parquet, txt, folder, photo, not xls"):
        ItemSource((), format="xls")


def test_a_source_travels():
    source = ItemSource(("/a",), True, ("/b",), "csv", Columns(url="x"), True)
    assert pickle.loads(pickle.dumps(source)) == source


def test_places_are_made_absolute_but_for_uris(root, monkeypatch):
    monkeypatch.chdir(root)
    assert sources.absolute_place("ann.jpg") == f"{root}/ann.jpg"
    for uri in ("s3://bucket/a", "gs://bucket/*.jpg", "https://example.org/a.jpg"):
        assert sources.absolute_place(uri) == uri
    assert sources.absolute_place("S3://Bucket/A") == "s3://Bucket/A"
    assert sources.absolute_place(f"FILE://{root}/a%20b.jpg") == f"{root}/a b.jpg"
    assert sources.absolute_place("https://me:secret@[::1/a.jpg") == "https://[::1/a.jpg"
    assert sources.absolute_place("https://me:secret@example.org/a.jpg") == "https://example.org/a.jpg"
    assert sources.absolute_place("https://example.org?who=a@b") == "https://example.org?who=a@b"


def test_files_are_lists_or_photos_by_their_names_or_contents(root):
    write(root / "people.csv", "name,url\nAnn,a.jpg\n")
    write(root / "people", "Ann\tb.jpg\n")
    write(root / "list.jpg", "Ann\tc.jpg\n")
    (root / "packed.list").write_bytes(gzip.compress(b"Ann\td.jpg\n"))
    places = [str(root / name) for name in ("people.csv", "people", "list.jpg", "packed.list")]
    assert told(items(*places)) == [
        ("people.csv:2", f"{root}/a.jpg", "Ann", ""),
        ("people:1", f"{root}/b.jpg", "Ann", ""),
        ("", f"{root}/list.jpg", "photos", ""),
        ("packed.list:1", f"{root}/d.jpg", "Ann", ""),
    ]


def test_a_format_overrules_names_and_contents(root):
    place = write(root / "people.csv", "url\n")
    assert told(items(place, format="photo")) == [("", place, "photos", "")]
    assert told(items(place, format="txt", search=True)) == [("people.csv:1", "name:url", "url", "")]
    with pytest.raises(NoSuchSource, match=r"people\.csv is no folder"):
        items(place, format="folder")
    with pytest.raises(NoSuchSource, match="photos is a folder and not csv"):
        items(str(root), format="csv")
    assert told(items(str(root), format="folder")) == [("", place, "", "unsupported_type")]


def test_a_pattern_may_match_lists(root):
    for number in (1, 2):
        write(root / f"{number}.csv", f"name,url\nAnn,{number}.jpg\n")
    make(root, "3.jpg")
    assert told(items(str(root / "*.csv"))) == [
        ("1.csv:2", f"{root}/1.jpg", "Ann", ""),
        ("2.csv:2", f"{root}/2.jpg", "Ann", ""),
    ]
    assert [ref.uri for ref in items(str(root / "[13].*"))] == [f"{root}/1.csv", f"{root}/3.jpg"]  # photos, maybe


def test_a_list_in_a_folder_is_no_photo(root):
    make(root, "ann.jpg")
    place = write(root / "people.csv", "name,url\nAnn,ann.jpg\n")
    assert told(items(str(root), place)) == [
        ("", f"{root}/ann.jpg", "ann", ""),
        ("", place, "", "unsupported_type"),
        ("people.csv:2", f"{root}/ann.jpg", "Ann", ""),
    ]


def test_only_lists_and_urls_may_name_the_web(root):
    make(root, "ann.jpg")
    place = write(root / "people.csv", "name,url\n")
    for places, may in [
        ((str(root),), False),
        ((str(root / "ann.jpg"), str(root / "*.jpg")), False),
        ((str(root), place), True),
        (("https://example.org/1.jpg",), True),
    ]:
        assert sources.may_name_web(ItemSource(places)) is may


# --- URLs as places ---------------------------------------------------------------------------------------------------


def test_a_url_is_a_photo_of_nobody():
    url = "HTTPS://me:secret@Example.ORG/a b.jpg#top"
    assert one(url, labelled=False) == ItemRef.of("https://example.org/a%20b.jpg")
    ref = one(url)
    assert (ref.uri, ref.person, ref.listed) == ("https://example.org/a%20b.jpg", NOBODY, Reason.NO_IDENTITY)
    assert ref.detail == "a URL does not say who is on it; a list can"


def test_a_url_that_is_none_keeps_no_password():
    ref = one("http://me:secret@:x/1.jpg", labelled=False)
    assert (ref.uri, ref.listed) == ("http://:x/1.jpg", Reason.BAD_URL)
    assert ref.detail


@pytest.mark.parametrize("url", ["https://example.org/people.csv", "https://example.org/people.csv.gz?x=1#y"])
def test_a_list_on_the_web_is_not_read(url):
    with pytest.raises(NoSuchSource, match=r"lists are not read .*; fetch it first: https://example\.org/people"):
        items(url)
    with pytest.raises(NoSuchSource, match="lists are not read from the web"):
        items("https://example.org/x", format="csv")


@pytest.mark.parametrize("place", ["ftp://example.org/1.jpg", "hdfs://a/b"])
def test_other_schemes_are_refused(place):
    with pytest.raises(NoSuchSource, match=r"^(ftp|hdfs):// is not a place this version of celebface can use: "):
        items(place)


# --- rows of lists ----------------------------------------------------------------------------------------------------


def test_a_row_is_an_item_with_all_that_is_known(root):
    place = write(
        root / "people.csv",
        "name,url,page,id,aliases,licence,author\n"
        " Zoe\u0308  K ,https://Example.org/1.jpg#x,http://u:p@example.org/zoe,Q7,Zee;Zo,CC BY 4.0,Eve\n",
    )
    person = Person.of("Zo\u00eb K", "wikidata:Q7", ("Zee", "Zo"))
    assert one(place) == ItemRef.of(
        "https://example.org/1.jpg",
        person,
        origin="people.csv:2",
        provenance=Provenance("http://example.org/zoe", "CC BY 4.0", "Eve"),
    )
    assert person.external_id == "wikidata:Q7"


def test_people_of_one_name_are_apart_by_their_ids(root):
    place = write(
        root / "people.csv",
        "name,url,id\nAnn,1.jpg,Q1\nAnn,1.jpg,Q2\nAnn,1.jpg,\nAnn,1.jpg,Q1\nANN,1.jpg,http://www.wikidata.org/entity/Q1\n",
    )
    refs = items(place)
    assert [ref.origin for ref in refs] == [f"people.csv:{number}" for number in range(2, 7)]  # repeated rows too
    one, other, plain, again, shouted = refs
    assert len({ref.person.identity_id for ref in (one, other, plain)}) == 3
    assert len({ref.item_id for ref in (one, other, plain)}) == 3
    assert one.item_id == again.item_id == shouted.item_id


def test_a_row_with_a_page_is_a_page(root):
    place = write(root / "people.csv", "name,url,page\nAnn,,https://me:pw@example.org/ann#bio\nBob,,example.org\n")
    page, bad = items(place)
    assert page == ItemRef.of("https://example.org/ann", Person.of("Ann"), Kind.PAGE, origin="people.csv:2")
    assert (bad.uri, bad.kind, bad.listed) == ("example.org", Kind.PAGE, Reason.BAD_URL)


def test_a_row_with_a_name_is_searched_for_if_somebody_searches(root):
    place = write(root / "people.csv", "name,url,id\n Zoe\u0308  K,,Q7\n,,Q8\n")
    name, nobody = items(place, search=True)
    assert name == ItemRef.of(
        "name:Zo\u00eb K", Person.of("Zo\u00eb K", "wikidata:Q7"), Kind.NAME, origin="people.csv:2"
    )
    assert (nobody.listed, nobody.detail) == (Reason.BAD_ROW, "neither a URL nor a page")
    name, _ = items(place)
    assert (name.uri, name.listed) == (f"{place}:2", Reason.BAD_ROW)
    assert name.detail == "neither a URL nor a page; --provider searches for names"
    assert name.person == Person.of("Zo\u00eb K", "wikidata:Q7")


def test_a_name_is_needed_only_if_people_are(root):
    place = write(root / "people.csv", "name,url\n,1.jpg\n \u2003 ,https://example.org/2.jpg\n")
    assert [(ref.listed, ref.detail) for ref in items(place)] == [(Reason.NO_IDENTITY, "its row names nobody")] * 2
    assert [ref.listed for ref in items(place, labelled=False)] == [Reason.NONE] * 2


def test_paths_are_beside_their_list(root, tmp_path, monkeypatch):
    make(root, "ann/1.jpg")
    (root / "ann" / "1.jpg").write_bytes(b"12345")
    os.utime(root / "ann" / "1.jpg", ns=(0, 7))
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/ann")
    place = write(
        root / "photos.txt",
        f"ann/1.jpg\n./ann//../ann/1.jpg\n../photos/ann/1.jpg\n{root}/ann/1.jpg\nfile://{root}/ann%2F1.jpg\n"
        "~/1.jpg\n$HOME/1.jpg\n${HOME}.jpg\nann/*.jpg\nfile://localhost/tmp/1.jpg\n",
    )
    refs = items(place, labelled=False)
    assert [(ref.uri, ref.revision) for ref in refs[:5]] == [(f"{root}/ann/1.jpg", "5-7")] * 5
    assert [(ref.uri, ref.revision) for ref in refs[5:]] == [
        (f"{root}/~/1.jpg", ""),
        (f"{root}/$HOME/1.jpg", ""),
        (f"{root}/${{HOME}}.jpg", ""),
        (f"{root}/ann/*.jpg", ""),
        ("/tmp/1.jpg", ""),
    ]
    assert not any(ref.listed for ref in refs)


@pytest.mark.parametrize(
    ("text", "uri", "detail"),
    [
        ("ftp://me:pw@example.org/1.jpg", "ftp://example.org/1.jpg", "ftp:// is not asked for"),
        ("http://", "http://", "not a URL that can be asked for"),
        ("https://u:p@[::1/1.jpg", "https://[::1/1.jpg", "not a URL that can be asked for"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA", "neither a URL nor a path"),
        ("a\0b.jpg", "a\0b.jpg", "neither a URL nor a path"),
        ("file://elsewhere/1.jpg", "file://elsewhere/1.jpg", "not a file on this machine"),
        ("file:///a%00.jpg", "file:///a%00.jpg", "not a file on this machine"),
    ],
)
def test_urls_that_are_none(root, text, uri, detail):
    ref = one(write(root / "people.csv", f"url,x\n{text},\n".replace(",AAAA", "%2CAAAA")), labelled=False)
    assert (ref.uri.replace("%2C", ","), ref.listed, ref.detail) == (uri, Reason.BAD_URL, detail)


def are_all_different(count: int):
    """Matches outcomes of so many items, no two of one id."""

    def check(outcomes):
        assert len({outcome.ref.item_id for outcome in outcomes}) == len(outcomes) == count

    return check


def test_what_is_lost_has_an_id_of_its_own_however_often_it_is_named(root):
    people = write(root / "people.csv", "name,url\nAnn,ann/notes.txt\n,1.jpg\n,1.jpg\nAnn,ftp://x/1\nAnn,ftp://x/1\n")
    make(root, "ann/notes.txt")
    source = ItemSource((str(people), str(people), "http://", "http://", str(root)), labelled=True)
    with fakes.pipeline() as pipeline:
        listed, lost = pipeline | Create([source]) | ListItems()
        assert_that(lost, are_all_different(4 + 1 + 2), "Lost")  # rows, one URL, two files in the folder
        assert_that(listed | "Good" >> Map(lambda keyed: keyed[1].uri), equal_to([f"{root}/ann/notes.txt"]), "Listed")


def test_rows_that_are_lost_are_lines_of_their_own(root, tmp_path):
    write(root / "people.csv", "name,url\n,1.jpg\n,1.jpg\nAnn,ftp://x/1\nAnn,ftp://x/1\nAnn\nAnn\n")
    (tmp_path / "more").mkdir()
    write(tmp_path / "more" / "people.csv", "name,url\n,1.jpg\n,1.jpg\nAnn,ftp://x/1\nAnn,ftp://x/1\nAnn\nAnn\n")
    refs = items(str(root / "people.csv"), str(tmp_path / "more" / "people.csv"))
    assert [str(ref.listed) for ref in refs] == [
        "no_identity",
        "no_identity",
        "bad_url",
        "bad_url",
        *["bad_row"] * 2,
    ] * 2
    assert refs[4].uri == f"{root}/people.csv:6"
    assert refs[4].detail == "1 fields and not 2"


def test_columns_are_handed_on(root):
    place = write(root / "people.csv", "who,photo\nAnn,1.jpg\n")
    assert told(items(place, columns=Columns("who", "photo"))) == [("people.csv:2", f"{root}/1.jpg", "Ann", "")]


def test_a_list_with_a_name_that_is_no_utf_8(root):
    make_or_skip(root, f"{LATIN_1}.csv")
    write(root / f"{LATIN_1}.csv", "name,url\nAnn,1.jpg\nBob\n")
    refs = items(str(root / f"{LATIN_1}.csv"))
    assert told(refs) == [
        ("caf\\xe9.csv:2", f"{root}/1.jpg", "Ann", ""),
        ("caf\\xe9.csv:3", f"{root}/{LATIN_1}.csv:3", "", "bad_row"),
    ]


@pytest.mark.parametrize(("url", "most"), [("https://example.org/1.jpg", 1), ("1.jpg", 1), ("s3://bucket/1.jpg", 40)])
def test_rows_are_listed_as_they_come(root, monkeypatch, url, most):
    def read_rows(*list_of):
        for number in range(1, 10_000):
            read.append(number)
            yield Row(number, url=url)

    read = []
    monkeypatch.setattr(lists, "read_rows", read_rows)
    monkeypatch.setattr(storage, "revision", lambda uri: "1-1")
    rows = sources.list_items(ItemSource((write(root / "urls.txt", url),)))
    assert next(rows).origin == "urls.txt:1"
    assert len(read) <= most
    rows.close()


# --- object stores ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=object_stores.KINDS)
def store(request):
    with object_stores.server(request.param) as address:
        yield request.param, address


@pytest.fixture
def bucket(store, monkeypatch) -> object_stores.Bucket:
    object_stores.point_to(monkeypatch, *store)
    return object_stores.make_bucket(*store)


def test_folders_and_photos_and_lists_of_a_store(bucket):
    for key in ("people/ann/1.jpg", "people/bob.jpg"):
        bucket.put(key, b"12345")
    bucket.put("lists/people.csv", b"name,url\nAnn,../people/ann/1.jpg\nBob,bob 2.jpg\n")
    places = [f"{bucket.uri}/{key}" for key in ("people", "lists/people.csv")]
    refs = items(*places)
    assert told(refs) == [
        ("", f"{bucket.uri}/people/ann/1.jpg", "ann", ""),
        ("", f"{bucket.uri}/people/bob.jpg", "bob", ""),
        ("people.csv:2", f"{bucket.uri}/people/ann/1.jpg", "Ann", ""),
        ("people.csv:3", f"{bucket.uri}/lists/bob 2.jpg", "Bob", ""),
    ]
    assert [ref.revision[:2] for ref in refs] == ["5-", "5-", "5-", ""]
    assert refs[0].revision == refs[2].revision
    assert sources.peek(ItemSource(tuple(places)), 100) == 4
    assert sources.may_name_web(ItemSource(tuple(places[:1]))) is False


def test_paths_in_a_list_of_a_store(bucket, root):
    make(root, "1.jpg")
    bucket.put(
        "a/photos.txt", f"x #%20.jpg\n../../x.jpg\n{root}/1.jpg\nS3://other/k.jpg\nhttps://e.org/1.jpg\n/n".encode()
    )
    refs = items(f"{bucket.uri}/a/photos.txt", labelled=False)
    assert told(refs[:5]) == [
        ("photos.txt:1", f"{bucket.uri}/a/x #%20.jpg", "", ""),
        ("photos.txt:2", "../../x.jpg", "", "bad_url"),
        ("photos.txt:3", f"{root}/1.jpg", "", ""),
        ("photos.txt:4", "s3://other/k.jpg", "", ""),
        ("photos.txt:5", "https://e.org/1.jpg", "", ""),
    ]
    assert refs[2].revision.startswith("0-")


def test_many_rows_about_objects_keep_their_order(bucket):
    for number in range(5):
        bucket.put(f"{number}.jpg", b"-" * (number + 1))
    numbers = [number % 5 for number in range(60)]
    bucket.put("photos.txt", "".join(f"{number}.jpg\n" for number in numbers).encode())
    refs = items(f"{bucket.uri}/photos.txt", labelled=False)
    assert [ref.origin for ref in refs] == [f"photos.txt:{number}" for number in range(1, 61)]
    assert [int(ref.revision.split("-")[0]) - 1 for ref in refs] == numbers


def test_a_pattern_may_match_lists_of_a_store(bucket):
    for number in (1, 2):
        bucket.put(f"lists/{number}.csv", f"name,url\nAnn,{number}.jpg\n".encode())
    bucket.put("lists/3.jpg", b"-")
    assert [ref.uri for ref in items(f"{bucket.uri}/lists/*.csv")] == [f"{bucket.uri}/lists/{n}.jpg" for n in (1, 2)]


def test_a_store_without_it_is_told(bucket):
    for place in ("/missing.csv", "/missing", "/*.csv", "/*.jpg"):
        for use in (sources.check, lambda source: sources.peek(source, 1)):
            with pytest.raises(NoSuchSource, match=r"^(there is no|nothing matches) "):
                use(ItemSource((f"{bucket.uri}{place}",)))


def test_a_store_that_cannot_be_reached_is_told(monkeypatch):
    object_stores.point_to(monkeypatch, "gs", "")  # and S3 where nobody listens
    with pytest.raises(NoSuchSource, match=r"^the store cannot be reached: s3://bucket/photos$"):
        sources.check(ItemSource(("s3://bucket/photos",)))


# --- looking before anything starts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (2, 2), (3, 3), (4, 3), (1000, 3)])
def test_peek_counts_up_to_its_limit(root, limit, count):
    make(root, "1.jpg", "2.jpg", "3.txt")
    assert sources.peek(ItemSource((str(root),)), limit) == count


def test_peek_looks_no_further_than_its_limit(root, monkeypatch):
    make(root, *(f"{number}.jpg" for number in range(9)))
    looked = []
    monkeypatch.setattr(folders, "revision_of", lambda path: looked.append(path) or "")
    assert sources.peek(ItemSource((str(root),)), 4) == 4
    assert len(looked) == 4


def test_peek_tells_of_a_source_without_a_file(root):
    make(root, ".hidden.jpg")
    (root / "empty").mkdir()
    with pytest.raises(NoSuchSource, match=f"there is no photo in {root}"):
        sources.peek(ItemSource((str(root),)), 10)
    make(root, "1.jpg", "2.jpg")
    with pytest.raises(NoSuchSource, match=f"there is no {root}/missing"):
        sources.peek(ItemSource((str(root), str(root / "missing"))), 1)  # however much there is before it


def test_peek_tells_of_a_list_that_cannot_be_used(root):
    make(root, "1.jpg")
    place = write(root / "people.csv", "name,foto\nAnn,1.jpg\n")
    wrong = ItemSource((str(root), place), columns=Columns(url="photo"))
    for use in (sources.check, lambda source: sources.peek(source, 1)):
        with pytest.raises(NoSuchSource, match=r"people\.csv has no column photo; its columns: name, foto"):
            use(wrong)
    with pytest.raises(NoSuchSource, match="there is no photo in "):
        sources.peek(ItemSource((write(root / "empty.csv", "name,url\n"),)), 1)


def test_peek_counts_rows_and_asks_no_web(root):
    place = write(root / "urls.txt", "https://nowhere.invalid/1.jpg\nhttps://nowhere.invalid/2.jpg\n")
    assert sources.peek(ItemSource((place, "https://nowhere.invalid/3.jpg")), 10) == 3


# --- in a pipeline ----------------------------------------------------------------------------------------------------


def reference(keyed: tuple[str, ItemRef]) -> tuple[bytes, str, str, str]:
    key, ref = keyed
    assert key == ref.item_id
    return os.fsencode(ref.uri), str(ref.kind), ref.person.name, ref.revision


def loss(outcome: Outcome) -> tuple[bytes, str, str, str, str, str]:
    ref = outcome.ref
    name = ref.person.name
    return os.fsencode(ref.uri), name, str(outcome.status), outcome.stage, str(outcome.reason), outcome.detail


def test_every_file_is_a_reference_or_lost_with_a_reason(root):
    make_or_skip(root, "ann/1.jpg", f"{LATIN_1}/2.jpg", "bob/notes.txt", f"bob/3.{LATIN_1}")
    for name in ("ann/1.jpg", f"{LATIN_1}/2.jpg"):
        os.utime(root / name, ns=(0, 5))
    (root / "ann" / "eve.jpg").symlink_to("nowhere.jpg")
    (root / "flat.jpg").symlink_to("nowhere.jpg")
    make(root, " .jpg")
    source = ItemSource((str(root),), labelled=True)
    place = os.fsencode(root)

    with fakes.pipeline() as pipeline:
        refs, lost = pipeline | Create([source]) | ListItems()
        good = [
            (place + b"/ann/1.jpg", "photo", "ann", "0-5"),
            (place + b"/caf\xe9/2.jpg", "photo", "caf\\xe9", "0-5"),
            (place + b"/ann/eve.jpg", "photo", "ann", ""),
            (place + b"/flat.jpg", "photo", "flat", ""),
        ]
        losses = [
            (place + name, "bob", "skipped", "list", "unsupported_type", f"a {suffix} file is not taken for a photo")
            for name, suffix in ((b"/bob/notes.txt", ".txt"), (b"/bob/3.caf\xe9", ".caf\\xe9"))
        ]
        nobody = "neither a folder nor its name says who is on it"
        losses.append((place + b"/ .jpg", "", "rejected", "list", "no_identity", nobody))
        assert_that(refs | "Reference" >> Map(reference), equal_to(good), "Good")
        assert_that(lost | "Loss" >> Map(loss), equal_to(losses), "Lost")

    assert fakes.counters(pipeline.result, "list") == {
        "items_in": 7,
        "items_out": 4,
        "lost_unsupported_type": 2,
        "lost_no_identity": 1,
    }


def test_every_row_is_a_reference_or_lost_with_a_reason(root, tmp_path, monkeypatch):
    place = write(
        root / "people.csv",
        "name,url,page\nAnn,https://example.org/1.jpg,\nBob,,https://example.org/bob\nEve,,\nFay\n,1.jpg,\nGuy,ftp://x/y,\n",
    )
    monkeypatch.setenv(progress.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(sources, "_SHOWN", 4)
    progress.reset()
    with fakes.pipeline() as pipeline:
        refs, lost = pipeline | Create([ItemSource((place,), labelled=True, search=True)]) | ListItems()
        good = [
            (b"https://example.org/1.jpg", "photo", "Ann", ""),
            (b"https://example.org/bob", "page", "Bob", ""),
            (b"name:Eve", "name", "Eve", ""),
        ]
        losses = [
            (f"{place}:5".encode(), "", "rejected", "list", "bad_row", "1 fields and not 3"),
            (f"{root}/1.jpg".encode(), "", "rejected", "list", "no_identity", "its row names nobody"),
            (b"ftp://x/y", "Guy", "rejected", "list", "bad_url", "ftp:// is not asked for"),
        ]
        assert_that(refs | "Reference" >> Map(reference), equal_to(good), "Good")
        assert_that(lost | "Loss" >> Map(loss), equal_to(losses), "Lost")

    assert fakes.counters(pipeline.result, "list") == {
        "items_in": 6,
        "items_out": 3,
        "lost_bad_row": 1,
        "lost_no_identity": 1,
        "lost_bad_url": 1,
    }
    assert progress.total(tmp_path) == {"listed": 6}
