"""Rows of lists: every format, plain and packed, with what people put into them; broken rows stop nobody."""

import gzip
import json
import os
import pathlib
import tracemalloc

import object_stores
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celebface.transforms import lines, lists
from celebface.transforms.folders import NoSuchSource
from celebface.transforms.lists import Columns, Row

LINE_LIMIT = 1 << 20
PEOPLE = [Row(2, "Zoë", "https://example.org/zoe.jpg"), Row(3, "Ann", "photos/ann.jpg")]


def rows(path: pathlib.Path, contents: bytes | str, format: str = "", columns: Columns | None = None) -> list[Row]:
    """What is read from a file with these contents, in the format that its name tells."""
    path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    found = list(lists.read_rows(str(path), format or lists.recognise_file(str(path)), columns or Columns()))
    lists.check(str(path), format or lists.recognise_file(str(path)), columns or Columns())
    return found


def parquet(path: pathlib.Path, table: pa.Table, columns: Columns | None = None, **options) -> list[Row]:
    pq.write_table(table, path, **options)
    return list(lists.read_rows(str(path), "parquet", columns or Columns()))


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("people.csv", "csv"),
        ("PEOPLE.CSV", "csv"),
        ("people.tsv", "tsv"),
        ("people.jsonl", "jsonl"),
        ("people.ndjson", "jsonl"),
        ("people.json", "jsonl"),
        ("people.parquet", "parquet"),
        ("people.txt", "txt"),
        ("people.csv.gz", "csv"),
        ("people.TXT.GZ", "txt"),
        ("ann.jpg", ""),
        ("people.gz", ""),
        ("people", ""),
        ("csv", ""),
    ],
)
def test_a_name_tells_a_format(name, format):
    assert lists.format_of_name(name) == format
    assert lists.recognise(name, b"") == format


@pytest.mark.parametrize(
    ("contents", "format"),
    [
        (b"PAR1\x15\x04", "parquet"),
        (b'{"name": "Ann"}\n', "jsonl"),
        (b'[{"name": "Ann"}]', "jsonl"),
        (b"[\n", "jsonl"),
        (b"name,url\nAnn,x.jpg\n", "csv"),
        (b"Name;Image_URL\n", "csv"),
        (b"name\turl\n", "tsv"),
        (b"Ann,https://example.org/1.jpg\n", "csv"),
        (b"Ann\tann.jpg\n", "txt"),
        (b"# people\n\nAnn\n", "txt"),
        (b"https://example.org/a,b.jpg\n", "txt"),
        ("Zoë\n".encode(), "txt"),
        ("Zoë\n".encode("utf-16"), "txt"),
        ("name,url\n".encode("utf-16-be"), ""),  # no mark: full of zeros
        (b"caf\xe9\n", "txt"),
        (b"", ""),
        (b"\n\n", ""),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", ""),
        (b"\x89PNG\r\n\x1a\n\x00\x00", ""),
        (b"P3\n2 2\n255\n0 0 0", ""),
        (b"<!DOCTYPE html>", ""),
        (b"GIF89a\x01\x00", ""),
    ],
)
def test_first_bytes_tell_a_format(contents, format):
    assert lists.recognise("people", contents) == format
    assert lists.recognise("people.gz", gzip.compress(contents)) == ("" if format == "parquet" else format)
    assert lists.recognise("ann.jpg", contents) == ""  # a photo, says its name
    assert lists.recognise("people.list", contents) == (format or "txt")
    assert lists.recognise("people.xyz", contents) == ("" if format == "txt" else format)


def test_the_start_of_a_packed_list_is_enough():
    contents = b"name,url\n" + os.urandom(100_000).hex().encode()
    assert lists.recognise("people.list", gzip.compress(contents)[:4096]) == "csv"


