"""What a site asks of robots: robots.txt, and opt-outs sent with the photos themselves."""

import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping

import urllib3
from protego import Protego

from celebface.indexing.schemas import Reason
from celebface.transforms.web.client import Answer
from celebface.transforms.web.policy import AGENT, WebFault

_MAX_BYTES = 512 * 1024  # RFC 9309 asks for 500 KiB at least
_LONGEST_DELAY = 30.0  # seconds of Crawl-delay that are obeyed

# RFC 9309, 2.3.1.3: what the site has no robots.txt for is allowed. Redirects without end count as that, too.
_THERE_IS_NONE = frozenset(
    (Reason.NOT_FOUND, Reason.GONE, Reason.FORBIDDEN, Reason.HTTP_STATUS, Reason.TOO_MANY_REDIRECTS)
)
# 2.3.1.4: what the site cannot tell is forbidden. A bad URL is one that it redirects to.
_CANNOT_TELL = frozenset(
    (
        Reason.SERVER_ERROR,
        Reason.RATE_LIMITED,
        Reason.TOO_MANY_BYTES,
        Reason.TRUNCATED,
        Reason.UNDECODABLE,
        Reason.BAD_URL,
    )
)

_OPT_OUTS = frozenset(("noai", "noimageai", "noindex", "noimageindex", "none"))
_WITH_VALUES = frozenset(("max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"))
_AGENT_NAME = re.compile(r"(\*|[\w.-]+)(/\S*)?")  # no spaces: dates hold commas and colons, too


class RobotsRules:
    """The robots.txt of one origin."""

    def __init__(self, rules: Protego | None, reachable: bool = True):
        self._rules = rules
        self.reachable = reachable

    @staticmethod
    def load(url: str, get: Callable[..., Answer]) -> "RobotsRules":
        """Asks for the rules that hold for a URL.

        Args:
          url: A clean URL.
          get: As `WebClient.get`.

        Raises:
          WebFault: If the host cannot be asked at all.
        """
        parts = urllib.parse.urlsplit(url)
        place = urllib.parse.urlunsplit((parts.scheme, parts.netloc, "/robots.txt", "", ""))
        try:
            answer = get(place, accept="text/plain", max_bytes=_MAX_BYTES)
        except WebFault as fault:
            if fault.reason in _THERE_IS_NONE:
                return RobotsRules(None)
            if fault.reason in _CANNOT_TELL:
                return RobotsRules(None, reachable=False)
            raise
        return RobotsRules(Protego.parse(answer.body.decode("utf-8-sig", "replace")))

    def check(self, url: str) -> None:
        """Raises if the site does not want this URL to be asked for.

        Raises:
          WebFault: With the reason robots_disallowed or robots_unreachable.
        """
        if not self.reachable:
            raise WebFault(Reason.ROBOTS_UNREACHABLE, "robots.txt cannot be read, so nothing is allowed")
        if self._rules is not None and not self._rules.can_fetch(url, AGENT):
            raise WebFault(Reason.ROBOTS_DISALLOWED, "robots.txt does not allow it")

    @property
    def kind(self) -> str:
        """What there is: "read", "none" or "unreachable"."""
        if not self.reachable:
            return "unreachable"
        return "none" if self._rules is None else "read"

    @property
    def delay(self) -> float:
        """Seconds between requests that the site asks for; 0 if it does not."""
        asked = self._rules.crawl_delay(AGENT) if self._rules is not None else None
        return min(max(0.0, float(asked or 0.0)), _LONGEST_DELAY)  # 0 first: then "nan" is 0


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises if the headers of an answer opt out of such use.

    Heeds X-Robots-Tag (noai, noimageai, noindex, noimageindex, none; for all agents or ours) and TDM-Reservation.

    Raises:
      WebFault: With the reason opted_out.
    """
    for line in _lines(headers, "X-Robots-Tag"):  # an agent that one line names is not meant by the next
        if found := opt_out(line.split(",")):
            raise WebFault(Reason.OPTED_OUT, f"X-Robots-Tag: {found}")
    if any(value.strip() == "1" for line in _lines(headers, "TDM-Reservation") for value in line.split(",")):
        raise WebFault(Reason.OPTED_OUT, "TDM-Reservation: 1")


def _lines(headers: Mapping[str, str], name: str) -> list[str]:
    """The lines of a header, if it is known where one ends; else all in one."""
    return headers.getlist(name) if isinstance(headers, urllib3.HTTPHeaderDict) else [headers.get(name, "")]


def opt_out(directives: Iterable[str]) -> str:
    """The first directive that opts out, of a robots header or meta tag; empty if none does.

    A directive after "<agent>:" holds for that agent, and so do those after it until another agent is named.
    """
    agent = "*"
    for directive in directives:
        name, colon, rest = (part.strip() for part in directive.lower().partition(":"))
        if colon and name not in _WITH_VALUES and (named := _AGENT_NAME.fullmatch(name)):
            agent, name = named[1], rest
        if name in _OPT_OUTS and agent in ("*", AGENT):
            return name
    return ""
