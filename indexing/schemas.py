"""The tables of the artefacts, one place for their columns."""

import enum

import pyarrow as pa

BOX = pa.list_(pa.int32(), 4)  # x0, y0, x1, y1 in source pixels, upright
LANDMARKS = pa.list_(pa.list_(pa.float32(), 2), 5)  # eye, eye, nose, mouth, mouth: x, y in source pixels


class Status(enum.StrEnum):
    """How an input item ended."""

    DONE = "done"
    REJECTED = "rejected"  # tried, and could not be used
    SKIPPED = "skipped"  # not tried, for a reason


class Reason(enum.StrEnum):
    """Why an item was rejected or skipped. The list is closed; rows that are done have the empty reason."""

    NONE = ""
    # listing
    UNSUPPORTED_TYPE = "unsupported_type"
    NO_IDENTITY = "no_identity"
    DUPLICATE = "duplicate"
    # reading the bytes
    NOT_FOUND = "not_found"
    UNREADABLE = "unreadable"
    TOO_MANY_BYTES = "too_many_bytes"
    # decoding
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    UNDECODABLE = "undecodable"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_SCANS = "too_many_scans"
    TOO_FEW_PIXELS = "too_few_pixels"
    # detecting, and the quality gate
    NO_FACE = "no_face"
    FACE_TOO_SMALL = "face_too_small"
    LOW_CONFIDENCE = "low_confidence"
    BLURRED = "blurred"


# Reasons that lie in the place and not in the file: the next run may find it otherwise.
OF_THE_PLACE = frozenset((Reason.NOT_FOUND, Reason.UNREADABLE))


LEDGER = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("identity", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("faces", pa.int32(), nullable=False),
    ]
)


def faces_schema(embedding_size: int) -> pa.Schema:
    """Columns of a gallery's face shards."""
    return pa.schema(
        [
            ("face_id", pa.string()),
            ("identity", pa.string()),
            ("image_id", pa.string()),
            ("uri", pa.string()),
            ("source_page", pa.string()),
            ("licence", pa.string()),
            ("content_sha256", pa.string()),
            ("image_width", pa.int32()),
            ("image_height", pa.int32()),
            ("faces_in_image", pa.int32()),
            ("box", BOX),
            ("confidence", pa.float32()),
            ("landmarks", LANDMARKS),
            ("sharpness", pa.float32()),
            ("crop_jpeg", pa.binary()),
            ("embedding", pa.list_(pa.float32(), embedding_size)),
            ("encoder_id", pa.string()),
        ]
    )


MATCHES = pa.schema(
    [
        ("photo_uri", pa.string()),
        ("face_id", pa.string()),
        ("box", BOX),
        ("confidence", pa.float32()),
        ("rank", pa.int32()),
        ("identity", pa.string()),
        ("distance", pa.float32()),
        ("similarity", pa.float32()),
        ("verdict", pa.string()),
        ("margin", pa.float32()),
        ("gallery_face_id", pa.string()),
        ("gallery_uri", pa.string()),
    ]
)