def test_what_is_no_file_is_no_list(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # which would wait for a writer
    assert lists.recognise_file(str(tmp_path / "pipe")) == ""
    assert lists.recognise_file(str(tmp_path / "missing")) == ""
    assert lists.recognise_file(str(tmp_path / "missing.csv")) == "csv"


TEXTS = {
    "csv": "name,url\nZoë,https://example.org/zoe.jpg\nAnn,photos/ann.jpg\n",
    "tsv": "name\turl\nZoë\thttps://example.org/zoe.jpg\nAnn\tphotos/ann.jpg\n",
    "jsonl": '\n{"name": "Zoë", "url": "https://example.org/zoe.jpg"}\n{"name": "Ann", "url": "photos/ann.jpg"}\n',
    "txt": "# people\nZoë\thttps://example.org/zoe.jpg\nAnn\tphotos/ann.jpg\n",
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("format", TEXTS)
def test_every_text_format_however_it_is_written(tmp_path, format, packed, encoding, ending):
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    contents = (mark + TEXTS[format].replace("\n", ending)).encode(encoding)
    if packed:
        contents = gzip.compress(contents)
    assert rows(tmp_path / f"people.{format}", contents) == PEOPLE  # packed or not, whatever its name says
    assert rows(tmp_path / f"people.{format}.gz", contents) == PEOPLE
    assert rows(tmp_path / "people.list", contents) == PEOPLE


def test_parquet(tmp_path):
    table = pa.table({"more": [1, 2], "Name": ["Zoë", "Ann"], "URL": ["https://example.org/zoe.jpg", "photos/ann.jpg"]})
    expected = [Row(1, *("Zoë", "https://example.org/zoe.jpg")), Row(2, "Ann", "photos/ann.jpg")]
    assert parquet(tmp_path / "people.parquet", table) == expected
    (tmp_path / "people.parquet").rename(tmp_path / "people")
    assert lists.recognise_file(str(tmp_path / "people")) == "parquet"


def test_files_packed_one_after_the_other_are_one(tmp_path):
    contents = gzip.compress(b"Ann\nBo") + gzip.compress(b"b\nEve\n") + b"\0" * 100
    assert [row.name for row in rows(tmp_path / "names.txt.gz", contents)] == ["Ann", "Bob", "Eve"]


@pytest.mark.parametrize("format", TEXTS)
def test_a_list_without_a_line_end_at_its_end(tmp_path, format):
    assert rows(tmp_path / f"people.{format}", TEXTS[format].rstrip("\n")) == PEOPLE


@pytest.mark.parametrize("format", TEXTS)
@pytest.mark.parametrize("contents", ["", "\n", "\r\n\r\n", "\ufeff"])
def test_an_empty_list_has_no_rows(tmp_path, format, contents):
    assert rows(tmp_path / f"people.{format}", contents) == []


# --- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("identity,url", Row(2, "a", "b")),
        (" Name , IMAGE_URL ", Row(2, "a", "b")),
        ("Person,image", Row(2, "a", "b")),
        ("label,src", Row(2, "a", "b")),
        ("celebrity,path", Row(2, "a", "b")),
        ("file,name", Row(2, "b", "a")),
        ("uri,x", Row(2, url="a")),
        ("person,name", Row(2, "b")),  # the more usual one
        ("page,name", Row(2, "b", page="a")),
        ("page_url,licence", Row(2, page="a", licence="b")),
        ("source_page,License", Row(2, page="a", licence="b")),
        ("url,author", Row(2, url="a", author="b")),
        ("url,Artist", Row(2, url="a", author="b")),
        ("url,creator", Row(2, url="a", author="b")),
        ("name,wikidata", Row(2, "a", external_id="b")),
        ("name,external_id", Row(2, "a", external_id="b")),
        ("name,qid", Row(2, "a", external_id="b")),
        ("name,aliases", Row(2, "a", aliases=("b",))),
        ("name,name", Row(2, "a")),
    ],
)
def test_columns_go_by_their_usual_names(tmp_path, header, row):
    assert rows(tmp_path / "people.csv", f"{header}\na,b\n") == [row]
    keys = [key.strip() for key in header.split(",")]
    if len(set(keys)) == 2:
        assert rows(tmp_path / "people.jsonl", "\n" + json.dumps(dict(zip(keys, "ab", strict=True)))) == [row]


