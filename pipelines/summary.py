"""What a person reads when a run has ended."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from celebface.indexing.schemas import Flag, Kind, Status
from celebface.pipelines.execution import RunReport
from celebface.pipelines.report import AuditCounts, LedgerCounts
from celebface.pipelines.terminal import console, counted, error_console
from celebface.pipelines.text import plain
from celebface.transforms.metrics import KEPT, TAKEN_OVER

__all__ = ["console", "counted", "error_console", "people_table", "print_audit", "print_counts", "print_index"]

_SHOWN = 30  # people listed


def print_counts(out: Console, report: RunReport, ledger: LedgerCounts) -> None:
    """Items by how they ended, and where the time went."""
    for kind in (Kind.PAGE, Kind.NAME, Kind.PHOTO):
        statuses = ledger.kinds.get(kind, {})
        if not statuses and kind != Kind.PHOTO:
            continue
        found = f"with faces ({counted(ledger.faces, 'face')})" if kind == Kind.PHOTO else "done"
        parts = [f"{statuses.get(Status.DONE, 0)} {found}"]
        parts += [f"{statuses[name]} {name}" for name in (Status.REJECTED, Status.SKIPPED) if name in statuses]
        out.print(f"{counted(sum(statuses.values()), kind)}: {', '.join(parts)}", markup=False)
    for reason, count in sorted(ledger.reasons.items(), key=lambda entry: (-entry[1], entry[0])):
        out.print(f"  {count:>7} {reason}", markup=False)
    if ledger.flags.get(Flag.TWO_NAMES):
        out.print(
            f"  {ledger.flags[Flag.TWO_NAMES]:>7} are given for several people, or nearly the same photo is",
            markup=False,
        )
    if taken_over := sum(stage.noted.get(TAKEN_OVER, 0) for stage in report.stages.values()):
        out.print(f"{counted(taken_over, 'photo')} taken over from an earlier run", markup=False)
    if kept := sum(stage.noted.get(KEPT, 0) for stage in report.stages.values()):
        out.print(f"{counted(kept, 'photo')} kept that the sources do not name", markup=False)
    out.print(f"pipeline {report.wall_seconds:.1f} s ({_times(report)})", markup=False)


def print_audit(out: Console, found: AuditCounts) -> None:
    """What the audit did, and what it leaves to people to decide."""
    parts = []
    for what, counts in (("quarantined", found.quarantined), ("in doubt", found.reported)):
        if counts:
            each = ", ".join(f"{count} {finding}" for finding, count in sorted(counts.items()))
            parts.append(f"{sum(counts.values())} {what}: {each}")
    if found.close_pairs:
        parts.append(f"{counted(found.close_pairs, 'pair')} of people too close to tell apart")
    out.print(f"audit: {'; '.join(parts) or 'nothing found'}", markup=False)


def _times(report: RunReport) -> str:
    spent = {work: seconds for stage in report.stages.values() for work, seconds in stage.seconds.items()}
    parts = [f"{work} {seconds:.1f}" for work, seconds in spent.items() if seconds >= 0.05]
    processes = f"{report.workers} process{'es' if report.workers > 1 else ''}" if report.workers else report.runner
    return ", ".join([processes, *parts])


def print_index(out: Console, index: Mapping[str, Any]) -> None:
    """How good an index is, by its entry in the manifest, and what else was tried."""
    measured = [row for row in index["measured"] if "left_out" not in row]
    if len(measured) > 1:
        out.print(_measured_table(measured))
    for row in index["measured"]:
        if "left_out" in row:
            out.print(f"index {row['kind']} was left out: {row['left_out']}", markup=False)
    parts = f" in {index['parts']} parts" if index["parts"] > 1 else ""
    recalls = f"recall@1 {index['recall_at_1']:.4f}, recall@10 {index['recall_at_10']:.4f}"
    out.print(f"index {index['kind']}{parts}, {recalls}, p99 {index['p99_ms']:.3g} ms", markup=False)


def _measured_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("index")
    for name in ("effort", "recall@1", "recall@10", "p50 ms", "p99 ms", "128 at once", "1000 at once", "MB", "build s"):
        table.add_column(name, justify="right")
    for row in rows:
        rates = [f"{row['queries_per_second'][size]:.0f}/s" for size in ("128", "1000")]
        recalls = [f"{row[name]:.4f}" for name in ("recall_at_1", "recall_at_10")]
        times = [f"{row[name]:.3g}" for name in ("p50_ms", "p99_ms")]
        effort = str(row["effort"]) if row["searched"] == "by index" else "in full"
        table.add_row(
            row["kind"], effort, *recalls, *times, *rates, f"{row['bytes'] / 1e6:.1f}", f"{row['build_seconds']:.1f}"
        )
    return table


def people_table(people: Mapping[str, int]) -> Table:
    """Faces by person, for so many people as a person reads."""
    table = Table("person", "faces", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name in list(people)[:_SHOWN]:
        table.add_row(Text(plain(name), no_wrap=True), str(people[name]))
    if len(people) > _SHOWN:
        table.add_row(f"... and {counted(len(people) - _SHOWN, 'person', 'people')} more", "")
    return table
