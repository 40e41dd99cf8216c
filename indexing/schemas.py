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


class Kind(enum.StrEnum):
    """What an input item is."""

    PHOTO = "photo"
    PAGE = "page"  # a web page that photos are taken from
    NAME = "name"  # a person whose photos are searched for


class Reason(enum.StrEnum):
    """Why an item was rejected or skipped. The list is closed; rows that are done have the empty reason."""

    NONE = ""
    REMOVED = "removed"  # taken down; see `tombstones`
    # listing
    UNSUPPORTED_TYPE = "unsupported_type"
    NO_IDENTITY = "no_identity"
    BAD_ROW = "bad_row"
    BAD_URL = "bad_url"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    # pages and searches
    NO_IMAGES = "no_images"
    UNKNOWN_PERSON = "unknown_person"
    QUOTA_EXCEEDED = "quota_exceeded"
    PROVIDER_ERROR = "provider_error"
    # asking the web
    PRIVATE_ADDRESS = "private_address"
    ROBOTS_DISALLOWED = "robots_disallowed"
    ROBOTS_UNREACHABLE = "robots_unreachable"
    OPTED_OUT = "opted_out"
    NO_SUCH_HOST = "no_such_host"
    CONNECTION_FAILED = "connection_failed"
    TLS_ERROR = "tls_error"
    TIMEOUT = "timeout"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    FORBIDDEN = "forbidden"
    GONE = "gone"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    HTTP_STATUS = "http_status"
    HOST_FAILING = "host_failing"
    HTML_PAGE = "html_page"
    NOT_HTML = "not_html"
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
    CRASHED = "crashed"
    # detecting, and the quality gate
    NO_FACE = "no_face"
    FACE_TOO_SMALL = "face_too_small"
    LOW_CONFIDENCE = "low_confidence"
    BLURRED = "blurred"
    # the audit; see `Finding`
    WRONG_PERSON = "wrong_person"
    OUTLIER = "outlier"
    DOUBTFUL = "doubtful"
    TWO_NAMES = "two_names"


class Finding(enum.StrEnum):
    """What an audit finds wrong with a face."""

    WRONG_PERSON = "wrong_person"  # it is like another person, and unlike its own
    OUTLIER = "outlier"  # it is unlike its own person's faces, and like nobody else's
    DOUBTFUL = "doubtful"  # the person's faces disagree, and nobody can tell which are right
    TWO_NAMES = "two_names"  # as good as the same photo is given for another person, and nobody can tell for whom
    CLOSE_PAIR = "close_pair"  # of no face, but of two people too close to tell apart


class Action(enum.StrEnum):
    """What an audit does about a finding."""

    QUARANTINED = "quarantined"  # the photo is kept out of the gallery
    REPORTED = "reported"  # it is only told


class Flag(enum.StrEnum):
    """What is doubtful about an item that is done."""

    NONE = ""
    TWO_NAMES = "two_names"  # the same photo, or as good as the same, is given for other people, too
    # reported by the audit; see `Finding`
    WRONG_PERSON = "wrong_person"
    OUTLIER = "outlier"
    DOUBTFUL = "doubtful"


# Why a photo is in quarantine. It was tried and read: it does not count as failed.
OF_THE_AUDIT = frozenset((Reason.WRONG_PERSON, Reason.OUTLIER, Reason.DOUBTFUL, Reason.TWO_NAMES))

# Reasons that lie in the place and not in the file: the next run may find it otherwise.
OF_THE_PLACE = frozenset(
    (
        Reason.NOT_FOUND,
        Reason.UNREADABLE,
        Reason.ROBOTS_UNREACHABLE,
        Reason.NO_SUCH_HOST,
        Reason.CONNECTION_FAILED,
        Reason.TLS_ERROR,
        Reason.TIMEOUT,
        Reason.RATE_LIMITED,
        Reason.SERVER_ERROR,
        Reason.HOST_FAILING,
    )
)


REMOVED_URI = "(removed)"  # in the ledger, in place of what was taken down

