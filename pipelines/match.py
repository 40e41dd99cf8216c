"""celebface match: the faces in photos to the people of a gallery they look like."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from celebface.indexing import schemas, storage
from celebface.indexing.cache import default_cache
from celebface.indexing.calibration import DEFAULT_FALSE_MATCH_RATE, OperatingPoint, Unstated
from celebface.indexing.gallery import Gallery
from celebface.indexing.manifest import BadBundle
from celebface.models.encoder_card import BadEncoder
from celebface.models.faces import ReaderConfig
from celebface.models.weights import encoder_folder
from celebface.pipelines import album_report, arguments, beam_flags, execution, intake, match_results, report, summary
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.claim import claimed
from celebface.pipelines.embedder import PROBE_GATE, encoder_of
from celebface.pipelines.intake import Intake, take_in
from celebface.pipelines.text import complain
from celebface.transforms.detect import DetectFaces
from celebface.transforms.encode import EncodeFaces
from celebface.transforms.match import Kept, MatchFaces
from celebface.transforms.shard import ShardLayout, WriteShards
from celebface.transforms.sources import NoSuchSource, absolute_place
from celebface.transforms.stage import StageOutcomes

_EXAMPLES = """\
  celebface match --sample
  celebface match a.jpg b.jpg folder/
  celebface match folder/ --far 0.001
  celebface match folder/ --report
  celebface match 'album/**/*.jpg' --gallery galleries/celebrities --output album-matches
  celebface match photos.csv s3://bucket/album/ --contact me@example.org
  celebface match folder/ --gallery galleries/celebrities/20261124T061502Z-9f2c41ab --top_k 5
  celebface match folder/ --no_crops --by_person
