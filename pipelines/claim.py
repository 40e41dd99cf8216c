"""Keeps two runs out of one folder."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

from celebface.indexing import storage
from celebface.pipelines.arguments import RunFailed


@contextlib.contextmanager
def claimed(folder: str) -> Iterator[None]:
    """Holds a folder while a run works in it, lest a second one delete what the first relies on.

    The kernel lets go of it however this process ends, so a run that was killed is in nobody's way. Folders of stores
    and of file systems without locks are not held.

    Args:
      folder: URI; made if it is not there.

    Raises:
      RunFailed: If another run holds it.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(storage.StorageError):  # it is in a store
            path = pathlib.Path(storage.local_path(folder))
            path.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDONLY)
            stack.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunFailed(f"another run is at work in {folder}, wait for its end") from error
            except OSError:  # the file system has no locks
                pass
        yield
