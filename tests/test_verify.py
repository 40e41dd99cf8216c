"""celebface verify, whole, with the real models: two photos, the door, and what a script reads of the exit status."""

import functools
import io
import json
import math
import pathlib
import shutil
import subprocess
import sys

import images
import numpy as np
import object_stores
import pytest
import web_site
from PIL import Image

from celebface.models.faces import ReaderConfig
from celebface.pipelines import arguments, cli, comparison, labelled_pairs, verify
from celebface.pipelines.embedder import EVERY_FACE, load_embedder
from celebface.transforms.encoders import load_card


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """The command starts as often as it is called; the networks are loaded for the first time only."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(verify, "load_embedder", functools.cache(load_embedder))
        patched.setattr(verify, "load_card", functools.cache(load_card))
        yield


@pytest.fixture(scope="module")
def mindy(probes) -> list[str]:
    return sorted(map(str, probes.glob("mindy_kaling/*.jpg")))


@pytest.fixture(scope="module")
def elton(probes) -> list[str]:
    return sorted(map(str, probes.glob("elton_john/*.jpg")))


@pytest.fixture(scope="module")
def people(sample, tmp_path_factory) -> pathlib.Path:
    """A folder of the sample's people, one photo each, as a door has it."""
    folder = tmp_path_factory.mktemp("door") / "people"
    folder.mkdir()
    for person in sorted(sample.iterdir()):
        shutil.copy(sorted(person.glob("*.jpg"))[2], folder / f"{person.name}.jpg")
    return folder


@pytest.fixture
def grey(tmp_path) -> str:
    """A photo without a face."""
    (tmp_path / "grey.png").write_bytes(images.encoded(images.plain(200, 200), "PNG"))
    return str(tmp_path / "grey.png")


def call(*arguments: object) -> int:
    return cli.main(["verify", *map(str, arguments)])


def asked(capsys, *arguments: object) -> tuple[int, dict]:
    """The exit code and the JSON object."""
    code = call(*arguments, "--json")
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    return code, json.loads(captured.out)


# --- two photos -------------------------------------------------------------------------------------------------------


def test_one_person_is_exit_0_and_two_are_exit_1(mindy, elton, capsys):
    assert call(mindy[0], mindy[1]) == 0
    same = capsys.readouterr()
    assert same.out.startswith("the same person: D ") and "is within tau 1.22" in same.out
    assert call(mindy[0], elton[0]) == 1
    different = capsys.readouterr()
    assert different.out.startswith("different people: D ") and "is beyond tau 1.22" in different.out
    for captured in (same, different):
        assert "in one comparison (interpolated; LFW View 2" in captured.out.splitlines()[1]
        assert captured.err == ""


def test_json_tells_everything(mindy, encoder, capsys):
    code, found = asked(capsys, mindy[0], mindy[1])
    assert code == 0
    assert sorted(found) == [
        "distance", "encoder_id", "false_match_interval", "false_match_rate", "method", "photos", "precision", "same",
        "similarity", "stated", "tau",
    ]  # fmt: skip
    assert (found["same"], found["tau"], found["method"]) == (True, 1.22, "interpolated")
    assert found["similarity"] == pytest.approx(100 / (1 + math.exp(10.87 * (found["distance"] - 1.193))))
    assert found["encoder_id"] == load_card(encoder).encoder_id
    assert found["precision"] == arguments.precision("auto")
    for photo, place in zip(found["photos"], mindy, strict=False):
        assert sorted(photo) == ["box", "confidence", "faces_found", "height", "photo", "width"]
        x0, y0, x1, y1 = photo["box"]
        assert 0 <= x0 < x1 <= photo["width"] and 0 <= y0 < y1 <= photo["height"]
        assert photo["photo"] == place and photo["faces_found"] >= 1


def test_tau_or_the_rate_decides(mindy, elton, capsys):
    distance = asked(capsys, mindy[0], mindy[1])[1]["distance"]
    assert asked(capsys, mindy[0], mindy[1], f"--tau={distance + 1e-4}")[0] == 0
    assert asked(capsys, mindy[0], mindy[1], f"--tau={distance - 1e-4}")[0] == 1
    assert asked(capsys, mindy[0], elton[0], "--tau=4")[0] == 0
    code, found = asked(capsys, mindy[0], mindy[1], "--far=0.001")
    assert (found["tau"], found["false_match_rate"], found["method"]) == (1.02, 0.001, "measured")
    assert code == (0 if distance <= 1.02 else 1)


