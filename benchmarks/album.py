"""The look-alike report of 2,000 and of 20,000 photos: time to make it, its size, and how soon Chromium shows it.

The distinct photos, those of LFW's dev fold and the sample, are matched against LFW's train part; their rows,
thumbnails and crops are then repeated under other names. Each copy of a picture has a number behind its end, so that
none is spared by being there already. The browser is Debian's, its window a laptop's, the files in the page cache.
"""

import argparse
import io
import json
import pathlib
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks import report
from benchmarks.photos import SOURCES
from celebface.indexing import schemas
from celebface.indexing.cache import default_cache
from celebface.models.weights import sample_folder
from celebface.pipelines import album_report, cli

SIZES = (2_000, 20_000)
_SHARD = 5_000  # photos of a shard of the tables
_THUMBNAIL, _CROP = 320, 160  # sides in pixels
_WINDOW = (1280, 900)

# Tells when the first cards are on the screen, and when the pictures in view have loaded; in milliseconds.
_WATCH = """
new MutationObserver((_, observer) => {
  if (!document.querySelector("#cards li")) return;
  observer.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => { window.cardsPainted = performance.now(); }));
  const inView = [...document.querySelectorAll("#cards img")].filter(
    (image) => image.getBoundingClientRect().top < innerHeight);
  Promise.all(inView.map((image) => image.decode())).then(() => { window.picturesShown = performance.now(); });
}).observe(document, { childList: true, subtree: true });
"""

# Scrolls through the page, a third of a window a frame, and hands over the times between frames.
_SCROLL = """
const done = arguments[0], frames = [];
let last = performance.now();
function step(now) {
  frames.push(now - last);
  last = now;
  if (scrollY + innerHeight >= document.documentElement.scrollHeight - 1) done(frames);
  else { scrollBy(0, innerHeight / 3); requestAnimationFrame(step); }
}
requestAnimationFrame((now) => { last = now; requestAnimationFrame(step); });
"""

# Asks for something else, and hands over how long it took until it was on the screen.
_REDRAW = """
const [address, done] = arguments, begin = performance.now();
new MutationObserver((_, observer) => {
  observer.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begin)));
}).observe(document.getElementById("cards"), { childList: true });
location.hash = address;
"""


def match_once(place: pathlib.Path) -> pathlib.Path:
    """Matches the distinct photos; returns the results."""
    _run("build-gallery", f"--source={SOURCES / 'lfw' / 'train'}", f"--output_root={place}", "--name=lfw")
    photos = [str(SOURCES / "lfw" / "dev"), str(sample_folder(default_cache(), "val"))]
    _run("match", *photos, f"--gallery={place / 'lfw'}", f"--output={place / 'once'}")
    return place / "once"


