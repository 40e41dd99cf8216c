"""celebface build-gallery: photos of known people to a published gallery."""

import argparse
import collections
import dataclasses
import json
import posixpath
from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from celebface.indexing import publish, schemas, storage, tombstones, versions
from celebface.indexing.calibration import NAME as CALIBRATION_NAME
from celebface.indexing.calibration import Calibration, Unstated
from celebface.indexing.index import BrokenIndex
from celebface.indexing.kinds import IndexRequest
from celebface.indexing.manifest import BadBundle, Manifest
from celebface.indexing.recall import RecallTooLow
from celebface.indexing.tombstones import TakenDown, Tombstones
from celebface.models.encoder_card import BadEncoder, EncoderCard
from celebface.models.faces import QualityGate, ReaderConfig
from celebface.pipelines import arguments, audit_page, beam_flags, bundle, execution, intake, plan, report, summary
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.bundle import Vectors
from celebface.pipelines.claim import claimed
from celebface.pipelines.intake import Intake, take_in
from celebface.pipelines.report import LedgerCounts
from celebface.pipelines.text import complain, plain
from celebface.transforms.audit import AUDITS
from celebface.transforms.describe import DescribeFaces
from celebface.transforms.detect import DetectFaces
from celebface.transforms.encode import EncodeFaces
from celebface.transforms.encoders import load_card
from celebface.transforms.resume import RETRY, Reuse
from celebface.transforms.shard import NEAR, QUARANTINED, ShardLayout, WriteShards
from celebface.transforms.sources import NoSuchSource
from celebface.transforms.stage import StageOutcomes
from celebface.transforms.web.providers import BadProvider, make_provider

# Stricter than for matching: a bad gallery face is wrong for everybody. The softest face of the sample has sharpness
# 5.6, the softest of LFW dev 5.1; the least certain ones that are right have 0.905 and 0.872.
_GATE = QualityGate(min_face_px=20, min_confidence=0.9, min_sharpness=4.0)

_WHO = ["identity", "identity_id"]

_EXAMPLES = """\
  celebface build-gallery                                       the sample's 5 celebrities
  celebface build-gallery --source people/ --name friends       people/<name>/*.jpg, or people/<name>.jpg
  celebface build-gallery --source people.csv --contact me@example.org --dry_run
  celebface build-gallery --source people.csv --contact me@example.org --reuse latest
  celebface build-gallery --source new/ --reuse latest --add    what the gallery has, and more
  celebface build-gallery --source names.txt --provider wikimedia --contact me@example.org
  celebface build-gallery --source s3://bucket/people/ --runner=FlinkRunner --flink_master=host:8081
"""


@dataclasses.dataclass(frozen=True)
class BuildGalleryConfig:
    """What a build is made of.

    Attributes:
      intake: Where the photos come from.
      gallery: URI <root>/<name>.
      encoder: URI of the encoder.
      precision: Numeric precision.
      reader: How photos are read.
      shards: Number of shards.
      near: Which photos are left out if another of the same person is nearly the same; see `ShardLayout`.
      audit: What is done about photos under the wrong name; likewise.
      max_failed_ratio: Share of rejected photos above which nothing is published.
      index: What is asked of the index.
      dry_run: Only tell what would be asked for.
      based_on: The version that must still be the latest at the end, as what it holds is taken over; else empty.
    """

    intake: Intake
    gallery: str
    encoder: str
    precision: str
    reader: ReaderConfig
    shards: int
    near: str
    audit: str
    max_failed_ratio: float
    index: IndexRequest
    dry_run: bool
    based_on: str

    def as_json(self) -> dict[str, Any]:
        """For run.json and the manifest."""
        return report.as_json(self)


