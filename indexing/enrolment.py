"""What each further photo of a person is worth: people enrolled by one photo or by some, and nothing trained."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from celebface.indexing import verification

DRAWS = 10
MOST_PROBES = 5  # of a person in a draw, lest those with hundreds of photos decide
MOST_SUBJECTS = 1000  # in a draw: 5 million comparisons, whatever the number of people
_ROWS = 256  # probes held at once against the people of one photo


class TooFewPhotos(Exception):
    """Nobody, or a single person, has photos enough; the message is for the user."""


@dataclasses.dataclass(frozen=True)
class Spread:
    """A figure over the draws.

    Attributes:
      mean: Its mean.
      sd: Its standard deviation: what the choice of photos does, not that of people.
    """

    mean: float
    sd: float

    @staticmethod
    def of(figures: Sequence[float]) -> "Spread":
        """The spread of some figures."""
        return Spread(float(np.mean(figures)), float(np.std(figures)))


@dataclasses.dataclass(frozen=True)
class Verified:
    """VAL@FAR: a probe against the one person it is said to show.

    Attributes:
      false_match_rate: Share of claims to be another subject that are believed.
      tau: Mean over the draws of the largest threshold that keeps it.
      true_match_rate: Share of true claims that are believed at it.
    """

    false_match_rate: float
    tau: float
    true_match_rate: Spread


@dataclasses.dataclass(frozen=True)
class Point:
    """How well people are known by so many photos.

    Attributes:
      enrolled: Photos of each subject in the gallery.
      rank_one: Share of probes that are nearer to their own person than to anybody else.
      verified: For each rate asked for, less those that so few comparisons cannot show.
    """

    enrolled: int
    rank_one: Spread
    verified: list[Verified]


@dataclasses.dataclass(frozen=True)
class EnrolmentCurve:
    """What was measured.

    Attributes:
      subjects: People in a draw who are enrolled by some photos and probed with others.
      others: People in a draw who are in the gallery with one photo each.
      probes: Probes of all draws; the same for each number of enrolled photos.
      draws: How often photos were drawn.
      seed: What they were drawn by.
      repeats: Photos left out because the person has one of exactly the same vector.
      points: By number of enrolled photos.
    """

    subjects: int
    others: int
    probes: int
    draws: int
    seed: int
    repeats: int
    points: list[Point]


@dataclasses.dataclass(frozen=True, eq=False)
class Draw:
    """Who is enrolled by what, and probed with what; rows are those of the vectors.

    Attributes:
      enrolled: int64 [S, M], rows of each subject in the order of their enrolment.
      probes: int64 [P], rows.
      owners: int64 [P], which of the S subjects each probe shows.
      others: int64 [O], a row of each other person.
    """

    enrolled: np.ndarray
    probes: np.ndarray
    owners: np.ndarray
    others: np.ndarray


def check_enough(sizes: Iterable[int], most: int) -> None:
    """Refuses people of whom fewer than two have a photo more than are enrolled.

    Args:
      sizes: Photos of each person.
      most: Photos enrolled at most.

    Raises:
      TooFewPhotos: If so.
    """
    best = sorted([0, 0, *sizes])[-2:]
    if best[0] <= most:
        raise TooFewPhotos(
            f"to enrol {most} of a person's photos and probe with another takes two people with {most + 1} photos or "
            f"more; the two with most have {best[1]} and {best[0]}"
        )


def rows_of_people(vectors: np.ndarray, people: np.ndarray) -> list[np.ndarray]:
    """The rows of each person, int64 [n], people by name; of equal vectors of one person the first alone.

    A photo that lies there twice would be found by itself.
    """
    order = np.argsort(people, kind="stable")
    ends = np.flatnonzero(people[order][1:] != people[order][:-1]) + 1
    found = []
    for rows in np.split(order, ends) if len(order) else []:
        _, first = np.unique(vectors[rows], axis=0, return_index=True)
        found.append(rows[np.sort(first)])
    return found


def draw(people: Sequence[np.ndarray], most: int, random: np.random.Generator) -> Draw:
    """Draws subjects from those with more than `most` photos, their photos, and one photo of everybody else.

    Args:
      people: Rows of each person.
      most: Photos to enrol of each subject.
      random: Draws.
    """
    able = [number for number, rows in enumerate(people) if len(rows) > most]
    subjects = np.sort(random.permutation(able)[:MOST_SUBJECTS]).tolist()
    shuffled = [random.permutation(people[number])[: most + MOST_PROBES] for number in subjects]
    others = [random.choice(people[number]) for number in sorted(set(range(len(people))) - set(subjects))]
    return Draw(
        enrolled=np.stack([rows[:most] for rows in shuffled]),
        probes=np.concatenate([rows[most:] for rows in shuffled]),
        owners=np.repeat(np.arange(len(subjects)), [len(rows) - most for rows in shuffled]),
        others=np.array(others, np.int64),
    )


def judge(
    vectors: np.ndarray, drawn: Draw, counts: Sequence[int], rates: Sequence[float]
) -> list[tuple[float, list[verification.RateAt]]]:
    """Rank-1 and VAL@FAR of one draw for each number of enrolled photos.

    A person is as near as the nearest of the enrolled photos. Rank-1 is against all subjects, by as many photos, and
    all others; equals count as errors. A claim is one of a probe to be one of the subjects.

    Args:
      vectors: float32 [N, d], unit rows.
      drawn: Who is enrolled.
      counts: Numbers of enrolled photos, from the least; the last is at most M.
      rates: False match rates.

    Returns:
      For each count the share of probes at rank 1, and VAL at each rate.
    """
    probes = vectors[drawn.probes]
    own = drawn.owners[:, None] == np.arange(len(drawn.enrolled))
    elsewhere = _least(probes, vectors[drawn.others])
    least = np.full(own.shape, np.inf, np.float32)
    found = []
    for number in range(counts[-1]):
        np.minimum(least, _squared(probes, vectors[drawn.enrolled[:, number]]), out=least)
        if number + 1 in counts:
            rivals = np.minimum(np.where(own, np.inf, least).min(axis=1), elsewhere)
            right = float(np.mean(least[own] < rivals))  # own has one in each row
            claims, truth = least.ravel(), own.ravel()
            found.append((right, [verification.true_match_rate_at(claims, truth, rate) for rate in rates]))
    return found


def measure(
    vectors: np.ndarray, people: np.ndarray, counts: Sequence[int], rates: Sequence[float], seed: int
) -> EnrolmentCurve:
    """Rank-1 and VAL@FAR by the number of enrolled photos, over `DRAWS` draws.

    Args:
      vectors: float32 [N, d], unit rows.
      people: [N], who is on each.
      counts: Numbers of enrolled photos, from the least.
      rates: False match rates; left out if a draw has fewer false claims than one in so many.
      seed: What photos are drawn by.

    Raises:
      TooFewPhotos: If there are fewer than two subjects.
    """
    rows = rows_of_people(vectors, people)
    check_enough(map(len, rows), counts[-1])
    random = np.random.default_rng(seed)
    draws = [draw(rows, counts[-1], random) for _ in range(DRAWS)]
    subjects = len(draws[0].enrolled)
    claims = min(len(drawn.probes) for drawn in draws) * (subjects - 1)  # false ones
    shown = [rate for rate in rates if rate * claims >= 1]
    judged = [judge(vectors, drawn, counts, shown) for drawn in draws]
    points = []
    for number, count in enumerate(counts):
        right, at_rates = zip(*(results[number] for results in judged), strict=True)
        points.append(Point(count, Spread.of(right), [_over_draws(some) for some in zip(*at_rates, strict=True)]))
    return EnrolmentCurve(
        subjects=subjects,
        others=len(draws[0].others),
        probes=sum(len(drawn.probes) for drawn in draws),
        draws=DRAWS,
        seed=seed,
        repeats=len(people) - sum(map(len, rows)),
        points=points,
    )


def _over_draws(rates: Sequence[verification.RateAt]) -> Verified:
    tau = float(np.mean([each.tau for each in rates]))
    return Verified(rates[0].false_match_rate, tau, Spread.of([each.true_match_rate for each in rates]))


def _squared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """D of all pairs of unit rows, float32 [A, B]."""
    return np.float32(2) - np.float32(2) * (first @ second.T)


def _least(probes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """D of each probe to the nearest of the others, float32 [P]; infinite if there is none."""
    least = np.full(len(probes), np.inf, np.float32)
    if len(others):
        for start in range(0, len(probes), _ROWS):  # bounds the matrix of distances
            least[start : start + _ROWS] = _squared(probes[start : start + _ROWS], others).min(axis=1)
    return least
