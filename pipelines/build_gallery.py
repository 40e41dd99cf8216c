"""celebface build-gallery: photos of known people to a published gallery."""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from celebface.indexing import build as index_build
from celebface.indexing import calibration, publish, schemas, storage
from celebface.indexing.calibration import Calibration
from celebface.indexing.manifest import Manifest
from celebface.models.encoder_card import BadEncoder, EncoderCard
from celebface.models.faces import QualityGate, ReaderConfig
from celebface.pipelines import arguments, execution, report, summary
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.report import LedgerCounts
from celebface.pipelines.text import complain, plain
from celebface.transforms.describe import DescribeFaces
from celebface.transforms.detect import DetectFaces
from celebface.transforms.encode import EncodeFaces, load_card
from celebface.transforms.fetch import FetchPhotos, FetchPolicy
from celebface.transforms.shard import ShardLayout, WriteShards
from celebface.transforms.sources import ListPhotos, NoSuchSource, PhotoSource, absolute_place, peek
from celebface.transforms.stage import ResumeStaged, StageOutcomes

# Stricter than for matching: a bad gallery face is wrong for everybody. The softest face of the sample has sharpness
# 5.6, the softest of LFW dev 5.1; the least certain ones that are right have 0.905 and 0.872.
_GATE = QualityGate(min_face_px=20, min_confidence=0.9, min_sharpness=4.0)

_EXAMPLES = """\
  celebface build-gallery                                       the sample's 5 celebrities
  celebface build-gallery --source people/ --name friends       people/<name>/*.jpg
  celebface build-gallery --source people/ --runner FlinkRunner --flink_master localhost:8081
"""


@dataclasses.dataclass(frozen=True)
class BuildGalleryConfig:
    """What a build is made of.

    Attributes:
      source: Labelled photos.
      gallery: URI <root>/<name>.
      encoder: URI of the encoder.
      precision: Numeric precision.
      reader: How photos are read.
      fetch: Bounds on reading files.
      shards: Number of shards.
      max_failed_ratio: Share of rejected photos above which nothing is published.
    """

    source: PhotoSource
    gallery: str
    encoder: str
    precision: str
    reader: ReaderConfig
    fetch: FetchPolicy
    shards: int
    max_failed_ratio: float

    def as_json(self) -> dict[str, Any]:
        """For run.json and the manifest."""
        return dataclasses.asdict(self)


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
        metavar="FOLDER",
        help="photos as FOLDER/<person>/*.jpg; may be repeated (default: the sample)",
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
    arguments.add_reader_flags(parser, _GATE)
    args, beam_argv = execution.parse_args(parser, argv)
    try:
        gallery = storage.absolute(storage.join(args.output_root, publish.check_name(args.name)))
        storage.resolve(gallery)
    except (ValueError, storage.StorageError) as error:
        raise UsageError(str(error)) from error
    places = args.source or [arguments.sample(args.cache, "train")]
    return BuildGalleryConfig(
        source=PhotoSource(tuple(map(absolute_place, places)), labelled=True, excluded=(gallery,)),
        gallery=gallery,
        encoder=arguments.encoder_uri(args),
        precision=arguments.precision(args.precision),
        reader=arguments.reader_config(args, one_face=True),
        fetch=FetchPolicy(),
        shards=args.num_shards,
        max_failed_ratio=args.max_failed_ratio,
    ), beam_argv


def build(pipeline: beam.Pipeline, config: BuildGalleryConfig, card: EncoderCard, staging: str) -> None:
    """The way of the data, with the losses beside it."""
    rows = schemas.faces_schema(card.embedding_size)
    layout = ShardLayout(_assembled(staging), "faces", rows, config.shards, unique="face_id")

    refs, lost_l = pipeline | "Sources" >> beam.Create([config.source]) | "List" >> ListPhotos()
    fresh, staged = refs | "Resume" >> ResumeStaged(staging)
    photos, lost_f = fresh | "Fetch" >> FetchPhotos(config.fetch)
    faces, lost_d = photos | "Detect" >> DetectFaces(config.reader)
    vectors = faces | "Encode" >> EncodeFaces(config.encoder, config.precision)
    done = vectors | "Describe" >> DescribeFaces(card.encoder_id)

    kept = (lost_l, lost_f, lost_d, done) | "Stage" >> StageOutcomes(staging, rows, config.shards)
    (kept, staged) | "Staged" >> beam.Flatten() | "Shard" >> WriteShards(layout)