def test_columns_may_be_named(tmp_path):
    contents = "url,Who is it,Foto\nno,Ann,a.jpg\n"
    expected = [Row(2, "Ann", "a.jpg")]
    assert rows(tmp_path / "people.csv", contents, columns=Columns(identity="who is it", url="Foto")) == expected
    contents = '\n{"url": "no", "Who is it": "Ann", "Foto": "a.jpg"}\n'
    assert rows(tmp_path / "people.jsonl", contents, columns=Columns(identity="Who is it", url="foto")) == expected
    table = pa.table({"url": ["no"], "Who is it": ["Ann"], "a.Foto": ["a.jpg"]})
    columns = Columns(identity="Who is it", url="a.foto")
    assert parquet(tmp_path / "people.parquet", table, columns) == [Row(1, "Ann", "a.jpg")]


def test_a_column_that_was_named_is_no_other(tmp_path):
    assert rows(tmp_path / "people.csv", "name,url\na.jpg,b\n", columns=Columns(url="name")) == [Row(2, url="a.jpg")]


def test_names_that_differ_in_case_are_told_apart(tmp_path):
    assert rows(tmp_path / "x.csv", "URL,url\n1.jpg,2.jpg\n", columns=Columns(url="url")) == [Row(2, url="2.jpg")]


@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "parquet"])
def test_a_missing_column_is_told_with_those_that_are_there(tmp_path, format):
    path = tmp_path / f"people.{format}"
    if format == "parquet":
        pq.write_table(pa.table({"name": ["Ann"], "fo\nto": ["a.jpg"]}), path)
    elif format == "jsonl":
        path.write_text('{"name": "Ann", "fo\\nto": "a.jpg"}\n')
    else:
        path.write_text('name,"fo\nto"\nAnn,a.jpg\n'.replace(",", "\t" if format == "tsv" else ","))
    with pytest.raises(NoSuchSource) as refusal:
        lists.check(str(path), format, Columns(url="photo"))
    assert str(refusal.value) == f"{path} has no column photo; its columns: name, fo to"


def test_a_list_of_something_else_is_told(tmp_path):
    with pytest.raises(NoSuchSource, match="has no column identity, url or page; its columns: foo, bar"):
        rows(tmp_path / "x.csv", "foo,bar\n1,2\n", "csv")
    with pytest.raises(NoSuchSource, match="has no column identity, url or page; its columns: foo"):
        rows(tmp_path / "x.jsonl", '{"foo": 1}\n' * 200)
    with pytest.raises(NoSuchSource, match="has no column identity, url or page; its columns: foo"):
        parquet(tmp_path / "x.parquet", pa.table({"foo": [1]}))


def test_a_column_that_comes_late_in_json_is_found(tmp_path):
    contents = '{"name": "Ann"}\n' * 50 + '{"name": "Bob", "foto": "b.jpg"}\n' + '{"name": "Eve"}\n' * 200
    found = rows(tmp_path / "people.jsonl", contents, columns=Columns(url="foto"))
    assert len(found) == 251
    assert found[50] == Row(51, "Bob", "b.jpg")


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ("Ann,https://example.org/1.jpg\nBob,b.jpg\n", [("Ann", "https://example.org/1.jpg"), ("Bob", "b.jpg")]),
        ("https://example.org/1.jpg\nb.jpg\n", [("", "https://example.org/1.jpg"), ("", "b.jpg")]),
        ("https://example.org/1.jpg,Ann\n", [("Ann", "https://example.org/1.jpg")]),
        ("Ann,photos/1.JPG,640\n", [("Ann", "photos/1.JPG")]),
        ("s3://bucket/1,Ann\n", [("Ann", "s3://bucket/1")]),
    ],
)
def test_a_table_without_a_header_is_data(tmp_path, contents, expected):
    assert [(row.name, row.url) for row in rows(tmp_path / "people.csv", contents)] == expected


def test_a_table_without_a_header_has_no_columns_to_name(tmp_path):
    with pytest.raises(NoSuchSource, match=r"has no column who; its columns: Ann, https://example\.org/1\.jpg"):
        rows(tmp_path / "people.csv", "Ann,https://example.org/1.jpg\n", columns=Columns(identity="who"))


