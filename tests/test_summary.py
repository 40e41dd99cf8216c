"""Text from outside on a terminal."""

import pytest

from celebface.pipelines import summary


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Penélope Cruz", "Penélope Cruz"),
        ("two\nlines\tand\rmore", "two lines and more"),
        ("\x1b[31mred\x1b[0m", "\ufffd[31mred\ufffd[0m"),
        ("evil\u202egpj.exe", "evil\ufffdgpj.exe"),
        ("[bold]markup[/bold]", "[bold]markup[/bold]"),
        ("梅艳芳", "梅艳芳"),
    ],
)
def test_names_cannot_steer_a_terminal(text, shown):
    assert summary.plain(text) == shown
