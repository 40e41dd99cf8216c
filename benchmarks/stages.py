"""Where the time goes: our stages apart, and the limits of what this machine can do.

Stages: one process that does the work of the pipeline's steps one after the other, on batches as the steps have them,
with TensorFlow's threads as they are by default. Nothing overlaps, so that the seconds belong to the stage.

Limits: the encoder's graph alone on batches of 32 faces, the detector's first network over LFW's pyramids, and reading
of memory by plain sums, beside what the exact search for nearest faces reads. What runs with one thread and with all
runs in processes of its own, as TensorFlow's threads are set once.

Encoding in the pipeline: `celebface match` on all cores counts the seconds in which its workers encode; the graph alone
is run before and after, in as many processes at the same time.
"""

import argparse
import concurrent.futures
import contextlib
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any

import numpy as np

from benchmarks import report, watch
from benchmarks.bare import Job, Processes
from benchmarks.photos import photo_set
from benchmarks.report import Figure, Target, percent
from benchmarks.throughput import chunks
from celebface.indexing import schemas, search
from celebface.indexing.cache import default_cache
from celebface.models import weights
from celebface.models.face_reader import FaceReader
from celebface.models.faces import PHOTOS_TOGETHER, PhotoFaces, PhotoFault, ReaderConfig
from celebface.models.precision import PRECISIONS, is_quick_in_bfloat16
from celebface.pipelines import machine
from celebface.transforms import describe, encode, encoders, files, shard, stage, staged
from celebface.transforms.records import DetectedPhoto, EmbeddedPhoto, ItemRef

SETS = ("lfw", "large")
STAGES = ("read", "decode", "detect", "P-Net", "R-Net", "O-Net", "crop", "encode", "describe", "part", "shard")
ENCODING = Target(0.90, at_least=True)

_PARTS_OF_DETECT = {"_propose": "P-Net", "_refine": "R-Net", "_output": "O-Net"}
_SECONDS = 5.0  # of each run of a limit
_PYRAMIDS = 8  # photos of LFW that pass P-Net together
_MEMORY = 512 * 2**20  # bytes that are summed up; no cache holds them
_GALLERY = 500_000  # faces
_TIMES = 5  # of which the fastest counts, where nothing but the machine is measured
_PIPELINE = 2000  # photos

Spent = MutableMapping[str, float]


@contextlib.contextmanager
def timed(spent: Spent, name: str) -> Iterator[None]:
    """Adds the time of a block."""
    start = time.perf_counter()
    try:
        yield
    finally:
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - start


def _timed(function: Callable, spent: Spent, name: str) -> Callable:
    def call(*arguments: Any) -> Any:
        with timed(spent, name):
            return function(*arguments)

    return call


# --- stages -----------------------------------------------------------------------------------------------------------


