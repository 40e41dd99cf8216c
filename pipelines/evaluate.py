"""celebface evaluate: how well the encoder verifies people, on labelled pairs, and by how many enrolled photos."""

import argparse
import dataclasses
import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from celebface.indexing import enrolment, storage, verification
from celebface.indexing.enrolment import EnrolmentCurve, Spread, TooFewPhotos
from celebface.models.encoder_card import BadEncoder, EncoderCard
from celebface.pipelines import arguments, enrolment_chart, labelled_pairs, report, summary
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.labelled_pairs import Pair, Photos
from celebface.pipelines.text import plain
from celebface.transforms.encoders import load_card

_FALSE_MATCH_RATES = (1e-2, 1e-3)
_FOLDS = 10
_SEED = 1

_EXAMPLES = """\
  celebface evaluate --images lfw --pairs lfw/pairs.txt
  celebface evaluate --images lfw --pairs lfw/pairs.txt --precision float32 --json result.json
  celebface evaluate --images people/ --enrolled 1,2,3,5 --chart enrolled.png
"""


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was read.

    Attributes:
      encoder_id: The encoder.
      precision: Its numeric precision.
      photos: Photos read.
      no_face: Photos without a face; their pairs are judged "different", and nobody is enrolled or probed by them.
      several_faces: Photos with more than one face.
    """

    encoder_id: str
    precision: str
    photos: int
    no_face: list[str]
    several_faces: int


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured on the pairs.

    Attributes:
      pairs: Pairs judged.
      tau: The threshold asked for, or that of the encoder's card.
      accuracy_at_tau: Share of pairs judged rightly at it.
      accuracy_mean: Mean over the folds of the accuracy with the threshold that is best on the others; None for one
        fold.
      accuracy_sd: Its standard deviation over the folds.
      folds: Number of folds.
      best_tau: Threshold of the best accuracy on all pairs.
      auc: Area under the ROC curve.
      eer: Equal error rate.
      rates: VAL@FAR.
      rank_one: 1:N rank-1 with one enrolled photo for each person; None without probes.
      people: People enrolled for it.
      probes: Probes for it.
    """

    pairs: int
    tau: float
    accuracy_at_tau: float
    accuracy_mean: float | None
    accuracy_sd: float | None
    folds: int
    best_tau: float
    auc: float
    eer: float
    rates: list[verification.RateAt]
    rank_one: float | None
    people: int
    probes: int


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    args = _parse(argv)
    try:
        card = load_card(arguments.encoder_uri(args))
    except BadEncoder as error:
        raise UsageError(str(error)) from error
    tau = _tau(args, card)
    photos, pairs = _pairs(args)
    people = _people(args)
    _check_chart(args)
    paths = sorted({*photos.values(), *people})
    precision = arguments.precision(args.precision)
    embedded, several = labelled_pairs.embed(args, precision, paths, "evaluate")
    vectors = dict(zip(paths, embedded, strict=True))
    no_face = [str(path) for path, vector in vectors.items() if not np.isfinite(vector[0])]
    reading = Reading(card.encoder_id, precision, len(paths), no_face, several)
    out = summary.console()
    _print_reading(out, reading, len(pairs))
    body: dict[str, Any] = dataclasses.asdict(reading)
    if args.pairs:
        found = _evaluate(photos, pairs, vectors, tau)
        _print_pairs(out, found)
        body |= dataclasses.asdict(found)
    if args.enrolled:
        curve = _enrol(args, people, vectors)
        _print_curve(out, curve)
        body["enrolment"] = dataclasses.asdict(curve)
        _draw(args, curve)
    for path in no_face:
        out.print(f"no face: {plain(path)}", markup=False)
    if args.json:
        report.write_json(str(args.json), body)
    return 0


