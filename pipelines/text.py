"""Text from outside, made fit to be shown: names, paths and messages that hold them."""

import sys
import unicodedata


def plain(text: str) -> str:
    """A name as one line without control characters, so that it cannot steer a terminal."""
    if text.isprintable():  # nearly all are; then nothing in it steers, nor is any space but the plain one
        return text
    return "".join(" " if character.isspace() else "\ufffd" if _steers(character) else character for character in text)


def escaped(text: str) -> str:
    r"""A name with its control characters spelt out, as \x1b or \n, so that nothing of it is lost."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii") if _steers(character) else character for character in text
    )


def complain(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(plain(message) + "\n")


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
