"""Command lines: what all commands share."""

import argparse
import pathlib
from typing import NoReturn

from celebface.indexing.storage import absolute
from celebface.models.encoder_card import PRECISIONS
from celebface.models.faces import DetectorConfig, QualityGate, ReaderConfig
from celebface.models.precision import cpu_has_bfloat16
from celebface.models.weights import default_cache, encoder_folder, sample_folder
from celebface.pipelines.text import complain

LOCAL_RUNNER = "DirectRunner"


class UsageError(Exception):
    """The command was called in a way that cannot work; the message is for the user."""


class Parser(argparse.ArgumentParser):
    """Faults of the command line are one line on stderr and exit 2."""

    def __init__(self, command: str, description: str, examples: str):
        super().__init__(
            prog=f"celebface {command}",
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # else Beam's own flags may be taken for ours
        )

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        complain(f"{self.prog}: {message}")
        raise SystemExit(2)


def add_job_flags(parser: argparse.ArgumentParser, shards: int, max_failed_ratio: float) -> None:
    """--num_shards, --max_failed_ratio and --runner."""
    parser.add_argument(
        "--num_shards",
        type=positive,
        default=shards,
        metavar="N",
        help="files each table is spread over; raise it beyond 50,000 photos (default: %(default)s)",
    )
    parser.add_argument(
        "--max_failed_ratio",
        type=ratio,
        default=max_failed_ratio,
        metavar="X",
        help="fail, and write nothing but the ledger, if more of the photos are rejected (default: %(default)s)",
    )
    parser.add_argument(
        "--runner",
        default=LOCAL_RUNNER,
        help="Beam runner; flags of its own may follow (default: all cores of this machine)",
    )


def add_cache_flag(parser: argparse.ArgumentParser) -> None:
    """--cache."""
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        default=default_cache(),
        metavar="FOLDER",
        help="where fetched models are kept (default: %(default)s)",
    )


def add_encoder_flags(parser: argparse.ArgumentParser) -> None:
    """--encoder and --precision."""
    parser.add_argument(
        "--encoder", metavar="PATH", help="folder or card.json of an encoder (default: the one fetch-models brought)"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", *PRECISIONS),
        default="auto",
        help="auto is the gallery's own for match; else bfloat16 if this machine's processor has it, or float32",
    )


def add_reader_flags(parser: argparse.ArgumentParser, gate: QualityGate) -> None:
    """Flags of how photos are read."""
    detector, reader = DetectorConfig(), ReaderConfig()
    group = parser.add_argument_group("what is taken for a face")
    group.add_argument(
        "--min_face_px",
        type=int,
        default=gate.min_face_px,
        metavar="N",
        help="smallest face in pixels of the photo, at least 20 (default: %(default)s)",
    )
    group.add_argument(
        "--min_face_share",
        type=float,
        default=detector.min_face_share,
        metavar="X",
        help="smallest face as a share of the longer side (default: %(default)s)",
    )
    group.add_argument(
        "--longest_side",
        type=int,
        default=detector.longest_side,
        metavar="N",
        help="photos are scaled down to this before detection (default: %(default)s)",
    )
    group.add_argument(
        "--min_confidence",
        type=float,
        default=gate.min_confidence,
        metavar="X",
        help="least certainty of the detector, 0..1 (default: %(default)s)",
    )
    group.add_argument(
        "--min_sharpness",
        type=float,
        default=gate.min_sharpness,
        metavar="X",
        help="least variance of the crop's Laplacian (default: %(default)s)",
    )
    group.add_argument(
        "--max_faces",
        type=int,
        default=reader.max_faces,
        metavar="N",
        help="most faces of one photo, the largest first (default: %(default)s)",
    )


def reader_config(args: argparse.Namespace, one_face: bool) -> ReaderConfig:
    """What `add_reader_flags` parsed.

    Raises:
      UsageError: If a value cannot be.
    """
    try:
        return ReaderConfig(
            detector=DetectorConfig(
                min_face_px=args.min_face_px,
                min_face_share=args.min_face_share,
                longest_side=args.longest_side,
                min_confidence=min(args.min_confidence, DetectorConfig().min_confidence),
            ),
            gate=QualityGate(args.min_face_px, args.min_confidence, args.min_sharpness),
            one_face=one_face,
            max_faces=args.max_faces,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def encoder_uri(args: argparse.Namespace) -> str:
    """The encoder asked for, or the default one."""
    return absolute(args.encoder or str(encoder_folder(args.cache)))


def sample(cache: pathlib.Path, part: str) -> str:
    """The folder of the sample's photos, part "train" or "val".

    Raises:
      UsageError: If it is not there.
    """
    folder = sample_folder(cache, part)
    if not folder.is_dir():
        raise UsageError(f"there is no sample at {folder}; celebface fetch-models brings it")
    return str(folder)


def precision(asked: str) -> str:
    """The precision of a run: decided here, once, so that no worker and no runner decides otherwise."""
    if asked != "auto":
        return asked
    return "bfloat16" if cpu_has_bfloat16() else "float32"


def ratio(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
