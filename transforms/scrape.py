"""Web pages of people to the photos on them."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from celebface.indexing.schemas import Reason, Status
from celebface.transforms import progress
from celebface.transforms.hosts import AskHostsDoFn, Wanted, ask_in_rounds
from celebface.transforms.metrics import FOUND
from celebface.transforms.records import ItemRef, Outcome, Provenance, photos_found
from celebface.transforms.web.crawl import Host
from celebface.transforms.web.html import images_of_page
from celebface.transforms.web.policy import FetchPolicy, WebFault

STAGE = "scrape"
_ACCEPT = "text/html,application/xhtml+xml;q=0.9"
_MAX_BYTES = 8 * 2**20  # of a page


@dataclasses.dataclass
class ScrapePages(beam.PTransform):
    """ItemRef of pages to keyed references of photos, (item id, ItemRef), and outcomes of the pages.

    Attributes:
      policy: Bounds and manners.
      limit: Most photos of one page.
    """

    policy: FetchPolicy
    limit: int

    def expand(self, pages: beam.PCollection) -> Any:  # photos, done ones, lost ones
        wanted = pages | "Want" >> beam.Map(lambda ref: Wanted(ref, ref.uri))
        asked = ask_in_rounds(
            wanted,
            lambda number: _ScrapePagesDoFn(self.policy, self.limit, number),
            ["pages"],
            self.policy.host_workers,
        )
        return asked["main"], asked["pages"], asked["lost"]


class _ScrapePagesDoFn(AskHostsDoFn):
    def __init__(self, policy: FetchPolicy, limit: int, round_number: int):
        super().__init__(STAGE, policy, round_number)
        self._limit = limit

    def ask(self, host: Host, wanted: Wanted) -> tuple[ItemRef, list[ItemRef]]:
        answer = host.get(wanted.url, accept=_ACCEPT, max_bytes=_MAX_BYTES, stay=True)
        content_type = answer.headers.get("Content-Type", "")
        page = images_of_page(answer.body, answer.url, content_type, self._limit, self._policy.opt_outs)
        if not page.images:
            raise WebFault(Reason.NO_IMAGES, "no photo was found on it")
        ref = wanted.ref
        given = ref.provenance
        provenance = Provenance(answer.url, given.licence or page.licence, given.author or page.author)
        return ref, [
            ItemRef.of(url, ref.person, origin=ref.origin or ref.uri, provenance=provenance) for url in page.images
        ]

    def take(self, result: tuple[ItemRef, list[ItemRef]]) -> Iterator[Any]:
        page, photos = result
        self._metrics.passed()
        self._metrics.noted(FOUND, len(photos))
        progress.add({"listed": len(photos)})
        yield beam.pvalue.TaggedOutput("pages", Outcome(page, Status.DONE, STAGE, detail=photos_found(len(photos))))
        for photo in photos:
            yield photo.item_id, photo
