"""celebface build-index: the faces of a published gallery, indexed anew; neither photos nor networks are needed."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from celebface.indexing import publish, storage
from celebface.indexing.index import BrokenIndex
from celebface.indexing.kinds import IndexRequest
from celebface.indexing.manifest import NAME as MANIFEST_NAME
from celebface.indexing.manifest import BadBundle, Manifest
from celebface.indexing.recall import RecallTooLow
from celebface.models.encoder_card import BadEncoder, EncoderCard
from celebface.pipelines import arguments, bundle, execution, report, summary
from celebface.pipelines.arguments import LOCAL_RUNNER, Parser, UsageError
from celebface.pipelines.bundle import Vectors
from celebface.pipelines.text import complain, plain

_INDEX = "index/"

_EXAMPLES = """\
  celebface build-index --gallery galleries/celebrities --index_kind auto
  celebface build-index --gallery s3://bucket/galleries/celebrities --index_kind hnsw --index_parts 8
  celebface build-index --gallery galleries/celebrities/20260102T030405Z-0123abcd --output_root try --min_recall 0.999
"""


@dataclasses.dataclass(frozen=True)
class BuildIndexConfig:
    """What an index is made of.

    Attributes:
      source: URI of a gallery or of one of its versions.
      gallery: URI <root>/<name> where the new version is published.
      index: What is asked of the index.
    """

    source: str
    gallery: str
    index: IndexRequest


def parse_args(argv: Sequence[str]) -> tuple[BuildIndexConfig, list[str]]:
    """Reads the command line.

    Returns:
      The configuration, and the flags that are Beam's.

    Raises:
      UsageError: If values do not make sense together.
    """
    parser = Parser("build-index", __doc__, _EXAMPLES)
    parser.add_argument(
        "--gallery",
        required=True,
        metavar="PLACE",
        help="the gallery, <root>/<name> for its latest version, or <root>/<name>/<version>",
    )
    parser.add_argument(
        "--output_root", default="", metavar="FOLDER", help="where the new version is published (default: beside it)"
    )
    parser.add_argument("--name", default="", help="the new version's gallery (default: the same)")
    parser.add_argument(
        "--runner",
        default=LOCAL_RUNNER,
        help="Beam runner for an index in several parts; flags of its own may follow (default: all cores of this "
        "machine)",
    )
    arguments.add_index_flags(parser)
    args, beam_argv = execution.parse_args(parser, argv)
    try:
        source = publish.find_version(args.gallery)
        root, name = _place(source)
        name = publish.check_name(args.name) if args.name else name
        gallery = storage.absolute(storage.join(args.output_root or root, name))
        storage.resolve(gallery)
    except (ValueError, storage.StorageError, BadBundle) as error:
        raise UsageError(str(error)) from error
    return BuildIndexConfig(source, gallery, arguments.index_request(args)), beam_argv


def _place(version: str) -> tuple[str, str]:
    """Root and name of a version's gallery."""
    root, name, _ = version.rstrip("/").rsplit("/", 2)
    return root, name


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    config, beam_argv = parse_args(argv)
    try:
        manifest = Manifest.from_json(storage.read_bytes(storage.join(config.source, MANIFEST_NAME)))
        vectors = Vectors(EncoderCard.from_json(json.dumps(manifest.encoder)), manifest.precision)
        publish.check_place(config.gallery)
    except (BadBundle, BadEncoder, storage.StorageError) as error:
        raise UsageError(str(error)) from error
    out = summary.console()
    staging = report.staging_folder(config.gallery, [config.source, config.index])
    try:
        take_over(config.source, manifest, staging)
        described = {**manifest.config, "index": report.as_json(config.index), "indexed_from": manifest.version}
        done = bundle.complete(staging, vectors, _counts(manifest), described, config.index, beam_argv)
        version = bundle.publish(staging, config.gallery, done, config.index.min_recall)
    except (RecallTooLow, BrokenIndex, BadBundle) as error:
        complain(f"celebface build-index: nothing was published: {error}")
        return 1
    except (publish.Refused, storage.Conflict, storage.StorageError) as error:
        complain(f"celebface build-index: {error}")
        return 1
    storage.delete_tree(staging)
    summary.print_index(out, done.index)
    out.print(f"published {plain(version)}", markup=False)
    return 0


def take_over(version: str, manifest: Manifest, folder: str) -> None:
    """Copies all files of a version but those of its index.

    Raises:
      BadBundle: If a file is not what the manifest says.
    """
    for name, entry in manifest.files.items():
        if name.startswith(_INDEX):
            continue
        target = storage.join(folder, name)
        if not storage.exists(storage.join(version, name)):
            raise BadBundle(f"the gallery lacks its {name}: {version}")
        storage.copy_file(storage.join(version, name), target)
        if storage.checksum(target) != (entry["sha256"], entry["bytes"]):
            raise BadBundle(f"the gallery's {name} is not what its manifest says: {version}")


def _counts(manifest: Manifest) -> Mapping[str, Any]:
    return {name: count for name, count in manifest.counts.items() if name != "identities"}
