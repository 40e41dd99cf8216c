"""Which kind of index a gallery gets if nobody says: those that can win are built, measured, and the cheapest kept."""

import pathlib
import time
from typing import Any

from celebface.indexing import recall
from celebface.indexing.kinds import KINDS, IndexRequest, missing, worth_an_index
from celebface.indexing.parts import Parts, files_bytes, index_names, read_vectors, write_index
from celebface.indexing.recall import Trial

# For more faces Annoy is not built, as it would not win: already of 10^5 face-like vectors, on two cores, Annoy answers
# 960 queries a second at recall@1 0.992, and hnsw 12,600 (make bench-index).
_TOO_MANY_FOR_ANNOY = 250_000

_AS_GOOD = 0.9  # of the best: the simpler kind is taken


def choose(folder: str, number: int, parts: int, request: IndexRequest) -> tuple[str, list[dict[str, Any]]]:
    """Builds the kinds of index that can win for the vectors of a part, and keeps the files of the one that does.

    Args:
      folder: Local folder with the part's vectors and labels.
      number: The part.
      parts: How many there are.
      request: What is asked for.

    Returns:
      The kind that answers the most queries a second in batches of 128, of those that meet recall and latency, and of
      those within 10 % of it the simplest; and the table of all kinds, for the manifest.

    Raises:
      RecallTooLow: If no kind meets them.
    """
    faces = len(read_vectors(folder, number, parts))
    if not faces:
        return "exact", []
    table: list[dict[str, Any]] = []
    trial = None
    for name in KINDS:
        if why := _why_not(name, faces):
            table.append({"kind": name, "left_out": why})
            continue
        start = time.perf_counter()
        write_index(folder, name, number, parts)
        seconds = time.perf_counter() - start
        opened = Parts.of_part(folder, name, number, parts)
        trial = trial or Trial.of(opened)
        row = recall.report(opened, name, trial, request, files_bytes(folder, name, [number], parts), seconds)
        if KINDS[name].FILES and not opened.by_index:
            why = f"to look at all {faces} faces is sooner than recall {request.min_recall:g} by it"
            row = {"kind": name, "left_out": why, "build_seconds": row["build_seconds"]}
        table.append(row)
    good = [row for row in table if "left_out" not in row and recall.meets(row, request)]
    chosen = pick(good) if good else ""
    for name in KINDS:
        for file in index_names(name, number, parts) if name != chosen else []:
            pathlib.Path(folder, file).unlink(missing_ok=True)
    if not good:
        raise recall.too_low(table, request)
    return chosen, table


def pick(rows: list[dict[str, Any]]) -> str:
    """The kind to take of rows that meet what was asked for, the simplest first."""
    rates = [row["queries_per_second"]["128"] for row in rows]
    return next(row["kind"] for row, rate in zip(rows, rates, strict=True) if rate >= _AS_GOOD * max(rates))


def _why_not(name: str, faces: int) -> str:
    kind = KINDS[name]
    if kind.FILES and not worth_an_index(kind, faces, kind.FIRST_EFFORT):
        return f"to look at all {faces} faces is sooner"
    if why := missing(name):
        return why
    if name == "annoy" and faces > _TOO_MANY_FOR_ANNOY and not missing("hnsw"):
        return f"of more than {_TOO_MANY_FOR_ANNOY} faces hnsw answers many times sooner"
    return ""
