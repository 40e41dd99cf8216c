"""What a run would ask for, host by host, without asking for it: only robots.txt is read."""

import dataclasses
import json
from collections.abc import Iterable, Iterator

import apache_beam as beam

from celebface.indexing import storage
from celebface.indexing.schemas import Kind, Reason
from celebface.transforms.hosts import ROUNDS, AskHostsDoFn, Wanted
from celebface.transforms.records import ItemRef
from celebface.transforms.web.client import host_of
from celebface.transforms.web.crawl import Host
from celebface.transforms.web.policy import FetchPolicy, WebFault

STAGE = "plan"


@dataclasses.dataclass(frozen=True)
class HostPlan:
    """What a host would be asked for.

    Attributes:
      host: Its name; empty for files.
      photos: Photos named themselves.
      pages: Pages.
      names: Searches.
      disallowed: How many of them robots.txt does not allow.
      failing: How many of them cannot be asked for, as the host does not answer.
      robots: What its robots.txt is: "read", "none", "not heeded", or why nothing can be asked for.
      seconds: Least time that its items take at the rate allowed.
    """

    host: str
    photos: int
    pages: int
    names: int
    disallowed: int
    failing: int
    robots: str
    seconds: float

    @property
    def to_ask(self) -> int:
        """How many items are left to be asked for."""
        return self.photos + self.pages + self.names - self.disallowed - self.failing


@dataclasses.dataclass
class PlanHosts(beam.PTransform):
    """ItemRef, each once, to a file of what its host would be asked for.

    Attributes:
      policy: Bounds and manners.
      search_host: Who would be asked for the photos of names.
      file: URI of the file, JSON lines, one a host.
    """

    policy: FetchPolicy
    search_host: str
    file: str

    def expand(self, refs: beam.PCollection) -> beam.PCollection:
        return (
            (
                refs
                | "ByHost" >> beam.Map(_by_host, self.search_host).with_output_types(tuple[str, Wanted])
                | "Hosts" >> beam.GroupByKey()
                | "Ask" >> beam.ParDo(_PlanHostsDoFn(self.policy)).with_outputs("lost", "moved", main="plans")
            ).plans
            | "Together" >> beam.combiners.ToList()
            | "Write" >> beam.Map(_write, self.file)
        )


def _by_host(ref: ItemRef, search_host: str) -> tuple[str, Wanted]:
    if ref.kind == Kind.NAME:
        return search_host, Wanted(ref, "")
    return host_of(ref.uri) if ref.is_web else "", Wanted(ref, ref.uri)


def plan_host(host: Host, items: Iterable[Wanted], policy: FetchPolicy) -> HostPlan:
    """Reads a host's robots.txt, and holds its items against it."""
    counts = dict.fromkeys(Kind, 0)
    disallowed = failing = 0
    robots, delay = ("", 0.0) if not host.name else ("not heeded", 0.0)
    for item in items:
        counts[item.ref.kind] += 1
        if not (policy.robots and item.ref.is_web):
            continue
        try:
            rules = host.rules(item.url)
            robots, delay = rules.kind, rules.delay
            rules.check(item.url)
        except WebFault as fault:
            refused = fault.reason in (Reason.ROBOTS_DISALLOWED, Reason.ROBOTS_UNREACHABLE)
            disallowed += refused
            failing += not refused
            if robots == "not heeded":
                robots = str(fault.reason)
    asked = sum(counts.values()) - disallowed - failing if host.name else 0
    interval = max(delay, policy.interval_each / policy.host_workers)
    return HostPlan(
        host.name,
        counts[Kind.PHOTO],
        counts[Kind.PAGE],
        counts[Kind.NAME],
        disallowed,
        failing,
        robots,
        asked * interval,
    )


class _PlanHostsDoFn(AskHostsDoFn):
    """One item a host: all that it would be asked for."""

    def __init__(self, policy: FetchPolicy):
        super().__init__(STAGE, policy, round_number=ROUNDS - 1)

    def process(self, keyed):
        host, items = keyed
        yield from super().process((host, [list(items)]))

    def ask(self, host: Host, wanted: list[Wanted]) -> HostPlan:  # type: ignore[override]
        return plan_host(host, wanted, self._policy)

    def take(self, result: HostPlan) -> Iterator[HostPlan]:
        yield result


def _write(plans: Iterable[HostPlan], file: str) -> None:
    lines = (json.dumps(dataclasses.asdict(plan)) for plan in sorted(plans, key=lambda plan: plan.host))
    storage.write_text_lines(file, (line + "\n" for line in lines))


def read_plans(file: str) -> list[HostPlan]:
    """Reads what `PlanHosts` wrote."""
    return [HostPlan(**json.loads(line)) for line in storage.read_bytes(file).splitlines()]
