import contextlib
import dataclasses
import datetime
import email.utils
import http.client
import itertools
import socket
import threading
import time

import pytest
import requests
import tenacity
import web_site
from web_site import (
    Announced,
    BrokenGzip,
    Content,
    DrippingBody,
    DrippingContinues,
    DrippingHeaders,
    DrippingTls,
    EndlessBody,
    GzipBomb,
    Gzipped,
    OverTls,
    Raw,
    Redirect,
    RedirectChain,
    Reset,
    ShortBody,
    Silent,
    SilentTls,
    Slow,
    Status,
    WebSite,
    photo,
)

from celebface.indexing.schemas import Reason
from celebface.transforms.web import addresses, client
from celebface.transforms.web.client import Moved, WebClient, clean_url, host_of, validator
from celebface.transforms.web.policy import FetchPolicy, WebFault

HOST, PATH = "a.test", "/photo.jpg"
DATA = b"\xff\xd8" + bytes(range(256)) * 40 + b"\xff\xd9"
CAP = 1 << 20
RETRIES = 2
GENEROUS_SECONDS = 20  # bounds what would last for ever
LATIN_1 = "http://a.test:{port}/Beyonc\xe9"

needs_tls = pytest.mark.skipif(not web_site.can_make_certificates(), reason="no openssl command")


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch):
    monkeypatch.setattr(client, "_BACKOFF", tenacity.wait_fixed(0.01))


@contextlib.contextmanager
def asking(*behaviours, hosts=(HOST, "b.test"), tls=False, **policy):
    """A site that has behaviours at PATH, PATH1 ..., and a client that can ask it."""
    pages = {(HOST, PATH + str(number or "")): behaviour for number, behaviour in enumerate(behaviours)}
    known = tuple((host, "127.0.0.1") for host in hosts)
    rules = {"max_bytes": CAP, "retries": RETRIES, "total_seconds": 60, "read_seconds": 30, "allow_private_hosts": True}
    rules |= {"addresses": known, "contact": "photos@example.org"} | policy
    with WebSite(pages, tls=tls) as site, contextlib.closing(WebClient(FetchPolicy(**rules))) as web:
        yield site, web


def fault_of(site, web, path=PATH, query="", **how):
    with pytest.raises(WebFault) as raised:
        web.get(site.url(HOST, path) + query, accept="image/*", **how)
    return raised.value


