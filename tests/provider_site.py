"""A server that speaks as Wikidata, Wikimedia Commons and Google's image search do, about people made up.

Answers have the form of the real ones (formatversion=2 of the Action API; version 1 of Custom Search), with small
pages, and with the properties of files spread over several answers, so that whoever asks must go on asking.
"""

import collections
import contextlib
import dataclasses
import hashlib
import http.server
import io
import json
import re
import sys
import threading
import unicodedata
import urllib.parse
from collections.abc import Mapping
from typing import Any

from PIL import Image

KEY, ENGINE = "key-of-the-tests", "engine-of-the-tests"

_TIMESTAMP = "20200102030405"


@dataclasses.dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error here; the default would write it to stderr, in the midst of a test."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ProviderSite:
    """The server; its root is `url` while the context lasts.

    Attributes:
      requests: All requests so far.
    """

    def __init__(
        self,
        people: Mapping[str, Mapping[str, Any]],
        files: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        page_size: int = 2,
        google_quota: int = 1000,
        robots: str = "",
    ):
        """Starts nothing yet.

        Args:
          people: By a name of your choice: "id" (an item's id); "label", if it is not that name; "aliases"; "human",
            False for other things; "moved_from", ids that lead to it; "language" of its names; "images": bytes by
            file name, the first being the item's own image and the others depicting it; "image", how the item spells
            the name of its own; "named_in": bytes by name of files that are found by the label only.
          files: What is told of a file other than by its bytes: "width", "height", "mime", "artist", "licence",
            "licence_url", "moved_from", "link" (Google's).
          page_size: Results in one answer of a search.
          google_quota: Searches that Google answers.
          robots: The robots.txt; empty for none.
        """
        self.requests: list[Asked] = []
        self._people = {name: {"label": name, **person} for name, person in people.items()}
        self._told = dict(files or {})
        self._page_size = page_size
        self._quota = google_quota
        self._robots = robots
        self._next: collections.deque[tuple[str, int, dict[str, str], bytes]] = collections.deque()
        self._files: dict[str, bytes] = {}
        for person in self._people.values():
            self._files.update(person.get("images", {}))
            self._files.update(person.get("named_in", {}))
        self._lock = threading.Lock()

    def __enter__(self) -> "ProviderSite":
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer_next(
        self, content: Any, *, path: str = "/", status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answers the next request of a path that begins so with this: bytes, or what is written as JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self._next.append((path, status, dict(headers or {}), body))

    def asked(self, **params: str) -> list[Asked]:
        """The requests that had such parameters."""
        return [asked for asked in self.requests if params.items() <= asked.params.items()]

    def reply(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a request."""
        with self._lock:
            self.requests.append(asked)
            if self._next and asked.path.startswith(self._next[0][0]):
                return self._next.popleft()[1:]
        if asked.path == "/w/api.php":
            return 200, {"Content-Type": "application/json; charset=utf-8"}, _json(self._action(asked.params))
        if asked.path == "/customsearch/v1":
            status, content = self._search(asked)
            return status, {"Content-Type": "application/json; charset=UTF-8"}, _json(content)
        if asked.path == "/robots.txt" and self._robots:
            return 200, {"Content-Type": "text/plain"}, self._robots.encode()
        name = urllib.parse.unquote(asked.path.rpartition("/")[2])
        data = self._files.get(re.sub(r"^\d+px-", "", name).replace("_", " "))
        if asked.path.startswith("/images/") and data is not None:
            return 200, {"Content-Type": "image/jpeg"}, data
        return 404, {"Content-Type": "text/html"}, b"<html>Not found</html>"

    # --- the Action API -----------------------------------------------------------------------------------------------

    def _action(self, params: Mapping[str, str]) -> dict[str, Any]:
        if params.get("format") != "json" or params.get("formatversion") != "2":
            return _error("badformat", "The tests speak JSON, formatversion 2.")
        match params.get("action"):
            case "wbsearchentities":
                return self._search_entities(params)
            case "wbgetentities":
                return self._get_entities(params)
            case "query" if params.get("generator") == "search":
                return self._search_files(params)
            case "query" if "titles" in params:
                return self._get_files(params)
        return _error("badvalue", 'Unrecognized value for parameter "action".')

    def _search_entities(self, params: Mapping[str, str]) -> dict[str, Any]:
        wanted = _folded(params["search"])
        hits = []
        for person in self._people.values():
            for kind, name in (("label", person["label"]), *(("alias", alias) for alias in person.get("aliases", ()))):
                if _folded(name).startswith(wanted):
                    hits.append(_hit(person, kind, name, params["language"]))
                    break
        found = hits[: int(params["limit"])]
        more = {"search-continue": len(found)} if len(found) < len(hits) else {}
        return {"searchinfo": {"search": params["search"]}, "search": found, **more, "success": 1}

    def _get_entities(self, params: Mapping[str, str]) -> dict[str, Any]:
        by_id = {person["id"]: person for person in self._people.values()}
        moved = {old: person["id"] for person in self._people.values() for old in person.get("moved_from", ())}
        entities: dict[str, Any] = {}
        for key in params["ids"].split("|"):
            person = by_id.get(moved.get(key, key))
            entities[key] = _entity(person, params["languages"].split("|")) if person else {"id": key, "missing": ""}
            if key in moved:
                entities[key]["redirects"] = {"from": key, "to": moved[key]}
        return {"entities": entities, "success": 1}

    def _get_files(self, params: Mapping[str, str]) -> dict[str, Any]:
        normalized, redirects, pages = [], [], []
        moved = {f"File:{old}": name for name, told in self._told.items() if (old := told.get("moved_from"))}
        for title in params["titles"].split("|"):
            spelt = title.replace("_", " ")
            if spelt != title:
                normalized.append({"fromencoded": False, "from": title, "to": spelt})
            if spelt in moved and "redirects" in params:
                redirects.append({"from": spelt, "to": f"File:{moved[spelt]}"})
                spelt = f"File:{moved[spelt]}"
            name = spelt.removeprefix("File:")
            if name in self._files:
                pages.append(self._page(name))
            else:
                pages.append({"ns": 6, "title": spelt, "missing": True, "imagerepository": ""})
        query: dict[str, Any] = {"pages": sorted(pages, key=lambda page: page.get("pageid", 0))}
        if normalized:
            query["normalized"] = normalized
        if redirects:
            query["redirects"] = redirects
        return self._spread(params, query, {})

    def _search_files(self, params: Mapping[str, str]) -> dict[str, Any]:
        assert params["gsrnamespace"] == "6"
        words = params["gsrsearch"].removeprefix("filetype:bitmap ")
        names: list[str] = []
        for person in self._people.values():
            depicting = list(person.get("images", {}))
            if words == f"haswbstatement:P180={person['id']}":
                names += depicting[1:]
            elif words == f'"{person["label"]}"':
                names += [*depicting, *person.get("named_in", {})]
        start = int(params.get("gsroffset", 0))
        count = min(self._page_size, int(params["gsrlimit"]))
        pages = [{**self._page(name), "index": start + n + 1} for n, name in enumerate(names[start : start + count])]
        following = {"gsroffset": start + count} if start + count < len(names) else {}
        if not pages:
            return {"batchcomplete": True}
        return self._spread(params, {"pages": sorted(pages, key=lambda page: page["pageid"])}, following)

    def _spread(self, params: Mapping[str, str], query: dict[str, Any], following: dict[str, int]) -> dict[str, Any]:
        """One page's properties in each answer; then the next pages."""
        have_info = [page for page in query["pages"] if "imageinfo" in page]
        titles = [page["title"].removeprefix("File:").replace(" ", "_") for page in have_info]
        at = titles.index(params["iicontinue"].partition("|")[0]) if "iicontinue" in params else 0
        for number, page in enumerate(have_info):
            if number != at:
                del page["imageinfo"]
        if at + 1 < len(titles):
            held = {"gsroffset": int(params["gsroffset"])} if "gsroffset" in params else {}
            more = {"iicontinue": f"{titles[at + 1]}|{_TIMESTAMP}", **held, "continue": "".join(held) + "||"}
            return {"continue": more, "query": query}
        if following:
            return {"batchcomplete": True, "continue": {**following, "continue": "gsroffset||"}, "query": query}
        return {"batchcomplete": True, "query": query}

    def _page(self, name: str) -> dict[str, Any]:
        data, told = self._files[name], self._told.get(name, {})
        width, height = told.get("width"), told.get("height")
        if width is None or height is None:
            width, height = _size(data)
        written = urllib.parse.quote(name.replace(" ", "_"))
        scaled = min(1.0, 1280 / width)
        thumb = f"{self.url}/images/thumb/{written}/1280px-{written}" if scaled < 1 else f"{self.url}/images/{written}"
        metadata = {
            "LicenseShortName": {"value": told.get("licence", "CC0"), "source": "commons-desc-page", "hidden": ""},
            "Artist": {"value": told.get("artist", "somebody"), "source": "commons-desc-page"},
            "LicenseUrl": {"value": told.get("licence_url", ""), "source": "commons-desc-page", "hidden": ""},
        }
        info = {
            "size": len(data),
            "width": width,
            "height": height,
            "thumburl": thumb,
            "thumbwidth": round(width * scaled),
            "thumbheight": round(height * scaled),
            "thumbmime": "image/jpeg",
            "responsiveUrls": {},
            "url": f"{self.url}/images/{written}",
            "descriptionurl": f"{self.url}/wiki/File:{written}",
            "descriptionshorturl": f"{self.url}/w/index.php?curid={_page_id(name)}",
            "sha1": hashlib.sha1(data).hexdigest(),
            "mime": told.get("mime", "image/jpeg"),
            "extmetadata": {key: value for key, value in metadata.items() if value["value"]},
        }
        return {
            "pageid": _page_id(name),
            "ns": 6,
            "title": f"File:{name}",
            "imagerepository": "local",
            "imageinfo": [info],
        }

    # --- Custom Search ------------------------------------------------------------------------------------------------

    def _search(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        params = asked.params
        key = asked.headers.get("X-Goog-Api-Key", "")
        if key != KEY:
            return _google_error(400, "INVALID_ARGUMENT", "badRequest", f"API key not valid: {key}")
        if params["cx"] != ENGINE:
            return _google_error(400, "INVALID_ARGUMENT", "badRequest", "Request contains an invalid argument.")
        start, count = int(params.get("start", 1)), int(params.get("num", 10))
        if count > 10 or start + count > 100:
            return _google_error(400, "INVALID_ARGUMENT", "badRequest", "Request contains an invalid argument.")
        with self._lock:
            self._quota -= 1
            if self._quota < 0:
                return _google_error(429, "RESOURCE_EXHAUSTED", "rateLimitExceeded", f"Quota exceeded for {key}")
        names = [
            name
            for person in self._people.values()
            if params["q"] == f'"{person["label"]}"'
            for name in (*person.get("images", {}), *person.get("named_in", {}))
        ]
        count = min(count, self._page_size)
        found = names[start - 1 : start - 1 + count]
        request = {"title": "Google Custom Search", "count": count, "startIndex": start, "searchType": "image"}
        queries: dict[str, Any] = {"request": [request]}
        if start - 1 + count < len(names):
            queries["nextPage"] = [{**request, "startIndex": start + count}]
        content: dict[str, Any] = {
            "kind": "customsearch#search",
            "queries": queries,
            "searchInformation": {"totalResults": str(len(names))},
        }
        if found:
            content["items"] = [self._item(name) for name in found]
        return 200, content

    def _item(self, name: str) -> dict[str, Any]:
        info = self._page(name)["imageinfo"][0]
        return {
            "kind": "customsearch#result",
            "title": name,
            "link": self._told.get(name, {}).get("link", info["url"]),
            "displayLink": "127.0.0.1",
            "mime": info["mime"],
            "fileFormat": info["mime"],
            "image": {
                "contextLink": info["descriptionurl"],
                "height": info["height"],
                "width": info["width"],
                "byteSize": info["size"],
                "thumbnailLink": "https://encrypted-tbn0.gstatic.com/images?q=tbn:x",
                "thumbnailHeight": 100,
                "thumbnailWidth": 100,
            },
        }


def _handler(site: ProviderSite) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # a body need not wait until its headers have arrived

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            status, headers, body = site.reply(Asked(path, dict(urllib.parse.parse_qsl(query)), dict(self.headers)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def _error(code: str, info: str) -> dict[str, Any]:
    return {"error": {"code": code, "info": info, "docref": "See the help."}, "servedby": "mw-api-ext"}


def _google_error(code: int, status: str, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return code, {"error": {"code": code, "message": message, "errors": errors, "status": status}}


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _page_id(name: str) -> int:
    """Numbers in no order of use, as ids of pages are."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:3], "big") + 1


def _size(data: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except OSError:
        return 640, 480


def _hit(person: Mapping[str, Any], kind: str, name: str, language: str) -> dict[str, Any]:
    key, label = person["id"], person["label"]
    return {
        "id": key,
        "title": key,
        "pageid": int(key[1:]),
        "concepturi": f"http://www.wikidata.org/entity/{key}",
        "repository": "wikidata",
        "url": f"//www.wikidata.org/wiki/{key}",
        "display": {"label": {"value": label, "language": language}},
        "label": label,
        "match": {"type": kind, "language": language, "text": name},
        **({"aliases": [name]} if kind == "alias" else {}),
    }


def _entity(person: Mapping[str, Any], languages: list[str]) -> dict[str, Any]:
    language = person.get("language", languages[0])
    shown = language in languages
    kind = {"entity-type": "item", "numeric-id": 5, "id": "Q5" if person.get("human", True) else "Q95074"}
    claims = {"P31": [_statement("P31", "wikibase-item", {"value": kind, "type": "wikibase-entityid"})]}
    own = list(person.get("images", {}))[:1]
    if own:
        nothing = {"mainsnak": {"snaktype": "somevalue", "property": "P18"}, "type": "statement", "rank": "normal"}
        image = {"value": person.get("image", own[0]), "type": "string"}
        claims["P18"] = [nothing, _statement("P18", "commonsMedia", image)]
    aliases = [{"language": language, "value": alias} for alias in person.get("aliases", ())]
    return {
        "pageid": int(person["id"][1:]),
        "ns": 0,
        "title": person["id"],
        "lastrevid": 1,
        "type": "item",
        "id": person["id"],
        "labels": {language: {"language": language, "value": person["label"]}} if shown else {},
        "aliases": {language: aliases} if shown and aliases else {},
        "claims": claims,
    }


def _statement(property_id: str, datatype: str, value: dict[str, Any]) -> dict[str, Any]:
    snak = {"snaktype": "value", "property": property_id, "hash": "0", "datavalue": value, "datatype": datatype}
    return {"mainsnak": snak, "type": "statement", "id": f"Q1${property_id}", "rank": "normal", "references": []}
