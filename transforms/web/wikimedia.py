"""Wikidata and Wikimedia Commons: who a person is, and free photos of them with licence and author.

Both speak MediaWiki's Action API. Errors come with status 200 and a code in the answer.
"""

import dataclasses
import re
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tenacity

from celebface.indexing.schemas import Reason
from celebface.transforms.records import Person
from celebface.transforms.web.client import clean_url, host_of
from celebface.transforms.web.html import one_line, text_of
from celebface.transforms.web.policy import WebFault
from celebface.transforms.web.providers import Ask, BadProvider, FoundImage, FoundPerson, dicts, json_object, natural

_WIKIDATA = "https://www.wikidata.org"
_COMMONS = "https://commons.wikimedia.org"
_PREFIX = "wikidata:"

_HUMAN = "Q5"
_IS_A, _IMAGE = "P31", "P18"  # Wikidata's properties "instance of" and "image"
_DEPICTS = "P180"

_WIDTH = 1280  # pixels; one of the widths that Commons keeps ready
_CANDIDATES = 10  # items of one name that are looked at
_PAGES = 50  # files asked for at once
_MOST_ANSWERS = 40  # that one search is followed for
_LONGEST_PHRASE = 200  # characters; the search takes 300 with all its words
_MAX_BYTES = 64 * 2**20  # of an answer; the statements on one famous person are a megabyte
_MIMES = frozenset(
    ("image/jpeg", "image/png", "image/webp", "image/tiff", "image/gif", "image/avif", "image/heic", "image/bmp")
)
_BUSY = {
    "maxlag": Reason.RATE_LIMITED,
    "ratelimited": Reason.RATE_LIMITED,
    "readonly": Reason.SERVER_ERROR,
}
_ATTEMPTS = 4
_LONGEST_WAIT = 120.0  # seconds
_BACKOFF = tenacity.wait_exponential_jitter(initial=1, max=30, jitter=1)


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


class _Busy(WebFault):
    """The API wants to be asked later."""


