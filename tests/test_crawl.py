import contextlib
import dataclasses
import threading
import time

import pytest
import tenacity
import web_site
from web_site import (
    Announced,
    Content,
    Held,
    Raw,
    Redirect,
    RedirectChain,
    Reset,
    Silent,
    SilentTls,
    Slow,
    Status,
    WebSite,
    html_as_jpeg,
    photo,
    robots_txt,
)

from celebface.indexing.schemas import Reason
from celebface.transforms.web import client
from celebface.transforms.web import crawl as crawl_module
from celebface.transforms.web.client import Answer, Moved, WebClient
from celebface.transforms.web.crawl import Crawl, Host
from celebface.transforms.web.policy import FetchPolicy, WebFault

HOST = "a.test"
DATA = b"\xff\xd8" + bytes(1000) + b"\xff\xd9"
GOOD = photo(DATA)
GENEROUS_SECONDS = 20  # bounds what would last for ever
POLITE_FROM_NOW = 0.2  # seconds in which requests still arrive that were sent before

needs_tls = pytest.mark.skipif(not web_site.can_make_certificates(), reason="no openssl command")
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch):
    monkeypatch.setattr(client, "_BACKOFF", tenacity.wait_fixed(0.01))


@contextlib.contextmanager
def crawling(pages, work=None, tls=False, **policy):
    """A site, and a crawl of it that knows nothing of pauses unless it is told to."""
    rules = {"threads": 8, "host_rate": 0, "retries": 0, "total_seconds": 30, "robots": False, "max_bytes": 1 << 20}
    with WebSite(pages, tls=tls) as site:
        rules |= {"addresses": site.addresses, "allow_private_hosts": True} | policy
        checked = FetchPolicy(**rules)
        with (
            contextlib.closing(WebClient(checked)) as web,
            contextlib.closing(Crawl(work or ask, web, checked)) as crawl,
        ):
            yield site, crawl


def ask(host, url):
    """How an item ends: its URL and the reason, empty for a good one."""
    try:
        host.get(url, accept="image/*", stay=True)
    except WebFault as fault:
        return url, fault.reason
    except Moved as moved:
        return moved.url, "moved"
    return url, ""


def add_all(site, crawl, places):
    for host, path in places:
        crawl.add(host, site.url(host, path))


def endings(site, crawl, places):
    """The reason of each place, in its order."""
    add_all(site, crawl, places)
    reasons = dict(crawl.results())
    return [reasons[site.url(*place)] for place in places]


def many(behaviour, count, host=HOST):
    return {(host, f"/{number}.jpg"): behaviour for number in range(count)}


def in_turn(*behaviours, host=HOST):
    return {(host, f"/{number}.jpg"): behaviour for number, behaviour in enumerate(behaviours)}


# --- at once ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0, 1000])
def test_a_host_has_so_many_requests_at_once_and_no_more(rate):
    pages = many(Slow(0.05, GOOD), 18) | many(Slow(0.05, GOOD), 18, "b.test")
    with crawling(pages, host_connections=3, threads=16, host_rate=rate) as (site, crawl):
        assert endings(site, crawl, list(pages)) == [""] * 36
        assert site.most_at_once(HOST) == site.most_at_once("b.test") == 3
        assert site.most_at_once() > 3


def test_retries_and_redirects_are_within_the_limit():
    pages = many(Slow(0.02, Status(500, times=1, then=RedirectChain(2, GOOD))), 12)
    with crawling(pages, host_connections=2, retries=3) as (site, crawl):
        assert endings(site, crawl, list(pages)) == [""] * 12
        assert site.most_at_once(HOST) == 2


def test_hosts_are_asked_at_the_same_time():
    together = threading.Barrier(8)

    def meet(host, item):
        together.wait(GENEROUS_SECONDS)
        return host.name

    with crawling({}, meet) as (_, crawl):
        for number in range(8):
            crawl.add(f"{number}.test", None)
        assert sorted(crawl.results()) == [f"{number}.test" for number in range(8)]


