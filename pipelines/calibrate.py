"""celebface calibrate: thresholds for stated false match rates, by a gallery's own people or by labelled pairs."""

import argparse
import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from celebface.indexing import build, calibrate, rates, storage, verification
from celebface.indexing.calibration import Calibration, OperatingPoint, Unstated
from celebface.indexing.gallery import Gallery
from celebface.indexing.manifest import BadBundle
from celebface.models.encoder_card import BadEncoder
from celebface.pipelines import arguments, bundle, charts, labelled_pairs, summary
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.text import plain
from celebface.transforms.encoders import load_card

_FILES = ("calibration.json", "calibration.png", "calibration.svg")

_EXAMPLES = """\
  celebface calibrate --gallery galleries/celebrities
  celebface calibrate --gallery galleries/celebrities --far 0.02 --output thresholds
  celebface calibrate --images lfw --pairs lfw/pairs.txt --people 1000
"""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    args = _parse(argv)
    out = summary.console()
    try:
        output = storage.absolute(args.output)
        if os.path.isfile(output):
            raise UsageError(f"{args.output} is a file; name a folder with --output")
        storage.check_writable(output)
        found = _of_gallery(args.gallery) if args.gallery else _of_pairs(args, out)
    except (BadBundle, BadEncoder, storage.StorageError) as error:
        raise UsageError(str(error)) from error
    points = _points(found, args.far)
    for name, data in zip(_FILES, (found.to_json(), *charts.draw(found)), strict=True):
        storage.write_bytes(storage.join(output, name), data)
    out.print(plain(found.evidence), markup=False)
    if points:
        out.print(_table(points, args.people))
    if found.rank_one is not None and args.gallery:
        known = summary.counted(found.known.count, "known person", "known people")
        out.print(f"rank-1 {found.rank_one:.4f} ({known}, by another face of theirs)", markup=False)
    out.print(f"results in {plain(args.output)}", markup=False)
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("calibrate", __doc__, _EXAMPLES)
    parser.add_argument("--gallery", metavar="FOLDER", help="<root>/<name>, or <root>/<name>/<version>")
    labelled_pairs.add_flags(parser, images_required=False)
    parser.add_argument(
        "--people", type=arguments.positive, metavar="N", help="with --pairs: also the rates against a gallery of N"
    )
    parser.add_argument("--far", type=arguments.rate, metavar="X", help="a false match rate besides the usual ones")
    parser.add_argument(
        "--output",
        default="calibration",
        metavar="FOLDER",
        help="where calibration.json and its charts go, in place of earlier ones (default: %(default)s)",
    )
    labelled_pairs.add_face_flags(parser)
    args = parser.parse_args(argv)
    if bool(args.gallery) == bool(args.images or args.pairs):
        parser.error("name a gallery with --gallery, or labelled pairs with --images and --pairs")
    if not args.gallery and not (args.images and args.pairs):
        parser.error("--images and --pairs go together")
    if args.gallery and args.people:
        parser.error("--people goes with --pairs: a gallery has its own")
    return args


def _of_gallery(name: str) -> Calibration:
    gallery = Gallery.open(name)
    manifest = gallery.manifest
    shards = build.face_shards(gallery.uri)
    return calibrate.of_gallery(shards, gallery.nearest_people, manifest.encoder_id, bundle.tail_of(manifest.encoder))


def _of_pairs(args: argparse.Namespace, out: Console) -> Calibration:
    card = load_card(arguments.encoder_uri(args))
    photos, pairs = labelled_pairs.read_files(args.images, args.pairs, folds=1)
    names = sorted({photo for pair in pairs for photo in (pair.first, pair.second)})
    precision = arguments.precision(args.precision)
    vectors, _ = labelled_pairs.embed(args, precision, [photos[name] for name in names], "calibrate")
    distances = labelled_pairs.distances(names, vectors, pairs)
    same = np.array([pair.same for pair in pairs])
    compared = np.isfinite(distances)
    if not np.any(compared & same) or not np.any(compared & ~same):
        raise UsageError("no pair of one person, or none of two, has a face on both photos")
    if not compared.all():
        faceless = summary.counted(int(np.sum(~compared)), "pair")
        out.print(f"{faceless} left out: a photo has no face", markup=False)
    distances, same = distances[compared], same[compared]
    out.print(f"EER {verification.equal_error_rate(distances, same):.4f}", markup=False)
    return calibrate.of_pairs(
        distances[same], distances[~same], card.encoder_id, bundle.tail_of(dataclasses.asdict(card))
    )


def _points(found: Calibration, far: float | None) -> list[OperatingPoint]:
    points = {point.false_match_rate: point for point in found.operating_points}
    if far is not None:
        try:
            points[far] = found.at(far)
        except Unstated as error:
            raise UsageError(str(error)) from error
    return [points[rate] for rate in sorted(points)]


def _table(points: Sequence[OperatingPoint], people: int | None) -> Table:
    against = [f"against {people}", "95 %"] if people else []
    table = Table(
        "false match", "tau", "95 %", *against, "true match", "95 %", "ambiguous", "", box=None, pad_edge=False
    )
    for column in table.columns[:-1]:
        column.justify = "right"
    for point in points:
        cells = [_percent(point.false_match_rate), f"{point.tau:.4f}", _interval(point.interval)]
        if people:
            low, high = (rates.against_people(end, people) for end in point.interval)
            cells += [_percent(rates.against_people(point.false_match_rate, people)), _interval((low, high))]
        cells += [_percent(point.true_match_rate), _interval(point.true_match_interval), _percent(point.ambiguous)]
        table.add_row(*cells, point.method)
    return table


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.3g} %"


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{100 * ends[0]:.3g} to {100 * ends[1]:.3g} %"
