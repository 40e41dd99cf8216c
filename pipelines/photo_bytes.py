"""The bytes of one photo, by where it is: a file, an object of a store, or a URL. Loads no Beam."""

import re

from celebface.indexing.schemas import Reason
from celebface.transforms.files import MAX_BYTES, UnreadableFile, read_file, read_object
from celebface.transforms.records import printable
from celebface.transforms.web.policy import FetchPolicy, WebFault

_WEB = re.compile(r"https?://", re.IGNORECASE)
_ACCEPT = "image/*"
NOBODY_ASKS = FetchPolicy()


def read_photo(place: str, web: FetchPolicy = NOBODY_ASKS) -> bytes:
    """Reads a photo.

    Args:
      place: A path, or an s3://, gs://, http:// or https:// URI.
      web: Bounds and manners towards the web; nothing is asked of it if they name nobody who asks.

    Raises:
      UnreadableFile: If it cannot be had.
    """
    if _WEB.match(place):
        return _fetch(place, web)
    return read_object(place, MAX_BYTES) if "://" in place else read_file(place, MAX_BYTES)


def shown(place: str) -> str:
    """A place as text, without a user's name and password."""
    text = printable(place)
    return re.sub(r"^([^/]*//)[^/?#]*@", r"\1", text) if "://" in text else text


def _fetch(url: str, policy: FetchPolicy) -> bytes:
    from celebface.transforms.web.client import WebClient, clean_url, host_of  # here: nearly all photos are files
    from celebface.transforms.web.crawl import Host

    if not policy.contact:
        raise UnreadableFile(
            Reason.UNREADABLE,
            "photos from the web need --contact, or CELEBFACE_CONTACT in the environment: a mail address or URL that "
            "a site's owner can turn to",
        )
    client = WebClient(policy)
    try:
        url = clean_url(url)
        return Host(host_of(url), client, policy).get(url, accept=_ACCEPT).body
    except WebFault as fault:
        raise UnreadableFile(fault.reason, str(fault)) from fault
    finally:
        client.close()
