"""What a site asks of robots: robots.txt in all its forms, and opt-outs in headers."""

import pytest
import requests
import urllib3

from celebface.indexing.schemas import Reason
from celebface.transforms.web import robots
from celebface.transforms.web.client import Answer
from celebface.transforms.web.policy import WebFault
from celebface.transforms.web.robots import RobotsRules

SITE = "https://a.example"
PHOTO = f"{SITE}/photos/ann.jpg"


def load(body: bytes | str) -> RobotsRules:
    """The rules of a site with this robots.txt."""
    data = body.encode() if isinstance(body, str) else body
    return RobotsRules.load(PHOTO, lambda place, **how: Answer(200, place, {}, data))


def load_fault(fault: WebFault) -> RobotsRules:
    """The rules of a site whose robots.txt cannot be had."""

    def get(place, **how):
        raise fault

    return RobotsRules.load(PHOTO, get)


def allows(rules: RobotsRules, path: str) -> bool:
    try:
        rules.check(SITE + path)
    except WebFault as fault:
        assert (fault.reason, fault.passing, fault.of_host) == (Reason.ROBOTS_DISALLOWED, False, False)
        return False
    return True


# --- where the rules are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://a.example/photos/ann.jpg?size=1", "https://a.example/robots.txt"),
        ("http://a.example/", "http://a.example/robots.txt"),
        ("http://a.example:8080/deep/er/", "http://a.example:8080/robots.txt"),
        ("http://[2606:4700::1111]:81/a", "http://[2606:4700::1111]:81/robots.txt"),
    ],
)
def test_the_rules_are_those_of_the_origin(url, place):
    asked = []

    def get(place, **how):
        asked.append((place, how))
        return Answer(200, place, {}, b"")

    RobotsRules.load(url, get)
    [(found, how)] = asked
    assert found == place
    assert how["max_bytes"] >= 500 * 1024


# --- robots.txt -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "allowed", "disallowed"),
    [
        ("", ["/", "/photos/ann.jpg"], []),
        ("# nothing but a remark\n", ["/a"], []),
        ("User-agent: *\nDisallow:\n", ["/", "/a"], []),
        ("User-agent: *\nDisallow: /\n", ["/robots.txt"], ["/", "/a", "/a?b"]),
        ("User-agent: *\nDisallow: /photos/\n", ["/", "/photos", "/a/photos/"], ["/photos/", "/photos/ann.jpg"]),
        ("USER-AGENT: *\r\nDISALLOW: /photos\r\n", ["/a"], ["/photos", "/photos2"]),
        ("User-agent: *\rDisallow: /photos\r", ["/a"], ["/photos"]),
        ("User-agent: * # all\nDisallow: /a # not this\n", ["/b"], ["/a"]),
        ("Disallow: /\n", ["/a"], []),  # of nobody
        # groups of agents
        ("User-agent: otherbot\nDisallow: /\n", ["/a"], []),
        ("User-agent: celebface\nDisallow: /a\n", ["/b"], ["/a"]),
        ("User-agent: CelebFace\nDisallow: /a\n", ["/b"], ["/a"]),
        ("User-agent: *\nDisallow: /\n\nUser-agent: celebface\nDisallow: /a\n", ["/b"], ["/a"]),
        ("User-agent: celebface\nDisallow: /a\n\nUser-agent: *\nDisallow: /\n", ["/b"], ["/a"]),
        ("User-agent: otherbot\nUser-agent: celebface\nDisallow: /a\n", ["/b"], ["/a"]),
        ("User-agent: celebface\nDisallow: /a\nUser-agent: celebface\nDisallow: /b\n", ["/c"], ["/a", "/b"]),
        ("User-agent: *\nDisallow: /a\nUser-agent: *\nDisallow: /b\n", ["/c"], ["/a", "/b"]),
        # wildcards, and the longest rule
        ("User-agent: *\nDisallow: /*.jpg\n", ["/a.png"], ["/a.jpg", "/b/c.jpg?d"]),
        ("User-agent: *\nDisallow: /*.jpg$\n", ["/a.png", "/a.jpg?b"], ["/a.jpg"]),
        ("User-agent: *\nDisallow: /*?\n", ["/a"], ["/a?b"]),
        ("User-agent: *\nDisallow: /\nAllow: /photos/\n", ["/photos/ann.jpg"], ["/", "/a"]),
        ("User-agent: *\nAllow: /photos/\nDisallow: /photos/of/\n", ["/photos/a"], ["/photos/of/a"]),
        ("User-agent: *\nAllow: /a\nDisallow: /a\n", ["/a"], []),  # the milder of two equal ones
        ("User-agent: *\nDisallow: /caf\u00e9\n", ["/cafe"], ["/caf%C3%A9"]),
        ("User-agent: *\nDisallow: /%7Eann\n", ["/ann"], ["/~ann"]),
        # lines of other kinds
        ("Sitemap: https://a.example/map.xml\nUser-agent: *\nNonsense: 1\nDisallow: /a\n", ["/b"], ["/a"]),
    ],
)
def test_rules(text, allowed, disallowed):
    rules = load(text)
    assert (rules.kind, rules.reachable) == ("read", True)
    assert [path for path in allowed + disallowed if allows(rules, path)] == allowed


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbfUser-agent: *\nDisallow: /a\n",  # byte order mark
        b"# caf\xe9, \xff\xfe\nUser-agent: *\nDisallow: /a\n",  # Latin-1
        b"\0\0\x1f\nUser-agent: *\nDisallow: /a\n",
        b"User-agent: *\nDisallow: /a\n" + b"x" * 100_000,
    ],
    ids=["byte order mark", "Latin-1", "control characters", "endless line"],
)
def test_rules_are_found_among_odd_bytes(body):
    rules = load(body)
    assert not allows(rules, "/a")
    assert allows(rules, "/b")


