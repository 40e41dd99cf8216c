"""Counters of a stage, named alike everywhere: items_in = items_out + the sum of lost_<reason> + noted_taken_over."""

from apache_beam.metrics import Metrics

from celebface.indexing.schemas import Reason

LOST = "lost_"
NOTED = "noted_"
TAKEN_OVER = "taken_over"  # items that earlier work has done
FOUND = "found"  # items that come of an item
KEPT = "kept"  # items of an earlier version that are not named any more, and stay
MICROSECONDS = "_usec"


class StageMetrics:
    """Counters of one stage; the stage's name is their namespace."""

    def __init__(self, stage: str):
        self._stage = stage
        self._in = Metrics.counter(stage, "items_in")
        self._out = Metrics.counter(stage, "items_out")

    def taken(self, count: int = 1) -> None:
        """Counts items that came in."""
        self._in.inc(count)

    def passed(self, count: int = 1) -> None:
        """Counts items handed on."""
        self._out.inc(count)

    def lost(self, reason: Reason) -> None:
        """Counts an item that ends here."""
        Metrics.counter(self._stage, f"{LOST}{reason}").inc()

    def noted(self, what: str, count: int = 1) -> None:
        """Counts something else about the stage's items."""
        Metrics.counter(self._stage, f"{NOTED}{what}").inc(count)

    def spent(self, work: str, seconds: float) -> None:
        """Adds working time."""
        Metrics.counter(self._stage, f"{work}{MICROSECONDS}").inc(int(seconds * 1e6))
