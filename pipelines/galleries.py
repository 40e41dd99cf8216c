"""celebface galleries: published galleries listed, shown, compared, checked, rolled back and cleaned up."""

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import pyarrow as pa
from rich.progress import track

from celebface.indexing import difference, publish, storage, upkeep, versions
from celebface.indexing.gallery import Gallery
from celebface.indexing.manifest import BadBundle
from celebface.indexing.versions import Version
from celebface.pipelines import arguments, gallery_tables
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.summary import console, counted, error_console
from celebface.pipelines.text import complain, plain

_EXAMPLES = """\
  celebface galleries list
  celebface galleries show galleries/celebrities
  celebface galleries diff galleries/celebrities
  celebface galleries rollback galleries/celebrities
  celebface galleries verify galleries/celebrities
  celebface galleries prune galleries/celebrities --keep 3 --dry_run
  celebface galleries remove --help
"""
_GALLERY = "<root>/<name>, local, on gs:// or s3://"
_VERSION = f"{_GALLERY}, or <root>/<name>/<version>"
_HOUR_NS = 3600 * 10**9
_T = TypeVar("_T")


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    parser = Parser("galleries", __doc__, _EXAMPLES)
    parser.add_argument("action", choices=[*_ACTIONS, "remove"], help="each has a --help of its own")
    action = parser.parse_args(argv[:1]).action
    if action == "remove":
        return importlib.import_module("celebface.pipelines.take_down").main(argv[1:])
    try:
        return _ACTIONS[action](argv[1:])
    except (BadBundle, publish.Refused, storage.StorageError) as error:
        raise UsageError(str(error)) from error
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise UsageError(f"a table is damaged or gone: {error}; celebface galleries verify tells which") from error
    except storage.Conflict as error:
        complain(f"celebface galleries {action}: {error}")
        return 1


def _list(argv: Sequence[str]) -> int:
    """Shows the galleries below a root, with their versions."""
    parser = _parser("list", _list, "list", "list --output_root s3://bucket/galleries")
    parser.add_argument(
        "--output_root", default="galleries", metavar="FOLDER", help="where they are (default: %(default)s)"
    )
    root = storage.absolute(parser.parse_args(argv).output_root)
    found = list(versions.galleries(root))
    if not found:
        raise UsageError(f"there are no galleries at {root}; celebface build-gallery makes them")
    table = gallery_tables.listing()
    for gallery in found:
        gallery_tables.list_versions(table, gallery, versions.versions(gallery), versions.latest(gallery))
    console().print(table)
    return 0


def _show(argv: Sequence[str]) -> int:
    """Shows what a version is, and how it was made."""
    parser = _parser("show", _show, "show galleries/celebrities", "show galleries/celebrities --json")
    parser.add_argument("gallery", help=_VERSION)
    parser.add_argument("--json", action="store_true", help="the manifest as it is")
    args = parser.parse_args(argv)
    version = versions.find(args.gallery)
    out = console()
    if args.json:
        out.print(version.data.decode().rstrip("\n"), markup=False)
        return 0
    is_latest = versions.latest(version.uri.rpartition("/")[0]) == version.name
    out.print(gallery_tables.description(version, is_latest))
    return 0


def _diff(argv: Sequence[str]) -> int:
    """Shows what differs between two versions."""
    parser = _parser("diff", _diff, "diff galleries/celebrities", "diff galleries/celebrities galleries/friends --json")
    parser.add_argument("old", help=f"{_VERSION}; a gallery alone: its last two versions")
    parser.add_argument("new", nargs="?", help=_VERSION)
    parser.add_argument("--json", action="store_true", help="as JSON")
    args = parser.parse_args(argv)
    old, new = (versions.find(args.old), versions.find(args.new)) if args.new else _last_two(args.old)
    assert old.manifest and new.manifest  # they were found
    found = difference.compare(old.uri, old.manifest, new.uri, new.manifest)
    out = console()
    if args.json:
        out.print(json.dumps(gallery_tables.as_json(old, new, found), indent=2), markup=False)
    else:
        gallery_tables.print_difference(out, old, new, found)
    return 0


def _last_two(gallery: str) -> tuple[Version, Version]:
    place, name = versions.split(gallery)
    there = [version for version in versions.versions(place) if version.manifest]
    if name or len(there) < 2:
        what = "one version" if name or there else "no version"
        raise UsageError(f"{gallery} is {what}; name two to compare")
    return there[-2], there[-1]


