"""Which faces are under the wrong name: each finding on clusters of vectors, and the same whatever the order."""

import dataclasses
import itertools

import fakes
import numpy as np
import pytest

from celebface.indexing import audit, cores
from celebface.indexing.audit import Judgement, Pair

DIMENSION = 128


class Faces:
    """Faces of people who are all at right angles to each other, D 2; a face's own part is so, too."""

    def __init__(self):
        self._axes = iter(np.eye(DIMENSION, dtype=np.float32))
        self._people: dict[str, np.ndarray] = {}
        self.faces: list[str] = []
        self.names: list[str] = []
        self.vectors: list[np.ndarray] = []

    def of(self, person: str, own: float = 0.4) -> np.ndarray:
        """A face of somebody; two of them with `own` 0.4 are at D 0.276, one with 1 from these at D 0.69."""
        if person not in self._people:
            self._people[person] = next(self._axes)
        return fakes.unit((self._people[person] + own * next(self._axes))[None])[0]

    def add(self, name: str, *vectors: np.ndarray) -> "Faces":
        """Puts faces under a name; their ids are the name and a number."""
        for vector in vectors:
            self.faces.append(f"{name}-{self.names.count(name)}")
            self.names.append(name)
            self.vectors.append(vector)
        return self

    def many(self, name: str, count: int, person: str = "") -> "Faces":
        return self.add(name, *(self.of(person or name) for _ in range(count)))

    def summary(self, order: list[int] | None = None) -> audit.Summary:
        order = list(range(len(self.faces))) if order is None else order
        names = [self.names[row] for row in order]
        return audit.summarise(
            [self.faces[row] for row in order],
            [f"id {name}" for name in names],
            names,
            np.array([self.vectors[row] for row in order]),
        )

    def judged(self) -> Judgement:
        return audit.judge(self.summary())


def findings(judgement: Judgement) -> dict[str, str]:
    return {doubt.face_id: str(doubt.finding) for doubt in judgement.doubts}


def test_people_who_agree_are_left_alone():
    judged = Faces().many("ann", 5).many("bob", 2).many("cid", 1).judged()
    assert judged == Judgement([], [])


def test_a_face_of_another_person_is_told_with_both_distances():
    faces = Faces().many("ann", 5).many("bob", 4)
    judged = faces.add("ann", faces.of("bob")).judged()
    (doubt,) = judged.doubts
    own, near = (
        fakes.unit(np.mean(faces.vectors[:5], axis=0)[None]),
        fakes.unit(np.mean(faces.vectors[5:9], axis=0)[None]),
    )
    distances = [float(((faces.vectors[9] - core) ** 2).sum()) for core in (own, near)]
    assert [doubt.own, doubt.near] == pytest.approx(distances, abs=1e-5)
    assert (doubt.face_id, doubt.identity_id, doubt.finding) == ("ann-5", "id ann", "wrong_person")
    assert (doubt.support, doubt.other_id, doubt.other) == (5, "id bob", "bob")


def test_a_face_of_nobody_is_an_outlier():
    faces = Faces().many("ann", 5).many("bob", 4)
    judged = faces.add("ann", faces.of("a stranger")).judged()
    assert findings(judged) == {"ann-5": "outlier"}
    assert judged.doubts[0].own == pytest.approx(2) and judged.doubts[0].near == pytest.approx(2)


def test_a_bad_photo_of_the_right_person_stays():
    faces = Faces().many("ann", 5)
    bad = faces.of("ann", own=2.5)
    assert findings(faces.add("ann", bad).judged()) == {}
    assert 1.1 < cores.find_core(np.array(faces.vectors)).own[5] < 1.4


def test_of_two_faces_that_disagree_the_one_that_is_like_another_person_is_wrong():
    faces = Faces().many("bob", 3)
    assert findings(faces.add("ann", faces.of("ann"), faces.of("bob")).judged()) == {"ann-1": "wrong_person"}


def test_that_person_may_have_but_one_face():
    faces = Faces().many("bob", 1)
    assert findings(faces.add("ann", faces.of("ann"), faces.of("bob")).judged()) == {"ann-1": "wrong_person"}


def test_an_outlier_may_be_like_somebody_with_one_face():
    faces = Faces().many("ann", 5).many("bob", 1)
    assert findings(faces.add("ann", faces.of("bob")).judged()) == {"ann-5": "wrong_person"}


