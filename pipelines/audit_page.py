"""audit.html: what the audit of a gallery found, with the faces, for people to decide."""

import base64
import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from celebface.indexing import storage
from celebface.indexing.schemas import Finding
from celebface.pipelines import pages, report
from celebface.pipelines.text import escaped
from celebface.transforms.shard import FINDINGS, QUARANTINED

NAME = "audit.html"
_SHOWN = 100  # of each finding: a page of 500 findings has up to 20 MB
_CROPS = 2  # shown of a person
_LOOKED_AT = 64  # faces of a person that these are chosen from
_COLUMNS = ["face_id", "identity_id", "crop_jpeg", "embedding"]
_BATCH = 1024  # rows in memory

_TITLES = {
    Finding.WRONG_PERSON: (
        "under the wrong name",
        "Each of these faces is like another person's and unlike its own. Put the photo under the right name, or "
        "take it out.",
    ),
    Finding.TWO_NAMES: (
        "under two names",
        "As good as the same photo is given for two people who have no other. Take out the one that is wrong; if it is "
        "one person, give both the same name.",
    ),
    Finding.DOUBTFUL: (
        "in dispute",
        "The photos of these people disagree, and nobody else's tell which are right. Another photo of the person "
        "would settle it.",
    ),
    Finding.OUTLIER: (
        "unlike the others",
        "Each of these faces is far from the person's others, and not so near to anybody else that it could be told "
        "who it is: a stranger, or a photo that shows the person badly.",
    ),
    Finding.CLOSE_PAIR: (
        "pairs of people too close to tell apart",
        "Perhaps one person under two names: then give both the same name. They stay in the gallery.",
    ),
}


@dataclasses.dataclass(frozen=True)
class _Group:
    """The findings of one kind.

    Attributes:
      finding: Which.
      title: What they are called.
      advice: What can be done about them.
      rows: Those that are shown, the worst first.
      total: How many there are.
    """

    finding: str
    title: str
    advice: str
    rows: list[dict[str, Any]]
    total: int


def write_page(folder: str) -> None:
    """Writes the page of a version beside its tables.

    Args:
      folder: URI of a folder with the tables of faces, of quarantine and of findings.
    """
    storage.write_bytes(storage.join(folder, NAME), make_page(folder).encode())


def make_page(folder: str) -> str:
    """The page, of a folder's tables."""
    found: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    doubted = set()
    for shard in report.shards(folder, FINDINGS):
        for row in report.read_rows(shard):
            found[row["finding"]].append(row)
            doubted.add(row["face_id"])
    groups = []
    for finding, (title, advice) in _TITLES.items():
        rows = sorted(found[finding], key=_by_weight)
        if rows:
            groups.append(_Group(str(finding), title, advice, rows[:_SHOWN], len(rows)))
    shown = [row for group in groups for row in group.rows]
    crops = _Crops(folder, shown, doubted)
    for row in shown:
        row.update(_for_people(row, crops))
    style = pages.source("audit.css")
    return pages.render("audit.html", groups=groups, style=style, style_digest=pages.digest(style))


def _by_weight(row: Mapping[str, Any]) -> tuple[float, str, str, str]:
    """The worst first: nearest to another person and farthest from the own one."""
    near = 2.0 if row["near_distance"] is None else row["near_distance"]
    own = 0.0 if row["own_distance"] is None else row["own_distance"]
    weight = own if row["finding"] in (Finding.OUTLIER, Finding.DOUBTFUL) else own - near
    return -weight, row["identity_id"], row["face_id"], row["other_id"]


def _for_people(row: Mapping[str, Any], crops: "_Crops") -> dict[str, Any]:
    """How a finding is shown: names and places come from outside, and may hold anything."""
    if row["own_distance"] is None:
        own = "there is no other photo"
    elif row["support"]:
        own = f"D {row['own_distance']:.2f} to the others, of which {row['support']} agree"
    else:
        own = f"D {row['own_distance']:.2f} to the nearest other: they disagree"
    return {
        "identity": escaped(row["identity"]),
        "other": escaped(row["other"] or ""),
        "uri": escaped(row["uri"]),
        "link": row["uri"].startswith(("http://", "https://")),
        "own": own,
        "near": "" if row["near_distance"] is None else f"D {row['near_distance']:.2f}",
        "crop": crops.of_face(row["face_id"]),
        "own_crops": crops.of_person(row["identity_id"], row["face_id"]),
        "other_crops": crops.of_person(row["other_id"], row["face_id"]),
    }


class _Crops:
    """The faces that a page shows, read in one go through the shards."""

    def __init__(self, folder: str, shown: Sequence[Mapping[str, Any]], doubted: set[str]):
        wanted = {row["face_id"] for row in shown}
        people = {row[name] for row in shown for name in ("identity_id", "other_id")}
        self._faces: dict[str, str] = {}
        self._people: dict[str, list[str]] = {}
        for shard in (*report.shards(folder, "faces"), *report.shards(folder, QUARANTINED)) if shown else ():
            mine: dict[str, list[tuple[str, bytes, list[float]]]] = collections.defaultdict(list)
            for face_id, person, crop, vector in _read_faces(shard, wanted, people):
                if face_id in wanted:
                    self._faces[face_id] = _data(crop)
                if person in people and len(mine[person]) < _LOOKED_AT:
                    mine[person].append((face_id, crop, vector))
            for person, faces in mine.items():
                right = [face for face in faces if face[0] not in doubted] or faces
                vectors = np.array([vector for _, _, vector in right], np.float32)
                near = np.argsort(-(vectors @ vectors.mean(axis=0)), kind="stable")[: _CROPS + 1]
                kept = [right[row] for row in near]
                self._people.setdefault(person, [face_id for face_id, _, _ in kept])
                self._faces.update((face_id, _data(crop)) for face_id, crop, _ in kept)

    def of_face(self, face_id: str) -> str:
        """A face as a data URI; empty if there is none."""
        return self._faces.get(face_id, "")

    def of_person(self, identity_id: str, but: str) -> list[str]:
        """The most typical faces of a person that are not in doubt, but for one."""
        return [self._faces[face_id] for face_id in self._people.get(identity_id, ()) if face_id != but][:_CROPS]


def _read_faces(shard: str, wanted: set[str], people: set[str]) -> Iterator[tuple[str, str, bytes, list[float]]]:
    """Of the faces wanted, and all of some people: id, person, crop and vector."""
    faces, owners = pa.array(list(wanted), pa.string()), pa.array(list(people), pa.string())
    with storage.open_input(shard) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(_BATCH, columns=_COLUMNS):
            shown = pc.or_(pc.is_in(batch["face_id"], faces), pc.is_in(batch["identity_id"], owners))
            chosen = batch.filter(shown)
            yield from zip(*(chosen[name].to_pylist() for name in _COLUMNS), strict=True)


def _data(crop: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(crop).decode()}"
