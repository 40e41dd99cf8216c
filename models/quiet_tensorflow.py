"""Imports TensorFlow without its greetings and its extras. Import it before anything else that loads TensorFlow.

TensorFlow's C++ side writes to stderr while it is loaded, before any setting of its own is heeded. What it writes is
caught, and all but the known greetings is passed on.

It also imports packages that only training and plots need, and does without them where they are missing. Every process
that reads photos or encodes faces pays for them, two fifths of the time that TensorFlow takes to load; so they seem to
be missing, until somebody imports them.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

_GREETINGS = (
    "oneDNN custom operations are on",
    "All log messages before absl::InitializeLog",
    "This TensorFlow binary is optimized to use available CPU instructions",
    "To enable the following instructions",
    "Could not find cuda drivers on your machine",
    "Unable to register cuDNN factory",
    "Unable to register cuBLAS factory",
    "Unable to register cuFFT factory",
    "computation_placer already registered",
    "failed call to cuInit",  # there is no GPU
)

_EXTRAS = ("keras", "tensorboard", "h5py", "matplotlib")


@contextlib.contextmanager
def _without_extras() -> Iterator[None]:
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None: an import of it fails
    hidden = [name for name in _EXTRAS if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]


@contextlib.contextmanager
def _without_greetings() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            for line in caught.read().decode(errors="replace").splitlines():
                if not any(greeting in line for greeting in _GREETINGS):
                    sys.stderr.write(f"{line}\n")


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no notices about graphs being rewritten
with _without_greetings(), _without_extras():
    import tensorflow as tf

    tf.config.list_physical_devices()  # looks for GPUs now, which it would else do, and complain of, at its first work

__all__ = ["tf"]
