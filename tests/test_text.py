"""Text from outside on a terminal and in a CSV."""

import pytest

from celebface.pipelines import text as texts


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Penélope Cruz", "Penélope Cruz"),
        ("two\nlines\tand\rmore", "two lines and more"),
        ("\x1b[31mred\x1b[0m", "\ufffd[31mred\ufffd[0m"),
        ("evil\u202egpj.exe", "evil\ufffdgpj.exe"),
        ("[bold]markup[/bold]", "[bold]markup[/bold]"),
        ("梅艳芳", "梅艳芳"),
        ("e\u0301\u0302\u0303 ẩ \u05d1\u05bc\u05b7", "e\u0301\u0302\u0303 ẩ \u05d1\u05bc\u05b7"),
        ("Z" + "\u0335\u0489" * 500 + "algo", "Z" + "\u0335\u0489" * 4 + "algo"),
    ],
)
def test_names_cannot_steer_a_terminal(text, shown):
    assert texts.plain(text) == shown


def test_control_characters_are_spelt_out_where_nothing_may_be_lost():
    assert texts.escaped("a\x1b[1m\n\u202eb é 梅") == "a\\x1b[1m\\n\\u202eb é 梅"