# --- URLs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://a.test/x.jpg", "http://a.test/x.jpg"),
        (" https://a.test/x.jpg\n", "https://a.test/x.jpg"),
        ("HTTP://A.Test/X.jpg", "http://a.test/X.jpg"),
        ("http://a.test", "http://a.test/"),
        ("http://a.test?q=1", "http://a.test/?q=1"),
        ("http://a.test:80/x", "http://a.test/x"),
        ("https://a.test:443/x", "https://a.test/x"),
        ("https://a.test:80/x", "https://a.test:80/x"),
        ("http://a.test:8080/x", "http://a.test:8080/x"),
        ("http://a.test:/x", "http://a.test/x"),
        ("http://ann:secret@a.test/x", "http://a.test/x"),
        ("http://ann@a.test:8080/x", "http://a.test:8080/x"),
        ("http://a.test/x#part", "http://a.test/x"),
        ("http://a.test/x?q=1#part", "http://a.test/x?q=1"),
        ("http://a.test/Beyoncé 1.jpg", "http://a.test/Beyonc%C3%A9%201.jpg"),
        ("http://a.test/Beyonc%C3%A9%201.jpg", "http://a.test/Beyonc%C3%A9%201.jpg"),
        ("http://a.test/50%.jpg", "http://a.test/50%25.jpg"),
        ("http://a.test/?q=é&r=a b", "http://a.test/?q=%C3%A9&r=a%20b"),
        ("http://bücher.example/x", "http://xn--bcher-kva.example/x"),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/x"),
        ("http://[::1]/x", "http://[::1]/x"),
        ("http://[2001:DB8::1]:8080/x", "http://[2001:db8::1]:8080/x"),
        ("http://a.test/x;v=1", "http://a.test/x;v=1"),
        ("http://a.test//x", "http://a.test//x"),
        ("http://a.test/a\tb\nc", "http://a.test/a%09b%0Ac"),
        ("http://a.test\\@b.test/x", "http://a.test/%5C@b.test/x"),
        ("http://a.test/a/../../b", "http://a.test/b"),
        ("\x00\x1f http://a.test/x.jpg\x00\x0b \x1c", "http://a.test/x.jpg"),
        ("\x08http://a.test/\u00e9\x08", "http://a.test/%C3%A9"),
        ("http://a.test/x\x7f", "http://a.test/x%7F"),
        ("http://a.test/\u00a0", "http://a.test/%C2%A0"),
    ],
)
def test_clean_url(text, clean):
    assert clean_url(text) == clean
    assert clean_url(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "photo.jpg",
        "/photo.jpg",
        "//a.test/photo.jpg",
        "a.test/photo.jpg",
        "http:",
        "http://",
        "http:///x.jpg",
        "http://:80/x.jpg",
        "http://ann@/x.jpg",
        "file:///etc/passwd",
        "ftp://a.test/x.jpg",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "httpx://a.test/x.jpg",
        "mailto:http@a.test",
        "http://[::1/x.jpg",
        "http://[nonsense]/x.jpg",
        "http://a.test:port/x.jpg",
        "http://a.test:99999/x.jpg",
        "http://a.test:-1/x.jpg",
        "http://a b.test/x.jpg",
        "http://*.test/x.jpg",
        "http://.test/x.jpg",
        "http://\ud800.test/x.jpg",
        "http://a.test\x00/x.jpg",
        "http://a.test\x7f/x.jpg",
        "http://a.test%00/x.jpg",
        "http://a\u00adb.test/x.jpg",
        "http://\u200ba.test/x.jpg",
        "http://a\u3002test\uff0fx.jpg",
        "http://a.test/%2e%2e/x.jpg",
        "http://a.test/" + "x" * 8192,
    ],
)
def test_bad_urls(text):
    with pytest.raises(WebFault) as raised:
        clean_url(text)
    assert raised.value.reason == Reason.BAD_URL


def test_a_url_may_be_long():
    url = "http://a.test/".ljust(8192, "x")
    assert clean_url(url) == url


HOSTS = ["a.test", "a-b.c1.test", "127.0.0.1", "xn--bcher-kva.example", "A.test", "\u00e9.test", "a..test", "%61.test"]
PORTS = ["", ":80", ":8080", ":59999", ":65535", ":0800"]
PATHS = [
    "",
    "/",
    "/x.jpg",
    "/.x/~y/",
    "//x",
    "/a//../b",
    "/a/./b",
    "/a/..",
    "/%41%2f%e9",
    "/%2e%2e/x",
    "/\u00e9 x",
    "/%",
]
QUERIES = ["", "?", "?q=1&r=a-b", "?q=/../b", "?q=%2e&r=%", "?q=\u00e9+x"]


