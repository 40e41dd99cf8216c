"""Photos from the web: what becomes of each answer, whichever hosts it leads through, and where the bytes are kept."""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping

import apache_beam as beam
import fakes
import pyarrow as pa
import pytest
import tenacity
from apache_beam.testing.util import assert_that, equal_to
from web_site import (
    Announced,
    Behaviour,
    Content,
    Raw,
    Redirect,
    RedirectChain,
    Reset,
    ShortBody,
    Silent,
    Site,
    Status,
    WebSite,
    html_as_jpeg,
    photo,
    robots_txt,
)

from celebface.indexing import schemas
from celebface.indexing.schemas import Reason
from celebface.transforms import fetch, hosts
from celebface.transforms.fetch import FetchedPhoto, FetchPhotos, check_body, fetch_photo
from celebface.transforms.hosts import AskHostsDoFn, Wanted, ask_in_rounds, by_host
from celebface.transforms.records import ItemRef, Outcome, Person, Provenance, rejected
from celebface.transforms.resume import ResumeItems
from celebface.transforms.staged import Known, StagedRow, StoredBytes, digest, read_stored
from celebface.transforms.web import client
from celebface.transforms.web.client import Moved, WebClient
from celebface.transforms.web.crawl import Crawl, Host
from celebface.transforms.web.policy import FetchPolicy, WebFault

HOST, PATH = "a.test", "/1.jpg"
DATA, OTHER = b"\xff\xd8 a photo \xff\xd9", b"\xff\xd8 another one \xff\xd9"
DATE, LATER = "Fri, 02 Jan 2026 03:04:05 GMT", "Sat, 03 Jan 2026 03:04:05 GMT"
PLACE = StagedRow("published-1.arrow", 2, 7, "", "a1", "ann")
ROWS = schemas.faces_schema(4)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch):
    monkeypatch.setattr(client, "_BACKOFF", tenacity.wait_fixed(0.01))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def policy_for(site: Site, **fields: object) -> FetchPolicy:
    """A policy that knows nothing of pauses and robots.txt, unless it is told to."""
    rules = {"host_rate": 0, "retries": 0, "robots": False, "threads": 8, "max_bytes": 1 << 20, "total_seconds": 30}
    return FetchPolicy(**{**rules, "addresses": site.addresses, "allow_private_hosts": True, **fields})


def item(site: Site, path: str = PATH, host: str = HOST, who: str | Person = "ann", **fields: object) -> ItemRef:
    return fakes.item(site.url(host, path), who, **fields)


def known_of(ref: ItemRef, content: bytes = DATA, etag: str = "", last_modified: str = "", **fields: object) -> Known:
    """What a published version knows of a photo, under the names that it has in `ref`."""
    named, described = digest(ref.named()), digest(ref.described())
    known = Known("", etag, last_modified, sha256(content), "", 5, PLACE, None, True, named, described)
    return dataclasses.replace(known, **fields)


def restated(ref: ItemRef, known: Known, **changes: str) -> tuple[int, StagedRow]:
    """The place of an outcome that has other names or validators now."""
    kept = {name: getattr(known, name) for name in ("etag", "last_modified", "content_sha256")}
    now = dataclasses.replace(ref, **(kept | changes))
    return 5, dataclasses.replace(PLACE, restated=now, identity=ref.person.name)


# --- one photo --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def one_photo(behaviour: Behaviour, **policy: object) -> Iterator[tuple[Site, Callable, ItemRef]]:
    """A site with one photo; how it is asked for; and the photo."""
    with WebSite({(HOST, PATH): behaviour, ("b.test", PATH): photo(OTHER)}) as site:
        rules = policy_for(site, **policy)
        with contextlib.closing(WebClient(rules)) as web:
            host = Host(HOST, web, rules)
            yield site, lambda ref, known=None: fetch_photo(host, Wanted(ref, ref.uri, known)), item(site)


def had(result: object) -> tuple[ItemRef, bytes]:
    assert isinstance(result, FetchedPhoto)
    return result.ref, result.data


def refusal(ask: Callable, *args: object) -> tuple[Reason, str]:
    with pytest.raises(WebFault) as raised:
        ask(*args)
    return raised.value.reason, str(raised.value)


