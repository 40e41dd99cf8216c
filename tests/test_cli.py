"""The command line as a person meets it: help, versions, and faults as one line and exit 2."""

import logging
import re
import shlex
import signal
import subprocess
import sys
import threading
import types

import pytest

from celebface.pipelines import beam_flags, cli
from celebface.pipelines.arguments import Parser

WRONG = {
    "no such command": "frobnicate",
    "no photo": "match",
    "unknown flag": "match . --bogus 3",
    "unknown flag of a build": "build-gallery --bogus",
    "abbreviated flag": "match . --gall x",
    "no such runner": "match {tmp}/one --runner FlinkRuner",
    "photos as a build's arguments": "build-gallery {tmp}/one",
    "no folder of images": "evaluate --images {tmp}/nowhere --pairs {tmp}/pairs.txt",
    "output among the photos": "match {tmp}/one --output {tmp}/one",
    "no such archive": "fetch-models --archive {tmp}/nowhere.tar.gz",
    "bad number": "match . --top_k zero",
    "bad ratio": "build-gallery --max_failed_ratio 2",
    "bad tau": "match . --tau 5",
    "rate and threshold": "match . --far 0.01 --tau 1",
    "rate of all strangers": "match . --far 1",
    "rate that is no number": "match . --far nan",
    "report of nothing": "report {tmp}/nowhere",
    "report of a folder of photos": "report {tmp}/one",
    "calibration of nothing": "calibrate",
    "calibration of two things": "calibrate --gallery {tmp}/one --images {tmp} --pairs {tmp}/pairs.txt",
    "pairs without photos": "calibrate --pairs {tmp}/pairs.txt",
    "people of a gallery": "calibrate --gallery {tmp}/one --people 3",
    "calibration of a missing gallery": "calibrate --gallery {tmp}/nowhere",
    "calibration into a file": "calibrate --gallery {tmp}/one --output {tmp}/pairs.txt",
    "pairs of missing photos": "calibrate --images {tmp} --pairs {tmp}/pairs.txt --output {tmp}/out",
    "both kinds of faces": "match . --one_face --all_faces",
    "missing source": "build-gallery --source {tmp}/nowhere",
    "empty source": "build-gallery --source {tmp}/empty",
    "pattern without match": "match '{tmp}/*.jpg'",
    "missing gallery": "match {tmp}/one --gallery {tmp}/nowhere",
    "missing encoder": "build-gallery --source {tmp}/one --encoder {tmp}/nowhere",
    "gallery name": "build-gallery --source {tmp}/one --name ../up",
    "root in no known store": "build-gallery --source {tmp}/one --output_root hdfs://bucket/x",
    "face below what the detector sees": "build-gallery --source {tmp}/one --min_face_px 3",
    "faces of any size": "build-gallery --source {tmp}/one --min_face_share 0",
    "photos decoded to nothing": "match {tmp}/one --decoded_side 100",
    "sharpness that is no number": "match {tmp}/one --min_sharpness nan",
    "sharpness without end": "build-gallery --source {tmp}/one --min_sharpness inf",
    "certainty beyond all": "match {tmp}/one --min_confidence 1",
    "tau that is no number": "evaluate --images {tmp} --pairs {tmp}/pairs.txt --tau nan",
    "beam flag with a bad value": "match {tmp}/one --direct_num_workers many",
    "no pairs file": "evaluate --images {tmp} --pairs {tmp}/nowhere",
    "missing required flag": "evaluate --pairs {tmp}/pairs.txt",
    "nothing to evaluate": "evaluate --images {tmp}",
    "nobody enrolled by no photo": "evaluate --images {tmp} --enrolled 1,0",
    "enrolled photos that are no numbers": "evaluate --images {tmp} --enrolled 1,,2",
    "enrolled photos of nowhere": "evaluate --images {tmp}/nowhere --enrolled 1",
    "too few photos to enrol and probe": "evaluate --images {tmp}/people --enrolled 1,2",
    "chart of pairs": "evaluate --images {tmp} --pairs {tmp}/pairs.txt --chart {tmp}/c.png",
    "chart of a kind that is not drawn": "evaluate --images {tmp}/people --enrolled 1 --chart {tmp}/c.jpg",
    "chart without a name": "evaluate --images {tmp}/people --enrolled 1 --chart ''",
    "chart in no folder": "evaluate --images {tmp}/people --enrolled 1 --chart {tmp}/nowhere/c.png",
    "chart in a folder's place": "evaluate --images {tmp}/people --enrolled 1 --chart {tmp}/folder.png",
    "chart among the photos": "evaluate --images {tmp}/people --enrolled 1 --chart {tmp}/people/c.png",
    "chart where nothing can be written": "evaluate --images {tmp}/people --enrolled 1 --chart /proc/c.png",
    "seed of pairs": "evaluate --images {tmp} --pairs {tmp}/pairs.txt --seed 3",
    "seed that is none": "evaluate --images {tmp}/people --enrolled 1 --seed x",
    "threshold without pairs": "evaluate --images {tmp}/people --enrolled 1 --tau 1",
    "folds without pairs": "evaluate --images {tmp}/people --enrolled 1 --folds 2",
    "wrong archive": "fetch-models --cache {tmp}/cache --archive {tmp}/one/x.jpg",
    "nobody named who asks the web": "build-gallery --source {tmp}/people.csv",
    "contact that cannot be sent": "build-gallery --source {tmp}/people.csv --contact jürgen@example.org",
    "list on the web": "build-gallery --source https://photos.test/people.csv --contact a@example.org",
    "list without its column": "build-gallery --source {tmp}/people.csv --contact a@example.org --url_column photo",
    "list of something else": "build-gallery --source {tmp}/pairs.txt --source_format csv",
    "folder as a list": "build-gallery --source {tmp}/one --source_format csv",
    "no such format of lists": "build-gallery --source {tmp}/people.csv --source_format xml",
    "no such provider": "build-gallery --source {tmp}/people.csv --contact a@example.org --provider bing",
    "place of a provider": "build-gallery --source {tmp}/people.csv --provider wikimedia --provider_url ftp://a.test",
    "provider of a match": "match {tmp}/one --provider wikimedia",
    "host without its address": "build-gallery --source {tmp}/people.csv --resolve photos.test",
    "address that is none": "build-gallery --source {tmp}/people.csv --resolve photos.test:here",
    "rate below none": "build-gallery --source {tmp}/people.csv --host_rate -1",
    "no time to fetch": "build-gallery --source {tmp}/people.csv --fetch_seconds 0",
    "retries below none": "match {tmp}/one --fetch_retries -1",
    "version that is not there": "build-gallery --source {tmp}/one --reuse v1",
    "version elsewhere": "build-gallery --source {tmp}/one --reuse ../v1",
    "no such kind of retry": "build-gallery --source {tmp}/one --retry sometimes",
    "no such kind of near duplicates": "build-gallery --source {tmp}/one --near_duplicates some",
    "sample of nothing": "build-gallery --source {tmp}/one --sample 0",
    "one photo to compare": "verify {tmp}/one/x.jpg",
    "three photos to compare": "verify {tmp}/one/x.jpg {tmp}/one/x.jpg {tmp}/one/x.jpg",
    "two photos at the door": "verify --enrolled {tmp}/one {tmp}/one/x.jpg {tmp}/one/x.jpg",
    "nobody at the door": "verify --enrolled {tmp}/one",
    "rate and threshold of two photos": "verify {tmp}/one/x.jpg {tmp}/one/x.jpg --far 0.01 --tau 1",
    "tau of two photos": "verify {tmp}/one/x.jpg {tmp}/one/x.jpg --tau nan",
    "rate that the card does not state": "verify {tmp}/one/x.jpg {tmp}/one/x.jpg --far 0.0001",
    "photo that is not there": "verify {tmp}/one/x.jpg {tmp}/nowhere.jpg",
    "folder in place of a photo": "verify {tmp}/one/x.jpg {tmp}/one",
    "photo of the web, and nobody named who asks": "verify {tmp}/one/x.jpg https://photos.test/1.jpg",
    "calibration that is not there": "verify {tmp}/one/x.jpg {tmp}/one/x.jpg --calibration {tmp}/nowhere.json",
    "calibration that is none": "verify {tmp}/one/x.jpg {tmp}/one/x.jpg --calibration {tmp}/pairs.txt",
    "calibration at the door": "verify --enrolled {tmp}/one {tmp}/one/x.jpg --calibration {tmp}/pairs.txt",
    "picture that is no PNG": "verify {tmp}/one/x.jpg {tmp}/one/x.jpg --save {tmp}/pair.jpg",
    "picture in a photo's place": "verify {tmp}/a.png {tmp}/one/x.jpg --save {tmp}/a.png",
    "picture among the enrolled": "verify --enrolled {tmp}/one {tmp}/one/x.jpg --save {tmp}/one/new.png",
    "picture in no folder": "verify {tmp}/one/x.jpg {tmp}/one/x.jpg --save {tmp}/nowhere/pair.png",
    "nobody enrolled": "verify --enrolled {tmp}/empty {tmp}/one/x.jpg",
    "no folder of the enrolled": "verify --enrolled {tmp}/nowhere {tmp}/one/x.jpg",
    "missing encoder of two photos": "verify {tmp}/one/x.jpg {tmp}/one/x.jpg --encoder {tmp}/nowhere",
    "nothing of a page": "build-gallery --source {tmp}/one --per_page 0",
}


