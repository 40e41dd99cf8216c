"""Reads photos' bytes."""

import dataclasses
import hashlib
import os
import stat
from typing import Any

import apache_beam as beam

from celebface.indexing.schemas import Reason
from celebface.transforms.metrics import StageMetrics
from celebface.transforms.records import EncodedPhoto, PhotoRef, rejected

STAGE = "fetch"


@dataclasses.dataclass(frozen=True)
class FetchPolicy:
    """Bounds on reading one photo.

    Attributes:
      max_bytes: Larger files are not read.
    """

    max_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes must be positive, not {self.max_bytes}")


class UnreadableFile(Exception):
    """A file cannot be had. `reason` says why, for the ledger."""

    def __init__(self, reason: Reason, detail: str):
        super().__init__(detail)
        self.reason = reason


def read_photo(path: str, policy: FetchPolicy) -> bytes:
    """Reads a local file.

    Args:
      path: Its path; bytes that are no UTF-8 as surrogates.
      policy: Bounds.

    Raises:
      UnreadableFile: If it is missing, not a regular file, not permitted, or too large.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableFile(Reason.UNREADABLE, "not a regular file")
        if status.st_size > policy.max_bytes:
            raise UnreadableFile(Reason.TOO_MANY_BYTES, f"{status.st_size} bytes, the limit is {policy.max_bytes}")
        with open(path, "rb") as file:
            data = file.read(policy.max_bytes + 1)
    except FileNotFoundError as error:
        link = "a link that leads nowhere" if os.path.islink(path) else "there is no such file"
        raise UnreadableFile(Reason.NOT_FOUND, link) from error
    except OSError as error:
        raise UnreadableFile(Reason.UNREADABLE, error.strerror or type(error).__name__) from error
    if len(data) > policy.max_bytes:  # it grew meanwhile
        raise UnreadableFile(Reason.TOO_MANY_BYTES, f"the limit is {policy.max_bytes} bytes")
    return data


@dataclasses.dataclass
class FetchPhotos(beam.PTransform):
    """PhotoRef to EncodedPhoto, and outcomes of those that cannot be read."""

    policy: FetchPolicy

    def expand(self, refs: beam.PCollection) -> Any:  # good ones, lost ones
        fetched = refs | beam.ParDo(_FetchPhotosDoFn(self.policy)).with_outputs("lost", main="photos")
        return fetched.photos, fetched.lost


class _FetchPhotosDoFn(beam.DoFn):
    def __init__(self, policy: FetchPolicy):
        self._policy = policy
        self._metrics = StageMetrics(STAGE)

    def process(self, ref: PhotoRef):
        self._metrics.taken()
        try:
            data = read_photo(ref.uri, self._policy)
        except UnreadableFile as fault:
            self._metrics.lost(fault.reason)
            yield beam.pvalue.TaggedOutput("lost", rejected(ref, STAGE, fault.reason, str(fault)))
            return
        self._metrics.passed()
        yield EncodedPhoto(ref, data, hashlib.sha256(data).hexdigest())
