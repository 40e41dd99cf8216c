"""The labelled faces that an encoder is trained on: crops of a folder's photos, or those that a gallery has."""

import dataclasses
import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from PIL import Image
from rich.progress import track

from celebface.indexing import build, publish, schemas, storage, verification
from celebface.indexing.manifest import BadBundle
from celebface.indexing.schemas import OF_THE_PLACE, Reason, Status
from celebface.models.faces import PhotoFaces, ReaderConfig
from celebface.pipelines import report, terminal
from celebface.pipelines.door import list_photos
from celebface.pipelines.embedder import by_few
from celebface.pipelines.photo_bytes import read_photo
from celebface.transforms.files import UnreadableFile
from celebface.transforms.folders import ListedFile
from celebface.transforms.records import ItemRef, Outcome, Person, printable, rejected

_STAGE = "crop"
_MOST_COMPARED = 4000  # faces: 8 million pairs, held at once
_COLUMNS = ["identity", "identity_id", "crop_jpeg"]
_CACHED = pa.schema([*schemas.LEDGER, pa.field("crop_jpeg", pa.binary())])


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledFaces:
    """Faces, and who is on them.

    Attributes:
      crops: JPEGs of 160 x 160 pixels.
      people: int64 [N], numbers of the people.
      names: Of each number the person's name.
    """

    crops: list[bytes]
    people: np.ndarray
    names: list[str]

    @staticmethod
    def of(table: pa.Table) -> "LabelledFaces":
        """Reads columns identity, identity_id and crop_jpeg; people are numbered in the order of their ids."""
        ids, first, people = np.unique(
            table["identity_id"].to_numpy().astype(str), return_index=True, return_inverse=True
        )
        names = table["identity"].take(first).to_pylist() if len(ids) else []
        return LabelledFaces(table["crop_jpeg"].to_pylist(), people.astype(np.int64), names)

    def part(self, chosen: np.ndarray) -> "LabelledFaces":
        """Those of a mask, bool [N]; numbers stay."""
        rows = np.flatnonzero(chosen)
        return LabelledFaces([self.crops[row] for row in rows], self.people[rows], self.names)

    def measurable(self) -> "LabelledFaces":
        """As many as may be compared with each other: the first of each person, and the first people."""
        _, counts = np.unique(self.people, return_counts=True)
        places = np.arange(len(self.people)) - np.repeat(np.cumsum(counts) - counts, counts)
        order = np.argsort(self.people, kind="stable")
        kept = order[places < verification.MOST_FACES][:_MOST_COMPARED]
        return self.part(np.isin(np.arange(len(self.people)), kept))

    def pixels(self) -> np.ndarray:
        """All crops, uint8 [N, 160, 160, 3], RGB."""
        return np.stack([np.asarray(Image.open(io.BytesIO(crop)).convert("RGB")) for crop in self.crops])

    def described(self) -> dict[str, Any]:
        """How many there are, and of whom, for a person to read."""
        people, counts = np.unique(self.people, return_counts=True)
        each = [[self.names[person], int(count)] for person, count in zip(people, counts, strict=True)]
        return {"faces": len(self.crops), "people": len(people), "faces_of_people": each}

    @property
    def digest(self) -> str:
        """16 hex digits over all of it."""
        digest = hashlib.sha256(self.people.tobytes())
        for crop in self.crops:
            digest.update(hashlib.sha256(crop).digest())
        return digest.hexdigest()[:16]


def of_gallery(gallery: str) -> LabelledFaces:
    """The faces of a published gallery; what its audit quarantined is not among them.

    Raises:
      BadBundle: If there is no such gallery.
      StorageError: If its store does not answer.
    """
    version = publish.find_version(gallery)
    tables = [
        pyarrow.parquet.read_table(storage.open_input(shard), columns=_COLUMNS) for shard in build.face_shards(version)
    ]
    if not tables:
        raise BadBundle(f"the gallery {gallery} has no faces")
    table = pa.concat_tables(tables)
    return LabelledFaces.of(table.filter(pc.is_valid(table["crop_jpeg"])))


def of_folder(folder: str, config: ReaderConfig, precision: str, cache: str) -> tuple[LabelledFaces, pa.Table]:
    """Finds and cuts out the face of each photo of a folder of people, <name>/<photo>.jpg.

    Args:
      folder: Local path or URI in a store.
      config: How photos become crops; one face of each photo is kept.
      precision: Of the detector's arithmetic.
      cache: Folder where the crops are kept: the same photos are not searched again.

    Returns:
      The faces, and the ledger.

    Raises:
      NoSuchSource: If there is no such folder, or no photo in it.
      StorageError: If a store does not answer.
    """
    photos = list_photos(folder)
    decides = [precision, config, [dataclasses.astuple(photo) for photo in photos]]
    place = storage.join(cache, f"{report.fingerprint(decides)}.parquet")
    if not storage.exists(place):
        rows = [_row(outcome) for outcome in _read(photos, config, precision)]
        table = pa.Table.from_pylist(rows, schema=_CACHED)
        if not OF_THE_PLACE.intersection(table["reason"].to_pylist()):  # else the next run may find it otherwise
            with storage.open_output(place) as stream:
                pyarrow.parquet.write_table(table, stream)
    else:
        table = pyarrow.parquet.read_table(storage.open_input(place))
    return LabelledFaces.of(table.filter(pc.is_valid(table["crop_jpeg"]))), table.select(schemas.LEDGER.names)


def _row(outcome: Outcome) -> dict[str, Any]:
    """A photo's row of the ledger, and its crop if it has one."""
    return outcome.ledger_row() | {"crop_jpeg": None} | dict(*outcome.rows)


def _read(photos: Sequence[ListedFile], config: ReaderConfig, precision: str) -> Iterator[Outcome]:
    from celebface.models import jpeg  # here, so that wrong usage does not wait for TensorFlow
    from celebface.models.face_reader import FaceReader

    reader = FaceReader(dataclasses.replace(config, one_face=True), precision)
    for some in track(by_few(photos), "cropping faces", console=terminal.error_console(), transient=True):
        refs, data = [], []
        for file in some:
            ref = ItemRef.of(file.uri, Person.of(printable(file.name)), revision=file.revision)
            try:
                if file.fault:
                    raise UnreadableFile(file.fault, "")
                photo = read_photo(file.uri)
            except UnreadableFile as fault:
                yield rejected(ref, _STAGE, fault.reason, str(fault))
                continue
            refs.append(dataclasses.replace(ref, content_sha256=hashlib.sha256(photo).hexdigest()))
            data.append(photo)
        for ref, found in zip(refs, reader.read(data), strict=True):
            if not ref.person.name:
                yield rejected(ref, _STAGE, Reason.NO_IDENTITY, "its name is of nobody")
            elif isinstance(found, PhotoFaces):
                crop = jpeg.encode_crop(found.faces[0].pixels)
                yield Outcome(ref, Status.DONE, _STAGE, faces=1, rows=[{"crop_jpeg": crop}])
            else:
                yield rejected(ref, _STAGE, Reason(found.reason), str(found))
