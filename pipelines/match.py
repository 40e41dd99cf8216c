"""celebface match: the faces in photos to the people of a gallery they look like."""

import csv
import dataclasses
import heapq
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from rich.console import Console
from rich.table import Table
from rich.text import Text

from celebface.indexing import schemas, storage
from celebface.indexing.calibration import Verdict
from celebface.indexing.gallery import Gallery
from celebface.indexing.manifest import BadBundle
from celebface.models.encoder_card import BadEncoder
from celebface.models.faces import QualityGate, ReaderConfig
from celebface.models.weights import sample_folder
from celebface.pipelines import arguments, execution, report, summary
from celebface.pipelines.arguments import Parser, UsageError
from celebface.transforms.detect import DetectFaces
from celebface.transforms.encode import EncodeFaces, load_card
from celebface.transforms.fetch import FetchPhotos, FetchPolicy
from celebface.transforms.match import MatchFaces
from celebface.transforms.shard import ShardLayout, WriteShards
from celebface.transforms.sources import ListPhotos, NoSuchSource, PhotoSource, peek
from celebface.transforms.stage import ResumeStaged, StageOutcomes

# Looser than a gallery's: a doubtful face gets a doubtful answer, and the reader sees its distance.
_GATE = QualityGate(min_face_px=20, min_confidence=0.8, min_sharpness=1.0)
_CSV_NAME = "matches.csv"
_SHOWN = 30  # faces listed on the terminal

_EXAMPLES = """\
  celebface match a.jpg b.jpg folder/
  celebface match 'album/**/*.jpg' --gallery galleries/celebrities --output album-matches
  celebface match folder/ --gallery galleries/celebrities/20261124T061502Z-9f2c41ab --top_k 5
"""


@dataclasses.dataclass(frozen=True)
class MatchConfig:
    """What a match job is made of.

    Attributes:
      source: The photos.
      gallery: As the user named it.
      output: URI of the folder for the results.
      encoder: URI of the encoder.
      precision: Numeric precision.
      reader: How photos are read.
      fetch: Bounds on reading files.
      top_k: People listed for each face.
      tau: Threshold on D; None for the gallery's own.
      shards: Number of shards.
      max_failed_ratio: Share of rejected photos above which the run has failed.
    """

    source: PhotoSource
    gallery: str
    output: str
    encoder: str
    precision: str
    reader: ReaderConfig
    fetch: FetchPolicy
    top_k: int
    tau: float | None
    shards: int
    max_failed_ratio: float

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
    parser.add_argument("photo", nargs="*", help="photos, folders, or quoted patterns")
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
        "--tau",
        type=float,
        metavar="D",
        help="largest squared distance, 0..4, that is a match (default: the gallery's)",
    )
    parser.add_argument("--one_face", action="store_true", help="only the largest, most central face of each photo")
    parser.add_argument("--all_faces", action="store_true", help="all faces of each photo; this is the default")
    arguments.add_job_flags(parser, shards=1, max_failed_ratio=1.0)
    arguments.add_encoder_flags(parser)
    arguments.add_cache_flag(parser)
    arguments.add_reader_flags(parser, _GATE)
    args, beam_argv = parser.parse_known_args(argv)
    beam_argv += [f"--runner={args.runner}"]
    execution.check_beam_flags(parser, beam_argv)
    if args.one_face and args.all_faces:
        parser.error("--one_face and --all_faces exclude each other")
    if args.tau is not None and not 0 <= args.tau <= 4:
        parser.error(f"--tau must lie in 0..4, not {args.tau}")
    places = [*args.photo, *args.photos, *([str(sample_folder(args.cache, "val"))] if args.sample else [])]
    if not places:
        parser.error("name the photos: celebface match PHOTO...")
    try:
        output = storage.absolute(args.output)
        storage.resolve(output)
    except storage.StorageError as error:
        raise UsageError(str(error)) from error
    return MatchConfig(
        source=PhotoSource(tuple(storage.absolute(place) for place in places)),
        gallery=args.gallery,
        output=output,
        encoder=arguments.encoder_uri(args),
        precision=arguments.precision(args.precision, args.runner),
        reader=arguments.reader_config(args, one_face=args.one_face),
        fetch=FetchPolicy(),
        top_k=args.top_k,
        tau=args.tau,
        shards=args.num_shards,
        max_failed_ratio=args.max_failed_ratio,
    ), beam_argv