def test_a_new_photo_is_had_with_what_tells_its_state():
    with one_photo(Content(DATA, etag='"7"', last_modified=DATE)) as (site, ask, ref):
        ref = dataclasses.replace(ref, origin="a.csv:3", provenance=Provenance("https://example.org/", "CC0", "Eve"))
        now = dataclasses.replace(ref, etag='"7"', last_modified=DATE, content_sha256=sha256(DATA))
        assert had(ask(ref)) == (now, DATA)
        [asked] = site.log()
        assert not asked.conditional
        assert asked.headers["accept"] == "image/avif,image/webp,image/jpeg,image/png,image/*;q=0.8"


@pytest.mark.parametrize("etag", ['"Beyonc\xe9"', '"' + "x" * 1023 + '"', '"\x00"'])
def test_validators_that_cannot_be_sent_back_are_forgotten(etag):
    headers = (("ETag", etag), ("Last-Modified", "yesterday"))
    with one_photo(Content(DATA, headers=headers)) as (_, ask, ref):
        now = dataclasses.replace(ref, etag="", last_modified="yesterday", content_sha256=sha256(DATA))
        assert had(ask(ref)) == (now, DATA)


@pytest.mark.parametrize(
    ("etag", "last_modified"), [('"7"', DATE), ('"7"', ""), ("", DATE)], ids=["both", "etag", "date"]
)
def test_a_photo_that_has_not_changed_is_taken_over(etag, last_modified):
    with one_photo(Content(DATA, etag=etag, last_modified=last_modified)) as (site, ask, ref):
        assert ask(ref, known_of(ref, etag=etag, last_modified=last_modified)) == (5, PLACE)
        [asked] = site.log()
        sent = {name: asked.headers.get(name, "") for name in ("if-none-match", "if-modified-since")}
        assert sent == {"if-none-match": etag, "if-modified-since": last_modified}
        assert (asked.status, asked.sent) == (304, 0)


def test_a_photo_that_has_not_changed_is_named_as_it_is_now():
    with one_photo(Content(DATA, etag='"7"')) as (site, ask, ref):
        known = known_of(ref, etag='"7"', last_modified=DATE)
        annie = Person("Annie", ref.person.identity_id)
        renamed = dataclasses.replace(ref, person=annie, origin="b.csv:2")
        assert ask(renamed, known) == restated(renamed, known)
        assert [asked.status for asked in site.log()] == [304]


def test_the_same_content_is_not_kept_again_but_its_new_validators_are():
    with one_photo(Content(DATA, etag='"8"', last_modified=LATER)) as (site, ask, ref):
        known = known_of(ref, etag='"7"', last_modified=DATE)
        assert ask(ref, known) == restated(ref, known, etag='"8"', last_modified=LATER)
        assert site.bodies() == 1


def test_a_server_that_tells_no_longer_what_changed_is_not_asked_so_again():
    with one_photo(Content(DATA, headers=(("ETag", '"\xe9"'),))) as (_, ask, ref):
        known = known_of(ref, etag='"7"', last_modified=DATE)
        assert ask(ref, known) == restated(ref, known, etag="", last_modified="")


def test_a_photo_that_cannot_be_told_to_be_unchanged_is_sent_and_compared():
    with one_photo(Content(DATA)) as (site, ask, ref):
        known = known_of(ref)
        assert ask(ref, known) == restated(ref, known)
        assert [(asked.conditional, asked.status) for asked in site.log()] == [(False, 200)]


def test_a_photo_that_has_changed_is_had():
    with one_photo(Content(OTHER, etag='"8"')) as (_, ask, ref):
        known = known_of(ref, etag='"7"', last_modified=DATE)
        now = dataclasses.replace(ref, etag='"8"', content_sha256=sha256(OTHER))
        assert had(ask(ref, known)) == (now, OTHER)


def test_unchanged_is_not_believed_of_what_was_never_had():
    with one_photo(Status(304)) as (_, ask, ref):
        assert refusal(ask, ref) == (Reason.HTTP_STATUS, "status 304")
        assert refusal(ask, ref, known_of(ref)) == (Reason.HTTP_STATUS, "status 304")  # it has no validators


