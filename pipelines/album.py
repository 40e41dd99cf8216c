"""The look-alikes of a match job as columns: what the pages of its report are made of.

The numbers of all faces are in memory; of pictures a row group at a time, of up to 4,096.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from celebface.indexing import storage
from celebface.indexing.calibration import Verdict
from celebface.indexing.schemas import MATCH_TABLE, Status
from celebface.pipelines import report

VERDICTS = tuple(Verdict)
HISTOGRAM_STEP = 0.05  # of D
_EXAMPLES = 6  # of items that were left out for one reason
_BATCH = 256  # rows handed on at a time
_NAMES = ("photo_uri", "face_id", "identity", "identity_id", "gallery_face_id", "gallery_uri")  # read once each
_NUMBERS = ("box", "rank", "distance", "similarity", "verdict")


@dataclasses.dataclass(frozen=True, eq=False)
class Album:
    """The faces of a job by photo, and for each the people it looks like, by rank.

    P photos that have faces, F faces, R rows of a face and a rank, N people, G faces of the gallery.

    Attributes:
      photos: URIs, strings [P], sorted.
      photo: Of each face, int32 [F], ascending.
      face_ids: Strings [F]; copies of a photo share them.
      boxes: int32 [F, 4], corners in pixels of the upright photo.
      first: Where each face's rows begin, int64 [F + 1].
      person: Of each row, int32 [R].
      distance: D of each row, float32 [R].
      similarity: In per cent, float32 [R].
      verdict: Places in `VERDICTS`, int8 [R].
      gallery_face: Nearest face of the person, int32 [R].
      names: Of the people, [N]; those come first that most faces look like.
      person_ids: Their identity ids, [N].
      frequency: Faces whose nearest person they are, int64 [N].
      gallery_ids: Face ids, strings [G].
      gallery_uris: Their photos, strings [G].
    """

    photos: pa.Array
    photo: np.ndarray
    face_ids: pa.Array
    boxes: np.ndarray
    first: np.ndarray
    person: np.ndarray
    distance: np.ndarray
    similarity: np.ndarray
    verdict: np.ndarray
    gallery_face: np.ndarray
    names: list[str]
    person_ids: list[str]
    frequency: np.ndarray
    gallery_ids: pa.Array
    gallery_uris: pa.Array

    @property
    def nearest(self) -> np.ndarray:
        """The row of each face's nearest person, int64 [F]."""
        return self.first[:-1]

    def examples(self) -> np.ndarray:
        """The gallery face by which each person is known best: that of the face most like them.

        Returns:
          int64 [N], places in `gallery_ids`; -1 for those who are nobody's nearest.
        """
        found = np.full(len(self.names), -1)
        rows = self.nearest[np.argsort(-self.distance[self.nearest], kind="stable")]
        found[self.person[rows]] = self.gallery_face[rows]  # the last one stays
        return found


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Items that a job could not use, for one reason.

    Attributes:
      status: Rejected or skipped.
      reason: Why.
      count: How many.
      examples: URI and detail of the first of them.
    """

    status: str
    reason: str
    count: int
    examples: tuple[tuple[str, str], ...]


def read_album(folder: str) -> Album:
    """Reads the matches in a folder of results."""
    rows = _read_matches(folder)
    photos, photo = distinct(rows["photo_uri"])
    order = np.argsort(photo, kind="stable")  # the rows of a photo keep theirs: by face, then by rank
    rows, photo = rows.take(pa.array(order)), photo[order]
    starts = np.flatnonzero(rows["rank"].to_numpy() == 1)
    ids, person = distinct(rows["identity_id"])
    names = _of_each(rows["identity"], person)
    frequency = np.bincount(person[starts], minlength=len(ids))
    person_ids = ids.to_pylist()
    by_frequency = sorted(range(len(ids)), key=lambda one: (-frequency[one], names[one].as_py(), person_ids[one]))
    place = np.empty(len(ids), np.int32)
    place[by_frequency] = np.arange(len(ids))
    gallery_ids, gallery_face = distinct(rows["gallery_face_id"])
    return Album(
        photos=photos,
        photo=photo[starts],
        face_ids=rows["face_id"].take(pa.array(starts)).cast(pa.string()).combine_chunks(),
        boxes=rows["box"].take(pa.array(starts)).combine_chunks().flatten().to_numpy().reshape(-1, 4),
        first=np.append(starts, len(rows)),
        person=place[person],
        distance=rows["distance"].to_numpy(),
        similarity=rows["similarity"].to_numpy(),
        verdict=pc.index_in(rows["verdict"], pa.array(map(str, VERDICTS))).to_numpy().astype(np.int8),
        gallery_face=gallery_face,
        names=[names[one].as_py() for one in by_frequency],
        person_ids=[person_ids[one] for one in by_frequency],
        frequency=frequency[by_frequency],
        gallery_ids=gallery_ids,
        gallery_uris=_of_each(rows["gallery_uri"], gallery_face),
    )


def _read_matches(folder: str) -> pa.Table:
    tables = []
    for shard in report.shards(folder, MATCH_TABLE):
        with storage.open_input(shard) as stream:
            file = pq.ParquetFile(stream, read_dictionary=list(_NAMES))
            tables.append(file.read(columns=[*_NAMES, *_NUMBERS]))
    return pa.concat_tables(tables).unify_dictionaries()


def distinct(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The different values of a column of strings, sorted, and the place of each row's among them, int32."""
    coded = column.dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.unify_dictionaries().combine_chunks()
    order = pc.sort_indices(coded.dictionary).to_numpy()
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order))
    return coded.dictionary.take(pa.array(order)), place[coded.indices.to_numpy()]


