"""A celebface command in this process, and what it costs: processor time, bytes that cross shuffles, uses of storage.

    python -m benchmarks.counted_run COUNTS.json match photos/ --gallery=... --direct_num_workers=1

Bytes of a shuffle are those of the coded elements that Beam's local engine is given for a grouping (each GroupByKey,
CoGroupByKey and Reshuffle of the graph): what another engine would send. They are counted in the driver, so the run
must have one worker, which is the driver itself.

A use of storage is a call of `indexing.storage`: to open a file for reading, to write or copy one whole, to list a
folder, or to ask whether something is there. A store takes one request or more for each. Calls within calls do not
count.
"""

import collections
import functools
import json
import pathlib
import posixpath
import resource
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from apache_beam.runners.portability.fn_api_runner import execution

from celebface.indexing import storage
from celebface.models import isolated_reader
from celebface.pipelines import cli

_USES = {
    "read": ("read_bytes", "open_input", "open_mapped", "open_stream", "checksum"),
    "write": ("write_bytes", "write_text_lines", "open_output"),
    "copy": ("copy_file",),
    "list": ("list_files", "list_names", "walk"),
    "ask": ("exists", "type_of", "revision"),
    "delete": ("delete_file", "delete_tree"),
}


class Counts:
    """What was counted.

    Attributes:
      shuffled: Bytes by grouping.
      uses: Calls of storage by what they do, and by the kind of the file: the first word of its name.
      written: Bytes of the files that were written at once, by kind.
    """

    def __init__(self) -> None:
        self.shuffled: collections.Counter[str] = collections.Counter()
        self.uses: collections.Counter[str] = collections.Counter()
        self.written: collections.Counter[str] = collections.Counter()
        self._within = threading.local()

    def watch_shuffles(self) -> None:
        """Counts what Beam's local engine groups from now on."""
        get_buffer = execution.BundleContextManager.get_buffer
        append = execution.GroupingBuffer.append

        def named(context: Any, buffer_id: bytes, transform_id: str) -> Any:
            buffer = get_buffer(context, buffer_id, transform_id)
            if isinstance(buffer, execution.GroupingBuffer):
                buffer.celebface_name = execution.split_buffer_id(buffer_id)[1]
            return buffer

        def counted(buffer: Any, data: bytes) -> None:
            self.shuffled[getattr(buffer, "celebface_name", "?")] += len(data)
            append(buffer, data)

        execution.BundleContextManager.get_buffer = named
        execution.GroupingBuffer.append = counted

    def watch_storage(self) -> None:
        """Counts the uses of storage from now on."""
        for use, names in _USES.items():
            for name in names:
                setattr(storage, name, self._counted(use, getattr(storage, name)))

    def _counted(self, use: str, function: Callable) -> Callable:
        @functools.wraps(function)
        def call(uri: str, *arguments: Any, **named: Any) -> Any:
            if getattr(self._within, "call", False):
                return function(uri, *arguments, **named)
            kind = posixpath.basename(uri).split("-")[0].split(".")[0]
            self.uses[f"{use} {kind}" if use in ("read", "write") else use] += 1
            if function.__name__ == "write_bytes":
                self.written[kind] += len(arguments[0])
            self._within.call = True
            try:
                return function(uri, *arguments, **named)
            finally:
                self._within.call = False

        return call


def peak_bytes(process: int | str = "self") -> int:
    """Most memory that a process had so far; unlike getrusage's, not that of the process that started it."""
    status = pathlib.Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def processor_seconds() -> float:
    """What this process took so far, and those of its children that have ended, user and system."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main(argv: Sequence[str]) -> int:
    """Runs a command and writes what it cost."""
    target, *command = argv
    counts = Counts()
    counts.watch_shuffles()
    counts.watch_storage()
    status = cli.main(command)
    peaks = [peak_bytes(), *(peak_bytes(child.pid) for child in isolated_reader._idle if not child.is_dead)]
    isolated_reader.end_idle()  # else its time is not ours yet
    found = {
        "shuffled": dict(counts.shuffled),
        "uses": dict(counts.uses),
        "written": dict(counts.written),
        "processor_seconds": processor_seconds(),
        "peak_bytes": sum(peaks),
    }
    pathlib.Path(target).write_text(json.dumps(found), encoding="ascii")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
