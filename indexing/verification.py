"""How well distances tell people apart: the measures of the LFW protocol."""

import dataclasses
from collections.abc import Sequence

import numpy as np

MOST_FACES = 10  # of a person among all pairs: those with hundreds of photos would be all that counts


@dataclasses.dataclass(frozen=True)
class RateAt:
    """VAL@FAR: the share of same-person pairs accepted where a stated share of other pairs is.

    Attributes:
      false_match_rate: The stated share.
      tau: Largest threshold that keeps it.
      true_match_rate: Share of same-person pairs with D <= tau.
    """

    false_match_rate: float
    tau: float
    true_match_rate: float


def accuracy(distances: np.ndarray, same: np.ndarray, tau: float) -> float:
    """Share of pairs judged rightly by D <= tau.

    Args:
      distances: float [P], D; NaN where a photo gave no face, which is judged "different".
      same: bool [P], the truth.
      tau: Threshold.
    """
    return float(np.mean((distances <= tau) == same))


def best_tau(distances: np.ndarray, same: np.ndarray, balanced: bool = False) -> float:
    """The threshold of the best accuracy, in the middle of the gap it lies in; the smallest of equals.

    Args:
      distances: float [P], D.
      same: bool [P], the truth.
      balanced: Both kinds of pairs count the same, however many there are of each.
    """
    ends = np.unique(distances[np.isfinite(distances)])
    if not len(ends):
        return 0.0
    between = np.concatenate([[ends[0] / 2], (ends[:-1] + ends[1:]) / 2, [ends[-1]]])
    genuine, impostor = np.sort(distances[same]), np.sort(distances[~same])
    weight = len(genuine) / max(1, len(impostor)) if balanced else 1
    right = np.searchsorted(genuine, between, "right") - weight * np.searchsorted(impostor, between, "right")
    return float(between[np.argmax(right)])


def cross_validated(distances: np.ndarray, same: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Accuracy on each fold with the threshold that is best on all others, as LFW prescribes.

    Args:
      distances: float [P], D.
      same: bool [P], the truth.
      folds: int [P], the fold of each pair; at least two folds.

    Returns:
      float [F], accuracies.
    """
    scores = []
    for fold in np.unique(folds):
        tested = folds == fold
        tau = best_tau(distances[~tested], same[~tested])
        scores.append(accuracy(distances[tested], same[tested], tau))
    return np.array(scores)


def true_match_rate_at(distances: np.ndarray, same: np.ndarray, false_match_rate: float) -> RateAt:
    """VAL@FAR; pairs without a face count as rejected."""
    impostor = np.sort(np.nan_to_num(distances[~same], nan=np.inf))
    accepted = int(np.floor(false_match_rate * len(impostor) + 1e-9))  # 0.29 * 100 is a little less than 29
    tau = float(np.nextafter(impostor[accepted], -1)) if accepted < len(impostor) else float(impostor[-1])
    return RateAt(false_match_rate, tau, float(np.mean(distances[same] <= tau)))


@dataclasses.dataclass(frozen=True)
class Separation:
    """How well vectors keep people apart, over all pairs of their faces.

    Attributes:
      people: People with a face.
      faces: Faces compared.
      genuine: Pairs of one person.
      impostor: Pairs of two people.
      rates: VAL@FAR, for each of the rates asked for.
      tau: Threshold of the best accuracy, both kinds of pairs counting the same.
      accuracy: At it: the mean of the shares of genuine and of impostor pairs that are judged rightly.
      auc: Area under the ROC curve.
      eer: Equal error rate.
      rank_one: As `rank_one`; None without probes.
      probes: For it.
    """

    people: int
    faces: int
    genuine: int
    impostor: int
    rates: list[RateAt]
    tau: float
    accuracy: float
    auc: float
    eer: float
    rank_one: float | None
    probes: int


def separation(
    vectors: np.ndarray, people: np.ndarray, false_match_rates: Sequence[float], most_faces: int = MOST_FACES
) -> Separation:
    """Measures vectors by all pairs of faces, and by 1:N identification.

    Args:
      vectors: float32 [N, d], unit rows.
      people: int [N], who is on each.
      false_match_rates: Rates to state the VAL at.
      most_faces: Faces of a person that are compared, the first of them: pairs grow with the square of their number,
        and a few people with many photos would be all that counts.

    Raises:
      ValueError: If there is no pair of one person, or none of two.
    """
    _, order = np.unique(people, return_inverse=True)
    chosen = np.concatenate([np.flatnonzero(order == person)[:most_faces] for person in range(order.max() + 1)])
    chosen.sort()
    vectors, people = vectors[chosen], people[chosen]
    first, second = np.triu_indices(len(people), 1)
    distances = np.maximum(2 - 2 * (vectors @ vectors.T), 0)[first, second]
    same = people[first] == people[second]
    if not same.any() or same.all():
        raise ValueError("there must be a pair of one person, and one of two")
    tau = best_tau(distances, same, balanced=True)
    share, enrolled, probes = rank_one(vectors, people)
    return Separation(
        people=enrolled,
        faces=len(people),
        genuine=int(same.sum()),
        impostor=int((~same).sum()),
        rates=[true_match_rate_at(distances, same, rate) for rate in false_match_rates],
        tau=tau,
        accuracy=float(np.mean(distances[same] <= tau) + np.mean(distances[~same] > tau)) / 2,
        auc=area_under_curve(distances, same),
        eer=equal_error_rate(distances, same),
        rank_one=share if probes else None,
        probes=probes,
    )


def area_under_curve(distances: np.ndarray, same: np.ndarray) -> float:
    """AUC: the chance that a same-person pair is nearer than another pair, equals counting half (Mann-Whitney)."""
    genuine, impostor = (np.nan_to_num(distances[part], nan=np.inf) for part in (same, ~same))
    impostor = np.sort(impostor)
    farther = len(impostor) - np.searchsorted(impostor, genuine, "right")
    level = np.searchsorted(impostor, genuine, "right") - np.searchsorted(impostor, genuine, "left")
    return float(np.mean(farther + level / 2) / len(impostor))


def equal_error_rate(distances: np.ndarray, same: np.ndarray) -> float:
    """EER: where the shares of false matches and of false non-matches meet."""
    taus = np.unique(np.append(distances[np.isfinite(distances)], -1.0))  # the first accepts nobody
    genuine, impostor = np.sort(distances[same]), np.sort(distances[~same])
    missed = 1 - np.searchsorted(genuine, taus, "right") / len(genuine)
    matched = np.searchsorted(impostor, taus, "right") / len(impostor)
    place = int(np.argmin(np.abs(missed - matched)))
    return float((missed[place] + matched[place]) / 2)


def rank_one(vectors: np.ndarray, people: np.ndarray) -> tuple[float, int, int]:
    """1:N identification with one enrolled photo each: the first of a person's, the others are probes.

    Args:
      vectors: float32 [N, d], unit rows.
      people: [N], who is on each.

    Returns:
      Share of probes whose nearest enrolled photo is their own person's, number of people, number of probes.
    """
    _, first = np.unique(people, return_index=True)
    probes = np.setdiff1d(np.arange(len(people)), first)
    if not len(probes):
        return float("nan"), len(first), 0
    right = 0
    for start in range(0, len(probes), 1024):  # bounds the matrix of distances
        rows = probes[start : start + 1024]
        nearest = np.argmax(vectors[rows] @ vectors[first].T, axis=1)  # largest cosine is smallest D
        right += int(np.sum(people[first[nearest]] == people[rows]))
    return right / len(probes), len(first), len(probes)
