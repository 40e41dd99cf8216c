"""From face shards to an index: vectors, labels, index files, and how well they answer."""

import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from celebface.indexing import choice, kinds, labels, parts, recall, storage
from celebface.indexing.index import machine
from celebface.indexing.kinds import KINDS, IndexRequest
from celebface.indexing.parts import Parts
from celebface.indexing.recall import Trial

_FACES_PER_PART = 2_000_000  # 1 GB of vectors, and in an hour an hnsw graph


@dataclasses.dataclass(frozen=True)
class IndexPlan:
    """How an index is built.

    Attributes:
      kind: Of its files.
      parts: How many.
      built: How many of them there are already, the first ones.
      measured: What the choice of the kind goes by; empty if it was asked for.
      seconds: What the building took so far.
    """

    kind: str
    parts: int
    built: int = 0
    measured: Sequence[dict[str, Any]] = ()
    seconds: float = 0.0


def face_shards(folder: str) -> list[str]:
    """URIs of a version's face shards, in order."""
    return [storage.join(folder, name) for name in storage.list_files(folder) if is_face_shard(name)]


def is_face_shard(name: str) -> bool:
    """Whether a file name is that of a face shard."""
    return name.startswith("faces-") and name.endswith(".parquet")


def read_faces(shards: Sequence[str]) -> Iterator[pa.Table]:
    """The columns an index is made of, shard by shard."""
    for shard in shards:
        with storage.open_input(shard) as stream:
            yield pq.read_table(stream, columns=[*labels.COLUMNS, "embedding"])


def embeddings(table: pa.Table) -> np.ndarray:
    """The embedding column as float32 [N, d]."""
    width = table.schema.field("embedding").type.list_size
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), width).astype(np.float32, copy=False)


def build_index(shards: Sequence[str], folder: str, request: IndexRequest | None = None) -> dict[str, Any]:
    """Writes a version's index files, one part after another.

    Args:
      shards: URIs of its face shards.
      folder: A local folder.
      request: What is asked for.

    Returns:
      The manifest's entry `index`.

    Raises:
      ValueError: If there is no face.
      BrokenIndex: If the index fails its self-test, or its library is missing.
      RecallTooLow: If no index meets what is asked for.
    """
    request = request or IndexRequest()
    return build_planned(shards, folder, plan_index(shards, folder, request), request)


def build_planned(shards: Sequence[str], folder: str, plan: IndexPlan, request: IndexRequest) -> dict[str, Any]:
    """Builds what a plan has left to build in a local folder, and measures it; see `build_index`."""
    start = time.perf_counter()
    for number in range(plan.built, plan.parts):
        build_part(shards, folder, plan, number)
    seconds = plan.seconds + time.perf_counter() - start
    return describe_index(folder, dataclasses.replace(plan, seconds=seconds), request)


def plan_index(shards: Sequence[str], folder: str, request: IndexRequest) -> IndexPlan:
    """Decides on the number of parts and the kind; to choose the kind, the first part is built in the folder.

    Raises:
      ValueError: If there is no face.
      MissingLibrary: If the kind asked for cannot be built here.
      RecallTooLow: If no kind meets what is asked for.
    """
    faces = count_faces(shards)
    if not faces:
        raise ValueError("there is no face to index")
    count = min(request.parts or -(-faces // _FACES_PER_PART), len(shards))
    if request.kind != kinds.AUTO:
        KINDS[request.kind].check()
        return IndexPlan(request.kind, count)
    start = time.perf_counter()
    write_faces(shards, folder, 0, count)
    kind, table = choice.choose(folder, 0, count, request)
    return IndexPlan(kind, count, 1, table, time.perf_counter() - start)


def count_faces(shards: Sequence[str]) -> int:
    """Rows of some shards."""
    faces = 0
    for shard in shards:
        with storage.open_input(shard) as stream:
            faces += pq.ParquetFile(stream).metadata.num_rows
    return faces


def build_part(shards: Sequence[str], folder: str, plan: IndexPlan, number: int) -> list[str]:
    """Builds a part in a local folder, and returns the names of its files.

    Raises:
      BrokenIndex: If the index fails its self-test.
    """
    write_faces(shards, folder, number, plan.parts)
    parts.write_index(folder, plan.kind, number, plan.parts)
    return parts.part_names(plan.kind, number, plan.parts)


def write_faces(shards: Sequence[str], folder: str, number: int, count: int) -> None:
    """Writes vectors and labels of a part: the faces of the shards i with i % count == number.

    Shards are cut by person, so each person is in one part. Rows are sorted by identity_id and face_id.

    Args:
      shards: URIs of all face shards.
      folder: A local folder.
      number: Of the part.
      count: How many there are.
    """
    table = pa.concat_tables(read_faces(shards[number::count]))
    table = table.sort_by([("identity_id", "ascending"), ("face_id", "ascending")])
    os.makedirs(os.path.join(folder, parts.FOLDER), exist_ok=True)
    np.save(os.path.join(folder, parts.vectors_name(number, count)), embeddings(table), allow_pickle=False)
    labels.write(table, os.path.join(folder, parts.labels_name(number, count)))


def describe_index(folder: str, plan: IndexPlan, request: IndexRequest) -> dict[str, Any]:
    """Tunes the index of a local folder as a whole, and measures it.

    Returns:
      The manifest's entry `index`.

    Raises:
      BrokenIndex: If it fails its self-test.
      RecallTooLow: If it does not meet what is asked for.
    """
    kind = KINDS[plan.kind]
    entry: dict[str, Any] = {
        "kind": plan.kind,
        "metric": "squared L2 of unit vectors",
        "params": dict(kind.PARAMS),
        "effort": kind.FIRST_EFFORT,
        "parts": plan.parts,
        "built_on": machine(),
    }
    opened = Parts.open(folder, entry)
    whole = [row for row in plan.measured if row["kind"] == plan.kind and plan.parts == 1]
    row = whole[0] if whole else _report(opened, folder, plan, request)
    if not recall.meets(row, request):
        raise recall.too_low([row], request)
    return {
        **entry,
        "effort": row["effort"],
        "recall_at_1": row["recall_at_1"],
        "recall_at_10": row["recall_at_10"],
        "p99_ms": row["p99_ms"],
        "faces": len(opened),
        "identities": opened.labels.people,
        "measured": list(plan.measured) or [row],
    }


def _report(opened: Parts, folder: str, plan: IndexPlan, request: IndexRequest) -> dict[str, Any]:
    size = parts.files_bytes(folder, plan.kind, range(plan.parts), plan.parts)
    return recall.report(opened, plan.kind, Trial.of(opened), request, size, plan.seconds)
