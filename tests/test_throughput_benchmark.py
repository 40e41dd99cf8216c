"""The driver of the throughput benchmark, with contenders that only speak its protocol."""

import dataclasses
import json
import pathlib
import sys

import pytest
from PIL import Image

from benchmarks import environments, throughput
from benchmarks.environments import CannotMake, Environment
from benchmarks.throughput import Contender, ContenderFailed, Measured, Share, Work

# Writes what it is given into a diary that all fakes share, then does what the test wants.
FAKE = """
import pathlib, sys
sys.path.insert(0, {protocol!r})
import protocol

def load():
    print("libraries print")

    def read_photos(paths):
        with open({diary!r}, "a") as diary:
            diary.write({name!r} + " " + " ".join(pathlib.Path(path).stem for path in paths) + "\\n")
        {act}
        return protocol.Found(faces=2 * len(paths), failed=0)

    return read_photos

protocol.serve(load, ("pip",), "as a fake")
"""


@pytest.fixture
def photos(tmp_path) -> list[pathlib.Path]:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        Image.new("RGB", (10 + number, 10)).save(path)
    return paths


@pytest.fixture
def diary(tmp_path):
    path = tmp_path / "diary"
    return lambda: path.read_text().splitlines()


@pytest.fixture
def fake(tmp_path):
    """Makes a contender; `act` is a statement that it runs for each call."""

    def make(name: str, act: str = "pass") -> Contender:
        script = tmp_path / f"{name}.py"
        protocol = str(environments.CONTENDERS)
        script.write_text(FAKE.format(protocol=protocol, diary=str(tmp_path / "diary"), name=name, act=act))
        return Contender(name, (sys.executable, str(script)))

    return make


def measure(contenders, photos, tmp_path, rounds=1, whole=False) -> Measured:
    return throughput.measure(contenders, photos, Share(every=1, most=4, chunk=2), rounds, tmp_path / "logs", whole)


# --- order ------------------------------------------------------------------------------------------------------------


def test_each_peer_does_a_chunk_right_after_us(fake, photos, diary, tmp_path):
    measured = measure([fake("celebface"), fake("a"), fake("b")], photos, tmp_path, rounds=2, whole=True)
    warm_ups = ["celebface 0", "a 0", "b 0"]
    a_round = ["celebface 0 1", "a 0 1", "celebface 0 1", "b 0 1", "celebface 2 3", "a 2 3", "celebface 2 3", "b 2 3"]
    assert diary() == [*warm_ups, *a_round, *a_round, "celebface 0 1 2 3 4"]
    assert [work.photos for work in measured.work["a"]] == [4, 4]
    assert [work.faces for work in measured.work["celebface"]] == [8, 8, 8, 8]  # beside each peer in each round
    assert measured.whole.photos == 5
    assert measured.left_out == {}
    assert measured.about["a"]["how"] == "as a fake" and list(measured.about["a"]["versions"]) == ["pip"]
    assert "libraries print" in (tmp_path / "logs" / "a.log").read_text()


def test_we_are_measured_alone_if_there_is_no_peer(fake, photos, diary, tmp_path):
    measured = measure([fake("celebface")], photos, tmp_path)
    assert diary() == ["celebface 0", "celebface 0 1", "celebface 2 3"]
    assert [work.photos for work in measured.work["celebface"]] == [4]


def test_a_peer_is_compared_on_the_photos_that_it_can_do(fake, photos, diary, tmp_path, monkeypatch):
    monkeypatch.setitem(throughput.MOST_PIXELS, "a", 120)  # photos 0, 1 and 2
    monkeypatch.setitem(throughput.MOST_PIXELS, "b", 1)
    measured = measure([fake("celebface"), fake("a"), fake("b")], photos, tmp_path)
    assert diary()[3:] == ["celebface 0 1", "a 0 1", "celebface 2", "a 2"]
    assert [(mine.photos, theirs.photos) for mine, theirs in measured.pairs["a"]] == [(3, 3)]
    assert measured.left_out == {"b": "can do none of these photos"}


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "why"),
    [
        ("raise RuntimeError('no such box')", "RuntimeError: no such box"),
        ("os._exit(3)", "ended with status 3"),
        ("os.write(answers, b'what?\\n')", "answers 'what?'"),
        ("paths.append('x')", "was given 2 photos, answers"),
    ],
)
def test_a_peer_that_fails_is_left_out_and_the_rest_goes_on(act, why, fake, photos, diary, tmp_path):
    bad = fake("bad", f"if paths[0].endswith('2.png'): {act}")
    script = pathlib.Path(bad.command[1])
    script.write_text("import os\nanswers = os.dup(1)\n" + script.read_text())  # what a library might do
    measured = measure([fake("celebface"), bad, fake("good")], photos, tmp_path, rounds=2)
    assert why in measured.left_out["bad"] and "\n" not in measured.left_out["bad"]
    assert "bad" not in measured.pairs  # it had no full round
    assert [work.photos for work in measured.work["good"]] == [4, 4]
    assert diary()[-4:] == ["celebface 0 1", "good 0 1", "celebface 2 3", "good 2 3"]