"""


@dataclasses.dataclass(frozen=True)
class MatchConfig:
    """What a match job is made of.

    Attributes:
      intake: Where the photos come from.
      gallery: As the user named it.
      output: URI of the folder for the results.
      encoder: URI of the encoder; empty for the gallery's.
      default_encoder: URI of the one that is looked for if the gallery's is not where it was.
      cache: Where the files of a gallery in a store are kept on each machine; empty for the usual place.
      precision: Numeric precision; "auto" for the gallery's.
      reader: How photos are read.
      top_k: People listed for each face.
      far: False match rate of strangers whose threshold is taken; None if tau is given.
      tau: Threshold on D in its place; None for the gallery's own.
      kept: What is kept of the photos.
      by_person: Whether the photos that look like a person are listed together.
      shards: Number of shards.
      max_failed_ratio: Share of rejected photos above which the run has failed.
      report: Whether a report to look at is made of the results.
    """

    intake: Intake
    gallery: str
    output: str
    encoder: str
    default_encoder: str
    cache: str
    precision: str
    reader: ReaderConfig
    top_k: int
    far: float | None
    tau: float | None
    kept: Kept
    by_person: bool
    shards: int
    max_failed_ratio: float
    report: bool

    def as_json(self) -> dict[str, Any]:
        """For run.json."""
        return dataclasses.asdict(self)


def parse_args(argv: Sequence[str]) -> tuple[MatchConfig, list[str]]:
    """Reads the command line.

    Returns:
      The configuration, and the flags that are Beam's.

    Raises:
      UsageError: If values do not make sense together.
    """
    parser = Parser("match", __doc__, _EXAMPLES)
    parser.add_argument(
        "photo", nargs="*", help="photos, folders, quoted patterns, URLs, or lists of them; local, on gs:// or s3://"
    )
    parser.add_argument("--photos", action="append", default=[], metavar="PHOTO", help="the same, as a flag")
    parser.add_argument("--sample", action="store_true", help="the sample's photos, 25 of its 5 celebrities")
    parser.add_argument(
        "--gallery",
        default="galleries/celebrities",
        metavar="FOLDER",
        help="<root>/<name>, or <root>/<name>/<version> (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        default="matches",
        metavar="FOLDER",
        help="where results go, in place of earlier ones (default: %(default)s)",
    )
    parser.add_argument(
        "--top_k",
        type=arguments.positive,
        default=5,
        metavar="K",
        help="people listed for each face (default: %(default)s)",
    )
    parser.add_argument(
        "--far",
        type=arguments.rate,
        metavar="X",
        help="share of strangers, whom the gallery does not hold, that may be given a match "
        f"(default: {DEFAULT_FALSE_MATCH_RATE})",
    )
    parser.add_argument(
        "--tau", type=float, metavar="D", help="largest squared distance, 0..4, that is a match, whatever its rate"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help=f"make a folder to look at, {album_report.FOLDER}/ in the results: each face beside its look-alike",
    )
    parser.add_argument("--one_face", action="store_true", help="only the largest, most central face of each photo")
    parser.add_argument("--all_faces", action="store_true", help="all faces of each photo; this is the default")
    parser.add_argument(
        "--by_person",
        action="store_true",
        help="also write by_person.parquet: of each person all photos that look most like them",
    )
    group = parser.add_argument_group("what is kept of your photos, in --output and nowhere else")
    group.add_argument("--no_crops", action="store_true", help="no thumbnails and no crops of faces")
    group.add_argument(
        "--embeddings", action="store_true", help="the faces' vectors, by which people can be recognised"
    )
    group.add_argument("--no_embeddings", action="store_true", help="no vectors; this is the default")
    arguments.add_job_flags(parser, shards=1, max_failed_ratio=1.0)
    arguments.add_encoder_flags(parser)
    arguments.add_cache_flag(parser)
    arguments.add_source_flags(parser)
    arguments.add_web_flags(parser)
    arguments.add_reader_flags(parser, PROBE_GATE)
    args, beam_argv = beam_flags.parse_args(parser, argv)
    if args.one_face and args.all_faces:
        parser.error("--one_face and --all_faces exclude each other")
    if args.embeddings and args.no_embeddings:
        parser.error("--embeddings and --no_embeddings exclude each other")
    if args.tau is not None and args.far is not None:
        parser.error("--far and --tau exclude each other")
    if args.tau is not None and not 0 <= args.tau <= 4:
        parser.error(f"--tau must lie in 0..4, not {args.tau}")
    places = [*args.photo, *args.photos, *([arguments.sample(args.cache, "val")] if args.sample else [])]
    if not places:
        parser.error("name the photos: celebface match PHOTO...")
    try:
        output = storage.absolute(args.output)
        storage.resolve(output)
    except storage.StorageError as error:
        raise UsageError(str(error)) from error
    if output in map(absolute_place, places):
        parser.error(f"{args.output} holds the photos; name another folder with --output")
    return MatchConfig(
        intake=Intake(intake.item_source(args, places, output), arguments.fetch_policy(args)),
        gallery=args.gallery,
        output=output,
        encoder=storage.absolute(args.encoder) if args.encoder else "",
        default_encoder=str(encoder_folder(args.cache)),
        cache="" if args.cache == default_cache() else storage.absolute(str(args.cache)),
        precision=args.precision,
        reader=arguments.reader_config(args, one_face=args.one_face),
        top_k=args.top_k,
        far=args.far if args.far is not None or args.tau is not None else DEFAULT_FALSE_MATCH_RATE,
        tau=args.tau,
        kept=Kept(crops=not args.no_crops, embeddings=args.embeddings),
        by_person=args.by_person,
        shards=args.num_shards,
        max_failed_ratio=args.max_failed_ratio,
        report=args.report,
    ), beam_argv


def build(pipeline: beam.Pipeline, config: MatchConfig, terms: "Terms", staging: str) -> None:
    """The way of the data, with the losses beside it."""
    tables = schemas.MATCH_TABLE, schemas.MATCHES
    layout = ShardLayout(_assembled(staging), *tables, config.shards, beside=schemas.BESIDE_MATCHES)

    taken = take_in(pipeline, config.intake, staging, layout.rows, config.shards)
    faces, lost = taken.photos | "Detect" >> DetectFaces(config.reader, terms.precision, config.kept.crops)
    vectors = faces | "Encode" >> EncodeFaces(terms.encoder, terms.precision)
    done = vectors | "Match" >> MatchFaces(terms.gallery, config.top_k, terms.tau, config.cache, config.kept)

    kept = (*taken.outcomes, lost, done) | "Stage" >> StageOutcomes(staging, layout.rows, config.shards, layout.beside)
    (kept, taken.staged) | "Staged" >> beam.Flatten() | "Shard" >> WriteShards(layout)


@dataclasses.dataclass(frozen=True)
class Terms:
    """What the gallery decides, unless the user did.

    Attributes:
      gallery: URI of the version, pinned for the whole job.
      encoder: URI of the encoder its vectors were made with.
      precision: Numeric precision.
      tau: Threshold on D.
      point: What the gallery states of it; None if the user gave it.
    """

    gallery: str
    encoder: str
    precision: str
    tau: float
    point: OperatingPoint | None

    @property
    def threshold(self) -> str:
        """In words."""
        return f"tau {self.tau:.4g}" + (f", {self.point.stated}" if self.point else "")


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    config, beam_argv = parse_args(argv)
    try:
        gallery = Gallery.open(config.gallery, pathlib.Path(config.cache) if config.cache else None)
        terms = _terms(config, gallery)
        ahead, photos = intake.look_ahead(config.intake, execution.photos_worth_counting())
        config = dataclasses.replace(config, intake=ahead)
        _check_output(config.output)
    except (NoSuchSource, BadBundle, BadEncoder, storage.StorageError) as error:
        raise UsageError(str(error)) from error
    with claimed(config.output):
        return _run(config, gallery, terms, beam_argv, photos)


def _run(config: MatchConfig, gallery: Gallery, terms: Terms, beam_argv: Sequence[str], photos: int) -> int:
    staging = _staging(config, terms)
    done = execution.run(lambda pipeline: build(pipeline, config, terms, staging), beam_argv, photos, "match")
    ledger = report.count_ledger(_assembled(staging))
    report.reconcile(done, ledger)
    broken = ledger.failed_ratio > config.max_failed_ratio
    run = report.run_report(done, ledger, {**config.as_json(), **dataclasses.asdict(terms)})
    match_results.hand_over(_assembled(staging), config.output, run, ledger_only=broken, by_person=config.by_person)
    match_results.delete_parts(config.output)
    out = summary.console()
    if broken:
        summary.print_counts(out, done, ledger)
        complain(
            f"celebface match: {ledger.failed_ratio:.0%} of the photos were rejected, --max_failed_ratio is "
            f"{config.max_failed_ratio:.0%}; only the ledger was written, to {config.output}"
        )
        return 1
    told, failed = _report(config) if config.report else ([], "")  # first: whoever reads the rest may go away
    summary.print_counts(out, done, ledger)
    match_results.print_matches(out, config.output, gallery.identities, terms.threshold)
    out.print(f"kept of the photos: {_in_words(config.kept)}", markup=False)
    album_report.print_lines(out, told)
    if failed:
        complain(
            f"celebface match: {failed}; the results are there, and celebface report {config.output} makes the report"
        )
    return 1 if failed else 0


def _report(config: MatchConfig) -> tuple[list[str], str]:
    """Makes the report: what is to be told of it, or why there is none."""
    try:
        return album_report.make(config.output, storage.join(config.output, album_report.FOLDER)), ""
    except (album_report.NoReport, storage.StorageError) as error:
        return [], str(error)


def _in_words(kept: Kept) -> str:
    crops = "thumbnails and crops of faces (--no_crops keeps none)" if kept.crops else "no thumbnails, no crops"
    return f"{crops}, {'vectors of faces' if kept.embeddings else 'no vectors'}"


def _assembled(staging: str) -> str:
    return storage.join(staging, "results")


def _terms(config: MatchConfig, gallery: Gallery) -> Terms:
    try:
        point = gallery.calibration.at(config.far) if config.far is not None else None
    except Unstated as error:
        raise UsageError(f"{error}; give a threshold with --tau") from error
    tau = point.tau if point else float(config.tau or 0.0)
    precision = gallery.manifest.precision if config.precision == "auto" else config.precision
    encoder = encoder_of(gallery.manifest, config.encoder, config.default_encoder)
    return Terms(gallery.uri, encoder, precision, tau, point)


def _check_output(output: str) -> None:
    """Refuses a folder with files that no match job wrote, lest they be mistaken for results."""
    if storage.type_of(output) == "file":
        raise UsageError(f"{output} is a file; name a folder with --output")
    if foreign := match_results.foreign_file(output):
        raise UsageError(f"{output} holds other files, such as {foreign}; name a new folder with --output")
    storage.check_writable(output)


def _staging(config: MatchConfig, terms: Terms) -> str:
    decides = [config.intake.decides(), config.reader, config.shards, config.top_k, config.kept, terms]
    return report.staging_folder(config.output, decides)
