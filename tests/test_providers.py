"""Photos of people by name, asked of a server that speaks as the providers do."""

import dataclasses
import json
import logging
import pickle
import traceback

import provider_site
import pytest
from provider_site import ProviderSite

from celebface.indexing.schemas import Reason
from celebface.transforms.records import Person
from celebface.transforms.web import google, providers
from celebface.transforms.web import wikimedia as wikimedia_module
from celebface.transforms.web.client import WebClient
from celebface.transforms.web.policy import FetchPolicy, WebFault
from celebface.transforms.web.providers import BadProvider, FoundImage, FoundPerson, make_provider

POLICY = FetchPolicy(contact="test@example.org", allow_private_hosts=True, host_rate=0, retries=0)

ANN = {"id": "Q11", "aliases": ["Annie", "A. A."], "images": {"Ann.jpg": b"1", "Ann 2.jpg": b"2", "Ann 3.jpg": b"3"}}


@pytest.fixture
def client():
    client = WebClient(POLICY)
    yield client
    client.close()


@pytest.fixture
def key(monkeypatch) -> str:
    monkeypatch.setenv(google.KEY, provider_site.KEY)
    monkeypatch.setenv(google.ENGINE, provider_site.ENGINE)
    return provider_site.KEY


_waited: list[list[float]] = []


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that only notes how long a provider would have waited."""
    monkeypatch.setattr(wikimedia_module, "_sleep", lambda seconds: _waited[-1].append(seconds))


def wikimedia(site: ProviderSite, waits: list[float] | None = None, language: str = "en"):
    """The provider; how long it waits goes into a list."""
    _waited[:] = [[] if waits is None else waits]
    return make_provider("wikimedia", site.url, language)


def names(found: FoundPerson) -> list[str]:
    """The names of the files that were found."""
    return [image.url.rpartition("/")[2] for image in found.images]


def refused(find, *arguments) -> WebFault:
    with pytest.raises(WebFault) as raised:
        find(*arguments)
    return raised.value


def in_order(name: str) -> list[str]:
    return [f"{name}.jpg", f"{name}_2.jpg", f"{name}_3.jpg"]


# --- making them ------------------------------------------------------------------------------------------------------


def test_providers_are_made_by_name(key):
    made = [make_provider(name) for name in ("wikimedia", "google")]
    assert [(provider.name, provider.host) for provider in made] == [
        ("wikimedia", "commons.wikimedia.org"),
        ("google", "customsearch.googleapis.com"),
    ]
    assert make_provider("google", "http://127.0.0.1:8000/").host == "127.0.0.1"


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("bing",), {}, "no provider 'bing'; known are google and wikimedia"),
        (("wikimedia", "ftp://x.org"), {}, "not an http or https URL"),
        (("wikimedia", "", "English!"), {}, "'English!' is not the code of a language"),
        (("google",), {}, "CELEBFACE_GOOGLE_KEY holds none"),
        (("google",), {google.KEY: "secret"}, "CELEBFACE_GOOGLE_ENGINE holds none"),
        (("google",), {google.KEY: "secret\nX-Other: 1", google.ENGINE: "e"}, "CELEBFACE_GOOGLE_KEY holds none"),
    ],
)
def test_a_provider_that_cannot_be_used_is_refused_with_one_line(arguments, environment, words):
    with pytest.raises(BadProvider, match=words) as raised:
        make_provider(*arguments, environment=environment)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("name", ["wikimedia", "google"])
def test_providers_travel_to_workers(key, name):
    provider = make_provider(name, "http://127.0.0.1:8000")
    assert pickle.loads(pickle.dumps(provider)) == provider


def test_who_asks_is_told(client, key):
    with ProviderSite({"Ann": ANN}) as site:
        for provider in (wikimedia(site), make_provider("google", site.url)):
            provider.find(Person.of("Ann"), 3, client.get)
    assert {asked.headers["User-Agent"] for asked in site.requests} == {POLICY.user_agent}
    assert "test@example.org" in POLICY.user_agent


# --- Wikidata: who ----------------------------------------------------------------------------------------------------


def test_a_person_is_found_by_name(client):
    with ProviderSite({"Ann": ANN}) as site:
        found = wikimedia(site).find(Person.of("Ann"), 10, client.get)
    assert (found.external_id, found.aliases) == ("wikidata:Q11", ("Annie", "A. A."))
    assert names(found) == in_order("Ann")


def test_a_person_is_found_by_alias_and_the_label_becomes_one(client):
    with ProviderSite({"Ann": ANN}) as site:
        found = wikimedia(site).find(Person.of("annie"), 1, client.get)
    assert (found.external_id, found.aliases) == ("wikidata:Q11", ("Ann", "A. A."))


def test_an_id_is_taken_as_it_is(client):
    """Also where another person has the name, and the item is no human, such as a duo."""
    people = {"Ann": ANN, "other": {**ANN, "label": "Ann", "id": "Q12", "human": False, "images": {"Other.jpg": b"o"}}}
    with ProviderSite(people) as site:
        found = wikimedia(site).find(Person.of("Ann", "wikidata:Q12"), 10, client.get)
    assert found.external_id == "wikidata:Q12"
    assert names(found)[0] == "Other.jpg"
    assert site.asked(action="wbsearchentities") == []


def test_an_id_that_was_merged_leads_to_the_item(client):
    with ProviderSite({"Ann": {**ANN, "moved_from": ["Q99"]}}) as site:
        found = wikimedia(site).find(Person.of("Ann", "wikidata:Q99"), 10, client.get)
    assert found.external_id == "wikidata:Q11"


def test_an_id_of_another_kind_is_no_hindrance(client):
    with ProviderSite({"Ann": ANN}) as site:
        assert wikimedia(site).find(Person.of("Ann", "imdb:nm1"), 1, client.get).external_id == "wikidata:Q11"


@pytest.mark.parametrize("key", ["Q404", "Q0", "P31", "Q1|Q2", "", "Q" + "1" * 30])
def test_an_id_that_wikidata_does_not_have_is_nobody(client, key):
    with ProviderSite({"Ann": ANN}) as site:
        fault = refused(wikimedia(site).find, Person.of("Ann", f"wikidata:{key}"), 10, client.get)
    assert fault.reason == Reason.UNKNOWN_PERSON


def test_a_name_that_nobody_has_is_nobody(client):
    with ProviderSite({"Ann": ANN, "Bob": {"id": "Q2", "human": False}}) as site:
        for name in ("Nobody", "Bob"):
            assert refused(wikimedia(site).find, Person.of(name), 10, client.get).reason == Reason.UNKNOWN_PERSON


def test_the_first_human_of_a_name_is_taken_that_has_a_photo(client):
    same = {"label": "Ann", "aliases": []}
    people = {
        "a film": {**same, "id": "Q1", "human": False, "images": {"Film.jpg": b"f"}},
        "without a photo": {**same, "id": "Q2"},
        "longer name": {"label": "Ann Other", "id": "Q3", "images": {"Longer.jpg": b"l"}},
        "the one": {**same, "id": "Q4", "images": {"One.jpg": b"1"}},
        "a later one": {**same, "id": "Q5", "images": {"Later.jpg": b"2"}},
    }
    with ProviderSite(people) as site:
        found = wikimedia(site).find(Person.of("Ann"), 1, client.get)
    assert (found.external_id, names(found)) == ("wikidata:Q4", ["One.jpg"])


def test_a_name_that_only_begins_so_is_better_than_none(client):
    people = {"Ann Other": {"id": "Q3", "images": {"Ann.jpg": b"1"}}}
    with ProviderSite(people) as site:
        assert wikimedia(site).find(Person.of("Ann"), 1, client.get).aliases == ("Ann Other",)


def test_homonyms_are_told_apart_by_their_ids(client):
    people = {
        name: {"label": "Ann", "id": key, "images": {f"{name}.jpg": name.encode()}}
        for name, key in (("Singer", "Q1"), ("Painter", "Q2"))
    }
    with ProviderSite(people) as site:
        for key, name in (("Q1", "Singer.jpg"), ("Q2", "Painter.jpg")):
            assert names(wikimedia(site).find(Person.of("Ann", f"wikidata:{key}"), 1, client.get)) == [name]


@pytest.mark.parametrize(
    "name", ["王菲", "Beyoncé", "BEYONCE\u0301", "Владимир Высоцкий", "Seán Ó'Briain", 'Ann "A" B|C&D']
)
def test_names_of_all_scripts_are_found(client, name):
    people = {name.casefold(): {"id": "Q7", "images": {"é 王.jpg": b"1"}}}
    with ProviderSite(people) as site:
        found = wikimedia(site).find(Person.of(name), 5, client.get)
    assert found == FoundPerson(
        "wikidata:Q7",
        (),
        (
            FoundImage(
                f"{site.url}/images/%C3%A9_%E7%8E%8B.jpg",
                f"{site.url}/wiki/File:%C3%A9_%E7%8E%8B.jpg",
                "CC0",
                "somebody",
                640,
                480,
                "image/jpeg",
            ),
        ),
    )


def test_a_name_in_another_language_than_ours_is_exact_too(client):
    people = {
        "王菲菲": {"id": "Q1", "language": "zh", "images": {"Other.jpg": b"o"}},
        "王菲": {"id": "Q2", "language": "zh", "images": {"Faye.jpg": b"f"}},
    }
    with ProviderSite(people) as site:
        assert wikimedia(site).find(Person.of("王菲"), 1, client.get).external_id == "wikidata:Q2"
        assert site.asked(action="wbgetentities")[0].params["languages"] == "en|mul"
        wikimedia(site, language="zh").find(Person.of("王菲"), 1, client.get)
        assert site.asked(action="wbsearchentities", language="zh", uselang="zh", type="item")


# --- Commons: photos --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 6, 7, 100])
@pytest.mark.parametrize("page_size", [1, 2, 3, 50])
def test_pages_are_followed_until_there_are_enough(client, limit, page_size):
    images = {f"Ann {number}.jpg": b"%d" % number for number in range(5)}
    people = {"Ann": {**ANN, "images": images, "named_in": {"Text 1.jpg": b"t1", "Text 2.jpg": b"t2"}}}
    with ProviderSite(people, page_size=page_size) as site:
        found = wikimedia(site).find(Person.of("Ann"), limit, client.get)
    expected = [f"Ann_{number}.jpg" for number in range(5)] + ["Text_1.jpg", "Text_2.jpg"]
    assert names(found) == expected[:limit]
    assert all(image.licence == "CC0" for image in found.images)


def test_no_more_is_asked_than_needed(client):
    with ProviderSite({"Ann": ANN}) as site:
        wikimedia(site).find(Person.of("Ann"), 1, client.get)
    assert [asked.params["action"] for asked in site.requests] == ["wbsearchentities", "wbgetentities", "query"]


def test_every_request_is_one_that_the_api_knows(client):
    with ProviderSite({"Ann": ANN}, page_size=1) as site:
        wikimedia(site).find(Person.of("Ann"), 100, client.get)
    assert {asked.path for asked in site.requests} == {"/w/api.php"}
    assert all(
        {"format": "json", "formatversion": "2", "maxlag": "5"}.items() <= asked.params.items()
        for asked in site.requests
    )
    assert [
        asked.params.get("gsrsearch") for asked in site.asked(generator="search") if "continue" not in asked.params
    ] == [
        "filetype:bitmap haswbstatement:P180=Q11",
        'filetype:bitmap "Ann"',
    ]


def test_quotes_in_a_label_do_not_end_the_phrase(client):
    with ProviderSite({'Ann "A" B': ANN}) as site:
        wikimedia(site).find(Person.of("Ann", "wikidata:Q11"), 100, client.get)
    assert site.requests[-1].params["gsrsearch"] == 'filetype:bitmap "Ann A B"'


def test_properties_that_come_later_are_put_together(client):
    with ProviderSite({"Ann": ANN}, page_size=2) as site:
        found = wikimedia(site).find(Person.of("Ann"), 3, client.get)
    assert names(found) == in_order("Ann")
    assert any("iicontinue" in asked.params for asked in site.requests)


def test_a_file_that_is_found_twice_is_given_once(client):
    images = {"Ann.jpg": b"1", "Copy of Ann.jpg": b"1", "Ann 2.jpg": b"2"}
    with ProviderSite({"Ann": {**ANN, "images": images}}) as site:
        assert names(wikimedia(site).find(Person.of("Ann"), 10, client.get)) == ["Ann.jpg", "Ann_2.jpg"]


@pytest.mark.parametrize("spelt", ["Ann.jpg", "Old_name.jpg", "Old name.jpg"])
def test_an_image_is_found_under_other_names_of_it(client, spelt):
    people = {"Ann": {**ANN, "image": spelt, "images": {"Ann.jpg": b"1"}}}
    with ProviderSite(people, {"Ann.jpg": {"moved_from": "Old name.jpg"}}) as site:
        assert names(wikimedia(site).find(Person.of("Ann"), 1, client.get)) == ["Ann.jpg"]
    assert not site.asked(generator="search")


def test_an_image_that_was_deleted_is_passed_over(client):
    with ProviderSite({"Ann": {**ANN, "image": "Deleted.jpg"}}) as site:
        assert names(wikimedia(site).find(Person.of("Ann"), 1, client.get)) == ["Ann_2.jpg"]


def test_what_is_no_photo_is_passed_over(client):
    kinds = ["image/svg+xml", "application/pdf", "video/webm", "image/vnd.djvu", "audio/ogg"]
    files = {f"{number}.x": {"mime": mime} for number, mime in enumerate(kinds)}
    with ProviderSite(
        {"Ann": {**ANN, "images": {**{name: name.encode() for name in files}, "Ann.jpg": b"1"}}}, files
    ) as site:
        assert names(wikimedia(site).find(Person.of("Ann"), 10, client.get)) == ["Ann.jpg"]


def test_a_large_file_is_asked_for_in_a_smaller_size(client):
    files = {
        "Ann.jpg": {"width": 5000, "height": 4000, "mime": "image/tiff"},
        "Ann 2.jpg": {"width": 1280, "height": 900, "mime": "image/png"},
    }
    with ProviderSite({"Ann": ANN}, files) as site:
        found = wikimedia(site).find(Person.of("Ann"), 2, client.get)
        assert client.get(found.images[0].url, accept="image/*").body == b"1"
        assert client.get(found.images[1].url, accept="image/*").body == b"2"
    assert [(names(found)[n], image.width, image.height, image.mime) for n, image in enumerate(found.images)] == [
        ("1280px-Ann.jpg", 1280, 1024, "image/jpeg"),
        ("Ann_2.jpg", 1280, 900, "image/png"),
    ]


def test_licence_and_author_come_with_a_photo(client):
    told = {
        "licence": "CC BY-SA 4.0",
        "licence_url": "https://creativecommons.org/licenses/by-sa/4.0",
        "artist": '<a href="//commons.wikimedia.org/wiki/User:Bob" title="User:Bob">Bob\x07 &amp;\nEve</a>'
        + "!" * 5000,
    }
    with ProviderSite({"Ann": ANN}, {"Ann.jpg": told}) as site:
        image = wikimedia(site).find(Person.of("Ann"), 1, client.get).images[0]
    assert image.licence == "CC BY-SA 4.0 https://creativecommons.org/licenses/by-sa/4.0"
    assert image.author == "Bob & Eve" + "!" * 491
    assert image.page == f"{site.url}/wiki/File:Ann.jpg"


def test_a_person_without_photos_is_told(client):
    with ProviderSite({"Ann": {"id": "Q11"}}) as site:
        fault = refused(wikimedia(site).find, Person.of("Ann"), 10, client.get)
    assert (fault.reason, str(fault)) == (Reason.NO_IMAGES, "Commons has no photo of wikidata:Q11")


@pytest.mark.parametrize("step", [0, 1])
def test_a_search_without_end_is_left(client, step):
    """Whether it goes on from where it was, or from ever further on."""
    with ProviderSite({"Ann": {"id": "Q11"}}) as site:
        site.answer_next({"entities": {"Q11": {"id": "Q11"}}})
        for number in range(200):
            place = {"gsroffset": 5 + step * number, "continue": "gsroffset||"}
            site.answer_next({"batchcomplete": True, "continue": place})
        fault = refused(wikimedia(site).find, Person.of("Ann", "wikidata:Q11"), 10, client.get)
    assert fault.reason == Reason.NO_IMAGES
    assert len(site.requests) == 1 + (40 if step else 2) * 2


# --- the Action API's errors ------------------------------------------------------------------------------------------

MAXLAG = {"error": {"code": "maxlag", "info": "Waiting for 10.64.48.35: 6.2 seconds lagged.", "lag": 6.2, "type": "db"}}


@pytest.mark.parametrize("code", ["maxlag", "ratelimited", "readonly"])
def test_a_busy_api_is_asked_again_when_it_wants(client, code):
    waits: list[float] = []
    with ProviderSite({"Ann": ANN}) as site:
        site.answer_next({"error": {"code": code, "info": "Wait."}}, headers={"Retry-After": "7"})
        found = wikimedia(site, waits).find(Person.of("Ann"), 3, client.get)
    assert names(found) == in_order("Ann")
    assert waits == [pytest.approx(7)]


@pytest.mark.parametrize(("code", "reason"), [("maxlag", Reason.RATE_LIMITED), ("readonly", Reason.SERVER_ERROR)])
def test_an_api_that_stays_busy_is_left(client, code, reason):
    waits: list[float] = []
    with ProviderSite({"Ann": ANN}) as site:
        for _ in range(20):
            site.answer_next({"error": {"code": code}})
        fault = refused(wikimedia(site, waits).find, Person.of("Ann"), 3, client.get)
    assert (fault.reason, str(fault), fault.passing, fault.of_host) == (reason, code, True, True)
    assert len(site.requests) == len(waits) + 1 == 4
    assert waits == sorted(waits)


def test_an_api_that_wants_to_be_left_for_an_hour_is_left(client):
    waits: list[float] = []
    with ProviderSite({"Ann": ANN}) as site:
        site.answer_next(MAXLAG, headers={"Retry-After": "3600"})
        fault = refused(wikimedia(site, waits).find, Person.of("Ann"), 3, client.get)
    assert (fault.reason, fault.retry_after, waits) == (Reason.RATE_LIMITED, 3600, [])


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ({"error": {"code": "badvalue", "info": "Unrecognized value."}}, "badvalue"),
        ({"error": {"code": "internal_api_error_DBQueryError"}}, "internal_api_error_DBQueryError"),
        ({"error": "broken"}, "an error without a code"),
        (b"<html>Wikimedia Error</html>", "no JSON"),
        (b"", "no JSON"),
        (b"[1]", "no JSON object"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff\xfe\xfd", "no JSON"),
    ],
)
def test_other_errors_are_the_provider_s(client, content, detail):
    with ProviderSite({"Ann": ANN}) as site:
        site.answer_next(content)
        fault = refused(wikimedia(site).find, Person.of("Ann"), 3, client.get)
    assert (fault.reason, fault.passing) == (Reason.PROVIDER_ERROR, False)
    assert detail in str(fault)


def test_errors_of_the_connection_stay_what_they_are(client):
    with ProviderSite({"Ann": ANN}) as site:
        site.answer_next(b"no", status=503, headers={"Retry-After": "3"})
        fault = refused(wikimedia(site).find, Person.of("Ann"), 3, client.get)
    assert (fault.reason, len(site.requests)) == (Reason.SERVER_ERROR, 1)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"search": None},
        {"search": [1, None, {"id": 5}, {}]},
        {"search": {"id": "Q1"}},
        {"search": [{"id": "Q11", "match": "x"}]},
    ],
)
def test_an_answer_of_another_shape_finds_somebody_or_nobody(client, content):
    with ProviderSite({"Ann": ANN}) as site:
        site.answer_next(content)
        try:
            assert wikimedia(site).find(Person.of("Ann"), 1, client.get).external_id == "wikidata:Q11"
        except WebFault as fault:
            assert fault.reason == Reason.UNKNOWN_PERSON


@pytest.mark.parametrize(
    "entity",
    [
        {"labels": [], "aliases": [], "claims": []},
        {"labels": {"en": "x"}, "aliases": {"en": {"value": "y"}}, "claims": {"P18": {}, "P31": [1]}},
        {"claims": {"P18": [{"mainsnak": {"datavalue": {"value": 5}}}, {"mainsnak": None}]}},
    ],
)
def test_an_item_of_another_shape_is_read_as_far_as_it_goes(client, entity):
    with ProviderSite({"Ann": ANN}) as site:
        site.answer_next({"entities": {"Q11": {"id": "Q11", **entity}}})
        found = wikimedia(site).find(Person.of("Ann", "wikidata:Q11"), 10, client.get)
    assert names(found) == ["Ann_2.jpg", "Ann_3.jpg", "Ann.jpg"]


# --- Google -----------------------------------------------------------------------------------------------------------


def test_google_gives_photos_with_their_pages(client, key):
    files = {"Ann 2.jpg": {"width": 800, "height": 600, "mime": "image/png"}}
    with ProviderSite({"Ann": ANN}, files) as site:
        found = make_provider("google", site.url).find(Person.of("Ann", "wikidata:Q11", ["Annie"]), 10, client.get)
    assert (found.external_id, found.aliases) == ("", ())
    assert names(found) == in_order("Ann")
    assert found.images[1] == FoundImage(
        f"{site.url}/images/Ann_2.jpg", f"{site.url}/wiki/File:Ann_2.jpg", "", "", 800, 600, "image/png"
    )


def test_google_is_asked_for_faces_safely(client, key, monkeypatch):
    monkeypatch.setenv(google.RIGHTS, "cc_publicdomain|cc_attribute")
    with ProviderSite({"Ann": ANN}) as site:
        make_provider("google", site.url, "de").find(Person.of("Ann"), 1, client.get)
    assert site.requests[0].path == "/customsearch/v1"
    assert site.requests[0].params == {
        "cx": provider_site.ENGINE,
        "q": '"Ann"',
        "searchType": "image",
        "imgType": "face",
        "num": "10",
        "start": "1",
        "safe": "active",
        "hl": "de",
        "fields": google._FIELDS,
        "rights": "cc_publicdomain|cc_attribute",
    }


@pytest.mark.parametrize(("limit", "searches"), [(1, 1), (10, 1), (11, 2), (95, 10), (500, 10)])
def test_google_s_pages_are_followed_as_far_as_it_goes(client, key, limit, searches):
    images = {f"{number}.jpg": b"%d" % number for number in range(120)}
    with ProviderSite({"Ann": {"id": "Q1", "images": images}}, page_size=10) as site:
        found = make_provider("google", site.url).find(Person.of("Ann"), limit, client.get)
    assert names(found) == [f"{number}.jpg" for number in range(min(limit, 99))]
    assert len(site.requests) == searches
    assert all(int(asked.params["start"]) + int(asked.params["num"]) <= 100 for asked in site.requests)


def test_what_google_alone_can_show_is_passed_over(client, key):
    files = {
        "Ann.jpg": {"link": "x-raw-image:///abc"},
        "Ann 2.jpg": {"mime": "image/svg+xml"},
    }
    with ProviderSite({"Ann": ANN}, files) as site:
        assert names(make_provider("google", site.url).find(Person.of("Ann"), 9, client.get)) == ["Ann_3.jpg"]


def test_quotes_in_a_name_do_not_end_the_phrase(client, key):
    with ProviderSite({"Ann  A  B": ANN}) as site:
        make_provider("google", site.url).find(Person.of('Ann "A" B'), 1, client.get)
    assert site.requests[0].params["q"] == '"Ann  A  B"'


def test_google_without_results_is_told(client, key):
    with ProviderSite({"Ann": ANN}) as site:
        fault = refused(make_provider("google", site.url).find, Person.of("Nobody"), 9, client.get)
    assert fault.reason == Reason.NO_IMAGES


def test_google_s_quota_ends(client, key):
    with ProviderSite({"Ann": ANN}, page_size=1, google_quota=4) as site:
        provider = make_provider("google", site.url)
        assert names(provider.find(Person.of("Ann"), 3, client.get)) == in_order("Ann")
        assert names(provider.find(Person.of("Ann"), 3, client.get)) == ["Ann.jpg"]  # what was found before it ended
        fault = refused(provider.find, Person.of("Ann"), 3, client.get)
    assert (fault.reason, str(fault), fault.of_host) == (Reason.QUOTA_EXCEEDED, "status 429", True)
    assert len(site.requests) == 6


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": 429}, Reason.QUOTA_EXCEEDED),
        ({"code": 403, "status": "RESOURCE_EXHAUSTED"}, Reason.QUOTA_EXCEEDED),
        ({"code": 403, "errors": [{"reason": "dailyLimitExceeded"}]}, Reason.QUOTA_EXCEEDED),
        ({"code": 403, "errors": [{"reason": "rateLimitExceeded"}]}, Reason.QUOTA_EXCEEDED),
        ({"code": 400, "status": "INVALID_ARGUMENT", "message": f"for {provider_site.KEY}"}, Reason.PROVIDER_ERROR),
        ({"code": 403, "errors": [{"reason": provider_site.KEY}]}, Reason.PROVIDER_ERROR),
        ("broken", Reason.PROVIDER_ERROR),
    ],
)
def test_google_s_errors_are_told_by_their_codes(client, key, error, reason):
    with ProviderSite({"Ann": ANN}) as site:
        site.answer_next({"error": error})
        fault = refused(make_provider("google", site.url).find, Person.of("Ann"), 9, client.get)
    assert fault.reason == reason
    assert key not in str(fault)


@pytest.mark.parametrize("content", [b"<html>", b"", b"[]", b"[" * 100_000])
def test_google_that_gives_no_json_is_told(client, key, content):
    with ProviderSite({"Ann": ANN}) as site:
        site.answer_next(content)
        fault = refused(make_provider("google", site.url).find, Person.of("Ann"), 9, client.get)
    assert fault.reason == Reason.PROVIDER_ERROR


@pytest.mark.parametrize(
    "content",
    [
        {"items": None},
        {"items": [None, {}, {"link": 5}, {"link": "http://x.org/a.jpg", "image": 3, "mime": 4}]},
        {
            "items": [{"link": "http://x.org/a.jpg", "image": {"width": "9"}}],
            "queries": {"nextPage": [{"startIndex": 1}]},
        },
        {"items": [{"link": "http://x.org/a.jpg"}], "queries": [{"nextPage": 7}]},
    ],
)
def test_an_answer_of_google_of_another_shape_is_read_as_far_as_it_goes(client, key, content):
    with ProviderSite({"Ann": ANN}) as site:
        site.answer_next(content)
        try:
            found = make_provider("google", site.url).find(Person.of("Ann"), 9, client.get)
            assert found.images == (FoundImage("http://x.org/a.jpg"),)
        except WebFault as fault:
            assert fault.reason == Reason.NO_IMAGES
    assert len(site.requests) == 1


def test_a_wrong_key_is_told_with_a_hint(client, key, monkeypatch):
    monkeypatch.setenv(google.KEY, "another-key")
    with ProviderSite({"Ann": ANN}) as site:
        fault = refused(make_provider("google", site.url).find, Person.of("Ann"), 9, client.get)
    assert fault.reason == Reason.PROVIDER_ERROR
    assert str(fault).startswith("status 400; are CELEBFACE_GOOGLE_KEY and CELEBFACE_GOOGLE_ENGINE right")


@pytest.mark.parametrize("value", [None, " ", "a key", "k\r\nX-Other: 1"])
def test_a_worker_without_the_key_asks_nothing(client, key, monkeypatch, value):
    with ProviderSite({"Ann": ANN}) as site:
        provider = make_provider("google", site.url)
        if value is None:
            monkeypatch.delenv(google.KEY)
        else:
            monkeypatch.setenv(google.KEY, value)
        fault = refused(provider.find, Person.of("Ann"), 9, client.get)
    assert fault.reason == Reason.PROVIDER_ERROR
    assert str(fault) == "CELEBFACE_GOOGLE_KEY is not set where the search runs"
    assert site.requests == []


def test_the_key_travels_in_the_header_alone(client, key, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with ProviderSite({"Ann": ANN}, page_size=1, google_quota=3) as site:
        provider = make_provider("google", site.url)
        found = provider.find(Person.of("Ann"), 3, client.get)
        fault = refused(provider.find, Person.of("Ann"), 3, client.get)
        site.answer_next(
            {"error": {"code": 403, "message": f"Consumer 'api_key:{key}' has been suspended."}}, status=403
        )
        suspended = refused(provider.find, Person.of("Ann"), 3, client.get)
    assert [asked.headers["X-Goog-Api-Key"] for asked in site.requests] == [key] * 5
    for asked in site.requests:
        assert key not in asked.path + json.dumps(asked.params)
    told = [repr(provider), str(dataclasses.asdict(provider)), repr(found), caplog.text, *capfd.readouterr()]
    told += ["".join(traceback.format_exception(error)) for error in (fault, suspended)]
    assert "customsearch" in caplog.text  # requests are logged, so this is where a key in a URL would be
    assert all(key not in text for text in told)
    assert key.encode() not in pickle.dumps(provider)


def test_the_key_is_not_given_to_another_host(key):
    client = WebClient(dataclasses.replace(POLICY, addresses=(("other.example", "127.0.0.1"),)))
    with ProviderSite({"Ann": ANN}) as site:
        elsewhere = site.url.replace("127.0.0.1", "other.example")
        site.answer_next(b"", status=302, headers={"Location": f"{elsewhere}/customsearch/v1"})
        fault = refused(make_provider("google", site.url).find, Person.of("Ann"), 9, client.get)
    client.close()
    assert (fault.reason, str(fault)) == (Reason.PROVIDER_ERROR, "it leads to other.example, which is not asked")
    assert len(site.requests) == 1


def test_both_fit_the_interface(key):
    made: list[providers.ImageProvider] = [make_provider("google"), make_provider("wikimedia")]
    assert all(isinstance(hash(provider), int) for provider in made)
