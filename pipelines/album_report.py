"""celebface report: a folder to look at, of whom the faces of a match job look like."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import Progress

from celebface.indexing import storage
from celebface.indexing.schemas import FACE_TABLE, MATCH_TABLE
from celebface.pipelines import album as albums
from celebface.pipelines import pages, report, summary
from celebface.pipelines.album import Album
from celebface.pipelines.album_data import as_script, long_files, short_files, summarise
from celebface.pipelines.album_pictures import Pictures
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.summary import counted
from celebface.pipelines.text import plain
from celebface.transforms.folders import REPORT_MARK

FOLDER = "report"  # in the folder of results, if no other is named
PAGE = "index.html"
_MARK_TEXT = """\
celebface made this folder: open index.html in a browser. It is deleted and made anew when the report is, so keep
nothing else in it. It shows the faces of your photos and tells where these lie: pass it on as you would the photos.
"""
_SCRIPTS = ("album_data.js", "album_state.js", "album_parts.js", "album_detail.js", "album_summary.js", "album.js")

_EXAMPLES = """\
  celebface report
  celebface report matches --output look-alikes
  celebface report s3://bucket/matches --output look-alikes
"""


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """What a report is made of.

    Attributes:
      results: URI of the folder of a match job's results.
      output: URI of the report's folder.
    """

    results: str
    output: str


def parse_args(argv: Sequence[str]) -> ReportConfig:
    """Reads the command line.

    Raises:
      UsageError: If a place is none.
    """
    parser = Parser("report", __doc__ or "", _EXAMPLES)
    parser.add_argument(
        "matches", nargs="?", default="matches", metavar="MATCHES",
        help="the results of celebface match (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--output", default="", metavar="FOLDER", help=f"where the report goes (default: {FOLDER}/ in the results)"
    )
    args = parser.parse_args(argv)
    try:
        results = storage.absolute(args.matches)
        output = storage.absolute(args.output) if args.output else storage.join(results, FOLDER)
        storage.resolve(output)
    except storage.StorageError as error:
        raise UsageError(str(error)) from error
    return ReportConfig(results, output)


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    config = parse_args(argv)
    try:
        told = make(config.results, config.output)
    except NoReport as error:
        raise UsageError(f"{error}; if a table is damaged, run celebface match again") from error
    except storage.StorageError as error:
        raise UsageError(str(error)) from error
    print_lines(summary.console(), told)
    return 0


class NoReport(Exception):
    """A job's results cannot be read, or the report not be written; the message is for the user."""


def make(results: str, output: str) -> list[str]:
    """Makes a report, in place of an earlier one.

    Args:
      results: URI of a folder of results.
      output: URI of a folder that holds a report, nothing, or is not there.

    Returns:
      Where it is, and what it lacks, in lines.

    Raises:
      NoReport: If a table is damaged, or the disk is full.
      UsageError: If there are no results, or others' files where the report is to go.
      storage.StorageError: If a place cannot be read or written.
    """
    run = _read_run(results)
    if f"{results.rstrip('/')}/".startswith(f"{output.rstrip('/')}/"):
        raise UsageError(f"{output} holds the results; name another folder with --output")
    if storage.type_of(output) == "file":
        raise UsageError(f"{output} is a file; name a folder with --output")
    if storage.exists(output) and not is_report(output):
        raise UsageError(f"{output} holds other files; name a new folder with --output")
    try:
        album, notes = write_site(results, output, run)
    except BrokenPipeError:
        raise
    except (pa.ArrowException, OSError, KeyError) as error:
        raise NoReport(f"no report can be made of {results}: {error}") from error
    faces, photos = counted(len(album.photo), "face"), counted(len(album.photos), "photo")
    return [f"report of {faces} on {photos}: open {storage.join(output, PAGE)}", *(f"  {note}" for note in notes)]


def print_lines(out: Console, lines: Sequence[str]) -> None:
    """What `make` tells."""
    for line in lines:
        out.print(plain(line), markup=False)


