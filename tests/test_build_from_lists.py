"""celebface build-gallery from lists, web pages, searches and a store, whole, with the real models."""

import collections
import contextlib
import csv
import dataclasses
import gzip
import hashlib
import io
import json
import logging
import pathlib
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import images
import object_stores
import provider_site
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from provider_site import ProviderSite
from web_site import Content, Held, Redirect, Status, WebSite, photo

from celebface.indexing import publish, storage
from celebface.pipelines import cli
from celebface.transforms import sources
from celebface.transforms.sources import ItemSource
from celebface.transforms.staged import read_photo_keys
from celebface.transforms.web import google

HOSTS = ("photos.test", "pages.test", "moved.test")
CC = "https://creativecommons.org/licenses/by/4.0/"
ZOE = "Zoë Élan 李"


@dataclasses.dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def run(*arguments: object) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(list(map(str, arguments)))
        except SystemExit as ended:
            code = ended.code
    return Ran(code, out.getvalue(), err.getvalue())


# The hosts of these tests are on this machine, and need no pauses.
WEB = (
    "--contact=tests@example.org",
    "--allow_private_hosts",
    *(f"--resolve={host}:127.0.0.1" for host in HOSTS),
    "--host_rate=0",
)
BUILD = ("--num_shards=2", "--audit=off")  # the names here are made up


def build(sources: Sequence[object] | pathlib.Path | str, root: pathlib.Path, *flags: object) -> Ran:
    places = [sources] if isinstance(sources, str | pathlib.Path) else sources
    return run("build-gallery", *(f"--source={place}" for place in places), f"--output_root={root}", *BUILD, *flags)


