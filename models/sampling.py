"""Which faces a training batch holds: P people with K photos each, as a function of the seed and the step alone."""

import functools

import numpy as np


class PeopleSampler:
    """Draws batches of P people with K photos each; what a step gets does not depend on the steps before it.

    In an epoch each person with two photos or more comes once, in an order of its own; who is left over when P does not
    divide their number waits for the next. People with one photo have no pair; some are drawn as negatives.
    """

    def __init__(
        self, people: np.ndarray, people_per_batch: int, photos_per_person: int, seed: int, singles_per_batch: int = 0
    ):
        """Sorts the photos by person.

        Args:
          people: Who is on each photo, int [N].
          people_per_batch: P, at least 2.
          photos_per_person: K, at least 2. Of a person with fewer, some are drawn twice; augmentation tells them apart.
          seed: The same gives the same batches.
          singles_per_batch: People with one photo that are added.

        Raises:
          ValueError: If there are fewer than two people with two photos, or a batch would hold no triplet.
        """
        if people_per_batch < 2 or photos_per_person < 2:
            raise ValueError("a batch needs two people with two photos each, or it holds no triplet")
        order = np.argsort(people, kind="stable")
        _, starts = np.unique(people[order], return_index=True)
        rows_of_people = np.split(order, starts[1:])
        self._rows = [rows for rows in rows_of_people if len(rows) > 1]
        self._singles = np.array([rows[0] for rows in rows_of_people if len(rows) == 1], np.int64)
        if len(self._rows) < 2:
            raise ValueError("training needs two people with two photos each, at least")
        self._count = min(people_per_batch, len(self._rows))
        self._photos = photos_per_person
        self._drawn_singles = min(singles_per_batch, len(self._singles))
        self._seed = seed
        self._order = functools.lru_cache(maxsize=2)(self._shuffled)

    @property
    def people(self) -> int:
        """People that are drawn."""
        return len(self._rows)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which nobody comes twice."""
        return len(self._rows) // self._count

    def batch(self, step: int) -> np.ndarray:
        """The photos of a step.

        Args:
          step: From 0.

        Returns:
          int64 [P K + S], row numbers, those of a person together, those of people with one photo last.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        rng = np.random.default_rng([self._seed, 1, step])
        drawn = self._order(epoch)[place * self._count : (place + 1) * self._count]
        alone = rng.choice(self._singles, self._drawn_singles, replace=False)
        return np.concatenate([*(self._photos_of(person, rng) for person in drawn), alone])

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, 0, epoch]).permutation(len(self._rows))

    def _photos_of(self, person: int, rng: np.random.Generator) -> np.ndarray:
        rows = rng.permutation(self._rows[person])
        return np.resize(rows, self._photos)  # repeats them in turn if there are too few


def split_people(people: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Sets people aside, whole: no one is on both sides.

    People with several photos and people with one are shared out alike, so that the part set aside has pairs of one
    person however small it is: of two people, if as many are left.

    Args:
      people: Who is on each photo, int [N].
      share: Of the people, 0..1.
      seed: The same gives the same people.

    Returns:
      bool [N], whether each photo's person is set aside.
    """
    found, counts = np.unique(people, return_counts=True)
    rng = np.random.default_rng([seed, 2])
    several, single = found[counts > 1], found[counts == 1]
    least = min(2, max(0, len(several) - 2))  # two are needed on either side
    aside = [
        rng.permutation(several)[: max(least, round(share * len(several)))],
        rng.permutation(single)[: round(share * len(single))],
    ]
    return np.isin(people, np.concatenate(aside))