def test_of_two_faces_that_disagree_and_are_like_nobody_both_are_doubtful():
    faces = Faces().many("bob", 3)
    judged = faces.add("ann", faces.of("ann"), faces.of("a stranger")).judged()
    assert findings(judged) == {"ann-0": "doubtful", "ann-1": "doubtful"}
    assert [doubt.own for doubt in judged.doubts] == pytest.approx([2, 2])
    assert [doubt.support for doubt in judged.doubts] == [0, 0]


def test_half_against_half_is_decided_by_another_person():
    faces = Faces().many("bob", 3)
    faces.many("ann", 2, "ann").many("ann", 2, "bob")
    assert findings(faces.judged()) == {"ann-2": "wrong_person", "ann-3": "wrong_person"}


def test_half_against_half_and_nobody_to_decide_leaves_all_in_doubt():
    faces = Faces().many("ann", 2, "one").many("ann", 2, "another")
    assert findings(faces.judged()) == {f"ann-{number}": "doubtful" for number in range(4)}


def test_when_a_dispute_is_decided_the_rest_are_looked_at_again():
    faces = Faces().many("bob", 3)
    faces.many("ann", 2, "ann").many("ann", 2, "bob").many("ann", 1, "a stranger")
    assert findings(faces.judged()) == {"ann-2": "wrong_person", "ann-3": "wrong_person", "ann-4": "outlier"}


def test_the_majority_is_right():
    faces = Faces().many("ann", 3).many("ann", 2, "a stranger")
    assert findings(faces.judged()) == {"ann-3": "outlier", "ann-4": "outlier"}


def test_the_only_face_of_a_person_may_be_somebody_elses():
    faces = Faces().many("bob", 4).many("cid", 4)
    judged = faces.many("ann", 1, "bob").judged()
    assert findings(judged) == {"ann-0": "wrong_person"}
    assert (judged.doubts[0].own, judged.doubts[0].support, judged.doubts[0].other) == (None, 1, "bob")
    assert judged.pairs == []


def test_the_only_face_of_a_person_stays_if_it_is_as_like_two_others():
    faces = Faces()
    between = fakes.unit((faces.of("bob", 0) + 0.9 * faces.of("bobby", 0))[None])[0]
    for name in ("bob", "bobby"):
        faces.many(name, 4)
    assert findings(faces.add("ann", between).judged()) == {}
    near = 2 - 2 * between @ fakes.unit(np.mean(faces.vectors[:4], axis=0)[None])[0]
    assert near < 0.7


def test_two_people_with_one_face_each_who_are_alike_are_only_told():
    judged = Faces().many("bob", 1, "twin").many("ann", 1, "twin").many("cid", 3).judged()
    assert judged.doubts == []
    (pair,) = judged.pairs
    assert dataclasses.replace(pair, distance=0) == Pair("id ann", "ann", 1, "id bob", "bob", 0)
    assert pair.distance == pytest.approx(2 - 2 / 1.16, abs=1e-5)


def test_as_good_as_the_same_photo_under_two_names_is_right_for_neither():
    faces = Faces()
    photo = faces.of("ann")
    judged = faces.add("ann", photo).add("bob", photo).judged()
    assert findings(judged) == {"ann-0": "two_names", "bob-0": "two_names"}
    assert [(doubt.near, doubt.other) for doubt in judged.doubts] == [(0, "bob"), (0, "ann")]
    assert judged.pairs == []


def test_the_same_photo_under_two_names_is_decided_by_the_other_photos():
    faces = Faces().many("ann", 3).many("bob", 3)
    photo = faces.of("ann")
    assert findings(faces.add("ann", photo).add("bob", photo).judged()) == {"bob-3": "wrong_person"}


def test_what_is_left_of_a_dispute_is_no_judge_over_others():
    """Bob's other photo was wrong: whether the one left is, or ann's only one, nobody can tell."""
    faces = Faces().many("cid", 3)
    faces.add("bob", faces.of("twin"), faces.of("cid")).add("ann", faces.of("twin"))
    assert findings(faces.judged()) == {"ann-0": "doubtful", "bob-0": "doubtful", "bob-1": "wrong_person"}


def test_people_whose_cores_are_close_are_told_and_stay():
    faces = Faces().many("ann", 4, "one").many("bob", 4, "one").many("cid", 4)
    judged = faces.judged()
    assert judged.doubts == []
    assert [(pair.identity, pair.other, pair.support) for pair in judged.pairs] == [("ann", "bob", 4)]


