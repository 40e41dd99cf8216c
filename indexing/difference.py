"""What differs between two versions of a gallery: people, faces, and how they were made."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.parquet as pq

from celebface.indexing import build, storage
from celebface.indexing.manifest import Manifest

_COLUMNS = ["identity", "identity_id", "content_sha256", "box"]
_TIMED = ("index.measured", "index.p99_ms")  # which differ each time
_MADE_BY = ("encoder_id", "precision", "preprocessing", "dimension", "metric", "index", "config", "code")
_Face = tuple[str, tuple[int, ...]]  # the photo's sha256, and where in it


@dataclasses.dataclass(frozen=True)
class Difference:
    """From an old version to a new one.

    Attributes:
      people_added: Names of people of whom only the new one has faces, sorted.
      people_removed: Of whom only the old one has.
      faces_added: Faces by name, those moved apart.
      faces_removed: The same.
      faces_moved: Faces that both have, under different people: by the old and the new name.
      settings: For each setting that differs its name, with dots for what is in what, and both values.
    """

    people_added: list[str]
    people_removed: list[str]
    faces_added: dict[str, int]
    faces_removed: dict[str, int]
    faces_moved: dict[tuple[str, str], int]
    settings: list[tuple[str, Any, Any]]


def compare(old: str, old_manifest: Manifest, new: str, new_manifest: Manifest) -> Difference:
    """Compares two versions.

    Args:
      old: URI of a version.
      old_manifest: Its manifest.
      new: URI of another.
      new_manifest: Its manifest.
    """
    (before, names), (after, new_names) = _faces(old), _faces(new)
    names.update(new_names)
    gone, come = before - after, after - before
    of = dict(gone)  # of a photo that is given for several people only one can be told
    moved: dict[tuple[str, str], int] = {}
    for face, person in sorted(come):
        if face in of:
            former = of.pop(face)
            gone.remove((face, former))
            come.remove((face, person))
            _count(moved, (names[former], names[person]))
    people_before, people_after = ({person for _, person in faces} for faces in (before, after))
    return Difference(
        people_added=sorted(names[person] for person in people_after - people_before),
        people_removed=sorted(names[person] for person in people_before - people_after),
        faces_added=_by_name(come, names),
        faces_removed=_by_name(gone, names),
        faces_moved=moved,
        settings=_settings(old_manifest, new_manifest),
    )


def _faces(version: str) -> tuple[set[tuple[_Face, str]], dict[str, str]]:
    """Faces with the people they are of, and the people's names."""
    faces: set[tuple[_Face, str]] = set()
    names: dict[str, str] = {}
    for shard in build.face_shards(version):
        with storage.open_input(shard) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=_COLUMNS):
                for row in batch.to_pylist():
                    faces.add(((row["content_sha256"], tuple(row["box"])), row["identity_id"]))
                    names[row["identity_id"]] = row["identity"]
    return faces, names


def _by_name(faces: set[tuple[_Face, str]], names: Mapping[str, str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in sorted(names[person] for _, person in faces):
        _count(counts, name)
    return counts


def _count(counts: dict[Any, int], key: Any) -> None:
    counts[key] = counts.get(key, 0) + 1


def _settings(old: Manifest, new: Manifest) -> list[tuple[str, Any, Any]]:
    before, after = ({name: getattr(manifest, name) for name in _MADE_BY} for manifest in (old, new))
    flat_before, flat_after = dict(_flat(json.loads(json.dumps(before)))), dict(_flat(json.loads(json.dumps(after))))
    return [
        (name, flat_before.get(name), flat_after.get(name))
        for name in sorted(flat_before.keys() | flat_after.keys())
        if flat_before.get(name) != flat_after.get(name) and name not in _TIMED
    ]


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value
