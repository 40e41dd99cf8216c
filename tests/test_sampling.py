"""Which faces a batch holds, and who is set aside."""

import collections

import numpy as np
import pytest

from celebface.models.sampling import PeopleSampler, split_people

# Seven people with 1, 2, 3, 5, 2, 1 and 4 photos, mixed up.
PEOPLE = np.random.default_rng(5).permutation(np.repeat(np.arange(7) * 10, [1, 2, 3, 5, 2, 1, 4]))


def drawn(sampler: PeopleSampler, step: int) -> list[int]:
    return PEOPLE[sampler.batch(step)].tolist()


@pytest.mark.parametrize("step", range(6))
def test_a_batch_holds_so_many_people_with_so_many_photos_each(step):
    people = drawn(PeopleSampler(PEOPLE, 2, 3, seed=1), step)
    assert people == [people[0]] * 3 + [people[3]] * 3
    assert people[0] != people[3]


def test_a_persons_photos_differ_while_there_are_any():
    sampler = PeopleSampler(PEOPLE, 5, 3, seed=2)
    for step in range(20):
        for rows in sampler.batch(step).reshape(5, 3):
            has = np.count_nonzero(PEOPLE[rows[0]] == PEOPLE)
            assert len(set(rows)) == min(3, has)


def test_in_an_epoch_everybody_with_two_photos_comes_once():
    sampler = PeopleSampler(PEOPLE, 2, 2, seed=3)
    assert (sampler.people, sampler.steps_per_epoch) == (5, 2)
    for epoch in range(4):
        seen = collections.Counter(person for step in (0, 1) for person in set(drawn(sampler, 2 * epoch + step)))
        assert len(seen) == 4 and set(seen.values()) == {1}
        assert not {0, 50} & seen.keys(), "people with one photo have no pair"
    orders = {tuple(drawn(sampler, 2 * epoch)) for epoch in range(6)}
    assert len(orders) > 1, "each epoch has an order of its own"


def test_all_of_a_persons_photos_come_in_time():
    sampler = PeopleSampler(PEOPLE, 5, 2, seed=4)
    seen = {row for step in range(60) for row in sampler.batch(step).tolist()}
    assert seen == set(np.flatnonzero(~np.isin(PEOPLE, [0, 50])).tolist())


def test_a_step_depends_on_the_seed_and_its_number_alone():
    forwards, backwards = PeopleSampler(PEOPLE, 2, 3, seed=1), PeopleSampler(PEOPLE, 2, 3, seed=1)
    first = [forwards.batch(step).tolist() for step in range(8)]
    assert [backwards.batch(step).tolist() for step in reversed(range(8))] == first[::-1]
    assert [PeopleSampler(PEOPLE, 2, 3, seed=9).batch(step).tolist() for step in range(8)] != first


def test_a_batch_has_no_more_people_than_there_are():
    sampler = PeopleSampler(PEOPLE, 50, 2, seed=0)
    assert sampler.steps_per_epoch == 1
    assert set(drawn(sampler, 3)) == {10, 20, 30, 40, 60}


@pytest.mark.parametrize("people, p, k", [([1, 1, 2, 3], 2, 2), ([1, 2, 3], 2, 2), (PEOPLE, 1, 3), (PEOPLE, 3, 1)])
def test_what_holds_no_triplet_is_refused(people, p, k):
    with pytest.raises(ValueError, match="two people with two photos"):
        PeopleSampler(np.array(people), p, k, seed=0)


def test_people_are_set_aside_whole_and_of_both_kinds():
    people = np.repeat(np.arange(100), [1] * 60 + [4] * 40)
    aside = split_people(people, 0.2, seed=7)
    inside, outside = set(people[~aside].tolist()), set(people[aside].tolist())
    assert not inside & outside
    assert sum(person < 60 for person in outside) == 12
    assert sum(person >= 60 for person in outside) == 8
    assert np.array_equal(aside, split_people(people, 0.2, seed=7))
    assert not np.array_equal(aside, split_people(people, 0.2, seed=8))


def test_of_few_people_two_with_several_photos_are_set_aside():
    for several, least in ((3, 1), (4, 2), (7, 2), (20, 4)):
        people = np.repeat(np.arange(several + 2), [3] * several + [1] * 2)
        outside = set(people[split_people(people, 0.2, seed=0)].tolist())
        assert sum(person < several for person in outside) == least


def test_people_with_one_photo_come_last_each_once_and_no_more_than_there_are():
    people = np.repeat(np.arange(8), [1, 3, 1, 2, 1, 1, 2, 1])
    alone = {0, 2, 4, 5, 7}
    for asked, count in ((0, 0), (3, 3), (50, 5)):
        sampler = PeopleSampler(people, 2, 2, seed=1, singles_per_batch=asked)
        drawn_at = [people[sampler.batch(step)].tolist() for step in range(10)]
        for batch in drawn_at:
            assert len(batch) == 4 + count and not alone & set(batch[:4])
            assert len(set(batch[4:])) == count and set(batch[4:]) <= alone
        assert len({tuple(batch[4:]) for batch in drawn_at}) > 1 or not asked
        assert drawn_at[3] == people[PeopleSampler(people, 2, 2, 1, asked).batch(3)].tolist()