def latest(root: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(publish.find_version(str(root / "celebrities")))


def table(version: pathlib.Path, name: str) -> list[dict]:
    return [row for path in sorted(version.glob(f"{name}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def read_json(version: pathlib.Path, name: str) -> dict:
    return json.loads((version / name).read_text())


def stages(version: pathlib.Path) -> dict:
    return read_json(version, "run.json")["stages"]


def ends(version: pathlib.Path) -> dict[str, tuple[str, str]]:
    """How the photos ended, by URI: status and reason."""
    return {row["uri"]: (row["status"], row["reason"]) for row in table(version, "ledger")}


def write_csv(path: pathlib.Path, rows: Iterable[Mapping[str, str]]) -> pathlib.Path:
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def photos(sample) -> dict[str, list[bytes]]:
    """Small photos of the sample by person, each with one large face, no two alike."""
    found = {}
    for person in ("ben_afflek", "elton_john", "jerry_seinfeld", "madonna", "mindy_kaling"):
        files = [path.read_bytes() for path in sorted(sample.glob(f"{person}/*.jpg"))]
        found[person] = [data for data in files if 13_000 < len(data) < 20_400][:5]
    return found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def html(*images: str, head: str = "") -> Content:
    shown = "".join(f'<img src="{image}" alt="">' for image in images)
    return Content(f"<!doctype html><html><head>{head}</head><body>{shown}</body></html>".encode(), "text/html")


# --- a web of lists and pages -----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Web:
    """A site, two lists that lead to it and to files, what was built of them, and what a host was asked for."""

    site: WebSite
    folder: pathlib.Path
    lists: Sequence[pathlib.Path]
    root: pathlib.Path
    ran: Ran
    asked: Sequence[str]

    @property
    def version(self) -> pathlib.Path:
        return latest(self.root)

    def row(self, origin: str) -> dict:
        """The one row of the ledger that comes from a line of a list."""
        (row,) = [row for row in table(self.version, "ledger") if row["origin"] == origin]
        return row

    def end(self, origin: str) -> tuple[str, str, str, str]:
        row = self.row(origin)
        return row["status"], row["stage"], row["reason"], row["detail"]


@pytest.fixture(scope="module")
def web(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    (folder / "people").mkdir()
    (folder / "people" / "evans.jpg").write_bytes(photos["ben_afflek"][2])
    madonna, ben, jerry = photos["madonna"], photos["ben_afflek"], photos["jerry_seinfeld"]
    licence = f'<link rel="license" href="{CC}"><meta name="robots" content="index">'
    pages = {
        ("pages.test", "/madonna.html"): html("http://photos.test:{port}/m0.jpg", "/m1.jpg", head=licence),
        ("pages.test", "/again.html"): html("http://photos.test:{port}/m0.jpg"),
        ("pages.test", "/empty.html"): html(),
        ("pages.test", "/closed.html"): html("/m1.jpg", head='<meta name="robots" content="noai, noimageai">'),
        ("pages.test", "/old.html"): Redirect("http://moved.test:{port}/new.html", 301),
        ("pages.test", "/m1.jpg"): photo(madonna[1]),
        ("moved.test", "/new.html"): html("b0.jpg"),
        ("moved.test", "/b0.jpg"): photo(ben[0]),
        ("photos.test", "/m0.jpg"): photo(madonna[0]),
        ("photos.test", "/zoe.jpg"): photo(photos["mindy_kaling"][0]),
        ("photos.test", "/zoe%20too.jpg"): photo(photos["mindy_kaling"][1]),
        ("photos.test", "/evans.jpg"): photo(ben[1]),
        ("photos.test", "/other-evans.jpg"): photo(jerry[0]),
        ("photos.test", "/both.jpg"): photo(photos["elton_john"][0]),
    }
    with WebSite() as site:
        site.lay_out(
            {
                place: dataclasses.replace(page, data=site.with_ports(page.data.decode()).encode())
                if getattr(page, "content_type", "") == "text/html"
                else page
                for place, page in pages.items()
            }
        )
        by_page = [
            ("Madonna", "/madonna.html"),  # 2
            ("Madonna", "/again.html"),
            ("Ben", "/old.html"),
            ("Ben", "/empty.html"),
            ("Ben", "/missing.html"),
            ("Madonna", "/closed.html"),
            ("Madonna", "/madonna.html"),  # 8
        ]
        write_csv(
            folder / "pages.csv",
            [{"name": name, "page": site.url("pages.test", path)} for name, path in by_page],
        )
        people = write_csv(
            folder / "people.csv",
            [
                {"name": name, "id": key, "url": site.url("photos.test", url) if url[:1] == "/" else url, **more}
                for name, key, url, more in [
                    (ZOE, "", "/zoe.jpg", {"aliases": "Zo; Z. E.", "licence": "CC0", "author": "李"}),  # 2
                    (unicodedata.normalize("NFD", ZOE), "", "/zoe too.jpg", {}),
                    ("Chris Evans", "Q178348", "/evans.jpg", {}),
                    ("Chris Evans", "Q2964710", "/other-evans.jpg", {}),
                    ("Chris Evans", "Q178348", "people/evans.jpg", {}),
                    (ZOE, "", "/zoe.jpg", {}),  # 7, again
                    ("", "", "/m0.jpg", {}),
                    ("Ann", "", "/both.jpg", {}),
                    ("Bo", "", "/both.jpg", {}),
                    ("Nobody Known", "", "", {}),  # 11
                    ("Ann", "", "ftp://photos.test/ann.jpg", {}),
                    ("Ann", "", "people/missing.jpg", {}),
                    ("Ann", "", "/missing.jpg", {}),
                ]
            ],
        )
        with people.open("a", encoding="utf-8") as file:
            file.write("too,few,cells\n")  # 15
        lists = [folder / "pages.csv", people]
        ran = build(lists, folder / "galleries", *WEB)
        yield Web(site, folder, lists, folder / "galleries", ran, site.paths("photos.test"))


def test_a_build_of_lists_and_pages_tells_what_it_did(web):
    assert (web.ran.code, web.ran.err) == (0, "")
    lines = web.ran.out.splitlines()
    assert lines[0] == "7 pages: 3 done, 3 rejected, 1 skipped"
    assert lines[1] == "18 photos: 10 with faces (10 faces), 6 rejected, 2 skipped"
    assert f"  Chris Evans ({web.row('people.csv:5')['identity_id']})" in "".join(f"  {line}" for line in lines)
    assert lines[-1] == f"published {web.version}"


def test_each_page_has_a_row_that_says_what_became_of_it(web):
    assert {line: web.end(f"pages.csv:{line}") for line in (5, 6, 7, 8)} == {
        5: ("rejected", "scrape", "no_images", "no photo was found on it"),
        6: ("rejected", "scrape", "not_found", "status 404"),
        7: ("rejected", "scrape", "opted_out", "meta tag: noai"),
        8: ("skipped", "resume", "duplicate", "repeats pages.csv:2"),
    }
    pages = [row for row in table(web.version, "ledger") if row["kind"] == "page"]
    done = {row["uri"]: (row["identity"], row["detail"]) for row in pages if row["status"] == "done"}
    assert len(pages) == 7
    assert done == {
        web.site.url("pages.test", "/madonna.html"): ("Madonna", "2 photos found"),
        web.site.url("pages.test", "/again.html"): ("Madonna", "1 photo found"),
        web.site.url("pages.test", "/old.html"): ("Ben", "1 photo found"),
    }


def test_photos_of_pages_keep_where_they_were_found(web):
    faces = {face["uri"]: face for face in table(web.version, "faces") if face["source_page"]}
    assert {uri: (face["identity"], face["source_page"], face["licence"]) for uri, face in faces.items()} == {
        web.site.url("photos.test", "/m0.jpg"): ("Madonna", web.site.url("pages.test", "/madonna.html"), CC),
        web.site.url("pages.test", "/m1.jpg"): ("Madonna", web.site.url("pages.test", "/madonna.html"), CC),
        web.site.url("moved.test", "/b0.jpg"): ("Ben", web.site.url("moved.test", "/new.html"), ""),
    }
    origins = {row["uri"]: row["origin"] for row in table(web.version, "ledger") if row["status"] == "done"}
    assert origins[web.site.url("moved.test", "/b0.jpg")] == "pages.csv:4"


def test_a_photo_that_two_pages_of_a_person_show_is_taken_once(web):
    place = web.site.url("photos.test", "/m0.jpg")
    rows = [row for row in table(web.version, "ledger") if row["uri"] == place and row["identity"] == "Madonna"]
    assert sorted((row["status"], row["reason"], row["detail"]) for row in rows) == [
        ("done", "", ""),
        ("skipped", "duplicate", "repeats pages.csv:2"),
    ]
    assert web.asked.count("/m0.jpg") == 1


def test_each_row_of_a_list_has_a_row_that_says_what_became_of_it(web):
    assert {line: web.end(f"people.csv:{line}") for line in range(7, 16)} == {
        7: ("skipped", "resume", "duplicate", "repeats people.csv:2"),
        8: ("rejected", "list", "no_identity", "its row names nobody"),
        9: ("done", "encode", "", "also given for Bo"),
        10: ("done", "encode", "", "also given for Ann"),
        11: ("rejected", "list", "bad_row", "neither a URL nor a page; --provider searches for names"),
        12: ("rejected", "list", "bad_url", "ftp:// is not asked for"),
        13: ("rejected", "read", "not_found", "there is no such file"),
        14: ("rejected", "fetch", "not_found", "status 404"),
        15: ("rejected", "list", "bad_row", "3 fields and not 6"),
    }
    flags = {line: web.row(f"people.csv:{line}")["flag"] for line in range(2, 12)}
    assert {line for line, flag in flags.items() if flag} == {9, 10}
    assert flags[9] == flags[10] == "two_names"
    assert "        2 are given for several people, or nearly the same photo is" in web.ran.out


def test_people_of_one_name_are_apart_by_their_ids_and_a_name_is_one_however_it_is_written(web):
    people = collections.defaultdict(set)
    for face in table(web.version, "faces"):
        people[face["identity"], face["identity_id"], face["external_id"]].add(pathlib.Path(face["uri"]).name)
    people = {(name, key): files for (name, _, key), files in people.items()}
    assert people == {
        ("Madonna", ""): {"m0.jpg", "m1.jpg"},
        ("Ben", ""): {"b0.jpg"},
        (ZOE, ""): {"zoe.jpg", "zoe%20too.jpg"},
        ("Chris Evans", "wikidata:Q178348"): {"evans.jpg"},
        ("Chris Evans", "wikidata:Q2964710"): {"other-evans.jpg"},
        ("Ann", ""): {"both.jpg"},
        ("Bo", ""): {"both.jpg"},
    }
    evans = {face["uri"] for face in table(web.version, "faces") if face["external_id"] == "wikidata:Q178348"}
    assert evans == {web.site.url("photos.test", "/evans.jpg"), str(web.folder / "people" / "evans.jpg")}


def test_what_a_row_says_of_person_and_photo_is_kept(web):
    faces = {pathlib.Path(face["uri"]).name: face for face in table(web.version, "faces")}
    zoe = faces["zoe.jpg"]
    assert (zoe["identity"], zoe["aliases"], zoe["licence"], zoe["author"]) == (ZOE, ["Zo", "Z. E."], "CC0", "李")


def test_the_totals_of_all_stages_add_up(web):
    found = stages(web.version)
    taken = {name: (stage["items_in"], stage["items_out"], stage["lost"]) for name, stage in found.items()}
    assert taken["list"] == (21, 17, {"no_identity": 1, "bad_row": 2, "bad_url": 1})
    assert taken["scrape"] == (7, 3, {"duplicate": 1, "no_images": 1, "not_found": 1, "opted_out": 1})
    assert found["scrape"]["noted"] == {"found": 4}
    assert taken["resume"] == (14, 12, {"duplicate": 2})
    assert taken["fetch"] == (10, 9, {"not_found": 1})
    assert taken["read"] == (11, 10, {"not_found": 1})
    assert taken["detect"] == taken["encode"] == (10, 10, {})
    items = read_json(web.version, "run.json")["items"]
    assert items["kinds"] == {
        "page": {"done": 3, "rejected": 3, "skipped": 1},
        "photo": {"done": 10, "rejected": 6, "skipped": 2},
    }
    assert items["items"] == sum(items["statuses"].values()) == len(table(web.version, "ledger")) == 21 + 4
    counts = read_json(web.version, "manifest.json")["counts"]
    assert counts == {"faces": 10, "identities": 7, "items": 25, **items["statuses"]}


def test_match_ranks_people_of_one_name_each_for_themselves(web, photos, tmp_path):
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "ben.jpg").write_bytes(photos["ben_afflek"][3])
    (tmp_path / "paths.txt").write_text("# paths\nprobes/ben.jpg\nprobes/missing.jpg\n")
    arguments = ["match", tmp_path / "paths.txt", f"--gallery={web.version}", f"--output={tmp_path / 'out'}"]
    ran = run(*arguments, "--top_k=9")
    assert (ran.code, ran.err) == (0, "")
    rows = table(tmp_path / "out", "matches")
    ids = {face["identity_id"]: face["external_id"] for face in table(web.version, "faces")}
    assert {row["photo_uri"] for row in rows} == {str(tmp_path / "probes" / "ben.jpg")}
    assert [row["rank"] for row in rows] == list(range(1, 8))
    assert {row["identity_id"] for row in rows} == set(ids)
    ranks = {ids[row["identity_id"]]: row["rank"] for row in rows if row["identity"] == "Chris Evans"}
    assert ranks.keys() == {"wikidata:Q178348", "wikidata:Q2964710"}
    assert ranks["wikidata:Q178348"] < ranks["wikidata:Q2964710"]
    missing = {row["uri"]: row["reason"] for row in table(tmp_path / "out", "ledger")}
    assert missing == {str(tmp_path / "probes" / "ben.jpg"): "", str(tmp_path / "probes" / "missing.jpg"): "not_found"}


def test_match_takes_urls(web, tmp_path, monkeypatch):
    urls = [web.site.url("photos.test", path) for path in ("/zoe.jpg", "/missing.jpg")]
    ran = run("match", *urls, f"--gallery={web.version}", f"--output={tmp_path / 'out'}", "--top_k=1", *WEB)
    assert (ran.code, ran.err) == (0, "")
    (row,) = table(tmp_path / "out", "matches")
    assert (row["photo_uri"], row["identity"], row["verdict"]) == (urls[0], ZOE, "match")
    assert row["distance"] == pytest.approx(0, abs=1e-6)
    ledger = {row["uri"]: (row["status"], row["reason"]) for row in table(tmp_path / "out", "ledger")}
    assert ledger == {urls[0]: ("done", ""), urls[1]: ("rejected", "not_found")}

    monkeypatch.delenv("CELEBFACE_CONTACT", raising=False)
    ran = run("match", *urls, f"--gallery={web.version}", f"--output={tmp_path / 'other'}", *WEB[1:])
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "--contact" in ran.err and not (tmp_path / "other").exists()


def test_two_processes_give_the_same_bytes(web, tmp_path):
    assert build(web.lists, tmp_path, *WEB, "--direct_num_workers=2").code == 0
    version = latest(tmp_path)
    assert read_json(version, "run.json")["workers"] == 2
    files, again = (read_json(each, "manifest.json")["files"] for each in (web.version, version))
    del files["run.json"], again["run.json"]  # it holds times
    assert files == again


# --- from names alone -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def provider(photos):
    """A server that knows photos of two people."""
    madonna, ben = photos["madonna"], photos["ben_afflek"]
    people = {
        "Madonna": {
            "id": "Q1744",
            "aliases": ["Madonna Ciccone"],
            "images": {"Madonna.jpg": madonna[0], "Madonna 2.jpg": madonna[1], "Madonna 3.jpg": madonna[2]},
        },
        "Ben Affleck": {"id": "Q483118", "images": {"Ben.jpg": ben[0]}},
    }
    files = {"Madonna.jpg": {"licence": "CC BY 4.0", "licence_url": CC, "artist": "<b>A. Photographer</b>"}}
    with ProviderSite(people, files) as site:
        yield site


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("names") / "names.txt"
    path.write_text("Ben Affleck\n# not a name\nMadonna\nNobody Known\nMadonna\n")
    return path


@pytest.fixture(scope="module")
def searched(provider, names, tmp_path_factory) -> tuple[pathlib.Path, Ran]:
    root = tmp_path_factory.mktemp("searched")
    how = ["--provider=wikimedia", f"--provider_url={provider.url}", "--per_person=2"]
    return root, build(names, root, *how, *WEB)


def test_names_alone_become_a_gallery(searched, provider):
    root, ran = searched
    assert (ran.code, ran.err) == (0, "")
    faces = {face["uri"].removeprefix(provider.url): face for face in table(latest(root), "faces")}
    columns = ("identity", "external_id", "aliases", "licence", "author", "source_page")
    assert {uri: tuple(face[column] for column in columns) for uri, face in faces.items()} == {
        "/images/Ben.jpg": (
            "Ben Affleck", "wikidata:Q483118", [], "CC0", "somebody", f"{provider.url}/wiki/File:Ben.jpg"
        ),
        "/images/Madonna.jpg": (
            "Madonna", "wikidata:Q1744", ["Madonna Ciccone"], f"CC BY 4.0 {CC}", "A. Photographer",
            f"{provider.url}/wiki/File:Madonna.jpg",
        ),
        "/images/Madonna_2.jpg": (
            "Madonna", "wikidata:Q1744", ["Madonna Ciccone"], "CC0", "somebody",
            f"{provider.url}/wiki/File:Madonna_2.jpg",
        ),
    }  # fmt: skip


def test_each_name_has_a_row_that_says_what_was_found(searched):
    root, ran = searched
    ledger = table(latest(root), "ledger")
    columns = ("uri", "status", "stage", "reason", "detail", "faces")
    assert {row["origin"]: tuple(row[column] for column in columns) for row in ledger if row["kind"] == "name"} == {
        "names.txt:1": ("name:Ben Affleck", "done", "search", "", "1 photo found", 0),
        "names.txt:3": ("name:Madonna", "done", "search", "", "2 photos found", 0),
        "names.txt:4": (
            "name:Nobody Known", "rejected", "search", "unknown_person", "Wikidata knows no human of this name", 0
        ),
        "names.txt:5": ("name:Madonna", "skipped", "resume", "duplicate", "repeats names.txt:3", 0),
    }  # fmt: skip
    photos = [(row["origin"], row["status"]) for row in ledger if row["kind"] == "photo"]
    assert sorted(photos) == [("names.txt:1", "done"), ("names.txt:3", "done"), ("names.txt:3", "done")]
    found = stages(latest(root))
    assert found["search"] | {"seconds": None} == {
        "items_in": 4, "items_out": 2, "lost": {"duplicate": 1, "unknown_person": 1}, "noted": {"found": 3},
        "seconds": None,
    }  # fmt: skip
    assert [found[name]["items_in"] for name in ("list", "resume", "fetch", "detect", "encode")] == [4, 3, 3, 3, 3]
    assert ran.out.startswith("4 names: 2 done, 1 rejected, 1 skipped\n3 photos: 3 with faces (3 faces)")


def test_a_provider_of_ones_own_opens_no_private_host_for_photos(provider, names, tmp_path):
    how = ["--provider=wikimedia", f"--provider_url={provider.url}", "--contact=tests@example.org", "--host_rate=0"]
    assert build(names, tmp_path, *how).code == 1
    (failed,) = (tmp_path / "celebrities").glob("failed-*")
    reasons = collections.Counter((row["kind"], row["reason"]) for row in table(failed, "ledger"))
    assert reasons == {
        ("name", ""): 2, ("name", "unknown_person"): 1, ("name", "duplicate"): 1, ("photo", "private_address"): 4
    }  # fmt: skip


def contents(folder: pathlib.Path) -> bytes:
    """All that is written below a folder: the names and bytes of the files, and the cells of tables."""
    found = []
    for path in sorted(folder.rglob("*")):
        found.append(str(path).encode())
        if path.is_file():
            found.append(path.read_bytes())
            if path.suffix == ".parquet":
                found.append(repr(pq.read_table(path).to_pylist()).encode())
    return b"\n".join(found)


def test_the_key_of_a_search_is_written_nowhere(provider, names, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(google.KEY, provider_site.KEY)
    monkeypatch.setenv(google.ENGINE, provider_site.ENGINE)
    monkeypatch.setattr(storage, "delete_tree", lambda uri: None)  # the parts stay to be looked into
    caplog.set_level(logging.DEBUG)
    ran = build(names, tmp_path, "--provider=google", f"--provider_url={provider.url}", *WEB)
    assert ran.code == 0
    faces = table(latest(tmp_path), "faces")
    assert {face["identity"] for face in faces} == {"Ben Affleck", "Madonna"}
    assert {asked.headers["X-Goog-Api-Key"] for asked in provider.asked(cx=provider_site.ENGINE)} == {provider_site.KEY}
    written = contents(tmp_path)
    assert b"Ben Affleck" in written and b"ARROW1" in written
    assert provider_site.KEY.encode() not in written
    assert provider_site.KEY not in ran.out + ran.err + caplog.text


def test_a_search_needs_its_key(names, tmp_path, monkeypatch):
    for name in (google.KEY, google.ENGINE):
        monkeypatch.delenv(name, raising=False)
    ran = build(names, tmp_path, "--provider=google", *WEB)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert google.KEY in ran.err


# --- the same list, written and given in other ways -------------------------------------------------------------------

PEOPLE = [
    {"name": ZOE, "url": "https://photos.test/zoe.jpg", "page": "", "id": "Q1", "licence": "CC0"},
    {"name": "Ann", "url": "", "page": "https://pages.test/ann.html", "id": "", "licence": ""},
    {"name": "Bo", "url": "bo.jpg", "page": "", "id": "", "licence": ""},
]


def listed(place: pathlib.Path) -> list[tuple]:
    """What a list names."""
    refs = sources.list_items(ItemSource((str(place),), labelled=True))
    return [(ref.item_id, ref.uri, ref.kind, ref.person, ref.provenance, ref.listed) for ref in refs]


def test_a_list_names_the_same_in_all_formats(tmp_path):
    expected = listed(write_csv(tmp_path / "people.csv", PEOPLE))
    (tmp_path / "people.csv.gz").write_bytes(gzip.compress((tmp_path / "people.csv").read_bytes()))
    (tmp_path / "people.tsv").write_text((tmp_path / "people.csv").read_text().replace(",", "\t"))
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PEOPLE))
    pq.write_table(pa.Table.from_pylist(PEOPLE), tmp_path / "people.parquet")
    assert [(kind, person.external_id) for _, _, kind, person, _, _ in expected] == [
        ("photo", "wikidata:Q1"), ("page", ""), ("photo", "")
    ]  # fmt: skip
    for name in ("people.csv.gz", "people.tsv", "people.jsonl", "people.parquet"):
        assert listed(tmp_path / name) == expected, name


def test_a_list_may_come_on_stdin(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoe.jpg").write_bytes(photos["mindy_kaling"][0])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"name,path\n{ZOE},zoe.jpg\n".encode())))
    ran = build("-", tmp_path / "galleries")
    assert (ran.code, ran.err) == (0, "")
    (face,) = table(latest(tmp_path / "galleries"), "faces")
    assert (face["identity"], face["uri"]) == (ZOE, str(tmp_path / "zoe.jpg"))


def test_an_object_store_holds_folders_and_lists(photos, tmp_path, monkeypatch):
    with object_stores.server("s3") as address:
        object_stores.point_to(monkeypatch, "s3", address)
        monkeypatch.delenv("CELEBFACE_CONTACT", raising=False)  # a store is none of the web
        bucket = object_stores.make_bucket("s3", address)
        bucket.put("people/madonna/1.jpg", photos["madonna"][0])
        bucket.put("people/Ben.jpg", photos["ben_afflek"][0])
        bucket.put("people/madonna/notes.txt", b"none")
        bucket.put("lists/more.csv", b"name,path\nZo,../others/1.jpg\nZo,missing.jpg\n")
        bucket.put("others/1.jpg", photos["mindy_kaling"][0])
        ran = build([f"{bucket.uri}/people", f"{bucket.uri}/lists/more.csv"], tmp_path)
        assert (ran.code, ran.err) == (0, "")
        assert {face["uri"]: face["identity"] for face in table(latest(tmp_path), "faces")} == {
            f"{bucket.uri}/people/madonna/1.jpg": "madonna",
            f"{bucket.uri}/people/Ben.jpg": "Ben",
            f"{bucket.uri}/others/1.jpg": "Zo",
        }
        lost = {uri: end for uri, end in ends(latest(tmp_path)).items() if end != ("done", "")}
        assert lost == {
            f"{bucket.uri}/people/madonna/notes.txt": ("skipped", "unsupported_type"),
            f"{bucket.uri}/lists/missing.jpg": ("rejected", "not_found"),
        }


# --- nearly the same photo --------------------------------------------------------------------------------------------


def test_of_photos_from_the_web_that_are_nearly_the_same_the_larger_stays(photos, tmp_path):
    large = photos["madonna"][1]
    image = Image.open(io.BytesIO(large)).convert("RGB")
    small = images.encoded(image.resize((image.width * 2 // 3, image.height * 2 // 3)), "JPEG", quality=80)
    (tmp_path / "people" / "somebody").mkdir(parents=True)
    for name, data in (("large.jpg", large), ("small.jpg", small)):
        (tmp_path / "people" / "somebody" / name).write_bytes(data)
    pages = {("photos.test", "/a-small.jpg"): photo(small), ("photos.test", "/large.jpg"): photo(large)}
    with WebSite(pages) as site:
        urls = [site.url(*place) for place in pages]
        people = write_csv(tmp_path / "people.csv", [{"name": "Madonna", "url": url} for url in urls])
        assert build([people, tmp_path / "people"], tmp_path / "web", *WEB).code == 0
        assert build([people], tmp_path / "none", *WEB, "--near_duplicates=none").code == 0
    version = latest(tmp_path / "web")
    ledger = {row["uri"]: row for row in table(version, "ledger")}
    assert {uri: row["reason"] for uri, row in ledger.items()} == {
        urls[0]: "near_duplicate",
        urls[1]: "",
        **{str(tmp_path / "people" / "somebody" / name): "" for name in ("large.jpg", "small.jpg")},
    }
    assert ledger[urls[0]]["detail"].startswith(f"nearly the same photo as {urls[1]} (D 0.0")
    assert [row["uri"] for row in table(version, "repeats")] == [urls[0]]
    assert set(ends(latest(tmp_path / "none")).values()) == {("done", "")}
    assert table(latest(tmp_path / "none"), "repeats") == []


# --- going on from a version ------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Growing:
    """A site that changes, a list that grows, and the builds of it."""

    site: WebSite
    people: pathlib.Path
    root: pathlib.Path

    def build(self, *flags: str) -> Ran:
        self.site.forget()
        return build(self.people, self.root, *WEB, *flags)

    def name(self, *names: str) -> None:
        rows = [{"name": f"person {name}", "url": self.site.url("photos.test", f"/{name}")} for name in names]
        write_csv(self.people, rows)

    def asked(self) -> dict[str, tuple[bool, int]]:
        """What was asked for: whether on condition that it has changed, and the answer's status."""
        asked = [one for one in self.site.asked("photos.test") if one.path != "/robots.txt"]
        assert len(asked) == len({one.path for one in asked})
        return {one.path[1:]: (one.conditional, one.status) for one in asked}

    def ends(self) -> dict[str, tuple[str, str]]:
        return {uri.rpartition("/")[2]: end for uri, end in ends(latest(self.root)).items()}

    def faces(self) -> dict[str, dict]:
        return {face["uri"].rpartition("/")[2]: face for face in table(latest(self.root), "faces")}

    def encoded(self) -> int:
        """How many photos went through the networks."""
        return stages(latest(self.root)).get("detect", {"items_in": 0})["items_in"]


@pytest.fixture
def growing(photos, tmp_path):
    dated = Content(photos["elton_john"][0], last_modified="Mon, 06 Jan 2025 10:00:00 GMT")
    pages = {
        "tagged": photo(photos["madonna"][0]),
        "changing": photo(photos["ben_afflek"][0]),
        "dated": dated,
        "untold": Content(photos["mindy_kaling"][0]),
        "untold-changing": Content(photos["jerry_seinfeld"][0]),
        "late": Status(404),
    }
    with WebSite({("photos.test", f"/{name}"): page for name, page in pages.items()}) as site:
        found = Growing(site, tmp_path / "people.csv", tmp_path / "galleries")
        found.name(*pages)
        assert found.build("--reuse=latest").code == 0  # there is none yet: it is built afresh
        assert found.asked() == dict.fromkeys(pages, (False, 200)) | {"late": (False, 404)}
        assert found.encoded() == 5
        yield found


def test_only_what_changed_is_fetched_and_encoded_anew(growing, photos):
    before = growing.faces()
    growing.site.lay_out(
        {
            ("photos.test", "/changing"): photo(photos["ben_afflek"][1]),
            ("photos.test", "/untold-changing"): Content(photos["jerry_seinfeld"][1]),
            ("photos.test", "/late"): photo(photos["elton_john"][1]),
        }
    )
    ran = growing.build("--reuse=latest")
    assert ran.code == 0
    assert "4 photos taken over from an earlier run" in ran.out
    assert growing.asked() == {
        "tagged": (True, 304), "changing": (True, 200), "dated": (True, 304), "late": (False, 200)
    }  # fmt: skip
    assert growing.encoded() == 2
    after = growing.faces()
    assert growing.ends() == dict.fromkeys(after, ("done", "")) and len(after) == 6
    same = {name for name in before if before[name] == after[name]}
    assert same == {"tagged", "dated", "untold", "untold-changing"}

    assert growing.build("--reuse=latest", "--retry=all").code == 0
    assert growing.asked() == {
        **dict.fromkeys(("tagged", "changing", "dated", "late"), (True, 304)),
        **dict.fromkeys(("untold", "untold-changing"), (False, 200)),
    }
    assert growing.encoded() == 1  # the one whose bytes are others
    last = growing.faces()
    assert {name for name in last if last[name] != after[name]} == {"untold-changing"}


def test_nothing_that_is_known_is_asked_for_again(growing, photos):
    first = latest(growing.root).name
    growing.site.lay_out(
        {
            ("photos.test", "/changing"): photo(photos["ben_afflek"][1]),
            ("photos.test", "/late"): photo(photos["elton_john"][1]),
            ("photos.test", "/new"): photo(photos["mindy_kaling"][1]),
        }
    )
    assert growing.build().code == 0  # another version comes in between
    before = table(growing.root / "celebrities" / first, "faces")
    growing.name("tagged", "changing", "dated", "untold", "untold-changing", "late", "new")
    assert growing.build(f"--reuse={first}", "--retry=none").code == 0
    assert growing.asked() == {"new": (False, 200)}
    assert growing.encoded() == 1
    faces = table(latest(growing.root), "faces")
    assert [face for face in faces if not face["uri"].endswith("/new")] == before
    assert growing.ends()["late"] == ("rejected", "not_found")


def test_a_version_is_reused_only_by_builds_that_would_make_its_rows(growing):
    for flags, told in (
        (["--reuse=latest", "--min_face_px=40"], "built with another set of flags for what is taken for a face"),
        (["--reuse=20000101T000000Z-00000000"], "20000101T000000Z-00000000"),
    ):
        ran = growing.build(*flags)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert told in ran.err
        assert growing.site.log() == []


def test_a_photo_that_a_killed_build_had_is_not_asked_for_again(photos, tmp_path):
    small = [data for person in photos.values() for data in person][:8]
    pages = {(HOSTS[number % 2], f"/{number}.jpg"): photo(data) for number, data in enumerate(small)}
    held = [place for place in pages if place[0] == HOSTS[1]]
    with WebSite({place: Held("gate", page) if place in held else page for place, page in pages.items()}) as site:
        people = write_csv(
            tmp_path / "people.csv",
            [{"name": f"person {number}", "url": site.url(*place)} for number, place in enumerate(pages)],
        )
        arguments = ["build-gallery", f"--source={people}", f"--output_root={tmp_path}", *BUILD, *WEB]
        code = "import sys; from celebface.pipelines import cli; from celebface.transforms import fetch; "
        code += "fetch._PHOTOS_PER_PART = 3; sys.exit(cli.main(sys.argv[1:]))"
        process = subprocess.Popen([sys.executable, "-c", code, *arguments])
        while not (parts := list(tmp_path.glob("celebrities/.staging-*/bytes-*.arrow"))):
            with pytest.raises(subprocess.TimeoutExpired):  # it must not end before it is killed
                process.wait(timeout=0.05)
        process.kill()
        process.wait()
        (part,) = parts
        had = {known.content_sha256 for _, known in read_photo_keys(str(part))}
        assert len(had) == 3
        assert not (tmp_path / "celebrities" / "LATEST").exists()
        site.let_go("gate")
        site.forget()
        assert build(people, tmp_path, *WEB).code == 0
        asked = {one.path for one in site.log() if one.path != "/robots.txt"}
    assert asked == {path for (_, path), data in zip(pages, small, strict=True) if sha256(data) not in had}
    version = latest(tmp_path)
    assert set(ends(version).values()) == {("done", "")} and len(table(version, "faces")) == 8
