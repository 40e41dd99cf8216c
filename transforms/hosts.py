"""Steps that ask the web: items grouped by host, each host in one worker or few; other hosts in further rounds."""

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from celebface.indexing.schemas import Reason
from celebface.transforms.bundles import at_the_end
from celebface.transforms.metrics import StageMetrics
from celebface.transforms.records import ItemRef, Outcome, quick_to_pickle, rejected
from celebface.transforms.staged import Known
from celebface.transforms.web.client import Moved, WebClient, host_of
from celebface.transforms.web.crawl import Crawl, Host
from celebface.transforms.web.policy import FetchPolicy, WebFault

ROUNDS = 3  # hosts that one item may lead through
_IN_HAND = 20_000  # items that a worker holds, of about 1 KB each


@quick_to_pickle
@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Something to be asked for.

    Attributes:
      ref: The item.
      url: Where it is to be asked for now; not the item's own place after a redirect.
      known: What an earlier version knows of it.
    """

    ref: ItemRef
    url: str
    known: Known | None = None


class AskHostsDoFn(beam.DoFn):
    """Asks for the items of hosts, (host, iterable of Wanted); a host of several workers comes under several names.

    A subclass says how an item is asked for, in `ask`, and what becomes of the result, in `take`. Items that are lost
    are tagged "lost", those that lead to another host "moved".
    """

    def __init__(self, stage: str, policy: FetchPolicy, round_number: int):
        self._stage = stage
        self._policy = policy
        self._round = round_number
        self._metrics = StageMetrics(stage)
        self._crawl: Crawl[Wanted, Any] | None = None

    def ask(self, host: Host, wanted: Wanted) -> Any:
        """Asks for an item; called by several threads at once. May raise WebFault and Moved."""
        raise NotImplementedError

    def take(self, result: Any) -> Iterable[Any]:
        """Makes elements of what `ask` returned."""
        raise NotImplementedError

    def flush(self) -> Iterable[Any]:
        """Makes the last elements of a bundle."""
        return ()

    def setup(self) -> None:
        self._client = WebClient(self._policy)

    def process(self, keyed):
        host, items = keyed
        if self._crawl is None:
            self._crawl = Crawl(self._try, self._client, self._policy)
        for wanted in items:
            self._crawl.add(host, wanted)
            yield from self._sort(self._crawl.results(down_to=_IN_HAND))
        self._crawl.end(host)

    def finish_bundle(self):
        if self._crawl is None:
            return
        yield from at_the_end(self._sort(self._crawl.results()))
        yield from at_the_end(self.flush())
        self._crawl.close()
        self._crawl = None

    def teardown(self) -> None:
        if self._crawl is not None:
            self._crawl.close()
        self._client.close()

    def _try(self, host: Host, wanted: Wanted) -> Any:
        try:
            return self.ask(host, wanted)
        except WebFault as fault:
            return rejected(wanted.ref, self._stage, fault.reason, str(fault))
        except Moved as moved:
            if self._round == ROUNDS - 1:
                reason = Reason.TOO_MANY_REDIRECTS
                return rejected(wanted.ref, self._stage, reason, f"it leads through more than {ROUNDS} hosts")
            return dataclasses.replace(wanted, url=moved.url)

    def _sort(self, results: Iterable[Any]) -> Iterator[Any]:
        for result in results:
            if isinstance(result, Wanted):
                yield beam.pvalue.TaggedOutput("moved", result)
                continue
            if isinstance(result, Outcome):
                self._metrics.lost(result.reason)
                yield beam.pvalue.TaggedOutput("lost", result)
            else:
                yield from self.take(result)


def ask_in_rounds(
    wanted: beam.PCollection, make: Callable[[int], AskHostsDoFn], tags: Sequence[str], workers: int
) -> dict[str, beam.PCollection]:
    """Asks for items, and again of those hosts that they lead to.

    Args:
      wanted: PCollection of Wanted.
      make: Makes the DoFn of a round.
      tags: Tags of its elements beside the main ones.
      workers: Workers that a host is asked by, as in `FetchPolicy`.

    Returns:
      Collections by tag, the main one as "main".
    """
    rounds = []
    for number in range(ROUNDS):
        asked = (
            wanted
            | f"ByHost{number}" >> beam.Map(by_host, workers).with_output_types(tuple[str, Wanted])
            | f"Hosts{number}" >> beam.GroupByKey()
            | f"Ask{number}" >> beam.ParDo(make(number)).with_outputs("lost", "moved", *tags, main="main")
        )
        rounds.append(asked)
        wanted = asked.moved
    return {tag: [asked[tag] for asked in rounds] | f"All_{tag}" >> beam.Flatten() for tag in ("main", "lost", *tags)}


def by_host(wanted: Wanted, workers: int) -> tuple[str, Wanted]:
    """An item and whom it is asked for by: its host's name, with a number if it is not the first of its workers."""
    host = host_of(wanted.url)
    number = zlib.crc32(wanted.url.encode()) % workers  # the same each time the step runs
    return (f"{host}#{number + 1}" if number else host), wanted