def parse_args(argv: Sequence[str]) -> tuple[BuildGalleryConfig, list[str]]:
    """Reads the command line.

    Returns:
      The configuration, and the flags that are Beam's.

    Raises:
      UsageError: If values do not make sense together.
    """
    parser = Parser("build-gallery", __doc__, _EXAMPLES)
    parser.add_argument(
        "--source",
        action="append",
        metavar="PLACE",
        help="a folder with <person>/*.jpg or <person>.jpg, local, on gs:// or s3://; or a list of photos, pages or "
        "names: CSV, TSV, JSON lines, Parquet, text, plain or gzipped, - for stdin; may be repeated (default: the "
        "sample)",
    )
    parser.add_argument(
        "--provider",
        metavar="NAME",
        help="wikimedia or google: who is asked for photos of people of whom a list has only the name",
    )
    parser.add_argument("--provider_url", default="", metavar="URL", help="another place of the provider")
    parser.add_argument(
        "--provider_language", default="en", metavar="CODE", help="language of the names (default: %(default)s)"
    )
    parser.add_argument(
        "--per_person",
        type=arguments.positive,
        default=20,
        metavar="N",
        help="most photos taken of one search (default: %(default)s)",
    )
    parser.add_argument(
        "--per_page",
        type=arguments.positive,
        default=20,
        metavar="N",
        help="most photos taken of one page (default: %(default)s)",
    )
    parser.add_argument(
        "--reuse",
        metavar="VERSION",
        help="go on from a published version, or from the latest: photos that have not changed are not fetched and "
        "encoded again",
    )
    parser.add_argument(
        "--add",
        action="store_true",
        help="with --reuse: photos of that version which the sources do not name stay in the gallery; they are not "
        "looked at again",
    )
    parser.add_argument(
        "--retry",
        choices=RETRY,
        default="failed",
        help="with --reuse: what is asked of the web besides new photos: those that failed, and whether the others "
        "changed where the server gave an ETag or a date; all; or none (default: %(default)s)",
    )
    parser.add_argument(
        "--near_duplicates",
        choices=NEAR,
        default="web",
        help="which photos are left out if another of the person is nearly the same (default: those from the web)",
    )
    parser.add_argument(
        "--audit",
        choices=AUDITS,
        default="auto",
        help="what is done about photos that seem to be under the wrong name: quarantine keeps them out, report only "
        "tells of them, off does not look (default: quarantine for those from the web, report for files)",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="only tell what would be asked for, by host, with robots.txt heeded"
    )
    parser.add_argument(
        "--sample",
        type=arguments.positive,
        default=0,
        metavar="N",
        help="do N of the items, publish nothing, and tell what all of them will take",
    )
    parser.add_argument(
        "--output_root",
        default="galleries",
        metavar="FOLDER",
        help="where galleries are published (default: %(default)s)",
    )
    parser.add_argument("--name", default="celebrities", help="the gallery's name (default: %(default)s)")
    arguments.add_job_flags(parser, shards=4, max_failed_ratio=0.9)
    arguments.add_encoder_flags(parser)
    arguments.add_cache_flag(parser)
    arguments.add_source_flags(parser)
    arguments.add_web_flags(parser)
    arguments.add_reader_flags(parser, _GATE)
    arguments.add_index_flags(parser)
    args, beam_argv = beam_flags.parse_args(parser, argv)
    if args.add and not args.reuse:
        raise UsageError("--add needs --reuse: the version that is added to, such as latest")
    try:
        gallery = storage.absolute(storage.join(args.output_root, publish.check_name(args.name)))
        storage.resolve(gallery)
        provider = make_provider(args.provider, args.provider_url, args.provider_language) if args.provider else None
        reuse = _reuse(args, gallery) if args.reuse else None
        based_on = _based_on(args.reuse, gallery, reuse) if reuse else ""
    except (ValueError, storage.StorageError, BadProvider, BadBundle) as error:
        raise UsageError(str(error)) from error
    places = args.source or [arguments.sample(args.cache, "train")]
    source = intake.item_source(args, places, gallery, labelled=True, search=provider is not None)
    return BuildGalleryConfig(
        intake=Intake(
            source,
            arguments.fetch_policy(args),
            provider,
            args.per_page,
            args.per_person,
            reuse=reuse,
            sample=args.sample,
            provider_is_ours=bool(args.provider_url),
        ),
        gallery=gallery,
        encoder=arguments.encoder_uri(args),
        precision=arguments.precision(args.precision),
        reader=arguments.reader_config(args, one_face=True),
        shards=args.num_shards,
        near=args.near_duplicates,
        audit=args.audit,
        max_failed_ratio=args.max_failed_ratio,
        index=arguments.index_request(args),
        dry_run=args.dry_run,
        based_on=based_on,
    ), beam_argv