def test_a_table_may_be_cut_by_other_marks(tmp_path):
    assert rows(tmp_path / "people.csv", "name;url\nAnn, Jr.;a.jpg\n") == [Row(2, "Ann, Jr.", "a.jpg")]
    assert rows(tmp_path / "people.csv", "name\turl\nAnn, Jr.\ta.jpg\n") == [Row(2, "Ann, Jr.", "a.jpg")]


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("Q42", "wikidata:Q42"),
        ("q42", "wikidata:Q42"),
        (" Q42 ", "wikidata:Q42"),
        ("wikidata:Q42", "wikidata:Q42"),
        ("http://www.wikidata.org/entity/Q42", "wikidata:Q42"),
        ("https://www.wikidata.org/wiki/Q42", "wikidata:Q42"),
        ("Q42b", "Q42b"),
        ("imdb:nm0000123", "imdb:nm0000123"),
        ("123", "123"),
        ("", ""),
    ],
)
def test_ids(tmp_path, text, known):
    assert rows(tmp_path / "people.csv", f"name,id\nAnn,{text}\n") == [Row(2, "Ann", external_id=known)]


@pytest.mark.parametrize(
    ("text", "aliases"),
    [
        ("", ()),
        ("Annie", ("Annie",)),
        ("Annie; Zoë ;", ("Annie", "Zoë")),
        ("Annie|Zoë, the great", ("Annie", "Zoë, the great")),
        ('["Annie; A.", "Zoë"]', ("Annie; A.", "Zoë")),
        ("[]", ()),
    ],
)
def test_aliases(tmp_path, text, aliases):
    quoted = text.replace('"', '""')
    assert rows(tmp_path / "people.csv", f'name,aliases\nAnn,"{quoted}"\n') == [Row(2, "Ann", aliases=aliases)]


def test_values_of_json(tmp_path):
    entries = [
        {"name": "Ann", "url": None, "id": 42, "aliases": ["A", "B", None, ""], "more": {"a": [1]}},
        {"name": " Bob\n", "url": "b.jpg", "aliases": "X;Y"},
        {"page": "https://example.org"},
        {},
    ]
    assert rows(tmp_path / "people.jsonl", "\n".join(map(json.dumps, entries))) == [
        Row(1, "Ann", external_id="42", aliases=("A", "B")),
        Row(2, "Bob", "b.jpg", aliases=("X", "Y")),
        Row(3, page="https://example.org"),
        Row(4),
    ]


@pytest.mark.parametrize(
    "type",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int8(), pa.string()),
    ],
    ids=str,
)
def test_types_of_parquet(tmp_path, type):
    table = pa.table({"name": pa.array(["Zoë", None, "Ann", "Zoë"]).cast(type)})
    assert [row.name for row in parquet(tmp_path / "x.parquet", table)] == ["Zoë", "", "Ann", "Zoë"]


@pytest.mark.parametrize(
    "type", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.null())], ids=str
)
def test_aliases_of_parquet(tmp_path, type):
    aliases = [[], None, []] if type == pa.list_(pa.null()) else [["A", "B;C", None], None, []]
    table = pa.table({"name": ["Ann", "Bob", "Eve"], "aliases": pa.array(aliases, type), "id": [7, 8, None]})
    found = parquet(tmp_path / "x.parquet", table)
    assert [row.aliases for row in found] == [() if aliases[0] == [] else ("A", "B;C"), (), ()]
    assert [row.external_id for row in found] == ["7", "8", ""]


def test_only_the_columns_that_count_are_read(tmp_path, monkeypatch):
    read = []
    batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, size, groups, columns: (
            read.append((size, groups, columns)) or batches(self, size, groups, columns)
        ),
    )
    table = pa.table({"blob": [b"x"] * 1000, "url": [f"{number}.jpg" for number in range(1000)], "b": [1] * 1000})
    found = parquet(tmp_path / "x.parquet", table, row_group_size=500)
    assert [row.number for row in found] == list(range(1, 1001))
    assert found[999] == Row(1000, url="999.jpg")
    assert read == [(256, [0], ["url"]), (256, [1], ["url"])]


# --- broken rows ------------------------------------------------------------------------------------------------------


def faults(found: list[Row]) -> list[tuple[int, str]]:
    """Numbers, and the name or the fault."""
    for row in found:
        assert not row.fault or row == Row(row.number, fault=row.fault)
    return [(row.number, row.fault or row.name) for row in found]