def _rollback(argv: Sequence[str]) -> int:
    """Makes the version before the latest the latest again, or any other that is whole."""
    parser = _parser(
        "rollback",
        _rollback,
        "rollback galleries/celebrities",
        "rollback galleries/celebrities --to 20261124T061502Z-9f2c41ab",
    )
    parser.add_argument("gallery", help=_GALLERY)
    parser.add_argument("--to", default="", metavar="VERSION", help="a version (default: the one before the latest)")
    args = parser.parse_args(argv)
    gallery = _gallery_alone(args.gallery)
    storage.check_swappable(gallery)
    before, after = upkeep.rollback(gallery, args.to)
    told = f"{after} is the latest version of {gallery}"
    console().print(plain(told if before == after else f"{told}; it was {before or 'none'}"), markup=False)
    return 0


def _prune(argv: Sequence[str]) -> int:
    """Deletes old versions, and what killed and failed builds have left. The latest version always stays."""
    parser = _parser(
        "prune", _prune, "prune galleries/celebrities --keep 3 --dry_run", "prune s3://bucket/galleries/stars"
    )
    parser.add_argument("gallery", help=_GALLERY)
    parser.add_argument(
        "--keep",
        type=arguments.positive,
        default=3,
        metavar="N",
        help="newest versions that stay (default: %(default)s)",
    )
    parser.add_argument(
        "--unfinished_hours",
        type=_hours,
        default=24,
        metavar="H",
        help="what builds have left stays if anything in it is younger (default: %(default)s)",
    )
    parser.add_argument("--dry_run", action="store_true", help="only tell what would be deleted")
    args = parser.parse_args(argv)
    gallery = _gallery_alone(args.gallery)
    found = upkeep.doomed(gallery, args.keep, time.time_ns() - int(args.unfinished_hours * _HOUR_NS))
    out = console()
    gone = [each for each in _with_progress(found, "deleting") if args.dry_run or upkeep.delete(gallery, each)]
    if gone:
        out.print(gallery_tables.doomed(gone))
    freed = gallery_tables.size(sum(each.size for each in gone))
    told = "would be deleted" if args.dry_run else "deleted"
    out.print(plain(f"{counted(len(gone), 'folder')} of {gallery} {told}, {freed}"), markup=False)
    for each in found:
        if each not in gone:
            out.print(f"{plain(each.name)} stays: it was made the latest meanwhile", markup=False)
    return 0


def _verify(argv: Sequence[str]) -> int:
    """Reads every file of a gallery's versions and holds it against its manifest; opens each index."""
    parser = _parser("verify", _verify, "verify galleries/celebrities", "verify s3://bucket/galleries/stars")
    parser.add_argument("gallery", help=f"{_VERSION} (a gallery: all of its versions)")
    args = parser.parse_args(argv)
    gallery, name = versions.split(args.gallery)
    found, checked = [], 0
    for version in _with_progress(versions.versions(gallery), "reading"):
        if not name or version.name == name:
            checked += 1
            found += versions.faults(version) or _index_faults(version)
    if not name:
        try:
            publish.find_version(gallery)
        except BadBundle as error:
            found.append(str(error))
    for fault in found:
        complain(f"celebface galleries verify: {fault}")
    out = console()
    told = f"{counted(len(found), 'fault')}" if found else "all as their manifests say"
    out.print(plain(f"{counted(checked, 'version')} of {gallery} read: {told}"), markup=False)
    return 1 if found else 0


def _index_faults(version: Version) -> list[str]:
    """Opens a version whose files are whole; an index that does not find its own vectors is refused there."""
    try:
        Gallery.open(version.uri)
    except BadBundle as error:
        return [str(error)]
    return []


def _with_progress(things: Sequence[_T], doing: str) -> Iterable[_T]:
    return track(things, doing, console=error_console(), transient=True)


def _gallery_alone(text: str) -> str:
    gallery, name = versions.split(text)
    if name:
        raise UsageError(f"{text} is a version; name its gallery, {gallery}")
    return gallery


def _hours(text: str) -> float:
    value = float(text)
    if not 0 <= value < 10**6:
        raise argparse.ArgumentTypeError(f"hours are wanted, not {text}")
    return value


def _parser(name: str, action: Callable[[Sequence[str]], int], *examples: str) -> Parser:
    lines = "".join(f"  celebface galleries {example}\n" for example in examples)
    return Parser(f"galleries {name}", action.__doc__ or "", lines)


_ACTIONS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": _list,
    "show": _show,
    "diff": _diff,
    "rollback": _rollback,
    "prune": _prune,
    "verify": _verify,
}
