"""Looking for what names somebody, in everything a gallery may hold."""

import json
import urllib.parse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celebface.indexing import traces
from celebface.indexing.traces import Traces

HASH, OTHER = "0123456789abcdef", "fedcba9876543210" * 4
ANN = Traces(names=["Ann", "Élan 李"], uris=["/photos/a b/1.jpg", "https://example.org/a?x=1"], hashes=[HASH, OTHER])


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Ann", "(removed)"),
        ("ANN", "(removed)"),
        ("/people/ann/7.jpg", "/people/(removed)/7.jpg"),
        ("/lists/Ann.csv", "/lists/(removed)"),
        ("also given for Bo, Ann", "also given for Bo, (removed)"),
        ("also given for Ann", "also given for (removed)"),
        ("name:Ann", "name:(removed)"),
        ("e\u0301lan_李", "(removed)"),
        ("https://example.org/%C3%89lan+%E6%9D%8E.jpg", "https://example.org/(removed)"),
        ("the same photo as /photos/a b/1.jpg", "the same photo as (removed)"),
        ("nearly the same photo as /photos/a b/1.jpg (D 0.050)", "nearly the same photo as (removed) (D 0.050)"),
        ("https://example.org/a?x=1", "(removed)"),
        (f"face {HASH} of {OTHER}", "face (removed) of (removed)"),
    ],
)
def test_what_names_them_is_found_and_cut_out(text, left):
    assert ANN.in_text(text)
    assert ANN.without(text) == left
    assert not ANN.in_text(left)


@pytest.mark.parametrize(
    "text",
    ["", "Joanna", "Mary Ann", "/people/mary ann/1.jpg", "Ann Lee", "/photos/a b/1.jpg.txt", "/photos/a b/1", "annual",
     "https://example.org/a?x=12", HASH + "0", HASH[1:], "the same photo as /other/photos/a b/1.jpg"],
)  # fmt: skip
def test_what_only_looks_alike_is_not(text):
    assert not ANN.in_text(text)
    assert ANN.without(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("nearer to Ann (D 0.3) than to Joanna", "nearer to (removed) (D 0.3) than to Joanna"),
        ("Photo: mary ann/\u00c9LAN_李.", "Photo: mary (removed)/(removed)."),
        ("annual", "annual"),
        ("Joe\u0301", "Joe\u0301"),
    ],
)
def test_in_prose_names_are_found_wherever_their_words_are(text, left):
    assert ANN.without(text, prose=True) == left
    assert ANN.in_text(text, prose=True) == (text != left)
    assert Traces(hashes=[HASH]).without(text, prose=True) == text


# Names that hold what others lie between.
ODD = ["Conan O'Brien", "Sammy Davis, Jr.", "Prince (musician)", "AC/DC", "Simon & Garfunkel", "Who?"]


@pytest.mark.parametrize("name", ODD)
def test_names_that_hold_what_others_lie_between_are_found(name):
    sought = Traces(names=[name, "Ann"])
    left = {
        name: "(removed)",
        name.upper(): "(removed)",
        f"/photos/{name}/1.jpg": "/photos/(removed)/1.jpg",
        f"/photos/{name.replace(' ', '_')}.jpg": "/photos/(removed)",
        f"https://example.org/{urllib.parse.quote(name, safe='')}.jpg": "https://example.org/(removed)",
        f"https://example.org/{name.replace(' ', '%20')}?x=1": "https://example.org/(removed)?x=1",
        f"also given for {name}, {name}, Ann": "also given for (removed), (removed), (removed)",
    }
    for text, after in left.items():
        assert sought.in_text(text), text
        assert sought.without(text) == after
        assert not sought.in_text(after)
    assert sought.without(f"nearer to {name} than", prose=True) == "nearer to (removed) than"