def _reuse(args: argparse.Namespace, gallery: str) -> Reuse | None:
    """The version to go on from; none if there is no latest yet."""
    asked = args.reuse
    if asked == "latest" and not storage.exists(storage.join(gallery, publish.LATEST)):
        return None
    name = gallery if asked == "latest" else storage.join(gallery, publish.check_name(asked))
    if not storage.exists(name):
        raise BadBundle(f"there is no version {asked} of {gallery}")
    keep = args.add and not args.sample  # a sample tells what the new ones will take
    return Reuse(publish.find_version(name), args.retry, keep)


def _based_on(asked: str, gallery: str, reuse: Reuse) -> str:
    """The version reused if it is the latest: one that is published meanwhile is not undone by what follows it."""
    name = posixpath.basename(reuse.version)
    return name if asked == "latest" or name == versions.latest(gallery) else ""


def _check_reuse(config: BuildGalleryConfig, card: EncoderCard, reuse: Reuse) -> None:
    """Refuses a version whose rows this build would not make.

    Raises:
      UsageError: If it was made otherwise.
      BadBundle: If its manifest cannot be read.
    """
    manifest = versions.read_manifest(reuse.version)
    mine = json.loads(json.dumps(config.as_json()))
    for what, theirs, ours in (
        ("encoder", manifest.encoder_id, card.encoder_id),
        ("precision", manifest.precision, config.precision),
        ("set of flags for what is taken for a face", manifest.config.get("reader"), mine["reader"]),
    ):
        if theirs != ours:
            raise UsageError(f"{reuse.version} cannot be reused: it was built with another {what}")
    if not any(name.startswith(f"{QUARANTINED}-") for name in manifest.files):
        raise UsageError(f"{reuse.version} cannot be reused: it was built by an earlier celebface")


def build(
    pipeline: beam.Pipeline, config: BuildGalleryConfig, card: EncoderCard, staging: str, taken_down: Tombstones
) -> None:
    """The way of the data, with the losses beside it."""
    rows = schemas.faces_schema(card.embedding_size)
    layout = ShardLayout(_assembled(staging), "faces", rows, config.shards, "face_id", config.near, config.audit)

    taken = take_in(pipeline, config.intake, staging, rows, config.shards, taken_down)
    faces, lost = taken.photos | "Detect" >> DetectFaces(config.reader, config.precision)
    vectors = faces | "Encode" >> EncodeFaces(config.encoder, config.precision)
    done = vectors | "Describe" >> DescribeFaces(card.encoder_id)

    kept = (*taken.outcomes, lost, done) | "Stage" >> StageOutcomes(staging, rows, config.shards)
    (kept, taken.staged) | "Staged" >> beam.Flatten() | "Shard" >> WriteShards(layout)


def _assembled(staging: str) -> str:
    """Where a version is put together before it is published."""
    return storage.join(staging, "version")


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    config, beam_argv = parse_args(argv)
    try:
        card = load_card(config.encoder)
        if config.intake.reuse:
            _check_reuse(config, card, config.intake.reuse)
        ahead, photos = intake.look_ahead(config.intake, execution.photos_worth_counting())
        config = dataclasses.replace(config, intake=ahead)
        if not config.dry_run:
            bundle.check_place("build-gallery", config.gallery)
        taken_down = tombstones.read(config.gallery)
    except (NoSuchSource, BadEncoder, BadBundle, storage.StorageError) as error:
        raise UsageError(str(error)) from error
    staging = _staging(config, card, taken_down)
    if config.dry_run:
        plan.show_plan(summary.console(), config.intake, beam_argv, staging, taken_down)
        return 0
    with claimed(staging):
        return _run(config, card, taken_down, staging, beam_argv, photos)


