"""Keeps two runs out of one folder."""

import contextlib
from collections.abc import Iterator

from celebface.indexing import storage, swap
from celebface.pipelines.arguments import NotStarted


@contextlib.contextmanager
def claimed(folder: str) -> Iterator[None]:
    """Holds a folder while a run works in it, lest a second run on this machine delete what the first relies on.

    The kernel lets go of it however this process ends, so a run that was killed is in nobody's way. Folders in stores
    are not held, and other machines that share a file system do not know of it.

    Args:
      folder: URI; made if it is not there.

    Raises:
      NotStarted: If another run holds it.
      StorageError: If it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        if not storage.is_stored(folder):
            storage.check_writable(folder)
            try:
                stack.enter_context(swap.locked(storage.local_path(folder), wait=False))
            except BlockingIOError as error:
                raise NotStarted(f"another run is at work in {folder}, wait for its end") from error
        yield
