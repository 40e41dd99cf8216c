"""Folders of match results made in code, with pictures: what a report is made of, without any network."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence

import fakes
import images
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from celebface.indexing import schemas
from celebface.indexing.calibration import LFW_CURVE, verdict
from celebface.transforms.records import face_id

TAU = 0.9
POINT = {
    "false_match_rate": 0.01,
    "tau": TAU,
    "interval": [0.005, 0.02],
    "method": "measured",
    "true_match_rate": 0.9,
    "true_match_interval": [0.8, 0.95],
    "ambiguous": 0.01,
}


@dataclasses.dataclass(frozen=True)
class Seen:
    """A face on a photo, and the people it looks like with their distances, the nearest first."""

    photo: str
    people: Sequence[tuple[str, float]]
    box: tuple[int, int, int, int] = (100, 50, 180, 150)


@functools.cache
def jpeg(seed: int, width: int = 160, height: int = 160) -> bytes:
    """A picture that no other seed gives."""
    return images.encoded(images.scenery(width, height, seed), "JPEG")


def portrait(person: str) -> bytes:
    """The picture of a celebrity."""
    return jpeg(int(hashlib.sha256(person.encode()).hexdigest()[:6], 16))


def write_gallery(folder: pathlib.Path, people: Sequence[str]) -> pathlib.Path:
    """A version's faces, one of each person."""
    folder.mkdir(parents=True)
    rows = [row for who in people for row in fakes.photo_outcome(f"/stars/{who}.jpg", who, crop=portrait(who)).rows]
    write_table(folder, "faces", rows, schemas.faces_schema(4))
    return folder


def write_results(
    folder: pathlib.Path,
    seen: Sequence[Seen],
    gallery: pathlib.Path | str,
    *,
    left_out: Sequence[tuple[str, str, str]] = (),
    pictures: bool = True,
    point: dict | None = POINT,
    shards: int = 1,
) -> pathlib.Path:
    """What a match job leaves.

    Args:
      folder: Where to.
      seen: Faces; those of a photo follow each other.
      gallery: Folder of the gallery's version.
      left_out: URI, reason and detail of the photos that gave none; `no_face` ones could be decoded.
      pictures: Whether there are any; without, they are null, as with --no_crops.
      point: What the gallery states of tau.
      shards: Files of each table.

    Returns:
      The folder.
    """
    folder.mkdir(parents=True)
    tables: dict[str, list[list[dict]]] = {
        name: [[] for _ in range(shards)] for name in ("matches", "ledger", "photos", "faces")
    }
    numbers: dict[str, int] = {}
    for one in seen:
        shard = int(hashlib.sha256(one.photo.encode()).hexdigest(), 16) % shards
        number = numbers[one.photo] = numbers.get(one.photo, -1) + 1
        own_id = face_id(hashlib.sha256(one.photo.encode()).hexdigest(), "", number)
        if not number:
            tables["photos"][shard].append(_photo(one.photo, pictures))
        face = {"photo_uri": one.photo, "face_id": own_id, "box": list(one.box), "confidence": 0.99}
        crop = jpeg(10_000 + len(numbers) % 20 + 100 * number) if pictures else None
        tables["faces"][shard].append({**face, "crop_jpeg": crop, "embedding": None})
        tables["matches"][shard].extend(_ranks(face, one.people))
    for photo in numbers:
        shard = int(hashlib.sha256(photo.encode()).hexdigest(), 16) % shards
        tables["ledger"][shard].append(_ledger_row(photo, "done", "", "", numbers[photo] + 1))
    for uri, reason, detail in left_out:
        tables["ledger"][0].append(_ledger_row(uri, "rejected", reason, detail, 0))
        if reason == "no_face":
            tables["photos"][0].append(_photo(uri, pictures))
    for name, schema in (
        ("matches", schemas.MATCHES), ("ledger", schemas.LEDGER), ("photos", schemas.PHOTOS), ("faces", schemas.PROBES)
    ):  # fmt: skip
        for shard, rows in enumerate(tables[name]):
            write_table(folder, name, rows, schema, shard, shards)
    photos = {"done": len(numbers), "rejected": len(left_out)}
    run = {
        "finished": "2026-01-02T03:04:05+00:00",
        "items": {"kinds": {"photo": photos}},
        "config": {"gallery": str(gallery), "tau": TAU, "point": point},
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def _photo(uri: str, pictures: bool) -> dict:
    seed = 20_000 + int(hashlib.sha256(uri.encode()).hexdigest()[:6], 16)
    thumbnail = jpeg(seed, 320, 240) if pictures else None
    return {"photo_uri": uri, "image_width": 640, "image_height": 480, "thumbnail_jpeg": thumbnail}


def _ranks(face: dict, people: Sequence[tuple[str, float]]) -> list[dict]:
    margin = people[1][1] - people[0][1] if len(people) > 1 else None
    rows = []
    for rank, (who, distance) in enumerate(people, start=1):
        (star,) = fakes.photo_outcome(f"/stars/{who}.jpg", who).rows
        judged = verdict(distance, margin, TAU) if rank == 1 else "lookalike"
        rows.append(
            {
                **face,
                "rank": rank,
                "identity": who,
                "identity_id": star["identity_id"],
                "distance": distance,
                "similarity": LFW_CURVE.percent(distance),
                "verdict": str(judged),
                "margin": margin,
                "gallery_face_id": star["face_id"],
                "gallery_uri": star["uri"],
            }
        )
    return rows


def _ledger_row(uri: str, status: str, reason: str, detail: str, faces: int) -> dict:
    empty = {name: "" for name in schemas.LEDGER.names}
    item_id = hashlib.sha256(uri.encode()).hexdigest()[:16]
    told = {"uri": uri, "kind": "photo", "status": status, "reason": reason, "detail": detail, "faces": faces}
    return {**empty, "item_id": item_id, **told}


def write_table(
    folder: pathlib.Path, name: str, rows: Sequence[dict], schema: pa.Schema, shard: int = 0, shards: int = 1
) -> None:
    """One file of a table."""
    pq.write_table(
        pa.Table.from_pylist(list(rows), schema=schema), folder / f"{name}-{shard:05d}-of-{shards:05d}.parquet"
    )


def an_album(people: Sequence[str], photos: int, folder: str = "/album") -> list[Seen]:
    """Faces that look like everybody in turn, from near to far; each has the next people after the first."""
    random = np.random.default_rng(3)
    seen = []
    for number in range(photos):
        nearest = 0.1 + 1.3 * number / photos
        distances = nearest + np.sort(random.uniform(0.2, 0.6, min(4, len(people) - 1)))
        order = [people[(number + step) % len(people)] for step in range(1 + len(distances))]
        seen.append(Seen(f"{folder}/photo {number:04d}.jpg", list(zip(order, [nearest, *distances], strict=True))))
    return seen