def test_the_first_request_to_a_host_is_alone_until_it_is_answered():
    pages = many(Held("door", GOOD), 5) | many(GOOD, 20, "b.test")
    with crawling(pages) as (site, crawl):
        add_all(site, crawl, pages)
        assert {url.split("/")[2].split(":")[0] for url, _ in crawl.results(down_to=5)} == {"b.test"}
        assert len(site.asked(HOST)) == 1
        site.let_go("door")
        assert len(list(crawl.results())) == 5
        assert len(site.asked(HOST)) == 5


def test_an_item_that_comes_late_is_asked_for_at_once():
    pages = many(Held("door", GOOD), 2) | {(HOST, "/first.jpg"): GOOD}
    with crawling(pages) as (site, crawl):
        add_all(site, crawl, [(HOST, "/first.jpg")])
        assert len(list(crawl.results())) == 1
        add_all(site, crawl, [(HOST, "/0.jpg")])
        add_all(site, crawl, [(HOST, "/1.jpg")])
        site.let_go("door")
        assert len(list(crawl.results())) == 2


# --- pace -------------------------------------------------------------------------------------------------------------


def test_the_rate_holds_over_all_threads():
    pages = many(GOOD, 16)
    with crawling(pages, host_rate=20, host_connections=8) as (site, crawl):
        began = time.monotonic()
        assert endings(site, crawl, list(pages)) == [""] * 16
        assert max(one.started for one in site.log()) - began >= 15 / 20


def test_one_of_several_workers_of_a_host_takes_its_share():
    pages = {(HOST, "/robots.txt"): robots_txt("User-agent: *\nCrawl-delay: 0.1"), (HOST, "/"): GOOD}
    with crawling(pages, robots=True, host_rate=40, host_connections=8, host_workers=4) as (site, crawl):
        host = Host(HOST, crawl._client, crawl._policy)
        assert (host.connections, host._interval) == (2, 0.1)
        host.get(site.url(HOST, "/"), accept="image/*", stay=True)
        assert host._interval == pytest.approx(0.4)


def test_a_host_has_no_more_workers_than_connections():
    with pytest.raises(
        ValueError, match="each of 5 host_workers needs one of the host_connections, of which there are 4"
    ):
        FetchPolicy(host_workers=5)


def test_the_rate_holds_for_retries_redirects_and_robots():
    pages = {(HOST, "/0.jpg"): Status(500, times=2, then=RedirectChain(3, GOOD))}
    with crawling(pages, host_rate=20, retries=3, robots=True) as (site, crawl):
        began = time.monotonic()
        assert endings(site, crawl, list(pages)) == [""]
        assert len(site.log()) == 7
        assert max(one.started for one in site.log()) - began >= 6 / 20


def test_a_crawl_delay_is_obeyed():
    pages = many(GOOD, 4) | {(HOST, "/robots.txt"): robots_txt("User-agent: *\nCrawl-delay: 0.3\n")}
    with crawling(pages, robots=True) as (site, crawl):
        began = time.monotonic()
        assert endings(site, crawl, list(many(GOOD, 4))) == [""] * 4
        assert max(one.started for one in site.log()) - began >= 3 * 0.3


def test_a_crawl_delay_does_not_use_up_the_time_of_the_items():
    """Threads do not queue at a slow host until their deadlines have passed."""
    pages = many(GOOD, 5) | {(HOST, "/robots.txt"): robots_txt("User-agent: *\nCrawl-delay: 0.6\n")}

    def slowly(host, url):
        threading.Event().wait(0.05)  # all threads that may take an item have taken one before the first asks
        return ask(host, url)

    with crawling(pages, slowly, robots=True, total_seconds=1, host_connections=4) as (site, crawl):
        assert endings(site, crawl, list(many(GOOD, 5))) == [""] * 5