def build(pipeline: beam.Pipeline, config: MatchConfig, version: str, tau: float, staging: str) -> None:
    """The way of the data, with the losses beside it."""
    layout = ShardLayout(_assembled(staging), "matches", schemas.MATCHES, config.shards)

    refs, lost_l = pipeline | "Sources" >> beam.Create([config.source]) | "List" >> ListPhotos()
    fresh, staged = refs | "Resume" >> ResumeStaged(staging)
    photos, lost_f = fresh | "Fetch" >> FetchPhotos(config.fetch)
    faces, lost_d = photos | "Detect" >> DetectFaces(config.reader)
    vectors = faces | "Encode" >> EncodeFaces(config.encoder, config.precision)
    done = vectors | "Match" >> MatchFaces(version, config.top_k, tau)

    outcomes = (lost_l, lost_f, lost_d, done) | "Outcomes" >> beam.Flatten()
    kept = outcomes | "Stage" >> StageOutcomes(staging, layout.rows, config.shards)
    (kept, staged) | "Staged" >> beam.Flatten() | "Shard" >> WriteShards(layout)


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    config, beam_argv = parse_args(argv)
    try:
        photos = peek(config.source, execution.photos_worth_counting())
        gallery = Gallery.open(config.gallery)
        card = load_card(config.encoder)
    except (NoSuchSource, BadBundle, BadEncoder, storage.StorageError) as error:
        raise UsageError(str(error)) from error
    _check_encoder(gallery, card.encoder_id)
    _check_output(config.output)
    tau = _tau(config, gallery)
    staging = _staging(config, gallery, tau)
    done = execution.run(
        lambda pipeline: build(pipeline, config, gallery.uri, tau, staging), beam_argv, photos, "match"
    )
    ledger = report.count_ledger(_assembled(staging))
    report.reconcile(done, ledger)
    broken = ledger.failed_ratio > config.max_failed_ratio
    run = report.run_report(done, ledger, {**config.as_json(), "version": gallery.uri, "tau": tau})
    _hand_over(_assembled(staging), config.output, run, ledger_only=broken)
    out = summary.console()
    summary.print_counts(out, done, ledger)
    if broken:
        summary.complain(
            f"celebface match: {ledger.failed_ratio:.0%} of the photos were rejected, --max_failed_ratio is "
            f"{config.max_failed_ratio:.0%}; only the ledger was written, to {config.output}"
        )
        return 1
    _print_matches(out, config, gallery, tau)
    storage.delete_tree(staging)
    return 0


def _assembled(staging: str) -> str:
    return storage.join(staging, "results")


def _check_encoder(gallery: Gallery, encoder_id: str) -> None:
    if gallery.manifest.encoder_id != encoder_id:
        raise UsageError(
            f"the gallery was built with encoder {gallery.manifest.encoder_id}, this one is {encoder_id}: "
            "their vectors cannot be compared; name the gallery's with --encoder"
        )


def _check_output(output: str) -> None:
    """Refuses a folder with files that no match job wrote, lest they be mistaken for results."""
    foreign = [name for name in storage.list_files(output) if not _is_result(name) and not name.startswith(".staging-")]
    if foreign:
        raise UsageError(f"{output} holds other files, such as {foreign[0]}; name a new folder with --output")


def _is_result(name: str) -> bool:
    return name in (_CSV_NAME, report.RUN_NAME) or (
        name.startswith(("matches-", "ledger-")) and name.endswith(".parquet") and "/" not in name
    )


