"""Whole runs of `match` and `build-gallery` at two sizes, and photos one by one, for what a photo costs and where.

The difference of two sizes is what photos cost; the rest is what a run costs before the first. All is processor time,
user and system, of a run in one process with one thread of TensorFlow: the work of one worker. Stages are measured
apart, one after the other in one process, so that the time of the process is that of the stage.
"""

import dataclasses
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.bare import THREADS
from benchmarks.photos import ROOT, SOURCES, photo_set
from celebface.indexing.cache import default_cache
from celebface.models import weights
from celebface.models.faces import PHOTOS_TOGETHER, PhotoFaces, PhotoFault, ReaderConfig
from celebface.models.precision import is_quick_in_bfloat16

SHARDS = 4
_OF_A_PERSON = 20  # photos of whom pairs are made
_LOG = 800  # characters of a log that are shown


@dataclasses.dataclass(frozen=True)
class Ran:
    """A run and what it cost.

    Attributes:
      photos: All of them.
      faces: In its results.
      wall_seconds: From start to end, whatever else the machine did.
      counts: See `counted_run`.
      results: Bytes of the files it left, by table.
      seconds: Working time by stage and work, from run.json; of the clock, not of the processor.
      own_distances: Of a gallery, D of pairs of photos of one person, ascending; at most 20 photos of each.
    """

    photos: int
    faces: int
    wall_seconds: float
    counts: dict[str, Any]
    results: dict[str, int]
    seconds: dict[str, dict[str, float]]
    own_distances: list[float] = dataclasses.field(default_factory=list)


def copies(photos: Sequence[pathlib.Path], count: int, folder: pathlib.Path) -> pathlib.Path:
    """Links so many photos into a folder, the given ones again and again under other names."""
    folder.mkdir(parents=True)
    sources = [shutil.copy(photo, folder.parent / f"{folder.name}-{number}") for number, photo in enumerate(photos)]
    for number in range(count):
        place = folder / f"{number // 1000:04d}"
        place.mkdir(exist_ok=True)
        os.link(sources[number % len(sources)], place / f"{number:07d}.jpg")
    return folder


def people(count: int, folder: pathlib.Path) -> pathlib.Path:
    """Links the first photos of LFW's train part, by person, so many of them."""
    for photo in itertools.islice(sorted((SOURCES / "lfw" / "train").glob("*/*.jpg")), count):
        (folder / photo.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder / photo.parent.name / photo.name)
    return folder


def run(command: str, *flags: str) -> Ran:
    """Runs a command in one process.

    Args:
      command: match or build-gallery.
      flags: Its flags, without the folder for results.

    Raises:
      RuntimeError: If it fails.
    """
    with tempfile.TemporaryDirectory(prefix="celebface-scale-") as scratch:
        counts, output, log = (pathlib.Path(scratch, name) for name in ("counts.json", "out", "log"))
        target = "--output" if command == "match" else "--output_root"
        arguments = [command, *flags, f"{target}={output}", f"--num_shards={SHARDS}", "--direct_num_workers=1"]
        environ = {**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": _import_paths()}
        start = time.monotonic()
        with log.open("wb") as printed:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.counted_run", str(counts), *arguments],
                stdout=printed, stderr=printed, cwd=scratch, env=environ, check=False,
            )  # fmt: skip
        wall = time.monotonic() - start
        if done.returncode:
            raise RuntimeError(f"{command} ended with status {done.returncode}: {log.read_text()[-_LOG:]}")
        (report,) = output.glob("**/run.json")
        found = json.loads(report.read_text())
        results: dict[str, int] = {}
        for file in report.parent.glob("**/*"):
            if file.is_file():
                kind = file.name.split("-")[0] if file.parent == report.parent else file.parent.name
                results[kind] = results.get(kind, 0) + file.stat().st_size
        costs, own = json.loads(counts.read_text()), _own_distances(report.parent) if command != "match" else []
    seconds = {name: dict(stage["seconds"]) for name, stage in found["stages"].items() if stage["seconds"]}
    ran = Ran(found["items"]["items"], found["items"]["faces"], wall, costs, results, seconds, own)
    print(f"{command}, {ran.photos} photos: {ran.counts['processor_seconds']:.1f} s of processor time", flush=True)
    return ran