@dataclasses.dataclass(frozen=True)
class Wikimedia:
    """Finds people in Wikidata, and photos of them in Commons.

    Attributes:
      root: Root of another server that speaks for both; empty for their own.
      language: Code of the language that names are given in.
      name: What it is called on the command line.
    """

    root: str = ""
    language: str = "en"
    name: str = dataclasses.field(default="wikimedia", init=False)

    @property
    def host(self) -> str:
        """The host that is asked, the one of the two that is asked more."""
        return host_of(self.root or _COMMONS)

    @property
    def _languages(self) -> list[str]:
        """Whose names are read: ours, the one for names that are the same in all, and the one that has most."""
        return list(dict.fromkeys((self.language, "mul", "en")))

    def find(self, person: Person, limit: int, ask: Ask) -> FoundPerson:
        """See `ImageProvider.find`.

        Of several humans of one name, the first is taken that has it as its exact label or alias, and of those the
        first with an image. Files come in this order: the item's own images, those that depict it, those that its
        name is written with.
        """
        item = self._known(person, ask) if person.external_id.startswith(_PREFIX) else self._searched(person, ask)
        names = _names(item, self._languages) or [person.name]
        external_id = f"{_PREFIX}{item['id']}"
        files: dict[str, FoundImage] = {}
        try:
            for page in self._files_of(item, names[0], ask):
                if (image := _image(page)) is not None:
                    files.setdefault(_identity(page), image)
                if len(files) >= limit:
                    break
        except WebFault:
            if not files:  # else what was found before stands
                raise
        if not files:
            raise WebFault(Reason.NO_IMAGES, f"Commons has no photo of {external_id}")
        aliases = tuple(name for name in names if _same(name) != _same(person.name))
        return FoundPerson(external_id, aliases, tuple(files.values()))

    # --- who ----------------------------------------------------------------------------------------------------------

    def _known(self, person: Person, ask: Ask) -> dict[str, Any]:
        key = person.external_id.removeprefix(_PREFIX)
        if not re.fullmatch(r"Q[1-9]\d{0,11}", key):
            raise WebFault(Reason.UNKNOWN_PERSON, "the external id is none of Wikidata")
        items = self._items([key], ask)
        if not items:
            raise WebFault(Reason.UNKNOWN_PERSON, f"Wikidata has no {key}")
        return items[0]

    def _searched(self, person: Person, ask: Ask) -> dict[str, Any]:
        params = {
            "action": "wbsearchentities",
            "search": person.name,
            "language": self.language,
            "uselang": self.language,
            "type": "item",
            "limit": str(_CANDIDATES),
        }
        hits = dicts(self._call(_WIKIDATA, params, ask).get("search"))
        # The search looks at all languages and tells what it has found; the item may not have that name in ours.
        matched = {str(hit.get("id")): _as_dict(hit.get("match")).get("text") for hit in hits}
        wanted = _same(person.name)

        def unlikeness(item: Mapping[str, Any]) -> tuple[bool, bool]:
            names = [*_names(item, self._languages), matched.get(item["id"])]
            exact = any(isinstance(name, str) and _same(name) == wanted for name in names)
            return not exact, not _values(item, _IMAGE)

        humans = [item for item in self._items(list(matched), ask) if _HUMAN in _values(item, _IS_A)]
        if not humans:
            raise WebFault(Reason.UNKNOWN_PERSON, "Wikidata knows no human of this name")
        return min(humans, key=unlikeness)

    def _items(self, keys: Sequence[str], ask: Ask) -> list[dict[str, Any]]:
        """Items in the order of their keys, without those that are missing."""
        if not keys:
            return []
        params = {
            "action": "wbgetentities",
            "ids": "|".join(keys),
            "props": "labels|aliases|claims",
            "languages": "|".join(self._languages),
            "languagefallback": "1",
        }
        entities = _as_dict(self._call(_WIKIDATA, params, ask).get("entities"))
        found = [_as_dict(entities.get(key)) for key in keys]
        return [item for item in found if isinstance(item.get("id"), str) and "missing" not in item]

    # --- photos -------------------------------------------------------------------------------------------------------

    def _files_of(self, item: Mapping[str, Any], label: str, ask: Ask) -> Iterator[dict[str, Any]]:
        """Pages of files, the most telling first; asks as it goes."""
        titles = [f"File:{name}" for name in _values(item, _IMAGE) if not re.search(r"[|#<>\[\]{}]", name)]
        if titles:
            yield from self._named_files(titles[:_PAGES], ask)
        yield from self._found_files(f"filetype:bitmap haswbstatement:{_DEPICTS}={item['id']}", ask)
        if phrase := one_line(label.replace('"', " "))[:_LONGEST_PHRASE]:
            yield from self._found_files(f'filetype:bitmap "{phrase}"', ask)

    def _named_files(self, titles: Sequence[str], ask: Ask) -> Iterator[dict[str, Any]]:
        stands_for: dict[str, str] = {}
        pages: dict[str, dict[str, Any]] = {}
        for query in self._queries({"titles": "|".join(titles), "redirects": "1"}, ask):
            for change in (*dicts(query.get("normalized")), *dicts(query.get("redirects"))):
                stands_for[str(change.get("from"))] = str(change.get("to"))
            _merge(pages, query)
        for title in titles:
            title = stands_for.get(title, title)  # another spelling of it
            title = stands_for.get(title, title)  # where that has been moved to
            if title in pages:
                yield pages[title]

    def _found_files(self, search: str, ask: Ask) -> Iterator[dict[str, Any]]:
        params = {
            "generator": "search",
            "gsrsearch": search,
            "gsrnamespace": "6",
            "gsrlimit": str(_PAGES),
        }
        pages: dict[str, dict[str, Any]] = {}
        for query in self._queries(params, ask):
            _merge(pages, query)
            if query["batchcomplete"]:
                yield from sorted(pages.values(), key=lambda page: natural(page.get("index")))
                pages = {}

    def _queries(self, params: Mapping[str, str], ask: Ask) -> Iterator[dict[str, Any]]:
        """The answers to a query on files, as many as it takes; each tells whether its pages are complete.

        What Commons cannot put into one answer comes in further ones: more pages, or properties of the same pages.
        """
        asked = {
            "action": "query",
            "prop": "imageinfo",
            "iiprop": "url|size|mime|thumbmime|sha1|extmetadata",
            "iiurlwidth": str(_WIDTH),
            "iiextmetadatafilter": "LicenseShortName|LicenseUrl|UsageTerms|Artist",
            "iiextmetadatalanguage": self.language,
            **params,
        }
        more: dict[str, str] = {}
        for _ in range(_MOST_ANSWERS):
            answer = self._call(_COMMONS, {**asked, **more}, ask)
            before, more = more, {key: str(value) for key, value in _as_dict(answer.get("continue")).items()}
            yield {**_as_dict(answer.get("query")), "batchcomplete": bool(answer.get("batchcomplete")) or not more}
            if not more or more == before:
                return

    # --- the API ------------------------------------------------------------------------------------------------------

    def _call(self, site: str, params: Mapping[str, str], ask: Ask) -> dict[str, Any]:
        """Asks once, and again while the API says that it is busy."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Busy),
            wait=_wait,
            stop=tenacity.stop_after_attempt(_ATTEMPTS) | tenacity.stop_before_delay(_LONGEST_WAIT),
            sleep=_sleep,
            reraise=True,
        )
        common = {"format": "json", "formatversion": "2", "maxlag": "5"}
        return attempts(_ask_once, f"{self.root or site}/w/api.php", {**params, **common}, ask)


def check_language(language: str) -> None:
    """Raises if it is not the code of a language, such as en or zh-hans.

    Raises:
      BadProvider: If so.
    """
    if not re.fullmatch(r"[a-z]{2,12}(-[a-z0-9]{1,12}){0,3}", language):
        raise BadProvider(f"{language!r} is not the code of a language, such as en or zh-hans")


def _ask_once(url: str, params: Mapping[str, str], ask: Ask) -> dict[str, Any]:
    answer = ask(url, accept="application/json", params=params, max_bytes=_MAX_BYTES)
    content = json_object(answer.body)
    if "error" not in content:
        return content
    code = one_line(str(_as_dict(content["error"]).get("code", "an error without a code")))[:60]
    if code in _BUSY:
        wait = answer.headers.get("Retry-After", "")
        seconds = float(wait) if re.fullmatch(r"\d{1,6}", wait) else 0.0
        raise _Busy(_BUSY[code], code, passing=True, of_host=True, retry_after=seconds)
    raise WebFault(Reason.PROVIDER_ERROR, code)


def _wait(state: tenacity.RetryCallState) -> float:
    fault = state.outcome.exception() if state.outcome else None
    return max(_BACKOFF(state), fault.retry_after if isinstance(fault, WebFault) else 0.0)


# --- items ------------------------------------------------------------------------------------------------------------


def _names(item: Mapping[str, Any], languages: Sequence[str]) -> list[str]:
    """The labels and aliases of an item, each once, labels before aliases and languages in their order."""
    labels, aliases = _as_dict(item.get("labels")), _as_dict(item.get("aliases"))
    terms = [_as_dict(labels.get(language)) for language in languages]
    terms += [alias for language in languages for alias in dicts(aliases.get(language))]
    names = [one_line(term["value"]) for term in terms if isinstance(term.get("value"), str)]
    return list(dict.fromkeys(filter(None, names)))


def _values(item: Mapping[str, Any], property_id: str) -> list[str]:
    """The item ids or strings that an item's statements on a property give, the preferred ones first."""
    found = []
    for statement in dicts(_as_dict(item.get("claims")).get(property_id)):
        value = _as_dict(_as_dict(statement.get("mainsnak")).get("datavalue")).get("value")
        value = value.get("id") if isinstance(value, dict) else value
        if isinstance(value, str) and statement.get("rank") != "deprecated":
            found.append((statement.get("rank") != "preferred", value))
    return [value for _, value in sorted(found, key=lambda ranked: ranked[0])]