def test_broken_rows_of_a_table(tmp_path):
    contents = (
        b"name,url\n"
        b"Ann,a.jpg\n"
        b"too few\n"
        b"too,many,fields\n"
        b"Bob,b.jpg,,\n"  # but for empty ones
        b"caf\xe9,c.jpg\n"
        b'Dwayne "The Rock" Johnson,d.jpg\n'
        b'"Weird Al" Yankovic,e.jpg\n'
        b'"Eve\nof Destruction",f.jpg\n'
        b"\n"
        b"long," + b"x" * LINE_LIMIT + b"\n"
        b"wide," + b"x" * 200_000 + b"\n"
        b"Fay\rRay,g.jpg\n"
        b"Zo\xc3\xab,h.jpg\n"
    )
    assert faults(rows(tmp_path / "people.csv", contents)) == [
        (2, "Ann"),
        (3, "1 fields and not 2"),
        (4, "3 fields and not 2"),
        (5, "Bob"),
        (6, "not UTF-8"),
        (7, 'Dwayne "The Rock" Johnson'),
        (8, "Weird Al Yankovic"),
        (9, "Eve\nof Destruction"),
        (12, "a line of more than 1048576 bytes"),
        (13, "a field of more than 131072 characters"),
        (14, "not a row of a table"),
        (15, "Zoë"),
    ]


def test_a_quotation_mark_left_open_costs_one_row(tmp_path):
    contents = 'name,url\n"Ann,a.jpg\nBob,b.jpg\n"Eve",e.jpg\nFay,f.jpg\n"Guy,g.jpg\nHal,h.jpg\n'
    assert faults(rows(tmp_path / "people.csv", contents)) == [
        (2, "a quotation mark that is not closed"),
        (3, "Bob"),
        (4, "Eve"),
        (5, "Fay"),
        (6, "a quotation mark that is not closed"),
        (7, "Hal"),
    ]


@pytest.mark.timeout(30)
def test_quotation_marks_left_open_everywhere_take_no_time(tmp_path):
    contents = "name,url\n" + '"Ann,a.jpg\n' * 2000 + "Bob,b.jpg\n" * 20000
    found = faults(rows(tmp_path / "people.csv", contents))
    assert len(found) == 22000
    assert found[-20000:] == [(number, "Bob") for number in range(2002, 22002)]


def test_broken_rows_of_json(tmp_path):
    lines = [
        b'{"name": "Ann"}',
        b'{"name": "Bob"',
        b"[1, 2]",
        b'"text"',
        b'{"name": 1.5}',
        b'{"name": ["Ann"]}',
        b'{"name": true}',
        b'{"url": {"a": 1}}',
        b'{"name": "\\ud800"}',
        b'{"name": "caf\xe9"}',
        b'{"name": "A", "aliases": [1.5]}',
        b'{"name": "A", "aliases": "[1"}',
        b"[" * 100_000,
        b'{"name": ' + b"9" * 5000 + b"}",
        b'{"name": "' + b"x" * LINE_LIMIT + b'"}',
        b'{"name": "Eve"}',
    ]
    assert faults(rows(tmp_path / "people.jsonl", b"\n".join(lines))) == [
        (1, "Ann"),
        (2, "not JSON"),
        (3, "not a JSON object"),
        (4, "not a JSON object"),
        (5, "its identity is no text"),
        (6, "its identity is no text"),
        (7, "its identity is no text"),
        (8, "its url is no text"),
        (9, "its identity is not Unicode"),
        (10, "not UTF-8"),
        (11, "its aliases is no text"),
        (12, "its aliases are no JSON list"),
        (13, "not JSON"),
        (14, "not JSON"),
        (15, "a line of more than 1048576 bytes"),
        (16, "Eve"),
    ]


def test_the_first_rows_of_json_may_be_broken(tmp_path):
    assert faults(rows(tmp_path / "people.jsonl", 'oh no\n{"name": "Ann"}\n')) == [(1, "not JSON"), (2, "Ann")]
    assert faults(rows(tmp_path / "people.jsonl", "oh\nno\n")) == [(1, "not JSON"), (2, "not JSON")]


def test_a_json_array_is_told(tmp_path):
    with pytest.raises(NoSuchSource, match=r"people\.json is a JSON array; a list has one object a line"):
        rows(tmp_path / "people.json", '[\n  {"name": "Ann"}\n]\n')


