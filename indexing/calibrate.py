"""Calibrating: a gallery's own people searched for as if they were strangers, and as if by another photo."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from celebface.indexing import build, rates, storage
from celebface.indexing.calibration import AMBIGUOUS_MARGIN, LFW_CURVE, ONE_COMPARISON, Calibration, Curve, Trials
from celebface.indexing.rates import Tail
from celebface.indexing.searcher import Neighbour

_MOST_PEOPLE = 5000  # searched for: at a rate of 0.1 % five of them are found
_BATCH = 256
_MOST_FACES = 100  # of a person that their own are held against

# Two photos as near are one, or two prints of one; a person who is that near to another name is no stranger. Shots
# that follow each other on LFW are rarely nearer than 0.1.
_COPY = 0.1

# Of people with two faces, that a curve is fitted to: with 400 the slope varies by some 7 %, with 100 it is flattened.
_ENOUGH_FOR_A_CURVE = 400
_SHIFTS = 20  # impostor pairs of each person

Search = Callable[[np.ndarray, int], list[list[Neighbour]]]  # see Searcher.nearest_people


def of_gallery(shards: Sequence[str], nearest_people: Search, encoder_id: str, tail: Tail | None) -> Calibration:
    """Calibrates a gallery by its own people.

    A person left out of the gallery is a stranger to it. One face of each counts, so that strangers are independent:
    the first by its id, which is a hash. Of a large gallery 5,000 people are taken, again by their ids.

    The true match rate is that of the people of whom there are several faces, and too good for a gallery in which many
    have but one. On LFW 0.892 (95 %: 0.854 to 0.921) are stated at a false match rate of 1 %, and 0.838 of the new
    photos get a match, nearly half of which are of people with one face (benchmarks/results/calibration.json).

    Args:
      shards: Its face shards.
      nearest_people: Its search: what answers in earnest answers here.
      encoder_id: Of its vectors.
      tail: What is known of that encoder.
    """
    counts = _count_faces(shards)
    faces = _faces_of(shards, sorted(counts)[:_MOST_PEOPLE])
    return of_people("a stranger against the whole gallery", faces, counts, nearest_people, encoder_id, tail)


def of_people(
    subject: str,
    faces: Mapping[str, np.ndarray],
    counts: Mapping[str, int],
    nearest_people: Search,
    encoder_id: str,
    tail: Tail | None,
) -> Calibration:
    """Calibrates a search by people that it finds; see `of_gallery`.

    Args:
      subject: What a false match is.
      faces: Of those people that are searched for, by identity_id: float32 [M, d], the first of which counts.
      counts: Faces of all people, by identity_id.
      nearest_people: The search.
      encoder_id: Of the vectors.
      tail: What is known of that encoder.
    """
    chosen = sorted(faces)
    probes = np.stack([faces[who][0] for who in chosen])
    found = [
        people
        for start in range(0, len(probes), _BATCH)
        for people in nearest_people(probes[start : start + _BATCH], 3)
    ]
    others = [
        [person for person in people if person.identity_id != who] for who, people in zip(chosen, found, strict=True)
    ]
    own = [_nearest_own(faces[who]) for who in chosen]
    strangers, copies = _as_strangers(chosen, others)
    return Calibration(
        subject=subject,
        encoder_id=encoder_id,
        people=len(counts),
        comparisons=round(rates.comparisons(list(counts.values())), 6),
        strangers=strangers,
        known=_as_known(others, own),
        copies=copies,
        tail=tail,
        curve=_own_curve(probes, own),
    )


def of_pairs(genuine: np.ndarray, impostor: np.ndarray, encoder_id: str, tail: Tail | None) -> Calibration:
    """Calibrates single comparisons by labelled pairs.

    Args:
      genuine: float [P], D of pairs that show one person.
      impostor: float [Q], D of pairs that show two.
      encoder_id: Of the vectors.
      tail: What is known of that encoder.
    """
    enough = len(genuine) >= _ENOUGH_FOR_A_CURVE <= len(impostor)
    return Calibration(
        subject=ONE_COMPARISON,
        encoder_id=encoder_id,
        people=1,
        comparisons=1.0,
        strangers=Trials(len(impostor), _sorted(impostor)),
        known=Trials(len(genuine), _sorted(genuine)),
        copies=0,
        tail=tail,
        curve=fit_curve(genuine, impostor, "the pairs given") if enough else LFW_CURVE,
    )


def _count_faces(shards: Sequence[str]) -> dict[str, int]:
    """Faces by person."""
    counts: dict[str, int] = {}
    for shard in shards:
        with storage.open_input(shard) as stream:
            column = pq.read_table(stream, columns=["identity_id"])["identity_id"]
        for entry in pc.value_counts(column.combine_chunks()).to_pylist():
            counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    return counts


def _faces_of(shards: Sequence[str], people: Sequence[str]) -> dict[str, np.ndarray]:
    """The vectors of each person, float32 [M, d], by face id, at most 100."""
    wanted = pa.array(people, pa.string())
    found: dict[str, np.ndarray] = {}
    for shard in build.read_faces(list(shards)):  # a person is in one
        table = shard.filter(pc.is_in(shard["identity_id"], wanted)).select(["identity_id", "face_id", "embedding"])
        if not len(table):
            continue
        table = table.sort_by([("identity_id", "ascending"), ("face_id", "ascending")])
        vectors = build.embeddings(table)
        who, starts = np.unique(np.array(table["identity_id"].to_pylist()), return_index=True)
        for person, start, end in zip(who, starts, [*starts[1:], len(vectors)], strict=True):
            found[str(person)] = vectors[start : min(end, start + _MOST_FACES)].copy()  # not a view of all
    return found


def _nearest_own(vectors: np.ndarray) -> float | None:
    """D from a person's first face to the nearest of the others that is no copy of it; None if there is none."""
    distances = np.square(vectors[1:] - vectors[0]).sum(axis=1)
    distances = distances[distances > _COPY]
    return float(distances.min()) if len(distances) else None