def test_what_has_not_changed_but_opts_out_now_is_left():
    with one_photo(Status(304, headers=(("X-Robots-Tag", "noai"),))) as (_, ask, ref):
        assert refusal(ask, ref, known_of(ref, etag='"7"')) == (Reason.OPTED_OUT, "X-Robots-Tag: noai")
    with one_photo(Status(304, headers=(("X-Robots-Tag", "noai"),)), opt_outs=False) as (_, ask, ref):
        assert ask(ref, known_of(ref, etag='"7"')) == (5, PLACE)


IN_TROUBLE = {
    "503": (Status(503), Reason.SERVER_ERROR),
    "500": (Status(500), Reason.SERVER_ERROR),
    "429": (Status(429, retry_after="3600"), Reason.RATE_LIMITED),
    "reset": (Reset(), Reason.CONNECTION_FAILED),
    "reset in the body": (Reset(DATA), Reason.CONNECTION_FAILED),
    "not HTTP": (Raw(), Reason.CONNECTION_FAILED),
    "short body": (ShortBody(DATA, 2 * len(DATA)), Reason.TRUNCATED),
    "silent": (Silent(), Reason.TIMEOUT),
}


@pytest.mark.parametrize(("behaviour", "reason"), IN_TROUBLE.values(), ids=IN_TROUBLE)
def test_what_a_host_in_trouble_had_is_kept(behaviour, reason):
    with one_photo(behaviour, read_seconds=0.2) as (site, ask, ref):
        known = known_of(ref, etag='"7"', last_modified=DATE)
        assert ask(ref, known) == (5, PLACE)
        renamed = dataclasses.replace(ref, origin="b.csv:2")
        assert ask(renamed, known) == restated(renamed, known)
        assert refusal(ask, ref)[0] == reason
        assert len(site.log()) == (1 if reason == Reason.RATE_LIMITED else 3)  # then it wants to be left alone


def test_what_a_host_had_is_kept_when_it_is_left_alone():
    with one_photo(Status(503), host_failures=2) as (site, ask, ref):
        assert [refusal(ask, ref)[0] for _ in range(3)] == [Reason.SERVER_ERROR] * 2 + [Reason.HOST_FAILING]
        assert ask(ref, known_of(ref)) == (5, PLACE)
        assert len(site.log()) == 2


def test_what_a_host_had_is_kept_when_its_rules_cannot_be_read():
    with one_photo(photo(DATA), robots=True) as (site, ask, ref):
        site.lay_out({(HOST, "/robots.txt"): Status(500)})
        assert refusal(ask, ref)[0] == Reason.ROBOTS_UNREACHABLE
        assert ask(ref, known_of(ref)) == (5, PLACE)
        assert site.paths(HOST) == ["/robots.txt"]


def test_what_a_host_had_is_kept_when_its_name_is_not_found(monkeypatch):
    class Nameless:
        def get(self, url, **how):
            raise WebFault(Reason.NO_SUCH_HOST, "no address is known", of_host=True)

    ref = fakes.item("https://nowhere.test/1.jpg", "ann")
    host = Host("nowhere.test", Nameless(), FetchPolicy())
    assert fetch_photo(host, Wanted(ref, ref.uri, known_of(ref))) == (5, PLACE)
    assert refusal(fetch_photo, host, Wanted(ref, ref.uri)) == (Reason.NO_SUCH_HOST, "no address is known")


GONE = {
    "404": (Status(404), Reason.NOT_FOUND),
    "410": (Status(410), Reason.GONE),
    "403": (Status(403), Reason.FORBIDDEN),
    "418": (Status(418), Reason.HTTP_STATUS),
    "too large": (Announced(1 << 40), Reason.TOO_MANY_BYTES),
    "redirects without end": (RedirectChain(), Reason.TOO_MANY_REDIRECTS),
    "redirect to a file": (Redirect("file:///etc/passwd"), Reason.BAD_URL),
    "a web page": (html_as_jpeg(), Reason.HTML_PAGE),
    "empty": (Content(b""), Reason.EMPTY),
    "opted out": (Content(DATA, headers=(("TDM-Reservation", "1"),)), Reason.OPTED_OUT),
}


