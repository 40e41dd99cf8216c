"""celebface verify: do two photos show the same person? Who of the enrolled people is on a photo?"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any

from celebface.indexing import storage
from celebface.indexing.calibration import LFW_CURVE, Calibration, Curve, Unstated, Verdict
from celebface.indexing.manifest import BadBundle
from celebface.models.encoder_card import BadEncoder, EncoderCard
from celebface.models.faces import PhotoFault
from celebface.pipelines import arguments, comparison, door, pair_picture
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.comparison import Comparison, MainFace, Threshold
from celebface.pipelines.door import Admission, Enrolment
from celebface.pipelines.embedder import EVERY_FACE, Embedder, load_embedder
from celebface.pipelines.photo_bytes import read_photo, shown
from celebface.pipelines.terminal import counted
from celebface.pipelines.text import complain, plain
from celebface.transforms.encoders import load_card
from celebface.transforms.files import UnreadableFile
from celebface.transforms.folders import NoSuchSource
from celebface.transforms.web.policy import FetchPolicy

_EXAMPLES = """\
  celebface verify a.jpg b.jpg
  celebface verify a.jpg b.jpg --far 0.001 --save pair.png
  celebface verify a.jpg s3://bucket/b.jpg --json
  celebface verify a.jpg b.jpg --calibration calibration/calibration.json
  celebface verify --enrolled people/ visitor.jpg
  celebface verify --enrolled people/ visitor.jpg --far 0.001 --save door.png

exit codes: 0 the same person, or somebody who is enrolled; 1 not; 2 it cannot be told
"""


def main(argv: Sequence[str]) -> int:
    """Runs the command: 0 if it is the same person, or the door opens; 1 if not."""
    args = _parse(argv)
    try:
        return _open_door(args) if args.enrolled else _compare(args)
    except (BadEncoder, BadBundle, NoSuchSource, Unstated, storage.StorageError) as error:
        raise UsageError(str(error)) from error
    except UsageError:
        raise
    except Exception:  # Python's own exit status for a fault is 1, which is an answer here, and so is 0, for `head`
        with contextlib.suppress(BrokenPipeError):
            traceback.print_exc()
        return 2


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("verify", __doc__, _EXAMPLES)
    parser.add_argument(
        "photo", nargs="*", help="two photos, or one with --enrolled: paths, s3:// or gs:// URIs, or URLs"
    )
    parser.add_argument(
        "--enrolled",
        metavar="FOLDER",
        help="a folder of people, <name>.jpg or <name>/...jpg; one photo a person is enough",
    )
    parser.add_argument(
        "--tau", type=float, metavar="D", help="largest squared distance, 0..4, of one person (default: see --far)"
    )
    parser.add_argument(
        "--far",
        type=arguments.rate,
        metavar="X",
        help="false match rate that tau is chosen for. Of two photos: the share of pairs of two people that pass "
        "(default: tau is that of the encoder's best accuracy). With --enrolled: the share of strangers for whom the "
        "door opens, be it as whomever (default: 0.01)",
    )
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="calibration.json of calibrate --pairs: its rates replace the encoder's (then --far is 0.01 by default)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--save", metavar="FILE", help="draw the photos, with the faces that were compared, into this PNG"
    )
    arguments.add_encoder_flags(parser)
    arguments.add_cache_flag(parser)
    arguments.add_web_flags(parser)
    arguments.add_reader_flags(parser, EVERY_FACE)
    args = parser.parse_args(argv)
    if args.enrolled and len(args.photo) != 1:
        parser.error("with --enrolled name one photo: celebface verify --enrolled FOLDER PHOTO")
    if not args.enrolled and len(args.photo) != 2:
        parser.error("name two photos: celebface verify A B")
    if args.tau is not None and args.far is not None:
        parser.error("--far and --tau exclude each other")
    if args.tau is not None and not 0 <= args.tau <= 4:
        parser.error(f"--tau must lie in 0..4, not {args.tau}")
    if args.enrolled and args.calibration:
        parser.error("--calibration goes with two photos: those who are enrolled are calibrated by themselves")
    if args.save:
        _check_save(args)
    return args


def _check_save(args: argparse.Namespace) -> None:
    """Refuses a place for the picture before the work, lest it take a photo's place or become one of the enrolled."""
    if not args.save.lower().endswith(".png"):
        raise UsageError(f"--save draws a PNG; name a file that ends in .png, not {args.save}")
    target = storage.absolute(args.save)
    if target in map(storage.absolute, args.photo):
        raise UsageError(f"{args.save} is one of the photos; name another file with --save")
    if args.enrolled and target.startswith(storage.join(storage.absolute(args.enrolled), "")):
        raise UsageError(f"{args.save} would lie among the enrolled photos; name another place with --save")
    if not storage.is_stored(target) and not os.path.isdir(os.path.dirname(target)):
        raise UsageError(f"there is no folder {os.path.dirname(target)} for {args.save}")


