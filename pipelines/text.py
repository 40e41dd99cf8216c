"""Text from outside, made fit to be shown: names, paths and messages that hold them."""

import contextlib
import re
import sys
import unicodedata

# Where a spreadsheet would begin a formula: at the start of a cell, behind white space or a quote or not, and after a
# semicolon, at which it cuts lines in some countries. The wide and small forms of = + - @ are taken for them, too, by
# some.
_FORMULA = re.compile(r"(^|;)(?=[\s\"]*[-=+@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b])")

_MARKS = 8  # accents and the like on one letter that are shown; no script stacks more


def plain(text: str) -> str:
    """A name as one line without control characters, so that it cannot steer a terminal or flood the lines around."""
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks <= _MARKS:
            shown.append(" " if character.isspace() else "\ufffd" if _steers(character) else character)
    return "".join(shown)


def escaped(text: str) -> str:
    r"""A name with its control characters spelt out, as \x1b or \n, so that nothing of it is lost."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii") if _steers(character) else character for character in text
    )


def cell(text: str) -> str:
    """A name for a cell of CSV: escaped, and what a spreadsheet would run as a formula preceded by an apostrophe."""
    return _FORMULA.sub(r"\1'", escaped(text))


def complain(message: str) -> None:
    """One line on stderr, if anybody reads it: the exit status must not hang on that."""
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(plain(message) + "\n")


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
