"""The photos of a web page, and on what terms they are shown.

Pages are other people's words: nothing in them is trusted. They are read as a stream of tags in one pass, without a
tree, so that a page of millions of tags takes no more memory than its bytes and no more time than its length asks for.
"""

import codecs
import collections
import contextlib
import dataclasses
import json
import re
import urllib.parse
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from lxml import etree

from celebface.indexing.schemas import Reason
from celebface.transforms.web import robots
from celebface.transforms.web.client import clean_url
from celebface.transforms.web.policy import AGENT, WebFault

STATEMENT_LENGTH = 500  # characters of a licence or an author that are kept

_SMALLEST_SIDE = 100  # pixels; what is shown smaller is decoration
_LONGEST_URL = 4096  # characters
_MOST_IMAGES = 10_000  # of a page that are looked at
_MOST_CANDIDATES = 100  # of an image that are looked at
_PIECE = 1 << 14  # characters handed to the parser at a time
_DEEPEST = 512  # open elements, as in browsers

_SPACE = " \t\n\f\r"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]+")  # and bidi overrides
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_CONTENT_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_TEXT_CODEC = re.compile(
    r"utf-8|utf-16(-[bl]e)?|ascii|iso8859-\d+|cp\d+|koi8-[rut]|mac-\w+|gb\w+|hz|big5\w*|shift_jis\w*|euc_\w+|iso2022_\w+"
)
_TAG = re.compile(r"<(?:!doctype|!--|[a-z])", re.IGNORECASE)
_OTHER_XML = re.compile(r"\s*(?:<\?xml|<svg|<rss|<feed)", re.IGNORECASE)
_MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"GIF8",
    b"RIFF",
    b"II*\0",
    b"MM\0*",
    b"%PDF",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"OggS",
)

_READ_AS = {  # browsers read the narrower as the wider, and so pages are written
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}

# Names of files and folders that hold no photos. Photos are saved as photos are: a JPEG named after a style icon, or
# after somebody whose name is Button, is kept.
_NEVER_PHOTO = re.compile(r"(?<![a-z])(?:favicon|sprite|spacer|logo|emoji|placeholder)s?(?![a-z])")
_HARDLY_PHOTO = re.compile(
    r"(?<![a-z])(?:pixel|blank|icon|badge|button)s?(?![a-z])|^(?:1x1|clear|dot|trans\w*|load\w*)\."
)
_NO_PHOTO_FOLDERS = frozenset(("icon", "icons", "logos", "emoji", "emojis", "sprites", "favicons", "badges", "buttons"))
_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".webp", ".avif", ".heic")
_DRAWING_SUFFIXES = (".svg", ".svgz", ".ico", ".cur")
_UNREADABLE_TYPES = frozenset(("image/svg+xml", "image/x-icon", "image/jxl"))

_LAZY = ("data-src", "data-original", "data-lazy-src", "data-lazy")
_LAZY_SETS = ("data-srcset", "data-lazy-srcset")
_IMAGE_META = frozenset(
    ("og:image", "og:image:url", "og:image:secure_url", "twitter:image", "twitter:image:src", "thumbnailurl")
)
_LICENCE_META = frozenset(("dcterms.license", "dc.license", "dc.rights.license"))
_RIGHTS_META = frozenset(("dc.rights", "dcterms.rights", "copyright"))

_LICENCE_SOURCES = ("license", "meta licence", "copyrightNotice", "meta rights")
_AUTHOR_SOURCES = ("creator", "creditText")

