"""What is heard of threads that fail; Beam's each print a traceback of what the run itself tells in a line."""

import contextlib
import threading
from collections.abc import Callable, Iterator


def join(name: str, seconds: float) -> None:
    """Waits for the threads of a name to end, each for so long at most."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(seconds)


@contextlib.contextmanager
def hiding(is_told: Callable[[BaseException], bool]) -> Iterator[None]:
    """Leaves out what threads raise.

    Args:
      is_told: Whether an exception need not be reported, as somebody else does.
    """
    report = threading.excepthook

    def report_others(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_value is None or not is_told(failed.exc_value):
            report(failed)

    threading.excepthook = report_others
    try:
        yield
    finally:
        if threading.excepthook is report_others:  # else somebody wants all to be quiet
            threading.excepthook = report
