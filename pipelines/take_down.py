"""celebface galleries remove: takes people, photos or faces out of a gallery, for good."""

import dataclasses
import json
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console

from celebface.indexing import publish, removal, storage, tombstones, traces, upkeep, versions
from celebface.indexing.gallery import Gallery
from celebface.indexing.index import BrokenIndex
from celebface.indexing.kinds import IndexRequest
from celebface.indexing.manifest import NAME as MANIFEST_NAME
from celebface.indexing.manifest import BadBundle, Manifest
from celebface.indexing.recall import RecallTooLow
from celebface.indexing.removal import Found
from celebface.indexing.searcher import Searcher
from celebface.indexing.tombstones import Tombstones
from celebface.indexing.upkeep import Holder
from celebface.models.encoder_card import BadEncoder, EncoderCard
from celebface.pipelines import audit_page, bundle, report, summary
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.bundle import Vectors
from celebface.pipelines.proof import StillFound, print_proof, prove, prove_again
from celebface.pipelines.selection import ID, Asked, People, resolve
from celebface.pipelines.summary import counted
from celebface.pipelines.text import complain, plain

_EXAMPLES = """\
  celebface galleries remove galleries/celebrities --identity "Elton John" --dry_run
  celebface galleries remove galleries/celebrities --identity "Elton John" --proof proof.json
  celebface galleries remove galleries/celebrities --uri https://example.org/a.jpg --face 0123456789abcdef
  celebface galleries remove galleries/celebrities --identity "Jane Doe" --tombstone_only
  celebface galleries remove galleries/celebrities --identity "Elton John" --prune
"""
_FAILURES = (
    StillFound, BadBundle, BadEncoder, BrokenIndex, RecallTooLow, publish.Refused, storage.Conflict,
    storage.StorageError, pa.ArrowInvalid, FileNotFoundError,
)  # fmt: skip
_SETTLED_NS = 24 * 3600 * 10**9  # what builds have left is theirs as long as they may write to it


@dataclasses.dataclass(frozen=True)
class RemoveConfig:
    """What is to be taken down.

    Attributes:
      gallery: URI <root>/<name>.
      identities: Names, aliases, external ids or identity ids.
      uris: Places of photos.
      faces: Face ids.
      dry_run: Only tell what would go.
      tombstone_only: Only keep them out of later builds.
      prune: Delete older versions that hold them.
      proof: File that the proof is written to; empty for none.
    """

    gallery: str
    identities: tuple[str, ...]
    uris: tuple[str, ...]
    faces: tuple[str, ...]
    dry_run: bool
    tombstone_only: bool
    prune: bool
    proof: str


def parse_args(argv: Sequence[str]) -> RemoveConfig:
    """Reads the command line.

    Raises:
      UsageError: If values do not make sense together.
    """
    parser = Parser("galleries remove", __doc__, _EXAMPLES)
    parser.add_argument("gallery", metavar="GALLERY", help="<root>/<name>")
    parser.add_argument(
        "--identity",
        action="append",
        default=[],
        metavar="WHO",
        help="a person: name, alias, external id or identity_id; may be repeated",
    )
    parser.add_argument(
        "--uri", action="append", default=[], metavar="PLACE", help="a photo, wherever else it lies; may be repeated"
    )
    parser.add_argument("--face", action="append", default=[], metavar="ID", help="a face_id; may be repeated")
    parser.add_argument("--dry_run", action="store_true", help="only tell what would go; nothing is written")
    parser.add_argument(
        "--tombstone_only",
        action="store_true",
        help="publish nothing, only keep them out of all later builds, whether or not the gallery has them",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="delete the older versions, failed and unfinished runs that hold them; what was written to in the last 24 "
        "hours by an unfinished one stays",
    )
    parser.add_argument("--proof", default="", metavar="FILE", help="write the proof as JSON; it names nobody")
    args = parser.parse_args(argv)
    if not all(text.strip() for text in (*args.identity, *args.uri)):
        raise UsageError("an empty name or place is nobody's")
    if not (args.identity or args.uri or args.face):
        raise UsageError("say what is to be removed: --identity, --uri or --face")
    if args.tombstone_only and (args.prune or args.proof):
        raise UsageError("--tombstone_only takes nothing out, so there is nothing to prune or to prove")
    wrong = [face for face in args.face if not ID.fullmatch(face)]
    if wrong:
        raise UsageError(f"a face_id has 16 hex digits, not {wrong[0]!r}")
    gallery = storage.absolute(args.gallery).rstrip("/")
    try:
        if storage.exists(storage.join(gallery, MANIFEST_NAME)):
            raise UsageError(f"{args.gallery} is a version, which never changes; name its gallery, <root>/<name>")
    except storage.StorageError as error:
        raise UsageError(str(error)) from error
    return RemoveConfig(
        gallery=gallery,
        identities=tuple(args.identity),
        uris=tuple(args.uri),
        faces=tuple(args.face),
        dry_run=args.dry_run,
        tombstone_only=args.tombstone_only,
        prune=args.prune,
        proof=storage.absolute(args.proof) if args.proof else "",
    )


