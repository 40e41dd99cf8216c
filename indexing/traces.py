"""Looks for what names somebody in anything a gallery may hold: tables, JSON, text, and raw bytes."""

import collections
import dataclasses
import html
import json
import re
import unicodedata
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from celebface.indexing import storage
from celebface.indexing.schemas import REMOVED_URI

PROSE = frozenset(("detail", "author", "licence"))  # columns that hold sentences, or what strangers wrote
_HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{16,}(?![0-9a-f])")
_BETWEEN = r"""/\\,;:|=&?#"'()\[\]<>\n\t"""  # what names lie between, as characters of a set
_PARTS = re.compile(rf"([{_BETWEEN}\s]+for\s|[{_BETWEEN}]+)")
_MARKUP = (".html", ".svg")
_STARTS = re.compile(r"""(?:(?<=[\s"'(,;=])|\A)(?=[a-z][a-z0-9+.-]*:|/)""")  # of places, in a text
_GOES_ON = re.compile(r"[\w/%~+.-]")  # what follows belongs to the place
_LEAST_RAW = 6  # bytes: 10^8 bytes that mean nothing hold any 4 of them by chance, and hardly ever 6
_HASH = 32  # bytes of the longest hash
_CHUNK = 8 * 2**20


@dataclasses.dataclass(frozen=True)
class Trace:
    """Where something was found.

    Attributes:
      file: Name of the file, relative to the folder.
      place: Column, "text" or "bytes".
      count: How many of its values, or places in it.
    """

    file: str
    place: str
    count: int


@dataclasses.dataclass(frozen=True)
class Scanned:
    """What a scan has seen.

    Attributes:
      files: Number of files.
      values: Texts that were looked at, each once in a file and column.
      size: Bytes of the files that were looked at as they are.
      found: Where something was found.
    """

    files: int
    values: int
    size: int
    found: tuple[Trace, ...]