# --- what is asked for ------------------------------------------------------------------------------------------------


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("evaluate", __doc__, _EXAMPLES)
    labelled_pairs.add_flags(parser, images_required=True)
    parser.add_argument(
        "--tau", type=float, metavar="D", help="threshold to judge pairs at (default: that of the encoder's card)"
    )
    parser.add_argument(
        "--folds",
        type=arguments.positive,
        metavar="N",
        help=f"folds to make where the list has none (default: {_FOLDS})",
    )
    parser.add_argument(
        "--enrolled",
        type=arguments.counts,
        metavar="N,N,...",
        help="how well people are known by so many photos each, such as 1,2,3,5; the photos are <person>/...jpg, and "
        "people with one more than the most are probed with those left",
    )
    parser.add_argument("--chart", metavar="FILE", help="draw that into this .png or .svg")
    parser.add_argument(
        "--seed", type=arguments.positive, metavar="N", help=f"what photos are drawn by (default: {_SEED})"
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the results there too")
    labelled_pairs.add_face_flags(parser)
    args = parser.parse_args(argv)
    if not args.pairs and not args.enrolled:
        parser.error("name labelled pairs with --pairs, or numbers of enrolled photos with --enrolled, or both")
    if args.tau is not None and not 0 <= args.tau <= 4:
        parser.error(f"--tau must lie in 0..4, not {args.tau}")
    for given, flag, partner in (
        (args.tau is not None and not args.pairs, "--tau", "--pairs"),
        (args.folds is not None and not args.pairs, "--folds", "--pairs"),
        (args.chart is not None and not args.enrolled, "--chart", "--enrolled"),
        (args.seed is not None and not args.enrolled, "--seed", "--enrolled"),
    ):
        if given:
            parser.error(f"{flag} goes with {partner}")
    return args


def _tau(args: argparse.Namespace, card: EncoderCard) -> float:
    """The threshold for the pairs."""
    tau = args.tau if args.tau is not None else card.best_tau
    if tau is not None:
        return tau
    if args.pairs:
        raise UsageError("the encoder's card states no threshold; give one with --tau")
    return float("nan")  # nobody asks


def _pairs(args: argparse.Namespace) -> tuple[Photos, list[Pair]]:
    return labelled_pairs.read_files(args.images, args.pairs, args.folds or _FOLDS) if args.pairs else ({}, [])


def _people(args: argparse.Namespace) -> dict[pathlib.Path, str]:
    """Who is on each photo of the folder, if they are to be enrolled."""
    if not args.enrolled:
        return {}
    if not args.images.is_dir():
        raise UsageError(f"there is no folder {args.images}")
    people = {path: name for name, path in labelled_pairs.find_people(args.images)}
    try:
        enrolment.check_enough(Counter(people.values()).values(), args.enrolled[-1])
    except TooFewPhotos as error:
        raise UsageError(f"{args.images}: {error}") from error
    return people


def _check_chart(args: argparse.Namespace) -> None:
    """Refuses a place for the chart before the work, lest that be lost or the chart be taken for a photo later."""
    if args.chart is None:
        return
    target = storage.absolute(args.chart)
    if _kind(args.chart) not in enrolment_chart.FORMATS:
        raise UsageError(f"--chart draws a PNG or an SVG; name a file that ends in .png or .svg, not {args.chart}")
    if target.startswith(storage.join(storage.absolute(str(args.images)), "")):
        raise UsageError(f"{args.chart} would lie among the photos; name another place with --chart")
    if not storage.is_stored(target) and not os.path.isdir(os.path.dirname(target)):
        raise UsageError(f"there is no folder {os.path.dirname(target)} for {args.chart}")
    if os.path.isdir(target):
        raise UsageError(f"{args.chart} is a folder; name a file with --chart")
    try:
        storage.check_writable(os.path.dirname(target))
    except storage.StorageError as error:
        raise UsageError(str(error)) from error


def _kind(chart: str) -> str:
    return os.path.splitext(chart)[1].lower().removeprefix(".")


# --- measuring --------------------------------------------------------------------------------------------------------


def _evaluate(
    photos: Photos, pairs: Sequence[Pair], embedded: dict[pathlib.Path, np.ndarray], tau: float
) -> Evaluation:
    names = sorted(photos)
    vectors = np.stack([embedded[photos[name]] for name in names])
    distances = labelled_pairs.distances(names, vectors, pairs)
    same = np.array([pair.same for pair in pairs])
    folds = np.array([pair.fold for pair in pairs])
    scores = verification.cross_validated(distances, same, folds) if len(set(folds)) > 1 else np.array([])
    has_face = np.isfinite(vectors[:, 0])
    people = np.array([name for name, _ in names])
    share, enrolled, probes = verification.rank_one(vectors[has_face], people[has_face])
    best = verification.best_tau(distances, same)
    return Evaluation(
        pairs=len(pairs),
        tau=tau,
        accuracy_at_tau=verification.accuracy(distances, same, tau),
        accuracy_mean=float(scores.mean()) if len(scores) else None,
        accuracy_sd=float(scores.std()) if len(scores) else None,
        folds=len(set(folds)),
        best_tau=best,
        auc=verification.area_under_curve(distances, same),
        eer=verification.equal_error_rate(distances, same),
        rates=[verification.true_match_rate_at(distances, same, rate) for rate in _FALSE_MATCH_RATES],
        rank_one=share if probes else None,
        people=enrolled,
        probes=probes,
    )


def _enrol(
    args: argparse.Namespace, people: dict[pathlib.Path, str], embedded: dict[pathlib.Path, np.ndarray]
) -> EnrolmentCurve:
    vectors = np.stack([embedded[path] for path in people])
    has_face = np.isfinite(vectors[:, 0])
    names = np.array(list(people.values()))[has_face]
    try:
        return enrolment.measure(vectors[has_face], names, args.enrolled, _FALSE_MATCH_RATES, args.seed or _SEED)
    except TooFewPhotos as error:
        raise UsageError(f"{args.images}, of photos with a face: {error}") from error


# --- telling ----------------------------------------------------------------------------------------------------------


def _print_reading(out: Console, found: Reading, pairs: int) -> None:
    out.print(f"{found.photos} photos, {found.several_faces} with several faces, {len(found.no_face)} with none")
    out.print(f"encoder {found.encoder_id}, {found.precision}" + (f", {pairs} pairs" if pairs else ""))


def _print_pairs(out: Console, found: Evaluation) -> None:
    measured = {
        f"accuracy at tau {found.tau:g}": f"{found.accuracy_at_tau:.4f}",
        f"accuracy, {found.folds} folds": _number(found.accuracy_mean) + " +- " + _number(found.accuracy_sd),
        "best tau": f"{found.best_tau:.3f}",
        "AUC": f"{found.auc:.5f}",
        "EER": f"{found.eer:.4f}",
        **{f"VAL at FAR {rate.false_match_rate:g}": f"{rate.true_match_rate:.4f} (tau {rate.tau:.3f})"
           for rate in found.rates},
        "rank-1, one enrolled": f"{_number(found.rank_one)} ({found.probes} probes, {found.people} people)",
    }  # fmt: skip
    for name, value in measured.items():
        out.print(f"{name:<22} {value}", markup=False)


def _print_curve(out: Console, curve: EnrolmentCurve) -> None:
    rates = [each.false_match_rate for each in curve.points[0].verified]
    table = Table("enrolled", "rank-1", *(f"VAL at FAR {rate:g}" for rate in rates), box=None, pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    for point in curve.points:
        claims = [f"{_spread(each.true_match_rate)} (tau {each.tau:.3f})" for each in point.verified]
        table.add_row(str(point.enrolled), _spread(point.rank_one), *claims)
    others = summary.counted(curve.others, "other person", "others")
    out.print(
        f"by enrolled photos: {curve.subjects} people among {others} with one photo each, {curve.probes} probes in "
        f"{curve.draws} draws of photos, by seed {curve.seed}",
        markup=False,
    )
    if curve.repeats:
        out.print(f"{summary.counted(curve.repeats, 'photo')} left out that a person has twice", markup=False)
    out.print(table)


def _draw(args: argparse.Namespace, curve: EnrolmentCurve) -> None:
    if args.chart is None:
        return
    try:
        storage.write_bytes(storage.absolute(args.chart), enrolment_chart.draw(curve, _kind(args.chart)))
    except OSError as error:
        raise UsageError(f"{args.chart} cannot be written: {error.strerror or error}") from error


def _spread(found: Spread) -> str:
    return f"{found.mean:.4f} +- {found.sd:.4f}"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