def _own_distances(version: pathlib.Path) -> list[float]:
    vectors: dict[str, list[list[float]]] = {}
    for file in sorted(version.glob("faces-*.parquet")):
        for row in pq.read_table(file, columns=["identity_id", "embedding"]).to_pylist():
            vectors.setdefault(row["identity_id"], []).append(row["embedding"])
    found: list[float] = []
    for mine in vectors.values():
        some = np.array(mine[:_OF_A_PERSON], np.float32)
        one, other = np.triu_indices(len(some), 1)
        found += np.square(some[one] - some[other]).sum(axis=1).tolist()
    return sorted(round(distance, 4) for distance in found)


def _import_paths() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))


# --- photos one by one ------------------------------------------------------------------------------------------------


def photo_costs(sets: Sequence[str], most: int) -> dict[str, Any]:
    """Processor time of the work on each photo alone, and the bytes and faces of photos.

    Args:
      sets: Names of photo sets: lfw, large, sample.
      most: Photos of each that are looked at.
    """
    from celebface.models.face_reader import FaceReader
    from celebface.transforms import encode, encoders, files

    precision = "bfloat16" if is_quick_in_bfloat16() else "float32"
    reader = FaceReader(ReaderConfig(), precision, thumbnails=True)
    encoder = encoders.load_encoder(str(weights.encoder_folder(default_cache())), precision)
    found: dict[str, Any] = {"precision": precision}

    def read_faces(batch: Sequence[bytes], spent: dict[str, float]) -> list[np.ndarray]:
        crops: list[np.ndarray] = []
        left = iter(enumerate(batch))
        while True:
            start = time.process_time()
            opened = reader._decode(left, {})
            decoded = time.process_time()
            spent["decode"] += decoded - start
            if not opened:
                return crops
            whole = {i: photo for i, photo in opened.items() if not isinstance(photo, PhotoFault)}
            faces = reader._find_faces(whole, {})
            spent["detect"] += time.process_time() - decoded
            crops += [face.pixels for photo in faces.values() if isinstance(photo, PhotoFaces) for face in photo.faces]

    for name in sets:
        photos = _evenly(_photos(name), most)
        spent = dict.fromkeys(("read", "decode", "detect", "encode"), 0.0)
        start = time.process_time()
        data = [files.read_file(str(photo), files.MAX_BYTES) for photo in photos]
        spent["read"] = time.process_time() - start
        read_faces(data[:PHOTOS_TOGETHER], dict(spent))  # graphs are traced
        together = encode.FACES_TOGETHER
        encoder.encode(np.zeros((together, 160, 160, 3), np.uint8))
        crops: list[np.ndarray] = []
        for first in range(0, len(data), PHOTOS_TOGETHER):
            crops += read_faces(data[first : first + PHOTOS_TOGETHER], spent)
        whole = np.resize(np.stack(crops), (together, *crops[0].shape))  # as in a run, where few are not filled up
        start = time.process_time()
        encoder.encode(whole)
        spent["encode"] = (time.process_time() - start) / together * len(crops)
        alone = []
        for each in data:
            one = dict.fromkeys(spent, 0.0)
            mine = read_faces([each], one)
            alone.append(one["decode"] + one["detect"] + len(mine) * spent["encode"] / max(1, len(crops)))
        found[name] = {
            "photos": len(photos),
            "faces": len(crops),
            "bytes": sum(map(len, data)) / len(photos),
            "alone": alone,
        }
    return found


def _photos(name: str) -> Sequence[pathlib.Path]:
    if name == "sample":
        return sorted(weights.sample_folder(default_cache(), "train").glob("*/*.jpg"))
    return photo_set(name)


def _evenly(photos: Sequence[pathlib.Path], most: int) -> list[pathlib.Path]:
    rows = np.linspace(0, len(photos) - 1, min(most, len(photos))).astype(int)
    return [photos[row] for row in rows]
