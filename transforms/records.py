"""What travels through the pipelines. Loads neither Beam nor TensorFlow."""

import dataclasses
import hashlib
import operator
import os
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from celebface.indexing.schemas import PHOTO_TABLE, Kind, Reason, Status
from celebface.models.faces import DecodedPhoto, PhotoFaces

Record = TypeVar("Record")


def quick_to_pickle(cls: type[Record]) -> type[Record]:
    """Makes a frozen, slotted dataclass cheap to pickle; its own way looks up the fields each time, at twice the cost.

    Every item crosses several shuffles, and is pickled for each.
    """
    values = operator.attrgetter(*(field.name for field in dataclasses.fields(cls)))  # type: ignore[arg-type]
    cls.__reduce__ = lambda self: (cls, values(self))  # type: ignore[method-assign]
    return cls


@quick_to_pickle
@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """Who is on a photo.

    Attributes:
      name: As it is shown, Unicode in NFC; empty for nobody.
      identity_id: 16 hex digits, of the external id if the source gave one, else of the name; so people of one name
        stay apart if their ids differ. Empty for nobody.
      external_id: An id that others know the person by, such as wikidata:Q1744.
      aliases: Other names.
    """

    name: str = ""
    identity_id: str = ""
    external_id: str = ""
    aliases: tuple[str, ...] = ()

    @staticmethod
    def of(name: str, external_id: str = "", aliases: Sequence[str] = ()) -> "Person":
        """Makes a person with its id. Names are normalised: NFC, white space at the ends and doubled removed."""
        name, external_id = _normal(name), _normal(external_id)
        known_by = f"id {external_id}" if external_id else f"name {name}"
        identity_id = hashlib.sha256(known_by.encode()).hexdigest()[:16] if name else ""
        others = dict.fromkeys(filter(None, map(_normal, aliases)))
        return Person(name, identity_id, external_id, tuple(alias for alias in others if alias != name))


NOBODY = Person()


def _normal(text: str) -> str:
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    visible = "".join(character for character in text if character.isspace() or unicodedata.category(character) != "Cc")
    return " ".join(unicodedata.normalize("NFC", visible).split())


@quick_to_pickle
@dataclasses.dataclass(frozen=True, slots=True)
class Provenance:
    """Where a photo was found, and on what terms.

    Attributes:
      page: The page that shows it.
      licence: The licence statement found with it.
      author: Who made it, as found with it.
    """

    page: str = ""
    licence: str = ""
    author: str = ""