def _assembled(staging: str) -> str:
    """Where a version is put together before it is published."""
    return storage.join(staging, "version")


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    config, beam_argv = parse_args(argv)
    try:
        card = load_card(config.encoder)
        photos = peek(config.source, execution.photos_worth_counting())
        storage.check_writable(config.gallery)
    except (NoSuchSource, BadEncoder, storage.StorageError) as error:
        raise UsageError(str(error)) from error
    staging = _staging(config, card)
    done = execution.run(lambda pipeline: build(pipeline, config, card, staging), beam_argv, photos, "build-gallery")
    ledger = report.count_ledger(_assembled(staging))
    report.reconcile(done, ledger)
    report.write_json(
        storage.join(_assembled(staging), report.RUN_NAME), report.run_report(done, ledger, config.as_json())
    )
    out = summary.console()
    summary.print_counts(out, done, ledger)
    if ledger.failed_ratio > config.max_failed_ratio or not ledger.faces:
        return _give_up(config, ledger, staging)
    version, manifest = _publish(config, card, staging, ledger)
    storage.delete_tree(staging)
    out.print(summary.people_table(_people(version)))
    out.print(f"index {manifest.index['kind']}, recall@10 {manifest.index['recall_at_10']:.4f}", markup=False)
    out.print(f"published {plain(version)}", markup=False)
    return 0


def _staging(config: BuildGalleryConfig, card: EncoderCard) -> str:
    decides = [config.source, config.reader, config.fetch, config.precision, config.shards, card.encoder_id]
    return report.staging_folder(config.gallery, decides)


def _publish(config: BuildGalleryConfig, card: EncoderCard, staging: str, ledger: LedgerCounts) -> tuple[str, Manifest]:
    folder = _assembled(staging)
    index = index_build.build_index(index_build.face_shards(folder), folder)
    points = [dataclasses.asdict(point) for point in card.operating_points]
    storage.write_bytes(storage.join(folder, calibration.NAME), Calibration.of_encoder(points, card.evidence).to_json())
    files = {}
    for name in storage.list_files(folder):
        digest, size = storage.checksum(storage.join(folder, name))
        files[name] = {"sha256": digest, "bytes": size}
    created = report.utc_now()
    contents = json.dumps([files[name]["sha256"] for name in sorted(files) if name != report.RUN_NAME])
    manifest = Manifest(
        version=publish.version_name(created, hashlib.sha256(contents.encode()).hexdigest()),
        created=created.isoformat(),
        encoder_id=card.encoder_id,
        encoder=json.loads(card.to_json()),
        preprocessing=card.preprocessing,
        precision=config.precision,
        dimension=card.embedding_size,
        metric="squared L2 of unit vectors, 0..4",
        counts={"faces": ledger.faces, "identities": index["identities"], "items": ledger.items, **ledger.statuses},
        index=index,
        files=files,
        config=config.as_json(),
        code=report.versions(),
    )
    return publish.publish(folder, config.gallery, manifest), manifest


def _give_up(config: BuildGalleryConfig, ledger: LedgerCounts, staging: str) -> int:
    """Keeps the ledger where a person finds it, and publishes nothing."""
    kept = storage.join(config.gallery, f"failed-{report.utc_now():%Y%m%dT%H%M%SZ}")
    folder = _assembled(staging)
    for name in storage.list_files(folder):
        if name.startswith("ledger-") or name == report.RUN_NAME:
            storage.copy_file(storage.join(folder, name), storage.join(kept, name))
    storage.delete_tree(staging)
    why = (
        f"{ledger.failed_ratio:.0%} of the photos were rejected, --max_failed_ratio is {config.max_failed_ratio:.0%}"
        if ledger.faces
        else "no photo gave a face"
    )
    complain(f"celebface build-gallery: nothing was published: {why}; the ledger is in {kept}")
    return 1


def _people(version: str) -> dict[str, int]:
    people: collections.Counter[str] = collections.Counter()
    for shard in report.shards(version, "faces"):
        people.update(row["identity"] for row in report.read_rows(shard, ["identity"]))
    return dict(sorted(people.items()))