@pytest.mark.parametrize(
    "text", ["Mary Conan O'Brien", "Conan O'Briens", "Prince (musicians)", "Prince", "Brien", "AC/DC live", "/ac/dcx"]
)
def test_they_are_not_found_within_longer_names(text):
    assert Traces(names=ODD).without(text) == text


def test_they_are_found_in_pages(tmp_path):
    (tmp_path / "audit.html").write_text(
        "<h2>Sin\u00e9ad O&#39;Connor</h2>\n<p>Simon &amp; Garfunkel</p>\n<p>O&#39;Neill"
    )
    sought = Traces(names=["Sin\u00e9ad O'Connor", "Simon & Garfunkel"])
    assert traces.scan(str(tmp_path), sought).found == (traces.Trace("audit.html", "text", 2),)


def test_bytes_are_searched_at_any_place_and_over_the_ends_of_pieces(monkeypatch):
    monkeypatch.setattr(traces, "_CHUNK", 64)
    for at in (0, 1, 2, 3, 50, 61, 63, 64, 127, 500):
        data = b"\xff" * at + HASH.encode() + b"\xff" * 40
        assert ANN.in_bytes(data) == 1, at
    assert ANN.in_bytes(b"\xff" * 300 + HASH.encode()[:-1]) == 0
    assert ANN.in_bytes(b"") == ANN.in_bytes(HASH.encode()[:3]) == Traces().in_bytes(HASH.encode()) == 0
    assert ANN.in_bytes("Élan 李".encode() * 2) == 2


def test_all_kinds_of_files_are_looked_through_decoded(tmp_path):
    table = pa.table(
        {
            "name": ["Bo", "Ann", "Ann", None],
            "aliases": [["x"], [], ["Ann", "y"], None],
            "picture": [b"\xff\xd8", b"\xff\xd8 by " + HASH.encode(), None, b""],
            "digest": pa.array([bytes.fromhex(HASH), b"", None, b"\0" * 8]),
            "number": [1, 2, 3, 4],
            "evidence": [[{"of": "Bo", "by": "Ann"}], [], None, []],
            "group": pa.array(["Bo", "Ann", "Ann", "Bo"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "table.parquet", compression="zstd")
    (tmp_path / "run.json").write_text(json.dumps({"people": {"Ann": 3}, "places": ["/lists/Ann.csv", "\u00c9lan 李"]}))
    (tmp_path / "vectors.npy").write_bytes(b"\x93\xff" + OTHER.encode() + b"\xff")
    (tmp_path / "page.svg").write_text("<svg>\n<text>Ann</text></svg>")
    (tmp_path / f"{HASH}.bin").write_bytes(b"\xff")
    (tmp_path / "clean.json").write_text('{"Bo": "Joanna"}')
    scanned = traces.scan(str(tmp_path), ANN, {"manifest.json": b'["Ann"]'})
    assert sorted((trace.file, trace.place, trace.count) for trace in scanned.found) == [
        ("(removed)", "name", 1),
        ("manifest.json", "text", 1),
        ("page.svg", "text", 1),
        ("run.json", "text", 3),
        ("table.parquet", "aliases", 1),
        ("table.parquet", "digest", 1),
        ("table.parquet", "evidence", 1),
        ("table.parquet", "group", 1),
        ("table.parquet", "name", 1),
        ("table.parquet", "picture", 1),
        ("vectors.npy", "bytes", 1),
    ]
    assert scanned.files == 7


def test_a_clean_folder_is_clean(tmp_path):
    (tmp_path / "a.json").write_text('{"Bo": ["x", 1, null]}')
    assert traces.scan(str(tmp_path), ANN) == traces.Scanned(1, 2, 0, ())


def test_json_is_scrubbed_at_any_depth():
    body = {"Ann": [{"place": "/lists/Ann.csv", "rate": 1.5}, "Ann", None], "bo": True}
    assert traces.scrub(body, ANN) == (
        {"Ann": [{"place": "/lists/(removed)", "rate": 1.5}, "(removed)", None], "bo": True},
        2,
    )
