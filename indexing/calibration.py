"""From distances to verdicts: thresholds for stated false match rates, with the evidence for them."""

import bisect
import collections
import dataclasses
import enum
import json
import math
from collections.abc import Sequence
from typing import Any

from celebface.indexing import rates
from celebface.indexing.manifest import BadBundle
from celebface.indexing.rates import Tail

NAME = "index/calibration.json"
ONE_COMPARISON = "one comparison"  # the subject of a calibration by labelled pairs
CHARTS = ("index/calibration.png", "index/calibration.svg")
FALSE_MATCH_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
DEFAULT_FALSE_MATCH_RATE = 0.01

# Two people whose distances differ by less cannot be told apart. On LFW (one enrolled photo for each of 2,086 people,
# 3,287 probes) 61 % of the wrong nearest people within tau 1.02 have a smaller margin, and 3 % of the right ones.
AMBIGUOUS_MARGIN = 0.1

# A rate is measured if so many strangers are expected to pass at it: the interval of five is from 0.4 to 2.3 times it.
_ENOUGH = 5
# The encoder's figures are moved to meet the gallery's own strangers if so many of these pass at the largest rate.
# Fewer would make it worse: with five, 1.7 % pass at a stated 1 % in galleries drawn of LFW, unmoved 1.1 %.
_ENOUGH_TO_MOVE = 10
# Strangers contradict a threshold if at its rate there is at most this chance that so many of them pass.
_CONTRADICTS = 0.025


def round_rate(rate: float) -> float:
    """A rate of two digits: more are not known."""
    return float(f"{rate:.2g}")


class Verdict(enum.StrEnum):
    """What a distance says about the nearest person."""

    MATCH = "match"  # D <= tau: taken for the same person
    AMBIGUOUS = "ambiguous"  # D <= tau, but another person is as near
    LOOKALIKE = "lookalike"  # D > tau: resembles


class Unstated(Exception):
    """There is no threshold for a false match rate, or no rate for a threshold; the message says why, for the user."""


def verdict(distance: float, margin: float | None, tau: float) -> Verdict:
    """Judges the nearest person.

    Args:
      distance: D to the nearest person.
      margin: How much farther the second person is; None if there is none.
      tau: Threshold on D.
    """
    if distance > tau:
        return Verdict.LOOKALIKE
    if margin is not None and margin < AMBIGUOUS_MARGIN:
        return Verdict.AMBIGUOUS
    return Verdict.MATCH


def ranked_verdict(rank: int, distances: Sequence[float], tau: float) -> Verdict:
    """Judges one of the nearest people.

    The first of two people as near as each other is ambiguous, and so is the second; others below it resemble.

    Args:
      rank: Whom, from 1 on.
      distances: D to the nearest people, nearest first, at least two if there are two.
      tau: Threshold on D.
    """
    first = distances[0]
    if rank == 1:
        return verdict(first, distances[1] - first if len(distances) > 1 else None, tau)
    if distances[rank - 1] <= tau and distances[rank - 1] - first < AMBIGUOUS_MARGIN:
        return Verdict.AMBIGUOUS
    return Verdict.LOOKALIKE


@dataclasses.dataclass(frozen=True)
class Curve:
    """How alike two faces are, in per cent: a logistic curve, the chance that a pair is one person if half of all are.

    Attributes:
      midpoint: D of 50 %.
      slope: By how much the logit falls for a D of 1.
      source: The pairs it was fitted to.
    """

    midpoint: float
    slope: float
    source: str

    def percent(self, distance: float) -> float:
        """0..100, the less the larger the distance."""
        return 100 / (1 + math.exp(min(700.0, self.slope * (distance - self.midpoint))))


# Fitted as `calibrate.fit_curve` does, with the default encoder.
LFW_CURVE = Curve(1.193, 10.87, "622 pairs of one person and 33,280 of two of LFW train")