def repeat(once: pathlib.Path, folder: pathlib.Path, count: int) -> None:
    """Writes the results of a job with so many photos, each of the distinct ones in turn."""
    folder.mkdir()
    rows = _rows(once, "matches")
    by_photo: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_photo.setdefault(row["photo_uri"], []).append(row)
    pictures = {uri: _pictures(uri, faces) for uri, faces in by_photo.items()}
    uris = sorted(by_photo)
    shards = -(-count // _SHARD)
    for shard in range(shards):
        tables: dict[str, list[dict[str, Any]]] = {"matches": [], "photos": [], "faces": []}
        for number in range(shard * _SHARD, min(count, (shard + 1) * _SHARD)):
            for name, copies in _copies(
                number, by_photo[uris[number % len(uris)]], *pictures[uris[number % len(uris)]]
            ):
                tables[name].extend(copies)
        for name, table in tables.items():
            schema = schemas.MATCHES if name == "matches" else None
            pq.write_table(
                pa.Table.from_pylist(table, schema=schema), folder / f"{name}-{shard:05d}-of-{shards:05d}.parquet"
            )
    (ledger,) = once.glob("ledger-*.parquet")
    shutil.copy(ledger, folder)
    run = json.loads((once / "run.json").read_text())
    run["items"]["kinds"]["photo"]["done"] = count
    (folder / "run.json").write_text(json.dumps(run))


def _rows(folder: pathlib.Path, table: str) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob(f"{table}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def _pictures(uri: str, rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A photo's row of the table of photos, and the crops of its faces by their ids."""
    with Image.open(uri) as image:
        photo = image.convert("RGB")
    crops = {}
    for row in rows:
        if row["rank"] == 1:
            x0, y0, x1, y1 = row["box"]
            half = max(x1 - x0, y1 - y0) / 2
            middle = (x0 + x1) / 2, (y0 + y1) / 2
            square = tuple(round(centre + way * half) for way in (-1, 1) for centre in middle)
            crops[row["face_id"]] = _jpeg(photo.crop(square).resize((_CROP, _CROP)))
    width, height = photo.size
    photo.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return {"image_width": width, "image_height": height, "thumbnail_jpeg": _jpeg(photo)}, crops


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _copies(
    number: int, rows: Sequence[dict[str, Any]], photo: dict[str, Any], crops: dict[str, bytes]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The rows of copy `number` of a photo, by table."""
    behind = b"%012d" % number
    uri = f"/album/{number // 1000:03d}/{number:06d} {pathlib.Path(rows[0]['photo_uri']).name}"
    yield "matches", [{**row, "photo_uri": uri, "face_id": f"{row['face_id']}-{number}"} for row in rows]
    yield "photos", [{**photo, "photo_uri": uri, "thumbnail_jpeg": photo["thumbnail_jpeg"] + behind}]
    yield (
        "faces",
        [
            {"photo_uri": uri, "face_id": f"{own_id}-{number}", "crop_jpeg": crop + behind}
            for own_id, crop in crops.items()
        ],
    )


def _run(*arguments: str) -> None:
    if cli.main(arguments):
        raise RuntimeError(f"celebface {arguments[0]} failed")


def measure(results: pathlib.Path, count: int) -> dict[str, float]:
    """Makes the report and opens it."""
    begin = time.perf_counter()
    album_report.make(str(results), str(results / "report"))
    seconds = time.perf_counter() - begin
    files = [path.stat().st_size for path in (results / "report").rglob("*") if path.is_file()]
    data = sum(path.stat().st_size for path in (results / "report" / "data").iterdir())
    made = {"photos": count, "seconds": seconds, "bytes": sum(files), "data_bytes": data, "files": len(files)}
    return {
        **made,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        **browse(results / "report"),
    }


def browse(folder: pathlib.Path) -> dict[str, float]:
    """Opens a report in Chromium, scrolls through its first page, and asks for others; seconds."""
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", f"window-size={_WINDOW[0]},{_WINDOW[1]}"):
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
        browser.get((folder / "index.html").as_uri())
        both = "return window.cardsPainted && window.picturesShown && [window.cardsPainted, window.picturesShown]"
        painted, shown = WebDriverWait(browser, 60, poll_frequency=0.05).until(lambda _: browser.execute_script(both))
        frames = sorted(browser.execute_async_script(_SCROLL))
        redraws = {
            f"{name}_seconds": browser.execute_async_script(_REDRAW, address) / 1000
            for name, address in (("next_page", "page=2"), ("search", "q=a 1"), ("sort", "sort=name"))
        }
    finally:
        browser.quit()
    return {
        "cards_seconds": painted / 1000,
        "pictures_seconds": shown / 1000,
        "scrolled_frames": len(frames),
        "frame_p95_seconds": frames[int(0.95 * len(frames))] / 1000,
        **redraws,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measures each size, prints the figures and stores them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photos", type=int, nargs="+", default=SIZES, metavar="N", help="sizes (default: %(default)s)"
    )
    sizes = parser.parse_args(argv).photos
    measured = []
    with tempfile.TemporaryDirectory(prefix="celebface-album-") as scratch:
        once = match_once(pathlib.Path(scratch))
        for count in sizes:
            results = pathlib.Path(scratch) / f"repeated-{count}"
            repeat(once, results, count)
            measured.append(measure(results, count))
            shutil.rmtree(results)
    for found in measured:
        report.show(f"Report of {found['photos']:,} photos", _figures(found, measured[0]))
    if tuple(sizes) == SIZES:
        report.store("album", {"reports": measured})


def _figures(found: dict[str, float], smallest: dict[str, float]) -> list[report.Figure]:
    each, least_each = (1000 * one["seconds"] / one["photos"] for one in (found, smallest))
    seconds = "{:.2f} s".format
    return [
        report.Figure("time to make it", found["seconds"], seconds),
        report.Figure("of that a photo, by that of the smallest", each / least_each, target=report.Target(1.25, False)),
        report.Figure("size", found["bytes"], report.gigabytes),
        report.Figure("size of the data alone", found["data_bytes"] / 1e6, "{:.1f} MB".format),
        report.Figure("files", found["files"], "{:,.0f}".format),
        report.Figure("peak of memory, all of the process", found["peak_bytes"], report.gigabytes),
        report.Figure("first cards on the screen", found["cards_seconds"], seconds, report.Target(2, False)),
        report.Figure("pictures in view", found["pictures_seconds"], seconds),
        report.Figure("scrolling: 95th percentile of a frame", found["frame_p95_seconds"], "{:.3f} s".format),
        report.Figure("next page", found["next_page_seconds"], seconds),
        report.Figure("search", found["search_seconds"], seconds),
        report.Figure("sort by name", found["sort_seconds"], seconds),
    ]


if __name__ == "__main__":
    main()
