"""celebface build-index: the faces of a published gallery, indexed anew; neither photos nor networks are needed."""

import dataclasses
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from celebface.indexing import bundle_cache, publish, storage, tombstones, versions
from celebface.indexing.index import BrokenIndex
from celebface.indexing.kinds import IndexRequest
from celebface.indexing.manifest import BadBundle, Manifest
from celebface.indexing.recall import RecallTooLow
from celebface.indexing.tombstones import Mark, TakenDown
from celebface.models.encoder_card import BadEncoder, EncoderCard
from celebface.pipelines import arguments, beam_flags, bundle, report, summary
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
      based_on: The version that must still be the latest at the end: the source if it stays in its gallery.
    """

    source: str
    gallery: str
    index: IndexRequest
    based_on: str

    @property
    def source_gallery(self) -> str:
        """URI of the gallery whose version the source is."""
        return posixpath.dirname(self.source)


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
        help="the gallery, <root>/<name> for its latest version, or <root>/<name>/<version>; one that is not the "
        "latest needs another place, --output_root or --name",
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
    args, beam_argv = beam_flags.parse_args(parser, argv)
    try:
        source = publish.find_version(args.gallery)
        root, own_name = _place(source)
        name = publish.check_name(args.name) if args.name else own_name
        gallery = storage.absolute(storage.join(args.output_root or root, name))
        storage.resolve(gallery)
        based_on = _based_on(args.gallery, source) if gallery == storage.join(root, own_name) else ""
    except (ValueError, storage.StorageError, BadBundle) as error:
        raise UsageError(str(error)) from error
    return BuildIndexConfig(source, gallery, arguments.index_request(args), based_on), beam_argv


def _place(version: str) -> tuple[str, str]:
    """Root and name of a version's gallery."""
    root, name, _ = version.rsplit("/", 2)
    return root, name


def _based_on(asked: str, source: str) -> str:
    """The name of a source whose successor takes its place.

    Raises:
      UsageError: If it is not the latest version: what is made of it would be, and newer faces would be gone.
    """
    gallery, _, name = source.rpartition("/")
    named = storage.absolute(asked).rstrip("/") == source
    latest = versions.latest(gallery) if named else name
    if latest not in ("", name):
        raise UsageError(
            f"{name} is not the latest version of {gallery}, and what is made of it would be: name another place with "
            f"--output_root or --name, or go back to it first: celebface galleries rollback {gallery} --to {name}"
        )
    return latest


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    config, beam_argv = parse_args(argv)
    try:
        manifest = versions.read_manifest(config.source)
        vectors = Vectors(EncoderCard.from_json(json.dumps(manifest.encoder)), manifest.precision)
        bundle.check_place("build-index", config.gallery)
    except (BadBundle, BadEncoder, storage.StorageError) as error:
        raise UsageError(str(error)) from error
    out = summary.console()
    staging = report.staging_folder(config.gallery, [config.source, config.index])
    try:
        _carry_tombstones(config)
        take_over(config.source, manifest, staging)
        described = {**manifest.config, "index": report.as_json(config.index), "indexed_from": manifest.version}
        done = bundle.complete(staging, vectors, _counts(manifest), described, config.index, beam_argv)
        _carry_tombstones(config)  # once more, for it took a while; publishing looks at those of the target
        version = bundle.publish(staging, config.gallery, done, config.index.min_recall, config.based_on)
    except (TakenDown, publish.Refused, storage.Conflict, storage.StorageError) as error:
        complain(f"celebface build-index: {error}")
        return 1
    except (RecallTooLow, BrokenIndex, BadBundle) as error:
        complain(f"celebface build-index: nothing was published: {error}")
        return 1
    finally:
        storage.delete_tree(staging)  # no later run goes on with it
    summary.print_index(out, done.index)
    out.print(f"published {plain(version)}", markup=False)
    return 0


def _carry_tombstones(config: BuildIndexConfig) -> None:
    """Adds the source gallery's tombstones to those of the target, and refuses a source that holds what they name.

    Raises:
      TakenDown: If it does.
    """
    taken_down = tombstones.read(config.source_gallery)
    if config.gallery != config.source_gallery:
        keys = [(Mark(mark), value) for mark, hashes in taken_down.dates.items() for value in hashes]
        taken_down = tombstones.add(config.gallery, keys)
    if count := tombstones.holds_removed(config.source, taken_down):
        raise TakenDown(
            f"{count} of the rows of {config.source} were taken down since; nothing was published: index a version "
            "that celebface galleries remove has made"
        )


def take_over(version: str, manifest: Manifest, folder: str) -> None:
    """Copies all files of a version but those of its index.

    Raises:
      BadBundle: If a file is missing or not what the manifest says.
    """
    for name, entry in manifest.files.items():
        if name.startswith(_INDEX):
            continue
        bundle_cache.fetch(version, name, entry, storage.join(folder, name))


def _counts(manifest: Manifest) -> Mapping[str, Any]:
    return {name: count for name, count in manifest.counts.items() if name != "identities"}
