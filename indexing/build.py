"""From face shards to an index: vectors, labels, Annoy file, and how well it answers."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from annoy import AnnoyIndex

from celebface.indexing import annoy_index, search, storage

VECTORS, LABELS, ANNOY = "index/vectors.npy", "index/labels.parquet", "index/faces.ann"
LABEL_COLUMNS = ["face_id", "identity", "identity_id", "image_id", "uri"]
_RECALL_AT = 10
_RECALL_QUERIES = 1000
_MIN_RECALL = 0.99
_QUERY_SEED = 7


def face_shards(folder: str) -> list[str]:
    """URIs of a version's face shards, in order."""
    return [storage.join(folder, name) for name in storage.list_files(folder) if is_face_shard(name)]


def is_face_shard(name: str) -> bool:
    """Whether a file name is that of a face shard."""
    return name.startswith("faces-") and name.endswith(".parquet")


def read_faces(shards: list[str]) -> Iterator[pa.Table]:
    """The columns an index is made of, shard by shard."""
    for shard in shards:
        with storage.open_input(shard) as stream:
            yield pq.read_table(stream, columns=[*LABEL_COLUMNS, "embedding"])


def build_index(shards: list[str], folder: str) -> dict[str, Any]:
    """Writes a version's index files.

    Args:
      shards: URIs of its face shards.
      folder: Where the version is assembled.

    Returns:
      The manifest's entry `index`.

    Raises:
      ValueError: If there is no face.
      annoy_index.BrokenIndex: If the index fails its self-test.
    """
    table = pa.concat_tables(read_faces(shards)).sort_by("face_id")
    if not len(table):
        raise ValueError("there is no face to index")
    vectors = embeddings(table)
    labels = table.select(LABEL_COLUMNS)
    data = annoy_index.build(vectors)
    storage.write_bytes(storage.join(folder, VECTORS), _npy(vectors))
    storage.write_bytes(storage.join(folder, LABELS), _parquet(labels))
    storage.write_bytes(storage.join(folder, ANNOY), data)
    index = annoy_index.load(storage.local_path(storage.join(folder, ANNOY)), vectors)
    search_k, recall = tune(index, vectors)
    return {
        "kind": "annoy",
        "metric": "squared L2 of unit vectors",
        "trees": annoy_index.TREES,
        "seed": annoy_index.SEED,
        "search_k": search_k,
        f"recall_at_{_RECALL_AT}": recall,
        "recall_queries": int(min(len(vectors), _RECALL_QUERIES)),
        "identities": int(pc.count_distinct(labels["identity_id"]).as_py()),
    }


def embeddings(table: pa.Table) -> np.ndarray:
    """The embedding column as float32 [N, d]."""
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1).astype(np.float32)


def tune(index: AnnoyIndex, vectors: np.ndarray) -> tuple[int, float]:
    """Finds the least effort that meets the recall wanted.

    Queries are faces of the gallery; each face's own row counts neither as asked for nor as found.

    Args:
      index: The Annoy index of `vectors`.
      vectors: float32 [N, d], unit rows.

    Returns:
      search_k, doubled until recall@10 against exact search is at least 0.99 or the search is exhaustive; and the
      recall, after exact re-ranking of the candidates.
    """
    count = len(vectors)
    rows = np.sort(np.random.default_rng(_QUERY_SEED).permutation(count)[:_RECALL_QUERIES])
    wanted = min(_RECALL_AT, count - 1)
    if wanted == 0:
        return annoy_index.TREES, 1.0
    nearest = search.nearest_of_each(vectors[rows], vectors, wanted + 1)
    exact = [set(best) - {row} for row, (best, _) in zip(rows, nearest, strict=True)]
    search_k = annoy_index.TREES * _RECALL_AT
    while True:
        found = 0
        for row, truth in zip(rows, exact, strict=True):
            candidates = search.candidates(index, vectors[row], wanted + 1, search_k)
            best, _ = search.rerank(vectors[row], vectors, candidates, wanted + 1)
            found += len(truth & set(best))
        recall = found / sum(len(truth) for truth in exact)
        if recall >= _MIN_RECALL or search_k >= count * annoy_index.TREES:
            return search_k, recall
        search_k *= 2


def _npy(vectors: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    return buffer.getvalue()


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()
