"""Items that were taken down: they are not had again, and nothing that is written names them."""

from celebface.indexing.schemas import REMOVED_URI, Reason
from celebface.indexing.tombstones import Mark, Tombstones
from celebface.transforms.records import ItemRef, Outcome, face_id, printable, skipped


def is_removed(ref: ItemRef, tombstones: Tombstones) -> bool:
    """Whether an item was taken down, by who is on it and where it is."""
    return tombstones.has(Mark.IDENTITY, ref.person.identity_id) or tombstones.has_uri(printable(ref.uri))


def shows_removed(content_sha256: str, identity_id: str, tombstones: Tombstones) -> bool:
    """Whether a photo was taken down, by its content; a gallery's photo gives one face, so a face is a photo of one."""
    if not len(tombstones):
        return False
    return tombstones.has(Mark.PHOTO, content_sha256) or tombstones.has(
        Mark.FACE, face_id(content_sha256, identity_id, 0)
    )


def withdrawn(ref: ItemRef, stage: str) -> Outcome:
    """The outcome of an item that was taken down; of what it was only its id is left, which is a hash."""
    return skipped(ItemRef(ref.item_id, REMOVED_URI, ref.kind), stage, Reason.REMOVED, "")
