"""The look-alike report's folder: what of a job's tables is in it, that names in it do nothing, what it may replace."""

import hashlib
import json
import pathlib
import re
import shutil

import albums
import fakes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from albums import Seen

from celebface.pipelines import album, album_data, album_report, cli, match_results, pages
from celebface.pipelines.reasons import in_words
from celebface.pipelines.text import escaped

PEOPLE = ["ann", "bob", "cleo", "dan", "eve", "fay"]
FAR = [("bob", 1.0), ("cleo", 1.1), ("dan", 1.2), ("eve", 1.3)]
SEEN = [
    Seen("/album/b.jpg", [("ann", 0.5), *FAR], (10, 20, 30, 40)),
    Seen("/album/b.jpg", [("bob", 0.95), ("ann", 1.5)], (50, 60, 70, 80)),
    Seen("/album/a.jpg", [("ann", 0.2), *FAR]),
]


def data(report: pathlib.Path, name: str) -> object:
    """What a data file hands over."""
    text = (report / "data" / f"{name}.js").read_text(encoding="ascii")
    called, _, rest = text.partition(",")
    assert called == f'celebface("{name}"' and rest.endswith(");\n")
    return json.loads(rest[:-3])


def picture_name(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()[:16]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> pathlib.Path:
    return albums.write_gallery(tmp_path_factory.mktemp("gallery") / "v1", PEOPLE)


@pytest.fixture
def results(gallery, tmp_path) -> pathlib.Path:
    left_out = [("/album/c.jpg", "no_face", ""), ("/album/d.txt", "not_an_image", "it begins with 'hello'")]
    return albums.write_results(tmp_path / "matches", SEEN, gallery, left_out=left_out)


def report_of(results: pathlib.Path) -> pathlib.Path:
    assert cli.main(["report", str(results)]) == 0
    return results / "report"


# --- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3])
def test_faces_are_in_the_order_of_their_photos(gallery, tmp_path, shards):
    found = album.read_album(str(albums.write_results(tmp_path / "m", SEEN, gallery, shards=shards)))
    assert found.photos.to_pylist() == ["/album/a.jpg", "/album/b.jpg"]
    assert found.photo.tolist() == [0, 1, 1]
    assert found.boxes.tolist() == [[100, 50, 180, 150], [10, 20, 30, 40], [50, 60, 70, 80]]
    assert found.first.tolist() == [0, 5, 10, 12]
    assert found.names == ["ann", "bob", "cleo", "dan", "eve"]  # by faces, then by name
    assert found.person_ids == [fakes.person(name).identity_id for name in found.names]
    assert found.frequency.tolist() == [2, 1, 0, 0, 0]
    assert [found.names[person] for person in found.person[found.nearest]] == ["ann", "ann", "bob"]
    assert found.distance[found.nearest] == pytest.approx([0.2, 0.5, 0.95])
    assert [album.VERDICTS[code] for code in found.verdict[found.nearest]] == ["match", "match", "lookalike"]
    assert [found.gallery_uris[int(row)].as_py() for row in found.gallery_face[10:]] == [
        "/stars/bob.jpg", "/stars/ann.jpg"
    ]  # fmt: skip


def test_two_people_of_one_name_are_two(gallery, tmp_path):
    results = albums.write_results(tmp_path / "m", SEEN, gallery)
    (shard,) = results.glob("matches-*")
    table = pq.read_table(shard)
    names = pa.array(["ann" if name == "bob" else name for name in table["identity"].to_pylist()])
    pq.write_table(table.set_column(table.schema.get_field_index("identity"), "identity", names), shard)
    found = album.read_album(str(results))
    assert found.names[:2] == ["ann", "ann"] and found.frequency.tolist()[:2] == [2, 1]


def test_the_example_of_a_person_is_the_face_nearest_to_any(gallery, tmp_path):
    found = album.read_album(str(albums.write_results(tmp_path / "m", SEEN, gallery)))
    near = found.examples()
    assert [found.gallery_uris[int(face)].as_py() if face >= 0 else None for face in near] == [
        "/stars/ann.jpg", "/stars/bob.jpg", None, None, None
    ]  # fmt: skip


def test_what_was_left_out_is_counted_by_reason_with_examples(gallery, tmp_path):
    many = [(f"/album/{number}.png", "no_face", "") for number in range(9)]
    results = albums.write_results(tmp_path / "m", SEEN, gallery, left_out=[*many, ("/x", "empty", "0 bytes")])
    no_face, empty = album.read_left_out(str(results))
    assert (no_face.reason, no_face.count, len(no_face.examples)) == ("no_face", 9, 6)
    assert (empty.status, empty.reason, empty.count, empty.examples) == ("rejected", "empty", 1, (("/x", "0 bytes"),))


def test_histogram_ends_with_the_farthest():
    assert album.histogram(np.array([0.01, 0.049, 0.051, 0.21], np.float32)) == [2, 1, 0, 0, 1]
    assert album.histogram(np.zeros(0, np.float32)) == []


@pytest.mark.parametrize(
    ("uris", "folder"),
    [
        ([], ""),
        (["/a/b/c.jpg"], "/a/b/"),
        (["/a/b1.jpg", "/a/b2.jpg"], "/a/"),
        (["/a/b.jpg", "s3://x/y.jpg"], ""),
        (["https://a.test/1.jpg", "https://b.test/1.jpg"], "https://"),
    ],
)
def test_the_folder_that_photos_share(uris, folder):
    assert album.shared_folder(pa.array(uris, pa.string())) == folder


def test_values_of_a_column_are_sorted_and_found_again():
    values, places = album.distinct(pa.chunked_array([["b", "a"], ["c", "b"]]))
    assert values.to_pylist() == ["a", "b", "c"] and places.tolist() == [1, 0, 2, 1]


def test_unknown_reasons_keep_their_names():
    assert in_words("no_face") == "no face found"
    assert in_words("rate_limited") == "rate limited"


# --- the folder -------------------------------------------------------------------------------------------------------


def test_data_hold_what_the_tables_do(results):
    report = report_of(results)
    assert data(report, "people-0") == {
        "names": ["ann", "bob", "cleo", "dan", "eve"],
        "ids": [fakes.person(name).identity_id for name in PEOPLE[:5]],
        "faces": [2, 1, 0, 0, 0],
        "pictures": [*(picture_name(albums.portrait(name)) for name in ("ann", "bob")), "", "", ""],
    }
    assert data(report, "paths-0") == ["a.jpg", "b.jpg"]
    assert data(report, "faces-0") == {
        "photo": [0, 1, 1],
        "person": [0, 0, 1],
        "distance": [200_000, 500_000, 950_000],
        "similarity": [999, 999, 933],
        "verdict": "mml",
    }
    photos = data(report, "photos-0")
    assert photos["sizes"] == [640, 480, 640, 480]
    assert photos["boxes"] == [100, 50, 180, 150, 10, 20, 30, 40, 50, 60, 70, 80]
    assert photos["ranks"] == [5, 5, 2]
    rows = np.array(photos["rows"]).reshape(-1, 5)
    assert rows[10, :2].tolist() == [1, 950_000]
    assert photos["celebrities"]["places"][rows[10, 4]] == "/stars/bob.jpg"
    assert photos["celebrities"]["pictures"][rows[10, 4]] == picture_name(albums.portrait("bob"))


def test_the_album_is_summed_up(results):
    told = data(report_of(results), "album")
    assert {name: told[name] for name in ("photos", "photosDone", "photosShown", "faces", "lookedLike")} == {
        "photos": 4, "photosDone": 2, "photosShown": 2, "faces": 3, "lookedLike": 2
    }  # fmt: skip
    assert told["verdicts"] == [2, 0, 1]
    assert told["histogram"]["counts"] == [0] * 4 + [1] + [0] * 5 + [1] + [0] * 8 + [1]
    assert (told["folder"], told["tau"], told["notes"]) == ("/album/", 0.9, [])
    assert told["rate"].startswith("False match rate 1 % (measured, 95 %: 0.5 to 2 %)")
    (bad, without) = sorted(told["leftOut"], key=lambda kind: kind["reason"] == "no_face")
    assert bad["words"] == "not an image" and bad["examples"] == [
        {"path": "d.txt", "detail": "it begins with 'hello'", "picture": ""}
    ]
    (example,) = without["examples"]
    assert example["path"] == "c.jpg"
    assert (results / "report" / "img" / example["picture"][:2] / f"{example['picture']}.jpg").exists()


def test_a_threshold_given_by_hand_has_no_rate(gallery, tmp_path):
    told = data(report_of(albums.write_results(tmp_path / "m", SEEN, gallery, point=None)), "album")
    assert told["rate"].startswith("The threshold was given by hand")


def test_pictures_are_named_by_their_contents_and_there_once(results):
    report = report_of(results)
    pictures = sorted((report / "img").rglob("*.jpg"))
    assert [(path.stem, path.parent.name) for path in pictures] == sorted(
        (picture_name(path.read_bytes()), path.stem[:2]) for path in pictures
    )
    photos = data(report, "photos-0")
    named = {*photos["thumbnails"], *photos["crops"], *photos["celebrities"]["pictures"]}
    example = {each["picture"] for kind in data(report, "album")["leftOut"] for each in kind["examples"]} - {""}
    assert {path.stem for path in pictures} == named | example
    crops = {albums.jpeg(10_001), albums.jpeg(10_002), albums.jpeg(10_101)}
    assert {picture_name(crop) for crop in crops} == set(photos["crops"])


def test_copies_of_a_photo_share_its_pictures(gallery, tmp_path):
    results = albums.write_results(tmp_path / "m", SEEN[2:], gallery)
    for name in ("matches", "photos", "faces"):
        (shard,) = results.glob(f"{name}-*")
        table = pq.read_table(shard)
        again = table.set_column(0, "photo_uri", pa.array(["/album/copy.jpg"] * len(table)))
        pq.write_table(pa.concat_tables([table, again]), shard)
    photos = data(report_of(results), "photos-0")
    assert photos["crops"] == [picture_name(albums.jpeg(10_001))] * 2
    assert len(set(photos["thumbnails"])) == 1


def test_long_and_short_files_are_cut_where_the_page_looks(gallery, tmp_path, monkeypatch):
    monkeypatch.setattr(album_data, "_LONG", 2)
    monkeypatch.setattr(album_data, "_SHORT", 1)
    report = report_of(albums.write_results(tmp_path / "m", SEEN, gallery))
    assert data(report, "album")["files"] == {"people": 3, "paths": 1, "faces": 2, "photosEach": 1}
    assert [data(report, f"faces-{part}")["photo"] for part in range(2)] == [[0, 1], [1]]
    assert [data(report, f"photos-{part}")["ranks"] for part in range(2)] == [[5], [5, 2]]


def test_without_pictures_it_says_so(gallery, tmp_path, capsys):
    report = report_of(albums.write_results(tmp_path / "m", SEEN, gallery, pictures=False))
    (note,) = data(report, "album")["notes"]
    assert "--no_crops" in note and note in capsys.readouterr().out.replace("\n", " ")
    photos = data(report, "photos-0")
    assert photos["crops"] == ["", "", ""] and photos["thumbnails"] == ["", ""]
    assert all(photos["celebrities"]["pictures"])


def test_results_of_an_older_version_have_no_tables_of_pictures(gallery, tmp_path):
    results = albums.write_results(tmp_path / "m", SEEN, gallery)
    for path in [*results.glob("photos-*"), *results.glob("faces-*")]:
        path.unlink()
    report = report_of(results)
    assert data(report, "photos-0")["sizes"] == [0, 0, 0, 0]
    assert len(data(report, "album")["notes"]) == 1


@pytest.mark.parametrize("kind", ["gone", "damaged", "without a face"])
def test_a_gallery_that_cannot_be_read_is_told(tmp_path, kind):
    place = albums.write_gallery(tmp_path / "gallery", PEOPLE[:-2] if kind == "without a face" else PEOPLE)
    (shard,) = place.iterdir()
    if kind == "gone":
        shard.unlink()
    elif kind == "damaged":
        shard.write_bytes(b"PAR1 no table")
    report = report_of(albums.write_results(tmp_path / "m", SEEN, place))
    (note,) = data(report, "album")["notes"]
    pictures = data(report, "photos-0")["celebrities"]["pictures"]
    assert "Celebrities are shown without their pictures" in note
    assert pictures.count("") == (1 if kind == "without a face" else 5)


def test_photos_without_any_face(gallery, tmp_path):
    report = report_of(albums.write_results(tmp_path / "m", [], gallery, left_out=[("/a.jpg", "no_face", "")]))
    told = data(report, "album")
    assert (told["photos"], told["faces"], told["histogram"]["counts"]) == (1, 0, [])
    assert told["files"] == {"people": 0, "paths": 0, "faces": 0, "photosEach": 100}


def test_the_same_results_make_the_same_report(results, tmp_path):
    def contents(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert cli.main(["report", str(results), f"--output={tmp_path / 'other'}"]) == 0
    assert contents(tmp_path / "other") == contents(report_of(results))


# --- names that would act ---------------------------------------------------------------------------------------------

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- <script>",
    "]]>",
    "a\u2028b\u2029c",
    "\"'`${alert(1)}\\",
    "\\u003cscript\\u003e",
    "javascript:alert(1)",
    "__proto__",
    "\x1b[31mred\x07",
    "\u202egpj.exe",
    "line\nbreak\r\ttab",
    "=HYPERLINK(1)",
    "&lt;b&gt; &amp;",
    "%3Cscript%3E#photo=x&face=1",
    "😀 \u00e9 \u0301",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_data_file_holds_any_text_and_nothing_of_it_acts(text):
    script = album_data.as_script("name", {"text": [text]}).decode("ascii")
    assert not re.search(r"[<>&\x00-\x09\x0b-\x1f]", script) and script.count("\n") == 1
    assert json.loads(script.removeprefix('celebface("name",').removesuffix(");\n")) == {"text": [text]}


def test_names_and_paths_are_shown_without_what_steers(tmp_path):
    gallery = albums.write_gallery(tmp_path / "v1", HOSTILE)
    seen = [Seen(f"/album/{name}.jpg", [(name, 0.5)]) for name in HOSTILE]
    results = albums.write_results(tmp_path / "m", seen, gallery, left_out=[("/album/\x1b.jpg", "empty", "\x07")])
    report = report_of(results)
    shown = data(report, "people-0")["names"]
    assert len(shown) == len(HOSTILE) and "</script><script>alert(1)</script>" in shown
    assert "a\\u2028b\\u2029c" in shown and "\\x1b[31mred\\x07" in shown and "\\u202egpj.exe" in shown
    assert sorted(data(report, "paths-0")) == sorted(f"{escaped(name)}.jpg" for name in HOSTILE)
    (kind,) = data(report, "album")["leftOut"]
    assert kind["examples"] == [{"path": "\\x1b.jpg", "detail": "\\x07", "picture": ""}]
    for path in (report / "data").iterdir():
        assert not re.search(rb"[<>&]", path.read_bytes()), path
    assert (report / "index.html").read_text() == album_report.make_page()  # nothing of it is in the page


def test_the_page_may_run_and_load_only_its_own():
    page = album_report.make_page()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    (style,), (script,) = (re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page, re.DOTALL) for tag in ("style", "script"))
    assert policy == (
        f"default-src 'none'; img-src 'self'; style-src '{pages.digest(style)}'; "
        f"script-src '{pages.digest(script)}' 'strict-dynamic'; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r'\son\w+="|\sstyle="|https?://(?!www\.w3\.org/2000/svg)', page)
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc"):
        assert way not in script


# --- the command ------------------------------------------------------------------------------------------------------


def test_it_tells_where_to_look(results, capsys):
    report = report_of(results)
    assert f"report of 3 faces on 2 photos: open {report / 'index.html'}" in capsys.readouterr().out


def test_a_report_replaces_a_report_and_nothing_else(results, tmp_path, capsys):
    report = report_of(results)
    (report / "img" / "old.jpg").write_bytes(b"old")
    assert report_of(results) == report and not (report / "img" / "old.jpg").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("precious")
    assert cli.main(["report", str(results), f"--output={mine}"]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert (mine / "index.html").read_text() == "precious"


def test_half_a_report_has_no_page_and_is_made_anew(results, monkeypatch):
    report = report_of(results)
    with monkeypatch.context() as patched:
        patched.setattr(album_report, "summarise", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            album_report.make(str(results), str(report))
    assert not (report / "index.html").exists()
    assert (report_of(results) / "index.html").exists()


def broken(results: pathlib.Path, how: str) -> None:
    run = json.loads((results / "run.json").read_text())
    (shard,) = results.glob("matches-*")
    if how == "no run.json":
        (results / "run.json").unlink()
    elif how == "no json":
        (results / "run.json").write_text("{")
    elif how == "a list":
        (results / "run.json").write_text("[]")
    elif how == "of a build":
        (results / "run.json").write_text(json.dumps({**run, "config": {"name": "x"}}))
    elif how == "ledger alone":
        shard.unlink()
    elif how == "damaged":
        shard.write_bytes(b"PAR1 no table")


@pytest.mark.parametrize("how", ["no run.json", "no json", "a list", "of a build", "ledger alone", "damaged"])
def test_what_holds_no_matches_is_wrong_usage(results, capsys, how):
    broken(results, how)
    assert cli.main(["report", str(results)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(results) in error
    assert not (results / "report" / "index.html").exists()


def test_a_report_is_no_results_folder_of_its_own(results, tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "nowhere")]) == 2
    assert cli.main(["report", str(results), "--output=hdfs://x/y"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_a_report_that_failed_does_not_stand_in_the_way_of_the_next_match(results):
    broken(results, "damaged")
    with pytest.raises(album_report.NoReport, match="no report can be made of"):
        album_report.make(str(results), str(results / "report"))
    assert match_results.foreign_file(str(results)) is None
    (results / "report").mkdir(exist_ok=True)
    assert match_results.foreign_file(str(results)) is None  # killed before it wrote its mark
    (results / "report" / "mine.txt").write_text("precious")
    assert match_results.foreign_file(str(results)) == "report"


def test_a_report_does_not_delete_what_it_is_made_of(results, tmp_path, capsys):
    report = report_of(results)
    inside = report / "matches"
    shutil.copytree(results, inside, ignore=shutil.ignore_patterns("report"))
    for output in (report, inside):
        assert cli.main(["report", str(inside), f"--output={output}"]) == 2
        assert "holds the results" in capsys.readouterr().err
    assert sorted(path.name for path in inside.glob("matches-*"))


@pytest.mark.parametrize("where", ["results", "output"])
def test_a_file_is_no_folder(results, tmp_path, capsys, where):
    (tmp_path / "photo.jpg").write_bytes(b"")
    argv = [str(tmp_path / "photo.jpg")] if where == "results" else [str(results), f"--output={tmp_path / 'photo.jpg'}"]
    assert cli.main(["report", *argv]) == 2
    assert capsys.readouterr().err.count("\n") == 1
