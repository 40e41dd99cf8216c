"""celebface's way from files to embeddings, without Beam: as many processes as cores, as a local run has them."""

import concurrent.futures
import multiprocessing
import os
import pathlib
from collections.abc import Iterator, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from protocol import Found, peak_bytes, serve

from celebface.indexing.cache import default_cache
from celebface.models import weights
from celebface.models.faces import NoFace, PhotoFaces, ReaderConfig
from celebface.models.precision import is_quick_in_bfloat16
from celebface.pipelines.machine import cores

PHOTOS, FACES = 64, 128  # that a pipeline's steps take at a time
PRECISION = "bfloat16" if is_quick_in_bfloat16() else "float32"


def load():
    """Starts the processes, which load the models."""
    os.environ |= dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
    context = multiprocessing.get_context("spawn")
    pools = [concurrent.futures.ProcessPoolExecutor(1, context, initializer=_load_models) for _ in range(cores())]

    def read_photos(paths: Sequence[str]) -> Found:
        # One photo alone is the one to warm up with, which all processes do.
        shares = [paths[number :: len(pools)] if len(paths) > 1 else paths for number in range(len(pools))]
        work = [pool.submit(_read_photos, share) for pool, share in zip(pools, shares, strict=True)]
        done = [future.result() for future in work]
        return Found(*(sum(values) for values in zip(*done, strict=True)))

    return read_photos


def _load_models() -> None:
    global reader, encoder  # what a process of a pool keeps between calls
    from celebface.models.face_reader import FaceReader
    from celebface.transforms.encoders import load_encoder

    reader = FaceReader(ReaderConfig(), PRECISION)
    encoder = load_encoder(str(weights.encoder_folder(default_cache())), PRECISION)


def _read_photos(paths: Sequence[str]) -> Found:
    crops: list[np.ndarray] = []
    faces = failed = 0
    for read in _read(paths):
        if isinstance(read, PhotoFaces):
            crops += [face.pixels for face in read.faces]
        elif not isinstance(read, NoFace):
            failed += 1
        while len(crops) >= FACES:
            faces += len(encoder.encode(np.stack(crops[:FACES])))
            del crops[:FACES]
    if crops:
        faces += len(encoder.encode(np.stack(crops)))
    return Found(faces, failed, peak_bytes())


def _read(paths: Sequence[str]) -> Iterator:
    for start in range(0, len(paths), PHOTOS):
        yield from reader.read([pathlib.Path(path).read_bytes() for path in paths[start : start + PHOTOS]])


if __name__ == "__main__":
    how = f"{cores()} processes of one thread, {PHOTOS} photos and {FACES} faces at a time, {PRECISION}"
    serve(load, ("tensorflow", "numpy", "pillow"), how)