# --- the command ------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    config = parse_args(argv)
    out, shown = summary.console(), summary.error_console()
    latest = ""
    try:
        published = storage.exists(storage.join(config.gallery, publish.LATEST))
        latest = _latest(config, shown) if published or not config.tombstone_only else latest
        standing = tombstones.read(config.gallery)
        with shown.status("looking who is meant"):
            people = People(latest, config.uris, config.faces)
            asked = resolve(config.identities, config.uris, config.faces, people, standing)
        if asked.unknown and not config.tombstone_only:
            raise UsageError(
                f"{config.gallery} does not have {', '.join(asked.unknown)}; --tombstone_only keeps them out of later "
                "builds all the same"
            )
        with shown.status("looking for it"):
            found = removal.find(latest, standing.adding(asked.keys, "")) if latest else Found()
    except (BadBundle, storage.StorageError) as error:
        raise UsageError(str(error)) from error
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise UsageError(f"a table of {latest} is damaged or gone: {error}") from error
    _print_plan(out, found, asked)
    if config.dry_run:
        out.print("nothing was written", markup=False)
        return 0
    try:
        bundle.check_place("galleries remove", config.gallery)
        taken_down = tombstones.add(config.gallery, asked.keys)
        out.print(f"{counted(len(taken_down), 'tombstone')} in {plain(config.gallery)}/{tombstones.NAME}", markup=False)
        if config.tombstone_only:
            return 0
        if found.rows and not found.staying:
            raise StillFound(
                "a gallery needs one face, and none would be left; no later build brings them back, but to be rid of "
                f"what is there delete the gallery: {config.gallery}"
            )
        with shown.status("making and proving a version without it"):
            proof = _take_out(config, latest, taken_down, found, out) if found.rows else prove_again(latest, found)
        print_proof(out, proof)
        if config.proof:
            report.write_json(config.proof, proof)
        with shown.status("looking through older versions"):
            _older(config, taken_down, out)
    except _FAILURES as error:
        complain(f"celebface galleries remove: {error}")
        return 1
    return 0


def _latest(config: RemoveConfig, shown: Console) -> str:
    """The latest version's URI; all of its files are read, for what is made of it would be sound by its looks.

    Raises:
      BadBundle: If there is none, or it is to be taken over and is not as its manifest says.
    """
    version = versions.find(config.gallery)
    if not config.tombstone_only:
        with shown.status("reading the latest version"):
            found = versions.faults(version)
        if found:
            raise BadBundle(
                f"nothing was taken out: {found[0]}; --tombstone_only keeps them out of later builds all the same"
            )
    return version.uri


def _print_plan(out: Console, found: Found, asked: Asked) -> None:
    faces, rows = (
        counted(len(found.faces), "face"),
        ", ".join(f"{count} {table}" for table, count in found.rows.items()),
    )
    if found.rows:
        out.print(f"{faces} of {counted(len(found.people), 'person', 'people')} to be taken out ({rows})", markup=False)
        for name in sorted(found.names):
            out.print(f"  {plain(name)}", markup=False)
    else:
        out.print("nothing of it is in the latest version", markup=False)
    if asked.under_other_names:
        count = counted(len(asked.under_other_names), "face")
        out.print(f"{count} under another's name: the audit found whom it shows, so it goes, too", markup=False)
    if asked.namesakes:
        out.print(
            f"others bear a name of theirs and stay; if they are the same, remove them too, by --identity "
            f"{' --identity '.join(sorted(asked.namesakes))}",
            markup=False,
        )


# --- the new version --------------------------------------------------------------------------------------------------


