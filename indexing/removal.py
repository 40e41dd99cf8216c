"""What of a version was taken down, and its tables without it."""

import dataclasses
import io
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from celebface.indexing import storage, tombstones
from celebface.indexing.schemas import REMOVED_URI, Action, Finding, Kind, Reason, Status
from celebface.indexing.tombstones import Mark, Tombstones
from celebface.indexing.traces import PROSE, Traces, leaves

STAGE = "galleries remove"
LEDGER = "ledger"
_OF_PHOTOS = (LEDGER, "faces", "repeats", "quarantined")  # a row is of one photo; in other tables it may be of two
_ROWS_PER_GROUP = 4096
_AUDIT = "audit"
_NOT_THEM = (Finding.WRONG_PERSON, Finding.OUTLIER)  # what a face is found to be that shows somebody else
_KEYS = ("identity", "identity_id", "uri", "face_id", "content_sha256", "image_id", "aliases", "embedding")
_LOOKED_AT = (*_KEYS[:-1], "kind", "source_page")  # all that tells who or what a row is of

# What a ledger row of something that was taken down says; its id and kind stay.
REDACTED = {
    "uri": REMOVED_URI,
    "identity": "",
    "identity_id": "",
    "status": str(Status.SKIPPED),
    "stage": STAGE,
    "reason": str(Reason.REMOVED),
    "detail": "",
    "faces": 0,
    "flag": "",
    "origin": "",
    "content_sha256": "",
    "revision": "",
    "etag": "",
    "last_modified": "",
}


@dataclasses.dataclass
class Found:
    """What a version holds of what was taken down.

    Attributes:
      faces: Face ids of the rows that go.
      people: Identity ids of those of whom nothing stays.
      names: What these are called, and nobody who stays.
      uris: Places of the photos that go.
      hashes: Of their contents, people and faces.
      vectors: float32 [N, d], of the faces that go.
      face_photos: (uri, identity id, content) of photos of which only a face was asked for.
      rows: Rows that go or are made unreadable, by table.
      staying: Faces that stay and can be searched for.
    """

    faces: set[str] = dataclasses.field(default_factory=set)
    people: set[str] = dataclasses.field(default_factory=set)
    names: set[str] = dataclasses.field(default_factory=set)
    uris: set[str] = dataclasses.field(default_factory=set)
    hashes: set[str] = dataclasses.field(default_factory=set)
    vectors: np.ndarray = dataclasses.field(default_factory=lambda: np.empty((0, 0), np.float32))
    face_photos: set[tuple[str, str, str]] = dataclasses.field(default_factory=set)
    rows: dict[str, int] = dataclasses.field(default_factory=dict)
    staying: int = 0

    def traces(self) -> Traces:
        """What nothing of it may be found by."""
        return Traces(self.names, self.uris, self.hashes | self.faces)


def tables(version: str) -> list[str]:
    """Names of a version's tables, but for those of its index."""
    return [name for name in storage.list_names(version) if name.endswith(".parquet")]


def table_of(name: str) -> str:
    """Which table a file is a shard of."""
    return name.split("-", 1)[0]