@pytest.mark.parametrize(("behaviour", "reason"), GONE.values(), ids=GONE)
def test_what_is_there_no_longer_is_lost_though_it_was_had(behaviour, reason):
    with one_photo(behaviour) as (_, ask, ref):
        assert refusal(ask, ref, known_of(ref, etag='"7"', last_modified=DATE))[0] == reason
        assert refusal(ask, ref)[0] == reason


def test_what_robots_txt_forbids_now_is_lost():
    with one_photo(photo(DATA), robots=True) as (site, ask, ref):
        site.lay_out({(HOST, "/robots.txt"): robots_txt("User-agent: *\nDisallow: /\n")})
        assert refusal(ask, ref, known_of(ref))[0] == Reason.ROBOTS_DISALLOWED


def test_a_photo_on_another_host_is_asked_for_in_its_turn():
    with one_photo(Redirect("http://b.test:{port}/1.jpg#there")) as (site, ask, ref):
        for known in (None, known_of(ref, etag='"7"')):
            with pytest.raises(Moved) as moved:
                ask(ref, known)
            assert moved.value.url == site.url("b.test", PATH)
        assert not site.asked("b.test")


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE html>",
        b"<!doctype HTML PUBLIC>",
        b"<html lang=en>",
        b"<HEAD>",
        b"<body>",
        b"\xef\xbb\xbf<html>",
        b" \r\n\t<html>",
        b"\xef\xbb\xbf \n" + b" " * 500 + b"<html>",
    ],
)
def test_a_web_page_is_named_as_one(body):
    assert refusal(check_body, body) == (Reason.HTML_PAGE, "a web page, not a photo")


def test_no_bytes_are_no_photo():
    assert refusal(check_body, b"") == (Reason.EMPTY, "the answer has no bytes")


@pytest.mark.parametrize(
    "body", [DATA, b"\0", b" ", b"{}", b"<svg>", b"<?xml version='1.0'?>", b" " * 512 + b"<html>", b"GIF89a<html>"]
)
def test_other_bytes_are_left_to_the_decoder(body):
    check_body(body)


# --- in a pipeline ----------------------------------------------------------------------------------------------------


def fetched(handed_on: tuple[ItemRef, StoredBytes]) -> tuple[ItemRef, bytes]:
    ref, stored = handed_on
    return ref, read_stored(stored)


def ledger_row(outcome: Outcome) -> dict[str, object]:
    return outcome.ledger_row()


def run(items: list[tuple[ItemRef, Known | None]], rules: FetchPolicy, folder: pathlib.Path, ends: Mapping) -> dict:
    """Fetches photos, checks how they end (by "fresh", "staged" and "lost"), and returns the counters."""
    with fakes.pipeline() as pipeline:
        fresh, staged, lost = pipeline | beam.Create(items) | FetchPhotos(rules, str(folder))
        assert_that(fresh | "Fetched" >> beam.Map(fetched), equal_to(ends.get("fresh", [])), "Fresh")
        assert_that(staged, equal_to(ends.get("staged", [])), "Staged")
        assert_that(lost | "Row" >> beam.Map(ledger_row), equal_to(ends.get("lost", [])), "Lost")
    counted = fakes.counters(pipeline.result, "fetch")
    lost_ones = sum(count for name, count in counted.items() if name.startswith("lost_"))
    taken_over = counted.get("noted_taken_over", 0)
    assert counted["items_in"] == counted.get("items_out", 0) + lost_ones + taken_over == len(items)
    return counted


def with_state(ref: ItemRef, content: Content) -> ItemRef:
    """A reference that knows a photo that was had."""
    return dataclasses.replace(
        ref, etag=content.etag, last_modified=content.last_modified, content_sha256=sha256(content.data)
    )


def lost_row(ref: ItemRef, reason: Reason, detail: str) -> dict[str, object]:
    return rejected(ref, "fetch", reason, detail).ledger_row()


