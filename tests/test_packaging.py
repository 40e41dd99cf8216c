"""The wheel, in an environment of its own away from the repository."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import venv

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> pathlib.Path:
    """bin/ of an environment with the wheel built from the source distribution.

    The dependencies are borrowed from this environment; its editable celebface is not, as path files do not nest.
    """
    folder = tmp_path_factory.mktemp("packaging")
    build = [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(ROOT)]  # sdist, and the wheel from it
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin"


def run(installed: pathlib.Path, folder: pathlib.Path, *command: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [installed / command[0], *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_it_installs_only_celebface(installed):
    (site,) = installed.parent.glob("lib/python*/site-packages")
    assert not [name for name in ("pipelines", "transforms", "models", "indexing", "tests") if (site / name).exists()]
    done = run(installed, pathlib.Path("/"), "python", "-c", "import celebface.models as m; print(m.__file__)")
    assert done.stdout.startswith(str(site))


def test_the_pages_come_with_their_templates(installed):
    (site,) = installed.parent.glob("lib/python*/site-packages")
    assert {path.name for path in (site / "celebface" / "pipelines" / "templates").iterdir()} == {
        path.name for path in (ROOT / "pipelines" / "templates").iterdir()
    }


def test_its_types_are_for_others_too(installed):
    (site,) = installed.parent.glob("lib/python*/site-packages")
    assert {path.parent.name for path in (site / "celebface").glob("*/py.typed")} == {
        "pipelines", "transforms", "models", "indexing"
    }  # fmt: skip


def test_the_program_shows_its_help(installed, tmp_path):
    done = run(installed, tmp_path, "celebface", "--help")
    assert done.returncode == 0 and "build-gallery" in done.stdout and done.stderr == ""


def test_the_program_matches_photos(installed, gallery, portrait, tmp_path):
    done = run(installed, tmp_path, "celebface", "match", str(portrait), f"--gallery={gallery}", "--output=out")
    assert done.returncode == 0, done.stderr
    assert "madonna" in done.stdout
    assert (tmp_path / "out" / "matches.csv").exists()
    assert done.stderr == ""  # nothing to worry a user