class Stages:
    """The work of the pipeline's steps, each timed."""

    def __init__(self, precision: str):
        """Loads the models."""
        self._precision = precision
        self._encoder_uri = str(weights.encoder_folder(default_cache()))
        self._card = encoders.load_card(self._encoder_uri)
        self._encoder = encoders.load_encoder(self._encoder_uri, precision)
        self._reader = FaceReader(ReaderConfig(), precision)
        self.spent: dict[str, float] = {}
        for method, name in _PARTS_OF_DETECT.items():
            part = getattr(self._reader._detector, method)
            setattr(self._reader._detector, method, _timed(part, self.spent, name))

    def run(self, photos: Sequence[pathlib.Path]) -> int:
        """Does photos from files to shards; returns the number of faces. Adds to `spent`."""
        rows = schemas.faces_schema(self._card.embedding_size)
        found = [photo for batch in chunks(photos, PHOTOS_TOGETHER) for photo in self._detect(batch)]
        embedded = self._encode(found)
        with tempfile.TemporaryDirectory() as folder:
            with timed(self.spent, "describe"):
                outcomes = [describe.describe(photo, self._card.encoder_id) for photo in embedded]
            with timed(self.spent, "part"):
                parts = [
                    place
                    for start in range(0, len(outcomes), stage.ITEMS_PER_PART)
                    for place in stage.write_part(outcomes[start : start + stage.ITEMS_PER_PART], folder, rows, 1)
                ]
            with timed(self.spent, "shard"):
                layout = shard.ShardLayout(folder, "faces", rows, 1, unique="face_id")
                table = staged.read_outcomes(place for _, place in parts)
                assert table is not None
                shard.write_shard(table, shard.find_repeats(table, layout), 0, layout)
        return sum(len(photo.vectors) for photo in embedded)

    def _detect(self, photos: Sequence[pathlib.Path]) -> list[DetectedPhoto]:
        with timed(self.spent, "read"):
            data = [files.read_file(str(photo), files.MAX_BYTES) for photo in photos]
        refs = [ItemRef.of(str(photo)) for photo in photos]
        found: dict[int, PhotoFaces | PhotoFault] = {}
        left = iter(enumerate(data))
        while opened := self._reader._decode(left, self.spent):
            whole = {}
            for i, photo in opened.items():
                if isinstance(photo, PhotoFault):
                    raise photo
                whole[i] = photo
            found |= self._reader._find_faces(whole, self.spent)
        return [DetectedPhoto(refs[i], faces) for i, faces in found.items() if isinstance(faces, PhotoFaces)]

    def _encode(self, photos: Sequence[DetectedPhoto]) -> list[EmbeddedPhoto]:
        crops = [face.pixels for photo in photos for face in photo.found.faces]
        vectors = []
        with timed(self.spent, "encode"):
            for start in range(0, len(crops), encode.FACES_TOGETHER):
                vectors.append(self._encoder.encode(np.stack(crops[start : start + encode.FACES_TOGETHER])))
        ends = np.cumsum([len(photo.found.faces) for photo in photos])
        return list(map(EmbeddedPhoto, photos, np.split(np.concatenate(vectors), ends[:-1])))


def measure_stages(sets: Sequence[str], limit: int | None, precision: str) -> dict[str, dict[str, Any]]:
    """Milliseconds a photo in each stage, by set."""
    stages = Stages(precision)
    results = {}
    for name in sets:
        photos = photo_set(name)[:limit]
        stages.run(photos[:PHOTOS_TOGETHER])  # graphs are traced
        stages.spent.clear()
        faces = stages.run(photos)
        each = {work: 1000 * stages.spent[work] / len(photos) for work in STAGES}
        whole = sum(spent for work, spent in each.items() if work not in _PARTS_OF_DETECT.values())
        results[name] = {"photos": len(photos), "faces": faces, "ms_per_photo": each, "ms_per_photo_in_all": whole}
        shown = [Figure(_label(work), spent, "{:.2f} ms".format) for work, spent in each.items()]
        shown.append(Figure("in all", whole, "{:.2f} ms".format))
        report.show(f"{name}, {precision}: {len(photos)} photos, {faces} faces, for each photo", shown)
    return results


def _label(work: str) -> str:
    return f"   of which {work}" if work in _PARTS_OF_DETECT.values() else work


# --- limits -----------------------------------------------------------------------------------------------------------


def measure_networks(precisions: Sequence[str], cores: int, seconds: float) -> list[Figure]:
    """The encoder's graph and the detector's first network, with one thread and with all."""
    photos = tuple(str(photo) for photo in photo_set("lfw")[:_PYRAMIDS])
    jobs = [(f"FaceNet alone, {precision}, faces/s", Job("encode", precision)) for precision in precisions]
    jobs.append(("P-Net alone, LFW, float32, photos/s", Job("propose", "float32", photos)))  # as it is used
    found = []
    for name, job in jobs:
        for threads in sorted({1, cores}):
            with Processes([job], threads) as process:
                rate = process.run(seconds)[0].rate
            found.append(Figure(f"{name}, {threads} thread{'s' * (threads > 1)}", rate, "{:.1f}".format))
    return found


