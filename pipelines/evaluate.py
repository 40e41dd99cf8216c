"""celebface evaluate: how well the encoder verifies people, on a folder of photos and a list of pairs."""

import argparse
import dataclasses
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from rich.progress import track

from celebface.indexing import verification
from celebface.models.encoder_card import BadEncoder
from celebface.models.faces import PhotoFaces, PhotoFault, QualityGate
from celebface.pipelines import arguments, report, summary
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.text import complain, plain
from celebface.transforms.encode import load_card, load_encoder
from celebface.transforms.read import MAX_BYTES, UnreadableFile, read_file
from celebface.transforms.sources import PHOTO_SUFFIXES

# Every face counts: the protocol has no right to refuse a photo.
_GATE = QualityGate(min_face_px=20, min_confidence=0.8, min_sharpness=0.0)
_FALSE_MATCH_RATES = (1e-2, 1e-3)
_BATCH = 64
_NUMBERED = re.compile(r"(?P<name>.+)_(?P<number>\d+)")

_EXAMPLES = """\
  celebface evaluate --images lfw --pairs lfw/pairs.txt
  celebface evaluate --images lfw --pairs lfw/pairs.txt --precision float32 --json result.json
"""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two photos and the truth about them.

    Attributes:
      first: Person and number of the first photo.
      second: Person and number of the second photo.
      fold: The part of the list it stands in.
    """

    first: tuple[str, int]
    second: tuple[str, int]
    fold: int

    @property
    def same(self) -> bool:
        """Whether both show one person."""
        return self.first[0] == self.second[0]


def read_pairs(text: str, folds: int) -> list[Pair]:
    """Reads a pairs file: lines "name i j" for one person, "name i name j" for two, fields set apart by tabs.

    A first line "F N" says, as LFW's own, that F folds follow of N pairs of each kind, a first line "N" that one does;
    without it the pairs of each kind are dealt out to `folds` folds in their order.

    Raises:
      ValueError: If a line is neither.
    """
    lines = [line.rstrip("\r\n") for line in text.splitlines() if line.strip()]
    per_fold = 0
    if lines and re.fullmatch(r"\d+(\s+\d+)?", lines[0].strip()):
        per_fold = 2 * int(lines.pop(0).split()[-1])
    pairs: list[Pair] = []
    seen = {True: 0, False: 0}
    for number, line in enumerate(lines):
        fields = line.split("\t")
        try:
            if len(fields) == 3:
                first, second = (fields[0], int(fields[1])), (fields[0], int(fields[2]))
            else:
                name, i, other, j = fields
                first, second = (name, int(i)), (other, int(j))
        except ValueError as error:
            raise ValueError(f"not a pair: {line!r}") from error
        same = first[0] == second[0]
        fold = number // per_fold if per_fold else seen[same] % folds
        seen[same] += 1
        pairs.append(Pair(first, second, fold))
    if not all(seen.values()):
        raise ValueError("the pairs must hold some of one person and some of two")
    return pairs


def find_photos(folder: pathlib.Path) -> dict[tuple[str, int], pathlib.Path]:
    """Photos named <person>/<person>_<number>.<suffix>, by person and number."""
    photos = {}
    for path in sorted(folder.glob("*/*")):
        named = _NUMBERED.fullmatch(path.stem)
        if named and path.suffix.lower() in PHOTO_SUFFIXES:
            photos[path.parent.name, int(named["number"])] = path
    return photos


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
        pairs = read_pairs(args.pairs.read_text(encoding="utf-8"), args.folds)
    except (BadEncoder, ValueError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{args.pairs}: {error.strerror}") from error
    tau = args.tau if args.tau is not None else card.best_tau
    if tau is None:
        raise UsageError("the encoder's card states no threshold; give one with --tau")
    if not args.images.is_dir():
        raise UsageError(f"there is no folder {args.images}")
    photos = find_photos(args.images)
    missing = sorted({photo for pair in pairs for photo in (pair.first, pair.second)} - photos.keys())
    if missing:
        raise UsageError(f"{args.images} lacks {len(missing)} of the photos, such as {missing[0][0]} {missing[0][1]}")
    found = _evaluate(args, card.encoder_id, photos, pairs, tau)
    _print(found)
    if args.json:
        report.write_json(str(args.json), dataclasses.asdict(found))
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("evaluate", __doc__, _EXAMPLES)
    parser.add_argument(
        "--images", type=pathlib.Path, required=True, metavar="FOLDER", help="photos as <person>/<person>_0001.jpg"
    )
    parser.add_argument(
        "--pairs",
        type=pathlib.Path,
        required=True,
        metavar="FILE",
        help="lines 'name i j' (one person) and 'name i name j' (two), tabs between",
    )
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
    arguments.add_encoder_flags(parser)
    arguments.add_cache_flag(parser)
    arguments.add_reader_flags(parser, _GATE)
    args = parser.parse_args(argv)
    if args.tau is not None and not 0 <= args.tau <= 4:
        parser.error(f"--tau must lie in 0..4, not {args.tau}")
    return args


def _evaluate(
    args: argparse.Namespace,
    encoder_id: str,
    photos: dict[tuple[str, int], pathlib.Path],
    pairs: Sequence[Pair],
    tau: float,
) -> Evaluation:
    precision = arguments.precision(args.precision)
    names = sorted(photos)
    vectors, several = _embed(args, precision, [photos[name] for name in names])
    row = {name: number for number, name in enumerate(names)}
    first, second = (vectors[[row[getattr(pair, side)] for pair in pairs]] for side in ("first", "second"))
    distances = np.square(first - second).sum(axis=1)
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


def _embed(args: argparse.Namespace, precision: str, paths: Sequence[pathlib.Path]) -> tuple[np.ndarray, int]:
    """Vectors of photos, float32 [N, d], NaN where there is no face; and how many photos had several faces."""
    from celebface.models.face_reader import FaceReader  # here, so that wrong usage does not wait for TensorFlow

    reader = FaceReader(arguments.reader_config(args, one_face=True), precision)
    encoder = load_encoder(arguments.encoder_uri(args), precision)
    vectors = np.full((len(paths), encoder.embedding_size), np.nan, np.float32)
    several = 0
    starts = range(0, len(paths), _BATCH)
    for start in track(starts, "evaluate", console=summary.error_console(), transient=True):
        rows, crops = [], []
        for row, found in enumerate(_read(reader, paths[start : start + _BATCH]), start=start):
            if isinstance(found, PhotoFaces):
                rows.append(row)
                crops.append(found.faces[0].pixels)
                several += found.faces_found > 1
        if crops:
            vectors[rows] = encoder.encode(np.stack(crops))
    return vectors, several


def _read(reader, paths: Sequence[pathlib.Path]) -> list[PhotoFaces | PhotoFault]:
    data = []
    for path in paths:
        try:
            data.append(read_file(str(path), MAX_BYTES))
        except UnreadableFile as error:
            complain(f"celebface evaluate: {path}: {error}")
            data.append(b"")
    return reader.read(data)


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