def test_the_same_photo_twice(mindy, capsys):
    code, found = asked(capsys, mindy[0], mindy[0])
    assert (code, found["distance"]) == (0, 0.0)


@pytest.mark.parametrize("order", [1, -1], ids=["second", "first"])
def test_a_photo_without_a_face_is_one_line_and_exit_2(mindy, grey, order, capsys):
    assert call(*[mindy[0], grey][::order]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"celebface verify: {grey}: the detector found no face\n"


def test_what_is_no_photo_is_one_line_and_exit_2(mindy, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    assert call(mindy[0], tmp_path / "bad.jpg", "--json") == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and "bad.jpg" in captured.err


def test_of_several_faces_the_main_one_counts_and_that_is_said(mindy, elton, tmp_path, capsys):
    """Mindy Kaling, large and in the middle, with somebody small beside her."""
    page = images.plain(1100, 600)
    page.paste(Image.open(mindy[0]).convert("RGB").resize((500, 500)), (300, 50))
    page.paste(Image.open(elton[1]).convert("RGB").resize((300, 300)), (800, 300))
    both = tmp_path / "both.png"
    page.save(both)
    assert call(both, mindy[1]) == 0
    assert f"{both} shows 2 faces; the largest, most central one counts" in capsys.readouterr().out.splitlines()
    code, found = asked(capsys, both, elton[0])
    assert code == 1
    assert found["photos"][0]["faces_found"] == 2 and found["photos"][0]["box"][0] > 300


def test_labelled_pairs_of_ones_own_give_the_rates(mindy, elton, encoder, tmp_path, capsys):
    from celebface.indexing import calibrate

    known = load_card(encoder).encoder_id
    measured = calibrate.of_pairs(np.linspace(0.1, 0.6, 500), np.linspace(0.4, 2.4, 1000), known, None)
    (tmp_path / "calibration.json").write_bytes(measured.to_json())
    code, found = asked(capsys, mindy[0], elton[0], f"--calibration={tmp_path / 'calibration.json'}")
    assert code == 1
    assert (found["tau"], found["false_match_rate"], found["method"]) == (pytest.approx(0.418018), 0.01, "measured")
    assert found["false_match_interval"][0] < 0.01 < found["false_match_interval"][1]
    assert found["similarity"] == pytest.approx(measured.curve.percent(found["distance"]))
    gallery = measured.to_json().replace(b'"one comparison"', b'"a stranger against the whole gallery"')
    (tmp_path / "gallery.json").write_bytes(gallery)
    assert call(mindy[0], elton[0], f"--calibration={tmp_path / 'gallery.json'}") == 2
    assert "the calibration is a gallery's" in capsys.readouterr().err


def test_a_picture_of_the_pair(mindy, tmp_path):
    assert call(mindy[0], mindy[1], f"--save={tmp_path / 'pair.png'}") == 0
    with Image.open(tmp_path / "pair.png") as picture:
        assert (picture.format, picture.width) == ("PNG", 1020)


def test_hostile_file_names_neither_steer_the_terminal_nor_break_the_picture(mindy, tmp_path, capsys):
    hostile = tmp_path / "\x1b[31m$\\frac{1}{0}$<script>\nx.jpg"
    shutil.copy(mindy[0], hostile)
    assert call(hostile, mindy[1], f"--save={tmp_path / 'pair.png'}") == 0
    assert call(hostile, tmp_path / "\x1b[2Jnowhere.jpg") == 2
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err and captured.err.count("\n") == 1
    assert asked(capsys, hostile, mindy[1])[1]["photos"][0]["photo"] == str(hostile)


def test_photos_from_the_web_and_what_a_site_forbids(mindy, elton, capsys):
    data = pathlib.Path(mindy[1]).read_bytes()
    pages = {
        ("a.test", "/ann.jpg"): web_site.photo(data),
        ("a.test", "/private/ann.jpg"): web_site.photo(data),
        ("a.test", "/robots.txt"): web_site.robots_txt("User-agent: *\nDisallow: /private/"),
    }
    with web_site.WebSite(pages) as site:
        (host, address), *_ = [pair for pair in site.addresses if pair[0] == "a.test"]
        flags = ["--contact=me@example.org", "--allow_private_hosts", f"--resolve={host}:{address}"]
        url = site.url("a.test", "/ann.jpg").replace("http://", "HTTP://user:secret@")
        code, found = asked(capsys, mindy[0], url, *flags)
        assert code == 0 and "secret" not in json.dumps(found)
        assert call(mindy[0], site.url("a.test", "/private/ann.jpg"), *flags) == 2
        assert "robots.txt does not allow it" in capsys.readouterr().err
        assert site.paths("a.test").count("/private/ann.jpg") == 0


# --- what a script reads ----------------------------------------------------------------------------------------------


def test_a_fault_of_the_program_is_no_answer(mindy, monkeypatch, capsys):
    """Python's own exit status for it is 1, that of two people."""

    def broken(*arguments):
        raise RuntimeError("broken")

    monkeypatch.setattr(comparison, "compare", broken)
    assert call(mindy[0], mindy[1]) == 2
    assert "RuntimeError: broken" in capsys.readouterr().err


def test_a_reader_that_goes_away_does_not_open_the_door(tmp_path):
    """cli.main ends with 0 where others print to nobody."""
    code = "import sys; from celebface.pipelines import cli, verify\n"
    code += "verify._compare = lambda args: [verify._tell(args, {}, ['x' * 100] * 10**5)] and 1\n"
    code += "sys.exit(cli.main(['verify', 'a.jpg', 'b.jpg']))"
    asking = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")
    asking.stdout.close()
    assert asking.stderr.read() == b""
    assert asking.wait() == 1


@pytest.mark.parametrize(
    ("argv", "fault"), [("[]", "None"), ("['a.jpg', 'b.jpg']", "1 / 0"), ("['a.jpg', 'b.jpg']", "sys.exit(2)")]
)
def test_a_fault_that_nobody_reads_of_does_not_open_the_door(argv, fault):
    code = "import sys; from celebface.pipelines import cli, verify\n"
    code += f"verify._compare = lambda args: verify.complain('x' * 10**6) or {fault}\n"
    code += f"sys.exit(cli.main(['verify', *{argv}]))"
    asking = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
    asking.stderr.close()
    assert asking.wait() == 2


# --- the door ---------------------------------------------------------------------------------------------------------


def test_the_door_opens_for_who_is_enrolled(people, mindy, capsys):
    assert call("--enrolled", people, mindy[1]) == 0
    shown = capsys.readouterr()
    first, rate, spent, *_ = shown.out.splitlines()
    assert first.startswith("mindy_kaling: D ")
    assert rate.startswith("false match rate 1 % (extrapolated, 95 %: 0 to ")
    assert rate.endswith("for a stranger before 5 enrolled people")
    assert spent.startswith("5 people enrolled by 5 photos in ")
    assert shown.err == ""


def test_the_door_stays_shut_for_a_stranger_and_nobody_is_trained_to_let_one_in(people, mindy, tmp_path, capsys):
    others = tmp_path / "people"
    shutil.copytree(people, others)
    (others / "mindy_kaling.jpg").unlink()
    code, found = asked(capsys, "--enrolled", others, mindy[1])
    assert (code, found["opened"], found["identity"], found["verdict"]) == (1, False, None, "lookalike")
    assert found["people"] == found["enrolled_photos"] == 4
    assert found["nearest"][0]["distance"] == found["distance"] > found["tau"]
    shutil.copy(mindy[0], others / "Mindy K.jpg")
    code, found = asked(capsys, "--enrolled", others, mindy[1])
    assert (code, found["opened"], found["identity"]) == (0, True, "Mindy K")
    assert found["nearest"][0] == {
        "identity": "Mindy K",
        "distance": found["distance"],
        "similarity": found["similarity"],
        "photo": str(others / "Mindy K.jpg"),
    }
    assert found["margin"] == pytest.approx(found["nearest"][1]["distance"] - found["distance"])


def test_json_of_the_door_tells_everything(people, mindy, capsys):
    _, found = asked(capsys, "--enrolled", people, mindy[1], "--far=0.001")
    assert sorted(found) == [
        "distance", "encoder_id", "enrolled_photos", "false_match_interval", "false_match_rate", "identity", "left_out",
        "margin", "method", "nearest", "opened", "people", "photo", "precision", "similarity", "stated", "tau",
        "verdict",
    ]  # fmt: skip
    assert (found["false_match_rate"], found["method"], len(found["nearest"])) == (0.001, "extrapolated", 3)
    assert found["photo"]["photo"] == mindy[1]


def test_enrolled_photos_without_a_face_are_named_in_a_line_each(people, mindy, grey, tmp_path, capsys):
    folder = tmp_path / "people"
    shutil.copytree(people, folder)
    shutil.copy(grey, folder / "ghost.png")
    (folder / "broken.jpg").write_bytes(b"no photo")
    assert call("--enrolled", folder, mindy[1], "--json") == 0
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 2 and all(line.endswith("; nobody is enrolled by it") for line in lines)
    assert [pathlib.Path(lost["photo"]).name for lost in json.loads(captured.out)["left_out"]] == [
        "broken.jpg", "ghost.png"
    ]  # fmt: skip


def test_a_folder_of_faceless_photos_enrols_nobody(mindy, grey, tmp_path, capsys):
    (tmp_path / "people").mkdir()
    shutil.copy(grey, tmp_path / "people" / "ghost.png")
    assert call("--enrolled", tmp_path / "people", mindy[0]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "nobody is enrolled" in error


def test_a_visitor_without_a_face_is_one_line_and_exit_2(people, grey, capsys):
    assert call("--enrolled", people, grey) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"celebface verify: {grey}: the detector found no face\n")


def test_people_and_visitor_may_lie_in_a_store(people, mindy, tmp_path, monkeypatch, capsys):
    with object_stores.server("s3") as address:
        object_stores.point_to(monkeypatch, "s3", address)
        bucket = object_stores.make_bucket("s3", address)
        for path in people.iterdir():
            bucket.put(f"people/{path.stem}/1.jpg", path.read_bytes())
        bucket.put("visitor.jpg", pathlib.Path(mindy[1]).read_bytes())
        visitor, picture = f"{bucket.uri}/visitor.jpg", f"{bucket.uri}/door.png"
        code, found = asked(capsys, "--enrolled", f"{bucket.uri}/people", visitor, f"--save={picture}")
        assert (code, found["identity"], found["people"]) == (0, "mindy_kaling", 5)
        assert found["nearest"][0]["photo"] == f"{bucket.uri}/people/mindy_kaling/1.jpg"
        assert "door.png" in bucket.names()
        assert call(f"{bucket.uri}/nowhere.jpg", visitor) == 2
        assert capsys.readouterr().err == f"celebface verify: {bucket.uri}/nowhere.jpg: there is no such object\n"


def test_a_picture_of_the_visitor_beside_the_nearest(people, mindy, tmp_path):
    assert call("--enrolled", people, mindy[1], f"--save={tmp_path / 'door.png'}") == 0
    assert Image.open(tmp_path / "door.png").width == 1020


# --- all of LFW's pairs -----------------------------------------------------------------------------------------------


def test_the_600_pairs_of_lfw_are_judged_as_evaluate_does(shared, encoder, tmp_path, capsys):
    """All of them by the command's own functions, with each photo read once; every thirtieth by the command itself."""
    lfw = shared / "data" / "lfw"
    flags = [f"--images={lfw / 'dev'}", f"--pairs={lfw / 'pairs_dev.txt'}"]
    assert cli.main(["evaluate", *flags, f"--json={tmp_path / 'result.json'}"]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    photos, pairs = labelled_pairs.read_files(lfw / "dev", lfw / "pairs_dev.txt", folds=1)
    places = [str(photos[name]) for name in sorted({name for pair in pairs for name in (pair.first, pair.second)})]
    embedder = verify.load_embedder(encoder, result["precision"], ReaderConfig(gate=EVERY_FACE, one_face=True))
    faces = verify.main_faces(embedder, places, [pathlib.Path(place).read_bytes() for place in places])
    vectors = {face.place: face.vector for face in faces}
    threshold = comparison.by_card(load_card(encoder))
    ends = [(str(photos[pair.first]), str(photos[pair.second])) for pair in pairs]
    judged = [comparison.compare(vectors[first], vectors[second], threshold) for first, second in ends]
    right = sum(found.same == pair.same for found, pair in zip(judged, pairs, strict=True))
    assert (len(pairs), threshold.tau) == (600, result["tau"])
    assert right / 600 == pytest.approx(result["accuracy_at_tau"]) and right >= 595
    capsys.readouterr()
    for number in range(0, 600, 30):
        code, found = asked(capsys, *ends[number])
        assert (code, found["distance"]) == (0 if judged[number].same else 1, judged[number].distance)


def test_the_picture_is_written_whole(mindy, tmp_path):
    """It opens, and what is behind it is nothing."""
    assert call(mindy[0], mindy[1], f"--save={tmp_path / 'pair.PNG'}") == 0
    data = (tmp_path / "pair.PNG").read_bytes()
    Image.open(io.BytesIO(data)).load()
    assert [path.name for path in tmp_path.iterdir()] == ["pair.PNG"]
