"""Why an item was left out, in words for people."""

from celebface.indexing.schemas import Reason

_WORDS: dict[str, str] = {
    Reason.UNSUPPORTED_TYPE: "no photo, by its suffix",
    Reason.BAD_ROW: "broken row of a list",
    Reason.BAD_URL: "broken address",
    Reason.DUPLICATE: "named twice",
    Reason.PRIVATE_ADDRESS: "address of a private network",
    Reason.ROBOTS_DISALLOWED: "the site's robots.txt forbids it",
    Reason.OPTED_OUT: "the site opts out of such use",
    Reason.NO_SUCH_HOST: "no such site",
    Reason.HTML_PAGE: "a web page, no photo",
    Reason.GONE: "no longer there",
    Reason.NOT_FOUND: "not found",
    Reason.EMPTY: "empty file",
    Reason.NOT_AN_IMAGE: "not an image",
    Reason.TRUNCATED: "cut off: the file ends too early",
    Reason.UNDECODABLE: "damaged image",
    Reason.TOO_MANY_PIXELS: "too many pixels",
    Reason.TOO_FEW_PIXELS: "too few pixels",
    Reason.CRASHED: "whatever reads it crashes",
    Reason.NO_FACE: "no face found",
    Reason.FACE_TOO_SMALL: "only faces that are too small",
    Reason.LOW_CONFIDENCE: "nothing that is surely a face",
    Reason.BLURRED: "only blurred faces",
}


def in_words(reason: str) -> str:
    """What a reason of the ledger means; those that have no words of their own are told by their name."""
    return _WORDS.get(reason, reason.replace("_", " "))
