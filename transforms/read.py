"""Reads photos' bytes: of files, of objects in a store, and of photos that were fetched from the web."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from celebface.indexing.tombstones import NONE, Tombstones
from celebface.transforms.bundles import at_the_end
from celebface.transforms.files import MAX_BYTES, UnreadableFile, read_file, read_object
from celebface.transforms.metrics import StageMetrics
from celebface.transforms.records import EncodedPhoto, ItemRef, Outcome, rejected
from celebface.transforms.removed import shows_removed, withdrawn
from celebface.transforms.staged import StoredBytes, read_stored

STAGE = "read"
_OBJECTS_AT_ONCE = 16  # of a store; each read waits for the network


@dataclasses.dataclass
class ReadPhotos(beam.PTransform):
    """(ItemRef, StoredBytes | None) to EncodedPhoto, and outcomes of those that cannot be read.

    Attributes:
      max_bytes: Larger files are not read.
      tombstones: What was taken down; photos of that content are lost here.
    """

    max_bytes: int = MAX_BYTES
    tombstones: Tombstones = NONE

    def __post_init__(self) -> None:
        super().__init__()
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes must be positive, not {self.max_bytes}")

    def expand(self, refs: beam.PCollection) -> Any:  # good ones, lost ones
        read = refs | beam.ParDo(_ReadPhotosDoFn(self.max_bytes, self.tombstones)).with_outputs("lost", main="photos")
        return read.photos, read.lost


class _ReadPhotosDoFn(beam.DoFn):
    def __init__(self, max_bytes: int, tombstones: Tombstones):
        self._max_bytes = max_bytes
        self._tombstones = tombstones
        self._metrics = StageMetrics(STAGE)

    def setup(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(_OBJECTS_AT_ONCE, "read")
        self._waiting: collections.deque[concurrent.futures.Future[EncodedPhoto | Outcome]] = collections.deque()

    def process(self, item: tuple[ItemRef, StoredBytes | None]):
        ref, stored = item
        self._metrics.taken()
        start = time.perf_counter()
        result = None
        if stored is None and "://" in ref.uri:
            self._waiting.append(self._pool.submit(self._read, ref, stored))
            if len(self._waiting) >= _OBJECTS_AT_ONCE:
                result = self._waiting.popleft().result()
        else:
            result = self._read(ref, stored)
        self._metrics.spent("read", time.perf_counter() - start)
        if result is not None:
            yield self._sorted(result)

    def finish_bundle(self) -> Iterator[Any]:
        waiting, self._waiting = self._waiting, collections.deque()
        yield from at_the_end(self._sorted(future.result()) for future in waiting)

    def teardown(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, ref: ItemRef, stored: StoredBytes | None) -> EncodedPhoto | Outcome:
        try:
            if stored is not None:
                data = read_stored(stored)
            else:
                read = read_object if "://" in ref.uri else read_file
                data = read(ref.uri, self._max_bytes)
                ref = dataclasses.replace(ref, content_sha256=hashlib.sha256(data).hexdigest())
        except UnreadableFile as fault:
            return rejected(ref, STAGE, fault.reason, str(fault))
        if shows_removed(ref.content_sha256, ref.person.identity_id, self._tombstones):
            return withdrawn(ref, STAGE)
        return EncodedPhoto(ref, data)

    def _sorted(self, result: EncodedPhoto | Outcome) -> Any:
        if isinstance(result, Outcome):
            self._metrics.lost(result.reason)
            return beam.pvalue.TaggedOutput("lost", result)
        self._metrics.passed()
        return result
