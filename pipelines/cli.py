"""The celebface command."""

import contextlib
import importlib
import importlib.metadata
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from celebface.pipelines.arguments import Launched, NotStarted, RunFailed, UsageError
from celebface.pipelines.text import complain

# Each command is a module with main(argv) -> exit code; only the one that runs is loaded.
COMMANDS = {
    "fetch-models": "get the pre-trained encoder and the sample photos",
    "build-gallery": "build a gallery of known people from their photos, and publish it",
    "build-index": "index the faces of a published gallery anew, without its photos",
    "match": "find the people of a gallery whom the faces in photos look like",
    "report": "make a folder to look at of a match job's results: each face beside its look-alike",
    "galleries": "list, show, compare, check, roll back and clean up published galleries",
    "calibrate": "find thresholds for stated false match rates, of a gallery or by labelled pairs",
    "verify": "tell whether two photos show one person, or who of the enrolled is on a photo",
    "train": "train an encoder with the triplet loss, and measure it before and after",
    "evaluate": "measure accuracy on labelled pairs (the LFW protocol), and by how many photos people are enrolled",
}

_MODULES = {"report": "album_report"}  # report.py is what any run leaves; others are called as their command is

# What Beam says at each start and what means nothing here: optional packages that are not used, and how the local
# workers are set up.
_MEANINGLESS = (
    "apitools not found",
    "Resource module is not available",
    "No semi_persistent_directory found",
    "--pipeline_type_check",
    "If direct_num_workers is not equal to 1",
    "Failed to read inputs in the data plane",  # a worker process was killed, of which the run tells itself
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: Arguments after the program's name; None for the process's own.

    Returns:
      0 done, 1 the run failed or broke its budget, 2 wrong usage; verify answers by 0 and 1.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"celebface {importlib.metadata.version('celebface')}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        complain(f"celebface: there is no command {command}; see celebface --help")
        return 2
    _log_warnings()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for terminals that cannot show all names
    name = _MODULES.get(command, command.replace("-", "_"))
    try:
        with _quiet_once_interrupted():
            return importlib.import_module(f"celebface.pipelines.{name}").main(rest)
    except UsageError as error:
        complain(f"celebface {command}: {error}")
        return 2
    except Launched as after:
        print(f"celebface {command}: {after}")
        return 0
    except NotStarted as error:
        complain(f"celebface {command}: {error}")
        return 1
    except RunFailed as error:
        complain(f"celebface {command}: {error}; the same command goes on where it was")
        return 1
    except KeyboardInterrupt:
        complain(f"celebface {command}: interrupted; the same command goes on where it was")
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


@contextlib.contextmanager
def _quiet_once_interrupted() -> Iterator[None]:
    """Has Ctrl-C end what is printed, too: each thread and process that is in the midst of something would complain."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> NoReturn:
        logging.disable(logging.CRITICAL)
        threading.excepthook = lambda failed: None
        raise KeyboardInterrupt

    kept, report = signal.signal(signal.SIGINT, interrupt), threading.excepthook
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, kept)
        logging.disable(logging.NOTSET)
        threading.excepthook = report


def _log_warnings() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(_means_something)


def _means_something(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(known in message for known in _MEANINGLESS)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: celebface COMMAND [FLAGS]",
            "",
            "Which celebrity does each face in a photo collection look like?",
            "",
            *lines,
            "",
            "celebface COMMAND --help shows a command's flags and examples.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
