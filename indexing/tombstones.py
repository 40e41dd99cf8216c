"""Tombstones: what was taken out of a gallery, so that no later build brings it back.

<root>/<name>/tombstones.json lies beside LATEST and outlives all versions. It names nobody: it holds hashes, each with
its date. Entries are only ever added; to lift one, delete its line by hand.
"""

import dataclasses
import datetime
import enum
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tenacity

from celebface.indexing import storage
from celebface.indexing.manifest import BadBundle

NAME = "tombstones.json"
FORMAT = "celebface-tombstones/1"
_ATTEMPTS = 10  # to add to a file that others add to


class Mark(enum.StrEnum):
    """What a tombstone keeps out; its value names the hashes in the file."""

    IDENTITY = "identity"  # a person, by identity_id
    PHOTO = "photo"  # a photo's bytes, by content_sha256, whoever it is said to show and wherever it lies
    URI = "uri"  # a place, by its sha256
    FACE = "face"  # one face of one person, by face_id


# Columns of tables by which a row is told to be one that a tombstone keeps out.
_COLUMNS = {"identity_id": Mark.IDENTITY, "content_sha256": Mark.PHOTO, "uri": Mark.URI, "face_id": Mark.FACE}

Key = tuple[Mark, str]  # what is kept out, and its hash


class TakenDown(BadBundle):
    """What was to be published holds what was taken down; the message is for the user."""


@dataclasses.dataclass(frozen=True)
class Tombstones:
    """What is kept out of a gallery.

    Attributes:
      dates: By mark, the hashes, each with the day it came.
    """

    dates: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.dates.values()))

    def has(self, mark: Mark, value: str) -> bool:
        """Whether a hash is among those of a mark."""
        return value in self.dates.get(mark, ())

    def has_uri(self, uri: str) -> bool:
        """Whether a place, as tables name it, is kept out."""
        return bool(self.dates.get(Mark.URI)) and self.has(Mark.URI, uri_hash(uri))

    def adding(self, keys: Iterable[Key], date: str) -> "Tombstones":
        """These and more; those that are there keep their day."""
        dates = {str(mark): dict(self.dates.get(mark, {})) for mark in Mark}
        for mark, value in keys:
            dates[mark].setdefault(value, date)
        return Tombstones({mark: hashes for mark, hashes in dates.items() if hashes})

    def digest(self) -> str:
        """What changes when something is added, and names nobody."""
        keys = sorted(f"{mark} {value}" for mark, hashes in self.dates.items() for value in hashes)
        return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16] if keys else ""

    def to_json(self) -> bytes:
        """The file's bytes."""
        return (json.dumps({"format": FORMAT, **self.dates}, indent=2, sort_keys=True) + "\n").encode()

    @staticmethod
    def from_json(data: bytes) -> "Tombstones":
        """Reads the file.

        Raises:
          BadBundle: If it is not one; nothing may be built then, for nobody knows whom it would bring back.
        """
        try:
            body = json.loads(data)
            if body.pop("format") != FORMAT:
                raise BadBundle(f"the gallery's {NAME} is not of the format {FORMAT}")
            if not body.keys() <= set(Mark):
                raise BadBundle(f"the gallery's {NAME} holds what this version of celebface does not know")
            return Tombstones({mark: {str(key): str(day) for key, day in body[mark].items()} for mark in body})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadBundle(f"the gallery's {NAME} cannot be read: {error}") from error


NONE = Tombstones()


def uri_hash(uri: str) -> str:
    """The hash of a place, as tables name it."""
    return hashlib.sha256(uri.encode()).hexdigest()


def read(gallery: str) -> Tombstones:
    """The tombstones of <root>/<name>.

    Raises:
      BadBundle: If they cannot be read.
    """
    uri = storage.join(gallery, NAME)
    return Tombstones.from_json(storage.read_bytes(uri)) if storage.exists(uri) else NONE