def read_table(version: str, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A table's shard; of the columns asked for those that it has."""
    with storage.open_input(storage.join(version, name)) as stream:
        file = pq.ParquetFile(stream)
        return file.read(columns=columns and [column for column in file.schema_arrow.names if column in columns])


@dataclasses.dataclass
class Audited:
    """What the audit of a version found of faces under wrong names.

    Attributes:
      shown: Face ids by the identity id of the person whom they seem to show.
      strangers: Face ids in quarantine of which it is found that they do not show who they are given for.
    """

    shown: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    strangers: set[str] = dataclasses.field(default_factory=set)


def read_audit(version: str) -> Audited:
    """Reads what a version's audit found."""
    audited, columns = Audited(), ("face_id", "finding", "action", "other_id")
    for name in tables(version):
        if table_of(name) != _AUDIT:
            continue
        for row in read_table(version, name, columns).to_pylist():
            if row["finding"] in _NOT_THEM and row["action"] == Action.QUARANTINED:
                audited.strangers.add(row["face_id"])
            if row["finding"] == Finding.WRONG_PERSON:
                audited.shown.setdefault(row["other_id"], set()).add(row["face_id"])
    return audited


def find(version: str, taken_down: Tombstones) -> Found:
    """Looks for what was taken down, in all tables that tell who or what a row is of.

    Besides what tombstones name, a row goes that names the place of a photo that goes; but not for a photo in
    quarantine that does not show who it is given for. One shard is in memory at a time.
    """
    found, strangers = Found(), _photos_of_strangers(version)
    for name in tables(version):
        if table_of(name) == _AUDIT:  # of photos that other tables have, without their contents
            continue
        table = read_table(version, name, _LOOKED_AT)
        going = table.filter(pa.array(_without_faces(table, taken_down) & ~_are_photos(table, strangers)))
        if table_of(name) == LEDGER:  # what was rejected may have the content of others: a site's own placeholder
            found.uris |= set(_values(going.filter(pc.equal(going["kind"], Kind.PHOTO)), "uri"))
        else:
            found.uris |= set(_values(going, "uri"))
            found.hashes |= {*_values(going, "content_sha256"), *_values(going, "image_id")}
            going = table.filter(pa.array(tombstones.covered(table, taken_down)))
            found.face_photos |= set(_photos(going))
    vectors, staying_people, staying_names = [], set[str](), set[str]()
    pages, staying_pages = set[str](), set[str]()  # others may be found on the same ones
    names: dict[str, set[str]] = {}
    staying_hashes = set[str]()
    for name in tables(version):
        table = read_table(version, name, _LOOKED_AT)
        mask = _going(table_of(name), table, taken_down, found)
        going, staying = table.filter(pa.array(mask)), table.filter(pa.array(~mask))
        if mask.any():
            found.rows[table_of(name)] = found.rows.get(table_of(name), 0) + int(mask.sum())
        found.faces |= set(_values(going, "face_id"))
        faces = read_table(version, name, ("embedding",)).filter(pa.array(mask)) if mask.any() else table.slice(0, 0)
        if "embedding" in faces.column_names:
            column = leaves(faces["embedding"].combine_chunks())
            vectors.append(column.to_numpy(zero_copy_only=False).reshape(len(faces), -1).astype(np.float32))
        if table_of(name) == "faces":
            found.staying += len(staying)
        pages |= set(_values(going, "uri"))
        staying_pages |= {*_values(staying, "uri"), *_values(staying, "source_page")}
        staying_hashes |= {*_values(staying, "content_sha256"), *_values(staying, "image_id")}
        staying_people |= set(_values(staying, "identity_id"))
        staying_names |= set(_values(staying, "identity")) | set(_values(staying, "aliases"))
        for identity_id, called in _called(going):
            names.setdefault(identity_id, set()).update(called)
    found.people = names.keys() - staying_people - {""}
    found.names = {name for identity_id in found.people for name in names[identity_id]} - staying_names
    found.hashes = (found.hashes - staying_hashes) | found.people
    found.hashes |= {
        value for mark in (Mark.IDENTITY, Mark.PHOTO, Mark.FACE) for value in taken_down.dates.get(mark, ())
    }
    found.hashes.discard("")
    found.uris |= pages - staying_pages
    found.uris -= {"", REMOVED_URI}
    if vectors:
        found.vectors = np.concatenate(vectors)
    return found


def _without_faces(table: pa.Table, taken_down: Tombstones) -> np.ndarray:
    """Rows that go for more than a face of theirs."""
    dates = {mark: hashes for mark, hashes in taken_down.dates.items() if mark != Mark.FACE}
    return tombstones.covered(table, Tombstones(dates))


def _photos_of_strangers(version: str) -> set[tuple[str, str, str]]:
    """(uri, identity id, content) of photos in quarantine that do not show who they are given for."""
    photos, strangers = set[tuple[str, str, str]](), read_audit(version).strangers
    for name in tables(version) if strangers else ():
        table = read_table(version, name, ("uri", "identity_id", "content_sha256", "face_id"))
        if "face_id" in table.column_names:
            faces = pa.array(sorted(strangers), pa.string())
            photos.update(_photos(table.filter(pc.is_in(table["face_id"], value_set=faces))))
    return photos


def _are_photos(table: pa.Table, photos: Collection[tuple[str, str, str]]) -> np.ndarray:
    """Which rows are of some photos, bool [N]."""
    mask = np.zeros(len(table), bool)
    if photos:
        for row, photo in enumerate(_photos(table)):
            mask[row] = photo in photos
    return mask


def _going(kind: str, table: pa.Table, taken_down: Tombstones, found: Found) -> np.ndarray:
    """Rows that go, bool [N]; those of the ledger are made unreadable."""
    mask = tombstones.covered(table, taken_down)
    if "uri" in table.column_names and found.uris:
        places = pa.array(sorted(found.uris), pa.string())
        mask |= pc.is_in(table["uri"].cast(pa.string()), value_set=places).to_numpy(zero_copy_only=False)
    return mask | _are_photos(table, found.face_photos) if kind == LEDGER else mask


def _photos(table: pa.Table) -> Iterator[tuple[str, str, str]]:
    columns = ("uri", "identity_id", "content_sha256")
    if set(columns) <= set(table.column_names):
        yield from zip(*(table[column].to_pylist() for column in columns), strict=True)


def _values(table: pa.Table, column: str) -> list[str]:
    if column not in table.column_names:
        return []
    return [value for value in leaves(table[column].combine_chunks()).unique().to_pylist() if value]


def _called(table: pa.Table) -> Iterator[tuple[str, list[str]]]:
    if not {"identity_id", "identity"} <= set(table.column_names):
        return
    aliases = table["aliases"].to_pylist() if "aliases" in table.column_names else [[]] * len(table)
    rows = zip(table["identity_id"].to_pylist(), table["identity"].to_pylist(), aliases, strict=True)
    for identity_id, name, others in rows:
        yield identity_id, [text for text in (name, *(others or [])) if text]


def write_without(version: str, folder: str, taken_down: Tombstones, found: Found) -> int:
    """Writes a version's tables without what goes; rows that stay are as they were.

    Args:
      version: URI of the version.
      folder: Where the new one is assembled.
      taken_down: The tombstones.
      found: What `find` found.

    Returns:
      How many texts about others were changed, as they named what goes: such as whose copy a photo is.
    """
    changed, traces = 0, found.traces()
    for name in tables(version):
        table = read_table(version, name)
        mask = _going(table_of(name), table, taken_down, found)
        if table_of(name) == LEDGER:
            table = _redact(table, mask)
        elif table_of(name) in _OF_PHOTOS:
            table = table.filter(pa.array(~mask))
        else:
            table = table.filter(pa.array(~(mask | _naming(table, traces))))
        table, count = _scrub(table, traces)
        changed += count
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", row_group_size=_ROWS_PER_GROUP)
        storage.write_bytes(storage.join(folder, name), buffer.getvalue())
    return changed


def _redact(ledger: pa.Table, mask: np.ndarray) -> pa.Table:
    for column, value in REDACTED.items():
        field = ledger.schema.field(column)
        kept = pc.if_else(pa.array(mask), pa.scalar(value, field.type), ledger[column])
        ledger = ledger.set_column(ledger.schema.get_field_index(column), field, kept)
    return ledger.sort_by([("uri", "ascending"), ("item_id", "ascending")])


def _naming(table: pa.Table, traces: Traces) -> np.ndarray:
    """Rows that name what goes in any of their texts, bool [N]."""
    mask = np.zeros(len(table), bool)
    for field in table.schema:
        if pa.types.is_string(field.type):
            named = {text: traces.in_text(text) for text in _values(table, field.name)}
            mask |= np.array([named.get(text, False) for text in table[field.name].to_pylist()], bool)
    return mask


def _scrub(table: pa.Table, traces: Traces) -> tuple[pa.Table, int]:
    """A table whose texts about its rows do not name what goes; and how many were changed."""
    changed = 0
    for number, field in enumerate(table.schema):
        if field.name in _KEYS or not pa.types.is_string(field.type):
            continue
        clean = {text: traces.without(text, field.name in PROSE) for text in _values(table, field.name)}
        if all(text == after for text, after in clean.items()):
            continue
        texts = table[field.name].to_pylist()
        changed += sum(bool(text) and clean[text] != text for text in texts)
        after = pa.array([clean[text] if text else text for text in texts], field.type)
        table = table.set_column(number, field, after)
    return table, changed