def _run(
    config: BuildGalleryConfig,
    card: EncoderCard,
    taken_down: Tombstones,
    staging: str,
    beam_argv: Sequence[str],
    photos: int,
) -> int:
    out = summary.console()
    done = execution.run(
        lambda pipeline: build(pipeline, config, card, staging, taken_down), beam_argv, photos, "build-gallery"
    )
    ledger = report.count_ledger(_assembled(staging))
    report.reconcile(done, ledger, sampled=bool(config.intake.sample))
    if config.intake.sample:
        summary.print_counts(out, done, ledger)
        plan.print_prediction(out, _assembled(staging), config.intake, done, ledger)
        storage.delete_tree(staging)
        return 0
    found = report.count_audit(_assembled(staging))
    report.write_json(
        storage.join(_assembled(staging), report.RUN_NAME),
        {**report.run_report(done, ledger, config.as_json()), "audit": dataclasses.asdict(found)},
    )
    summary.print_counts(out, done, ledger)
    if config.audit != "off":
        summary.print_audit(out, found)
    if why := _fault(config, ledger):
        given_up = _give_up(config, why, staging)
        storage.delete_tree(staging)
        return given_up
    try:
        version, manifest = _publish(config, card, staging, ledger, beam_argv)
    except (RecallTooLow, BrokenIndex) as error:
        return _give_up(config, f"{error}; the same command goes on from here, with other flags of the index", staging)
    except TakenDown as error:
        storage.delete_tree(staging)  # no later run goes on with it: tombstones are part of its name
        complain(f"celebface build-gallery: {error}")
        return 1
    except (publish.Refused, storage.Conflict, storage.StorageError, BadBundle) as error:
        complain(f"celebface build-gallery: {error}")  # what is staged stays, so the same command soon comes to its end
        return 1
    storage.delete_tree(staging)
    out.print(summary.people_table(_people(version)))
    summary.print_index(out, manifest.index)
    out.print(_thresholds(version), markup=False)
    out.print(f"published {plain(version)}", markup=False)
    return 0


def _thresholds(version: str) -> str:
    """The version's threshold as `match` takes it by default, in words."""
    calibration = Calibration.from_json(storage.read_bytes(storage.join(version, CALIBRATION_NAME)))
    try:
        point = calibration.at()
    except Unstated as error:
        return f"no tau: {error}"
    return f"tau {point.tau:.4g}: {point.stated}, {point.recognised}"


def _fault(config: BuildGalleryConfig, ledger: LedgerCounts) -> str:
    """Why a run is not to be published; empty if nothing is against it."""
    if not ledger.faces and ledger.quarantined:
        return "the audit keeps every photo with a face out; --audit report leaves them in"
    if not ledger.faces:
        return "no photo gave a face"
    if ledger.failed_ratio > config.max_failed_ratio:
        failed = f"{ledger.failed_ratio:.0%} of the photos were rejected"
        return f"{failed}, --max_failed_ratio is {config.max_failed_ratio:.0%}"
    return ""


def _staging(config: BuildGalleryConfig, card: EncoderCard, taken_down: Tombstones) -> str:
    decides = [config.intake.decides(), config.reader, config.precision, config.shards, config.near, card.encoder_id]
    decides += [config.audit, taken_down.digest()]
    return report.staging_folder(config.gallery, decides)


def _publish(
    config: BuildGalleryConfig, card: EncoderCard, staging: str, ledger: LedgerCounts, beam_argv: Sequence[str]
) -> tuple[str, Manifest]:
    folder, vectors = _assembled(staging), Vectors(card, config.precision)
    if config.audit != "off":
        audit_page.write_page(folder)
    manifest = bundle.complete(folder, vectors, ledger.counts, config.as_json(), config.index, beam_argv)
    return bundle.publish(folder, config.gallery, manifest, config.index.min_recall, config.based_on), manifest


def _give_up(config: BuildGalleryConfig, why: str, staging: str) -> int:
    """Keeps the ledger where a person finds it, and publishes nothing."""
    kept = storage.join(config.gallery, f"failed-{report.utc_now():%Y%m%dT%H%M%SZ}")
    folder = _assembled(staging)
    for name in storage.list_files(folder):
        if name.startswith("ledger-") or name == report.RUN_NAME:
            storage.copy_file(storage.join(folder, name), storage.join(kept, name))
    complain(f"celebface build-gallery: nothing was published: {why}; the ledger is in {kept}")
    return 1


def _people(version: str) -> dict[str, int]:
    """Faces by person; who shares a name with somebody else is shown with the id."""
    people: collections.Counter[tuple[str, str]] = collections.Counter()
    for shard in report.shards(version, "faces"):
        people.update((row["identity"], row["identity_id"]) for row in report.read_rows(shard, _WHO))
    names = collections.Counter(name for name, _ in people)
    return {
        name if names[name] == 1 else f"{name} ({identity_id})": faces
        for (name, identity_id), faces in sorted(people.items())
    }