def _of_each(column: pa.ChunkedArray, owner: np.ndarray) -> pa.Array:
    """For each of the owners 0, 1, ... the column's value in their first row."""
    _, rows = np.unique(owner, return_index=True)
    return column.take(pa.array(rows)).cast(pa.string()).combine_chunks()


def read_left_out(folder: str) -> list[LeftOut]:
    """What a job rejected or skipped by its ledger, the most frequent reasons first."""
    counts: dict[tuple[str, str], int] = {}
    examples: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for shard in report.shards(folder, "ledger"):
        with storage.open_input(shard) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=["uri", "status", "reason", "detail"]):
                for row in batch.filter(pc.not_equal(batch["status"], str(Status.DONE))).to_pylist():
                    kind = row["status"], row["reason"]
                    counts[kind] = counts.get(kind, 0) + 1
                    if counts[kind] <= _EXAMPLES:
                        examples.setdefault(kind, []).append((row["uri"], row["detail"]))
    kinds = sorted(counts, key=lambda kind: (-counts[kind], kind))
    return [LeftOut(*kind, counts[kind], tuple(examples[kind])) for kind in kinds]


def read_pictures(
    shards: Sequence[str], key: str, wanted: pa.Array, columns: Sequence[str]
) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    """Reads those rows of a table that are wanted, a batch at a time.

    Args:
      shards: URIs of its files.
      key: Column that tells which row it is.
      wanted: Its values, all different.
      columns: What is read.

    Yields:
      Places among those wanted, int64 [n], and the columns of n rows.
    """
    places = {value: number for number, value in enumerate(wanted.to_pylist())}
    for shard in shards:
        with storage.open_input(shard) as stream:
            file = pq.ParquetFile(stream)
            for group in range(file.num_row_groups):
                keys = file.read_row_group(group, columns=[key])[key].to_pylist()
                if places.keys().isdisjoint(keys):
                    continue  # most of a large gallery is nobody's look-alike
                for batch in file.iter_batches(_BATCH, row_groups=[group], columns=[key, *columns]):
                    found = np.array([places.get(value, -1) for value in batch[key].to_pylist()], np.int64)
                    yield found[found >= 0], batch.filter(pa.array(found >= 0)).select(list(columns))


def histogram(distances: np.ndarray) -> list[int]:
    """How many distances lie in each step of `HISTOGRAM_STEP` from 0 on, up to the last that has any."""
    return np.bincount((distances / HISTOGRAM_STEP).astype(np.int64)).tolist()


def shared_folder(uris: pa.Array) -> str:
    """What all of some sorted URIs begin with, up to a slash: what the first and the last do."""
    if not len(uris):
        return ""
    folders = (uri.as_py().split("/")[:-1] for uri in (uris[0], uris[-1]))
    shared = itertools.takewhile(lambda names: names[0] == names[1], zip(*folders, strict=False))
    return "".join(f"{name}/" for name, _ in shared)