def test_lines_of_plain_text(tmp_path):
    contents = (
        "# people\n\nAnn\n  Zoë  Kravitz \nAnn\tann\nhttps://example.org/x\na b.JPG\ns3://b/k\n\tbob.jpg\na\tb\tc\n#x\n"
    )
    assert rows(tmp_path / "people.txt", contents) == [
        Row(3, "Ann"),
        Row(4, "Zoë  Kravitz"),
        Row(5, "Ann", "ann"),
        Row(6, url="https://example.org/x"),
        Row(7, url="a b.JPG"),
        Row(8, url="s3://b/k"),
        Row(9, url="bob.jpg"),
        Row(10, fault="3 fields and not 2"),
    ]


def test_broken_rows_of_parquet(tmp_path):
    texts = pa.array([b"Ann", b"caf\xe9", b"x" * (LINE_LIMIT + 1), b"Bob"])
    table = pa.table({"name": pa.Array.from_buffers(pa.string(), 4, texts.buffers())})  # says UTF-8 and is not
    assert faults(parquet(tmp_path / "x.parquet", table)) == [
        (1, "Ann"),
        (2, "its identity is not Unicode"),
        (3, "its identity has more than 1048576 characters"),
        (4, "Bob"),
    ]


@pytest.mark.parametrize(
    ("values", "type"),
    [
        ([{"bytes": b"x", "path": "a.jpg"}] * 2, "struct<bytes: binary, path: string>"),
        ([["a.jpg"]] * 2, "list<element: string>"),
        ([1.5, None], "double"),
        ([True, False], "bool"),
    ],
)
def test_a_column_of_parquet_that_is_no_text(tmp_path, values, type):
    found = parquet(tmp_path / "x.parquet", pa.table({"name": ["Ann", "Bob"], "image": values}))
    assert faults(found) == [(number, f"column image holds {type} and no text") for number in (1, 2)]


def test_a_damaged_part_of_a_parquet_file_costs_its_rows(tmp_path):
    path = tmp_path / "x.parquet"
    names = [f"{number:032d}" for number in range(300)]
    pq.write_table(pa.table({"name": names}), path, row_group_size=100, compression="none", use_dictionary=False)
    data = path.read_bytes()
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    path.write_bytes(data[:start] + b"\xff" * 40 + data[start + 40 :])
    found = faults(list(lists.read_rows(str(path), "parquet", Columns())))
    assert found == [
        *((number + 1, names[number]) for number in range(100)),
        (101, "rows 101 to 200 are damaged"),
        *((number + 1, names[number]) for number in range(200, 300)),
    ]


