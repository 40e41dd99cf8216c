"""Photos from the web to part files of their bytes, in the staging folder.

The bytes are kept before anything is done with them: a run that is killed does not ask for them again, a redirect to
another host can wait for that host's turn, and the slow work behind is spread over the workers by photos, not by hosts.
"""

import dataclasses
import hashlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from celebface.indexing.schemas import OF_THE_PLACE, Reason
from celebface.transforms import progress
from celebface.transforms.hosts import AskHostsDoFn, Wanted, ask_in_rounds
from celebface.transforms.metrics import TAKEN_OVER, StageMetrics
from celebface.transforms.records import ItemRef
from celebface.transforms.staged import Known, StagedRow, taken_over, write_photos
from celebface.transforms.web.client import validator
from celebface.transforms.web.crawl import Host
from celebface.transforms.web.policy import FetchPolicy, WebFault

STAGE = "fetch"
_ACCEPT = "image/avif,image/webp,image/jpeg,image/png,image/*;q=0.8"
_PHOTOS_PER_PART = 256
_BYTES_PER_PART = 32 * 2**20
_SECONDS_PER_PART = 15  # so much is fetched again at most when a run is killed
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FetchedPhoto:
    """A photo from the web.

    Attributes:
      ref: The item, with its validators and the sha256 of its content.
      data: Its bytes.
    """

    ref: ItemRef
    data: bytes


@dataclasses.dataclass
class FetchPhotos(beam.PTransform):
    """(ItemRef, Known | None) of photos from the web to three collections.

    `fresh`: (ItemRef, StoredBytes); `staged`: (shard, StagedRow) of photos that have not changed since an earlier
    version; `lost`: outcomes of those that cannot be had.

    Attributes:
      policy: Bounds and manners.
      staging: URI of the staging folder.
    """

    policy: FetchPolicy
    staging: str

    def expand(self, items: beam.PCollection) -> Any:  # fresh, staged, lost
        wanted = items | "Want" >> beam.ParDo(_WantDoFn())
        asked = ask_in_rounds(
            wanted,
            lambda number: _FetchPhotosDoFn(self.policy, self.staging, number),
            ["staged"],
            self.policy.host_workers,
        )
        return asked["main"], asked["staged"], asked["lost"]


class _WantDoFn(beam.DoFn):
    def __init__(self) -> None:
        self._metrics = StageMetrics(STAGE)

    def process(self, item: tuple[ItemRef, Known | None]):
        ref, known = item
        self._metrics.taken()
        yield Wanted(ref, ref.uri, known)


def fetch_photo(host: Host, wanted: Wanted) -> FetchedPhoto | tuple[int, StagedRow]:
    """Asks for one photo.

    Returns:
      The photo; or its outcome in an earlier version, if it has not changed since or cannot be asked for just now.

    Raises:
      WebFault: If it cannot be had.
      Moved: If it is to be asked for elsewhere.
    """
    known = wanted.known
    try:
        answer = host.get(wanted.url, accept=_ACCEPT, headers=_conditions(known), stay=True)
    except WebFault as fault:
        in_trouble = fault.passing or fault.reason in OF_THE_PLACE - {Reason.NOT_FOUND}
        if known and in_trouble:  # its host is, so the photo may still be there
            return taken_over(wanted.ref, known)
        raise
    if answer.status == 304 and known:
        return taken_over(wanted.ref, known)
    check_body(answer.body)
    ref = dataclasses.replace(
        wanted.ref,
        etag=validator(answer.headers.get("ETag", "")),
        last_modified=validator(answer.headers.get("Last-Modified", "")),
        content_sha256=hashlib.sha256(answer.body).hexdigest(),
    )
    if known and known.content_sha256 == ref.content_sha256:
        changed = dataclasses.replace(known, etag=ref.etag, last_modified=ref.last_modified)
        return taken_over(wanted.ref, changed, restate=True)
    return FetchedPhoto(ref, answer.body)


def _conditions(known: Known | None) -> dict[str, str]:
    """Headers by which a server tells that nothing changed."""
    if known is None:
        return {}
    asked = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
    return {name: value for name, value in asked.items() if value}


def check_body(body: bytes) -> None:
    """Names bodies that are no photo at first sight, whatever their Content-Type says; the decoder judges the others.

    Raises:
      WebFault: If there are no bytes, or they are a web page.
    """
    if not body:
        raise WebFault(Reason.EMPTY, "the answer has no bytes")
    if body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML):
        raise WebFault(Reason.HTML_PAGE, "a web page, not a photo")


class _FetchPhotosDoFn(AskHostsDoFn):
    def __init__(self, policy: FetchPolicy, staging: str, round_number: int):
        super().__init__(STAGE, policy, round_number)
        self._staging = staging

    def start_bundle(self) -> None:
        self._hold_nothing()

    def ask(self, host: Host, wanted: Wanted) -> FetchedPhoto | tuple[int, StagedRow]:
        return fetch_photo(host, wanted)

    def take(self, result: FetchedPhoto | tuple[int, StagedRow]) -> Iterator[Any]:
        if not isinstance(result, FetchedPhoto):
            self._metrics.noted(TAKEN_OVER)
            progress.add({"photos": 1, "unchanged": 1})
            yield beam.pvalue.TaggedOutput("staged", result)
            return
        self._held.append(result)
        self._bytes += len(result.data)
        full = len(self._held) >= _PHOTOS_PER_PART or self._bytes >= _BYTES_PER_PART
        if full or time.monotonic() - self._since > _SECONDS_PER_PART:
            yield from self.flush()

    def flush(self) -> Iterable[Any]:
        held, size = sorted(self._held, key=lambda photo: photo.ref.item_id), self._bytes
        self._hold_nothing()
        if not held:
            return []
        refs = [photo.ref for photo in held]
        keys = [(ref.item_id, ref.etag, ref.last_modified, ref.content_sha256) for ref in refs]
        places = write_photos(self._staging, [(*key, photo.data) for key, photo in zip(keys, held, strict=True)])
        self._metrics.passed(len(held))
        self._metrics.noted("bytes", size)
        progress.add({"fetched": len(held), "fetched_bytes": size})
        return zip(refs, places, strict=True)

    def _hold_nothing(self) -> None:
        self._held: list[FetchedPhoto] = []
        self._bytes = 0
        self._since = time.monotonic()
