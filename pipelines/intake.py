"""The first half of both pipelines: whatever names photos, to their bytes."""

import argparse
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from celebface.indexing.schemas import Kind
from celebface.indexing.tombstones import NONE, Tombstones
from celebface.pipelines import arguments, report
from celebface.pipelines.arguments import UsageError
from celebface.transforms import scrape, search
from celebface.transforms.fetch import FetchPhotos
from celebface.transforms.read import ReadPhotos
from celebface.transforms.records import ItemRef
from celebface.transforms.resume import CollapseRepeats, ResumeItems, Reuse
from celebface.transforms.scrape import ScrapePages
from celebface.transforms.search import SearchImages
from celebface.transforms.sources import (
    ItemSource,
    ListItems,
    NoSuchSource,
    absolute_place,
    list_items,
    may_name_web,
    peek,
)
from celebface.transforms.web.policy import FetchPolicy
from celebface.transforms.web.providers import ImageProvider


@dataclasses.dataclass(frozen=True)
class Intake:
    """What photos are taken in, and how.

    Attributes:
      source: What names them.
      web: Bounds and manners towards the web; None if nothing is to be asked of it.
      provider: Who is asked for photos of people that are only named.
      per_page: Most photos of one page.
      per_person: Most photos of one search.
      reuse: An earlier version to build upon.
      provider_is_ours: The user has named the provider's address, so it may be a private one.
      sample: Take in only so many of the items listed, chosen by their ids; 0 for all.
    """

    source: ItemSource
    web: FetchPolicy | None = None
    provider: ImageProvider | None = None
    per_page: int = 20
    per_person: int = 20
    reuse: Reuse | None = None
    sample: int = 0
    provider_is_ours: bool = False

    def decides(self) -> dict[str, Any]:
        """What its rows depend on: all but the manners, which may be others when a killed run goes on."""
        limits = [self.web.max_bytes, self.web.robots, self.web.opt_outs] if self.web else []
        return {**report.as_json(dataclasses.replace(self, web=None)), "web": limits}


@dataclasses.dataclass(frozen=True)
class TakenIn:
    """What an intake gives.

    Attributes:
      photos: EncodedPhoto.
      staged: (shard, StagedRow) of photos that earlier work has done.
      outcomes: Collections of Outcome, of what was lost on the way, and of pages and names.
    """

    photos: beam.PCollection
    staged: beam.PCollection
    outcomes: Sequence[beam.PCollection]


def item_source(
    args: argparse.Namespace, places: Sequence[str], target: str, labelled: bool = False, search: bool = False
) -> ItemSource:
    """The source that a command line names.

    Args:
      args: What `arguments.add_source_flags` parsed.
      places: As they were named; "-" is stdin.
      target: The folder that the run writes to, which is no source.
      labelled: See `ItemSource`.
      search: See `ItemSource`.
    """
    found = [arguments.stdin_place() if place == "-" else absolute_place(place) for place in places]
    return ItemSource(
        tuple(found),
        labelled=labelled,
        excluded=(target,),
        format="" if args.source_format == "auto" else args.source_format,
        columns=arguments.source_columns(args),
        search=search,
    )


def look_ahead(intake: Intake, limit: int) -> tuple[Intake, int]:
    """Looks at a source before anything starts.

    Args:
      intake: As the user asked for it.
      limit: How many items to look at.

    Returns:
      The intake, without the web if nothing can be asked of it; and how many items there are, up to the limit.

    Raises:
      NoSuchSource: If a place does not exist, a list cannot be read, or there is no item at all.
      UsageError: If the web is to be asked and nobody is named who asks.
    """
    count = peek(intake.source, limit)
    first = list(itertools.islice(list_items(intake.source), limit))
    if len(first) < limit and all(item.listed for item in first):
        raise NoSuchSource(f"nothing of {', '.join(intake.source.places)} can be used: {first[0].detail}")
    if not may_name_web(intake.source):
        return dataclasses.replace(intake, web=None), count
    # All items are looked at: the first that the web is asked for may come late.
    asks = (item.is_web or item.kind != Kind.PHOTO for item in list_items(intake.source))
    if intake.web and not intake.web.contact and any(asks):
        raise UsageError("photos from the web need --contact: a mail address or URL that a site's owner can turn to")
    return intake, count