def test_a_clean_url_is_sent_as_it_is_written_down():
    """Whether it is one of those that need no rewriting or not."""
    clean = 0
    for text in map("".join, itertools.product(["http://"], HOSTS, PORTS, PATHS, QUERIES)):
        try:
            url = clean_url(text)
        except WebFault:
            continue
        clean += 1
        assert url.isascii() and "#" not in url
        assert requests.Request("GET", url).prepare().url == url, text
        assert clean_url(url) == url
    assert clean > 2000


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://a.test/x.jpg", "a.test"),
        ("http://a.test:8080/", "a.test"),
        ("http://a.test./", "a.test"),
        ("https://[2001:db8::1]:8080/", "2001:db8::1"),
    ],
)
def test_host_of(url, host):
    assert host_of(url) == host


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_photo_comes_as_it_is():
    with asking(photo(DATA)) as (site, web):
        answer = web.get(site.url(HOST, PATH), accept="image/*")
        assert (answer.status, answer.url, answer.body) == (200, site.url(HOST, PATH), DATA)
        assert answer.headers["etag"] == answer.headers["ETag"] == photo(DATA).etag
        [asked] = site.asked()
    assert asked.headers == {
        "host": f"a.test:{site.port}",
        "user-agent": FetchPolicy(contact="photos@example.org").user_agent,
        "accept": "image/*",
        "accept-encoding": "identity",
    }
    assert asked.headers["user-agent"].startswith("celebface/")
    assert asked.headers["user-agent"].endswith(" (+photos@example.org)")


def test_what_has_not_changed_is_not_sent_again():
    date = "Mon, 06 Jan 2025 10:00:00 GMT"
    with asking(photo(DATA), Content(DATA, last_modified=date)) as (site, web):
        for path, header, value in [(PATH, "If-None-Match", photo(DATA).etag), (PATH + "1", "If-Modified-Since", date)]:
            answer = web.get(site.url(HOST, path), accept="image/*", headers={header: value})
            assert (answer.status, answer.body) == (304, b"")
            answer = web.get(site.url(HOST, path), accept="image/*", headers={header: "another"})
            assert (answer.status, answer.body) == (200, DATA)
        assert [one.conditional for one in site.log()] == [True] * 4
        assert site.bodies() == 2


@pytest.mark.parametrize("etag", ['"a\r\n b"', '"\t"', '"Beyonc\xe9"', '"é漢"', " "])
def test_an_etag_that_cannot_be_sent_back_is_left_out(etag):
    with asking(Content(DATA, etag=etag if etag.isascii() else "")) as (site, web):
        known = web.get(site.url(HOST, PATH), accept="image/*").headers.get("ETag") or etag
        assert web.get(site.url(HOST, PATH), accept="image/*", headers={"If-None-Match": known}).body == DATA


def test_unchanged_is_believed_only_if_that_was_asked_for():
    for headers in (None, {"X-Other": "1"}, {"If-None-Match": '"a\r\nb"'}, {"If-Modified-Since": " "}):
        with asking(Status(304)) as (site, web):
            fault = fault_of(site, web, headers=headers)
            assert (fault.reason, str(fault), fault.passing) == (Reason.HTTP_STATUS, "status 304", False)
            assert [one.conditional for one in site.log()] == [False]
    for headers in ({"If-None-Match": '"a"'}, {"If-Modified-Since": "yesterday"}):
        with asking(Status(304)) as (site, web):
            assert web.get(site.url(HOST, PATH), accept="image/*", headers=headers).status == 304


def test_the_headers_of_what_has_not_changed_are_looked_at():
    def refuse(headers):
        assert headers["X-Robots-Tag"] == "noai"
        raise WebFault(Reason.OPTED_OUT, "no")

    with asking(Status(304, headers=(("X-Robots-Tag", "noai"),))) as (site, web):
        fault = fault_of(site, web, headers={"If-None-Match": '"a"'}, look_at=refuse)
        assert fault.reason == Reason.OPTED_OUT
        assert len(site.log()) == 1


@pytest.mark.parametrize(
    "value", ['"7"', 'W/"7 8"', "Fri, 02 Jan 2026 03:04:05 GMT", "yesterday", '"' + "x" * 1022 + '"', ""]
)
def test_validators_that_are_kept(value):
    assert validator(value) == value


@pytest.mark.parametrize(
    "value",
    ['"' + "x" * 1023 + '"', '"a\nb"', '"\t"', '"\x00"', '"\x7f"', '"Beyonc\xe9"', '"\u6f22"', ' "7"', '"7" ', "\xa0"],
)
def test_validators_that_cannot_be_sent_back_are_not_kept(value):
    assert validator(value) == ""


