"""Photos' bytes from files and from objects of a store: none that block, no more than allowed. Loads no Beam."""

import os
import stat

from celebface.indexing import storage
from celebface.indexing.schemas import Reason

MAX_BYTES = 64 * 2**20  # of a photo


class UnreadableFile(Exception):
    """A file cannot be had. `reason` says why, for the ledger."""

    def __init__(self, reason: Reason, detail: str):
        super().__init__(detail)
        self.reason = reason


def read_file(path: str, max_bytes: int) -> bytes:
    """Reads a local file.

    Args:
      path: Its path; bytes that are no UTF-8 as surrogates.
      max_bytes: Larger files are not read.

    Raises:
      UnreadableFile: If it is missing, not a regular file, not permitted, or too large.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableFile(Reason.UNREADABLE, "not a regular file")
        if status.st_size > max_bytes:
            raise UnreadableFile(Reason.TOO_MANY_BYTES, f"{status.st_size} bytes, the limit is {max_bytes}")
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        link = "a link that leads nowhere" if os.path.islink(path) else "there is no such file"
        raise UnreadableFile(Reason.NOT_FOUND, link) from error
    except OSError as error:
        raise UnreadableFile(Reason.UNREADABLE, error.strerror or type(error).__name__) from error
    return _bounded(data, max_bytes)


def read_object(uri: str, max_bytes: int) -> bytes:
    """Reads an object of a store.

    Raises:
      UnreadableFile: If it is missing, not permitted, or too large.
    """
    try:
        with storage.open_input(uri) as stream:
            data = stream.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise UnreadableFile(Reason.NOT_FOUND, "there is no such object") from error
    except (OSError, storage.StorageError) as error:
        raise UnreadableFile(Reason.UNREADABLE, "the store does not give it") from error
    return _bounded(data, max_bytes)


def _bounded(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:  # a file may have grown since its size was asked
        raise UnreadableFile(Reason.TOO_MANY_BYTES, f"the limit is {max_bytes} bytes")
    return data
