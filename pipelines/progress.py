"""The live progress bar of a local run, and the clock of a run on an engine."""

import contextlib
import pathlib
import threading
import types
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from celebface.indexing.schemas import Status
from celebface.transforms import progress

_INTERVAL_SECONDS = 0.5


class ProgressBar:
    """Shows photos, faces, losses by reason, speed and time left while a block runs.

    It writes to stderr, and not at all if that is no terminal.
    """

    def __init__(self, folder: pathlib.Path, title: str, console: Console | None = None):
        self._folder = folder
        console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[found]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=None, speed="", found="")
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "ProgressBar":
        if not self._bar.disable:
            self._bar.start()
            self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if not self._bar.disable:
            self._done.set()
            self._watcher.join()
            self._show()
            self._bar.stop()

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL_SECONDS):
            self._show()

    def _show(self) -> None:
        counts = progress.total(self._folder)
        listed, photos, faces = (counts.pop(name, 0) for name in ("listed", "photos", "faces"))
        fetched, fetched_bytes = counts.pop("fetched", 0), counts.pop("fetched_bytes", 0)
        elapsed = self._bar.tasks[0].elapsed or 0
        counts.pop(Status.DONE, None)
        losses = ", ".join(f"{count} {reason}" for reason, count in counts.most_common(3))
        self._bar.update(
            self._task,
            total=listed or None,
            completed=photos,
            speed=f"{photos / elapsed:.0f}/s" if photos and elapsed else "",
            found=", ".join(
                filter(
                    None,
                    [
                        f"{fetched} fetched ({fetched_bytes / 1e6:.0f} MB)" if fetched else "",
                        f"{faces} faces",
                        losses,
                    ],
                )
            ),
        )


@contextlib.contextmanager
def elapsing(title: str) -> Iterator[None]:
    """Shows for how long a block has been running, as `ProgressBar` does; for work whose counts are not at hand."""
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        bar.add_task(title, total=None)
        yield