def test_every_photo_is_handed_on_taken_over_or_lost_with_a_reason(tmp_path):
    tagged, dated = Content(DATA, etag='"7"'), Content(OTHER, last_modified=DATE)
    pages = {
        (HOST, "/tagged.jpg"): tagged,
        (HOST, "/dated.jpg"): dated,
        (HOST, "/chain.jpg"): RedirectChain(3, tagged),
        (HOST, "/page.jpg"): html_as_jpeg(),
        (HOST, "/empty.jpg"): Content(b""),
        (HOST, "/gone.jpg"): Status(410),
        (HOST, "/same.jpg"): tagged,
        (HOST, "/new-tag.jpg"): dataclasses.replace(tagged, etag='"8"'),
        (HOST, "/changed.jpg"): dataclasses.replace(dated, last_modified=LATER),
        ("b.test", "/1.jpg"): dated,
        ("b.test", "/sick.jpg"): Status(503),
        ("b.test", "/sick-and-known.jpg"): Status(503),
    }
    with WebSite(pages) as site:
        refs = {path: item(site, path, host, origin=f"a.csv:{n}") for n, (host, path) in enumerate(pages)}
        known = {
            path: known_of(refs[path], DATA, '"7"', DATE)
            for path in ("/same.jpg", "/new-tag.jpg", "/changed.jpg", "/sick-and-known.jpg")
        }
        ends = {
            "fresh": [
                (with_state(refs["/tagged.jpg"], tagged), DATA),
                (with_state(refs["/dated.jpg"], dated), OTHER),
                (with_state(refs["/chain.jpg"], tagged), DATA),
                (with_state(refs["/changed.jpg"], pages[HOST, "/changed.jpg"]), OTHER),
                (with_state(refs["/1.jpg"], dated), OTHER),
            ],
            "staged": [
                (5, PLACE),
                restated(refs["/new-tag.jpg"], known["/new-tag.jpg"], etag='"8"', last_modified=""),
                (5, PLACE),
            ],
            "lost": [
                lost_row(refs["/page.jpg"], Reason.HTML_PAGE, "a web page, not a photo"),
                lost_row(refs["/empty.jpg"], Reason.EMPTY, "the answer has no bytes"),
                lost_row(refs["/gone.jpg"], Reason.GONE, "status 410"),
                lost_row(refs["/sick.jpg"], Reason.SERVER_ERROR, "status 503"),
            ],
        }
        items = [(ref, known.get(path)) for path, ref in refs.items()]
        assert run(items, policy_for(site, retries=1), tmp_path, ends) == {
            "items_in": 12,
            "items_out": 5,
            "noted_taken_over": 3,
            "noted_bytes": 2 * len(DATA) + 3 * len(OTHER),
            "lost_html_page": 1,
            "lost_empty": 1,
            "lost_gone": 1,
            "lost_server_error": 1,
        }
        assert len(site.asked("b.test", "/sick.jpg")) == 2


TOO_MANY = Reason.TOO_MANY_REDIRECTS
LED = "it leads through more than 3 hosts"


@pytest.mark.parametrize(
    ("length", "found"), [(1, True), (2, True), (3, True), (4, False)], ids=["one", "two", "three", "too many"]
)
def test_a_photo_may_lead_through_three_hosts(tmp_path, length, found):
    content = Content(DATA, etag='"7"')
    names = ["a.test", "b.test", "c.test", "d.test"][:length]
    pages: dict[tuple[str, str], Behaviour] = {}
    for name, following in itertools.pairwise(names):
        pages[name, PATH] = Redirect("/2.jpg")  # on the same host, too
        pages[name, "/2.jpg"] = Redirect(f"//{following}:{{port}}{PATH}")
    pages[names[-1], PATH] = content
    with WebSite(pages) as site:
        ref = item(site)
        ends = {"fresh": [(with_state(ref, content), DATA)]} if found else {"lost": [lost_row(ref, TOO_MANY, LED)]}
        counted = run([(ref, None)], policy_for(site), tmp_path, ends)
        assert counted == (
            {"items_in": 1, "items_out": 1, "noted_bytes": len(DATA)}
            if found
            else {"items_in": 1, "lost_too_many_redirects": 1}
        )
        hops = [(name, path) for name in names[:-1] for path in (PATH, "/2.jpg")]
        assert [(asked.host, asked.path) for asked in site.log()] == [*hops, *([(names[-1], PATH)] if found else [])]


