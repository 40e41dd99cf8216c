"""Command lines: what all commands share."""

import argparse
import atexit
import hashlib
import ipaddress
import os
import pathlib
import sys
from typing import NoReturn

from celebface.indexing.cache import default_cache
from celebface.indexing.kinds import AUTO, CHOICES, DEFAULT, IndexRequest, missing
from celebface.indexing.storage import absolute
from celebface.models.faces import DetectorConfig, QualityGate, ReaderConfig
from celebface.models.precision import PRECISIONS, is_quick_in_bfloat16
from celebface.models.weights import encoder_folder, sample_folder
from celebface.pipelines.text import complain
from celebface.transforms.lists import Columns
from celebface.transforms.web.policy import FetchPolicy

LOCAL_RUNNER = "DirectRunner"
_MOST_OF_STDIN = 256 * 2**20


class UsageError(Exception):
    """The command was called in a way that cannot work; the message is for the user."""


class RunFailed(Exception):
    """A job did not come to its end; said in one line, after which the program exits with 1."""


class NotStarted(RunFailed):
    """It did not begin, so there is nothing that the same command would go on with."""


class Launched(Exception):
    """A job was described as a template, which somebody else will run; the message says what is to be done then."""


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
        help="files each table is spread over; one for some 20,000 photos or 50,000 faces (default: %(default)s)",
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


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of how lists are read."""
    from celebface.transforms.sources import FORMATS  # here, so that asking for help does not load Beam

    group = parser.add_argument_group("lists of photos, pages and names")
    group.add_argument(
        "--source_format",
        choices=("auto", *FORMATS),
        default="auto",
        help="what each source is (default: told by its name and its first bytes)",
    )
    for name, what in (
        ("identity", "the person's name"),
        ("url", "the photo's URL or path"),
        ("page", "the URL of a web page with photos of the person"),
        ("id", "an id that tells people of one name apart, such as a Wikidata Q-number"),
    ):
        group.add_argument(
            f"--{name}_column", default="", metavar="NAME", help=f"column that holds {what} (default: the usual names)"
        )


def source_columns(args: argparse.Namespace) -> Columns:
    """What `add_source_flags` parsed."""
    return Columns(identity=args.identity_column, url=args.url_column, page=args.page_column, id=args.id_column)


def add_web_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of how the web is asked."""
    policy = FetchPolicy()
    group = parser.add_argument_group("photos from the web")
    group.add_argument(
        "--contact",
        default=os.environ.get("CELEBFACE_CONTACT", ""),
        metavar="TEXT",
        help="mail address or URL that a site's owner can turn to; it is sent with each request, and needed for any "
        "(default: the environment's CELEBFACE_CONTACT)",
    )
    group.add_argument(
        "--host_rate",
        type=float,
        default=policy.host_rate,
        metavar="X",
        help="requests a second to one host, over all workers; 0 for no limit (default: %(default)s)",
    )
    group.add_argument(
        "--host_connections",
        type=positive,
        default=policy.host_connections,
        metavar="N",
        help="requests at once to one host, over all workers (default: %(default)s)",
    )
    group.add_argument(
        "--host_workers",
        type=positive,
        default=policy.host_workers,
        metavar="N",
        help="workers that one host is spread over, each with its share of connections and rate: for a host of your "
        "own that holds most of the photos (default: %(default)s)",
    )
    group.add_argument(
        "--host_failures",
        type=positive,
        default=policy.host_failures,
        metavar="N",
        help="failures in a row after which a worker leaves a host alone (default: %(default)s)",
    )
    group.add_argument(
        "--fetch_threads",
        type=positive,
        default=policy.threads,
        metavar="N",
        help="requests at once in each worker process (default: %(default)s)",
    )
    group.add_argument(
        "--fetch_seconds",
        type=float,
        default=policy.total_seconds,
        metavar="S",
        help="longest time for one photo, redirects, waits and retries included (default: %(default)s)",
    )
    group.add_argument(
        "--fetch_retries",
        type=int,
        default=policy.retries,
        metavar="N",
        help="how often a photo is asked for again after a passing fault (default: %(default)s)",
    )
    group.add_argument(
        "--max_download_bytes",
        type=positive,
        default=policy.max_bytes,
        metavar="N",
        help="larger photos are not read (default: %(default)s)",
    )
    group.add_argument("--ignore_robots", action="store_true", help="do not heed robots.txt")
    group.add_argument(
        "--ignore_opt_outs", action="store_true", help="do not heed X-Robots-Tag, robots meta tags and TDM-Reservation"
    )
    group.add_argument(
        "--allow_private_hosts", action="store_true", help="also ask hosts whose addresses are not public ones"
    )
    group.add_argument(
        "--resolve",
        action="append",
        default=[],
        type=host_address,
        metavar="HOST:ADDRESS",
        help="take a host's address from here and not from DNS; may be repeated",
    )


