"""The Python of the README and the documents runs, against the sample, and gives what it says."""

import contextlib
import doctest
import io
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks() -> dict[str, str]:
    """The blocks of Python, by page and number."""
    return {
        f"{page.name}-{number}": code
        for page in PAGES
        for number, code in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8")), start=1)
    }


def run(code: str, name: str) -> None:
    """Runs a block: a session with its answers, or a script.

    Raises:
      AssertionError: If a session's answers are others.
    """
    if ">>>" not in code:
        exec(compile(code, name, "exec"), {"__name__": "__main__"})
        return
    session = doctest.DocTestParser().get_doctest(code, {}, name, name, 0)
    told = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=_FLAGS)
    runner.run(session, out=told.write)
    assert session.examples and not runner.failures, told.getvalue()


@pytest.fixture
def in_a_folder(gallery, tmp_path, monkeypatch):
    """A folder as `make build-gallery` leaves it."""
    (tmp_path / "galleries").mkdir()
    (tmp_path / "galleries" / "celebrities").symlink_to(gallery)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_a_folder")
@pytest.mark.parametrize("name", blocks())
def test_what_the_documents_show_is_so(name):
    run(blocks()[name], name)


def test_the_readme_has_python():
    assert any(name.startswith("README") for name in blocks())


@pytest.mark.parametrize(
    "code", [">>> 1 + 1\n3\n", ">>> nowhere\n", "assert 1 == 2\n", "import celebface.nowhere\n", "1 +\n"]
)
def test_a_wrong_block_is_found(code):
    with pytest.raises((AssertionError, ImportError, SyntaxError)), contextlib.redirect_stdout(io.StringIO()):
        run(code, "wrong")


def test_a_right_block_passes():
    run(">>> print('a b   c')\na b c\n>>> 'x' * 9\n'xx...\n", "right")
    run("assert 1 + 1 == 2\n", "right")
