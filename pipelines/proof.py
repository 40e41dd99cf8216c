"""The proof that nothing is left of what was taken out of a gallery: nobody is found, and nothing names them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console

from celebface.indexing import traces
from celebface.indexing.gallery import Gallery
from celebface.indexing.removal import Found
from celebface.indexing.searcher import Searcher
from celebface.pipelines.summary import counted

_PROVEN_AT_ONCE = 256  # queries
_NEAREST = 10  # people asked for


class StillFound(Exception):
    """What was taken out can still be found; nothing may be said to be done. The message is for the user."""


def prove_again(version: str, found: Found) -> dict[str, Any]:
    """The proof for what was taken out before, by its hashes: its names and places are not known any more."""
    proof = prove(version, Gallery.open(version), found)
    return {**proof, "version": version.rsplit("/", 1)[-1]}


def prove(
    folder: str, searcher: Searcher | Gallery, found: Found, more: Mapping[str, bytes] | None = None
) -> dict[str, Any]:
    """Searches with each face that was taken out, and looks through all files.

    Raises:
      StillFound: If anything of it can be found.
    """
    looked_for = found.traces()
    scanned = traces.scan(folder, looked_for, more)
    if scanned.found:
        places = ", ".join(f"{trace.file} {trace.place} ({trace.count})" for trace in scanned.found[:5])
        raise StillFound(
            f"what was to be taken out is still named in {places}; if these are others' photos in places that name "
            "them, remove them by --uri, too"
        )
    nearest = []
    for begin in range(0, len(found.vectors), _PROVEN_AT_ONCE):
        for people in searcher.nearest_people(found.vectors[begin : begin + _PROVEN_AT_ONCE], _NEAREST):
            if any(one.face_id in found.faces or one.identity_id in found.people for one in people):
                raise StillFound("a search still finds what was to be taken out")
            nearest.append({"identity_id": people[0].identity_id, "distance": round(people[0].distance, 4)})
    return {
        "search": {"queries": len(nearest), "people_each": _NEAREST, "found": 0, "nearest": nearest},
        "scan": {**dataclasses.asdict(scanned), "looked_for": len(looked_for), "found": 0},
    }


def print_proof(out: Console, proof: Mapping[str, Any]) -> None:
    """What a search and the scan have shown, as numbers."""
    search, scan = proof["search"], proof["scan"]
    if search["queries"]:
        distances = [entry["distance"] for entry in search["nearest"]]
        out.print(
            f"search: none of {counted(search['queries'], 'face')} taken out finds itself or its person; the nearest "
            f"others are at D {min(distances):.2f} to {max(distances):.2f}, median {np.median(distances):.2f}",
            markup=False,
        )
    out.print(
        f"scan: none of {scan['looked_for']} names, places and hashes is in {counted(scan['files'], 'file')} "
        f"({scan['values']} texts, {scan['size'] / 1e6:.1f} MB of bytes)",
        markup=False,
    )
