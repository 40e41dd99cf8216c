"""celebface build-gallery from lists, web pages, searches and a store, whole, with the real models."""

import collections
import contextlib
import csv
import dataclasses
import functools
import gzip
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

from celebface.indexing import publish
from celebface.models import face_reader
from celebface.pipelines import cli
from celebface.transforms import encode, fetch, sources
from celebface.transforms.sources import ItemSource
from celebface.transforms.web import google

HOSTS = ("photos.test", "pages.test", "moved.test")
CC = "https://creativecommons.org/licenses/by/4.0/"
ZOE = "Zoë Élan 李"


@pytest.fixture(scope="module", autouse=True)
def networks_that_stay():
    """The builds of this process share the networks, which take long to load and do not change."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encode, "load_encoder", functools.cache(encode.load_encoder))
        patched.setattr(face_reader, "FaceReader", functools.cache(face_reader.FaceReader))
        yield


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


def flags_of_build(source: object, root: pathlib.Path, *flags: object) -> list[object]:
    """A build of what is on the hosts of these tests; they are at this machine, and need no pauses."""
    return [
        "build-gallery",
        f"--source={source}",
        f"--output_root={root}",
        "--contact=tests@example.org",
        "--allow_private_hosts",
        *(f"--resolve={host}:127.0.0.1" for host in HOSTS),
        "--host_rate=0",
        "--num_shards=2",
        *flags,
    ]


def build(source: object, root: pathlib.Path, *flags: object) -> Ran:
    return run(*flags_of_build(source, root, *flags))


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


def html(*images: str, head: str = "") -> Content:
    shown = "".join(f'<img src="{image}" alt="">' for image in images)
    return Content(f"<!doctype html><html><head>{head}</head><body>{shown}</body></html>".encode(), "text/html")


# --- a web of lists and pages -----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Web:
    """A site, two lists that lead to it and to files, and what was built of them."""

    site: WebSite
    folder: pathlib.Path
    sources: Sequence[str]
    root: pathlib.Path
    ran: Ran

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
        sources = [f"--source={folder / name}" for name in ("pages.csv", "people.csv")]
        root = folder / "galleries"
        ran = run(*flags_of_build("x", root)[:1], *sources, *flags_of_build("x", root)[2:])
        yield Web(site, folder, sources, root, ran)


def test_a_build_of_lists_and_pages_tells_what_it_did(web):
    assert (web.ran.code, web.ran.err) == (0, "")
    lines = web.ran.out.splitlines()
    assert lines[:2] == [
        "7 pages",
        "17 photos: 9 with faces (9 faces), 11 rejected, 4 skipped",
    ]
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
        web.site.url("pages.test", "/again.html"): ("Madonna", "1 photos found"),
        web.site.url("pages.test", "/old.html"): ("Ben", "1 photos found"),
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
    assert len(web.site.asked("photos.test", "/m0.jpg")) == 1


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
    assert "        2 are given for several people" in web.ran.out


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
    assert items["kinds"] == {"page": 7, "photo": 18}
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


def test_match_takes_urls(web, tmp_path):
    urls = [web.site.url("photos.test", path) for path in ("/zoe.jpg", "/missing.jpg")]
    how = [*flags_of_build("x", tmp_path)[3:6], *flags_of_build("x", tmp_path)[6:-1]]
    ran = run("match", *urls, f"--gallery={web.version}", f"--output={tmp_path / 'out'}", "--top_k=1", *how)
    assert (ran.code, ran.err) == (0, "")
    (row,) = table(tmp_path / "out", "matches")
    assert (row["photo_uri"], row["identity"], row["verdict"]) == (urls[0], ZOE, "match")
    assert row["distance"] == pytest.approx(0, abs=1e-6)
    ledger = {row["uri"]: (row["status"], row["reason"]) for row in table(tmp_path / "out", "ledger")}
    assert ledger == {urls[0]: ("done", ""), urls[1]: ("rejected", "not_found")}
