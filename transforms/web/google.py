"""Google's Programmable Search: photos of a person from a search engine that the user has set up.

The service takes a key. It is read from the environment for each request and sent in a header, so that it is in no
URL, no message and no pickled provider.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

from celebface.indexing.schemas import Reason
from celebface.transforms.records import Person
from celebface.transforms.web.client import Moved, clean_url, host_of
from celebface.transforms.web.policy import WebFault
from celebface.transforms.web.providers import Ask, BadProvider, FoundImage, FoundPerson, dicts, json_object, natural

KEY = "CELEBFACE_GOOGLE_KEY"
ENGINE = "CELEBFACE_GOOGLE_ENGINE"
RIGHTS = "CELEBFACE_GOOGLE_RIGHTS"  # such as cc_publicdomain|cc_attribute; optional

_ROOT = "https://customsearch.googleapis.com"
_PAGE = 10  # results that the service gives at most
_LAST = 100  # start and number of results may add up to this
_FIELDS = "items(link,mime,image(contextLink,width,height)),queries(nextPage(startIndex))"
_MAX_BYTES = 4 * 2**20  # of an answer
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")
_OUT_OF_QUOTA = frozenset(
    ("RESOURCE_EXHAUSTED", "rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "quotaExceeded")
)


@dataclasses.dataclass(frozen=True)
class Google:
    """Asks the Custom Search JSON API for photos of faces; it knows people by name only.

    Attributes:
      root: Root of another server that speaks the same; empty for Google's own.
      language: Code of the language that the search is for.
    """

    root: str = ""
    language: str = "en"
    name: str = dataclasses.field(default="google", init=False)

    @property
    def host(self) -> str:
        """The host that is asked."""
        return host_of(self.root or _ROOT)

    def find(self, person: Person, limit: int, ask: Ask) -> FoundPerson:
        """See `ImageProvider.find`."""
        images: dict[str, FoundImage] = {}
        start = 1
        while start and len(images) < limit:
            try:
                answer = self._search(person.name, start, ask)
            except WebFault:
                if not images:  # else what was found before stands
                    raise
                break
            for image in map(_image, dicts(answer.get("items"))):
                if image is not None:
                    images.setdefault(image.url, image)
            following = _next_start(answer)
            start = following if start < following < _LAST else 0
        if not images:
            raise WebFault(Reason.NO_IMAGES, "the search gave no photo")
        return FoundPerson("", (), tuple(images.values())[:limit])

    def _search(self, name: str, start: int, ask: Ask) -> dict[str, Any]:
        key, engine = (_secret(variable) for variable in (KEY, ENGINE))
        params = {
            "cx": engine,
            "q": '"{}"'.format(name.replace('"', " ")),
            "searchType": "image",
            "imgType": "face",
            "num": str(min(_PAGE, _LAST - start)),
            "start": str(start),
            "safe": "active",
            "hl": self.language,
            "fields": _FIELDS,
        }
        if rights := os.environ.get(RIGHTS, ""):
            params["rights"] = rights
        try:
            answer = ask(
                f"{self.root or _ROOT}/customsearch/v1",
                accept="application/json",
                params=params,
                headers={"X-Goog-Api-Key": key},
                max_bytes=_MAX_BYTES,
                stay=True,  # another host is not to be given the key
            )
        except Moved as moved:
            raise WebFault(Reason.PROVIDER_ERROR, f"it leads to {host_of(moved.url)}, which is not asked") from moved
        except WebFault as fault:
            raise _as_provider(fault) from fault
        return _read(answer.body)


def check_environment(environment: Mapping[str, str]) -> None:
    """Raises if the key or the engine is missing, or cannot be sent.

    Raises:
      BadProvider: With a line that names the variable, not what is in it.
    """
    for variable in (KEY, ENGINE):
        if not _HEADER_VALUE.fullmatch(environment.get(variable, "").strip()):
            raise BadProvider(f"google needs the environment variables {KEY} and {ENGINE}; {variable} holds none")


def _secret(variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not _HEADER_VALUE.fullmatch(value):
        raise WebFault(Reason.PROVIDER_ERROR, f"{variable} is not set where the search runs")
    return value


def _as_provider(fault: WebFault) -> WebFault:
    if fault.reason == Reason.RATE_LIMITED:
        return WebFault(Reason.QUOTA_EXCEEDED, str(fault), of_host=True, retry_after=fault.retry_after)
    if fault.reason in (Reason.FORBIDDEN, Reason.HTTP_STATUS):
        return WebFault(
            Reason.PROVIDER_ERROR, f"{fault}; are {KEY} and {ENGINE} right, and is there quota left?", of_host=True
        )
    return fault


def _read(body: bytes) -> dict[str, Any]:
    answer = json_object(body)
    if "error" in answer:
        raise _error(answer["error"])
    return answer


def _error(error: Any) -> WebFault:
    """Names an error by its codes. The service's own words are left out: they may repeat the key."""
    error = error if isinstance(error, dict) else {}
    codes = [error.get("status"), *(inner.get("reason") for inner in dicts(error.get("errors")))]
    words = [code for code in codes if isinstance(code, str) and re.fullmatch(r"[A-Za-z_]{1,40}", code)]
    quota = error.get("code") == 429 or not _OUT_OF_QUOTA.isdisjoint(words)
    reason = Reason.QUOTA_EXCEEDED if quota else Reason.PROVIDER_ERROR
    return WebFault(reason, " ".join(words) or "an error without a name", of_host=True)


def _image(item: Mapping[str, Any]) -> FoundImage | None:
    about = item.get("image")
    about = about if isinstance(about, dict) else {}
    mime = item.get("mime")
    if mime == "image/svg+xml":
        return None
    try:
        url = clean_url(str(item.get("link", "")))
    except WebFault:
        return None  # such as x-raw-image:///..., which only Google can show
    return FoundImage(
        url,
        page=_page(about.get("contextLink")),
        width=natural(about.get("width")),
        height=natural(about.get("height")),
        mime=mime if isinstance(mime, str) else "",
    )


def _page(link: Any) -> str:
    try:
        return clean_url(str(link))
    except WebFault:
        return ""


def _next_start(answer: Mapping[str, Any]) -> int:
    queries = answer.get("queries")
    pages = dicts(queries.get("nextPage")) if isinstance(queries, dict) else []
    return natural(pages[0].get("startIndex")) if pages else 0