def test_a_packed_list_that_breaks_off_is_told_at_its_end(tmp_path):
    contents = gzip.compress(b"".join(b"person %d\n" % number for number in range(10_000)))
    found = faults(rows(tmp_path / "names.txt.gz", contents[:-2000]))
    assert found[0] == (1, "person 0")
    assert len(found) > 100
    assert found[-1] == (len(found), "the file ends in the middle")
    damaged = contents[: len(contents) // 2] + bytes(range(200)) + contents[len(contents) // 2 + 200 :]
    found = faults(rows(tmp_path / "names.txt.gz", damaged))
    assert len(found) > 100
    assert found[-1][1] == "what follows is damaged and cannot be unpacked"


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_list_that_breaks_off_keeps_the_rows_before(tmp_path, format):
    text = {"csv": "name\nAnn\nBob\n", "jsonl": '\n{"name": "Ann"}\n{"name": "Bob"}\n'}[format]
    contents = gzip.compress(text.encode())[:-4]
    assert faults(rows(tmp_path / f"people.{format}.gz", contents)) == [
        (2, "Ann"),
        (3, "Bob"),
        (4, "the file ends in the middle"),
    ]


def test_half_a_character_at_the_end_is_told(tmp_path):
    contents = "Ann\nBob\n".encode("utf-16") + b"E"
    assert faults(rows(tmp_path / "names.txt", contents)) == [
        (1, "Ann"),
        (2, "Bob"),
        (3, "the file ends in the middle of a character"),
    ]
    halves = "Ann\n".encode("utf-16") + b"\x00\xd8\n\x00" + "Bob\n".encode("utf-16-le")
    assert faults(rows(tmp_path / "names.txt", halves)) == [(1, "Ann"), (2, "not UTF-8"), (3, "Bob")]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("format", ["txt", "csv", "jsonl"])
def test_a_bomb_of_one_endless_line_is_one_bad_row(tmp_path, format):
    start = {"txt": b"", "csv": b"name\n", "jsonl": b""}[format]
    contents = gzip.compress(start + b"x" * 200_000_000 + b"\n", 1)
    assert len(contents) < 2_000_000
    found = rows(tmp_path / f"names.{format}.gz", contents)
    assert [row.fault for row in found] == ["a line of more than 1048576 bytes"]


def test_an_endless_line_is_not_kept():
    tracemalloc.start()
    try:
        (line,) = lines.cut(b"x" * 100_000 for _ in range(1000))
        assert tracemalloc.get_traced_memory()[1] < 4 * LINE_LIMIT
    finally:
        tracemalloc.stop()
    assert line == (1, "", "a line of more than 1048576 bytes")


def test_no_more_than_is_needed_is_read(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"person\n" * 1_000_000)
    with open(tmp_path / "names.txt", "rb") as file:
        found = lists._plain_rows(lines.lines_of(file))
        assert next(found) == Row(1, "person")
        assert file.tell() < 1_000_000


# --- lists that cannot be read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", lists.FORMATS)
def test_a_list_that_is_not_there_is_told(tmp_path, format):
    with pytest.raises(NoSuchSource, match=rf"^{tmp_path}/missing cannot be read: No such file or directory$"):
        lists.check(str(tmp_path / "missing"), format, Columns())


def test_what_is_no_parquet_file_is_told(tmp_path):
    (tmp_path / "x.parquet").write_text("name,url\n")
    with pytest.raises(NoSuchSource, match=r"x\.parquet is no Parquet file that can be read$"):
        lists.check(str(tmp_path / "x.parquet"), "parquet", Columns())


@pytest.mark.parametrize("first", [b"x" * (LINE_LIMIT + 1), b"n\xe9,url", b'"name,url'])
def test_a_table_whose_header_is_broken_is_told(tmp_path, first):
    with pytest.raises(NoSuchSource, match=r"x\.csv cannot be read: its first line (is|has) "):
        rows(tmp_path / "x.csv", first + b"\nAnn,a.jpg\n")


def test_a_disk_that_fails_is_no_broken_row(tmp_path, monkeypatch):
    def iter_batches(table, *wanted):
        raise OSError(5, "Input/output error")

    pq.write_table(pa.table({"name": ["Ann"]}), tmp_path / "x.parquet")
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    with pytest.raises(NoSuchSource, match=r"x\.parquet cannot be read: Input/output error"):
        lists.check(str(tmp_path / "x.parquet"), "parquet", Columns())


# --- object stores ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=object_stores.KINDS)
def store(request):
    with object_stores.server(request.param) as address:
        yield request.param, address


@pytest.fixture
def bucket(store, monkeypatch) -> object_stores.Bucket:
    object_stores.point_to(monkeypatch, *store)
    return object_stores.make_bucket(*store)


def test_lists_are_read_where_they_are(bucket, tmp_path):
    pq.write_table(pa.table({"name": ["Zoë", "Ann"]}), tmp_path / "x.parquet")
    contents = {
        "people.csv": TEXTS["csv"].encode(),
        "people.list": gzip.compress(TEXTS["jsonl"].encode()),
        "people": (tmp_path / "x.parquet").read_bytes(),
    }
    for name, data in contents.items():
        bucket.put(name, data)
    places = {name: f"{bucket.uri}/{name}" for name in contents}
    formats = {name: lists.recognise_file(place) for name, place in places.items()}
    assert formats == {"people.csv": "csv", "people.list": "jsonl", "people": "parquet"}
    for name in ("people.csv", "people.list"):
        assert list(lists.read_rows(places[name], formats[name], Columns())) == PEOPLE
    assert list(lists.read_rows(places["people"], "parquet", Columns())) == [Row(1, "Zoë"), Row(2, "Ann")]


def test_a_list_that_is_not_in_the_store_is_told(bucket):
    for format in lists.FORMATS:
        with pytest.raises(NoSuchSource, match=f"^{bucket.uri}/missing cannot be read: there is no such object$"):
            lists.check(f"{bucket.uri}/missing", format, Columns())