def measure_memory(cores: int, gallery: int, memory: int) -> list[Figure]:
    """What can be read of memory, and what the exact search reads."""
    alone, together = _read_speed(memory, 1), _read_speed(memory, cores)
    random = np.random.default_rng(4)
    vectors = random.standard_normal((gallery, 128), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[random.integers(0, gallery, encode.FACES_TOGETHER)]
    plain_one = _fastest(lambda: vectors @ queries[0])
    plain_many = _fastest(lambda: [queries @ block.T for block in np.array_split(vectors, max(1, gallery // 8192))])
    search_one = _fastest(lambda: search.shortlists(queries[:1], vectors, 100))
    search_many = _fastest(lambda: search.shortlists(queries, vectors, 100))
    size, products = vectors.nbytes, 2 * vectors.size * len(queries)
    rate = "{:.1f} GB/s".format
    return [
        Figure("memory, sums, 1 thread", alone / 1e9, rate),
        Figure(f"memory, sums, {cores} threads", together / 1e9, rate),
        Figure("memory, product with one query", size / plain_one / 1e9, rate),
        Figure("exact search for one query", size / search_one / 1e9, rate),
        Figure("   of the sums", size / search_one / together, percent),
        Figure(f"exact search for {encode.FACES_TOGETHER} queries", size / search_many / 1e9, rate),
        Figure("   of the sums", size / search_many / together, percent),
        Figure("   arithmetic", products / search_many / 1e9, "{:.0f} Gflop/s".format),
        Figure("   of the time the bare products take", plain_many / search_many, percent),
    ]


def _read_speed(memory: int, threads: int) -> float:
    """Bytes a second of plain sums."""
    values = np.ones(memory // 4, np.float32)
    pieces = np.array_split(values, threads)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return values.nbytes / _fastest(lambda: list(pool.map(np.sum, pieces)))


def _fastest(work: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


# --- encoding in the pipeline -----------------------------------------------------------------------------------------


def measure_encoding(photos: int, workers: int, threads: int, precision: str, seconds: float) -> list[Figure]:
    """How fast the pipeline's workers encode while they do, beside the graph alone."""
    folder = str(watch.many_photos(photos))
    with (
        tempfile.TemporaryDirectory(prefix="celebface-bench-") as root,
        Processes([Job("encode", precision)] * workers, threads) as processes,
    ):
        gallery = watch.build_gallery(root)
        bare = processes.run(seconds)
        run = watch.match(folder, gallery, workers, threads)
        bare += processes.run(seconds)
    alone = statistics.mean(done.rate for done in bare)
    faces, spent = run.report["items"]["faces"], run.report["stages"]["encode"]["seconds"]["encode"]
    rate = "{:.1f}".format
    return [
        Figure(f"FaceNet alone, one of {workers} processes, faces/s", alone, rate),
        Figure(f"encoding in the pipeline, one of {workers} workers, faces/s", faces / spent, rate),
        Figure("encoding in the pipeline, of the graph alone", faces / spent / alone, percent, ENCODING),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measures all, prints the figures and stores them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="use no more than so many photos of each set, and store nothing")
    parser.add_argument("--photos", type=int, default=_PIPELINE, help="in the pipeline (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=machine.cores(), help="default: one for each core")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="of each limit (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    if not 1 <= args.workers <= args.photos or args.seconds <= 0:
        parser.error("--workers, --photos and --seconds must be positive")
    cores = machine.cores()
    precisions = PRECISIONS if is_quick_in_bfloat16() else PRECISIONS[:1]
    threads = max(1, cores // args.workers)
    encoding = measure_encoding(args.photos, args.workers, threads, precisions[-1], args.seconds)
    report.show(f"encoding in the pipeline, {precisions[-1]}, {args.photos} photos of LFW", encoding)
    networks = measure_networks(precisions, cores, args.seconds)
    report.show("limits: networks", networks)
    memory = measure_memory(cores, _GALLERY, _MEMORY)
    report.show(f"limits: memory, and a gallery of {_GALLERY:,} faces", memory)
    stages = measure_stages(SETS, args.limit, precisions[-1])
    if args.limit:
        return
    figures = {"encoding": encoding, "networks": networks, "memory": memory}
    results = {name: report.as_json(found) for name, found in figures.items()}
    report.store("stages", {"precision": precisions[-1], "stages": stages, **results})


if __name__ == "__main__":
    main()
