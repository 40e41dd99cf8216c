"""The command line as a person meets it: help, versions, and faults as one line and exit 2."""

import shlex
import subprocess
import sys

import pytest

from celebface.pipelines import cli

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
    "both kinds of faces": "match . --one_face --all_faces",
    "missing source": "build-gallery --source {tmp}/nowhere",
    "empty source": "build-gallery --source {tmp}/empty",
    "pattern without match": "match '{tmp}/*.jpg'",
    "missing gallery": "match {tmp}/one --gallery {tmp}/nowhere",
    "missing encoder": "build-gallery --source {tmp}/one --encoder {tmp}/nowhere",
    "gallery name": "build-gallery --source {tmp}/one --name ../up",
    "remote root": "build-gallery --source {tmp}/one --output_root gs://bucket/x",
    "face below what the detector sees": "build-gallery --source {tmp}/one --min_face_px 3",
    "beam flag with a bad value": "match {tmp}/one --direct_num_workers many",
    "no pairs file": "evaluate --images {tmp} --pairs {tmp}/nowhere",
    "missing required flag": "evaluate --images {tmp}",
    "wrong archive": "fetch-models --cache {tmp}/cache --archive {tmp}/one/x.jpg",
}


@pytest.mark.parametrize("command", WRONG.values(), ids=WRONG.keys())
def test_wrong_usage_is_one_line_and_exit_2(command, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "x.jpg").write_bytes(b"x")
    (tmp_path / "pairs.txt").write_text("A\t1\t2\nA\t1\tB\t2\n")
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


def test_top_level_help_lists_all_commands(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in cli.COMMANDS)


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
