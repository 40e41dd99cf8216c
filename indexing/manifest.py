"""The manifest of a gallery version: what is in it, how it was made, how good its index is."""

import dataclasses
import json
import posixpath
from collections.abc import Mapping
from typing import Any

FORMAT = "celebface-gallery/2"
NAME = "manifest.json"


class BadBundle(Exception):
    """A gallery version cannot be used; the message is for the user."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Contents of manifest.json.

    Attributes:
      version: The version's name.
      created: UTC time, ISO 8601.
      encoder_id: Encoder of the vectors.
      encoder: The encoder's card.
      preprocessing: How crops were made.
      precision: Numeric precision the vectors were computed in.
      dimension: Length of a vector.
      metric: What distances are.
      counts: faces, identities, items, and items by ledger status.
      index: Kind, parameters, effort, parts, machine, and what was measured: recall, latency, the table of all the
        kinds tried.
      files: For each file its sha256 and bytes, by name relative to the version.
      config: The run's configuration.
      code: Versions of celebface and of the libraries that decide results.
    """

    version: str
    created: str
    encoder_id: str
    encoder: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    precision: str
    dimension: int
    metric: str
    counts: Mapping[str, int]
    index: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    config: Mapping[str, Any]
    code: Mapping[str, str]

    def to_json(self) -> bytes:
        """The file's bytes."""
        return (json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2, sort_keys=True) + "\n").encode()

    @staticmethod
    def from_json(data: bytes) -> "Manifest":
        """Reads the file.

        Raises:
          BadBundle: If it is not a manifest or of a format this version does not know.
        """
        try:
            body = json.loads(data)
            found = body.pop("format")
            if found != FORMAT:
                raise BadBundle(
                    f"the gallery has the format {found}, this version of celebface reads {FORMAT}: {_remedy(found)}"
                )
            manifest = Manifest(**body)
            _check_what_readers_use(manifest)
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadBundle(f"the gallery's manifest cannot be read: {error}") from error


def _remedy(found: object) -> str:
    """What to do about a gallery of another format."""
    family, _, number = FORMAT.partition("/")
    theirs, _, their_number = str(found).partition("/")
    if theirs == family and their_number.isdecimal() and int(their_number) > int(number):
        return "a newer celebface is needed"
    return "celebface build-gallery makes it anew"


def _check_what_readers_use(manifest: Manifest) -> None:
    index = manifest.index
    if int(index["parts"]) < 1 or int(index["effort"]) < 0:
        raise ValueError("an index has one part or more, and no negative effort")
    _ = str(index["kind"]), dict(index["params"]), dict(index["built_on"])
    for name, entry in manifest.files.items():
        _ = entry["sha256"], entry["bytes"]
        if name.startswith("/") or posixpath.normpath(name) != name or name.split("/")[0] == "..":
            raise ValueError(f"a file's name leads out of the version: {name!r}")