# --- what both do -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Tools:
    """What an answer is made with."""

    card: EncoderCard
    precision: str
    web: FetchPolicy
    args: argparse.Namespace

    @staticmethod
    def of(args: argparse.Namespace) -> "_Tools":
        web = arguments.fetch_policy(args)
        return _Tools(load_card(arguments.encoder_uri(args)), arguments.precision(args.precision), web, args)

    def read(self, place: str) -> bytes:
        try:
            return read_photo(place, self.web)
        except UnreadableFile as fault:
            raise UsageError(f"{shown(place)}: {fault}") from fault

    def load(self) -> Embedder:
        """Loads the networks; what can be wrong for other reasons is to be known by then."""
        reader = arguments.reader_config(self.args, one_face=True)
        return load_embedder(arguments.encoder_uri(self.args), self.precision, reader)

    @property
    def as_json(self) -> dict[str, str]:
        return {"encoder_id": self.card.encoder_id, "precision": self.precision}


def main_faces(embedder: Embedder, places: Sequence[str], photos: Sequence[bytes]) -> list[MainFace]:
    """The face of each photo that is compared.

    Args:
      embedder: With a reader of one face.
      places: Where the photos are.
      photos: Their bytes.

    Raises:
      UsageError: If one has none; it names the photo.
    """
    found = []
    for place, embedded in zip(places, embedder.embed(photos), strict=True):
        try:
            found.append(MainFace.of(place, embedded))
        except PhotoFault as fault:
            raise UsageError(f"{shown(place)}: {fault}") from fault
    return found


def _tell(args: argparse.Namespace, body: dict[str, Any], lines: Sequence[str]) -> None:
    """Prints the answer. If nobody reads it, the exit status still holds it."""
    text = json.dumps(body, allow_nan=False) if args.json else "\n".join(map(plain, lines))
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _save(args: argparse.Namespace, photos: Sequence[tuple[MainFace, bytes]], lines: Sequence[str], yes: bool) -> None:
    if not args.save:
        return
    try:
        storage.write_bytes(storage.absolute(args.save), pair_picture.draw(photos, lines[0], lines[1:], yes))
    except OSError as error:
        raise UsageError(f"{args.save} cannot be written: {error.strerror or error}") from error


# --- two photos -------------------------------------------------------------------------------------------------------


def _compare(args: argparse.Namespace) -> int:
    tools = _Tools.of(args)
    threshold, curve = _of_pairs(args, tools.card)
    photos = [tools.read(place) for place in args.photo]
    faces = main_faces(tools.load(), args.photo, photos)
    found = comparison.compare(faces[0].vector, faces[1].vector, threshold, curve)
    lines = [answer(found), threshold.stated]
    _save(args, list(zip(faces, photos, strict=True)), lines, found.same)
    body = {
        "same": found.same,
        "distance": found.distance,
        "similarity": found.similarity,
        **threshold.as_json(),
        **tools.as_json,
        "photos": [face.as_json() for face in faces],
    }
    _tell(args, body, [*lines, *(face.remark for face in faces if face.remark)])
    return 0 if found.same else 1


