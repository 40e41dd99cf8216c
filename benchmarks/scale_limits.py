"""What breaks first: what does not get faster with more workers, or what one worker must hold."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import scale_model
from benchmarks.face_vectors import FACES_EACH
from benchmarks.scale_costs import WORKER_GB, each, gallery, line_through, power_through
from benchmarks.scale_model import NIGHT_HOURS
from celebface.indexing import build
from celebface.transforms import shard, stage
from celebface.transforms.web.policy import FetchPolicy

_SHARDS = 4  # the default of build-gallery
_LEFT_GB = WORKER_GB - 2.0  # networks take 1.3, the reading process 0.7: ARCHITECTURE.md


@dataclasses.dataclass(frozen=True)
class Limit:
    """Something that does not get faster with more workers, or that one worker must hold.

    Attributes:
      name: What.
      unit: "h" of one worker or of the driver, "GB" of its memory, or "GB disk".
      of: How much of it so many photos or faces take.
      bound: What can be had.
      moves: What moves the limit.
    """

    name: str
    unit: str
    of: Callable[[float], float]
    bound: float
    moves: str

    def reached(self) -> float:
        """So many photos or faces reach the bound; infinite if none do."""
        low, high = 1.0, 1e13
        if self.of(high) < self.bound:
            return math.inf
        for _ in range(100):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.of(middle) < self.bound else (low, middle)
        return high


def match_limits(results: Mapping[str, Any]) -> list[Limit]:
    """Of a match job of photos with one face each, by photos."""
    rows = results["match shard"]
    memory, seconds = line_through(rows, "photos", "memory"), line_through(rows, "photos", "seconds")
    ledger, table = line_through(rows, "photos", "ledger_seconds"), line_through(rows, "photos", "csv_seconds")
    listing, driver = (
        line_through(results["listing"], "photos", "listing_seconds"),
        line_through(results["listing"], "photos", "memory"),
    )
    opened = each(results, "match", "lfw")
    night = NIGHT_HOURS

    def amplified(photos: float) -> float:
        return (
            opened.staged
            * photos
            * scale_model.read_parts(photos, 1, stage.ITEMS_PER_PART, photos_per_slice()).rows
            / 1e9
        )

    return [
        Limit("one shard: GB read from a store", "GB read", amplified, 1000, "`--num_shards`, photos / 20,000"),
        Limit("one shard: its worker's memory", "GB", lambda n: memory.at(n) / 1e9, _LEFT_GB, "`--num_shards`"),
        Limit("one shard: its worker's time", "h", lambda n: seconds.at(n) / 3600, night, "`--num_shards`"),
        Limit(
            "references in a local run's driver",
            "GB",
            lambda n: driver.at(n) / 1e9,
            WORKER_GB,
            "another engine than the local",
        ),
        Limit(
            "all photos on one host, at 8 a second",
            "h",
            lambda n: n / FetchPolicy().host_rate / 3600,
            night,
            "`--host_rate`, if the host agrees; `--host_workers`",
        ),
        Limit("`matches.csv`, written by the driver", "h", lambda n: table.at(n) / 3600, night, "nothing today"),
        Limit("the ledger, counted by the driver", "h", lambda n: ledger.at(n) / 3600, night, "nothing today"),
        Limit("listing, by one worker", "h", lambda n: listing.at(n) / 3600, night, "several jobs, a folder each"),
    ]


def photos_per_slice() -> float:
    """Photos with one face that a shard has in hand at a time."""
    return shard._IN_HAND / 2


def gallery_limits(results: Mapping[str, Any]) -> list[Limit]:
    """Of a gallery of ten faces a person, by faces; all with the flags' defaults where nothing else is said."""
    costs = gallery(results)
    rows, night = results["gallery shard"], NIGHT_HOURS
    memory, seconds = line_through(rows, "faces", "memory"), line_through(rows, "faces", "seconds")
    counted = line_through(rows, "faces", "count_memory")
    near = power_through(results["near duplicates"], "photos", "seconds")
    people = line_through(results["audit"], "people", "memory")
    shards, per_part = _SHARDS, build._FACES_PER_PART

    def part(faces: float) -> float:
        return max(min(faces, per_part), faces / shards)

    return [
        Limit(
            "one of 4 shards: its worker's memory",
            "GB",
            lambda n: memory.at(n / shards) / 1e9,
            _LEFT_GB,
            "`--num_shards`, faces / 50,000",
        ),
        Limit(
            "one of 4 shards: its worker's time", "h", lambda n: seconds.at(n / shards) / 3600, night, "`--num_shards`"
        ),
        Limit(
            "photos of one person, looked through for near-duplicates",
            "h",
            lambda n: near.at(n) / 3600,
            night,
            "`--near_duplicates none`",
        ),
        Limit(
            "a part of an hnsw index, of 4",
            "h",
            lambda n: costs.build["hnsw"].at(part(n)) / 3600,
            night,
            "`--num_shards`: parts are at most as many",
        ),
        Limit(
            "the audit's one worker: time",
            "h",
            lambda n: costs.judged.at(n / FACES_EACH) / 3600,
            night,
            "`--audit off`",
        ),
        Limit(
            "the audit's one worker: memory",
            "GB",
            lambda n: people.at(n / FACES_EACH) / 1e9,
            _LEFT_GB,
            "`--audit off`",
        ),
        Limit(
            "what is right for recall, in the driver", "h", lambda n: costs.truth.at(n) / 3600, night, "nothing today"
        ),
        Limit(
            "people counted for calibration, in the driver",
            "GB",
            lambda n: counted.at(n) / 1e9,
            WORKER_GB,
            "nothing today",
        ),
        Limit(
            "sha256 of all files, twice, in the driver",
            "h",
            lambda n: 2 * costs.hashed * (costs.shards + costs.files("hnsw")) * n / 3600,
            night,
            "nothing today",
        ),
        Limit(
            "each worker's copy of the index: disk",
            "GB disk",
            lambda n: costs.files("hnsw") * n / 1e9,
            100,
            "several galleries, each asked",
        ),
        Limit(
            "each worker's check of its copy when it starts",
            "h",
            lambda n: costs.hashed * costs.files("hnsw") * n / 3600,
            0.25,
            "several galleries, each asked",
        ),
        Limit(
            "a worker's memory for who is on which face",
            "GB",
            lambda n: costs.opened.at(n) / 1e9,
            _LEFT_GB,
            "several galleries, each asked",
        ),
    ]