def fetch_policy(args: argparse.Namespace) -> FetchPolicy:
    """What `add_web_flags` parsed.

    Raises:
      UsageError: If a value cannot be.
    """
    try:
        policy = FetchPolicy(
            max_bytes=args.max_download_bytes,
            contact=" ".join(args.contact.split()),
            threads=args.fetch_threads,
            host_connections=args.host_connections,
            host_rate=args.host_rate,
            host_workers=args.host_workers,
            host_failures=args.host_failures,
            total_seconds=args.fetch_seconds,
            retries=args.fetch_retries,
            robots=not args.ignore_robots,
            opt_outs=not args.ignore_opt_outs,
            allow_private_hosts=args.allow_private_hosts,
            addresses=tuple(args.resolve),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not policy.contact.isascii():
        raise UsageError("--contact must be ASCII, as it is sent in a header")
    return policy


def host_address(text: str) -> tuple[str, str]:
    """HOST:ADDRESS, for argparse."""
    host, colon, address = text.partition(":")
    try:
        if host and colon:
            return host.lower(), str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"HOST:ADDRESS is wanted, such as www.example.org:192.0.2.1, not {text!r}")


def stdin_place() -> str:
    """Keeps what comes on stdin in a hidden file in the current folder, named by its content, until the program ends.

    Workers read it there, relative paths in it are those of this folder, and the same command finds the parts of a run
    that was killed.
    """
    data = sys.stdin.buffer.read(_MOST_OF_STDIN + 1)
    if len(data) > _MOST_OF_STDIN:
        raise UsageError(f"more than {_MOST_OF_STDIN >> 20} MiB on stdin; put them into a file")
    place = pathlib.Path(f".celebface-stdin-{hashlib.sha256(data).hexdigest()[:16]}.list").absolute()
    try:
        place.write_bytes(data)
    except OSError as error:
        raise UsageError(f"what comes on stdin cannot be kept in {place.parent}: {error.strerror}") from error
    atexit.register(place.unlink, missing_ok=True)
    return str(place)


def add_index_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of what is asked of a gallery's index."""
    group = parser.add_argument_group("the index")
    group.add_argument(
        "--index_kind",
        choices=CHOICES,
        default=DEFAULT,
        help="auto builds those that can win, measures them here, and keeps the cheapest: another machine, or what is "
        "installed there, may choose otherwise (default: %(default)s)",
    )
    group.add_argument(
        "--min_recall",
        type=ratio,
        default=IndexRequest.min_recall,
        metavar="X",
        help="least share of the nearest face and of the ten nearest that is found; nothing is published below it "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--max_latency_ms",
        type=above_zero,
        metavar="MS",
        help="longest time for a face alone that 99 of 100 may take (default: any)",
    )
    group.add_argument(
        "--index_parts",
        type=positive,
        default=0,
        metavar="N",
        help="parts that are built side by side and searched as one, at most one for each shard (default: by size)",
    )


def index_request(args: argparse.Namespace) -> IndexRequest:
    """What `add_index_flags` parsed.

    Raises:
      UsageError: If the library of the kind asked for is not installed.
    """
    if args.index_kind != AUTO and (why := missing(args.index_kind)):
        raise UsageError(why)
    return IndexRequest(args.index_kind, args.min_recall, args.max_latency_ms, args.index_parts)


def add_cache_flag(parser: argparse.ArgumentParser) -> None:
    """--cache."""
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        default=default_cache(),
        metavar="FOLDER",
        help="where fetched models and galleries are kept (default: %(default)s)",
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
        help="auto is the gallery's own for match; else the one that this machine's processor is quicker in",
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
        help="smallest face as a share of the longer side, at least 0.01 (default: %(default)s)",
    )
    group.add_argument(
        "--decoded_side",
        type=int,
        default=detector.decoded_side,
        metavar="N",
        help="large JPEGs are decoded smaller, down to this longer side; at least 400 (default: %(default)s)",
    )
    group.add_argument(
        "--min_confidence",
        type=float,
        default=gate.min_confidence,
        metavar="X",
        help="least certainty of the detector, between 0 and 1 (default: %(default)s)",
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
                decoded_side=args.decoded_side,
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
    return "bfloat16" if is_quick_in_bfloat16() else "float32"


def ratio(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def above_zero(text: str) -> float:
    """A number above 0, for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def rate(text: str) -> float:
    """A number between 0 and 1, for argparse."""
    value = float(text)
    if not 0 < value < 1:
        raise ValueError(text)
    return value


def whole(text: str) -> int:
    """A whole number from 0 on, for argparse."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers above 0, commas between, for argparse: each once, from the least."""
    return tuple(sorted({positive(part) for part in text.split(",")}))