def add(gallery: str, keys: Iterable[Key]) -> Tombstones:
    """Adds tombstones to those of <root>/<name>; returns all of them.

    Raises:
      BadBundle: If those that are there cannot be read.
      storage.Conflict: If others add to them all the time.
    """
    keys = list(keys)
    if not keys:
        return read(gallery)
    day = datetime.datetime.now(datetime.UTC).date().isoformat()

    def change(old: bytes | None) -> bytes:
        return (Tombstones.from_json(old) if old else NONE).adding(keys, day).to_json()

    _change(storage.join(gallery, NAME), change)
    return read(gallery)


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(storage.Conflict), stop=tenacity.stop_after_attempt(_ATTEMPTS), reraise=True
)
def _change(uri: str, change: Callable[[bytes | None], bytes]) -> None:
    """Puts what `change` makes of a file's bytes in their place; of two who change it at once both get their way.

    Raises:
      storage.Conflict: If others change it all the time.
    """
    old, tag = storage.read_tagged(uri)
    new = change(old)
    if new != old:
        storage.replace_tagged(uri, new, tag)


def covered(table: pa.Table, tombstones: Tombstones) -> np.ndarray:
    """Which rows of a table are kept out, bool [N], by what it has of identity, content, uri and face."""
    found = np.zeros(len(table), bool)
    for column, mark in _COLUMNS.items():
        hashes = tombstones.dates.get(mark)
        if not hashes or column not in table.column_names:
            continue
        values = table[column].cast(pa.string())
        if mark == Mark.URI:
            values = pa.array([uri_hash(uri) for uri in values.to_pylist()], pa.string())
        found |= pc.is_in(values, value_set=pa.array(sorted(hashes), pa.string())).to_numpy(zero_copy_only=False)
    return found


def holds_removed(folder: str, tombstones: Tombstones) -> int:
    """Counts what a folder holds of what was taken down.

    Args:
      folder: URI of a version, whole or in part, or of the staging folder of a run.
      tombstones: Those of its gallery.

    Returns:
      Number of rows of its tables: faces, repeats, ledger, and whatever else tells who or what a row is of.
    """
    if not len(tombstones):
        return 0
    return sum(
        int(covered(table, tombstones).sum())
        for name in storage.list_files(folder)
        if not name.startswith("index/")  # its rows are those of the shards
        for table in _key_columns(storage.join(folder, name))
    )


def _key_columns(uri: str) -> Iterator[pa.Table]:
    """Of a table or a part of a run, the columns that `covered` looks at; nothing of other files."""
    if uri.endswith(".parquet"):
        with storage.open_input(uri) as stream:
            file = pq.ParquetFile(stream)
            yield file.read(columns=[name for name in file.schema_arrow.names if name in _COLUMNS])
    elif uri.endswith(".arrow"):
        with pa.ipc.open_file(storage.open_input(uri)) as reader:
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                yield pa.Table.from_batches([batch.select([name for name in batch.schema.names if name in _COLUMNS])])


def untold_photos(folder: str) -> int:
    """Counts photos of an unfinished run that tell neither who is on them nor where they are from, but for a hash."""
    count = 0
    for name in storage.list_files(folder):
        if name.endswith(".arrow"):
            with pa.ipc.open_file(storage.open_input(storage.join(folder, name))) as reader:
                count += 0 if Mark.IDENTITY in _marks(reader.schema) else reader.num_record_batches
    return count


def _marks(schema: pa.Schema) -> set[Mark]:
    return {_COLUMNS[name] for name in schema.names if name in _COLUMNS}


def check(assembled: str, gallery: str) -> None:
    """Looks, before it is published, whether a version holds what was taken down since its build began.

    To be called after LATEST was read for the compare-and-swap that moves it: then either this sees the tombstones, or
    the removal that wrote them moves LATEST in between.

    Raises:
      TakenDown: If it does.
    """
    if count := holds_removed(assembled, read(gallery)):
        raise TakenDown(
            f"{count} of the rows to be published were taken down while they were made; nothing was published, run "
            "the same command again"
        )
