"""False match rates: how sure a share that was counted is, and what to expect where too little could be counted."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

_NORMAL = statistics.NormalDist()
_Z = _NORMAL.inv_cdf(0.975)  # of a 95 % interval

# So many faces of one person are as good as faces**0.6 people for a stranger who comes near by chance: on LFW the rate
# grows to 1.6, 2.4, 3.6, 5.4 and 7.2 times that of one face with 2, 4, 8, 16 and 32 (all pairs of 106 people with
# others, D from 0.7 to 1.29).
_FACES_EXPONENT = 0.6


def wilson(found: float, trials: float) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson's formula, which also holds for none and for all.

    Args:
      found: How many of the trials came out.
      trials: How many independent ones there were.
    """
    if trials <= 0:
        return 0.0, 1.0
    share, square = found / trials, _Z * _Z / trials
    centre = share + square / 2
    half = _Z * math.sqrt(share * (1 - share) / trials + square / (4 * trials))
    low, high = (centre - half) / (1 + square), (centre + half) / (1 + square)
    return (0.0 if found <= 0 else max(0.0, low)), (1.0 if found >= trials else min(1.0, high))


def at_least(found: int, trials: int, rate: float) -> float:
    """The chance that so many or more of the trials come out at a rate (binomial)."""
    below = sum(math.comb(trials, count) * rate**count * (1 - rate) ** (trials - count) for count in range(found))
    return max(0.0, 1.0 - below)


def against_people(rate: float, people: float) -> float:
    """The chance that a stranger passes for any of several people, if for each alone it is `rate`."""
    return -math.expm1(people * math.log1p(-rate)) if rate < 1 else 1.0


def for_each_person(rate: float, people: float) -> float:
    """The inverse of `against_people`: what one comparison may let pass."""
    return -math.expm1(math.log1p(-rate) / people)


def comparisons(faces_of_people: Sequence[int]) -> float:
    """How many people of one face each a gallery is as good as, for a stranger."""
    return float(sum(faces**_FACES_EXPONENT for faces in faces_of_people))


@dataclasses.dataclass(frozen=True)
class Tail:
    """What is known of an encoder's distances between different people: a normal distribution's lower end.

    With the default encoder's two points of LFW View 2, galleries of 2, 5, 20 and 50 people drawn of LFW at random give
    a match to 1.20, 1.25, 1.12 and 1.14 % of all others where it says 1 %; moved to meet their own strangers (see
    `Calibration`), galleries of 100 and 400 to 0.90 and 0.87 %.

    Attributes:
      mean: Of the distribution, in D.
      deviation: Its standard deviation.
      evidence: What it was measured on.
    """

    mean: float
    deviation: float
    evidence: str

    @staticmethod
    def through(points: Sequence[Mapping[str, float]], evidence: str) -> "Tail | None":
        """The one that passes through an encoder's operating points; None if they do not determine it.

        Args:
          points: tau and false_match_rate of each; the smallest and the largest rate count.
          evidence: What they were measured on.
        """
        known = sorted((point["false_match_rate"], point["tau"]) for point in points)
        known = [(rate, tau) for rate, tau in known if 0 < rate < 1]
        if len(known) < 2 or not (known[0][0] < known[-1][0] and known[0][1] < known[-1][1]):
            return None
        (low, near), (high, far) = known[0], known[-1]
        deviation = (far - near) / (_NORMAL.inv_cdf(high) - _NORMAL.inv_cdf(low))
        return Tail(near - deviation * _NORMAL.inv_cdf(low), deviation, evidence)

    def tau(self, rate: float, people: float) -> float:
        """The D within which a stranger finds any of so many people at a rate."""
        return self.mean + self.deviation * _NORMAL.inv_cdf(for_each_person(rate, people))

    def rate(self, tau: float, people: float) -> float:
        """The chance that a stranger finds any of so many people within tau: the inverse of `tau`."""
        return against_people(_NORMAL.cdf((tau - self.mean) / self.deviation), people)