LEDGER = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("identity", pa.string(), nullable=False),
        pa.field("identity_id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("faces", pa.int32(), nullable=False),
        pa.field("flag", pa.string(), nullable=False),
        # where the item was named, and by what a later run knows that it has not changed
        pa.field("origin", pa.string(), nullable=False),
        pa.field("content_sha256", pa.string(), nullable=False),
        pa.field("revision", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("last_modified", pa.string(), nullable=False),
    ]
)


def faces_schema(embedding_size: int) -> pa.Schema:
    """Columns of a gallery's face shards."""
    return pa.schema(
        [
            ("face_id", pa.string()),
            ("identity", pa.string()),
            ("identity_id", pa.string()),
            ("external_id", pa.string()),
            ("aliases", pa.list_(pa.string())),
            ("image_id", pa.string()),
            ("uri", pa.string()),
            ("source_page", pa.string()),
            ("licence", pa.string()),
            ("author", pa.string()),
            ("content_sha256", pa.string()),
            ("image_width", pa.int32()),
            ("image_height", pa.int32()),
            ("faces_in_image", pa.int32()),
            ("box", BOX),
            ("confidence", pa.float32()),
            ("landmarks", LANDMARKS),
            ("sharpness", pa.float32()),
            ("crop_hash", pa.uint64()),  # see crops.perceptual_hash
            ("crop_jpeg", pa.binary()),
            ("embedding", pa.list_(pa.float32(), embedding_size)),
            ("encoder_id", pa.string()),
        ]
    )


# What the audit found: a row for each face it doubts, and one for each pair of people too close to tell apart.
AUDIT = pa.schema(
    [
        ("face_id", pa.string()),  # empty for a pair
        ("identity", pa.string()),
        ("identity_id", pa.string()),
        ("uri", pa.string()),
        ("finding", pa.string()),
        ("action", pa.string()),
        ("own_distance", pa.float32()),  # D to the person's other faces; null if there are none
        ("support", pa.int32()),  # faces that the person's core is made of; 0 if they disagree
        ("near_distance", pa.float32()),  # D to the person it is most like of all others; null if there is none
        ("other", pa.string()),
        ("other_id", pa.string()),
        ("faces_in_image", pa.int32()),
        ("detail", pa.string()),
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
        ("identity_id", pa.string()),
        ("distance", pa.float32()),
        ("similarity", pa.float32()),
        ("verdict", pa.string()),
        ("margin", pa.float32()),
        ("gallery_face_id", pa.string()),
        ("gallery_uri", pa.string()),
    ]
)

# What is kept of users' photos: one row for each that could be decoded, whether a face was found or not.
PHOTOS = pa.schema(
    [
        ("photo_uri", pa.string()),
        ("image_width", pa.int32()),  # of the photo, upright
        ("image_height", pa.int32()),
        ("thumbnail_jpeg", pa.binary()),  # upright, longer side 320 at most; null if no pictures are kept
    ]
)

# And of their faces.
PROBES = pa.schema(
    [
        ("photo_uri", pa.string()),
        ("face_id", pa.string()),
        ("box", BOX),
        ("confidence", pa.float32()),
        ("crop_jpeg", pa.binary()),  # 160 pixels, as the encoder saw it; null if no pictures are kept
        ("embedding", pa.list_(pa.float32())),  # null if they are not kept
    ]
)

MATCH_TABLE, PHOTO_TABLE, FACE_TABLE = "matches", "photos", "faces"  # of a match job
BESIDE_MATCHES = {PHOTO_TABLE: PHOTOS, FACE_TABLE: PROBES}

# Whom each face is most like, the photos of a person together and those most alike first.
BY_PERSON = pa.schema(
    [
        ("identity", pa.string()),
        ("identity_id", pa.string()),
        ("photo_uri", pa.string()),
        ("face_id", pa.string()),
        ("box", BOX),
        ("distance", pa.float32()),
        ("similarity", pa.float32()),
        ("verdict", pa.string()),
    ]
)
