"""usearch by itself: its graph over float32 and over bfloat16, with the connectivity it comes with."""

import pathlib
import sys
import time
from collections.abc import Iterator

import numpy as np
from index_measure import EFFORTS, WANTED, Candidate, file_bytes, serve
from usearch.index import Index


def build(vectors: np.ndarray, folder: pathlib.Path) -> Iterator[Candidate]:
    """Builds one after the other."""
    threads = int(sys.argv[2])
    for kind in ("f32", "bf16"):
        index = Index(ndim=vectors.shape[1], metric="ip", dtype=kind)
        start = time.perf_counter()
        index.add(np.arange(len(vectors)), vectors, threads=threads)
        seconds = time.perf_counter() - start

        def search(probes: np.ndarray, effort: int, index: Index = index) -> np.ndarray:
            index.expansion_search = effort
            return index.search(probes, WANTED, threads=threads).keys.astype(np.int64).reshape(len(probes), -1)

        index.save(str(folder / "usearch.index"))
        yield Candidate(
            f"usearch {kind}", seconds, file_bytes(folder / "usearch.index"), EFFORTS,
            search,
        )  # fmt: skip


if __name__ == "__main__":
    serve(build)
