"""Which faces of a gallery are under the wrong name: decided by everybody's faces together.

First each person is summed up (`summarise`): a core, robust against faces that do not belong, and the faces that it
does not settle. Then all people are judged together (`judge`), for a face that is far from its own person tells little,
and one that is near another person tells much. Everything is measured in D, the squared L2 distance of unit vectors.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from celebface.indexing.cores import NOBODY, Core, find_core, nearest_others
from celebface.indexing.schemas import Finding

# All from LFW dev (870 faces of 422 people) and the sample, with a twentieth of their labels shuffled; LFW train
# (4,496 of 1,662) was looked at, too. What they find is measured by benchmarks/audit.py.
_SETTLED = 0.7  # nearer than this to the core of the person's others, a face is right, whoever else it is like
# Farther than this from it, a face is somebody else's. Of the 4,042 faces of dev and train whose person has several
# that agree 2 are, of the sample's 92 one, which shows another woman beside the man it is named after; of pairs of a
# face and another person's core 96 %. At 1.2, 4 % of the sample's would be: bad photos, but right.
_FAR = 1.4
# As near as this to the core of another person, a face is that person's: of those that are the only ones of their own,
# and right, 0.4 % (train 2.3 %) are.
_LIKE = 0.7
_LIKE_ONE = 0.6  # likewise to the only face of another person: none (train 0.4 %)
_CLEARLY = 0.2  # but it must be nearer by this than to its own person, or, if it is the only one, than to anybody else
_COPY = 0.1  # two faces as near as this are of one photo, or nearly; see `transforms.shard`
_PAIR = 0.45  # cores of several faces, of two people: none of dev's 151 is as near to another, 2 of train's 616


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """People, and those of their faces that are not settled.

    Attributes:
      people: Identity ids, in order.
      names: Of the people.
      cores: float32 [P, d], unit rows; of somebody without a core any unit vector.
      sizes: int32 [P], faces that a core is made of; 1 for people with one face, 0 for those whose faces disagree.
      faces: Face ids of the unsettled faces, by person and id.
      owners: int32 [U], rows of `people`.
      vectors: float32 [U, d].
      own: float32 [U], D to the core of the person's other faces, or to the nearest of them if there is no core; NaN
        if there are none.
    """

    people: list[str]
    names: list[str]
    cores: np.ndarray
    sizes: np.ndarray
    faces: list[str]
    owners: np.ndarray
    vectors: np.ndarray
    own: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Doubt:
    """A face that may be under the wrong name, with the evidence.

    Attributes:
      face_id: The face.
      identity_id: Whom it is said to show.
      finding: What is wrong with it.
      own: D to the person's other faces; None if there are none.
      support: How many faces the person's core is made of; 0 if they disagree.
      near: D to the person it is most like of all others; None if there is no other.
      other_id: That person.
      other: Their name.
    """

    face_id: str
    identity_id: str
    finding: Finding
    own: float | None
    support: int
    near: float | None
    other_id: str
    other: str


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Two people too close to tell apart: perhaps one person under two names.

    Attributes:
      identity_id: The one.
      identity: Their name.
      support: How many faces their core is made of.
      other_id: The other.
      other: Their name.
      distance: D of their cores.
    """

    identity_id: str
    identity: str
    support: int
    other_id: str
    other: str
    distance: float


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What an audit found, each in a fixed order.

    Attributes:
      doubts: By person and face.
      pairs: The nearest first.
    """

    doubts: list[Doubt]
    pairs: list[Pair]


def summarise(faces: Sequence[str], people: Sequence[str], names: Sequence[str], vectors: np.ndarray) -> Summary:
    """Sums up people, of whom all faces must be given.

    Args:
      faces: Face ids, in any order.
      people: Identity id of each face.
      names: The person's name for each face.
      vectors: float32 [N, d], unit rows.
    """
    order = sorted(range(len(faces)), key=lambda row: (people[row], faces[row]))
    found: list[tuple[str, str, Core]] = []
    unsettled: list[int] = []
    owners: list[int] = []
    own: list[float] = []
    for person, rows in itertools.groupby(order, key=lambda row: people[row]):
        mine = np.array(list(rows))
        core = find_core(vectors[mine])
        doubtful = np.flatnonzero(~(core.own <= _SETTLED)) if core.size else np.arange(len(mine))
        unsettled.extend(mine[doubtful])
        owners.extend([len(found)] * len(doubtful))
        own.extend(core.own[doubtful])
        found.append((person, min(names[row] for row in mine), core))
    dimension = vectors.shape[1]
    return Summary(
        [person for person, _, _ in found],
        [name for _, name, _ in found],
        np.array([core.vector for _, _, core in found], np.float32).reshape(-1, dimension),
        np.array([core.size for _, _, core in found], np.int32),
        [faces[row] for row in unsettled],
        np.array(owners, np.int32),
        vectors[np.array(unsettled, np.int64)],
        np.array(own, np.float32),
    )


def merge(summaries: Iterable[Summary]) -> Summary:
    """Sums up the people of several summaries, each of whom is in one of them."""
    summaries = [each for each in summaries if each.people]
    if not summaries:
        return summarise([], [], [], np.empty((0, 1), np.float32))
    people = [person for each in summaries for person in each.people]
    order = sorted(range(len(people)), key=people.__getitem__)
    names = [name for each in summaries for name in each.names]
    place = np.empty(len(people), np.int32)
    place[order] = np.arange(len(people))
    starts = np.cumsum([0, *(len(each.people) for each in summaries)])
    owners = np.concatenate([place[each.owners + start] for each, start in zip(summaries, starts, strict=False)])
    rows = np.argsort(owners, kind="stable")  # a person's faces are in order
    faces = [face for each in summaries for face in each.faces]
    return Summary(
        [people[row] for row in order],
        [names[row] for row in order],
        np.concatenate([each.cores for each in summaries])[order],
        np.concatenate([each.sizes for each in summaries])[order],
        [faces[row] for row in rows],
        owners[rows],
        np.concatenate([each.vectors for each in summaries])[rows],
        np.concatenate([each.own for each in summaries])[rows],
    )


def judge(summary: Summary) -> Judgement:
    """Finds the faces that are under the wrong name, and people who cannot be told apart.

    Args:
      summary: Of all people of a gallery.
    """
    case = _Case(summary)
    case.compare_with_cores()
    case.compare_with_lone_faces()
    case.compare_lone_faces()
    case.settle_the_rest()
    lost = {int(summary.owners[face]) for face in case.findings if summary.sizes[summary.owners[face]] == 1}
    return Judgement([case.doubt(face) for face in sorted(case.findings)], list(_find_pairs(summary, lost)))


class _Case:
    """The unsettled faces of a gallery on their way to a finding.

    Attributes:
      findings: What is wrong with a face, by its row; those without are right, or it cannot be told that they are not.
    """

    def __init__(self, summary: Summary):
        self.findings: dict[int, Finding] = {}
        self._all = summary
        self._support = summary.sizes[summary.owners]
        self._near = np.full(len(summary.faces), np.inf, np.float32)
        self._other = np.full(len(summary.faces), NOBODY)

    def compare_with_cores(self) -> None:
        """Finds faces that are like people of whom several faces agree."""
        cores = np.flatnonzero(self._all.sizes >= 2)
        for face, near, other, next_near in self._nearest(range(len(self._support)), self._all.cores[cores], cores):
            self._near[face], self._other[face] = near, other
            rival = {0: np.inf, 1: next_near}.get(self._support[face], self._all.own[face])
            if near <= _LIKE and near + _CLEARLY <= rival:
                self.findings[face] = Finding.WRONG_PERSON

    def compare_with_lone_faces(self) -> None:
        """Finds faces at odds with their own person that are like somebody of whom there is but one face."""
        standing = list(self._standing().values())
        lone = np.array([rows[0] for rows in standing if len(rows) == 1], np.int64)
        at_odds = [face for rows in standing if len(rows) > 1 for face in rows]
        far = [face for face in self._far() if face not in self.findings]
        for face, near, other, _ in self._nearest([*at_odds, *far], self._all.vectors[lone], self._all.owners[lone]):
            if self._note(face, near, other) and near <= _LIKE_ONE:
                self.findings[face] = Finding.WRONG_PERSON

    def compare_lone_faces(self) -> None:
        """Finds lone faces that are like each other.

        Two people of one photo each who look alike are only told (`_find_pairs`): it may be one person under two names.
        But if it is as good as the same photo, or if one of the two had other photos that turned out wrong, one of the
        two is wrong, and nobody can tell which.
        """
        standing = {owner: rows[0] for owner, rows in self._standing().items() if len(rows) == 1}
        lone = np.array(sorted(standing.values()), np.int64)
        for face, near, other, _ in list(self._nearest(lone, self._all.vectors[lone], self._all.owners[lone])):
            twin, owner = standing[other], int(self._all.owners[face])
            disputed = min(self._support[face], self._support[twin]) == 0
            if near <= _COPY or (near <= _LIKE_ONE and disputed):
                finding = Finding.TWO_NAMES if near <= _COPY else Finding.DOUBTFUL
                for one, of in ((face, other), (twin, owner)):
                    self._note(one, near, of)
                    self.findings[one] = finding

    def settle_the_rest(self) -> None:
        """Decides on faces that are at odds with their own person, and like nobody else."""
        for face in self._far():
            self.findings.setdefault(face, Finding.OUTLIER)
        for rows in self._standing().values():
            core = find_core(self._all.vectors[rows])
            for face, member in zip(rows, core.members, strict=True):
                if not member:
                    self.findings[face] = Finding.OUTLIER if core.size else Finding.DOUBTFUL

    def _note(self, face: int, near: float, other: int) -> bool:
        """Remembers another person, if nobody else was nearer."""
        nearer = near < self._near[face]
        if nearer:
            self._near[face], self._other[face] = near, other
        return nearer

    def _far(self) -> list[int]:
        return [int(face) for face in np.flatnonzero((self._support >= 2) & (self._all.own > _FAR))]

    def _standing(self) -> dict[int, list[int]]:
        """The faces without a finding of people without a core of several, by person."""
        found: dict[int, list[int]] = collections.defaultdict(list)
        for face in np.flatnonzero(self._support < 2):
            if face not in self.findings:
                found[int(self._all.owners[face])].append(int(face))
        return found

    def _nearest(
        self, faces: Sequence[int] | np.ndarray, vectors: np.ndarray, people: np.ndarray
    ) -> Iterator[tuple[int, float, int, float]]:
        """The nearest other person of each face: row of the face, D, row of the person, and D of the next one."""
        faces = np.asarray(faces, np.int64)
        found = nearest_others(self._all.vectors[faces], self._all.owners[faces], vectors, people)
        for face, rows, distances in zip(faces, *found, strict=True):
            if rows[0] >= 0:
                yield int(face), float(distances[0]), int(people[rows[0]]), float(distances[1])

    def doubt(self, face: int) -> Doubt:
        """The finding on a face, with its evidence."""
        own, near, owner, other = self._all.own[face], self._near[face], self._all.owners[face], self._other[face]
        return Doubt(
            self._all.faces[face],
            self._all.people[owner],
            self.findings[face],
            None if np.isnan(own) else float(own),
            int(self._support[face]),
            float(near) if other != NOBODY else None,
            self._all.people[other] if other != NOBODY else "",
            self._all.names[other] if other != NOBODY else "",
        )


def _find_pairs(summary: Summary, left_out: set[int]) -> Iterator[Pair]:
    """Each person with the nearest other one, if they are too close to tell apart; the nearest pairs first."""
    people = np.array([row for row in np.flatnonzero(summary.sizes) if row not in left_out], np.int64)
    cores = summary.cores[people]
    found: dict[tuple[int, int], float] = {}
    for person, rows, distances in zip(people, *nearest_others(cores, people, cores, people), strict=True):
        one, two = sorted((int(person), int(people[rows[0]])))
        limit = _PAIR if min(summary.sizes[one], summary.sizes[two]) >= 2 else _LIKE_ONE
        if rows[0] >= 0 and distances[0] <= limit:
            found[one, two] = float(distances[0])
    for (one, two), distance in sorted(found.items(), key=lambda entry: (entry[1], entry[0])):
        yield Pair(
            summary.people[one],
            summary.names[one],
            int(summary.sizes[one]),
            summary.people[two],
            summary.names[two],
            distance,
        )
