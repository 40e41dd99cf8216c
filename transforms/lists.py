"""Reads the rows of lists, a few at a time: CSV, TSV, JSON lines, Parquet and plain text, plain or gzipped."""

import collections
import contextlib
import csv
import dataclasses
import functools
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from celebface.indexing import storage
from celebface.transforms.folders import PHOTO_SUFFIXES, NoSuchSource
from celebface.transforms.lines import LONGEST, BadRest, Line, lines_of, open_bytes, unpacked, utf8
from celebface.transforms.records import printable

FORMATS = ("csv", "tsv", "jsonl", "parquet", "txt")
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".txt": "txt",
}
_ALIASES = {
    "identity": ("identity", "name", "person", "label", "celebrity"),
    "url": ("url", "image_url", "image", "src", "path", "file", "uri"),
    "page": ("page", "page_url", "source_page"),
    "id": ("id", "wikidata", "external_id", "qid"),
    "aliases": ("aliases",),
    "licence": ("licence", "license"),
    "author": ("author", "artist", "creator"),
}
_MAIN = ("identity", "url", "page")  # a list without any of them is none
_DELIMITERS = {"csv": (",", ";", "\t", "|"), "tsv": ("\t",)}

_FIRST = 4096  # bytes that a format is told by
_ROWS = 256  # of a Parquet file at a time
_OBJECTS = 100  # of JSON lines that are looked through for a column
_OPEN_QUOTE = "a quotation mark that is not closed"
_PARQUET = b"PAR1"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_NO_LIST = re.compile(rb"\s*<|P[1-7]\s")  # HTML and XML; photos that are text
_WIKIDATA = re.compile(r"(?:https?://www\.wikidata\.org/(?:entity|wiki)/|wd:|wikidata:)?([Qq][1-9]\d*)")


@dataclasses.dataclass(frozen=True)
class Columns:
    """Names of a list's columns, in any case; each is empty for the usual names.

    Attributes:
      identity: The person's name.
      url: The photo's URL or path.
      page: A web page that shows it, or that photos are taken from.
      id: An id that tells people of one name apart.
      aliases: Other names of the person.
      licence: The photo's licence.
      author: Who made it.
    """

    identity: str = ""
    url: str = ""
    page: str = ""
    id: str = ""
    aliases: str = ""
    licence: str = ""
    author: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of a list.

    Attributes:
      number: Its line, the first if it has several; of a Parquet file its place. From 1.
      name: The person's name.
      url: The photo's URL or path.
      page: A web page.
      external_id: An id of the person; of Wikidata as wikidata:Q42.
      aliases: Other names.
      licence: The photo's licence.
      author: Who made it.
      fault: Why the row cannot be used; the others are empty then.
    """

    number: int
    name: str = ""
    url: str = ""
    page: str = ""
    external_id: str = ""
    aliases: tuple[str, ...] = ()
    licence: str = ""
    author: str = ""
    fault: str = ""


class _BadValue(Exception):
    """A row cannot be used."""


# --- formats ----------------------------------------------------------------------------------------------------------


def format_of_name(name: str) -> str:
    """The format that a file's name tells; empty if it tells none."""
    stem, suffix = os.path.splitext(name.lower())
    return _SUFFIXES.get(os.path.splitext(stem)[1] if suffix == ".gz" else suffix, "")


def recognise(name: str, first_bytes: bytes) -> str:
    """The format of a list, by its name, else by its first bytes; empty if it is no list.

    A file with a suffix that nobody knows is only taken for a list if its first line says what its columns are.
    """
    stem, suffix = os.path.splitext(name.lower())
    told = format_of_name(name)
    if told or suffix in PHOTO_SUFFIXES:
        return told
    if suffix == ".gz":
        suffix = os.path.splitext(stem)[1]
    told = _format_of_content(first_bytes)
    if suffix == ".list":
        return told or "txt"
    return told if told != "txt" or not suffix else ""


def _format_of_content(first_bytes: bytes) -> str:
    if first_bytes.startswith(_PARQUET):
        return "parquet"
    data = b""
    with contextlib.suppress(BadRest):  # they are not all
        for chunk in utf8(unpacked(iter([first_bytes]))):
            data += chunk
    if not data.strip() or _CONTROL.search(data) or _NO_LIST.match(data):
        return ""
    lines = data.decode("utf-8", "replace").splitlines()
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    if first.startswith(("{", "[{")) or first.strip() == "[":
        return "jsonl"
    for format, delimiter in (("tsv", "\t"), ("csv", ","), ("csv", ";")):
        cells = _split(first, delimiter)
        known = {alias for main in _MAIN for alias in _ALIASES[main]}
        if any(_key(cell) in known for cell in cells):
            return format
    cells = _split(first, ",")
    if any(map(_is_place, cells[1:])) and not _is_place(cells[0]):  # URLs may hold commas
        return "csv"
    return "txt"