@pytest.mark.parametrize(
    "body",
    [
        b"<!doctype html><html><head><title>Not found</title></head><body>Disallow: / for a while</body></html>",
        b"<!doctype html>\n<html>\n<body>\nDisallow: /\n</body>\n</html>\n",
        "User-agent: *\nDisallow: /".encode("utf-16"),
        bytes(range(256)),
    ],
    ids=["web page", "web page of many lines", "UTF-16", "any bytes"],
)
def test_what_is_no_robots_txt_forbids_nothing(body):
    assert allows(load(body), "/a")


def test_patterns_made_to_be_slow_are_not():
    rules = load("User-agent: *\n" + f"Disallow: /{'*a' * 500}b\n" * 20)
    assert allows(rules, "/" + "a" * 5000)


# --- robots.txt that cannot be had ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason", [Reason.NOT_FOUND, Reason.GONE, Reason.FORBIDDEN, Reason.HTTP_STATUS, Reason.TOO_MANY_REDIRECTS]
)
def test_a_site_without_rules_allows_everything(reason):
    rules = load_fault(WebFault(reason, "none"))
    assert (rules.kind, rules.reachable, rules.delay) == ("none", True, 0.0)
    assert allows(rules, "/a")


@pytest.mark.parametrize(
    "reason",
    [
        Reason.SERVER_ERROR,
        Reason.RATE_LIMITED,
        Reason.TOO_MANY_BYTES,
        Reason.TRUNCATED,
        Reason.UNDECODABLE,
        Reason.BAD_URL,
    ],
)
def test_a_site_that_cannot_tell_its_rules_allows_nothing(reason):
    rules = load_fault(WebFault(reason, "broken", passing=True, of_host=True))
    assert (rules.kind, rules.reachable, rules.delay) == ("unreachable", False, 0.0)
    with pytest.raises(WebFault) as caught:
        rules.check(PHOTO)
    assert (caught.value.reason, caught.value.of_host) == (Reason.ROBOTS_UNREACHABLE, False)


@pytest.mark.parametrize(
    "reason",
    [
        Reason.CONNECTION_FAILED,
        Reason.TIMEOUT,
        Reason.TLS_ERROR,
        Reason.NO_SUCH_HOST,
        Reason.PRIVATE_ADDRESS,
        Reason.HOST_FAILING,
    ],
)
def test_faults_of_the_host_are_its_own(reason):
    fault = WebFault(reason, "away", passing=True, of_host=True)
    with pytest.raises(WebFault) as caught:
        load_fault(fault)
    assert caught.value is fault


# --- Crawl-delay ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("User-agent: *\nDisallow: /a\n", 0.0),
        ("User-agent: *\nCrawl-delay: 2\n", 2.0),
        ("User-agent: *\nCrawl-delay: 0.5\n", 0.5),
        ("User-agent: *\nCrawl-delay: 30\n", 30.0),
        ("User-agent: *\nCrawl-delay: 86400\n", 30.0),
        ("User-agent: *\nCrawl-delay: 1e300\n", 30.0),
        ("User-agent: *\nCrawl-delay: -1\n", 0.0),
        ("User-agent: *\nCrawl-delay: nan\n", 0.0),
        ("User-agent: *\nCrawl-delay: a while\n", 0.0),
        ("User-agent: otherbot\nCrawl-delay: 9\n", 0.0),
        ("User-agent: *\nCrawl-delay: 9\n\nUser-agent: celebface\nCrawl-delay: 3\n", 3.0),
    ],
)
def test_the_delay_asked_for_is_obeyed_within_bounds(text, delay):
    assert load(text).delay == delay


@pytest.mark.parametrize("asked", [float("nan"), float("-inf"), -5.0])
def test_a_delay_that_is_none_is_none_whatever_the_parser_makes_of_it(asked):
    class Rules:
        def crawl_delay(self, agent):
            return asked

    assert RobotsRules(Rules()).delay == 0.0