@quick_to_pickle
@dataclasses.dataclass(frozen=True, slots=True)
class ItemRef:
    """One input item: a photo, or a page or name that photos are found by.

    Attributes:
      item_id: 16 hex digits, of uri, person and kind.
      uri: Where the item is, as the system knows it; a local path may hold bytes that are no UTF-8 (surrogates).
      kind: What it is.
      person: Who is on it.
      origin: Where it was named, as people.csv:17, if not by its own place.
      provenance: Of a photo from the web.
      revision: Of a file: changes when the file does, size and time of its last change.
      etag: Of a photo from the web: the server's word for its state.
      last_modified: Likewise.
      content_sha256: sha256 in hex of its bytes, once they were had.
      listed: Why it is not to be read, if listing already told.
      detail: The same for people.
    """

    item_id: str
    uri: str
    kind: Kind = Kind.PHOTO
    person: Person = NOBODY
    origin: str = ""
    provenance: Provenance = Provenance()
    revision: str = ""
    etag: str = ""
    last_modified: str = ""
    content_sha256: str = ""
    listed: Reason = Reason.NONE
    detail: str = ""

    @staticmethod
    def of(uri: str, person: Person = NOBODY, kind: Kind = Kind.PHOTO, **fields: Any) -> "ItemRef":
        """Makes a reference with its id; `fields` are other attributes."""
        name = b"\0".join(
            [os.fsencode(uri), person.identity_id.encode(), *([kind.encode()] if kind != "photo" else [])]
        )
        return ItemRef(hashlib.sha256(name).hexdigest()[:16], uri, kind, person, **fields)

    def named(self) -> dict[str, str]:
        """Who is on it and where it was named, as columns of the ledger."""
        return {
            "identity": self.person.name,
            "identity_id": self.person.identity_id,
            "origin": self.origin,
        }

    def described(self) -> dict[str, Any]:
        """Who is on it and where it is from, as columns of faces."""
        return {
            "identity": self.person.name,
            "identity_id": self.person.identity_id,
            "external_id": self.person.external_id,
            "aliases": list(self.person.aliases),
            "source_page": self.provenance.page,
            "licence": self.provenance.licence,
            "author": self.provenance.author,
        }

    @property
    def is_web(self) -> bool:
        """Whether it is asked for by HTTP."""
        return self.uri.startswith(("http://", "https://"))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EncodedPhoto:
    """A photo's bytes.

    Attributes:
      ref: The item, with the sha256 of its content.
      data: The file's bytes.
    """

    ref: ItemRef
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class DetectedPhoto:
    """A photo's faces, cut out; the photo itself is gone.

    Attributes:
      ref: The item, with the sha256 of its content.
      found: Its faces.
    """

    ref: ItemRef
    found: PhotoFaces


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPhoto:
    """A photo's faces with their vectors.

    Attributes:
      photo: The detected photo.
      vectors: float32 [N, d], unit rows, one for each of its faces.
    """

    photo: DetectedPhoto
    vectors: Any  # np.ndarray; named loosely so that Beam does not look into it


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """How an item ended: its ledger row, and the rows it gave.

    Attributes:
      ref: The item.
      status: Final status.
      stage: Stage in which it ended.
      reason: Why it was not done.
      detail: The same for people.
      faces: How many faces it gave.
      shard_key: Items of one key land in one shard.
      rows: Its rows of the run's table.
      beside: Its rows of other tables, by name; those that the run does not write are left out.
    """

    ref: ItemRef
    status: Status
    stage: str
    reason: Reason = Reason.NONE
    detail: str = ""
    faces: int = 0
    shard_key: str = ""
    rows: Sequence[Mapping[str, Any]] = ()
    beside: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)

    def ledger_row(self) -> dict[str, Any]:
        """The item's row of the ledger."""
        return {
            "item_id": self.ref.item_id,
            "kind": str(self.ref.kind),
            "uri": printable(self.ref.uri),
            **self.ref.named(),
            "status": str(self.status),
            "stage": self.stage,
            "reason": str(self.reason),
            "detail": self.detail,
            "faces": self.faces,
            "flag": "",
            "content_sha256": self.ref.content_sha256,
            "revision": self.ref.revision,
            "etag": self.ref.etag,
            "last_modified": self.ref.last_modified,
        }


def rejected(ref: ItemRef, stage: str, reason: Reason, detail: str, decoded: DecodedPhoto | None = None) -> Outcome:
    """The outcome of an item that cannot be used; of a photo that was decoded there is something to show."""
    beside = {PHOTO_TABLE: [photo_row(ref, decoded)]} if decoded else {}
    return Outcome(ref, Status.REJECTED, stage, reason, detail, shard_key=ref.item_id, beside=beside)


def skipped(ref: ItemRef, stage: str, reason: Reason, detail: str) -> Outcome:
    """The outcome of an item that was not tried."""
    return Outcome(ref, Status.SKIPPED, stage, reason, detail, shard_key=ref.item_id)


def photo_row(ref: ItemRef, decoded: DecodedPhoto) -> dict[str, Any]:
    """A photo's row of `schemas.PHOTOS`."""
    return {
        "photo_uri": printable(ref.uri),
        "image_width": decoded.width,
        "image_height": decoded.height,
        "thumbnail_jpeg": decoded.thumbnail,
    }


def kept_faces(kept: int, found: int) -> str:
    """What the ledger says of a photo that is done: nothing, or how many of its faces were left out."""
    return f"{found - kept} of {found} faces left out" if found > kept else ""


def photos_found(count: int) -> str:
    """What the ledger says of a page or name that is done."""
    return f"{count} photo{'' if count == 1 else 's'} found"


def printable(uri: str) -> str:
    r"""A URI as text: bytes of a local name that are no UTF-8 become \xNN."""
    return os.fsencode(uri).decode("utf-8", "backslashreplace")


def image_id(content_sha256: str) -> str:
    """Id of a photo, from its content."""
    return content_sha256[:16]


def face_id(content_sha256: str, identity_id: str, number: int) -> str:
    """Id of a face, from the photo's content, who it is said to be, and its place in the photo."""
    return hashlib.sha256(f"{content_sha256}\0{identity_id}\0{number}".encode()).hexdigest()[:16]
