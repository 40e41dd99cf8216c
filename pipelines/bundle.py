"""The end of every build: a folder of shards becomes a version with index, thresholds and manifest."""

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from rich.progress import Progress

from celebface.indexing import build, calibrate, calibration, storage
from celebface.indexing import publish as publishing
from celebface.indexing.calibration import Calibration
from celebface.indexing.index import BrokenIndex
from celebface.indexing.kinds import IndexRequest
from celebface.indexing.manifest import Manifest
from celebface.indexing.rates import Tail
from celebface.indexing.searcher import Searcher
from celebface.models.encoder_card import EncoderCard
from celebface.pipelines import charts, report, summary
from celebface.pipelines.index_files import add_index
from celebface.pipelines.text import complain


@dataclasses.dataclass(frozen=True)
class Vectors:
    """What the vectors of a version were made by.

    Attributes:
      card: The encoder's card.
      precision: Numeric precision.
    """

    card: EncoderCard
    precision: str


def check_place(command: str, gallery: str) -> None:
    """Makes sure that a command can publish at a place, before its work is begun; see `publish.check_place`.

    Raises:
      StorageError: If it cannot.
    """
    if not publishing.check_place(gallery):
        complain(
            f"celebface {command}: the store of {gallery} ignores preconditions: of two commands that end together one "
            "may replace the other's version as the latest without a word"
        )


def complete(
    folder: str,
    vectors: Vectors,
    counts: Mapping[str, int],
    config: Mapping[str, Any],
    request: IndexRequest | None = None,
    beam_argv: Sequence[str] = (),
) -> Manifest:
    """Adds index and thresholds to a folder of shards, and describes what is in it.

    Args:
      folder: Where the version is assembled.
      vectors: What its vectors were made by.
      counts: Items, faces, and items by status.
      config: Of the run, for the manifest.
      request: What is asked of the index; nothing in particular if None.
      beam_argv: Beam's flags, for an index in several parts.

    Returns:
      The manifest, which `publish` takes; its version is named by the contents.

    Raises:
      BrokenIndex: If the index fails its self-test, its library is missing, or a shard lacks faces.
      RecallTooLow: If no index meets what is asked for.
    """
    card = vectors.card
    encoder = json.loads(card.to_json())
    with tempfile.TemporaryDirectory(prefix="celebface-index-") as scratch:
        local = scratch if storage.is_stored(folder) else storage.local_path(folder)
        index = add_index(folder if local == scratch else local, local, request or IndexRequest(), beam_argv)
        search = Searcher.open(local, index).nearest_people
        if index["faces"] != counts["faces"]:
            raise BrokenIndex(f"the ledger counts {counts['faces']} faces and the shards have {index['faces']}")
        measured = calibrate.of_gallery(build.face_shards(folder), search, card.encoder_id, tail_of(encoder))
    write_calibration(folder, measured)
    files = {}
    for name in storage.list_files(folder):
        digest, size = storage.checksum(storage.join(folder, name))
        files[name] = {"sha256": digest, "bytes": size}
    created = report.utc_now()
    # With run.json and what was measured of the index: no two runs share a name, nor two indexes of one run's shards.
    contents = json.dumps([[files[name]["sha256"] for name in sorted(files)], index, config])
    return Manifest(
        version=publishing.version_name(created, hashlib.sha256(contents.encode()).hexdigest()),
        created=created.isoformat(),
        encoder_id=card.encoder_id,
        encoder=encoder,
        preprocessing=card.preprocessing,
        precision=vectors.precision,
        dimension=card.embedding_size,
        metric="squared L2 of unit vectors, 0..4",
        counts={**counts, "identities": index["identities"]},
        index=index,
        files=files,
        config=config,
        code=report.versions(),
    )


def tail_of(card: Mapping[str, Any]) -> Tail | None:
    """What an encoder's card, as JSON, says of its distances."""
    return Tail.through(card.get("operating_points", ()), card.get("evidence", ""))


def write_calibration(folder: str, measured: Calibration) -> None:
    """Writes calibration.json and its charts below a folder's index/."""
    storage.write_bytes(storage.join(folder, calibration.NAME), measured.to_json())
    for name, data in zip(calibration.CHARTS, charts.draw(measured), strict=True):
        storage.write_bytes(storage.join(folder, name), data)


def publish(folder: str, gallery: str, manifest: Manifest, min_recall: float, based_on: str = "") -> str:
    """Publishes what `complete` described, and shows how far it is; see `publish.publish`."""
    with Progress(console=summary.error_console(), transient=True) as bar:
        task = bar.add_task("publishing", total=len(manifest.files))
        return publishing.publish(
            folder, gallery, manifest, based_on, min_recall, uploaded=lambda name: bar.advance(task)
        )