def _take_out(config: RemoveConfig, version: str, taken_down: Tombstones, found: Found, out: Console) -> dict[str, Any]:
    """Publishes a version without what was taken down; returns the proof.

    Raises:
      StillFound: If anything of it can still be found.
    """
    old = Manifest.from_json(storage.read_bytes(storage.join(version, MANIFEST_NAME)))
    card = EncoderCard.from_json(json.dumps(old.encoder))
    with tempfile.TemporaryDirectory(prefix="celebface-remove-") as folder:
        # Only tables are taken over. What is made of them, such as the page and the charts, is made anew.
        changed = removal.write_without(version, folder, taken_down, found)
        kept_config, cleaned = traces.scrub(old.config, found.traces())
        ledger = report.count_ledger(folder)
        cleaned += _write_run(version, folder, found, ledger)
        if audit_page.NAME in old.files:
            audit_page.write_page(folder)
        request = IndexRequest(old.index["kind"], _recall_asked(old), parts=old.index["parts"])
        manifest = bundle.complete(folder, Vectors(card, old.precision), ledger.counts, kept_config, request)
        for count, what in ((changed, "of others' rows"), (cleaned, "of run.json and the manifest")):
            if count:
                out.print(f"{counted(count, 'text')} {what} named what goes, and does not any more", markup=False)
        for name in sorted(old.files.keys() - manifest.files.keys()):
            out.print(f"left out: {plain(name)}", markup=False)
        searcher = Searcher.open(folder, manifest.index)
        try:
            prove(folder, searcher, found, {MANIFEST_NAME: manifest.to_json()})
        except StillFound as error:
            raise StillFound(f"{error}; nothing was published") from error
        published = bundle.publish(folder, config.gallery, manifest, request.min_recall, based_on=old.version)
    out.print(f"published {plain(published)}", markup=False)
    return {
        **prove(published, Gallery.open(published), found),
        "version": manifest.version,
        "based_on": old.version,
        "rows": found.rows,
        "tombstones": taken_down.digest(),
    }


def _recall_asked(old: Manifest) -> float:
    return float(old.config.get("index", {}).get("min_recall", IndexRequest().min_recall))


def _write_run(version: str, folder: str, found: Found, ledger: report.LedgerCounts) -> int:
    """Writes the run.json of the run that made the version, with what has become of its items since."""
    old = storage.join(version, report.RUN_NAME)
    body = json.loads(storage.read_bytes(old)) if storage.exists(old) else {}
    run, cleaned = traces.scrub(body, found.traces())
    run["items"] = dataclasses.asdict(ledger)
    if "audit" in run:
        run["audit"] = dataclasses.asdict(report.count_audit(folder))
    run["taken_down"] = {"from": version.rsplit("/", 1)[-1], "rows": found.rows}
    report.write_json(storage.join(folder, report.RUN_NAME), run)
    return cleaned


# --- older versions ---------------------------------------------------------------------------------------------------


def _older(config: RemoveConfig, taken_down: Tombstones, out: Console) -> None:
    """Tells what else in the gallery's folder holds what was taken down, and deletes it if that was asked for."""
    left = []
    for holder in upkeep.holders(config.gallery, taken_down, time.time_ns() - _SETTLED_NS):
        goes = config.prune and holder.settled and not holder.damaged and holder.folder.what != upkeep.FOREIGN
        gone = goes and upkeep.delete(config.gallery, holder.folder)
        done = "deleted" if gone else "still holds" if holder.rows else "may still hold"
        out.print(f"{done} {plain(storage.join(config.gallery, holder.folder.name))} ({_held(holder)})", markup=False)
        if not gone:
            left.append(holder)
    foreign = [holder.folder.name for holder in left if holder.folder.what == upkeep.FOREIGN]
    if foreign:
        out.print(f"no build has made {', '.join(map(plain, foreign))}: what you do not need, delete", markup=False)
    if config.prune and not all(holder.settled for holder in left if holder.folder.name not in foreign):
        out.print(
            "a build may still write to that folder and will publish nothing of it; once it has ended, celebface "
            "galleries prune --unfinished_hours=0 deletes it",
            markup=False,
        )
    if left and not config.prune:
        out.print("celebface galleries prune deletes older versions, or --prune these now", markup=False)


def _held(holder: Holder) -> str:
    if holder.damaged:
        return "a table of it cannot be read"
    if holder.rows:
        return f"{counted(holder.rows, 'row')} of what was taken down"
    return f"{counted(holder.untold, 'photo')} of which nobody knows who is on them"
