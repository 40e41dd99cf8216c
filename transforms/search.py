"""Names of people to photos of them, by an image search."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from celebface.indexing.schemas import Reason, Status
from celebface.transforms import progress
from celebface.transforms.hosts import ROUNDS, AskHostsDoFn, Wanted
from celebface.transforms.metrics import FOUND
from celebface.transforms.records import ItemRef, Outcome, Provenance, photos_found
from celebface.transforms.web.client import clean_url
from celebface.transforms.web.crawl import Host
from celebface.transforms.web.policy import FetchPolicy, WebFault
from celebface.transforms.web.providers import ImageProvider

STAGE = "search"


@dataclasses.dataclass
class SearchImages(beam.PTransform):
    """ItemRef of names to keyed references of photos, (item id, ItemRef), and outcomes of the names.

    All names go to one worker, which asks for one after the other, as the providers' rules want it.

    Attributes:
      provider: Who is asked.
      policy: Bounds and manners.
      limit: Most photos of one person.
    """

    provider: ImageProvider
    policy: FetchPolicy
    limit: int

    def expand(self, names: beam.PCollection) -> Any:  # photos, done ones, lost ones
        searched = (
            names
            | "Want" >> beam.Map(lambda ref: ("provider", Wanted(ref, ""))).with_output_types(tuple[str, Wanted])
            | "Together" >> beam.GroupByKey()
            | "Ask"
            >> beam.ParDo(_SearchImagesDoFn(self.provider, self.policy, self.limit)).with_outputs(
                "lost", "moved", "names", main="main"
            )
        )
        return searched.main, searched.names, searched.lost


class _SearchImagesDoFn(AskHostsDoFn):
    def __init__(self, provider: ImageProvider, policy: FetchPolicy, limit: int):
        super().__init__(STAGE, policy, round_number=ROUNDS - 1)  # a provider leads nowhere else
        self._provider = provider
        self._limit = limit
        self._refusal: WebFault | None = None

    def ask(self, host: Host, wanted: Wanted) -> tuple[ItemRef, list[ItemRef]]:
        ref = wanted.ref
        if self._refusal:
            raise WebFault(self._refusal.reason, str(self._refusal))
        try:
            found = self._provider.find(ref.person, self._limit, host.get)
        except WebFault as fault:
            if fault.reason == Reason.QUOTA_EXCEEDED or (fault.reason == Reason.PROVIDER_ERROR and fault.of_host):
                self._refusal = fault  # which holds for all other names, too
            raise
        person = dataclasses.replace(
            ref.person,
            external_id=ref.person.external_id or found.external_id,
            aliases=tuple(dict.fromkeys((*ref.person.aliases, *found.aliases))),
        )
        return ref, [
            ItemRef.of(
                clean_url(image.url),
                person,
                origin=ref.origin,
                provenance=Provenance(image.page, image.licence, image.author),
            )
            for image in found.images
        ]

    def take(self, result: tuple[ItemRef, list[ItemRef]]) -> Iterable[Any]:
        name, photos = result
        self._metrics.passed()
        self._metrics.noted(FOUND, len(photos))
        progress.add({"listed": len(photos)})
        return self._elements(name, photos)

    @staticmethod
    def _elements(name: ItemRef, photos: list[ItemRef]) -> Iterator[Any]:
        yield beam.pvalue.TaggedOutput("names", Outcome(name, Status.DONE, STAGE, detail=photos_found(len(photos))))
        for photo in photos:
            yield photo.item_id, photo