@dataclasses.dataclass(frozen=True)
class Trials:
    """Searches of known outcome.

    Attributes:
      count: All of them.
      scores: D of those that get `match` at a tau as large, sorted.
      ambiguous: D of those that get `ambiguous` then, sorted.
      twice: Of each two strangers who are each other's nearest, the larger score: there the second follows from the
        first, and they are one piece of evidence; sorted.
    """

    count: int
    scores: Sequence[float] = ()
    ambiguous: Sequence[float] = ()
    twice: Sequence[float] = ()

    def matched(self, tau: float) -> int:
        """How many get `match`."""
        return bisect.bisect_right(self.scores, tau)

    def share(self, tau: float) -> float | None:
        """Their share; None if there are no trials."""
        return self.matched(tau) / self.count if self.count else None

    def interval(self, tau: float) -> tuple[float, float]:
        """The 95 % interval of the share in searches like these."""
        found, twice = self.matched(tau), bisect.bisect_right(self.twice, tau)
        spread = 1 + 2 * twice / max(1, found)  # of the count's variance, over that of independent trials
        return rates.wilson(found / spread, self.count / spread)

    def ambiguous_share(self, tau: float) -> float | None:
        """The share of `ambiguous`."""
        return bisect.bisect_right(self.ambiguous, tau) / self.count if self.count else None

    def tau(self, rate: float) -> float:
        """The threshold at which the next trial gets `match` with a chance of at most `rate`.

        It is the j-th smallest score of n, j / (n + 1) being the chance that the next is no larger, whatever the
        distribution. What lies between that and the next score is not given away: it would bring the chance to (j + 1)
        / (n + 1), with five of fifty already a fifth more than asked for.
        """
        allowed = math.floor(rate * (self.count + 1) + 1e-9)  # 0.29 * 100 is a little less than 29
        if not allowed:
            return 0.0
        return self.scores[allowed - 1] if allowed <= len(self.scores) else 4.0

    def bearable(self, rate: float) -> float:
        """The largest tau at which those that pass do not contradict `rate`."""
        second = collections.Counter(self.twice)
        passed = 0
        for score in self.scores:
            if second[score]:
                second[score] -= 1
                continue
            passed += 1
            if rates.at_least(passed, self.count, rate) < _CONTRADICTS:
                return _below(score)
        return 4.0


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it does.

    Attributes:
      false_match_rate: The share of strangers that gets `match`, as asked for.
      tau: Threshold on D.
      interval: 95 % interval of the rate, by the strangers that there were.
      method: "measured" on them, or "extrapolated" from the encoder's own figures.
      true_match_rate: Share of known people who get `match` with their own name; None if unknown.
      true_match_interval: Its 95 % interval.
      ambiguous: Share of known people who come first but get `ambiguous`; None if unknown.
    """

    false_match_rate: float
    tau: float
    interval: tuple[float, float]
    method: str
    true_match_rate: float | None
    true_match_interval: tuple[float, float] | None
    ambiguous: float | None

    @property
    def stated(self) -> str:
        """The rate and how sure it is, in words."""
        low, high = (f"{round_rate(100 * end):g}" for end in self.interval)
        how = f"{self.method}, 95 %: {low} to {high} %"
        return f"false match rate {100 * self.false_match_rate:g} % ({how})"

    @property
    def recognised(self) -> str:
        """The true match rate and how sure it is, in words."""
        if self.true_match_rate is None or self.true_match_interval is None:
            return "true match rate unknown"
        low, high = (f"{100 * end:.0f}" for end in self.true_match_interval)
        return f"true match rate {100 * self.true_match_rate:.0f} % ({low} to {high} %)"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Contents of calibration.json: what any threshold in range follows from.

    Attributes:
      subject: What a false match is here: of a stranger with anybody of a gallery, or in one comparison.
      encoder_id: The encoder of the vectors.
      people: People that a face is held against.
      comparisons: How many people of one face each they are as good as; see `rates.comparisons`.
      strangers: Searches for people who are not there.
      known: Searches for people who are, by another face of theirs.
      copies: People left out of the strangers, as a photo of theirs is there under another name.
      tail: What is known of the encoder, for rates that the strangers are too few for; None if nothing.
      curve: Similarity in per cent.
    """

    subject: str
    encoder_id: str
    people: int
    comparisons: float
    strangers: Trials
    known: Trials
    copies: int
    tail: Tail | None
    curve: Curve = LFW_CURVE

    @property
    def rank_one(self) -> float | None:
        """Share of the known whose nearest person is themselves; None if there are none."""
        known = self.known
        return (len(known.scores) + len(known.ambiguous)) / known.count if known.count else None

    def at(self, rate: float = DEFAULT_FALSE_MATCH_RATE) -> OperatingPoint:
        """The threshold for a false match rate.

        Raises:
          Unstated: If too little is known for it.
        """
        least, most = FALSE_MATCH_RATES[0], FALSE_MATCH_RATES[-1]
        if not least <= rate <= most:
            raise Unstated(f"a false match rate of {rate:g} is not stated, only rates from {least:g} to {most:g}")
        measured = self._is_measured(rate)
        if not measured and self.tail is None:
            raise Unstated(
                f"a false match rate of {rate:g} is not stated: {self.strangers.count} strangers are too few to "
                "measure it, and the encoder's card has no rates to extrapolate from"
            )
        tau = self.strangers.tau(rate) if measured else self._extrapolated(rate, self.tail)
        return self._point(rate, tau, measured)

    def at_tau(self, tau: float) -> OperatingPoint:
        """What a threshold that somebody else chose does; its rate is rounded to two digits.

        Raises:
          Unstated: If too little is known for it.
        """
        measured = self.strangers.matched(tau) >= _ENOUGH
        if measured:
            rate = self.strangers.share(tau) or 0.0
        elif self.tail is not None:
            rate = self.tail.rate(tau, self.comparisons)
        else:
            raise Unstated("no false match rate is stated: the encoder's card has none")
        rate = round_rate(rate)
        least, most = FALSE_MATCH_RATES[0], FALSE_MATCH_RATES[-1]
        if not least <= rate <= most:
            bound = f"below {100 * least:g} %" if rate < least else f"above {100 * most:g} %"
            raise Unstated(f"false match rate {bound}, where none is stated")
        return self._point(rate, tau, measured)

    def _point(self, rate: float, tau: float, measured: bool) -> OperatingPoint:
        known = self.known.count > 0
        return OperatingPoint(
            rate,
            tau,
            self.strangers.interval(tau),
            "measured" if measured else "extrapolated",
            self.known.share(tau),
            self.known.interval(tau) if known else None,
            self.known.ambiguous_share(tau),
        )

    def _is_measured(self, rate: float) -> bool:
        return self._expected(rate) >= _ENOUGH

    def _expected(self, rate: float) -> float:
        return rate * self.strangers.count + 1e-9

    def _extrapolated(self, rate: float, tail: Tail | None) -> float:
        """What the encoder's tail says, moved to meet the gallery's own strangers; never what they contradict."""
        assert tail is not None
        tau = tail.tau(rate, self.comparisons)
        most = FALSE_MATCH_RATES[-1]
        if self._expected(most) >= _ENOUGH_TO_MOVE:
            tau += self.strangers.tau(most) - tail.tau(most, self.comparisons)
        if self._is_measured(most):
            tau = min(tau, self.strangers.tau(_ENOUGH / self.strangers.count))  # of the least rate that is measured
        return max(0.0, min(4.0, round(tau, 4), self.strangers.bearable(rate)))

    @property
    def operating_points(self) -> list[OperatingPoint]:
        """The usual ones, as far as they are stated."""
        points = []
        for rate in FALSE_MATCH_RATES:
            try:
                points.append(self.at(rate))
            except Unstated:
                continue
        return points

    @property
    def evidence(self) -> str:
        """What the thresholds rest on, in words."""
        text = f"{self.subject}: {self.strangers.count} strangers, {self.known.count} known, {self.people} people. "
        if self.copies:
            text += f"{self.copies} are no strangers, as a photo of theirs is there under another name. "
        measured = [rate for rate in FALSE_MATCH_RATES if self._is_measured(rate)]
        if len(measured) < len(FALSE_MATCH_RATES):
            text += f"Below {measured[0]:g} strangers" if measured else "Strangers"
            text += (
                f" are too few: tau is extrapolated from the encoder's figures ({self.tail.evidence})"
                if self.tail
                else " are too few, and the encoder states no rates: there is no tau"
            )
        return text.strip()

    def to_json(self) -> bytes:
        """The file's bytes; thresholds, which follow from the rest, are there for readers."""
        stated = {
            "operating_points": [dataclasses.asdict(point) for point in self.operating_points],
            "evidence": self.evidence,
            "rank_one": self.rank_one,
        }
        return (json.dumps({**dataclasses.asdict(self), **stated}, indent=1, sort_keys=True) + "\n").encode()

    @staticmethod
    def from_json(data: bytes) -> "Calibration":
        """Reads the file.

        Raises:
          BadBundle: If it is not a calibration.
        """
        try:
            body: dict[str, Any] = json.loads(data)
            for derived in ("operating_points", "evidence", "rank_one"):
                del body[derived]
            strangers, known = _trials(body.pop("strangers")), _trials(body.pop("known"))
            tail, curve = body.pop("tail"), Curve(**body.pop("curve"))
            read = Calibration(
                strangers=strangers, known=known, tail=Tail(**tail) if tail else None, curve=curve, **body
            )
            read.operating_points  # noqa: B018  # what cannot be reckoned with is found out here
            return read
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
            raise BadBundle(f"the calibration cannot be read: {error}") from error


def _trials(fields: dict[str, Any]) -> Trials:
    return Trials(fields.pop("count"), *(tuple(fields.pop(name)) for name in ("scores", "ambiguous", "twice")))


def _below(score: float) -> float:
    """The largest number of four digits that is less."""
    return max(0.0, (math.ceil(score * 1e4 - 1e-6) - 1) / 1e4)