_CANDIDATE = re.compile(r"[ \t\n\f\r,]*+([^ \t\n\f\r,][^ \t\n\f\r]*+)")
_DESCRIPTORS = re.compile(r"((?:[^,(]++|\([^)]*+\)?+)*+),?+")
_SIZE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)([wxh])")
_STYLE_SIDE = re.compile(r"(?:^|[;\s])(?:max-)?(?:width|height)\s*:\s*(\d{1,5})(?:\.\d*)?px", re.IGNORECASE)
_SIDE = re.compile(r"\s*(\d{1,5})(?:\.\d*)?\s*(?:px)?\s*$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class PageImages:
    """What a page shows.

    Attributes:
      images: Clean URLs of its photos, in the order of the page, each once.
      licence: Its licence statement, or the link to it; empty if it has none, or several that differ.
      author: Who it says made the photos; empty if it does not, or names several.
    """

    images: tuple[str, ...]
    licence: str = ""
    author: str = ""


def images_of_page(body: bytes, url: str, content_type: str, limit: int, honour_opt_outs: bool) -> PageImages:
    """Finds the photos of a page.

    Of an image that comes in several sizes, the largest is taken. Icons, logos, tracking pixels and what is shown
    smaller than 100 pixels are left out, as their size and names tell.

    Args:
      body: What the server sent.
      url: Clean URL that it was sent from.
      content_type: The Content-Type header.
      limit: Most photos.
      honour_opt_outs: Obey robots meta tags and tdm-reservation.

    Raises:
      WebFault: If it is no HTML (not_html), or opts out (opted_out).
    """
    text = _text_of_page(body, content_type)
    page = _Page()
    _feed(text, page)
    if honour_opt_outs and page.opt_out:
        raise WebFault(Reason.OPTED_OUT, f"meta tag: {page.opt_out}")
    base = _joined(url, page.base) or url
    return PageImages(
        tuple(_chosen(page.images, base, limit, besides=url)),
        licence=_agreed([_joined(base, link) for link in page.said["link"]], *map(page.said.get, _LICENCE_SOURCES)),
        author=_agreed(*map(page.said.get, _AUTHOR_SOURCES)),
    )


def text_of(markup: str) -> str:
    """The words of a piece of HTML, on one line."""
    words = _Words()
    _feed(markup[: 20 * STATEMENT_LENGTH], words)
    return one_line("".join(words.pieces))


def one_line(text: str) -> str:
    """Text as it is written down: no control characters, no doubled white space, at most 500 characters."""
    return " ".join(_CONTROL.sub(" ", text[: 20 * STATEMENT_LENGTH]).split())[:STATEMENT_LENGTH].rstrip()


# --- bytes to tags ----------------------------------------------------------------------------------------------------


def _text_of_page(body: bytes, content_type: str) -> str:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.endswith("json") or body.startswith(_MAGIC) or body[4:8] == b"ftyp" or _is_json(body):
        raise WebFault(Reason.NOT_HTML, "another kind of file")
    text = _decode(body, content_type)
    if _OTHER_XML.match(text) and "<html" not in text[:4096].lower():
        raise WebFault(Reason.NOT_HTML, "XML of another kind")
    if not _TAG.search(text):
        raise WebFault(Reason.NOT_HTML, "no tag in it")
    return text


def _is_json(body: bytes) -> bool:
    if body.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(body)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def _decode(body: bytes, content_type: str) -> str:
    """Text by byte order mark, header or meta tag, in this order; else UTF-8. What cannot be read is replaced."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    if in_header := _CONTENT_CHARSET.search(content_type):
        encoding = _codec(in_header[1])
    elif in_page := _META_CHARSET.search(body[:2048]):
        encoding = _codec(in_page[1].decode("ascii", "replace"))
        if encoding.startswith("utf-16"):
            encoding = "utf-8"  # in UTF-16 the tag would not have been found
    else:
        encoding = "utf-8"
    return body.decode(encoding or "utf-8", "replace")


def _codec(label: str) -> str:
    """Python's name of a text encoding; empty if it knows none. Its other codecs, such as zip, are none."""
    try:
        name = codecs.lookup(label).name
    except (LookupError, ValueError):
        return ""
    return _READ_AS.get(name, name) if _TEXT_CODEC.fullmatch(name) else ""


class _Tags:
    """Takes the tags of a page as the parser finds them."""

    def __init__(self) -> None:
        self.depth = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.depth += 1

    def end(self, tag: str) -> None:
        self.depth -= 1

    def data(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


def _feed(text: str, tags: _Tags) -> None:
    """Reads HTML, cut before tags.

    For an end tag that fits none, the parser looks through all elements that are open. A page can make that many, so
    where they are more than a browser bears, a fresh parser goes on.
    """
    parser = _parser(tags)
    start = 0
    while start < len(text):
        end = start + _PIECE
        if end < len(text):
            cut = text.rfind("<", start + 1, end)
            end = cut if cut > 0 else end
        parser.feed(text[start:end].encode("utf-8", "replace"))
        if tags.depth > _DEEPEST:
            tags.depth = 0
            parser = _parser(tags)
        start = end
    with contextlib.suppress(etree.XMLSyntaxError):  # that there was no element at all
        parser.close()


def _parser(tags: _Tags) -> Any:
    return etree.HTMLParser(target=tags, encoding="utf-8", huge_tree=True)


class _Words(_Tags):
    """Gathers the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._silent = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        super().start(tag, attributes)
        self._silent += tag in ("script", "style")
        if tag in ("br", "p", "div", "li", "td"):
            self.pieces.append(" ")

    def end(self, tag: str) -> None:
        super().end(tag)
        self._silent -= tag in ("script", "style")

    def data(self, text: str) -> None:
        if not self._silent:
            self.pieces.append(text)


# --- tags to images ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Image:
    """One image as the page names it: URLs as they stand there, the best one and others of the same image."""

    best: str
    others: tuple[str, ...] = ()


class _Page(_Tags):
    """Gathers what the tags of a page tell of its images."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.opt_out = ""
        self.images: list[_Image] = []
        self.said: dict[str, list[str]] = collections.defaultdict(list)  # statements by who says them
        self._picture: list[tuple[float, float, str]] | None = None
        self._json: list[str] | None = None

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        super().start(tag, attributes)
        if tag in ("img", "amp-img"):
            self._img(attributes)
        elif tag == "picture":
            self._picture = []
        elif tag == "source" and self._picture is not None:
            if attributes.get("type", "").strip().lower() not in _UNREADABLE_TYPES:
                self._picture += _candidates(attributes)
        elif tag == "meta":
            self._meta(attributes)
        elif tag in ("link", "a"):
            self._link(attributes)
        elif tag == "base":
            self.base = self.base or attributes.get("href", "")
        elif tag == "script" and "ld+json" in attributes.get("type", "").lower():
            self._json = []

    def end(self, tag: str) -> None:
        super().end(tag)
        if tag == "picture":
            self._picture = None
        elif tag == "script" and self._json is not None:
            _read_linked_data("".join(self._json), self)
            self._json = None

    def data(self, text: str) -> None:
        if self._json is not None:
            self._json.append(text)

    def add(self, best: str, others: Iterable[str] = ()) -> None:
        """Notes an image."""
        if len(self.images) < _MOST_IMAGES:
            self.images.append(_Image(best, tuple(others)))

    def _img(self, attributes: Mapping[str, str]) -> None:
        candidates = [*(self._picture or ()), *_candidates(attributes)]
        self._picture = None if self._picture is None else []
        if not candidates or _shown_small(attributes):
            return
        # Of equal ones the last: the image's own, for which the page knows that every browser can show it.
        width, _, best = max(reversed(candidates), key=lambda candidate: candidate[:2])
        if not 0 < width < _SMALLEST_SIDE:
            self.add(best, (url for _, _, url in candidates if url != best))

    def _meta(self, attributes: Mapping[str, str]) -> None:
        content = attributes.get("content", "")
        name = (
            (attributes.get("property") or attributes.get("name") or attributes.get("itemprop") or "").strip().lower()
        )
        if name in ("robots", AGENT):
            self.opt_out = self.opt_out or robots.opt_out(content.split(","))
        elif name == "tdm-reservation" and content.strip() == "1":
            self.opt_out = self.opt_out or "tdm-reservation"
        elif name in _IMAGE_META:
            self.add(content)
        elif name in _LICENCE_META:
            self.said["meta licence"].append(content)
        elif name in _RIGHTS_META:
            self.said["meta rights"].append(content)

    def _link(self, attributes: Mapping[str, str]) -> None:
        kinds = attributes.get("rel", "").lower().split()
        if "license" in kinds:
            self.said["link"].append(attributes.get("href", ""))
        if "image_src" in kinds:
            self.add(attributes.get("href", ""))


def _candidates(attributes: Mapping[str, str]) -> list[tuple[float, float, str]]:
    """Width in pixels, density and URL of each file that an img or source element offers; 0 for what is not said."""
    found = []
    if src := attributes.get("src", "").strip(_SPACE):
        found.append((0.0, 1.0, src))
    found += _srcset(attributes.get("srcset", ""))
    # Scripts put these in the place of src; names without a dot or slash are switches, such as data-lazy="true".
    for name in _LAZY:
        lazy = attributes.get(name, "").strip(_SPACE)
        if "." in lazy or "/" in lazy:
            found.append((0.0, 1.0, lazy))
    for name in _LAZY_SETS:
        found += _srcset(attributes.get(name, ""))
    return [candidate for candidate in found if _may_be_url(candidate[2])]


def _srcset(text: str) -> Iterator[tuple[float, float, str]]:
    """Width, density and URL of the candidates of a srcset, parsed as the HTML standard says.

    A URL ends at white space, so it may hold commas, unless it ends with one. Candidates with a descriptor that is
    wrong are left out.
    """
    position = 0
    for _ in range(_MOST_CANDIDATES):
        if not (found := _CANDIDATE.match(text, position)):
            return
        url, position = found[1], found.end()
        described = ""
        if not url.endswith(","):
            descriptors = _DESCRIPTORS.match(text, position)
            assert descriptors is not None  # it matches the empty string, too
            described, position = descriptors[1], descriptors.end()
        sizes = [_SIZE.fullmatch(descriptor) for descriptor in described.split()]
        if all(sizes):
            by_unit = {size[2]: float(size[1]) for size in sizes if size}
            yield by_unit.get("w", 0.0), by_unit.get("x", 1.0), url.rstrip(",")


def _may_be_url(text: str) -> bool:
    scheme = re.match(r"[a-z][a-z0-9+.-]*(?=:)", text[:40], re.IGNORECASE)
    return len(text) <= _LONGEST_URL and (scheme is None or scheme[0].lower() in ("http", "https"))


def _shown_small(attributes: Mapping[str, str]) -> bool:
    sides = [side[1] for name in ("width", "height") if (side := _SIDE.match(attributes.get(name, "")[:20]))]
    sides += _STYLE_SIDE.findall(attributes.get("style", "")[:2000])
    return any(int(side) < _SMALLEST_SIDE for side in sides)


# --- structured data --------------------------------------------------------------------------------------------------

_SHOWS = ("image", "primaryImageOfPage")
_SHOWS_SMALL = ("thumbnailUrl", "thumbnail")
_NOT_OF_THE_SUBJECT = ("author", "creator", "publisher", "editor", "contributor", "provider", "logo", "copyrightHolder")


def _read_linked_data(text: str, page: _Page) -> None:
    """Notes the images of a block of JSON-LD, and on what terms. Broken blocks are passed over."""
    try:
        data = json.loads(_CONTROL.sub(" ", text.strip().removeprefix("<!--").removesuffix("-->")))
    except (ValueError, RecursionError):
        return
    # Portraits of those who wrote the page are not what it shows, even where they are named by reference only.
    strangers = {
        person["@id"]
        for node, _ in _nodes(data)
        if isinstance(node, dict)
        for key in _NOT_OF_THE_SUBJECT
        for person in _listed(node.get(key))
        if isinstance(person, dict) and isinstance(person.get("@id"), str)
    }
    for node, is_image in _nodes(data, without=strangers):
        if isinstance(node, str):
            page.add(node)
        else:
            _read_node(node, is_image, page)


def _nodes(data: Any, without: Collection[str] = ()) -> Iterator[tuple[dict[str, Any] | str, bool]]:
    """The objects of JSON-LD in their order, and URLs that stand for images; for each, whether it is an image."""
    pending = [(data, False)]
    while pending:
        value, is_image = pending.pop()
        if isinstance(value, list):
            pending += [(item, is_image) for item in reversed(value)]
        elif isinstance(value, str) and is_image:
            yield value, True
        elif isinstance(value, dict) and not _is_one_of(value.get("@id"), without):
            is_image = is_image or "ImageObject" in _listed(value.get("@type"))
            yield value, is_image
            images = _SHOWS if is_image else _SHOWS + _SHOWS_SMALL
            inner = [(item, key in images) for key, item in value.items() if key not in _NOT_OF_THE_SUBJECT]
            pending += reversed(inner)


def _read_node(node: Mapping[str, Any], is_image: bool, page: _Page) -> None:
    if is_image:
        urls = [url for key in ("contentUrl", "url", "thumbnailUrl") for url in _strings(node.get(key))]
        if urls:
            page.add(urls[0], urls[1:])
        page.said["creator"] += _names(node.get("creator"))
    for key in ("license", "copyrightNotice", "creditText"):
        page.said[key] += _names(node.get(key))


def _is_one_of(value: Any, names: Collection[str]) -> bool:
    return isinstance(value, str) and value in names


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _strings(value: Any) -> list[str]:
    return [item for item in _listed(value) if isinstance(item, str)]


def _names(value: Any) -> list[str]:
    """What things are called: strings, and objects by name or address."""
    found = []
    for item in _listed(value):
        if isinstance(item, dict):
            item = item.get("name") or item.get("url") or item.get("@id")
        found += _strings(item)
    return found


def _agreed(*sources: Iterable[str] | None) -> str:
    """What the first source says that says anything; empty if it says several things."""
    for source in sources:
        said = set(filter(None, map(one_line, source or ())))
        if said:
            return said.pop() if len(said) == 1 else ""
    return ""


# --- URLs -------------------------------------------------------------------------------------------------------------


def _chosen(images: Iterable[_Image], base: str, limit: int, besides: str) -> Iterator[str]:
    """Clean URLs of the images, each once, besides the page's own, which empty ones lead to.

    Who names a smaller file of an image that is there, too, means that.
    """
    joined = [
        _Image(best, tuple(_joined(base, other) for other in image.others[:20]))
        for image in images
        if _may_be_url(image.best.strip(_SPACE)) and (best := _joined(base, image.best))
    ]
    larger: dict[str, str] = {}
    for image in joined:
        if image.best not in larger:
            larger.update((other, image.best) for other in image.others if other not in larger)
    seen = {besides}
    for image in joined:
        best = larger.get(image.best, image.best)
        if best in seen or not _may_be_photo(best):
            continue
        seen.add(best)
        try:
            url = clean_url(best)
        except WebFault:
            continue
        if url != best and url in seen:
            continue
        seen.add(url)
        yield url
        limit -= 1
        if limit <= 0:
            return


def _joined(base: str, text: str) -> str:
    """An absolute URL with http or https; empty if it is none."""
    text = text.strip(_SPACE).replace("\n", "").replace("\t", "").replace("\r", "")
    try:
        url = urllib.parse.urljoin(base, text) if text and len(text) <= _LONGEST_URL else ""
    except ValueError:
        return ""
    return url if url.lower().startswith(("http://", "https://")) else ""


def _may_be_photo(url: str) -> bool:
    *folders, name = urllib.parse.unquote(urllib.parse.urlsplit(url).path).lower().split("/")
    if name.endswith(_DRAWING_SUFFIXES) or ".svg." in name or _NEVER_PHOTO.search(name):
        return False
    if not _NO_PHOTO_FOLDERS.isdisjoint(folders):
        return False
    return name.endswith(_PHOTO_SUFFIXES) or not _HARDLY_PHOTO.search(name)