def test_full_rounds_of_a_peer_that_fails_later_stay(fake, photos, tmp_path):
    act = f"if open({str(tmp_path / 'diary')!r}).read().count('bad ') > 3: raise ValueError"  # it warms up, has a round
    measured = measure([fake("celebface"), fake("bad", act)], photos, tmp_path, rounds=3)
    assert [work.photos for work in measured.work["bad"]] == [4]
    assert "ValueError" in measured.left_out["bad"]
    assert len(measured.work["celebface"]) == 2  # the first round, and the third alone


@pytest.mark.parametrize("fault", ["missing", "at the start", "silent"])
def test_a_peer_that_does_not_start_is_left_out(fault, fake, photos, tmp_path, monkeypatch):
    bad = {
        "missing": Contender("bad", (str(tmp_path / "nothing"),)),
        "at the start": fake("bad", "raise ImportError('no library')"),
        "silent": Contender("bad", (sys.executable, "-c", "import sys; sys.stdin.read()")),
    }[fault]
    if fault == "silent":
        monkeypatch.setattr(throughput, "_START_SECONDS", 2)
    measured = measure([fake("celebface"), bad], photos, tmp_path)
    said = {"missing": "cannot be started", "at the start": "no library", "silent": "no answer for 2 s"}[fault]
    assert said in measured.left_out["bad"]
    assert [work.photos for work in measured.work["celebface"]] == [4]


def test_nothing_is_measured_without_us(fake, photos, tmp_path):
    with pytest.raises(ContenderFailed, match="celebface ended with status 1: RuntimeError: no weights"):
        measure([fake("celebface", "raise RuntimeError('no weights')"), fake("a")], photos, tmp_path)


# --- figures ----------------------------------------------------------------------------------------------------------


def work(photos: int, seconds: float, faces: int = 7, peak: int = 100) -> Work:
    return Work(photos, faces, 0, seconds, peak)


@pytest.fixture
def measured() -> Measured:
    pairs = [(work(10, 1.0), work(10, 3.0)), (work(10, 2.0), work(10, 4.0)), (work(10, 1.0), work(10, 5.0, peak=300))]
    return Measured(
        work={"celebface": [mine for mine, _ in pairs], "deepface": [theirs for _, theirs in pairs]},
        pairs={"deepface": pairs},
        about={name: {"how": "somehow", "versions": {"x": "1"}} for name in ("celebface", "deepface")},
        left_out={"naive": "ended with status 9"},
        whole=work(40, 2.0, faces=50),
    )


def test_the_ratio_is_that_of_runs_side_by_side(measured):
    assert measured.ratios("deepface") == [3.0, 2.0, 5.0]


def test_work_adds_up_and_of_peaks_the_highest_counts():
    assert Work(1, 2, 3, 4.0, 5) + Work(10, 20, 30, 40.0, 4) == Work(11, 22, 33, 44.0, 5)


def test_what_is_stored(measured):
    result = throughput.summary({"lfw": measured}, {"lfw": (10, 40)}, rounds=3)
    assert result["sets"]["lfw"] == {
        "celebface": {
            "photos": 10,
            "photos_per_s": 10.0,
            "faces": 7,
            "failed": 0,
            "peak_bytes": 100,
            "whole": {"photos": 40, "photos_per_s": 20.0, "faces": 50, "failed": 0, "peak_bytes": 100},
        },
        "deepface": {"photos": 10, "photos_per_s": 2.5, "faces": 7, "failed": 0, "peak_bytes": 300},
    }
    assert result["ratios"] == {"lfw": {"deepface": 3.0}}
    assert result["spread"] == {"lfw": {"deepface": {"min": 2.0, "max": 5.0, "rounds": 3}}}
    assert result["shares"] == {"lfw": {"photos": 10, "of": 40}}
    assert result["left_out"] == {"lfw": {"naive": "ended with status 9"}}
    assert result["versions"] == {"celebface": {"x": "1"}, "deepface": {"x": "1"}}
    assert {"machine", "date", "rounds", "how"} < result.keys()