def test_parameters_are_added_to_the_query():
    with asking(Content(b"{}")) as (site, web):
        web.get(site.url(HOST, PATH) + "?a=1", accept="application/json", params={"q": "Beyoncé & co"})
        assert site.paths(HOST) == [PATH + "?a=1&q=Beyonc%C3%A9+%26+co"]


def test_connections_are_used_again():
    with asking(photo(DATA)) as (site, web):
        for _ in range(5):
            web.get(site.url(HOST, PATH), accept="image/*")
        assert len(site.connections) == 1


FAULTS = {
    "404": (Status(404), Reason.NOT_FOUND, 1),
    "410": (Status(410), Reason.GONE, 1),
    "401": (Status(401), Reason.FORBIDDEN, 1),
    "403": (Status(403), Reason.FORBIDDEN, 1),
    "451": (Status(451), Reason.FORBIDDEN, 1),
    "400": (Status(400), Reason.HTTP_STATUS, 1),
    "418": (Status(418), Reason.HTTP_STATUS, 1),
    "204": (Status(204), Reason.HTTP_STATUS, 1),
    "206": (Status(206), Reason.HTTP_STATUS, 1),
    "302 to nowhere": (Status(302), Reason.HTTP_STATUS, 1),
    "501": (Status(501), Reason.SERVER_ERROR, 1),
    "408": (Status(408), Reason.SERVER_ERROR, RETRIES + 1),
    "425": (Status(425), Reason.SERVER_ERROR, RETRIES + 1),
    "429": (Status(429), Reason.RATE_LIMITED, RETRIES + 1),
    "500": (Status(500), Reason.SERVER_ERROR, RETRIES + 1),
    "503": (Status(503), Reason.SERVER_ERROR, RETRIES + 1),
    "reset": (Reset(), Reason.CONNECTION_FAILED, RETRIES + 1),
    "reset in the body": (Reset(DATA), Reason.CONNECTION_FAILED, RETRIES + 1),
    "not HTTP": (Raw(), Reason.CONNECTION_FAILED, RETRIES + 1),
    "nothing": (Raw(b""), Reason.CONNECTION_FAILED, RETRIES + 1),
    "too many headers": (Raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000), Reason.CONNECTION_FAILED, RETRIES + 1),
    "a long header": (Raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000), Reason.CONNECTION_FAILED, RETRIES + 1),
    "bad length": (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nxxxxx"), Reason.CONNECTION_FAILED, 0),
    "bad chunk": (Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n"), Reason.TRUNCATED, 0),
    "short body": (ShortBody(DATA, 2 * len(DATA)), Reason.TRUNCATED, RETRIES + 1),
    "short chunk": (
        Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"),
        Reason.TRUNCATED,
        RETRIES + 1,
    ),
    "endless body": (EndlessBody(), Reason.TOO_MANY_BYTES, 1),
    "announced": (Announced(CAP + 1), Reason.TOO_MANY_BYTES, 1),
    "bomb": (GzipBomb(), Reason.TOO_MANY_BYTES, 1),
    "broken gzip": (BrokenGzip(), Reason.UNDECODABLE, 1),
    "redirects without end": (RedirectChain(), Reason.TOO_MANY_REDIRECTS, 6),
    "redirect to itself": (Redirect(PATH), Reason.TOO_MANY_REDIRECTS, 6),
    "redirect to a file": (Redirect("file:///etc/passwd"), Reason.BAD_URL, 1),
    "redirect to data": (Redirect("data:image/png;base64,AAAA"), Reason.BAD_URL, 1),
    "redirect to a bad address": (Redirect("http://[::1/photo.jpg"), Reason.BAD_URL, 1),
    "redirect to a bad port": (Redirect("http://a.test:port/photo.jpg"), Reason.BAD_URL, 1),
    "redirect in Latin-1": (Redirect(LATIN_1), Reason.BAD_URL, 1),
}


@pytest.mark.parametrize(("behaviour", "reason", "requests"), FAULTS.values(), ids=FAULTS)
def test_faults(behaviour, reason, requests):
    """Each has its reason, is retried only if it may pass, and names neither URL nor key."""
    with asking(behaviour) as (site, web):
        told = []
        fault = fault_of(site, web, query="?key=secret", told=told.append)
        assert fault.reason == reason
        if requests:
            assert len(site.asked(HOST)) == requests
            assert len(told) == (requests - 1 if fault.passing else 0)
        assert fault.passing == (requests in (0, RETRIES + 1))
        for text in [str(fault), *map(str, told)]:
            assert text and not any(part in text for part in ("secret", "key=", "a.test", "photo.jpg", str(site.port)))


def test_a_refused_connection_and_an_unknown_name_have_their_reasons(monkeypatch):
    with asking(photo(DATA)) as (_, web), socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://{HOST}:{closed.getsockname()[1]}/IncompleteRead timed out?key=secret"
        with pytest.raises(WebFault) as raised:
            web.get(url, accept="image/*")
        assert (raised.value.reason, raised.value.of_host) == (Reason.CONNECTION_FAILED, True)
        assert "secret" not in str(raised.value)

        def unknown(*_, **__):
            raise socket.gaierror(socket.EAI_NONAME, "nothing")

        monkeypatch.setattr(addresses.socket, "getaddrinfo", unknown)
        with pytest.raises(WebFault) as raised:
            web.get("http://nowhere.test/?key=secret", accept="image/*")
        assert (raised.value.reason, raised.value.passing) == (Reason.NO_SUCH_HOST, False)
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "behaviour",
    [
        Status(500, times=RETRIES, then=photo(DATA)),
        Status(429, times=1, then=photo(DATA)),
        Reset(times=RETRIES, then=photo(DATA)),
        Reset(DATA[:100], times=1, then=photo(DATA)),
    ],
)
def test_what_passes_is_had(behaviour):
    with asking(behaviour) as (site, web):
        assert web.get(site.url(HOST, PATH), accept="image/*").body == DATA
        assert len(site.log()) == behaviour.times + 1