def recognise_file(place: str) -> str:
    """The format of a list at a local path or URI; empty if it is no list, or none that can be opened.

    Raises:
      OSError: If a store does not give it.
      StorageError: Likewise.
    """
    if format_of_name(place) or os.path.splitext(place.lower())[1] in PHOTO_SUFFIXES:
        return recognise(place, b"")
    if "://" not in place and not (os.path.isfile(place) and os.access(place, os.R_OK)):  # a pipe would wait for ever
        return ""
    with open_bytes(place) as file:
        return recognise(place, file.read(_FIRST))


# --- rows -------------------------------------------------------------------------------------------------------------


def read_rows(place: str, format: str, columns: Columns) -> Iterator[Row]:
    """Reads a list. Rows that cannot be used are told by their fault, and so is where a damaged file ends.

    Args:
      place: A local path or a URI.
      format: One of `FORMATS`.
      columns: Names of its columns.

    Raises:
      NoSuchSource: If it cannot be read at all, or lacks a column that it should have.
    """
    shown = printable(place)
    read = _parquet_rows if format == "parquet" else _text_rows
    try:
        yield from read(place, format, columns)
    except (OSError, storage.StorageError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise NoSuchSource(f"{shown} cannot be read: {told}") from error


def check(place: str, format: str, columns: Columns) -> None:
    """Looks at the beginning of a list.

    Raises:
      NoSuchSource: If `read_rows` would.
    """
    next(read_rows(place, format, columns), None)


def _text_rows(place: str, format: str, columns: Columns) -> Iterator[Row]:
    with open_bytes(place) as file:
        lines = lines_of(file)
        if format == "jsonl":
            yield from _json_rows(place, columns, lines)
        elif format == "txt":
            yield from _plain_rows(lines)
        else:
            yield from _table_rows(place, format, columns, lines)


def _plain_rows(lines: Iterable[Line]) -> Iterator[Row]:
    """Lines that are a name, a URL, a path, or a name and one of these with a tab between."""
    for number, text, fault in lines:
        text = text.strip()
        if fault:
            yield Row(number, fault=fault)
        elif text and not text.startswith("#"):
            fields = text.split("\t")
            if len(fields) > 2:
                yield Row(number, fault=f"{len(fields)} fields and not 2")
            elif len(fields) == 2:
                yield _row(number, {"identity": fields[0], "url": fields[1]})
            else:
                yield _row(number, {"url" if _is_place(text) else "identity": text})


def _is_place(text: str) -> bool:
    """Whether a text without a column of its own is a URL or the path of a photo, and no name."""
    return bool(_URL.match(text.strip())) or os.path.splitext(text.strip().lower())[1] in PHOTO_SUFFIXES


# --- JSON lines -------------------------------------------------------------------------------------------------------


def _json_rows(place: str, columns: Columns, lines: Iterable[Line]) -> Iterator[Row]:
    begun: list[Row] | None = []  # until it is known that the columns are there
    keys: dict[str, None] = {}
    for number, text, fault in lines:
        if not fault and not text.strip():
            continue
        if not keys and text.lstrip().startswith("["):
            raise NoSuchSource(f"{printable(place)} is a JSON array; a list has one object a line")
        row, found = (Row(number, fault=fault), []) if fault else _json_row(number, text, columns)
        if begun is None:
            yield row
            continue
        begun.append(row)
        keys |= dict.fromkeys(found)
        if len(begun) == _OBJECTS:
            _find_columns(place, list(keys), columns)
            yield from begun
            begun = None
    if begun:
        if keys:
            _find_columns(place, list(keys), columns)
        yield from begun


def _json_row(number: int, text: str, columns: Columns) -> tuple[Row, list[str]]:
    """A row, and the keys that it has."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return Row(number, fault="not JSON"), []
    if not isinstance(entry, dict):
        return Row(number, fault="not a JSON object"), []
    names = list(entry)
    found = _positions(tuple(names), columns)
    return _row(number, {field: entry[names[position]] for field, position in found.items()}), names


# --- tables of text ---------------------------------------------------------------------------------------------------


def _table_rows(place: str, format: str, columns: Columns, lines: Iterator[Line]) -> Iterator[Row]:
    first = next((line for line in lines if line[1].strip() or line[2]), None)
    if not first:
        return
    if first[2]:
        raise NoSuchSource(f"{printable(place)} cannot be read: its first line is {first[2]}")
    delimiter = _delimiter(first[1], format, columns)
    records = _records(itertools.chain([first], lines), delimiter)
    number, header, fault = next(records)
    if fault:
        raise NoSuchSource(f"{printable(place)} cannot be read: its first line has {fault}")
    if columns == Columns() and not _positions(tuple(header), columns) and any(map(_is_place, header)):
        found = _without_header(header)
        yield _row(number, {field: header[position] for field, position in found.items()})
    else:
        found = _find_columns(place, header, columns)
    for number, cells, fault in records:
        if fault:
            yield Row(number, fault=fault)
        else:
            yield _row(number, {field: cells[position] for field, position in found.items()})


def _delimiter(header: str, format: str, columns: Columns) -> str:
    """What stands between cells: the first that gives cells that columns are called like."""
    delimiters = _DELIMITERS[format]
    known = (delimiter for delimiter in delimiters if _positions(tuple(_split(header, delimiter)), columns))
    return next(known, delimiters[0])


def _without_header(cells: Sequence[str]) -> dict[str, int]:
    """Columns of a table whose first row is data: the first place is the photo's, and beside it stands the name."""
    url = next(position for position, cell in enumerate(cells) if _is_place(cell))
    if len(cells) == 1:
        return {"url": url}
    return {"identity": 0 if url else 1, "url": url}


_Record = tuple[int, list[str], str]  # number of its first line, cells, fault


def _records(lines: Iterator[Line], delimiter: str) -> Iterator[_Record]:
    """Cuts lines into cells. What is quoted may go over several lines.

    If such a record turns out to be none, a quotation mark was left open: only its first line is lost, and those after
    it are read for themselves.
    """
    again: collections.deque[Line] = collections.deque()
    width = 0
    while line := again.popleft() if again else next(lines, None):
        number, text, fault = line
        if not text.strip() and not fault:
            continue
        taken: list[Line] = []
        while not fault and _is_open(text, delimiter):
            text, fault = _go_on(text, taken, again, lines)
        cells, fault = ([], fault) if fault else _cells(text, delimiter, width, strict=bool(taken))
        if fault:
            again.extendleft(reversed(taken))
        width = width or len(cells)
        yield number, cells, fault


def _go_on(text: str, taken: list[Line], again: collections.deque[Line], lines: Iterator[Line]) -> tuple[str, str]:
    """Takes lines up to one that may close what is quoted; gives the text with them, and the fault if there is none."""
    pieces, size = [text], len(text)
    while line := again.popleft() if again else next(lines, None):
        taken.append(line)
        pieces.append(line[1])
        size += len(line[1])
        if line[2] or size > LONGEST:
            break
        if '"' in line[1]:
            return "\n".join(pieces), ""
    return text, _OPEN_QUOTE


def _is_open(text: str, delimiter: str) -> bool:
    """Whether a quoted cell does not end in a text."""
    if '"' not in text:
        return False
    try:
        for _ in csv.reader([text], delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        return "unexpected end of data" in str(error)
    return False


def _cells(text: str, delimiter: str, width: int = 0, *, strict: bool = False) -> tuple[list[str], str]:
    """The cells of a record, and the fault if they cannot be had, or are not as many as there should be."""
    try:
        cells = next(csv.reader([text], delimiter=delimiter, strict=strict))
    except csv.Error:
        if len(text) > csv.field_size_limit():
            return [], f"a field of more than {csv.field_size_limit()} characters"
        return [], _OPEN_QUOTE if strict else "not a row of a table"
    while width and len(cells) > width and not cells[-1].strip():
        cells.pop()
    if width and len(cells) != width:
        return [], f"{len(cells)} fields and not {width}"
    return cells, ""


def _split(text: str, delimiter: str) -> list[str]:
    return _cells(text, delimiter)[0]


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _parquet_rows(place: str, format: str, columns: Columns) -> Iterator[Row]:
    with storage.open_input(place) if "://" in place else open(place, "rb") as file:
        try:
            table = pq.ParquetFile(file)
        except pa.ArrowException as error:
            raise NoSuchSource(f"{printable(place)} is no Parquet file that can be read") from error
        schema = table.schema_arrow
        found = _find_columns(place, schema.names, columns)
        wrong = [
            f"column {schema.names[position]} holds {schema.types[position]} and no text"
            for field, position in found.items()
            if not _is_readable(schema.types[position], field)
        ]
        names = list(dict.fromkeys(schema.names[position] for position in found.values()))
        number = 1
        for group in range(table.num_row_groups):
            end = number + table.metadata.row_group(group).num_rows
            if wrong:
                yield from (Row(each, fault=wrong[0]) for each in range(number, end))
                number = end
                continue
            try:
                for batch in table.iter_batches(_ROWS, [group], names):
                    values = {
                        field: _values(batch.column(batch.schema.names.index(schema.names[position])))
                        for field, position in found.items()
                    }
                    for each in range(batch.num_rows):
                        yield _row(number, {field: column[each] for field, column in values.items()})
                        number += 1
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and ("://" in place or error.errno):
                    raise  # it is the place that fails, and not the file
                yield Row(number, fault=f"rows {number} to {end - 1} are damaged")
            number = end


def _is_readable(type: pa.DataType, field: str) -> bool:
    is_a = pa.types
    if is_a.is_dictionary(type):
        type = type.value_type
    if field == "aliases" and (is_a.is_list(type) or is_a.is_large_list(type)):
        return _is_text(type.value_type) or is_a.is_null(type.value_type)
    return _is_text(type) or is_a.is_integer(type) or is_a.is_null(type)


def _is_text(type: pa.DataType) -> bool:
    is_a = pa.types
    return any(
        told(type)
        for told in (
            is_a.is_string,
            is_a.is_large_string,
            is_a.is_string_view,
            is_a.is_binary,
            is_a.is_large_binary,
            is_a.is_binary_view,
        )
    )


def _values(column: pa.Array) -> list[Any]:
    """The values of a column, text as bytes: a file may say that it is UTF-8 when it is not."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_text(column.type):
        column = column.cast(pa.large_binary())
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.cast(pa.large_list(pa.large_binary()))
    return column.to_pylist()


# --- columns and values -----------------------------------------------------------------------------------------------


def _key(name: str) -> str:
    return name.strip().casefold()


@functools.lru_cache(256)  # each line of JSON has columns of its own, mostly the same
def _positions(names: tuple[str, ...], columns: Columns) -> dict[str, int]:
    """Where the columns are that are there, by the attributes of `Columns`."""
    places: dict[str, int] = {}
    for position, name in enumerate(names):
        places.setdefault(_key(name), position)
    configured = dataclasses.asdict(columns)
    found: dict[str, int] = {}
    for field, name in configured.items():
        if name in names:
            found[field] = names.index(name)
        elif name and _key(name) in places:
            found[field] = places[_key(name)]
    taken = set(found.values())
    for field, aliases in _ALIASES.items():
        usual = [places[alias] for alias in aliases if alias in places and places[alias] not in taken]
        if usual and not configured[field]:
            found[field] = usual[0]
    return found


def _find_columns(place: str, names: Sequence[str], columns: Columns) -> dict[str, int]:
    """The same, if all that are configured are there, and one of those that matter.

    Raises:
      NoSuchSource: If not.
    """
    found = _positions(tuple(names), columns)
    shown = ", ".join(printable(" ".join(name.split()))[:40] for name in names[:20]) or "none"
    for field, wanted in dataclasses.asdict(columns).items():
        if wanted and field not in found:
            raise NoSuchSource(f"{printable(place)} has no column {wanted}; its columns: {shown}")
    if not any(field in found for field in _MAIN):
        raise NoSuchSource(f"{printable(place)} has no column identity, url or page; its columns: {shown}")
    return found


def _row(number: int, values: Mapping[str, Any]) -> Row:
    """Makes a row of what its columns hold."""
    try:
        text = {field: _text(values.get(field), field) for field in _ALIASES if field != "aliases"}
        aliases = _aliases(values.get("aliases"))
    except _BadValue as fault:
        return Row(number, fault=str(fault))
    known = _WIKIDATA.fullmatch(text["id"])
    return Row(
        number,
        name=text["identity"],
        url=text["url"],
        page=text["page"],
        external_id=f"wikidata:{known[1].upper()}" if known else text["id"],
        aliases=aliases,
        licence=text["licence"],
        author=text["author"],
    )


def _text(value: Any, field: str) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    try:
        if isinstance(value, bytes):
            value = value.decode()
        if not isinstance(value, str):
            raise _BadValue(f"its {field} is no text")
        value.encode()  # JSON may hold halves of characters
    except UnicodeError as error:
        raise _BadValue(f"its {field} is not Unicode") from error
    if len(value) > LONGEST:
        raise _BadValue(f"its {field} has more than {LONGEST} characters")
    return value.strip()


def _aliases(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        text = _text(value, "aliases")
        value = re.split("[;|]", text)
        if text.startswith("["):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise _BadValue("its aliases are no JSON list") from error
    return tuple(filter(None, (_text(alias, "aliases") for alias in value)))