def _as_strangers(people: Sequence[str], others: Sequence[list[Neighbour]]) -> tuple[Trials, int]:
    """Judges each as a stranger to all others; also how many are there under two names and left out."""
    scores, ambiguous = [], []
    nearest: dict[str, tuple[str, float]] = {}
    copies = alone = 0
    for who, found in zip(people, others, strict=True):
        if not found:
            alone += 1
            continue
        distance = found[0].distance
        if distance <= _COPY:
            copies += 1
        elif len(found) > 1 and found[1].distance - distance < AMBIGUOUS_MARGIN:
            ambiguous.append(distance)
        else:
            scores.append(distance)
            nearest[who] = found[0].identity_id, distance
    twice = [
        max(distance, nearest[other][1])
        for who, (other, distance) in nearest.items()
        if who < other and nearest.get(other, ("", 0.0))[0] == who
    ]
    count = len(people) - copies - alone
    return Trials(count, _sorted(scores), _sorted(ambiguous), _sorted(twice)), copies


def _as_known(others: Sequence[list[Neighbour]], own: Sequence[float | None]) -> Trials:
    """Judges each who has another face of their own by the nearest of these."""
    count = 0
    scores, ambiguous = [], []
    for found, distance in zip(others, own, strict=True):
        if distance is None:
            continue
        count += 1
        margin = found[0].distance - distance if found else None
        if margin is None or margin >= AMBIGUOUS_MARGIN:
            scores.append(distance)
        elif margin >= 0:
            ambiguous.append(distance)
    return Trials(count, _sorted(scores), _sorted(ambiguous))


def _own_curve(probes: np.ndarray, own: Sequence[float | None]) -> Curve:
    """A curve by the gallery's own pairs if it has enough; else that of LFW."""
    genuine = np.array([distance for distance in own if distance is not None])
    if len(genuine) < _ENOUGH_FOR_A_CURVE:
        return LFW_CURVE
    shifted = (np.square(probes - np.roll(probes, shift, axis=0)).sum(axis=1) for shift in range(1, _SHIFTS + 1))
    impostor = np.concatenate(list(shifted))
    return fit_curve(
        genuine, impostor, f"{len(genuine)} pairs of one person and {len(impostor)} of two of the gallery itself"
    )


def fit_curve(genuine: np.ndarray, impostor: np.ndarray, source: str) -> Curve:
    """Fits a logistic curve, both kinds of pairs weighing the same.

    As Platt (1999) has it, no pair counts as quite sure, so that kinds that do not overlap still give a finite slope.

    Args:
      genuine: float [P], D of pairs that show one person.
      impostor: float [Q], D of pairs that show two.
      source: What they are.
    """
    distances = np.concatenate([genuine, impostor]).astype(np.float64)
    sizes = np.array([len(genuine), len(impostor)])
    targets = np.repeat([(sizes[0] + 1) / (sizes[0] + 2), 1 / (sizes[1] + 2)], sizes)
    weights = np.repeat(0.5 / sizes, sizes)
    columns = np.stack([np.ones_like(distances), distances], axis=1)
    factors = np.array([0.0, 0.0])
    for _ in range(100):  # Newton's method; the loss is convex
        chances = 1 / (1 + np.exp(-(columns @ factors)))
        gradient = columns.T @ (weights * (targets - chances))
        curvature = (columns * (weights * chances * (1 - chances))[:, None]).T @ columns
        step = np.linalg.solve(curvature, gradient)
        factors += step
        if np.abs(step).max() < 1e-9:
            break
    if factors[1] >= 0:  # distances that tell nobody apart say nothing of likeness
        return LFW_CURVE
    return Curve(round(float(-factors[0] / factors[1]), 6), round(float(-factors[1]), 6), source)


def _sorted(distances: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    return tuple(sorted(round(float(distance), 6) for distance in distances))