@pytest.mark.parametrize("command", WRONG.values(), ids=WRONG.keys())
def test_wrong_usage_is_one_line_and_exit_2(command, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("CELEBFACE_CONTACT", raising=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "x.jpg").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    for photo in ("Ann/a.jpg", "Ann/b.jpg", "Ann/c.jpg", "Bob/x.jpg", "Bob/y.jpg"):
        (tmp_path / "people" / photo).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "people" / photo).write_bytes(b"x")
    (tmp_path / "pairs.txt").write_text("A\t1\t2\nA\t1\tB\t2\n")
    (tmp_path / "people.csv").write_text("name,url\nAnn,https://photos.test/1.jpg\n")
    try:
        code = cli.main(shlex.split(command.format(tmp=tmp_path)))
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.startswith("celebface") and captured.err.count("\n") == 1, captured.err
    assert not list(tmp_path.glob("galleries*"))


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_each_command_has_help_with_examples(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    help_text = capsys.readouterr().out
    assert f"usage: celebface {command}" in help_text
    assert f"  celebface {command}" in help_text.split("examples:")[1]


class Parsed(Exception):
    """The command line has been taken."""


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_examples_of_the_help_are_taken_as_they_stand(command, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    examples = [
        re.split("  +", line.strip())[0]  # behind it is what it does
        for line in capsys.readouterr().out.split("examples:")[1].splitlines()
        if line.startswith("  celebface ")
    ]
    assert examples

    def parse_only(parse):
        def parse_and_stop(*args, **options):
            parse(*args, **options)
            raise Parsed

        return parse_and_stop

    monkeypatch.setattr(beam_flags, "parse_args", parse_only(beam_flags.parse_args))
    monkeypatch.setattr(Parser, "parse_args", parse_only(Parser.parse_args))
    for example in examples:
        with pytest.raises((Parsed, SystemExit)) as ended:
            cli.main(shlex.split(example)[1:])
        assert ended.type is Parsed or ended.value.code == 0, capsys.readouterr().err


def test_top_level_help_lists_all_commands(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in cli.COMMANDS)


def test_ctrl_c_is_one_line_whatever_threads_and_logs_say(monkeypatch, capsys, caplog):
    def command(argv):
        def complain():
            raise RuntimeError("a thread was in the midst of something")

        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            thread = threading.Thread(target=complain)
            thread.start()
            thread.join()
            logging.getLogger("apache_beam").error("so was Beam")

    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    before = signal.getsignal(signal.SIGINT), threading.excepthook
    monkeypatch.setitem(sys.modules, "celebface.pipelines.report_command", types.SimpleNamespace(main=command))
    monkeypatch.setitem(cli._MODULES, "report", "report_command")
    assert cli.main(["report"]) == 130
    assert capsys.readouterr().err == "celebface report: interrupted; the same command goes on where it was\n"
    assert not told and not caplog.records
    assert (signal.getsignal(signal.SIGINT), threading.excepthook) == before
    assert logging.getLogger("apache_beam").isEnabledFor(logging.ERROR)


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("celebface 0.")


def test_the_installed_program_runs_from_anywhere():
    program = [sys.executable, "-m", "celebface.pipelines.cli", "--help"]
    done = subprocess.run(program, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0 and done.stderr == ""


def test_a_reader_that_goes_away_is_no_failure(tmp_path):
    """As in: celebface match ... | head -1."""
    code = "from celebface.pipelines import cli, fetch_models, summary; import sys\n"
    code += "fetch_models.main = lambda argv: [summary.console().print('x' * 100) for _ in range(10000)] and 0\n"
    code += "sys.exit(cli.main(['fetch-models']))"
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")
    assert writer.stdout.readline().startswith(b"x")
    writer.stdout.close()
    assert writer.wait() == 0
    assert b"Traceback" not in writer.stderr.read()
