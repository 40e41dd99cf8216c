"""What travels through the pipelines. Loads neither Beam nor TensorFlow."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from celebface.indexing.schemas import Reason, Status
from celebface.models.faces import PhotoFaces


@dataclasses.dataclass(frozen=True, slots=True)
class PhotoRef:
    """One input item.

    Attributes:
      item_id: 16 hex digits, of uri and identity.
      uri: Where the photo is, as the system knows it; a local path may hold bytes that are no UTF-8 (surrogates).
      identity: Who is on it, empty if nobody said so.
      revision: Changes when the file does: size and time of its last change.
      listed: Why it is not to be read, if listing already told.
    """

    item_id: str
    uri: str
    identity: str = ""
    revision: str = ""
    listed: Reason = Reason.NONE

    @staticmethod
    def of(uri: str, identity: str = "", revision: str = "", listed: Reason = Reason.NONE) -> "PhotoRef":
        """Makes a reference with its id."""
        name = os.fsencode(uri) + b"\0" + identity.encode()
        return PhotoRef(hashlib.sha256(name).hexdigest()[:16], uri, identity, revision, listed)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EncodedPhoto:
    """A photo's bytes.

    Attributes:
      ref: The item.
      data: The file's bytes.
      content_sha256: Their sha256 in hex.
    """

    ref: PhotoRef
    data: bytes
    content_sha256: str


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class DetectedPhoto:
    """A photo's faces, cut out; the photo itself is gone.

    Attributes:
      ref: The item.
      content_sha256: sha256 of the file's bytes in hex.
      found: Its faces.
    """

    ref: PhotoRef
    content_sha256: str
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
    """

    ref: PhotoRef
    status: Status
    stage: str
    reason: Reason = Reason.NONE
    detail: str = ""
    faces: int = 0
    shard_key: str = ""
    rows: Sequence[Mapping[str, Any]] = ()

    def ledger_row(self) -> dict[str, Any]:
        """The item's row of the ledger."""
        return {
            "item_id": self.ref.item_id,
            "uri": printable(self.ref.uri),
            "identity": self.ref.identity,
            "status": str(self.status),
            "stage": self.stage,
            "reason": str(self.reason),
            "detail": self.detail,
            "faces": self.faces,
        }


def rejected(ref: PhotoRef, stage: str, reason: Reason, detail: str) -> Outcome:
    """The outcome of an item that cannot be used."""
    return Outcome(ref, Status.REJECTED, stage, reason, detail, shard_key=ref.item_id)


def skipped(ref: PhotoRef, stage: str, reason: Reason, detail: str) -> Outcome:
    """The outcome of an item that was not tried."""
    return Outcome(ref, Status.SKIPPED, stage, reason, detail, shard_key=ref.item_id)


def kept_faces(found: PhotoFaces) -> str:
    """What the ledger says of a photo that is done: nothing, or how many of its faces were left out."""
    left_out = found.faces_found - len(found.faces)
    return f"{left_out} of {found.faces_found} faces left out" if left_out else ""


def printable(uri: str) -> str:
    r"""A URI as text: bytes of a local name that are no UTF-8 become \xNN."""
    return os.fsencode(uri).decode("utf-8", "backslashreplace")


def image_id(content_sha256: str) -> str:
    """Id of a photo, from its content."""
    return content_sha256[:16]


def face_id(content_sha256: str, identity: str, number: int) -> str:
    """Id of a face, from the photo's content, who it is said to be, and its place in the photo."""
    return hashlib.sha256(f"{content_sha256}\0{identity}\0{number}".encode()).hexdigest()[:16]
