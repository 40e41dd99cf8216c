"""The terminal: where summaries and progress go, and the few words they share. Loads no Beam."""

import sys

from rich.console import Console

_WIDTH = 200  # of tables that are read by programs, or in a file


class _Stdout(Console):
    def on_broken_pipe(self) -> None:
        """Leaves it to the command: the work is done, only its reader has gone. Rich itself would exit 1."""
        raise BrokenPipeError


def console() -> Console:
    """Where summaries go: stdout, plain text if it is no terminal."""
    width = None if sys.stdout.isatty() else _WIDTH
    return _Stdout(highlight=False, soft_wrap=True, emoji=False, width=width)


def error_console() -> Console:
    """Where progress is shown: stderr, silent if it is no terminal."""
    found = Console(stderr=True)
    return found if found.is_terminal else Console(stderr=True, quiet=True)


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
