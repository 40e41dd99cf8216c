"""People in memory are searched as a published gallery is."""

import fakes
import numpy as np

from celebface.indexing.gallery import Gallery
from celebface.indexing.roster import Roster
from celebface.indexing.searcher import Neighbour

VECTORS, PEOPLE = fakes.crowds([1, 2, 3] * 8, 24, 0.6)


def roster(vectors: np.ndarray, people: list[str]) -> Roster:
    faces = [
        Neighbour(who, fakes.person(who).identity_id, 9.0, fakes.face_id_of(who, row), fakes.photo_of(who, row))
        for row, who in enumerate(people)
    ]
    return Roster(vectors, faces)


def test_it_answers_as_a_gallery_of_the_same_faces(tmp_path):
    gallery = Gallery.open(fakes.gallery(str(tmp_path), VECTORS, PEOPLE, effort=10**6))
    queries = np.concatenate([VECTORS[::5], fakes.unit_vectors(10, 24, seed=2)])
    for count in (1, 3, 100):
        assert roster(VECTORS, PEOPLE).nearest_people(queries, count) == gallery.nearest_people(queries, count)


def test_people_as_near_as_each_other_are_ordered_by_their_ids():
    vectors = np.repeat(fakes.unit_vectors(1, 8), 3, axis=0)
    (answer,) = roster(vectors, ["ann", "bob", "eve"]).nearest_people(vectors[:1], 3)
    ids = [person.identity_id for person in answer]
    assert ids == sorted(ids) and [person.distance for person in answer] == [0.0] * 3


def test_the_vectors_of_each_person_keep_their_order():
    found = roster(VECTORS, PEOPLE).faces_of_people()
    assert list(found) == sorted(fakes.person(who).identity_id for who in set(PEOPLE))
    mine = [row for row, who in enumerate(PEOPLE) if who == "person 002"]
    assert np.array_equal(found[fakes.person("person 002").identity_id], VECTORS[mine]) and len(mine) == 3
