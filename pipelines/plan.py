"""What a build would ask for, and what it would take, told before it is done."""

import collections
import pathlib
import tempfile
from collections.abc import Sequence

import apache_beam as beam
from rich.console import Console
from rich.table import Table
from rich.text import Text

from celebface.indexing import storage
from celebface.indexing.schemas import Kind, Status
from celebface.indexing.tombstones import Tombstones
from celebface.pipelines import execution, report
from celebface.pipelines.arguments import LOCAL_RUNNER
from celebface.pipelines.beam_flags import runner_name
from celebface.pipelines.execution import RunReport
from celebface.pipelines.intake import Intake
from celebface.pipelines.report import LedgerCounts
from celebface.pipelines.summary import counted
from celebface.pipelines.text import plain
from celebface.transforms import detect, encode, fetch, scrape, search, sources
from celebface.transforms.metrics import FOUND
from celebface.transforms.plan import STAGE, HostPlan, PlanHosts, read_plans
from celebface.transforms.resume import CollapseRepeats
from celebface.transforms.sources import ListItems
from celebface.transforms.web.client import host_of
from celebface.transforms.web.policy import FetchPolicy

_SHOWN = 40  # hosts listed


def show_plan(out: Console, intake: Intake, beam_argv: Sequence[str], staging: str, tombstones: Tombstones) -> None:
    """Lists the sources, reads the robots.txt of each host, and prints what would be asked for."""
    with tempfile.TemporaryDirectory(prefix="celebface-plan-") as folder:
        local = runner_name(beam_argv) == LOCAL_RUNNER
        file = str(pathlib.Path(folder) / "plan.jsonl") if local else storage.join(staging, "plan.jsonl")
        search_host = intake.provider.host if intake.provider else ""

        def build(pipeline: beam.Pipeline) -> None:
            refs, _ = pipeline | "Sources" >> beam.Create([intake.source]) | "List" >> ListItems(tombstones)
            once, _ = refs | "Once" >> CollapseRepeats(STAGE, tombstones)
            _ = once | "Plan" >> PlanHosts(intake.web or FetchPolicy(), search_host, file)

        done = execution.run(build, beam_argv, 0, "build-gallery --dry_run", networks=False)
        plans = read_plans(file)
        storage.delete_file(file)
    _print_plan(out, plans, done, intake.web or FetchPolicy())


def _print_plan(out: Console, plans: Sequence[HostPlan], done: RunReport, policy: FetchPolicy) -> None:
    hosts = sorted((plan for plan in plans if plan.host), key=lambda plan: (-plan.photos - plan.pages, plan.host))
    table = Table(
        "host",
        "photos",
        "pages",
        "searches",
        "disallowed",
        "failing",
        "robots.txt",
        "at least",
        box=None,
        pad_edge=False,
    )
    for column in table.columns[1:6]:
        column.justify = "right"
    for column in table.columns:
        column.overflow = "fold"
    for plan in hosts[:_SHOWN]:
        numbers = (str(number or "") for number in (plan.photos, plan.pages, plan.names, plan.disallowed, plan.failing))
        table.add_row(Text(plain(plan.host)), *numbers, plan.robots, duration(plan.seconds))
    if hosts:
        out.print(table)
    if len(hosts) > _SHOWN:
        out.print(f"... and {len(hosts) - _SHOWN} more hosts", markup=False)
    listed = done.stages.get(sources.STAGE, report.NOTHING)
    repeats = sum(done.stages.get(STAGE, report.NOTHING).lost.values())
    files = sum(plan.photos for plan in plans if not plan.host)
    asked = sum(plan.to_ask for plan in hosts)
    willing = sum(plan.to_ask > 0 for plan in hosts)
    line = (
        f"{counted(listed.items_in, 'item')}: {asked} to ask {counted(willing, 'host')} for, {counted(files, 'file')}"
    )
    for number, what in (
        (sum(plan.disallowed for plan in hosts), "not allowed by robots.txt"),
        (sum(plan.failing for plan in hosts), "of hosts that fail"),
        (repeats, "named again"),
        (sum(listed.lost.values()), "unusable"),
    ):
        line += f", {number} {what}" if number else ""
    out.print(line, markup=False)
    if hosts:
        slowest = max(plan.seconds for plan in hosts)
        out.print(
            f"at {policy.host_rate:g} requests a second to a host it takes {duration(slowest)} at least", markup=False
        )
    fetched = "nothing was fetched but robots.txt" if hosts and policy.robots else "nothing was fetched"
    out.print(f"{fetched}; nothing was written", markup=False)


def print_prediction(out: Console, folder: str, intake: Intake, done: RunReport, ledger: LedgerCounts) -> None:
    """Prints what the whole would take, judged by a sample.

    Args:
      out: Where to.
      folder: URI of the folder with the sample's tables.
      intake: What was sampled.
      done: How the sample's run went.
      ledger: What became of it.
    """
    stages = collections.defaultdict(lambda: report.NOTHING, done.stages)
    listed = stages[sources.STAGE].items_out
    taken = min(intake.sample, listed)
    share = listed / max(1, taken)
    photos = 0
    of_use = ledger.photos.get(Status.DONE, 0)
    hosts: collections.Counter[str] = collections.Counter()
    for shard in report.shards(folder, "ledger"):
        for row in report.read_rows(shard, ["uri", "kind", "stage"]):
            if row["kind"] != Kind.PHOTO or row["stage"] == sources.STAGE:  # what listing lost is that of the whole
                continue
            photos += 1
            if row["uri"].startswith("http"):
                hosts[host_of(row["uri"])] += 1
    work = sum(sum(stages[step.STAGE].seconds.values()) for step in (detect, encode)) / max(1, done.workers)
    rate = intake.web.host_rate if intake.web else 0.0
    polite = max(hosts.values(), default=0) / rate if rate else 0.0
    size = sum(storage.checksum(storage.join(folder, name))[1] for name in storage.list_files(folder))
    out.print(f"the sample is {taken} of {listed} items; the whole is expected to have", markup=False)
    for line in (
        f"{photos * share:,.0f} photos, {of_use * share:,.0f} of them with faces for the gallery",
        f"{stages[fetch.STAGE].noted.get('bytes', 0) * share / 1e6:,.0f} MB to download",
        f"{size * share / 1e6:,.0f} MB in the gallery, before its index",
        f"{duration(max(work, polite) * share)} at least, by the work of this machine and the manners towards the "
        f"busiest host; {duration(done.wall_seconds * share)} at most, at the sample's pace",
    ):
        out.print(f"  {line}", markup=False)
    found = sum(stages[name].noted.get(FOUND, 0) for name in (scrape.STAGE, search.STAGE))
    if found:
        out.print(f"  pages and searches of the sample gave {counted(found, 'photo')}", markup=False)
    out.print("nothing was published", markup=False)


def duration(seconds: float) -> str:
    """A time span for people."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
