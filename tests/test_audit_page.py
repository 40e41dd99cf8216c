"""audit.html: what it shows, in what order, how much of it, and that nothing in it can act."""

import base64
import hashlib
import pathlib
import re

import fakes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from elements import Elements

from celebface.indexing import schemas
from celebface.pipelines import audit_page

SIZE = 8
ROWS = schemas.faces_schema(SIZE)


def write(folder: pathlib.Path, table: str, rows: list[dict], schema: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{table}-00000-of-00001.parquet")


def face(face_id: str, person: str, shows: int = 0, crop: bytes = b"") -> dict:
    vector = np.eye(SIZE, dtype=np.float32)[shows]
    (row,) = fakes.photo_outcome(f"/{face_id}", person, vectors=vector[None], crop=crop or face_id.encode()).rows
    return {**row, "face_id": face_id}


def finding(face_id: str, person: str, **fields: object) -> dict:
    return {
        "face_id": face_id,
        "identity": person,
        "identity_id": fakes.person(person).identity_id,
        "uri": f"/{face_id}.jpg",
        "finding": "wrong_person",
        "action": "reported",
        "own_distance": 1.5,
        "support": 4,
        "near_distance": 0.25,
        "other": "bob",
        "other_id": fakes.person("bob").identity_id,
        "faces_in_image": 1,
        "detail": "",
        **fields,
    }


def page(folder: pathlib.Path, findings: list[dict], faces: list[dict] = [], kept_out: list[dict] = []) -> str:  # noqa: B006
    write(folder, "audit", findings, schemas.AUDIT)
    write(folder, "faces", faces, ROWS)
    write(folder, "quarantined", kept_out, ROWS)
    audit_page.write_page(str(folder))
    return (folder / "audit.html").read_text(encoding="utf-8")


def data(crop: str) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(crop.encode()).decode()}"


def test_a_face_stands_beside_its_person_and_the_one_it_is_like(tmp_path):
    faces = [*(face(f"a{n}", "ann") for n in range(3)), *(face(f"b{n}", "bob", 1) for n in range(3))]
    shown = page(tmp_path, [finding("x", "ann", action="quarantined")], faces, [face("x", "ann", 1)])
    assert [image["src"] for image in Elements(shown).all("img")] == [
        data(crop) for crop in ("x", "a0", "a1", "b0", "b1")
    ]
    words = " ".join("".join(Elements(shown).words).split())
    assert (
        "Said to be ann D 1.50 to the others, of which 4 agree Most like, of all others bob D 0.25 quarantined /x.jpg"
        in words
    )
    assert "1 under the wrong name" in words


def test_faces_in_doubt_are_no_examples(tmp_path):
    faces = [face("a0", "ann", 2), face("a1", "ann"), face("x", "ann", 1)]
    shown = page(tmp_path, [finding("x", "ann"), finding("a0", "ann", finding="outlier")], faces)
    first = Elements(shown).all("img")[:2]
    assert [image["src"] for image in first] == [data("x"), data("a1")]


def test_the_most_typical_faces_are_shown(tmp_path):
    faces = [face("a0", "ann", 3), *(face(f"a{n}", "ann") for n in (1, 2, 3))]
    shown = page(tmp_path, [finding("x", "ann")], [*faces, face("x", "ann", 1)])
    assert [image["src"] for image in Elements(shown).all("img")] == [data("x"), data("a1"), data("a2")]


def test_findings_come_in_groups_the_worst_first(tmp_path):
    findings = [
        finding("o1", "ann", finding="outlier", own_distance=1.5),
        finding("o2", "ann", finding="outlier", own_distance=1.9),
        finding("w1", "ann", near_distance=0.5),
        finding("w2", "ann", near_distance=0.2),
        finding("", "ann", finding="close_pair", uri="", own_distance=None, faces_in_image=None),
        finding("d1", "ann", finding="doubtful", support=0, near_distance=None, other="", other_id=""),
        finding("t1", "ann", finding="two_names", own_distance=None, support=1),
    ]
    shown = page(tmp_path, findings)
    assert [each["id"] for each in Elements(shown).all("section")] == [
        "wrong_person", "two_names", "doubtful", "outlier", "close_pair"
    ]  # fmt: skip
    assert re.findall(r"<code>/(\w+).jpg</code>", shown) == ["w2", "w1", "t1", "d1", "o2", "o1"]
    assert "there is no other photo" in shown and "they disagree" in shown


def test_a_long_list_is_cut_and_says_so(tmp_path):
    shown = page(tmp_path, [finding(f"x{number}", "ann") for number in range(audit_page._SHOWN + 7)])
    assert len(Elements(shown).all("article")) == audit_page._SHOWN
    assert "7 more are in <code>audit-*.parquet</code>" in shown
    assert f"{audit_page._SHOWN + 7} under the wrong name" in shown


def test_several_faces_on_the_photo_are_told(tmp_path):
    assert "3 faces on the photo" in page(tmp_path, [finding("x", "ann", faces_in_image=3)])


def test_nothing_found(tmp_path):
    shown = page(tmp_path, [], [face("a0", "ann")])
    assert "Nothing was found." in shown and "<img" not in shown and "<section" not in shown


EVIL = "<script>alert(1)</script>\"'&\x1b[31m\u202e"


def test_names_and_places_are_shown_and_do_nothing(tmp_path):
    row = finding("x", EVIL, other=EVIL, uri=f"https://example.org/{EVIL}")
    shown = page(tmp_path, [row], [face("x", EVIL), face("a1", EVIL), face("b1", "bob")])
    elements = Elements(shown)
    assert not elements.all("script")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", shown)
    assert "<script>alert(1)</script>\"'&\\x1b[31m\\u202e" in "".join(elements.words)
    for tag, attributes in elements.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag


@pytest.mark.parametrize("uri", ["javascript:alert(1)", "data:text/html,x", "/a/b.jpg", "gs://bucket/a.jpg"])
def test_only_what_is_on_the_web_is_a_link(tmp_path, uri):
    shown = page(tmp_path, [finding("x", "ann", uri=uri)])
    assert [each["href"] for each in Elements(shown).all("a")] == ["#wrong_person"]
    assert uri in shown


def test_a_photo_from_the_web_is_a_link_that_tells_nothing(tmp_path):
    shown = page(tmp_path, [finding("x", "ann", uri="https://example.org/a.jpg?b=1&c=2")])
    (link,) = (each for each in Elements(shown).all("a") if not each["href"].startswith("#"))
    assert link == {"href": "https://example.org/a.jpg?b=1&c=2", "rel": "noreferrer"}


def test_the_page_may_load_nothing_and_its_style_is_allowed(tmp_path):
    shown = page(tmp_path, [finding("x", "ann")], [face("x", "ann")])
    (policy,) = (meta["content"] for meta in Elements(shown).all("meta") if "http-equiv" in meta)
    style = re.search(r"<style>(.*?)</style>", shown, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert {image["src"].partition(",")[0] for image in Elements(shown).all("img")} == {"data:image/jpeg;base64"}


def test_the_same_tables_make_the_same_page(tmp_path):
    faces = [face(f"a{n}", "ann", n % 2) for n in range(6)]
    first = page(tmp_path, [finding("a1", "ann")], faces)
    assert audit_page.make_page(str(tmp_path)) == first