def test_hosts_that_lead_to_each_other_do_not_do_so_for_ever(tmp_path):
    pages = {
        (name, PATH): Redirect(f"//{other}:{{port}}{PATH}")
        for name, other in (("a.test", "b.test"), ("b.test", "a.test"))
    }
    with WebSite(pages) as site:
        refs = [item(site, host=name) for name in ("a.test", "b.test")]
        ends = {"lost": [lost_row(ref, TOO_MANY, LED) for ref in refs]}
        counted = run([(ref, None) for ref in refs], policy_for(site), tmp_path, ends)
        assert counted == {"items_in": 2, "lost_too_many_redirects": 2}
        assert sorted(asked.host for asked in site.log()) == ["a.test"] * 3 + ["b.test"] * 3


def test_each_host_on_the_way_is_asked_what_changed_and_by_its_own_rules(tmp_path):
    content = Content(DATA, etag='"7"')
    pages = {
        ("a.test", "/same.jpg"): Redirect("//b.test:{port}/same.jpg"),
        ("a.test", "/private.jpg"): Redirect("//b.test:{port}/private.jpg"),
        ("a.test", "/sick.jpg"): Redirect("//b.test:{port}/sick.jpg"),
        ("b.test", "/same.jpg"): content,
        ("b.test", "/private.jpg"): content,
        ("b.test", "/sick.jpg"): Status(503),
        ("b.test", "/robots.txt"): robots_txt("User-agent: *\nDisallow: /private\n"),
    }
    with WebSite(pages) as site:
        same, private, sick = (item(site, f"/{name}.jpg") for name in ("same", "private", "sick"))
        forbidden = lost_row(private, Reason.ROBOTS_DISALLOWED, "robots.txt does not allow it")
        items = [(ref, known_of(ref, etag='"7"')) for ref in (same, private, sick)]
        rules = policy_for(site, robots=True)
        counted = run(items, rules, tmp_path, {"staged": [(5, PLACE)] * 2, "lost": [forbidden]})
        assert counted == {"items_in": 3, "noted_taken_over": 2, "lost_robots_disallowed": 1}
        [asked] = site.asked("b.test", "/same.jpg")
        assert (asked.headers["if-none-match"], asked.status) == ('"7"', 304)
        assert sorted(site.paths("b.test")) == ["/robots.txt", "/same.jpg", "/sick.jpg"]
    assert list(tmp_path.iterdir()) == []


def test_a_photo_that_several_places_lead_to_is_had_for_each(tmp_path):
    content = Content(DATA, etag='"7"')
    pages = {(f"{n}.test", PATH): Redirect(f"//cdn.test:{{port}}{PATH}") for n in range(5)} | {
        ("cdn.test", PATH): content
    }
    with WebSite(pages) as site:
        refs = [item(site, host=f"{n}.test") for n in range(5)]
        ends = {"fresh": [(with_state(ref, content), DATA) for ref in refs]}
        counted = run([(ref, None) for ref in refs], policy_for(site, host_connections=2), tmp_path, ends)
        assert counted == {"items_in": 5, "items_out": 5, "noted_bytes": 5 * len(DATA)}
        assert len(site.asked("cdn.test")) == 5
        assert site.most_at_once("cdn.test") <= 2


def test_a_host_may_have_several_workers(tmp_path):
    pages = many(40)
    with WebSite(pages) as site:
        refs = [item(site, path=f"/{n}.jpg") for n in range(40)]
        answers = [pages[HOST, f"/{n}.jpg"] for n in range(40)]
        ends = {"fresh": [(with_state(ref, each), each.data) for ref, each in zip(refs, answers, strict=True)]}
        rules = policy_for(site, host_connections=4, host_workers=3)
        run([(ref, None) for ref in refs], rules, tmp_path, ends)
        assert site.most_at_once(HOST) <= 3  # a connection for each worker
    asked = [by_host(Wanted(ref, ref.uri), 3) for ref in refs]
    photos = collections.Counter(worker for worker, _ in asked)
    assert photos.keys() == {HOST, f"{HOST}#2", f"{HOST}#3"}
    assert min(photos.values()) > 5
    assert asked == [by_host(Wanted(ref, ref.uri), 3) for ref in refs]