def _tau(config: MatchConfig, gallery: Gallery) -> float:
    if config.tau is not None:
        return config.tau
    if gallery.calibration.tau is None:
        raise UsageError("the gallery states no threshold; give one with --tau")
    return gallery.calibration.tau


def _staging(config: MatchConfig, gallery: Gallery, tau: float) -> str:
    decides = [config.source, config.reader, config.fetch, config.precision, config.shards, config.top_k, tau]
    return storage.join(config.output, f".staging-{report.fingerprint([*decides, gallery.manifest.version])}")


def _hand_over(assembled: str, output: str, run: dict[str, Any], ledger_only: bool) -> None:
    """Replaces the results in the output folder; run.json goes first and comes last, so half a set has none."""
    names = [name for name in storage.list_files(assembled) if not ledger_only or name.startswith("ledger-")]
    for name in [report.RUN_NAME, *storage.list_files(output)]:
        if _is_result(name) and name not in names:
            storage.delete_file(storage.join(output, name))
    for name in names:
        storage.copy_file(storage.join(assembled, name), storage.join(output, name))
    if not ledger_only:
        storage.write_text_lines(storage.join(output, _CSV_NAME), _csv_lines(assembled))
    report.write_json(storage.join(output, report.RUN_NAME), run)


def _csv_lines(folder: str) -> Iterator[str]:
    """All matches by photo, as lines of CSV; lists are spread over columns."""
    columns = [name for name in schemas.MATCHES.names if name != "box"]
    header = [*columns[:2], "x0", "y0", "x1", "y1", *columns[2:]]
    yield _csv_line(header)
    shards = [
        (row for batch in table.to_batches() for row in batch.to_pylist())
        for table in report.read_tables(folder, "matches")
    ]
    for row in heapq.merge(*shards, key=lambda row: row["photo_uri"]):
        box = dict(zip(("x0", "y0", "x1", "y1"), row.pop("box"), strict=True))
        yield _csv_line([_csv_value({**row, **box}[name]) for name in header])


def _csv_line(values: Sequence[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()


def _csv_value(value: Any) -> Any:
    """Floats with the digits a float32 has; text that a spreadsheet would run as a formula gets an apostrophe."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def _print_matches(out: Console, config: MatchConfig, gallery: Gallery, tau: float) -> None:
    table = Table("photo", "looks like", "similarity", "D", "margin", "verdict", box=None, pad_edge=False)
    for column in table.columns[2:5]:
        column.justify = "right"
    verdicts: dict[str, int] = {}
    best: list[dict[str, Any]] = []
    faces = labelled = right = 0
    people = set(gallery.identities)
    for shard in report.read_tables(config.output, "matches"):
        for row in shard.to_pylist():
            if row["rank"] != 1:
                continue
            faces += 1
            verdicts[row["verdict"]] = verdicts.get(row["verdict"], 0) + 1
            label = os.path.basename(os.path.dirname(row["photo_uri"]))
            labelled += label in people
            right += label in people and label == row["identity"]
            best.append(row)
            if len(best) > 4 * _SHOWN:
                best = heapq.nsmallest(_SHOWN, best, key=lambda row: row["distance"])
    for row in heapq.nsmallest(_SHOWN, best, key=lambda row: row["distance"]):
        photo, person = (summary.plain(text) for text in (os.path.basename(row["photo_uri"]), row["identity"]))
        numbers = f"{row['similarity']:.0%}", f"{row['distance']:.2f}", f"{row['margin']:.2f}"
        table.add_row(Text(photo), Text(person), *numbers, row["verdict"])
    if faces:
        out.print(table)
    if faces > _SHOWN:
        out.print(f"... and {faces - _SHOWN} more faces, less alike", markup=False)
    counts = ", ".join(f"{verdicts.get(kind, 0)} {kind}" for kind in Verdict)
    out.print(f"{faces} faces against {len(people)} people at tau {tau:g}: {counts}", markup=False)
    if labelled:
        out.print(f"{right} of {labelled} faces have the person their folder names at rank 1", markup=False)
    out.print(f"results in {config.output}", markup=False)