# --- time -------------------------------------------------------------------------------------------------------------


def test_retry_after_in_seconds():
    with asking(Status(429, retry_after="1", times=1, then=photo(DATA))) as (site, web):
        told = []
        web.get(site.url(HOST, PATH), accept="image/*", told=told.append)
        assert site.shortest_gap(HOST) >= 1
        assert [fault.retry_after for fault in told] == [1]


def test_retry_after_as_a_date():
    date = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(seconds=2)
    with asking(Status(503, email.utils.format_datetime(date, usegmt=True), 1, photo(DATA))) as (site, web):
        web.get(site.url(HOST, PATH), accept="image/*")
        assert datetime.datetime.now(datetime.UTC) >= date
        assert len(site.log()) == 2


@pytest.mark.parametrize("value", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT", "1" + "0" * 400])
def test_a_retry_after_beyond_the_deadline_is_given_up_at_once(value):
    with asking(Status(429, retry_after=value)) as (site, web):
        fault = fault_of(site, web)
        assert fault.reason == Reason.RATE_LIMITED
        assert fault.retry_after >= 3600
        assert len(site.log()) == 1


@pytest.mark.parametrize("value", ["soon", "-5", "1.5.2", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Foo 2015", "²"])
def test_a_retry_after_of_the_past_or_of_nonsense_is_none(value):
    with asking(Status(503, retry_after=value, times=1, then=photo(DATA))) as (site, web):
        told = []
        assert web.get(site.url(HOST, PATH), accept="image/*", told=told.append).body == DATA
        assert [fault.retry_after for fault in told] == [0]


LATE = {
    "silent": Silent(),
    "dripping headers": DrippingHeaders(),
    "dripping headers of a failure": DrippingHeaders(code=503),
    "dripping body": DrippingBody(),
    "dripping body without length": DrippingBody(announced=None),
    "silent after a piece": DrippingBody(announced=None, start=b"\xff" * (1 << 16), then_silent=True),
    "continue for ever": DrippingContinues(),
    "slow redirects": Slow(0.3, RedirectChain()),
    "slow failures": Slow(0.3, Status(500)),
    "silent TLS": SilentTls(),
    "dripping TLS": DrippingTls(),
}


@needs_tls
@pytest.mark.parametrize("behaviour", LATE.values(), ids=LATE)
def test_the_deadline_holds(behaviour):
    with asking(behaviour, tls=behaviour.listener != "port", total_seconds=0.5, retries=100) as (site, web):
        began = time.monotonic()
        fault = fault_of(site, web, query="?key=secret")
        assert time.monotonic() - began < GENEROUS_SECONDS
        assert fault.of_host
        assert "secret" not in str(fault)
        if behaviour != LATE["slow failures"]:
            assert fault.reason == Reason.TIMEOUT


def test_a_silent_server_is_waited_for_no_longer_than_a_read_may_take():
    with asking(Silent(), read_seconds=0.2, retries=1) as (site, web):
        fault = fault_of(site, web, query="?key=secret")
        assert not any(part in str(fault) for part in ("secret", "a.test", str(site.port)))
        assert (fault.reason, fault.passing, fault.of_host) == (Reason.TIMEOUT, True, True)
        assert len(site.log()) == 2


def test_a_slow_answer_within_the_deadline_is_had():
    with asking(Slow(0.5, photo(DATA)), total_seconds=GENEROUS_SECONDS) as (site, web):
        assert web.get(site.url(HOST, PATH), accept="image/*").body == DATA


def test_a_late_connection_is_cut_beside_good_ones():
    """What is cut is the connection of the thread that is late, and no other."""
    with asking(DrippingBody(), photo(DATA), total_seconds=3) as (site, web):
        faults = []
        late = threading.Thread(target=lambda: faults.append(fault_of(site, web)))
        late.start()
        good = 0
        while late.is_alive():
            good += web.get(site.url(HOST, PATH + "1"), accept="image/*").body == DATA
        late.join()
        assert [fault.reason for fault in faults] == [Reason.TIMEOUT]
        assert good == len(site.asked(HOST, PATH + "1"))


def test_close_ends_the_watch():
    before = set(threading.enumerate())
    with asking(photo(DATA)) as (site, web):
        web.get(site.url(HOST, PATH), accept="image/*")
        watch = [thread for thread in set(threading.enumerate()) - before if thread.name == "reaper"]
    assert len(watch) == 1
    watch[0].join(GENEROUS_SECONDS)
    assert not watch[0].is_alive()


# --- size -------------------------------------------------------------------------------------------------------------


def test_the_cap_is_on_decoded_bytes():
    zeros = bytes(CAP)
    with asking(Gzipped(zeros), Gzipped(zeros + b"\0"), Content(zeros), GzipBomb(4096)) as (site, web):
        assert web.get(site.url(HOST, PATH), accept="image/*").body == zeros
        assert fault_of(site, web, PATH + "1").reason == Reason.TOO_MANY_BYTES
        assert web.get(site.url(HOST, PATH + "2"), accept="image/*").body == zeros
        assert fault_of(site, web, PATH + "2", max_bytes=CAP - 1).reason == Reason.TOO_MANY_BYTES
        assert fault_of(site, web, PATH + "3").reason == Reason.TOO_MANY_BYTES
        assert site.asked(HOST, PATH + "1")[0].sent < 10_000


def test_what_is_announced_as_too_long_is_not_read():
    with asking(DrippingBody(announced=CAP + 1), read_seconds=GENEROUS_SECONDS, total_seconds=5) as (site, web):
        fault = fault_of(site, web)
        assert (fault.reason, fault.of_host) == (Reason.TOO_MANY_BYTES, False)
        assert len(site.log()) == 1


def test_the_headers_are_looked_at_before_the_body():
    def refuse(headers):
        assert headers["X-Robots-Tag"] == "noai"
        raise WebFault(Reason.OPTED_OUT, "no")

    endless = dataclasses.replace(Announced(1 << 40), headers=(("X-Robots-Tag", "noai"),))
    with asking(endless) as (site, web):
        assert fault_of(site, web, look_at=refuse).reason == Reason.OPTED_OUT
        assert len(site.log()) == 1


def test_photos_are_asked_for_as_they_are_and_texts_may_be_packed():
    with asking(photo(DATA), Gzipped(b"<html></html>", "text/html")) as (site, web):
        web.get(site.url(HOST, PATH), accept="image/webp,image/*")
        assert web.get(site.url(HOST, PATH + "1"), accept="text/html").body == b"<html></html>"
        assert [one.headers["accept-encoding"] for one in site.log()] == ["identity", "gzip, identity;q=0.5"]


# --- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed(code):
    with asking(Redirect(PATH + "1", code), RedirectChain(4, photo(DATA))) as (site, web):
        asked, left = [], [60.0]

        def note(url, seconds):
            asked.append(url)
            left.append(seconds)

        answer = web.get(site.url(HOST, PATH), accept="image/*", may_ask=note, stay=True)
        hops = [PATH, PATH + "1", *(f"{PATH}1?hop={hop}" for hop in range(1, 5))]
        assert answer.body == DATA
        assert answer.url == site.url(HOST)[:-1] + hops[-1]
        assert site.paths(HOST) == hops
        assert asked == [site.url(HOST)[:-1] + hop for hop in hops]
        # The time is that of the item, not of each request.
        assert all(before > after for before, after in itertools.pairwise(left))
        assert left[-1] > 60 - GENEROUS_SECONDS


def test_a_redirect_to_another_host_is_followed_or_told():
    with asking(Redirect("//b.test:{port}/there.jpg#part")) as (site, web):
        site.lay_out({("b.test", "/there.jpg"): photo(DATA)})
        there = site.url("b.test", "/there.jpg")
        answer = web.get(site.url(HOST, PATH), accept="image/*")
        assert (answer.url, answer.body) == (there, DATA)
        site.forget()
        with pytest.raises(Moved) as moved:
            web.get(site.url(HOST, PATH), accept="image/*", stay=True)
        assert moved.value.url == there
        assert not site.asked("b.test")


def test_the_body_of_a_redirect_is_not_read():
    endless = Raw(b"HTTP/1.1 302 Found\r\nLocation: /photo.jpg1\r\nContent-Length: 1000000000000\r\n\r\n", endless=True)
    with asking(endless, photo(DATA)) as (site, web):
        assert web.get(site.url(HOST, PATH), accept="image/*").body == DATA


def test_a_redirect_may_be_refused():
    def refuse(url, seconds):
        if "1" in url.rpartition("/")[2]:
            raise WebFault(Reason.ROBOTS_DISALLOWED, "no")

    with asking(Redirect(PATH + "1"), photo(DATA)) as (site, web):
        assert fault_of(site, web, may_ask=refuse).reason == Reason.ROBOTS_DISALLOWED
        assert site.paths(HOST) == [PATH]


@pytest.mark.parametrize(
    "target",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]:{port}/",
        "http://[::ffff:10.0.0.1]/",
        "http://inside.test:{port}/",
        "http://0x0a000001/",
    ],
)
def test_a_redirect_to_a_private_address_is_refused(target, monkeypatch):
    checked = addresses.is_public
    monkeypatch.setattr(addresses, "is_public", lambda address: str(address) == "127.0.0.1" or checked(address))
    known = ((HOST, "127.0.0.1"), ("inside.test", "192.168.0.1"))
    with asking(Redirect(target), allow_private_hosts=False, addresses=known) as (site, web):
        fault = fault_of(site, web)
        assert (fault.reason, fault.passing) == (Reason.PRIVATE_ADDRESS, False)
        assert len(site.log()) == 1


def test_this_machine_is_not_asked():
    with asking(photo(DATA), allow_private_hosts=False) as (site, web):
        assert fault_of(site, web).reason == Reason.PRIVATE_ADDRESS
        assert not site.log()


# --- what is not sent -------------------------------------------------------------------------------------------------


def test_no_cookies_are_kept():
    cookie = (("Set-Cookie", "who=ann; Path=/"), ("Set-Cookie", "all=1; Domain=.test; Path=/"))
    with asking(Redirect(PATH + "1", headers=cookie), Content(DATA, headers=cookie)) as (site, web):
        for _ in range(2):
            web.get(site.url(HOST, PATH), accept="image/*")
        assert len(site.log()) == 4
        assert not any("cookie" in one.headers for one in site.log())


def test_user_names_and_passwords_are_not_sent(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login ann password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with asking(Redirect("http://ann:secret@a.test:{port}" + PATH + "1"), photo(DATA)) as (site, web):
        url = clean_url(site.url(HOST, PATH).replace("//", "//ann:secret@"))
        answer = web.get(url, accept="image/*", stay=True)
        assert answer.url == site.url(HOST, PATH + "1")
        assert len(site.log()) == 2
        assert not any("authorization" in one.headers for one in site.log())


def test_no_proxy_of_the_environment_is_used(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy, asking(photo(DATA)) as (site, web):
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert web.get(site.url(HOST, PATH), accept="image/*").body == DATA
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


# --- TLS --------------------------------------------------------------------------------------------------------------


@needs_tls
def test_a_certificate_that_nobody_signed():
    with asking(OverTls(photo(DATA)), tls=True) as (site, web):
        fault = fault_of(site, web, query="?key=secret")
        assert (fault.reason, fault.passing, fault.of_host) == (Reason.TLS_ERROR, False, True)
        assert "secret" not in str(fault) and "a.test" not in str(fault)
        assert not site.log()


@needs_tls
def test_a_certificate_is_checked_for_the_name_and_not_for_the_address():
    hosts = (HOST, "other.example")
    with asking(OverTls(photo(DATA)), tls=True, hosts=hosts) as (site, web):
        web._session.verify = str(site.certificate)
        assert web.get(site.url(HOST, PATH), accept="image/*").body == DATA
        with pytest.raises(WebFault) as raised:
            web.get(site.url(HOST, PATH).replace(HOST, "other.example"), accept="image/*")
        assert raised.value.reason == Reason.TLS_ERROR


# --- the site itself --------------------------------------------------------------------------------------------------


@needs_tls
def test_a_big_site_has_every_fault_and_mostly_good_photos():
    pages, expected = web_site.big_site([DATA], hosts=5, urls=600)
    good = [place for place, reason in expected.items() if reason == ""]
    assert len(expected) >= 600 and len(good) > 0.75 * len(expected)
    assert len({pages[place].data + pages[place].tail for place in good if isinstance(pages[place], Content)}) > 400
    kinds = {
        kind for kind in vars(web_site).values() if isinstance(kind, type) and issubclass(kind, web_site.Behaviour)
    }
    assert kinds - {type(page) for page in pages.values()} <= {web_site.Behaviour, web_site.Held, Slow}
    with web_site.WebSiteProcess(pages, tls=True) as site:
        place = good[0]
        connection = http.client.HTTPConnection("127.0.0.1", site.port)
        connection.request("GET", place[1], headers={"Host": place[0]})
        assert connection.getresponse().status == 200
        assert site.paths(place[0]) == [place[1]] and site.bodies() == 1