def _of_pairs(args: argparse.Namespace, card: EncoderCard) -> tuple[Threshold, Curve]:
    if not args.calibration:
        return comparison.by_card(card, args.tau, args.far), LFW_CURVE
    try:
        calibration = Calibration.from_json(storage.read_bytes(storage.absolute(args.calibration)))
    except OSError as error:
        raise UsageError(f"{args.calibration} cannot be read: {error.strerror or error}") from error
    return comparison.by_calibration(calibration, card.encoder_id, args.tau, args.far), calibration.curve


def answer(found: Comparison) -> str:
    """What a comparison says, in a line."""
    who, how = ("the same person", "within") if found.same else ("different people", "beyond")
    return f"{who}: D {found.distance:.4f} is {how} tau {found.threshold.tau:.4g}, {_alike(found.similarity)}"


def _alike(similarity: float) -> str:
    return f"{int(similarity)} % alike"  # rounded down: nothing is quite sure


# --- the door ---------------------------------------------------------------------------------------------------------


def _open_door(args: argparse.Namespace) -> int:
    tools = _Tools.of(args)
    listed = door.list_photos(storage.absolute(args.enrolled))
    (place,) = args.photo
    photo = tools.read(place)
    embedder = tools.load()
    start = time.perf_counter()
    enrolled = door.enroll(listed, embedder, tools.card)
    seconds = time.perf_counter() - start
    for lost in enrolled.left_out:
        complain(f"celebface verify: {lost.photo}: {lost.detail}; nobody is enrolled by it")
    (face,) = main_faces(embedder, [place], [photo])
    found = door.admit(face, enrolled, enrolled.threshold(args.tau, args.far))
    lines = [_admission(found), found.threshold.stated]
    nearest = enrolled.faces[found.nearest[0].face_id]
    if args.save:
        _save(args, [(face, photo), (nearest, tools.read(nearest.place))], lines, found.opened)
    faces = counted(len(enrolled.roster), "photo")
    spent = f"{counted(enrolled.calibration.people, 'person', 'people')} enrolled by {faces} in {seconds:.1f} s"
    remarks = [each.remark for each in (face, nearest) if each.remark]
    _tell(args, {**_door_json(found, enrolled, face), **tools.as_json}, [*lines, spent, *remarks])
    return 0 if found.opened else 1


def _admission(found: Admission) -> str:
    """What the door says, in a line."""
    first, tau = found.nearest[0], found.threshold.tau
    if found.verdict is Verdict.LOOKALIKE:
        near = f"the nearest is {first.identity}, D {first.distance:.4f} is beyond tau {tau:.4g}"
        return f"nobody who is enrolled: {near}, {_alike(found.similarity)}"
    if found.verdict is Verdict.AMBIGUOUS:
        second = found.nearest[1]
        near = f"{first.identity} at D {first.distance:.4f} and {second.identity} at {second.distance:.4f}"
        return f"nobody for sure: {near} are too close to tell apart"
    margin = "" if found.margin is None else f", margin {found.margin:.2f}"
    return f"{first.identity}: D {first.distance:.4f} is within tau {tau:.4g}{margin}, {_alike(found.similarity)}"


def _door_json(found: Admission, enrolled: Enrolment, face: MainFace) -> dict[str, Any]:
    curve = enrolled.calibration.curve
    return {
        "opened": found.opened,
        "identity": found.nearest[0].identity if found.opened else None,
        "verdict": str(found.verdict),
        "distance": found.nearest[0].distance,
        "similarity": found.similarity,
        "margin": found.margin,
        **found.threshold.as_json(),
        "nearest": [
            {
                "identity": person.identity,
                "distance": person.distance,
                "similarity": curve.percent(person.distance),
                "photo": person.uri,
            }
            for person in found.nearest
        ],
        "people": enrolled.calibration.people,
        "enrolled_photos": len(enrolled.roster),
        "left_out": [dataclasses.asdict(lost) for lost in enrolled.left_out],
        "photo": face.as_json(),
    }
