"""Pages and names to photos: who is on them, where they are from, and what becomes of pages and names without any."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence

import apache_beam as beam
import fakes
import pytest
import tenacity
from apache_beam.testing.util import assert_that, equal_to
from web_site import Announced, Content, Redirect, Site, Status, WebSite, photo, robots_txt

from celebface.indexing import schemas
from celebface.indexing.schemas import Kind, Reason
from celebface.transforms import search
from celebface.transforms.hosts import Wanted
from celebface.transforms.records import ItemRef, Outcome, Person, Provenance, rejected
from celebface.transforms.scrape import ScrapePages
from celebface.transforms.search import SearchImages
from celebface.transforms.web import client
from celebface.transforms.web.client import WebClient
from celebface.transforms.web.crawl import Host
from celebface.transforms.web.policy import FetchPolicy, WebFault
from celebface.transforms.web.providers import Ask, FoundImage, FoundPerson

HOST = "a.test"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch):
    monkeypatch.setattr(client, "_BACKOFF", tenacity.wait_fixed(0.01))


def policy_for(site: Site, **fields: object) -> FetchPolicy:
    rules = {"host_rate": 0, "retries": 0, "robots": False, "threads": 8, "total_seconds": 30}
    return FetchPolicy(**{**rules, "addresses": site.addresses, "allow_private_hosts": True, **fields})


def ledger_row(outcome: Outcome) -> dict[str, object]:
    return outcome.ledger_row()


def done_row(ref: ItemRef, stage: str, detail: str) -> dict[str, object]:
    return Outcome(ref, schemas.Status.DONE, stage, detail=detail).ledger_row()


def keyed(photos: Sequence[ItemRef]) -> list[tuple[str, ItemRef]]:
    return [(ref.item_id, ref) for ref in photos]


def check(found: tuple, photos: Sequence[ItemRef], done: Sequence[Mapping], lost: Sequence[Mapping]) -> None:
    """Checks the three collections of a step."""
    links, names, losses = found
    assert_that(links, equal_to(keyed(photos)), "Photos")
    assert_that(names | "DoneRow" >> beam.Map(ledger_row), equal_to(done), "Done")
    assert_that(losses | "LostRow" >> beam.Map(ledger_row), equal_to(lost), "Lost")


# --- pages ------------------------------------------------------------------------------------------------------------

BOB = Person.of("Bob", "wikidata:Q7", ["B.", "Bobby"])
LICENSED = '<link rel="license" href="/licence"><meta name="author" content="nobody">'


def html(*images: str, head: str = "", **fields: object) -> Content:
    """A page that shows photos."""
    body = "".join(f'<p><img src="{image}" alt="a photo" width="640" height="480"></p>' for image in images)
    text = f"<!DOCTYPE html><html><head><title>Photos</title>{head}</head><body>{body}</body></html>"
    return Content(text.encode(), "text/html; charset=utf-8", **fields)


def page(site: Site, path: str, host: str = HOST, who: str | Person = "ann", **fields: object) -> ItemRef:
    return fakes.item(site.url(host, path), who, kind=Kind.PAGE, **fields)


def scraped(pages: Sequence[ItemRef], rules: FetchPolicy, limit: int, photos, done, lost) -> dict[str, int]:
    """Scrapes pages, checks what comes of them, and returns the counters."""
    with fakes.pipeline() as pipeline:
        check(pipeline | beam.Create(pages) | ScrapePages(rules, limit), photos, done, lost)
    return fakes.counters(pipeline.result, "scrape")


def test_photos_of_pages_are_of_the_person_that_the_page_was_given_for():
    pages = {
        (HOST, "/ann"): html("/1.jpg", "//b.test/2.jpg", "https://c.test/3.png", "/4.jpg", head=LICENSED),
        (HOST, "/bob"): html("/bob.jpg"),
    }
    with WebSite(pages) as site:
        ann = page(site, "/ann", origin="people.csv:2")
        bob = page(site, "/bob", who=BOB)  # named by itself, and not on a row
        root = site.url(HOST)[:-1]
        licence = Provenance(f"{root}/ann", f"{root}/licence")
        photos = [
            fakes.item(url, "ann", origin="people.csv:2", provenance=licence)
            for url in (f"{root}/1.jpg", "http://b.test/2.jpg", "https://c.test/3.png")
        ]
        photos.append(fakes.item(f"{root}/bob.jpg", BOB, origin=bob.uri, provenance=Provenance(f"{root}/bob")))
        done = [done_row(ann, "scrape", "3 photos found"), done_row(bob, "scrape", "1 photo found")]
        counted = scraped([ann, bob], policy_for(site), 3, photos, done, [])
        assert counted == {"items_out": 2, "noted_found": 4}
        assert {asked.headers["accept"] for asked in site.log()} == {"text/html,application/xhtml+xml;q=0.9"}
        assert [asked.headers["accept-encoding"] for asked in site.log()] == ["gzip, identity;q=0.5"] * 2


def test_what_the_list_says_of_a_page_goes_before_what_the_page_says():
    credit = '<script type="application/ld+json">{"@type": "ImageObject", "creditText": "The Page"}</script>'
    with WebSite({(HOST, "/ann"): html("/1.jpg", head=LICENSED + credit)}) as site:
        root = site.url(HOST)[:-1]
        found = [
            (Provenance(), Provenance(f"{root}/ann", f"{root}/licence", "The Page")),
            (Provenance("", "CC0", "Eve"), Provenance(f"{root}/ann", "CC0", "Eve")),
            (Provenance("", "", "Eve"), Provenance(f"{root}/ann", f"{root}/licence", "Eve")),
            (Provenance("", "CC0", ""), Provenance(f"{root}/ann", "CC0", "The Page")),
        ]
        for given, expected in found:
            ref = page(site, "/ann", origin="a.csv:1", provenance=given)
            photos = [fakes.item(f"{root}/1.jpg", "ann", origin="a.csv:1", provenance=expected)]
            scraped([ref], policy_for(site), 20, photos, [done_row(ref, "scrape", "1 photo found")], [])


def test_a_page_that_has_moved_to_another_host_is_read_there():
    pages = {
        (HOST, "/ann"): Redirect("//b.test:{port}/people/ann"),
        ("b.test", "/people/ann"): html("1.jpg"),
        ("b.test", "/robots.txt"): robots_txt("User-agent: *\nDisallow: /people/eve\n"),
        (HOST, "/eve"): Redirect("//b.test:{port}/people/eve"),
        ("b.test", "/people/eve"): html("1.jpg"),
    }
    with WebSite(pages) as site:
        ann, eve = page(site, "/ann", origin="a.csv:1"), page(site, "/eve", origin="a.csv:2")
        there = site.url("b.test", "/people/")
        photos = [fakes.item(f"{there}1.jpg", "ann", origin="a.csv:1", provenance=Provenance(f"{there}ann"))]
        lost = [rejected(eve, "scrape", Reason.ROBOTS_DISALLOWED, "robots.txt does not allow it").ledger_row()]
        done = [done_row(ann, "scrape", "1 photo found")]
        counted = scraped([ann, eve], policy_for(site, robots=True), 20, photos, done, lost)
        assert counted == {"items_out": 1, "noted_found": 1, "lost_robots_disallowed": 1}


NO_PHOTOS = {
    "none": (html(), Reason.NO_IMAGES, "no photo was found on it"),
    "only icons": (html("/favicon.ico", "/logo.svg"), Reason.NO_IMAGES, "no photo was found on it"),
    "a photo": (photo(b"\xff\xd8\xff a photo"), Reason.NOT_HTML, None),
    "too large": (Announced((8 << 20) + 1), Reason.TOO_MANY_BYTES, "more are announced than the limit, 8388608 bytes"),
    "gone": (Status(410), Reason.GONE, "status 410"),
    "opts out": (html("/1.jpg", head='<meta name="robots" content="noai">'), Reason.OPTED_OUT, "meta tag: noai"),
    "opts out by a header": (
        html("/1.jpg", headers=(("X-Robots-Tag", "noai"),)),
        Reason.OPTED_OUT,
        "X-Robots-Tag: noai",
    ),
}


@pytest.mark.parametrize(("behaviour", "reason", "detail"), NO_PHOTOS.values(), ids=NO_PHOTOS)
def test_a_page_without_photos_is_lost_with_a_reason(behaviour, reason, detail):
    with WebSite({(HOST, "/ann"): behaviour}) as site:
        ref = page(site, "/ann", origin="a.csv:1")
        with fakes.pipeline() as pipeline:
            links, done, lost = pipeline | beam.Create([ref]) | ScrapePages(policy_for(site), 20)
            assert_that(links, equal_to([]), "Photos")
            assert_that(done, equal_to([]), "Done")
            found = lost | "What" >> beam.Map(lambda outcome: (outcome.ref, outcome.stage, outcome.reason))
            assert_that(found, equal_to([(ref, "scrape", reason)]), "Lost")
            if detail is not None:
                assert_that(lost | "Detail" >> beam.Map(lambda outcome: outcome.detail), equal_to([detail]), "Why")
        assert fakes.counters(pipeline.result, "scrape") == {f"lost_{reason}": 1}


def test_opt_outs_of_pages_may_be_overlooked():
    headers = (("X-Robots-Tag", "noai"),)
    with WebSite({(HOST, "/"): html("/1.jpg", head='<meta name="robots" content="noai">', headers=headers)}) as site:
        ref = page(site, "/", origin="a.csv:1")
        found = fakes.item(f"{ref.uri}1.jpg", "ann", origin="a.csv:1", provenance=Provenance(ref.uri))
        scraped([ref], policy_for(site, opt_outs=False), 20, [found], [done_row(ref, "scrape", "1 photo found")], [])


# --- names ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Provider:
    """Finds what a page of the site, named as the person, says: a FoundPerson, or a fault.

    Attributes:
      root: Of the site.
    """

    root: str
    name = "fake"
    host = HOST

    def find(self, person: Person, limit: int, ask: Ask) -> FoundPerson:
        answer = json.loads(ask(f"{self.root}/{person.name}", accept="application/json").body)
        if "reason" in answer:
            raise WebFault(Reason(answer["reason"]), answer["detail"], of_host=answer["of_host"])
        images = tuple(FoundImage(**image) for image in answer["images"][:limit])
        return FoundPerson(answer["external_id"], tuple(answer["aliases"]), images)


def knows(*paths: str, external_id: str = "", aliases: Sequence[str] = ()) -> Content:
    """The provider knows somebody, and photos of them."""
    images = [
        {
            "url": f"https://photos.test{path}",
            "page": f"https://photos.test/about{path}",
            "licence": "CC0",
            "author": "Eve",
        }
        for path in paths
    ]
    return as_json({"external_id": external_id, "aliases": list(aliases), "images": images})


def refuses(reason: Reason, detail: str, of_host: bool = True) -> Content:
    """The provider answers with a fault."""
    return as_json({"reason": reason, "detail": detail, "of_host": of_host})


def as_json(content: object) -> Content:
    return Content(json.dumps(content).encode(), "application/json")


def name_of(who: str | Person, **fields: object) -> ItemRef:
    person = fakes.person(who)
    return fakes.item(f"name:{person.name}", person, kind=Kind.NAME, **fields)


def found_photo(path: str, who: Person, origin: str = "") -> ItemRef:
    """A photo as `knows` tells of it."""
    provenance = Provenance(f"https://photos.test/about{path}", "CC0", "Eve")
    return fakes.item(f"https://photos.test{path}", who, origin=origin, provenance=provenance)


def searched(site: Site, names: Sequence[ItemRef], limit: int, photos, done, lost) -> dict[str, int]:
    """Searches for names, checks what comes of them, and returns the counters."""
    with fakes.pipeline() as pipeline:
        provider = Provider(site.url(HOST)[:-1])
        found = pipeline | beam.Create(names) | SearchImages(provider, policy_for(site, host_connections=1), limit)
        check(found, photos, done, lost)
    return fakes.counters(pipeline.result, "search")


def test_photos_of_names_keep_what_the_provider_says_of_them():
    pages = {(HOST, "/ann"): knows("/1.jpg", "/2.jpg", "/3.jpg"), (HOST, "/bob"): knows("/bob.jpg")}
    with WebSite(pages) as site:
        ann, bob = name_of("ann", origin="names.txt:1"), name_of("bob", origin="names.txt:2")
        photos = [found_photo(path, ann.person, "names.txt:1") for path in ("/1.jpg", "/2.jpg")]
        photos.append(found_photo("/bob.jpg", bob.person, "names.txt:2"))
        done = [done_row(ann, "search", "2 photos found"), done_row(bob, "search", "1 photo found")]
        counted = searched(site, [ann, bob], 2, photos, done, [])
        assert counted == {"items_out": 2, "noted_found": 3}
        assert sorted(site.paths(HOST)) == ["/ann", "/bob"]


def test_what_the_provider_knows_of_a_person_is_added_to_what_the_list_does():
    """The person stays the one of the list, so all photos of them meet, whoever named them."""
    pages = {
        (HOST, "/ann"): knows("/ann.jpg", external_id="wikidata:Q1", aliases=["Annie", "Queen Bee"]),
        (HOST, "/bob"): knows("/bob.jpg", external_id="wikidata:Q8", aliases=["Bobby", "Robert"]),
    }
    with WebSite(pages) as site:
        ann, bob = name_of("ann"), name_of(BOB)
        found_ann = Person("ann", ann.person.identity_id, "wikidata:Q1", ("Annie", "Queen Bee"))
        found_bob = Person("Bob", BOB.identity_id, "wikidata:Q7", ("B.", "Bobby", "Robert"))
        site.lay_out({(HOST, "/Bob"): pages[HOST, "/bob"]})
        photos = [found_photo("/ann.jpg", found_ann), found_photo("/bob.jpg", found_bob)]
        done = [done_row(ann, "search", "1 photo found"), done_row(bob, "search", "1 photo found")]
        searched(site, [ann, bob], 20, photos, done, [])
        for ref, given in zip(photos, (ann, bob), strict=True):
            assert ref.item_id == fakes.item(ref.uri, given.person).item_id


def test_homonyms_stay_two_people():
    actor, footballer = (Person.of("Chris", external_id) for external_id in ("wikidata:Q1", "wikidata:Q2"))
    with WebSite({(HOST, "/Chris"): knows("/1.jpg", external_id="wikidata:Q1")}) as site:
        names = [name_of(who, origin=f"a.csv:{n}") for n, who in enumerate((actor, footballer))]
        photos = [found_photo("/1.jpg", who, f"a.csv:{n}") for n, who in enumerate((actor, footballer))]
        assert len({ref.item_id for ref in photos}) == 2
        searched(site, names, 20, photos, [done_row(ref, "search", "1 photo found") for ref in names], [])


OF_ONE_NAME = {
    "unknown": (refuses(Reason.UNKNOWN_PERSON, "nobody of this name", of_host=False), Reason.UNKNOWN_PERSON),
    "no photo": (refuses(Reason.NO_IMAGES, "no photo", of_host=False), Reason.NO_IMAGES),
    "odd answer": (refuses(Reason.PROVIDER_ERROR, "the answer is no JSON", of_host=False), Reason.PROVIDER_ERROR),
    "503": (Status(503), Reason.SERVER_ERROR),
    "403": (Status(403), Reason.FORBIDDEN),
    "moved": (Redirect("http://b.test:{port}/"), Reason.NOT_FOUND),
}


@pytest.mark.parametrize(("behaviour", "reason"), OF_ONE_NAME.values(), ids=OF_ONE_NAME)
def test_a_fault_of_one_name_does_not_keep_others_from_being_searched(behaviour, reason):
    names = [f"n{number}" for number in range(6)]
    pages = {(HOST, f"/{name}"): knows(f"/{name}.jpg") if name in ("n2", "n4") else behaviour for name in names}
    with WebSite({**pages, ("b.test", "/other"): knows()}) as site:
        refs = {name: name_of(name, origin="a.csv:1") for name in names}
        good = [refs["n2"], refs["n4"]]
        with fakes.pipeline() as pipeline:
            provider = Provider(site.url(HOST)[:-1])
            photos, done, lost = (
                pipeline
                | beam.Create(list(refs.values()))
                | SearchImages(provider, policy_for(site, host_connections=1, host_failures=10), 20)
            )
            expected = [found_photo(f"/{ref.person.name}.jpg", ref.person, "a.csv:1") for ref in good]
            assert_that(photos, equal_to(keyed(expected)), "Photos")
            rows = [done_row(ref, "search", "1 photo found") for ref in good]
            assert_that(done | "DoneRow" >> beam.Map(ledger_row), equal_to(rows), "Done")
            reasons = lost | "Reason" >> beam.Map(lambda outcome: (outcome.ref, outcome.stage, outcome.reason))
            assert_that(reasons, equal_to([(refs[f"n{n}"], "search", reason) for n in (0, 1, 3, 5)]), "Lost")
        assert fakes.counters(pipeline.result, "search") == {"items_out": 2, "noted_found": 2, f"lost_{reason}": 4}
        assert sorted(site.paths(HOST)) == [f"/{name}" for name in names]


FOR_ALL_NAMES = [
    (Reason.QUOTA_EXCEEDED, "rateLimitExceeded", True),
    (Reason.QUOTA_EXCEEDED, "status 429", False),
    (Reason.PROVIDER_ERROR, "status 403; is the key right?", True),
]


@pytest.mark.parametrize(("reason", "detail", "of_host"), FOR_ALL_NAMES)
def test_a_fault_of_the_provider_ends_the_search_for_all_names(reason, detail, of_host):
    names = [name_of(f"n{number}", origin=f"a.csv:{number}") for number in range(30)]
    with WebSite({(HOST, f"/n{number}"): refuses(reason, detail, of_host) for number in range(30)}) as site:
        lost = [rejected(ref, "search", reason, detail).ledger_row() for ref in names]
        counted = searched(site, names, 20, [], [], lost)
        assert counted == {f"lost_{reason}": 30}
        assert len(site.log()) == 1


@contextlib.contextmanager
def searching(pages: Mapping[tuple[str, str], Content]) -> Iterator[tuple[Site, object]]:
    """A step of the search, asked for one name after the other."""
    with WebSite(pages) as site:
        rules = policy_for(site)
        with contextlib.closing(WebClient(rules)) as web:
            step = search._SearchImagesDoFn(Provider(site.url(HOST)[:-1]), rules, 20)
            host = Host("provider", web, rules)
            yield site, lambda ref: step._try(host, Wanted(ref, ""))


@pytest.mark.parametrize(("reason", "detail", "of_host"), FOR_ALL_NAMES)
def test_what_was_found_before_the_quota_ended_stands(reason, detail, of_host):
    pages = {
        (HOST, "/ann"): knows("/1.jpg"),
        (HOST, "/bob"): refuses(reason, detail, of_host),
        (HOST, "/eve"): knows("/2.jpg"),
    }
    with searching(pages) as (site, ask):
        ann, bob, eve = map(name_of, ("ann", "bob", "eve"))
        assert ask(ann) == (ann, [found_photo("/1.jpg", ann.person)])
        for ref in (bob, eve, ann):
            assert ledger_row(ask(ref)) == rejected(ref, "search", reason, detail).ledger_row()
        assert site.paths(HOST) == ["/ann", "/bob"]


def test_a_search_is_asked_by_one_after_the_other_in_one_worker():
    names = [name_of(f"n{number}") for number in range(12)]
    pages = {(HOST, f"/n{number}"): knows(f"/{number}.jpg") for number in range(12)}
    with WebSite(pages) as site:
        photos = [found_photo(f"/{number}.jpg", ref.person) for number, ref in enumerate(names)]
        done = [done_row(ref, "search", "1 photo found") for ref in names]
        searched(site, names, 20, photos, done, [])
        assert site.most_at_once(HOST) == 1