def test_pairs_come_nearest_first():
    faces = Faces().many("ann", 2, "one").many("bob", 2, "one").many("cid", 9, "two").many("dan", 9, "two")
    assert [pair.identity for pair in faces.judged().pairs] == ["cid", "ann"]


def test_one_face_alone():
    assert Faces().many("ann", 1).judged() == Judgement([], [])


def test_nobody():
    nobody = audit.summarise([], [], [], np.empty((0, 4), np.float32))
    assert (
        audit.judge(nobody) == audit.judge(audit.merge([])) == audit.judge(audit.merge([nobody])) == Judgement([], [])
    )


def test_neither_order_nor_partition_changes_a_bit():
    vectors, names = fakes.crowds([1] * 30 + [2] * 20 + [9] * 10, 32, 0.5)
    random = np.random.default_rng(1)
    chosen = random.choice(len(names), 20, replace=False)
    for row, other in zip(chosen, random.permutation(chosen), strict=True):
        names[row] = f"person {other % 60:03d}"
    ids = [f"{number:04d}" for number in range(len(names))]
    whole = audit.judge(audit.summarise(ids, names, names, vectors))
    assert {str(doubt.finding) for doubt in whole.doubts} >= {"wrong_person", "outlier", "doubtful"}
    for parts in (2, 7):
        summaries = []
        for part in range(parts):
            rows = [row for row in random.permutation(len(names)) if hash_of(names[row]) % parts == part]
            mine = [names[row] for row in rows]
            summaries.append(audit.summarise([ids[row] for row in rows], mine, mine, vectors[rows]))
        assert audit.judge(audit.merge(reversed(summaries))) == whole


def hash_of(name: str) -> int:
    return int(name.split()[1])


def test_a_person_with_more_faces_than_are_compared():
    axes = np.eye(1600, dtype=np.float32)
    right = fakes.unit(axes[0] + 0.5 * axes[1:1501])
    wrong = fakes.unit(axes[1501] + 0.5 * axes[1502:1512])
    core = cores.find_core(np.concatenate([right, wrong]))
    assert core.size == 1500 and not core.members[1500:].any()
    assert (core.own[:1500] < 0.3).all() and (core.own[1500:] > 1.9).all()


def test_a_person_of_many_faces_that_all_disagree():
    core = cores.find_core(np.eye(1100, dtype=np.float32))
    assert core.size == 0 and core.own.tolist() == [2] * 1100


def test_what_is_settled_is_not_handed_on():
    faces = Faces().many("ann", 50)
    summary = faces.add("ann", faces.of("bob")).summary()
    assert summary.faces == ["ann-50"] and summary.sizes.tolist() == [50]


@pytest.mark.parametrize("order", itertools.islice(itertools.permutations(range(5)), 0, 120, 17))
def test_the_order_of_a_persons_faces_does_not_matter(order):
    faces = Faces().many("ann", 2, "one").many("ann", 2, "two").many("ann", 1, "three")
    assert audit.judge(faces.summary(list(order))) == faces.judged()


def test_the_nearest_others_are_those_of_all_blocks(monkeypatch):
    monkeypatch.setattr(cores, "_BLOCK", 7)
    monkeypatch.setattr(cores, "_COLUMNS", 5)
    faces, others = fakes.unit_vectors(40, 16, seed=1), fakes.unit_vectors(23, 16, seed=2)
    people = np.arange(0, 46, 2)
    owners = np.arange(40)  # every other one has nobody among the people
    distances = ((faces[:, None] - others[None]) ** 2).sum(axis=2)
    distances[owners[:, None] == people[None]] = np.inf
    rows, found = cores.nearest_others(faces, owners, others, people)
    assert (rows == np.argsort(distances, axis=1)[:, :2]).all()
    assert np.allclose(found, np.sort(distances, axis=1)[:, :2], atol=1e-6)


def test_there_may_be_no_other():
    faces = fakes.unit_vectors(2, 4)
    rows, found = cores.nearest_others(faces, np.array([0, 3]), faces[:1], np.array([0]))
    assert rows.tolist() == [[-1, -1], [0, -1]]
    assert found[0].tolist() == [np.inf, np.inf] and found[1][1] == np.inf and found[1][0] > 0
