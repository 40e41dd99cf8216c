"""The results of a match job: the folder they are handed over to, the CSV, and what a person reads on the terminal."""

import collections
import csv
import heapq
import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from celebface.indexing import schemas, storage
from celebface.indexing.calibration import Verdict
from celebface.pipelines import album_report, report
from celebface.pipelines.summary import counted
from celebface.pipelines.text import cell, plain

_CSV_NAME, _BY_PERSON_NAME = "matches.csv", "by_person.parquet"
_SHOWN = 30  # faces listed on the terminal

# What a match job writes, and what one that was killed left half written.
_TABLES = (schemas.MATCH_TABLE, "ledger", *schemas.BESIDE_MATCHES)
_RESULT = re.compile(
    rf"({'|'.join(map(re.escape, (_CSV_NAME, _BY_PERSON_NAME, report.RUN_NAME)))}"
    rf"|({'|'.join(_TABLES)})-\d{{5,}}-of-\d{{5,}}\.parquet)(\.[0-9a-f]{{8}}\.tmp)?"
)
_PARTS_FOLDER = re.compile(rf"{re.escape(report.STAGING_PREFIX)}[0-9a-f]{{12}}")


def foreign_file(output: str) -> str | None:
    """A file in a folder that no match job wrote, if there is one."""
    names = (name for name in storage.list_names(output) if not name.startswith(report.STAGING_PREFIX))
    return next((name for name in names if not _RESULT.fullmatch(name) and not _is_report(output, name)), None)


def _is_report(output: str, name: str) -> bool:
    return name == album_report.FOLDER and album_report.is_report(storage.join(output, name))


def hand_over(assembled: str, output: str, run: Mapping[str, Any], ledger_only: bool, by_person: bool) -> None:
    """Replaces the results in a folder; run.json goes first and comes last, so half a set has none.

    Args:
      assembled: Folder with the shards.
      output: Where they go.
      run: Contents of run.json.
      ledger_only: Leave all else out.
      by_person: Also list the photos by person.
    """
    for name in sorted(storage.list_names(output), key=lambda name: name != report.RUN_NAME):
        if _RESULT.fullmatch(name):
            storage.delete_file(storage.join(output, name))
        elif _is_report(output, name):
            storage.delete_tree(storage.join(output, name))
    for name in storage.list_names(assembled):
        if name.endswith(".parquet") and (not ledger_only or name.startswith("ledger-")):
            storage.copy_file(storage.join(assembled, name), storage.join(output, name))
            storage.delete_file(storage.join(assembled, name))  # pictures take their room
    if not ledger_only:
        storage.write_text_lines(storage.join(output, _CSV_NAME), _csv_lines(output))
        if by_person:
            _write_by_person(output)
    report.write_json(storage.join(output, report.RUN_NAME), run)


def delete_parts(output: str) -> None:
    """Deletes what runs keep until they have ended, also that of runs that were killed: it holds users' photos."""
    for name in storage.list_names(output):
        if _PARTS_FOLDER.fullmatch(name):
            storage.delete_tree(storage.join(output, name))


def _write_by_person(output: str) -> None:
    """Writes the faces' nearest people, each person's together, those most alike first."""
    nearest = []
    for shard in report.shards(output, schemas.MATCH_TABLE):
        with storage.open_input(shard) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=[*schemas.BY_PERSON.names, "rank"]):
                nearest.append(batch.filter(pc.equal(batch["rank"], 1)).select(schemas.BY_PERSON.names))
    order = [(name, "ascending") for name in ("identity_id", "distance", "photo_uri", "face_id")]
    with storage.open_output(storage.join(output, _BY_PERSON_NAME)) as stream:
        pq.write_table(pa.Table.from_batches(nearest, schemas.BY_PERSON).sort_by(order), stream, compression="zstd")


def _csv_lines(folder: str) -> Iterator[str]:
    """All matches by photo, as lines of CSV; the box is spread over four columns."""
    first, second, *others = (name for name in schemas.MATCHES.names if name != "box")
    header = [first, second, "x0", "y0", "x1", "y1", *others]
    yield _csv_line(header)
    shards = [report.read_rows(shard) for shard in report.shards(folder, schemas.MATCH_TABLE)]
    for row in heapq.merge(*shards, key=lambda row: row["photo_uri"]):
        row.update(zip(("x0", "y0", "x1", "y1"), row.pop("box"), strict=True))
        yield _csv_line([_csv_value(row[name]) for name in header])


def _csv_line(values: Sequence[Any]) -> str:
    """Text is quoted: some spreadsheets cut a line at semicolons, too."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerow(values)
    return buffer.getvalue()


def _csv_value(value: Any) -> Any:
    """Floats have the digits of a float32; text is harmless on a terminal and in a spreadsheet."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return cell(value) if isinstance(value, str) else value


class _Tally:
    """What the summary says, gathered row by row."""

    def __init__(self, people: Sequence[str]):
        self._people = set(people)
        self.faces = self.labelled = self.right = 0
        self.verdicts: collections.Counter[str] = collections.Counter()
        self._nearest: list[tuple[float, int, dict[str, Any]]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Takes a face's nearest person."""
        self.faces += 1
        self.verdicts[row["verdict"]] += 1
        label = os.path.basename(os.path.dirname(row["photo_uri"]))
        self.labelled += label in self._people
        self.right += label in self._people and label == row["identity"]
        entry = (-row["distance"], -self.faces, row)  # a heap of the nearest, the farthest of them on top
        if len(self._nearest) < _SHOWN:
            heapq.heappush(self._nearest, entry)
        else:
            heapq.heappushpop(self._nearest, entry)

    @property
    def nearest(self) -> list[dict[str, Any]]:
        """The rows most alike, nearest first."""
        return [row for *_, row in sorted(self._nearest, reverse=True, key=lambda entry: entry[:2])]


def print_matches(out: Console, output: str, people: Sequence[str], threshold: str) -> None:
    """Whom the faces look like, most alike first.

    Args:
      out: Where to.
      output: The results.
      people: The gallery's people.
      threshold: The threshold of the verdicts, and what it stands for.
    """
    tally = _Tally(people)
    for shard in report.shards(output, schemas.MATCH_TABLE):
        for row in report.read_rows(shard):
            if row["rank"] == 1:
                tally.add(row)
    if tally.faces:
        out.print(_table(tally.nearest))
    if tally.faces > _SHOWN:
        out.print(f"... and {tally.faces - _SHOWN} more faces, less alike", markup=False)
    counts = ", ".join(f"{tally.verdicts[kind]} {kind}" for kind in Verdict)
    against = f"{counted(tally.faces, 'face')} against {counted(len(people), 'person', 'people')}"
    out.print(f"{against} at {threshold}: {counts}", markup=False)
    if tally.labelled:
        shown = f"{tally.right} of {tally.labelled} faces have the person their folder names at rank 1"
        out.print(shown, markup=False)
    out.print(f"results in {plain(output)}", markup=False)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("photo", "looks like", "alike", "D", "margin", "verdict", box=None, pad_edge=False)
    for column in table.columns[2:5]:
        column.justify = "right"
    for row in rows:
        photo = os.sep.join(row["photo_uri"].split(os.sep)[-2:])
        names = (Text(plain(name), no_wrap=True) for name in (photo, row["identity"]))
        margin = "" if row["margin"] is None else f"{row['margin']:.2f}"
        alike = f"{math.floor(row['similarity'])} %"  # nothing is quite sure
        table.add_row(*names, alike, f"{row['distance']:.2f}", margin, row["verdict"])
    return table
