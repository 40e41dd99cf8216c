"""Small makers of what the tests need: unit vectors, outcomes, counters, a gallery written by the code itself."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import numpy as np
from apache_beam.metrics import MetricsFilter
from apache_beam.testing.test_pipeline import TestPipeline

from celebface.indexing import build, calibrate, calibration, publish, schemas, storage
from celebface.indexing.index import machine
from celebface.indexing.kinds import IndexRequest
from celebface.indexing.manifest import Manifest
from celebface.indexing.rates import Tail
from celebface.indexing.schemas import Reason, Status
from celebface.indexing.searcher import Searcher
from celebface.transforms import shard, stage
from celebface.transforms.records import ItemRef, Outcome, Person, face_id, image_id, kept_faces, printable
from celebface.transforms.shard import ShardLayout
from celebface.transforms.staged import read_outcomes

# The operating points measured on LFW, those of the default encoder.
POINTS = [
    {"tau": 1.02, "false_match_rate": 1e-3, "true_match_rate": 0.976},
    {"tau": 1.29, "false_match_rate": 1e-2, "true_match_rate": 0.994},
]

# The entry of a manifest whose index nobody opens.
INDEX = {"kind": "annoy", "params": {"trees": 50, "seed": 1}, "effort": 500, "parts": 1, "built_on": machine()}


# --- vectors ----------------------------------------------------------------------------------------------------------


def unit(rows: np.ndarray) -> np.ndarray:
    """float32 [N, d], rows of length 1."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def unit_vectors(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    """float32 [count, dimension], uniform on the sphere: the hardest data for an index."""
    return unit(np.random.default_rng(seed).normal(size=(count, dimension)))


def crowds(sizes: Sequence[int], dimension: int, spread: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Faces of people with `sizes[i]` photos each, about `spread` from a centre of their own.

    Returns:
      float32 [N, dimension], unit rows, and who is on each.
    """
    random = np.random.default_rng(seed)
    people = np.repeat(np.arange(len(sizes)), sizes)
    centres = unit(random.normal(size=(len(sizes), dimension)))
    noise = unit(random.normal(size=(len(people), dimension)))
    return unit(centres[people] + spread * noise), [f"person {number:03d}" for number in people]


# --- records ----------------------------------------------------------------------------------------------------------


def item(
    uri: str, who: str | Person = "", revision: str = "", listed: Reason = Reason.NONE, **fields: object
) -> ItemRef:
    """An item that shows somebody."""
    return ItemRef.of(uri, person(who), revision=revision, listed=listed, **fields)


def person(who: str | Person) -> Person:
    """A person, of their name if that is all that is known."""
    return who if isinstance(who, Person) else Person.of(who)


def photo_outcome(
    uri: str,
    who: str | Person = "ann",
    *,
    revision: str = "1-1",
    crop_hash: int = 0,
    box: Sequence[int] = (10, 20, 110, 140),
    vectors: np.ndarray | None = None,
    found: int = 0,
    content: bytes | None = None,
    crop: bytes = b"\xff\xd8 a crop",
    **fields: object,
) -> Outcome:
    """A gallery photo that gave a face for each of `vectors`; its bytes are its name if not told otherwise.

    Args:
      uri: Where it is.
      who: Who is on it.
      revision: Of the file.
      crop_hash: Of each face.
      box: Of each face.
      vectors: Of its faces, float32 [N, d].
      found: How many faces it shows, if some were left out.
      content: Its bytes.
      crop: Of each face.
      **fields: Other attributes of the item.
    """
    vectors = unit_vectors(1, 4) if vectors is None else vectors
    sha256 = hashlib.sha256(printable(uri).encode() if content is None else content).hexdigest()
    ref = item(uri, who, revision, content_sha256=sha256, **fields)
    rows = [
        {
            "face_id": face_id(sha256, ref.person.identity_id, number),
            "identity": ref.person.name,
            "identity_id": ref.person.identity_id,
            "external_id": ref.person.external_id,
            "aliases": list(ref.person.aliases),
            "image_id": image_id(sha256),
            "uri": printable(uri),
            "source_page": ref.provenance.page,
            "licence": ref.provenance.licence,
            "author": ref.provenance.author,
            "content_sha256": sha256,
            "image_width": 640,
            "image_height": 480,
            "faces_in_image": found or len(vectors),
            "box": list(box),
            "confidence": 0.5,
            "landmarks": [[30.0, 50.0], [80.0, 50.0], [55.0, 75.0], [35.0, 100.0], [75.0, 100.0]],
            "sharpness": 8.0,
            "crop_hash": crop_hash,
            "crop_jpeg": crop,
            "embedding": vector.tolist(),
            "encoder_id": "0123456789abcdef",
        }
        for number, vector in enumerate(vectors)
    ]
    detail = kept_faces(len(rows), found)
    key = ref.person.identity_id
    return Outcome(ref, Status.DONE, "encode", detail=detail, faces=len(rows), shard_key=key, rows=rows)


