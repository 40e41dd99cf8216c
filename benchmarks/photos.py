"""The photo sets of the benchmarks, made by rule, so that anyone who has the sources has the same photos.

lfw: LFW's dev fold, 250 x 250 pixels, mostly one face. large: 0.3, 1, 3, 12 and 24 megapixels, 1 to 40 faces. mixed:
2,000 photos of all sorts, as albums have them.
"""

import itertools
import os
import pathlib
import shutil
from collections.abc import Sequence

import numpy as np
from PIL import Image

from celebface.indexing.cache import default_cache
from celebface.models.weights import sample_folder

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = pathlib.Path(os.environ.get("CELEBFACE_BENCH_DATA", ROOT.parent / "shared" / "data"))
FOLDER = ROOT / "build" / "bench" / "photos"

MEGAPIXELS = (0.3, 1, 3, 12, 24)
_CROWDS = (5, 15, 40)  # faces of the photos that are put together from the sample's
_NOISE = 4.0  # standard deviation in grey levels; enlarged photos get a sensor's noise, and so 0.2 bytes a pixel
_QUALITY = 90
_MIXED = 2000


def photo_set(name: str) -> list[pathlib.Path]:
    """Makes a set, if it is not there, and lists its photos.

    Args:
      name: lfw, large or mixed.

    Raises:
      FileNotFoundError: If the photos that it is made of are not there.
    """
    if not SOURCES.is_dir():
        raise FileNotFoundError(f"the benchmarks need LFW and large photos in {SOURCES}")
    if name == "lfw":
        return sorted((SOURCES / "lfw" / "dev").glob("*/*.jpg"))
    folder = FOLDER / name
    if not folder.is_dir():
        scratch = folder.with_suffix(".part")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        {"large": _make_large, "mixed": _make_mixed}[name](scratch)
        scratch.replace(folder)
    return sorted(folder.glob("*.jpg"))


def _make_large(folder: pathlib.Path) -> None:
    noise = np.random.default_rng(4)
    portraits = sorted((SOURCES / "photos").glob("*.jpg"))
    people = _interleaved(sample_folder(default_cache(), "train"))
    for megapixels in MEGAPIXELS:
        pictures = [(path.stem, Image.open(path).convert("RGB")) for path in portraits]
        pictures += [(f"crowd{faces:02d}", _crowd(people[:faces], megapixels)) for faces in _CROWDS]
        for name, picture in pictures:
            scale = (megapixels * 1e6 / (picture.width * picture.height)) ** 0.5
            size = round(picture.width * scale), round(picture.height * scale)
            pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.int16)
            if megapixels > 3:
                pixels = pixels + np.rint(noise.normal(0, _NOISE, pixels.shape)).astype(np.int16)
            sharp = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            sharp.save(folder / f"{megapixels:04.1f}mp-{name}.jpg", quality=_QUALITY)


def _interleaved(people: pathlib.Path) -> list[pathlib.Path]:
    """Photos of all people in turn."""
    each = [sorted(person.glob("*.jpg")) for person in sorted(people.iterdir())]
    return [photo for row in itertools.zip_longest(*each) for photo in row if photo is not None]


def _crowd(photos: Sequence[pathlib.Path], megapixels: float) -> Image.Image:
    """Photos side by side, 4:3 in all."""
    across = int(np.ceil(np.sqrt(len(photos))))
    down = int(np.ceil(len(photos) / across))
    width = int((megapixels * 1e6 * 4 / 3) ** 0.5)
    tile = width // across, width * 3 // 4 // down
    ground = Image.new("RGB", (tile[0] * across, tile[1] * down), "grey")
    for number, path in enumerate(photos):
        with Image.open(path) as photo:
            scale = min(tile[0] / photo.width, tile[1] / photo.height)
            size = int(photo.width * scale), int(photo.height * scale)
            placed = photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        ground.paste(placed, (number % across * tile[0], number // across * tile[1]))
    return ground


def _make_mixed(folder: pathlib.Path) -> None:
    large = photo_set("large")
    parts = (sample_folder(default_cache(), part) for part in ("train", "val"))
    sample = [photo for part in parts for photo in sorted(part.glob("*/*.jpg"))]
    lfw = sorted((SOURCES / "lfw" / "train").glob("*/*.jpg"))
    chosen = [*large, *large, *sample]
    chosen += lfw[:: max(1, len(lfw) // (_MIXED - len(chosen)))][: _MIXED - len(chosen)]
    order = np.random.default_rng(4).permutation(len(chosen))
    for number, row in enumerate(order):
        shutil.copy(chosen[row], folder / f"{number:04d}.jpg")