def take_in(
    pipeline: beam.Pipeline, intake: Intake, staging: str, rows: pa.Schema, shards: int, tombstones: Tombstones = NONE
) -> TakenIn:
    """Applies the steps from sources to bytes.

    Args:
      pipeline: To apply them to.
      intake: What, and how.
      staging: URI of the staging folder.
      rows: Schema of the run's rows.
      shards: Number of shards.
      tombstones: What was taken down, and is not taken in again.
    """
    refs, lost = pipeline | "Sources" >> beam.Create([intake.source]) | "List" >> ListItems(tombstones)
    outcomes = [lost]
    if intake.sample:
        refs = refs | "Sample" >> _TakeSample(intake.sample)
    if intake.web:
        refs, more = _find_photos(refs, intake, intake.web, tombstones)
        outcomes += more
    sorted_out = refs | "Resume" >> ResumeItems(staging, rows, shards, intake.reuse, tombstones)
    fresh, staged = [sorted_out.fresh], [sorted_out.staged]
    outcomes.append(sorted_out.lost)
    if intake.web:
        fetched, unchanged, lost = sorted_out.web | "Fetch" >> FetchPhotos(intake.web, staging)
        fresh.append(fetched)
        staged.append(unchanged)
        outcomes.append(lost)
    to_read = fresh | "ToRead" >> beam.Flatten() | "Spread" >> beam.Reshuffle()
    photos, lost = to_read | "Read" >> ReadPhotos(tombstones=tombstones)
    outcomes.append(lost)
    return TakenIn(photos, staged | "Done" >> beam.Flatten(), outcomes)


def _find_photos(
    refs: beam.PCollection, intake: Intake, web: FetchPolicy, tombstones: Tombstones
) -> tuple[beam.PCollection, list[beam.PCollection]]:
    """Turns pages and names into photos; photos that were named themselves go by."""
    kinds = refs | "Kinds" >> beam.Partition(lambda keyed, count: list(Kind).index(keyed[1].kind), len(Kind))
    photos, pages, names = kinds
    found, outcomes = [photos], []
    once, repeats = pages | "PagesOnce" >> CollapseRepeats(scrape.STAGE, tombstones)
    links, done, lost = once | "Scrape" >> ScrapePages(web, intake.per_page)
    found.append(links)
    outcomes += [repeats, done, lost]
    if intake.provider:
        once, repeats = names | "NamesOnce" >> CollapseRepeats(search.STAGE, tombstones)
        links, done, lost = once | "Search" >> SearchImages(
            intake.provider, _api_policy(intake, web), intake.per_person
        )
        found.append(links)
        outcomes += [repeats, done, lost]
    return found | "Photos" >> beam.Flatten(), outcomes


def _api_policy(intake: Intake, web: FetchPolicy) -> FetchPolicy:
    """Manners towards an interface made for programs: one request at a time; robots.txt speaks of its pages."""
    private = web.allow_private_hosts or intake.provider_is_ours
    return dataclasses.replace(web, host_connections=1, robots=False, opt_outs=False, allow_private_hosts=private)


class _TakeSample(beam.PTransform):
    """Keyed references to a few of them: those with the smallest ids, which are spread evenly."""

    def __init__(self, count: int):
        super().__init__()
        self._count = count

    def expand(self, refs: beam.PCollection) -> beam.PCollection:
        return (
            refs
            | "Smallest" >> beam.combiners.Top.Smallest(self._count, key=_id_and_origin)
            | "Each" >> beam.FlatMap(lambda chosen: chosen).with_output_types(tuple[str, ItemRef])
        )


def _id_and_origin(keyed: tuple[str, ItemRef]) -> tuple[str, str]:
    return keyed[0], keyed[1].origin