def _same(name: str) -> str:
    """What names have in common that are the same but for case, spaces and the way that letters are composed."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).split())


# --- files ------------------------------------------------------------------------------------------------------------


def _merge(pages: dict[str, dict[str, Any]], query: Mapping[str, Any]) -> None:
    for page in dicts(query.get("pages")):
        pages.setdefault(str(page.get("title")), {}).update(page)


def _info(page: Mapping[str, Any]) -> dict[str, Any]:
    return next(iter(dicts(page.get("imageinfo"))), {})


def _identity(page: Mapping[str, Any]) -> str:
    """What two pages have in common that show the same file."""
    return str(_info(page).get("sha1") or page.get("title"))


def _image(page: Mapping[str, Any]) -> FoundImage | None:
    """The photo of a file's page; None if there is none."""
    info = _info(page)
    if info.get("mime") not in _MIMES:
        return None
    smaller = natural(info.get("width")) > _WIDTH and info.get("thumburl")
    mime = info.get("thumbmime") if smaller else info.get("mime")
    about = _as_dict(info.get("extmetadata"))
    licence = (
        f"{_metadata(about, 'LicenseShortName') or _metadata(about, 'UsageTerms')} {_metadata(about, 'LicenseUrl')}"
    )
    try:
        return FoundImage(
            clean_url(str(info.get("thumburl" if smaller else "url", ""))),
            page=clean_url(str(info.get("descriptionurl", ""))),
            licence=one_line(licence),
            author=_metadata(about, "Artist"),
            width=natural(info.get("thumbwidth" if smaller else "width")),
            height=natural(info.get("thumbheight" if smaller else "height")),
            mime=mime if isinstance(mime, str) else str(info["mime"]),
        )
    except WebFault:
        return None


def _metadata(about: Mapping[str, Any], name: str) -> str:
    value = _as_dict(about.get(name)).get("value")
    return text_of(value) if isinstance(value, str) else ""


# --- JSON -------------------------------------------------------------------------------------------------------------


def _as_dict(value: Any) -> dict[str, Any]:
    """An object; empty for what is none. PHP writes an empty object as an empty list."""
    return value if isinstance(value, dict) else {}