def test_retry_after_pauses_the_whole_host_and_no_other():
    pages = in_turn(GOOD, Status(429, retry_after="1", times=1, then=GOOD), *[Slow(0.02, GOOD)] * 10)
    others = many(Slow(0.02, GOOD), 10, "b.test")
    with crawling(pages | others, retries=1) as (site, crawl):
        assert endings(site, crawl, [*pages, *others]) == [""] * 22
        [paused] = [one.ended for one in site.log() if one.status == 429]
        started = [one.started - paused for one in site.asked(HOST)]
        assert not [seconds for seconds in started if POLITE_FROM_NOW < seconds < 1]
        assert max(one.started for one in site.asked("b.test")) - paused < 1


def test_threads_are_not_kept_by_a_host_that_wants_pauses():
    """A thread takes an item of a host once the host may be asked, and does not wait for that with the item in hand."""
    pages = many(GOOD, 4) | {(HOST, "/robots.txt"): robots_txt("User-agent: *\nCrawl-delay: 0.2\n")}
    early = []

    def note(host, url):
        early.append(host.ready_at > time.monotonic())
        return ask(host, url)

    with crawling(pages, note, robots=True, threads=1) as (site, crawl):
        assert endings(site, crawl, list(many(GOOD, 4))) == [""] * 4
        assert early == [False] * 4


def test_a_pause_that_is_too_long_ends_the_host_without_asking():
    pages = in_turn(Status(429, retry_after="3600"), *[GOOD] * 9)
    with crawling(pages) as (site, crawl):
        assert endings(site, crawl, list(pages)) == [Reason.RATE_LIMITED] * 10
        assert len(site.log()) == 1


