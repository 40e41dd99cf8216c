"""What a person reads of published galleries and their versions."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.filesize import decimal as size
from rich.table import Table
from rich.text import Text

from celebface.indexing.difference import Difference
from celebface.indexing.upkeep import Doomed
from celebface.indexing.versions import Version
from celebface.pipelines.summary import counted
from celebface.pipelines.text import plain

__all__ = ["as_json", "description", "doomed", "list_versions", "listing", "print_difference", "size"]

_SHOWN = 20  # people, and settings, listed of each kind


def listing() -> Table:
    """The table that `list_versions` fills."""
    table = Table("gallery", "version", "created", "people", "faces", "index", "recall@10", "size", "", box=None)
    for column in (3, 4, 6, 7):
        table.columns[column].justify = "right"
    return table


def list_versions(table: Table, gallery: str, versions: Sequence[Version], latest: str) -> None:
    """Adds the versions of a gallery, newest first."""
    name = plain(gallery.rpartition("/")[2])
    for version in reversed(versions):
        mark = "latest" if version.name == latest else ""
        manifest = version.manifest
        if manifest is None:
            table.add_row(Text(name), Text(plain(version.name)), "", "", "", "", "", "", Text(plain(version.fault)))
            continue
        table.add_row(
            Text(name),
            Text(plain(version.name)),
            Text(plain(manifest.created.replace("T", " ").removesuffix("+00:00"))),
            _number(manifest.counts.get("identities")),
            _number(manifest.counts.get("faces")),
            Text(plain(str(manifest.index.get("kind", "")))),
            _recall(manifest.index.get("recall_at_10")),
            size(version.size),
            mark,
        )


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def _recall(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float | int) else ""


def description(version: Version, is_latest: bool) -> Table:
    """What a version's manifest says."""
    manifest = version.manifest
    assert manifest  # versions without one are not found
    table = Table(show_header=False, box=None, pad_edge=False)
    rows: list[tuple[str, Any]] = [
        ("version", f"{manifest.version}{', the latest' if is_latest else ''}"),
        ("where", version.uri),
        ("created", manifest.created),
        *((name, f"{count:,}") for name, count in sorted(manifest.counts.items())),
        ("size", f"{size(version.size)} in {counted(len(manifest.files), 'file')}"),
        ("encoder", f"{manifest.encoder.get('name', '')} ({manifest.encoder_id})"),
        ("precision", manifest.precision),
        ("vectors", f"{manifest.dimension} dimensions, {manifest.metric}"),
        *((f"index: {name}", value) for name, value in sorted(manifest.index.items()) if _is_short(value)),
        *((f"built with: {name}", value) for name, value in sorted(manifest.config.items()) if _is_short(value)),
        *((f"code: {name}", value) for name, value in sorted(manifest.code.items())),
    ]
    for name, value in rows:
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        table.add_row(Text(plain(name)), Text(plain(shown)))
    return table


def _is_short(value: Any) -> bool:
    return not isinstance(value, dict | list) and value not in (None, "")


def doomed(found: Iterable[Doomed]) -> Table:
    """What is deleted."""
    table = Table("folder", "what", "files", "size", box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for each in found:
        table.add_row(Text(plain(each.name)), each.what, f"{each.files:,}", size(each.size))
    return table


def print_difference(out: Console, old: Version, new: Version, found: Difference) -> None:
    """What differs between two versions."""
    out.print(plain(f"{old.uri}\n{new.uri}".replace("\n", " -> ")), markup=False)
    for what, names in (("people added", found.people_added), ("people removed", found.people_removed)):
        _print_some(out, what, len(names), names)
    for what, faces in (("faces added", found.faces_added), ("faces removed", found.faces_removed)):
        _print_some(out, what, sum(faces.values()), [f"{name} ({count})" for name, count in faces.items()])
    moved = [f"{before} -> {after} ({count})" for (before, after), count in found.faces_moved.items()]
    _print_some(out, "faces moved", sum(found.faces_moved.values()), moved)
    _print_some(out, "settings", len(found.settings), [f"{name}: {a} -> {b}" for name, a, b in found.settings])


def _print_some(out: Console, what: str, count: int, lines: Sequence[str]) -> None:
    out.print(f"{what}: {count}", markup=False)
    for line in lines[:_SHOWN]:
        out.print(f"  {plain(line)}", markup=False)
    if len(lines) > _SHOWN:
        out.print(f"  ... and {len(lines) - _SHOWN} more", markup=False)


def as_json(old: Version, new: Version, found: Difference) -> dict[str, Any]:
    """A difference for programs."""
    moved = [{"from": a, "to": b, "faces": count} for (a, b), count in found.faces_moved.items()]
    settings = {name: {"old": a, "new": b} for name, a, b in found.settings}
    return {
        "old": old.uri,
        "new": new.uri,
        **dataclasses.asdict(dataclasses.replace(found, faces_moved={}, settings=[])),
        "faces_moved": moved,
        "settings": settings,
    }
