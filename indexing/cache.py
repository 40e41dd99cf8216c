"""Where things are kept on this machine that were fetched from elsewhere: models, galleries of stores."""

import os
import pathlib


def default_cache() -> pathlib.Path:
    """The folder of all that is fetched: $CELEBFACE_CACHE, or celebface under the user's cache folder."""
    if own := os.environ.get("CELEBFACE_CACHE"):
        return pathlib.Path(own)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "celebface"