class Traces:
    """What is looked for.

    A name counts where it stands by itself: as a value, as a folder or file in a path, between commas; not within
    longer names, for Ann is neither Joanna nor Mary Ann. So does one that holds what others lie between, such as
    AC/DC or Conan O'Brien. In prose it counts wherever its words are, as nothing there is lost by cutting out too much.
    Upper and lower case, and _ and + for spaces, make no difference.

    Args:
      names: Names of people.
      uris: Places.
      hashes: Ids and hashes, in hex.
    """

    def __init__(self, names: Collection[str] = (), uris: Collection[str] = (), hashes: Collection[str] = ()):
        self._names = {_plain(name) for name in names} - {""}
        self._uris = set(uris) - {""}
        self._hashes = set(hashes) - {""}
        written = {r"[\s_+]+".join(map(re.escape, unicodedata.normalize("NFC", name).split())) for name in names} - {""}
        words = sorted(written, key=len, reverse=True)
        self._in_prose = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", re.IGNORECASE)
        self._in_pieces = _as_they_stand([name for name in names if _PARTS.search(name)])
        self._lengths = sorted({len(uri) for uri in self._uris}, reverse=True)
        raw = {text.encode() for text in (*self._uris, *self._hashes, *names)}
        self._raw = sorted(text for text in raw if len(text) >= _LEAST_RAW)

    def __len__(self) -> int:
        return len(self._names) + len(self._uris) + len(self._hashes)

    def in_text(self, text: str, prose: bool = False) -> bool:
        """Whether a text holds any of it."""
        return text in self._uris or self.without(text, prose) != text

    def without(self, text: str, prose: bool = False) -> str:
        """A text with `REMOVED_URI` in place of what it holds."""
        if text in self._uris:
            return REMOVED_URI
        if self._hashes:
            text = _HEX.sub(lambda found: REMOVED_URI if found[0] in self._hashes else found[0], text)
        if self._uris:
            text = self._without_uris(text)
        if self._names and prose and self._in_prose.search(composed := unicodedata.normalize("NFC", text)):
            text = self._in_prose.sub(REMOVED_URI, composed)
        if self._in_pieces and self._in_pieces.search(composed := unicodedata.normalize("NFC", text)):
            text = self._in_pieces.sub(rf"\g<before>{REMOVED_URI}", composed)
        if self._names:
            parts = _PARTS.split(text)
            parts[::2] = [
                part.replace(part.strip(), REMOVED_URI) if self._is_name(part) else part for part in parts[::2]
            ]
            text = "".join(parts)
        return text

    def _without_uris(self, text: str) -> str:
        kept, done = [], 0
        for start in _STARTS.finditer(text):
            at = start.start()
            end = next((at + size for size in self._lengths if text[at : at + size] in self._uris), at)
            if at < done or end == at or _GOES_ON.match(text, end):
                continue
            kept += [text[done:at], REMOVED_URI]
            done = end
        return "".join([*kept, text[done:]])

    def _is_name(self, part: str) -> bool:
        name = _plain(urllib.parse.unquote(part))
        return name in self._names or (name.rpartition(".")[0] in self._names if "." in name else False)

    def in_bytes(self, data: bytes | memoryview) -> int:
        """How often bytes hold any of it; names and places of fewer than 6 bytes are not looked for."""
        if not self._raw:
            return 0
        begins = np.array(sorted({int.from_bytes(text[:4], "little") for text in self._raw}), "<u4")
        longest, found = max(map(len, self._raw)), 0
        for begin in range(0, len(data), _CHUNK):
            chunk = bytes(data[begin : begin + _CHUNK + longest]) + bytes(4)  # so that it is long enough for any offset
            for offset in range(4):
                words = np.frombuffer(chunk, "<u4", (len(chunk) - offset) // 4, offset)
                nearest = begins[np.minimum(np.searchsorted(begins, words), len(begins) - 1)]
                for place in np.flatnonzero(nearest == words) * 4 + offset:
                    if place < _CHUNK:
                        found += any(chunk.startswith(text, place) for text in self._raw)
        return found


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").replace("+", " ").casefold().split())


def _as_they_stand(names: Collection[str]) -> re.Pattern[str] | None:
    """Finds names that `_PARTS` takes apart where they stand by themselves, also with %27 and the like in them."""
    if not names:
        return None
    words = [unicodedata.normalize("NFC", name).replace("_", " ").replace("+", " ").split() for name in names]
    written = [r"(?:[\s_+]|%20)+".join("".join(map(_any_form, word)) for word in parts) for parts in words]
    longest_first = "|".join(sorted(written, key=len, reverse=True))
    return re.compile(
        rf"(?P<before>\A\s*|[{_BETWEEN}]\s*|\bfor\s+)(?:{longest_first})(?:\.\w+)?(?=\s*(?:[{_BETWEEN}]|\Z))",
        re.IGNORECASE,
    )


def _any_form(character: str) -> str:
    quoted = "".join(f"%{byte:02x}" for byte in character.encode())
    return f"(?:{re.escape(character)}|{quoted})"


def scan(folder: str, traces: Traces, more: Mapping[str, bytes] | None = None) -> Scanned:
    """Looks through all files of a folder, decoded.

    Args:
      folder: URI of a version, or of the folder it is assembled in.
      traces: What is looked for.
      more: Contents of files that are not in the folder yet, by name.
    """
    found: list[Trace] = []
    files = values = size = 0
    contents = ((name, None) for name in storage.list_files(folder))
    for name, data in (*contents, *(more or {}).items()):
        files += 1
        if traces.in_text(name):
            found.append(Trace(REMOVED_URI, "name", 1))
        if name.endswith(".parquet"):
            with storage.open_input(storage.join(folder, name)) as stream:
                seen, bytes_seen, traced = _scan_table(name, pq.ParquetFile(stream), traces)
        else:
            body = storage.read_bytes(storage.join(folder, name)) if data is None else data
            seen, bytes_seen, traced = _scan_file(name, body, traces)
        values, size = values + seen, size + bytes_seen
        found += traced
    return Scanned(files, values, size, tuple(found))


def _scan_table(name: str, file: pq.ParquetFile, traces: Traces) -> tuple[int, int, list[Trace]]:
    counts: collections.Counter[str] = collections.Counter()
    texts: dict[str, set[str]] = collections.defaultdict(set)  # that were looked at
    size = 0
    for batch in file.iter_batches(batch_size=4096):
        for column, array in ((name, leaf) for name in batch.schema.names for leaf in _leaves(batch[name])):
            if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
                contents = list(filter(None, array.to_pylist()))
                joined = b"".join(contents)
                size += len(joined)
                counts[column] += traces.in_bytes(joined)
                counts[column] += sum(len(value) <= _HASH and traces.in_text(value.hex()) for value in contents)
            elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
                new = set(filter(None, array.to_pylist())) - texts[column]
                texts[column] |= new
                counts[column] += sum(traces.in_text(text, column in PROSE) for text in new)
    for text in (file.schema_arrow.metadata or {}).values():
        counts["metadata"] += traces.in_text(text.decode(errors="replace"))
    values = sum(map(len, texts.values()))
    return values, size, [Trace(name, column, count) for column, count in counts.items() if count]


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    """What is in lists and structures, in arrays that are neither."""
    array = leaves(array)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary
    if not pa.types.is_struct(array.type):
        yield array
        return
    for number in range(array.type.num_fields):
        yield from _leaves(array.field(number))


def leaves(array: pa.Array) -> pa.Array:
    """A column's values; of lists, what is in them."""
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    return array


def _scan_file(name: str, data: bytes, traces: Traces) -> tuple[int, int, list[Trace]]:
    try:
        texts = list(_texts(json.loads(data))) if name.endswith(".json") else data.decode().splitlines()
        if name.endswith(_MARKUP):
            texts = list(map(html.unescape, texts))
    except ValueError:  # not UTF-8: vectors, an index, a picture
        texts = []
    found = [
        Trace(name, "text", sum(map(traces.in_text, texts))),
        Trace(name, "bytes", 0 if texts else traces.in_bytes(data)),
    ]
    return len(texts), 0 if texts else len(data), [trace for trace in found if trace.count]


def _texts(body: Any) -> Iterator[str]:
    if isinstance(body, str):
        yield body
    elif isinstance(body, Mapping):
        for key, value in body.items():
            yield key
            yield from _texts(value)
    elif isinstance(body, list | tuple):
        for value in body:
            yield from _texts(value)


def scrub(body: Any, traces: Traces) -> tuple[Any, int]:
    """A JSON value without what it holds of it, and how many of its texts were changed; keys stay."""
    if isinstance(body, str):
        text = traces.without(body)
        return text, int(text != body)
    if isinstance(body, Mapping):
        cleaned = {key: scrub(value, traces) for key, value in body.items()}
        return {key: value for key, (value, _) in cleaned.items()}, sum(count for _, count in cleaned.values())
    if isinstance(body, list | tuple):
        done = [scrub(value, traces) for value in body]
        return [value for value, _ in done], sum(count for _, count in done)
    return body, 0
