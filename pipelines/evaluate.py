"""celebface evaluate: how well the encoder verifies people, on a folder of photos and a list of pairs."""

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from celebface.indexing import verification
from celebface.models.encoder_card import BadEncoder
from celebface.pipelines import arguments, labelled_pairs, report, summary
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.labelled_pairs import Pair, Photos
from celebface.pipelines.text import plain
from celebface.transforms.encoders import load_card

_FALSE_MATCH_RATES = (1e-2, 1e-3)

_EXAMPLES = """\
  celebface evaluate --images lfw --pairs lfw/pairs.txt
  celebface evaluate --images lfw --pairs lfw/pairs.txt --precision float32 --json result.json
"""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
      encoder_id: The encoder.
      precision: Its numeric precision.
      photos: Photos read.
      no_face: Photos without a face; their pairs are judged "different".
      several_faces: Photos with more than one face.
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

    encoder_id: str
    precision: str
    photos: int
    no_face: list[str]
    several_faces: int
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
    tau = args.tau if args.tau is not None else card.best_tau
    if tau is None:
        raise UsageError("the encoder's card states no threshold; give one with --tau")
    photos, pairs = labelled_pairs.read_files(args.images, args.pairs, args.folds)
    found = _evaluate(args, card.encoder_id, photos, pairs, tau)
    _print(found)
    if args.json:
        report.write_json(str(args.json), dataclasses.asdict(found))
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("evaluate", __doc__, _EXAMPLES)
    labelled_pairs.add_flags(parser, required=True)
    parser.add_argument(
        "--tau", type=float, metavar="D", help="threshold to judge at (default: that of the encoder's card)"
    )
    parser.add_argument(
        "--folds",
        type=arguments.positive,
        default=10,
        metavar="N",
        help="folds to make where the list has none (default: %(default)s)",
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the results there too")
    labelled_pairs.add_face_flags(parser)
    args = parser.parse_args(argv)
    if args.tau is not None and not 0 <= args.tau <= 4:
        parser.error(f"--tau must lie in 0..4, not {args.tau}")
    return args


def _evaluate(
    args: argparse.Namespace,
    encoder_id: str,
    photos: Photos,
    pairs: Sequence[Pair],
    tau: float,
) -> Evaluation:
    precision = arguments.precision(args.precision)
    names = sorted(photos)
    vectors, several = labelled_pairs.embed(args, precision, [photos[name] for name in names], "evaluate")
    distances = labelled_pairs.distances(names, vectors, pairs)
    same = np.array([pair.same for pair in pairs])
    folds = np.array([pair.fold for pair in pairs])
    scores = verification.cross_validated(distances, same, folds) if len(set(folds)) > 1 else np.array([])
    has_face = np.isfinite(vectors[:, 0])
    people = np.array([name for name, _ in names])
    share, enrolled, probes = verification.rank_one(vectors[has_face], people[has_face])
    best = verification.best_tau(distances, same)
    return Evaluation(
        encoder_id=encoder_id,
        precision=precision,
        photos=len(names),
        no_face=[str(photos[name]) for name, face in zip(names, has_face, strict=True) if not face],
        several_faces=several,
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


def _print(found: Evaluation) -> None:
    out = summary.console()
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
    out.print(f"{found.photos} photos, {found.several_faces} with several faces, {len(found.no_face)} with none")
    out.print(f"encoder {found.encoder_id}, {found.precision}, {found.pairs} pairs")
    for name, value in measured.items():
        out.print(f"{name:<22} {value}", markup=False)
    for path in found.no_face:
        out.print(f"no face: {plain(path)}", markup=False)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