def test_a_share_is_every_kth_photo():
    paths = [pathlib.Path(str(number)) for number in range(10)]
    assert [path.name for path in Share(every=3, most=3, chunk=1).of(paths)] == ["0", "3", "6"]
    assert [len(piece) for piece in throughput.chunks(paths, 4)] == [4, 4, 2]


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(fake, photos, tmp_path, monkeypatch):
    """The command, on the fakes; returns where it stores."""
    found = [fake("celebface"), fake("deepface")], {"facenet_pytorch": "there is no torch"}
    monkeypatch.setattr(throughput, "find_contenders", lambda: found)
    monkeypatch.setattr(throughput, "photo_set", lambda name: photos)
    monkeypatch.setattr(throughput, "FOLDER", tmp_path)
    monkeypatch.setattr(throughput, "RESULTS", tmp_path / "results" / "throughput.json")
    monkeypatch.setattr(throughput, "SHARES", {"lfw": Share(1, 4, 2), "large": Share(2, 4, 2)})
    return tmp_path / "results" / "throughput.json"


def test_the_command_prints_and_stores(command, capsys):
    throughput.main(["--rounds=2", "--sets=lfw,large"])
    stored = json.loads(command.read_text())
    assert list(stored["ratios"]) == ["lfw", "large"] and list(stored["ratios"]["lfw"]) == ["deepface"]
    assert stored["shares"] == {"lfw": {"photos": 4, "of": 5}, "large": {"photos": 3, "of": 5}}
    assert stored["sets"]["large"]["celebface"]["whole"]["photos"] == 5
    assert stored["left_out"]["lfw"] == {"facenet_pytorch": "there is no torch"}
    printed = capsys.readouterr().out
    assert "facenet_pytorch is left out: there is no torch" in printed and "lfw: 4 of 5 photos, 2 rounds" in printed


def test_a_trial_with_a_limit_stores_nothing(command):
    throughput.main(["--rounds=1", "--sets=lfw", "--limit=2"])
    assert not command.exists()


@pytest.mark.parametrize("argument", ["--sets=lfw,small", "--rounds=0", "--limit=0"])
def test_wrong_usage(argument, command):
    with pytest.raises(SystemExit) as end:
        throughput.main([argument])
    assert end.value.code == 2


# --- environments -----------------------------------------------------------------------------------------------------


@pytest.fixture
def installs(monkeypatch) -> list[list[str]]:
    """pip's command lines, which are not run; nor are environments."""
    calls: list[list[str]] = []
    monkeypatch.setattr(environments, "run", calls.append)
    monkeypatch.setattr(environments.venv, "create", lambda home, with_pip: (home / "bin").mkdir(parents=True))
    return calls


def test_an_environment_is_made_once_for_each_recipe(installs, tmp_path):
    peer = Environment("peer", (("a==1", "b==2"), ("--no-deps", "c==3")), disk_bytes=0)
    assert environments.make(peer, tmp_path) == tmp_path / "peer" / "bin" / "python"
    assert [call[-2:] for call in installs] == [["a==1", "b==2"], ["--no-deps", "c==3"]]
    environments.make(peer, tmp_path)
    assert len(installs) == 2
    environments.make(dataclasses.replace(peer, installs=(("a==2",),)), tmp_path)
    assert installs[2][-1] == "a==2"


def test_an_environment_that_was_not_finished_is_made_anew(installs, tmp_path):
    def fails(python):
        raise CannotMake("other vectors")

    peer = Environment("peer", (("a==1",),), disk_bytes=0, finish=fails)
    for _ in range(2):
        with pytest.raises(CannotMake, match="other vectors"):
            environments.make(peer, tmp_path)
    assert len(installs) == 2


def test_an_environment_needs_room(installs, tmp_path):
    with pytest.raises(CannotMake, match="GB of free disk are needed"):
        environments.make(Environment("peer", (("a==1",),), disk_bytes=10**18), tmp_path)
    assert installs == []


def test_why_a_command_failed_is_one_line():
    with pytest.raises(CannotMake, match=r"^ERROR: No matching distribution$"):
        environments.run([sys.executable, "-c", "raise SystemExit('x\\nERROR: No matching distribution\\ny')"])
    with pytest.raises(CannotMake, match=r"^exit status 3$"):
        environments.run([sys.executable, "-c", "raise SystemExit(3)"])


def test_peers_without_an_environment_are_named(monkeypatch):
    def make(environment):
        if environment.name == "deepface":
            raise CannotMake("no room")
        return pathlib.Path("python")

    monkeypatch.setattr(environments, "make", make)
    found, missing = throughput.find_contenders()
    assert [contender.name for contender in found] == ["celebface", "naive", "facenet_pytorch"]
    assert missing == {"deepface": "no room"}
    assert all(pathlib.Path(contender.command[-1]).is_file() for contender in found)