# --- opt-outs in headers ----------------------------------------------------------------------------------------------

OPT_OUTS = [
    ("noai", "noai"),
    ("noimageai", "noimageai"),
    ("noindex", "noindex"),
    ("noimageindex", "noimageindex"),
    ("none", "none"),
    ("NoAI", "noai"),
    ("  noai  ", "noai"),
    ("nofollow, noai", "noai"),
    ("nofollow,noimageai,noarchive", "noimageai"),
    ("noai, noimageai", "noai"),
    ("all, noai", "noai"),
    (", ,noai", "noai"),
    # for all, for us
    ("*: noai", "noai"),
    ("celebface: noai", "noai"),
    ("CelebFace: NoIndex", "noindex"),
    ("celebface:noai", "noai"),
    ("celebface : noai", "noai"),
    ("celebface/0.1: noai", "noai"),
    ("celebface: nofollow, noai", "noai"),
    ("otherbot: nofollow, celebface: noai", "noai"),
    ("otherbot: noindex, *: noai", "noai"),
    ("noai, otherbot: nofollow", "noai"),
    # directives that have values, colons and commas
    ("max-snippet: 20, noai", "noai"),
    ("max-image-preview:large, noimageai", "noimageai"),
    ("max-video-preview: -1, noai", "noai"),
    ("unavailable_after: 25 Jun 2030 15:00:00 PST, noai", "noai"),
    ("unavailable_after: Friday, 25-Jun-30 15:00:00 PST, noai", "noai"),
    ("unavailable_after: 2030-06-25T15:00:00Z, noai", "noai"),
]
NO_OPT_OUTS = [
    "",
    "all",
    "index, follow",
    "nofollow",
    "noarchive, nosnippet, notranslate",
    "max-image-preview: none",
    "max-snippet:0",
    "noaiming",
    "ainone",
    "no ai",
    "otherbot: noai",
    "otherbot: nofollow, noindex",
    "celebfacebot: noai",
    "otherbot/2.0: noai, noindex",
    "celebface: nofollow, otherbot: noai",
    "unavailable_after: Friday, 25-Jun-30 15:00:00 PST",
]


def header_fault(headers) -> WebFault | None:
    try:
        robots.check_headers(headers)
    except WebFault as fault:
        return fault
    return None


def headers_of(*lines: tuple[str, str]) -> list:
    """The same header lines in the mappings that are in use."""
    joined: dict[str, str] = {}
    for name, value in lines:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return [urllib3.HTTPHeaderDict(lines), requests.structures.CaseInsensitiveDict(joined)]


@pytest.mark.parametrize(("value", "directive"), OPT_OUTS)
def test_an_opt_out_is_heeded(value, directive):
    assert robots.opt_out(value.split(",")) == directive
    for name in ("X-Robots-Tag", "x-robots-tag"):
        for headers in headers_of((name, value)):
            fault = header_fault(headers)
            assert fault is not None
            assert (fault.reason, str(fault)) == (Reason.OPTED_OUT, f"X-Robots-Tag: {directive}")
            assert (fault.passing, fault.of_host) == (False, False)


@pytest.mark.parametrize("value", NO_OPT_OUTS)
def test_other_directives_are_no_opt_out(value):
    assert robots.opt_out(value.split(",")) == ""
    assert [header_fault(headers) for headers in headers_of(("X-Robots-Tag", value))] == [None, None]


def test_headers_that_say_nothing_are_no_opt_out():
    assert [header_fault(headers) for headers in [{}, *headers_of(("Content-Type", "image/jpeg, noai"))]] == [None] * 3


def test_each_line_of_a_header_stands_by_itself():
    lines = [("X-Robots-Tag", "otherbot: nofollow"), ("X-Robots-Tag", "noai")]
    fault = header_fault(urllib3.HTTPHeaderDict(lines))
    assert fault is not None
    assert str(fault) == "X-Robots-Tag: noai"
    assert header_fault(urllib3.HTTPHeaderDict(lines[:1])) is None


@pytest.mark.parametrize("value", ["1", " 1 ", "1, 1", "0, 1"])
def test_a_reservation_of_text_and_data_mining_is_heeded(value):
    for headers in headers_of(("tdm-reservation", value), ("tdm-policy", "https://a.example/policy.json")):
        fault = header_fault(headers)
        assert fault is not None
        assert (fault.reason, str(fault)) == (Reason.OPTED_OUT, "TDM-Reservation: 1")


@pytest.mark.parametrize("value", ["0", "", "10", "yes", "-1"])
def test_nothing_is_reserved(value):
    assert [header_fault(headers) for headers in headers_of(("TDM-Reservation", value))] == [None, None]
