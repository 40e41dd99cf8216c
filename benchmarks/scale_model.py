"""From what was measured to what many photos take: fits, how work is dealt out, hosts, files, prices. Plain numpy."""

import dataclasses
import heapq
import math
from collections.abc import Sequence

import numpy as np

NIGHT_HOURS = 8.0
_DAY_SECONDS = 86_400


@dataclasses.dataclass(frozen=True)
class Line:
    """y = fixed + each * x.

    Attributes:
      fixed: What there is to do for nothing.
      each: What one more takes.
    """

    fixed: float
    each: float

    def at(self, x: float) -> float:
        """Gives y for an x."""
        return self.fixed + self.each * x


@dataclasses.dataclass(frozen=True)
class Power:
    """y = factor * x ** exponent.

    Attributes:
      factor: y of 1.
      exponent: How it grows.
      error: Largest share by which a measured y differs from the fit's.
    """

    factor: float
    exponent: float
    error: float

    def at(self, x: float) -> float:
        """Gives y for an x."""
        return self.factor * x**self.exponent


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line nearest to some points (least squares), neither of its parts below nothing."""
    each, fixed = np.polyfit(x, y, 1)
    if each < 0:
        each, fixed = 0.0, float(np.mean(y))
    if fixed < 0:
        fixed, each = 0.0, float(np.dot(x, y) / np.dot(x, x))
    return Line(float(fixed), float(each))


def fit_power(x: Sequence[float], y: Sequence[float]) -> Power:
    """The power nearest to some points (least squares of logarithms)."""
    exponent, log_factor = np.polyfit(np.log(x), np.log(y), 1)
    fitted = np.exp(log_factor) * np.asarray(x, float) ** exponent
    error = float(np.abs(fitted / np.asarray(y) - 1).max())
    return Power(float(np.exp(log_factor)), float(exponent), error)


# --- who does what ----------------------------------------------------------------------------------------------------


def dealt_out(costs: np.ndarray, speeds: np.ndarray) -> float:
    """How long it takes if each worker is given an equal number of photos beforehand, by what it would take at best.

    Args:
      costs: float [N], seconds of each photo on a worker of speed 1, in a random order.
      speeds: float [W], of the workers.

    Returns:
      The time until the last has ended, by the time it would take if all ended at once.
    """
    loads = np.array([part.sum() for part in np.array_split(costs, len(speeds))])
    return float((loads / speeds).max() / (costs.sum() / speeds.sum()))


def taken(costs: np.ndarray, speeds: np.ndarray, together: int) -> float:
    """The same if a worker that has nothing to do takes the next few photos.

    Args:
      costs: See `dealt_out`.
      speeds: Likewise.
      together: Photos taken at a time.
    """
    starts = np.arange(0, len(costs), together)
    items = np.add.reduceat(costs, starts)
    free = [(0.0, worker) for worker in range(len(speeds))]
    heapq.heapify(free)
    end = 0.0
    for item in items:
        since, worker = heapq.heappop(free)
        since += float(item) / float(speeds[worker])
        end = max(end, since)
        heapq.heappush(free, (since, worker))
    return end / float(costs.sum() / speeds.sum())


def some_slow(workers: int, share: float = 0.05, speed: float = 0.5) -> np.ndarray:
    """Speeds of workers of which a few, at least one, are slower, as on machines that others use too; float [W]."""
    speeds = np.ones(workers)
    speeds[: max(1, round(share * workers))] = speed
    return speeds


@dataclasses.dataclass(frozen=True)
class Hosts:
    """How long photos of the web take, by the hosts they lie on.

    Attributes:
      largest: Photos of the largest host.
      days: Until the largest is through.
      after_a_night: Share of the photos that are had after eight hours.
      after_a_week: Likewise after seven days.
    """

    largest: float
    days: float
    after_a_night: float
    after_a_week: float


def ask_hosts(photos: float, hosts: int, exponent: float, rate: float) -> Hosts:
    """Photos spread over hosts by Zipf's law, each asked so many times a second, all at the same time.

    Args:
      photos: All of them.
      hosts: How many hosts there are.
      exponent: Of the law: the k-th largest host has k ** -exponent times the photos of the largest.
      rate: Requests a second to a host.
    """
    shares = np.arange(1, hosts + 1, dtype=float) ** -exponent
    sizes = photos * shares / shares.sum()
    had = [
        float(np.minimum(sizes, rate * seconds).sum() / photos) for seconds in (NIGHT_HOURS * 3600, 7 * _DAY_SECONDS)
    ]
    return Hosts(float(sizes[0]), float(sizes[0] / rate / _DAY_SECONDS), *had)


# --- part files -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class PartReads:
    """How shards find their rows in the part files.

    Attributes:
      opens: How often a part is opened, for each photo.
      rows: How many rows lie in the record batches that are read for it; 1 would be its own alone.
    """

    opens: float
    rows: float


def read_parts(photos: float, shards: int, per_part: int, per_slice: float) -> PartReads:
    """What it takes to put shards of a match job together from parts in which photos lie in any order.

    A part has a record batch for each shard that it has a photo of. A shard first reads all of its batches, to sort by
    name, and then the batches of each slice of its photos in that order.

    Args:
      photos: All of them.
      shards: How many there are.
      per_part: Photos of a part.
      per_slice: Photos of a slice.
    """
    parts, mine = photos / per_part, photos / shards
    of_shard = _distinct(mine, parts)
    slices = max(1.0, mine / per_slice)
    of_slice = _distinct(mine / slices, parts)
    rows_each = mine / of_shard
    return PartReads((of_shard + slices * of_slice) / mine, (of_shard + slices * of_slice) * rows_each / mine)


def _distinct(balls: float, boxes: float) -> float:
    """Boxes that are hit if so many balls fall into any of them, at least one."""
    return max(1.0, -boxes * math.expm1(balls * math.log1p(-1 / boxes))) if boxes > 1 else 1.0


# --- prices -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Prices:
    """Unit prices, in any currency. The defaults are nobody's: examples, to be replaced.

    Attributes:
      vcpu_hour: A virtual processor for an hour.
      gb_hour: A GB of memory for an hour.
      shuffle_gb: A GB that crosses a shuffle.
      storage_gb_month: A GB of an object store for a month.
      million_reads: A million requests to a store that read.
      million_writes: A million that write or list.
    """

    vcpu_hour: float = 0.05
    gb_hour: float = 0.005
    shuffle_gb: float = 0.01
    storage_gb_month: float = 0.02
    million_reads: float = 0.4
    million_writes: float = 5.0


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a job takes.

    Attributes:
      hours: Worker hours, of a processor each.
      memory_gb: Of a worker.
      shuffle_gb: Over all shuffles.
      stored_gb: What is left at the end.
      staged_gb: What parts take while it runs.
      reads: Requests to the store that read.
      writes: That write.
    """

    hours: float
    memory_gb: float
    shuffle_gb: float
    stored_gb: float
    staged_gb: float
    reads: float
    writes: float

    @property
    def workers_for_a_night(self) -> int:
        """Workers that are through in eight hours, if all are busy all the time."""
        return max(1, math.ceil(self.hours / NIGHT_HOURS))

    def price(self, prices: Prices) -> float:
        """Of the run, and of what it leaves for one month; parts lie there for a day."""
        return (
            self.hours * (prices.vcpu_hour + self.memory_gb * prices.gb_hour)
            + self.shuffle_gb * prices.shuffle_gb
            + (self.stored_gb + self.staged_gb / 30) * prices.storage_gb_month
            + self.reads / 1e6 * prices.million_reads
            + self.writes / 1e6 * prices.million_writes
        )
