"""faiss: all faces, inverted lists, and a graph, as its documentation recommends them for such numbers."""

import pathlib
import sys
import time
from collections.abc import Iterator

import faiss
import numpy as np
from index_measure import EFFORTS, WANTED, Candidate, file_bytes, serve

_LINKS = 32  # faiss wiki: HNSW32 below a million
_MAX_GRAPH = 2_000_000  # beyond, building it takes hours here


def build(vectors: np.ndarray, folder: pathlib.Path) -> Iterator[Candidate]:
    """Builds one after the other."""
    count, size = vectors.shape
    flat = faiss.IndexFlatL2(size)
    yield _candidate("faiss flat", flat, vectors, folder, [0], lambda effort: None)

    lists = int(4 * np.sqrt(count))
    inverted = faiss.IndexIVFFlat(faiss.IndexFlatL2(size), size, lists)
    start = time.perf_counter()
    inverted.train(vectors[:: max(1, count // (64 * lists))])
    trained = time.perf_counter() - start
    efforts = [effort for effort in EFFORTS if effort <= lists]
    candidate = _candidate(
        f"faiss IVF{lists},Flat", inverted, vectors, folder, efforts, lambda effort: setattr(inverted, "nprobe", effort)
    )
    yield candidate._replace(build_seconds=candidate.build_seconds + trained)

    if count <= _MAX_GRAPH:
        graph = faiss.IndexHNSWFlat(size, _LINKS)
        graph.hnsw.efConstruction = 80
        yield _candidate(
            f"faiss HNSW{_LINKS}", graph, vectors, folder, EFFORTS,
            lambda effort: setattr(graph.hnsw, "efSearch", effort),
        )  # fmt: skip


def _candidate(name, index, vectors, folder, efforts, tell) -> Candidate:
    start = time.perf_counter()
    index.add(vectors)
    seconds = time.perf_counter() - start

    def search(probes: np.ndarray, effort: int) -> np.ndarray:
        tell(effort)
        return index.search(probes, WANTED)[1]

    faiss.write_index(index, str(folder / "faiss.index"))
    return Candidate(name, seconds, file_bytes(folder / "faiss.index"), efforts, search)


if __name__ == "__main__":
    faiss.omp_set_num_threads(int(sys.argv[2]))
    serve(build)
