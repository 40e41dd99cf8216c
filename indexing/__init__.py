"""From vectors to a published gallery, and back to the people in it.

    from celebface.indexing import open_gallery

    gallery = open_gallery("galleries/celebrities")
    gallery.nearest(vectors, k=3)

needs neither Beam nor TensorFlow: only vectors, of the encoder that `gallery.manifest.encoder_id` names.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celebface.indexing.gallery import Gallery, open_gallery
    from celebface.indexing.manifest import BadBundle
    from celebface.indexing.searcher import Neighbour

__all__ = ["BadBundle", "Gallery", "Neighbour", "open_gallery"]

_HOMES = {"BadBundle": "manifest", "Gallery": "gallery", "Neighbour": "searcher", "open_gallery": "gallery"}


def __getattr__(name: str) -> Any:  # when asked for: each module of this folder loads this file first
    if name in _HOMES:
        return getattr(importlib.import_module(f"celebface.indexing.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
