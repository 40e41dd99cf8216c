"""Parts of our work without the pipeline around them, in processes of their own, as limits to measure the pipeline by.

encode: the encoder's graph on one batch of 32 faces, over and over.
propose: the detector's first network over the pyramids, made before, of some photos of one size, over and over.
photos: all that the pipeline does with photos, from reading files to part files, by plain functions in turn.

Processes are started together, say when they are ready, and work at the same time when they are told to, so that each
has the share of the machine that a worker of the pipeline has. Threads of TensorFlow are set when a process starts.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the processes that only start others need not load TensorFlow
    from celebface.indexing.cache import default_cache
    from celebface.indexing.gallery import Gallery
    from celebface.models.face_reader import FaceReader
    from celebface.models.facenet import FaceEncoder
    from celebface.transforms.records import DetectedPhoto, EncodedPhoto, Outcome

ROOT = pathlib.Path(__file__).parents[1]
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
_WARM_UP = 2.0  # seconds
_TOP_K, _TAU = 5, 1.0


@dataclasses.dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
      kind: encode, propose or photos.
      precision: Numeric precision.
      photos: Paths.
      gallery: That faces are matched against; for photos only.
    """

    kind: str
    precision: str
    photos: tuple[str, ...] = ()
    gallery: str = ""


@dataclasses.dataclass(frozen=True)
class Done:
    """What a process did.

    Attributes:
      count: Faces of encode; else photos.
      seconds: Wall time.
      processor: Processor time of all threads, in seconds.
    """

    count: int
    seconds: float
    processor: float

    @property
    def rate(self) -> float:
        """Faces or photos a second."""
        return self.count / self.seconds


class Processes:
    """Processes that work at the same time."""

    def __init__(self, jobs: Sequence[Job], threads: int):
        """Starts them, and waits until they are ready.

        Args:
          jobs: One for each process.
          threads: Of TensorFlow, in each.
        """
        environ = {**os.environ, **dict.fromkeys(THREADS, str(threads)), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._processes = []
        for job in jobs:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.bare"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=environ,
            )
            self._processes.append(process)
            self._tell(process, json.dumps(dataclasses.asdict(job)))
        self._answers(self._processes)

    def run(self, seconds: float = 0, most: int | None = None) -> list[Done]:
        """Lets them work at the same time.

        Args:
          seconds: How long; at 0 photos are done once.
          most: How many of the processes; the others wait.
        """
        chosen = self._processes[:most]
        for process in chosen:
            self._tell(process, str(seconds))
        return [Done(**answer) for answer in self._answers(chosen)]

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            assert process.stdin and process.stdout
            process.stdin.close()
            process.wait()
            process.stdout.close()

    def _tell(self, process: subprocess.Popen, line: str) -> None:
        assert process.stdin
        process.stdin.write(line + "\n")
        process.stdin.flush()

    def _answers(self, processes: Sequence[subprocess.Popen]) -> list[dict[str, Any]]:
        answers = []
        for process in processes:
            assert process.stdout
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"a process ended with status {process.wait()}")
            answers.append(json.loads(line))
        return answers


# --- in the process ---------------------------------------------------------------------------------------------------


def _encode(job: Job) -> Callable[[], int]:
    import numpy as np

    from celebface.models import facenet
    from celebface.models.inception_resnet import INPUT_SIZE
    from celebface.models.quiet_tensorflow import tf
    from celebface.transforms.encoders import load_encoder

    encoder = load_encoder(_encoder(), job.precision)
    shape = facenet.BATCH_SIZE, INPUT_SIZE, INPUT_SIZE, 3
    faces = tf.constant(np.random.default_rng(4).integers(0, 256, shape, np.uint8))

    def once() -> int:
        encoder._network(faces).numpy()
        return facenet.BATCH_SIZE

    return once


def _propose(job: Job) -> Callable[[], int]:
    import numpy as np

    from celebface.models import mtcnn_networks
    from celebface.models.face_reader import _open
    from celebface.models.faces import ReaderConfig
    from celebface.models.quiet_tensorflow import tf

    pictures = [_open(pathlib.Path(photo).read_bytes(), ReaderConfig()).picture for photo in job.photos]
    pixels = tf.constant(np.stack([np.asarray(picture.image) for picture in pictures]))
    sides = [(int(pictures[0].height * scale), int(pictures[0].width * scale)) for scale in pictures[0].pyramid]
    pyramid = [tf.image.resize(pixels, side, method=tf.image.ResizeMethod.AREA) for side in sides]
    weights = mtcnn_networks.load_weights()[0]

    @tf.function(autograph=False)
    def network(levels: list[tf.Tensor]) -> list[tf.Tensor]:
        return [out for level in levels for out in mtcnn_networks.pnet(level, weights, tf.as_dtype(job.precision))]

    def once() -> int:
        network(pyramid)[-1].numpy()
        return len(pictures)

    return once