# --- parts ------------------------------------------------------------------------------------------------------------


def photos_of(part: pathlib.Path) -> list[dict[str, object]]:
    with pa.ipc.open_file(part.read_bytes()) as reader:
        return [row for number in range(reader.num_record_batches) for row in reader.get_batch(number).to_pylist()]


def many(count: int) -> dict[tuple[str, str], Content]:
    return {
        (HOST, f"/{n}.jpg"): Content(b"\xff\xd8 photo %d" % n, etag=f'"{n}"', last_modified=DATE) for n in range(count)
    }


def fetch_all(site: Site, folder: pathlib.Path) -> list[list[dict[str, object]]]:
    """Fetches the photos of a site, which are all good; returns what the parts hold."""
    refs = [(item(site, path, host), content) for (host, path), content in site.pages.items()]
    ends = {"fresh": [(with_state(ref, content), content.data) for ref, content in refs]}
    counted = run([(ref, None) for ref, _ in refs], policy_for(site), folder, ends)
    total = sum(len(content.data) for _, content in refs)
    assert counted == {"items_in": len(refs), "items_out": len(refs), "noted_bytes": total}
    assert all(part.name.startswith("bytes-") and part.suffix == ".arrow" for part in folder.iterdir())
    kept = [photos_of(part) for part in folder.iterdir()]
    expected = [
        {
            "item_id": ref.item_id,
            "etag": content.etag,
            "last_modified": content.last_modified,
            "content_sha256": sha256(content.data),
            "data": content.data,
        }
        for ref, content in refs
    ]
    rows = sorted((row for part in kept for row in part), key=lambda row: row["item_id"])
    assert rows == sorted(expected, key=lambda row: row["item_id"])
    return kept


def test_photos_of_a_bundle_are_kept_in_one_part_by_their_ids(tmp_path):
    with WebSite(many(20)) as site:
        (rows,) = fetch_all(site, tmp_path)
    assert [row["item_id"] for row in rows] == sorted(row["item_id"] for row in rows)


@pytest.mark.parametrize(
    ("bound", "value", "sizes"),
    [
        ("_PHOTOS_PER_PART", 3, [1, 3, 3, 3]),
        ("_BYTES_PER_PART", 2 * len(b"\xff\xd8 photo 0"), [2, 2, 2, 2, 2]),
        ("_SECONDS_PER_PART", -1, [1] * 10),
    ],
)
def test_no_part_grows_without_bound(tmp_path, monkeypatch, bound, value, sizes):
    monkeypatch.setattr(fetch, bound, value)
    with WebSite(many(10)) as site:
        assert sorted(map(len, fetch_all(site, tmp_path))) == sizes


def test_a_killed_run_does_not_ask_again_for_what_it_had(tmp_path):
    with WebSite(many(4)) as site:
        fetch_all(site, tmp_path)
        refs = [(item(site, path, origin="a.csv:1"), content) for (_, path), content in site.pages.items()]
        new = item(site, "/new.jpg")
    with fakes.pipeline() as pipeline:
        keyed = pipeline | beam.Create([(ref.item_id, ref) for ref in [new, *(ref for ref, _ in refs)]])
        found = keyed | ResumeItems(str(tmp_path), ROWS, 3)
        had_before = [(with_state(ref, content), content.data) for ref, content in refs]
        assert_that(found.fresh | "Fetched" >> beam.Map(fetched), equal_to(had_before), "Fresh")
        assert_that(found.web, equal_to([(new, None)]), "Web")


# --- hosts ------------------------------------------------------------------------------------------------------------


class Noting(AskHostsDoFn):
    """Asks for nothing: an item's url says what becomes of it."""

    def __init__(self, round_number: int, mark: str = ""):
        super().__init__("noting", FetchPolicy(threads=4, host_rate=0), round_number)
        self._number = round_number
        self._mark = mark

    def start_bundle(self):
        self._taken = 0

    def ask(self, host, wanted):
        match wanted.url.rpartition("/")[2].split("-"):
            case ["defect"]:
                raise KeyError("a defect")
            case ["lost"]:
                raise WebFault(Reason.FORBIDDEN, "status 403")
            case ["to", *names] if names:
                raise Moved(f"http://{names[0]}/{'-'.join(['to', *names[1:]])}")
        return host.name, wanted.ref.uri, self._number

    def take(self, result):
        self._taken += 1
        yield result
        yield beam.pvalue.TaggedOutput("names", result[0])

    def flush(self):
        yield beam.pvalue.TaggedOutput("names", f"{self._taken} taken in round {self._number}")


