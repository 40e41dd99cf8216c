"""What the benchmarks' results have in common: where they are kept, what they are made with, figures beside targets."""

import contextlib
import dataclasses
import datetime
import json
import logging
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

logging.getLogger().addHandler(logging.NullHandler())  # else Beam's greetings are printed

from celebface.pipelines import report  # noqa: E402  # after the handler

FOLDER = pathlib.Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Target:
    """What a figure is to be.

    Attributes:
      limit: The least or the most that is good enough.
      at_least: Whether it is the least.
    """

    limit: float
    at_least: bool

    def holds(self, value: float) -> bool:
        """Whether a figure is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclasses.dataclass(frozen=True)
class Figure:
    """A measured number.

    Attributes:
      name: What it is, in words.
      value: The number.
      show: Writes it, and its target, for people.
      target: What it is to be, if that is known.
    """

    name: str
    value: float
    show: Callable[[float], str] = "{:.2f}".format
    target: Target | None = None

    def cells(self) -> tuple[str, str, str]:
        """The number, its target, and whether it is met."""
        if self.target is None:
            return self.show(self.value), "", ""
        bound = f"{'≥' if self.target.at_least else '≤'} {self.show(self.target.limit)}"
        return self.show(self.value), bound, "yes" if self.target.holds(self.value) else "NO"


def percent(value: float) -> str:
    """A share, for people."""
    return f"{value:.1%}"


def gigabytes(value: float) -> str:
    """Bytes, for people."""
    return f"{value / 2**30:.2f} GB"


def console() -> Console:
    """Where tables are printed."""
    return Console(width=None if sys.stdout.isatty() else 120)  # else they are cut to 80 columns


def show(title: str, figures: Sequence[Figure]) -> None:
    """Prints figures beside their targets."""
    table = Table()
    columns = ("", "measured", "target", "met") if any(figure.target for figure in figures) else ("", "measured")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    for figure in figures:
        table.add_row(figure.name, *figure.cells()[: len(columns) - 1])
    print(f"\n{title}")
    console().print(table)


def as_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """What is stored of figures."""
    return [
        {"name": figure.name, "value": figure.value}
        | ({"target": figure.cells()[1], "met": figure.target.holds(figure.value)} if figure.target else {})
        for figure in figures
    ]


def machine() -> str:
    """Cores and processor."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        processor = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), processor)
    return f"{os.cpu_count()} cores, {processor}"


def store(name: str, results: Mapping[str, Any]) -> None:
    """Keeps a benchmark's results, with the machine, the date and the versions of the libraries."""
    made = {"machine": machine(), "date": datetime.date.today().isoformat(), "versions": report.versions()}
    FOLDER.mkdir(exist_ok=True)
    target = FOLDER / f"{name}.json"
    target.write_text(json.dumps({**results, **made}, indent=2, allow_nan=False) + "\n")
    print(f"stored in {target}")