# --- pipelines --------------------------------------------------------------------------------------------------------


def pipeline() -> TestPipeline:
    """A pipeline on the local runner, which checks its collections when its block ends."""
    return TestPipeline(runner="FnApiRunner")


def counters(result, stage_name: str) -> dict[str, int]:
    """A stage's counters but for working times."""
    found = result.metrics().query(MetricsFilter().with_namespace(stage_name))["counters"]
    return {
        counter.key.metric.name: counter.committed for counter in found if not counter.key.metric.name.endswith("_usec")
    }


# --- galleries --------------------------------------------------------------------------------------------------------


def write_shards(folder: str, vectors: np.ndarray, people: Sequence[str | Person], shards: int = 2) -> list[str]:
    """Face shards and ledger of one photo a vector, as a run writes them; returns the URIs of the face shards."""
    layout = ShardLayout(folder, "faces", schemas.faces_schema(vectors.shape[1]), shards, "face_id")
    outcomes = [
        photo_outcome(photo_of(who, number), who, vectors=vectors[number : number + 1])
        for number, who in enumerate(people)
    ]
    places = stage.write_part(outcomes, storage.join(folder, "..", "staging"), layout.rows, shards)
    for number in range(shards):
        table = read_outcomes(place for wanted, place in places if wanted == number)
        if table is None:
            table = stage.staging_schema(layout.rows).empty_table()
        shard.write_shard(table, {}, number, layout)
    return build.face_shards(folder)


def photo_of(who: str | Person, number: int) -> str:
    """The place that `write_shards` gives to the photo of vector `number`."""
    folder = who if isinstance(who, str) else " ".join(filter(None, [who.name, who.external_id]))
    return f"/photos/{folder}/{number}.jpg"


def face_id_of(who: str | Person, number: int) -> str:
    """The id that `write_shards` gives to the face of vector `number`."""
    return photo_outcome(photo_of(who, number), who).rows[0]["face_id"]


def gallery(
    root: str,
    vectors: np.ndarray,
    people: Sequence[str | Person],
    request: IndexRequest | None = None,
    shards: int = 2,
    **index: object,
) -> str:
    """Publishes a gallery of one photo a vector.

    Args:
      root: Folder for it; the gallery is <root>/gallery.
      vectors: float32 [N, d], unit rows.
      people: Who is on each.
      request: What is asked of its index.
      shards: How many there are.
      **index: Entries of the manifest's index to put in place of those measured.

    Returns:
      URI of the version.
    """
    folder = storage.join(root, "assembled")
    face_shards = write_shards(folder, vectors, people, shards)
    measured = build.build_index(face_shards, folder, request)
    tail = Tail.through(POINTS, "LFW")
    search = Searcher.open(folder, measured).nearest_people
    calibrated = calibrate.of_gallery(face_shards, search, "0123456789abcdef", tail)
    storage.write_bytes(storage.join(folder, calibration.NAME), calibrated.to_json())
    return publish.publish(
        folder, storage.join(root, "gallery"), manifest(folder, "v1", vectors.shape[1], {**measured, **index})
    )


def manifest(folder: str, version: str, dimension: int = 4, index: dict[str, object] | None = None) -> Manifest:
    """Describes the files in a folder as a version."""
    files = {}
    for name in storage.list_files(folder):
        digest, size = storage.checksum(storage.join(folder, name))
        files[name] = {"sha256": digest, "bytes": size}
    return Manifest(
        version=version,
        created="2026-01-02T03:04:05+00:00",
        encoder_id="0123456789abcdef",
        encoder={"name": "fake", "operating_points": POINTS, "evidence": "LFW"},
        preprocessing={"size": 160},
        precision="float32",
        dimension=dimension,
        metric="squared L2 of unit vectors, 0..4",
        counts={"faces": 1, "items": 1},
        index=INDEX if index is None else index,
        files=files,
        config={"shards": 2},
        code={"celebface": "0", "annoy": "1.17.3"},
    )


def manifest_fields(contents: Manifest) -> dict[str, object]:
    """A manifest as the JSON object that its file holds."""
    return json.loads(json.dumps(dataclasses.asdict(contents)))