def _photos(job: Job) -> Callable[[], int]:
    from celebface.indexing.gallery import Gallery
    from celebface.models.face_reader import FaceReader
    from celebface.models.faces import PHOTOS_TOGETHER, ReaderConfig
    from celebface.transforms.encoders import load_encoder

    reader, encoder = (
        FaceReader(ReaderConfig(), job.precision, thumbnails=True),
        load_encoder(_encoder(), job.precision),
    )
    gallery = Gallery.open(job.gallery)

    def work(photos: Sequence[str]) -> int:
        with tempfile.TemporaryDirectory() as folder:
            _write(_match(_detect(_read(photos), reader), encoder, gallery), folder)
        return len(photos)

    work(job.photos[:PHOTOS_TOGETHER])
    return lambda: work(job.photos)


def _read(photos: Sequence[str]) -> Iterator["EncodedPhoto"]:
    from celebface.transforms.files import MAX_BYTES, read_file
    from celebface.transforms.records import EncodedPhoto, ItemRef

    for photo in photos:
        data = read_file(photo, MAX_BYTES)
        yield EncodedPhoto(ItemRef.of(photo, content_sha256=hashlib.sha256(data).hexdigest()), data)


def _detect(photos: Iterator["EncodedPhoto"], reader: "FaceReader") -> Iterator["DetectedPhoto | Outcome"]:
    from celebface.indexing.schemas import Reason
    from celebface.models.faces import PHOTOS_TOGETHER, PhotoFault
    from celebface.transforms.records import DetectedPhoto, rejected

    while batch := list(itertools.islice(photos, PHOTOS_TOGETHER)):
        for photo, result in zip(batch, reader.read([photo.data for photo in batch]), strict=True):
            if isinstance(result, PhotoFault):
                yield rejected(photo.ref, "detect", Reason(result.reason), str(result), result.decoded)
            else:
                yield DetectedPhoto(photo.ref, result)


def _match(
    photos: Iterator["DetectedPhoto | Outcome"], encoder: "FaceEncoder", gallery: "Gallery"
) -> Iterator["Outcome"]:
    from celebface.transforms.encode import FACES_TOGETHER
    from celebface.transforms.records import Outcome

    waiting: list[DetectedPhoto] = []
    for photo in photos:
        if isinstance(photo, Outcome):
            yield photo
            continue
        if waiting and _faces([*waiting, photo]) > FACES_TOGETHER:
            yield from _encode_and_match(waiting, encoder, gallery)
            waiting = []
        waiting.append(photo)
    if waiting:
        yield from _encode_and_match(waiting, encoder, gallery)


def _faces(photos: Sequence["DetectedPhoto"]) -> int:
    return sum(len(photo.found.faces) for photo in photos)


def _encode_and_match(photos: Sequence["DetectedPhoto"], encoder: "FaceEncoder", gallery: "Gallery") -> list["Outcome"]:
    import numpy as np

    from celebface.transforms.match import match
    from celebface.transforms.records import EmbeddedPhoto

    vectors = encoder.encode(np.stack([face.pixels for photo in photos for face in photo.found.faces]))
    ends = np.cumsum([len(photo.found.faces) for photo in photos])
    embedded = list(map(EmbeddedPhoto, photos, np.split(vectors, ends[:-1])))
    return match(embedded, gallery, _TOP_K, _TAU)


def _write(outcomes: Iterator["Outcome"], folder: str) -> None:
    from celebface.indexing.schemas import BESIDE_MATCHES, MATCHES
    from celebface.transforms.stage import ITEMS_PER_PART, write_part

    while batch := list(itertools.islice(outcomes, ITEMS_PER_PART)):
        write_part(batch, folder, MATCHES, 1, BESIDE_MATCHES)


def _encoder() -> str:
    from celebface.models import weights

    return str(weights.encoder_folder(default_cache()))


def _repeat(once: Callable[[], int], seconds: float) -> Done:
    start, processor, count = time.perf_counter(), time.process_time(), 0
    while not count or time.perf_counter() - start < seconds:
        count += once()
    return Done(count, time.perf_counter() - start, time.process_time() - processor)


def main() -> None:
    """Does one job: what it is comes on standard input, then for each turn how long to work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # else Beam's greetings are printed
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    given = json.loads(sys.stdin.readline())
    job = Job(**{**given, "photos": tuple(given["photos"])})
    once = {"encode": _encode, "propose": _propose, "photos": _photos}[job.kind](job)
    if job.kind != "photos":  # which does some while it starts
        _repeat(once, _WARM_UP)
    print(json.dumps({}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(dataclasses.asdict(_repeat(once, float(line)))), file=answers, flush=True)


if __name__ == "__main__":
    main()