def wanted(*urls: str) -> list[Wanted]:
    return [Wanted(fakes.item(url, "ann"), url) for url in urls]


def test_items_are_asked_for_by_host_and_again_where_they_lead_to():
    urls = ["http://a/1", "http://b/2", "http://a/to-b", "http://a/to-b-c", "http://b/to-a-b-c", "http://c/lost"]
    with fakes.pipeline() as pipeline:
        found = ask_in_rounds(pipeline | beam.Create(wanted(*urls)), Noting, ["names"], 1)
        assert set(found) == {"main", "lost", "names"}
        results = [
            ("a", "http://a/1", 0),
            ("b", "http://b/2", 0),
            ("b", "http://a/to-b", 1),
            ("c", "http://a/to-b-c", 2),
        ]
        assert_that(found["main"], equal_to(results), "Main")
        losses = [
            rejected(fakes.item(urls[4], "ann"), "noting", TOO_MANY, LED),
            rejected(fakes.item(urls[5], "ann"), "noting", Reason.FORBIDDEN, "status 403"),
        ]
        assert_that(
            found["lost"] | beam.Map(ledger_row), equal_to([outcome.ledger_row() for outcome in losses]), "Lost"
        )
        taken = found["names"] | beam.Filter(lambda name: "taken" not in name)
        assert_that(taken, equal_to(["a", "b", "b", "c"]), "Names")
        flushed = (
            found["names"]
            | "Flushed" >> beam.Filter(lambda name: "taken" in name)
            | beam.Map(lambda name: (name.partition(" ")[2], int(name.split()[0])))
            | beam.CombinePerKey(sum)
        )
        expected = [("taken in round 0", 2), ("taken in round 1", 1), ("taken in round 2", 1)]
        assert_that(flushed, equal_to(expected), "Bundles")
    assert fakes.counters(pipeline.result, "noting") == {"lost_forbidden": 1, "lost_too_many_redirects": 1}


def test_a_defect_ends_the_run():
    with pytest.raises(Exception, match="a defect"), fakes.pipeline() as pipeline:
        ask_in_rounds(pipeline | beam.Create(wanted("http://a/1", "http://a/defect")), Noting, ["names"], 1)


def test_a_worker_forgets_each_host_when_it_has_all_its_items(monkeypatch):
    events = []

    class Noted(Crawl):
        def add(self, host, item):
            events.append(("add", host))
            super().add(host, item)

        def end(self, host):
            events.append(("end", host))
            super().end(host)

    monkeypatch.setattr(hosts, "Crawl", Noted)
    step = Noting(0)
    step.setup()
    step.start_bundle()
    results = []
    for host in ("a", "b"):
        results += step.process((host, wanted(*(f"http://{host}/{number}" for number in range(2)))))
    results += [windowed.value for windowed in step.finish_bundle()]
    step.teardown()
    assert events == [("add", "a"), ("add", "a"), ("end", "a"), ("add", "b"), ("add", "b"), ("end", "b")]
    done = [result for result in results if isinstance(result, tuple)]
    assert sorted(done) == [(host, f"http://{host}/{number}", 0) for host in "ab" for number in range(2)]


def test_a_worker_holds_no_more_items_than_it_may(monkeypatch):
    monkeypatch.setattr(hosts, "_IN_HAND", 3)
    step = Noting(0)
    step.setup()
    step.start_bundle()
    early = [
        result for result in step.process(("a", wanted(*(f"http://a/{n}" for n in range(50))))) if type(result) is tuple
    ]
    late = [windowed.value for windowed in step.finish_bundle() if type(windowed.value) is tuple]
    step.teardown()
    assert (len(early), len(late)) == (47, 3)
    assert sorted(early + late) == sorted(("a", f"http://a/{n}", 0) for n in range(50))