class Clock:
    """In place of the time module: time passes only for those who sleep."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


class Timed:
    """A client that asks for things for which so many seconds are left."""

    def __init__(self, left):
        self.left = left
        self.asked = []

    def get(self, url, *, may_ask, **how):
        may_ask(url, self.left)
        self.asked.append(url)
        return Answer(200, url, {}, DATA)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(crawl_module, "time", clock)
    return clock


@pytest.mark.parametrize(("left", "waits"), [(2.0, True), (60.0, True), (1.9, False), (0.0, False)])
def test_a_turn_that_comes_too_late_is_not_waited_for(clock, left, waits):
    web = Timed(60.0)
    host = Host(HOST, web, FetchPolicy(host_rate=0.5, robots=False))
    host.get("http://a.test/1", accept="image/*")
    web.left = left
    if waits:
        host.get("http://a.test/2", accept="image/*")
        assert (clock.slept, web.asked) == ([2], ["http://a.test/1", "http://a.test/2"])
        return
    with pytest.raises(WebFault) as raised:
        host.get("http://a.test/2", accept="image/*")
    fault = raised.value
    assert (fault.reason, str(fault)) == (Reason.RATE_LIMITED, "its host is not to be asked for another 2 s")
    assert not fault.of_host and not fault.passing
    assert (clock.slept, web.asked) == ([], ["http://a.test/1"])
    web.left = 60.0  # the turn was not used up
    host.get("http://a.test/3", accept="image/*")
    assert clock.slept == [2]


def test_the_time_that_robots_txt_took_is_gone(clock):
    class SlowRobots(Timed):
        def get(self, url, *, may_ask, **how):
            if url.endswith("/robots.txt"):
                may_ask(url, 60.0)
                clock.now += 3
                return Answer(200, url, {}, b"User-agent: *\nCrawl-delay: 5\n")
            return super().get(url, may_ask=may_ask, **how)

    web = SlowRobots(7.0)
    host = Host(HOST, web, FetchPolicy(host_rate=0.2))  # the turn after robots.txt comes after 5 s, 2 s from its answer
    host.get("http://a.test/1", accept="image/*")
    assert clock.slept == [2]
    host = Host(HOST, web, FetchPolicy(host_rate=0.2))
    web.left = 4.9
    with pytest.raises(WebFault, match="its host is not to be asked for another 2 s"):
        host.get("http://a.test/1", accept="image/*")


def test_an_item_whose_time_is_up_is_late_and_not_refused_by_its_host(clock):
    web = Timed(-1.0)
    Host(HOST, web, FetchPolicy(robots=False)).get("http://a.test/1", accept="image/*")  # it is for the client to tell
    assert (clock.slept, web.asked) == ([], ["http://a.test/1"])


def test_what_was_not_asked_for_says_nothing_of_the_host(clock):
    """A host that fails whenever it is asked is left alone, however many items found no turn in between."""

    class Failing(Timed):
        def get(self, url, **how):
            super().get(url, **how)
            raise WebFault(Reason.SERVER_ERROR, "status 503", of_host=True)

    web = Failing(60.0)
    host = Host(HOST, web, FetchPolicy(host_rate=0.5, host_failures=2, robots=False))
    reasons = []
    for left in (60.0, 1.0, 60.0, 60.0):
        web.left = left
        with pytest.raises(WebFault) as raised:
            host.get("http://a.test/1", accept="image/*")
        reasons.append(raised.value.reason)
    assert reasons == [Reason.SERVER_ERROR, Reason.RATE_LIMITED, Reason.SERVER_ERROR, Reason.HOST_FAILING]


# --- hosts that fail --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Status(503), Reason.SERVER_ERROR),
        (Status(429), Reason.RATE_LIMITED),
        (Reset(), Reason.CONNECTION_FAILED),
        (Raw(), Reason.CONNECTION_FAILED),
        (Silent(), Reason.TIMEOUT),
    ],
)
def test_a_failing_host_is_left_alone(behaviour, reason):
    pages = many(behaviour, 8)
    with crawling(pages, host_failures=3, host_connections=1, read_seconds=0.1) as (site, crawl):
        assert endings(site, crawl, list(pages)) == [reason] * 3 + [Reason.HOST_FAILING] * 5
        assert len(site.log()) == 3


def test_with_several_threads_few_more_are_asked_for():
    pages = many(Status(503), 30) | many(GOOD, 30, "b.test")
    with crawling(pages, host_failures=3, host_connections=4) as (site, crawl):
        reasons = endings(site, crawl, list(pages))
        assert set(reasons[:30]) == {Reason.SERVER_ERROR, Reason.HOST_FAILING}
        assert reasons[30:] == [""] * 30
        assert 3 <= len(site.asked(HOST)) <= 3 + 4


@pytest.mark.parametrize("between", [GOOD, Status(404), html_as_jpeg(), RedirectChain(1, GOOD)])
def test_an_answer_between_failures_counts_anew(between):
    pages = in_turn(*[Status(503), Status(503), between] * 4)
    with crawling(pages, host_failures=3, host_connections=1) as (site, crawl):
        assert Reason.HOST_FAILING not in endings(site, crawl, list(pages))
        assert len({one.path.partition("?")[0] for one in site.log()}) == 12


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Status(404), Reason.NOT_FOUND),
        (Status(403), Reason.FORBIDDEN),
        (Announced(1 << 40), Reason.TOO_MANY_BYTES),
        (RedirectChain(), Reason.TOO_MANY_REDIRECTS),
    ],
)
def test_faults_of_pages_do_not_count(behaviour, reason):
    pages = many(behaviour, 8)
    with crawling(pages, host_failures=3) as (site, crawl):
        assert endings(site, crawl, list(pages)) == [reason] * 8
        assert len({one.path.partition("?")[0] for one in site.log()}) == 8


def test_what_robots_do_not_allow_says_nothing_of_the_host():
    failing, barred = Status(503), [(HOST, f"/private/{number}") for number in range(4)]
    pages = many(failing, 3) | {(HOST, "/robots.txt"): robots_txt("User-agent: *\nDisallow: /private\n")}
    with crawling(pages, host_failures=3, host_connections=1, robots=True) as (site, crawl):
        places = [*barred, *many(failing, 3), *barred[:1]]
        reasons = endings(site, crawl, places[:-1])
        assert reasons == [Reason.ROBOTS_DISALLOWED] * 4 + [Reason.SERVER_ERROR] * 3
        assert endings(site, crawl, places[-1:]) == [Reason.HOST_FAILING]


# --- robots.txt and opt-outs ------------------------------------------------------------------------------------------


def test_robots_txt_is_asked_for_once_and_obeyed():
    text = "User-agent: *\nDisallow: /\n\nUser-agent: celebface\nDisallow: /private/\n"
    places = [(HOST, f"/{folder}/{number}.jpg") for number in range(10) for folder in ("open", "private")]
    pages = dict.fromkeys(places, GOOD) | {(HOST, "/robots.txt"): robots_txt(text)}
    with crawling(pages, robots=True) as (site, crawl):
        assert endings(site, crawl, places) == ["", Reason.ROBOTS_DISALLOWED] * 10
        paths = site.paths(HOST)
        assert paths[0] == "/robots.txt"
        assert sorted(paths[1:]) == sorted(path for _, path in places if "private" not in path)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Status(404), ""),
        (Status(410), ""),
        (Status(401), ""),
        (Status(403), ""),
        (Status(418), ""),
        (RedirectChain(), ""),
        (RedirectChain(3, robots_txt("User-agent: *\nDisallow: /0.jpg\n")), Reason.ROBOTS_DISALLOWED),
        (Redirect("http://b.test:{port}/robots.txt"), Reason.ROBOTS_DISALLOWED),
        (robots_txt("\ufeffUser-agent: *\r\nDisallow: /0.jpg\r\n"), Reason.ROBOTS_DISALLOWED),
        (robots_txt(""), ""),
        (html_as_jpeg(), ""),
        (Content(b"\xff\xfe\x00" * 100, "text/plain"), ""),
        (Status(500), Reason.ROBOTS_UNREACHABLE),
        (Status(503), Reason.ROBOTS_UNREACHABLE),
        (Status(429), Reason.ROBOTS_UNREACHABLE),
        (Announced(1 << 40), Reason.ROBOTS_UNREACHABLE),
        (Reset(), Reason.CONNECTION_FAILED),
        (Silent(), Reason.TIMEOUT),
    ],
)
def test_robots_txt_that_is_not_there(behaviour, reason):
    pages = {(HOST, "/robots.txt"): behaviour, (HOST, "/0.jpg"): GOOD}
    pages["b.test", "/robots.txt"] = robots_txt("User-agent: *\nDisallow: /\n")
    with crawling(pages, robots=True, read_seconds=0.2) as (site, crawl):
        assert endings(site, crawl, [(HOST, "/0.jpg")]) == [reason]
        assert len(site.asked(HOST, "/0.jpg")) == (reason == "")


def test_unreachable_rules_hold_for_all_and_are_not_asked_for_again():
    pages = many(GOOD, 10) | {(HOST, "/robots.txt"): Status(500)}
    with crawling(pages, robots=True, retries=2) as (site, crawl):
        assert endings(site, crawl, list(many(GOOD, 10))) == [Reason.ROBOTS_UNREACHABLE] * 10
        assert site.paths(HOST) == ["/robots.txt"] * 3


def test_a_host_that_resets_everything_is_not_asked_again_for_each_item():
    pages = many(GOOD, 5) | {(HOST, "/robots.txt"): Reset()}
    with crawling(pages, robots=True, retries=2, host_failures=2, host_connections=1) as (site, crawl):
        reasons = endings(site, crawl, list(many(GOOD, 5)))
        assert reasons == [Reason.CONNECTION_FAILED] * 2 + [Reason.HOST_FAILING] * 3
        assert site.paths(HOST) == ["/robots.txt"] * 3


def test_without_robots_nothing_is_asked_of_robots_txt():
    pages = many(GOOD, 3) | {(HOST, "/robots.txt"): robots_txt("User-agent: *\nDisallow: /\n")}
    with crawling(pages, robots=False) as (site, crawl):
        assert endings(site, crawl, list(many(GOOD, 3))) == [""] * 3
        assert "/robots.txt" not in site.paths(HOST)


def test_each_origin_has_rules_of_its_own():
    barred = {(HOST, "/robots.txt"): robots_txt("User-agent: *\nDisallow: /\n")}
    with WebSite(barred) as elsewhere, crawling(many(GOOD, 1), robots=True) as (site, crawl):
        crawl.add(HOST, elsewhere.url(HOST, "/0.jpg"))
        crawl.add(HOST, site.url(HOST, "/0.jpg"))
        assert [reason for _, reason in crawl.results()] == [Reason.ROBOTS_DISALLOWED, ""]


def test_http_and_https_are_two_origins():
    asked = []

    class Listening:
        def get(self, url, **how):
            asked.append(url)
            raise WebFault(Reason.NOT_FOUND, "no")

    host = Host(HOST, Listening(), FetchPolicy())
    for url in ("http://a.test/1", "https://a.test/1", "http://a.test/2", "https://a.test/2"):
        host.rules(url)
    assert asked == ["http://a.test/robots.txt", "https://a.test/robots.txt"]


@needs_tls
def test_an_origin_that_hangs_does_not_hold_up_the_others():
    secure = {(HOST, f"/secure{number}.jpg"): SilentTls() for number in range(3)}
    pages = {(HOST, "/first.jpg"): GOOD, **secure, **many(GOOD, 10)}
    with crawling(pages, tls=True, robots=True, total_seconds=0.6, host_connections=4) as (site, crawl):
        reasons = dict(zip(pages, endings(site, crawl, list(pages)), strict=True))
        assert {place for place in pages if reasons[place]} == set(secure)
        assert {reasons[place] for place in secure} == {Reason.TIMEOUT}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("X-Robots-Tag", "noai", Reason.OPTED_OUT),
        ("X-Robots-Tag", "noarchive, NoImageAI", Reason.OPTED_OUT),
        ("X-Robots-Tag", "celebface: noai", Reason.OPTED_OUT),
        ("X-Robots-Tag", "otherbot: noai, celebface: noai", Reason.OPTED_OUT),
        ("TDM-Reservation", "1", Reason.OPTED_OUT),
        ("X-Robots-Tag", "otherbot: noai", ""),
        ("X-Robots-Tag", "otherbot: noarchive, noai", ""),
        ("X-Robots-Tag", "noarchive", ""),
        ("X-Robots-Tag", "", ""),
        ("TDM-Reservation", "0", ""),
    ],
)
def test_opt_outs(name, value, reason):
    pages = many(dataclasses.replace(GOOD, headers=((name, value),)), 1)
    with crawling(pages) as (site, crawl):
        assert endings(site, crawl, list(pages)) == [reason]
    with crawling(pages, opt_outs=False) as (site, crawl):
        assert endings(site, crawl, list(pages)) == [""]


@pytest.mark.parametrize(
    ("headers", "opt_outs", "reason"),
    [
        ((("X-Robots-Tag", "noai"),), True, Reason.OPTED_OUT),
        ((("TDM-Reservation", "1"),), True, Reason.OPTED_OUT),
        ((("X-Robots-Tag", "noarchive"),), True, ""),
        ((("X-Robots-Tag", "noai"),), False, ""),
    ],
)
def test_opt_outs_of_what_has_not_changed(headers, opt_outs, reason):
    def ask_again(host, url):
        try:
            assert host.get(url, accept="image/*", headers={"If-None-Match": '"7"'}).status == 304
        except WebFault as fault:
            return url, fault.reason
        return url, ""

    pages = many(Status(304, headers=headers), 1)
    with crawling(pages, ask_again, opt_outs=opt_outs) as (site, crawl):
        assert endings(site, crawl, list(pages)) == [reason]


def test_several_headers_of_one_name():
    headers = (("X-Robots-Tag", "otherbot: noarchive"), ("X-Robots-Tag", "celebface: noai"))
    pages = many(dataclasses.replace(GOOD, headers=headers), 1)
    with crawling(pages) as (site, crawl):
        assert endings(site, crawl, list(pages)) == [Reason.OPTED_OUT]


# --- results ----------------------------------------------------------------------------------------------------------


def test_what_work_raises_is_raised_by_results():
    def fail(host, item):
        if item == 3:
            raise KeyError("a defect")
        return item

    with crawling({}, fail) as (_, crawl):
        for number in range(10):
            crawl.add(HOST, number)
        with pytest.raises(KeyError, match="a defect"):
            list(crawl.results())
        threads = crawl._threads
    assert not any(thread.is_alive() for thread in threads)


def test_results_go_down_to_so_many():
    with crawling({}, lambda host, item: item) as (_, crawl):
        for number in range(10):
            crawl.add(f"{number % 3}.test", number)
        some = list(crawl.results(down_to=4))
        assert len(some) == 6
        assert list(crawl.results(down_to=4)) == []
        rest = list(crawl.results())
        assert sorted(some + rest) == list(range(10))
        assert list(crawl.results()) == []


def test_no_more_is_held_than_threads_and_queue_can_hold():
    done = []
    full = threading.Event()

    def note(host, item):
        done.append(item)
        if len(done) == 4:
            full.set()
        return item

    with crawling({}, note, threads=2) as (_, crawl):
        for number in range(100):
            crawl.add(f"{number}.test", number)
        assert full.wait(GENEROUS_SECONDS)
        assert len(done) <= 2 + 2
        assert sorted(crawl.results()) == list(range(100))


@pytest.mark.parametrize("early", [True, False])
def test_a_host_is_forgotten_when_its_items_are_done(early):
    """With what its robots.txt said: whoever adds more of it later asks anew."""
    pages = many(GOOD, 4) | {(HOST, "/robots.txt"): robots_txt(""), ("b.test", "/0.jpg"): GOOD}
    places = list(many(GOOD, 4))
    with crawling(pages, robots=True, threads=1) as (site, crawl):  # with one thread all is done in order
        add_all(site, crawl, places[:2])
        if early:
            crawl.end(HOST)
        assert [reason for _, reason in crawl.results()] == ["", ""]
        assert endings(site, crawl, [("b.test", "/0.jpg")]) == [""]  # when it is had, the thread is done with the other
        if not early:
            crawl.end(HOST)
        assert endings(site, crawl, places[2:]) == ["", ""]
        assert site.paths(HOST) == ["/robots.txt", "/0.jpg", "/1.jpg", "/robots.txt", "/2.jpg", "/3.jpg"]


def test_a_host_that_has_not_ended_is_remembered():
    pages = many(GOOD, 2) | {(HOST, "/robots.txt"): robots_txt(""), ("b.test", "/0.jpg"): GOOD}
    with crawling(pages, robots=True, threads=1) as (site, crawl):
        for place in [(HOST, "/0.jpg"), ("b.test", "/0.jpg"), (HOST, "/1.jpg")]:
            assert endings(site, crawl, [place]) == [""]
        assert site.paths(HOST) == ["/robots.txt", "/0.jpg", "/1.jpg"]


def test_of_many_hosts_none_is_remembered():
    with crawling({}, lambda host, item: item) as (_, crawl):
        for number in range(300):
            for part in range(3):
                crawl.add(f"{number}.test", (number, part))
            crawl.end(f"{number}.test")
            list(crawl.results(down_to=20))
        list(crawl.results())
        crawl.end("unknown.test")
        crawl.close()  # the threads are done with what they had
        assert crawl._lanes == {}


def test_a_host_is_not_forgotten_while_something_is_asked_of_it():
    """Else what is added late would be asked for beside it, by other limits."""
    started, door, hosts = threading.Event(), threading.Event(), []

    def hold(host, item):
        hosts.append(host)
        started.set()
        assert door.wait(GENEROUS_SECONDS)
        return item

    with crawling({}, hold) as (_, crawl):
        crawl.add(HOST, "first")
        assert started.wait(GENEROUS_SECONDS)
        crawl.end(HOST)
        crawl.add(HOST, "late")
        door.set()
        assert list(crawl.results()) == ["first", "late"]
        assert len(hosts) == 2 and hosts[0] is hosts[1]


def test_close_ends_all_threads_whatever_is_unfinished():
    pages = many(Slow(0.02, GOOD), 50) | many(Slow(0.02, GOOD), 50, "b.test")
    with crawling(pages, threads=4) as (site, crawl):
        add_all(site, crawl, pages)
        assert len(list(crawl.results(down_to=95))) == 5
        crawl.close()
        assert not any(thread.is_alive() for thread in crawl._threads)
        assert len(site.log()) < 50


def test_close_of_what_was_never_used():
    with crawling({}) as (_, crawl):
        crawl.close()
        assert not any(thread.is_alive() for thread in crawl._threads)


# --- all of it --------------------------------------------------------------------------------------------------------


@needs_tls
def test_every_item_of_a_big_site_ends_as_it_must():
    pages, expected = web_site.big_site([DATA, DATA + b"2"], hosts=4, urls=250)
    with crawling(pages, tls=True, threads=24, robots=True, retries=2, total_seconds=3) as (site, crawl):
        add_all(site, crawl, expected)
        found = {"html_page": "", "empty": "", "|duplicate": ""}  # what those who take the bytes find
        wanted = {site.url(*place): found.get(reason, reason) for place, reason in expected.items()}
        left = set(wanted)
        wrong = {}
        for url, reason in crawl.results():
            if reason == "moved":
                assert "/elsewhere/" in url
                continue
            left.remove(url)
            if not web_site.agrees(wanted[url], reason):
                wrong[url] = wanted[url], reason
        assert wrong == {}
        assert {type(pages[place]) for place in expected if site.url(*place) in left} == {Redirect}
        assert max(site.most_at_once(host) for host, _ in expected) <= 4


# --- patience ---------------------------------------------------------------------------------------------------------


def test_patience_shrinks_with_what_hangs_but_not_below_what_the_host_needs():
    pages = {(HOST, "/slow.jpg"): Slow(0.03, GOOD), (HOST, "/1.jpg"): Silent(), (HOST, "/2.jpg"): Silent()}
    with WebSite(pages) as site:
        policy = FetchPolicy(
            host_rate=0, retries=0, robots=False, total_seconds=1, addresses=site.addresses, allow_private_hosts=True
        )
        with contextlib.closing(WebClient(policy)) as web:
            host = Host(HOST, web, policy)
            assert host.patience == 1
            for number, patience in ((1, 1 / 3), (2, 1 / 6)):
                with pytest.raises(WebFault) as caught:
                    host.get(site.url(HOST, f"/{number}.jpg"), accept="image/*")
                assert caught.value.reason == Reason.TIMEOUT
                assert host.patience == pytest.approx(patience)
            assert str(caught.value) == "not had within 0.333333 s"
            for _ in range(2):
                host.get(site.url(HOST, "/slow.jpg"), accept="image/*")
            assert 10 * 0.03 <= host.patience <= 1


def test_hanging_photos_do_not_take_their_full_time_one_after_the_other():
    pages = {(HOST, f"/{number}.jpg"): Silent() for number in range(12)}
    started = time.monotonic()
    with crawling(pages, total_seconds=2, host_connections=2, host_failures=100) as (site, crawl):
        reasons = endings(site, crawl, [(HOST, f"/{number}.jpg") for number in range(12)])
    assert reasons == [Reason.TIMEOUT] * 12
    assert time.monotonic() - started < 12 / 2 * 2  # as long as they would take with the first ones' patience