def is_report(folder: str) -> bool:
    """Whether a folder is a report, whole, half written, or just begun."""
    if storage.type_of(folder) == "file":
        return False
    return storage.exists(storage.join(folder, REPORT_MARK)) or not any(storage.list_names(folder))


def _read_run(results: str) -> Mapping[str, Any]:
    """run.json of a match job that kept its budget."""
    try:
        run = json.loads(storage.read_bytes(storage.join(results, report.RUN_NAME)))
        is_match = {"gallery", "tau", "point"} <= run["config"].keys() and run["items"]["kinds"] is not None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{results} holds no results of celebface match: there is no {report.RUN_NAME}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"the {report.RUN_NAME} in {results} is not that of celebface match") from error
    if not is_match or not report.shards(results, MATCH_TABLE):
        raise UsageError(f"{results} holds no matches: no match job wrote it, or the job broke its budget")
    return run


def write_site(results: str, output: str, run: Mapping[str, Any]) -> tuple[Album, list[str]]:
    """Writes the report's files, its page last.

    Args:
      results: URI of a folder of results.
      output: URI of the report's folder; what is in it is deleted.
      run: Contents of the job's run.json.

    Returns:
      What it shows, and what it lacks, in sentences.
    """
    album, left_out = albums.read_album(results), albums.read_left_out(results)
    storage.check_writable(output)
    storage.delete_tree(output)
    storage.write_bytes(storage.join(output, REPORT_MARK), _MARK_TEXT.encode())
    photos = album.photos.to_pylist()
    others = sorted({uri for kind in left_out for uri, _ in kind.examples}.difference(photos))
    faces, owner = albums.distinct(album.face_ids)
    with Progress(console=summary.error_console(), transient=True) as bar:
        task = bar.add_task("report", total=2 * len(photos) + len(others) + len(faces) + len(album.gallery_ids))
        with Pictures(output, lambda count: bar.advance(task, count)) as pictures:
            thumbnails, sizes = pictures.of_photos(results, pa.array([*photos, *others], pa.string()))
            crops = pictures.of_faces(report.shards(results, FACE_TABLE), faces)[owner]
            gallery, lost = pictures.of_gallery(str(run["config"]["gallery"]), album.gallery_ids)
        notes = _notes(int(np.sum(crops == b"")), lost)
        shown = thumbnails[: len(photos)], sizes[: len(photos)]
        for name, data in short_files(album, *shown, crops, gallery):
            _write_data(output, name, data)
            bar.advance(task, len(data["thumbnails"]))
    for name, data in long_files(album, _examples(album, gallery)):
        _write_data(output, name, data)
    of_others = dict(zip(others, thumbnails[len(photos) :].astype(str).tolist(), strict=True))
    _write_data(output, "album", summarise(album, left_out, of_others, run, notes))
    storage.write_bytes(storage.join(output, PAGE), make_page().encode())
    return album, notes


def _write_data(output: str, name: str, data: Any) -> None:
    storage.write_bytes(storage.join(output, f"data/{name}.js"), as_script(name, data))


def _examples(album: Album, gallery: np.ndarray) -> np.ndarray:
    """A picture of each person, names in bytes [N]."""
    faces = album.examples()
    return np.where(faces >= 0, np.append(gallery, b"")[faces], b"")


def _notes(without_crop: int, lost: str) -> list[str]:
    """What a report lacks."""
    notes = []
    if without_crop:
        notes.append(
            "Faces are shown without their pictures: the job stored none (--no_crops), or was run by an older version."
        )
    if lost:
        notes.append(f"Celebrities are shown without their pictures: {lost}.")
    return notes


def make_page() -> str:
    """index.html: the same for all albums, as everything it shows comes from its data.

    Its policy trusts one script, by its hash, and what that script loads; 'self' of a page opened from a folder is any
    local file, as Chromium has it, but nothing on a network.
    """
    style, script = pages.source("album.css"), pages.source(*_SCRIPTS)
    return pages.render(
        "album.html", style=style, script=script, style_digest=pages.digest(style), script_digest=pages.digest(script)
    )
