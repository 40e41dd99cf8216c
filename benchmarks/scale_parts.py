"""Parts of the pipelines at several sizes, each measured in a process of its own: processor time, memory, bytes.

Everything here grows with what it is given and is measured at sizes that take seconds. Processor time is that of the
process with all of its threads, so that other work on the machine does not count; memory is what the process has at its
peak beyond what it had before.
"""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.face_vectors import FACES_EACH, SIZE, draw_faces, draw_gallery, draw_people
from celebface.indexing import audit, calibrate, labels, recall, schemas, storage
from celebface.indexing.kinds import KINDS, IndexRequest
from celebface.indexing.parts import Parts, index_names, labels_name, vectors_name, write_index
from celebface.indexing.schemas import Status
from celebface.indexing.searcher import Searcher
from celebface.transforms.records import ItemRef, Outcome, Person

_PICTURES = {"crop_jpeg": 6000, "thumbnail_jpeg": 9000}  # bytes, about as those of LFW
_SEED = 9


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a block took.

    Attributes:
      seconds: Processor time.
      memory: Bytes, at the peak, beyond what there was before.
    """

    seconds: float
    memory: int


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process of its own, so that peaks of memory are its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


@contextlib.contextmanager
def costing() -> Iterator[list[Cost]]:
    """Measures a block; the cost is in the list afterwards."""
    costs: list[Cost] = []
    _forget_peak()
    before, start = _memory("VmRSS"), time.process_time()
    yield costs
    costs.append(Cost(time.process_time() - start, max(0, _memory("VmHWM") - before)))


def _memory(field: str) -> int:
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{field}:"))


def _forget_peak() -> None:
    with contextlib.suppress(OSError):  # where it cannot be forgotten, what was there before is small
        pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


# --- listing ----------------------------------------------------------------------------------------------------------


def list_photos(folder: str, staging: str) -> dict[str, Any]:
    """Lists a folder, finds nothing to resume, and spreads the references: what a local run's driver does first."""
    import apache_beam as beam

    from celebface.pipelines import execution
    from celebface.transforms.resume import ResumeItems
    from celebface.transforms.sources import ItemSource, ListItems, absolute_place, list_items

    source = ItemSource((absolute_place(folder),))
    with costing() as listing:
        count = sum(1 for _ in list_items(source))

    def build(pipeline: beam.Pipeline) -> None:
        refs, lost = pipeline | beam.Create([source]) | ListItems()
        found = refs | ResumeItems(staging, schemas.MATCHES, 1)
        found.fresh | beam.Reshuffle() | beam.Map(lambda ref: None)
        lost | "Lost" >> beam.Map(lambda outcome: None)

    with costing() as whole:
        execution.run(build, ["--direct_num_workers=1"], count, "list", networks=False)
    return {
        "photos": count,
        "listing_seconds": listing[0].seconds,
        "seconds": whole[0].seconds,
        "memory": whole[0].memory,
    }


# --- shards -----------------------------------------------------------------------------------------------------------


def _values(schema: pa.Schema, given: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """A row of a table: what is given, pictures of random bytes, and something of the right type for all else."""
    return {field.name: given[field.name] if field.name in given else _value(field, rng) for field in schema}


def _value(field: pa.Field, rng: np.random.Generator) -> Any:
    if field.name in _PICTURES:
        return rng.bytes(_PICTURES[field.name])
    if pa.types.is_string(field.type):
        return f"{rng.integers(2**63):016x}"
    if pa.types.is_fixed_size_list(field.type) and field.type.value_type in (pa.int32(), pa.float32()):
        return [100] * field.type.list_size
    if pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type):
        size = field.type.list_size if pa.types.is_fixed_size_list(field.type) else 0
        return [_value(pa.field("", field.type.value_type), rng) for _ in range(size)]
    return 100 if pa.types.is_integer(field.type) else 0.5


def _staged(outcomes: Iterator[Outcome], folder: str, rows: pa.Schema, beside: dict[str, pa.Schema]) -> list[Any]:
    from celebface.transforms import stage

    places = []
    while batch := list(itertools.islice(outcomes, stage.ITEMS_PER_PART)):
        places += [place for _, place in stage.write_part(batch, folder, rows, 1, beside)]
    return places


def _gallery_photos(count: int) -> Iterator[Outcome]:
    rng = np.random.default_rng(_SEED)
    rows = schemas.faces_schema(SIZE)
    people = draw_people(max(1, count // FACES_EACH), rng)
    for number in range(count):
        who = number % len(people)
        ref = ItemRef.of(f"/photos/{who:06d}/{number:08d}.jpg", Person.of(f"Person {who:06d}"))
        given: dict[str, Any] = {"identity": ref.person.name, "identity_id": ref.person.identity_id, "uri": ref.uri}
        given |= {
            "embedding": draw_faces(people[who : who + 1], rng)[0].tolist(),
            "crop_hash": int(rng.integers(2**63)),
        }
        row = _values(rows, given, rng)
        yield Outcome(ref, Status.DONE, "encode", faces=1, shard_key=ref.person.identity_id, rows=[row])


def write_gallery_shard(count: int) -> dict[str, Any]:
    """Writes a shard of so many faces, as one worker does: read whole, repeats looked for, people summed up."""
    from celebface.transforms import audit as auditing
    from celebface.transforms import shard, staged

    rows = schemas.faces_schema(SIZE)
    with tempfile.TemporaryDirectory() as folder:
        places = _staged(_gallery_photos(count), folder, rows, {})
        part_bytes = _bytes_of(folder)
        layout = shard.ShardLayout(os.path.join(folder, "out"), "faces", rows, 1, "face_id", "web", "auto")
        with costing() as cost:
            outcomes = staged.read_outcomes(places)
            assert outcomes is not None
            repeats = shard.find_repeats(outcomes, layout)
            auditing.summarise(outcomes, repeats)
            names = shard.write_shard(outcomes, repeats, 0, layout)
        del outcomes
        with costing() as counting:  # as calibration does with all shards
            calibrate._count_faces([os.path.join(layout.folder, names[0])])
        counted = {"count_seconds": counting[0].seconds, "count_memory": counting[0].memory}
        return {"faces": count, **dataclasses.asdict(cost[0]), "part_bytes": part_bytes, **counted}


def _probe_photos(count: int) -> Iterator[Outcome]:
    rng = np.random.default_rng(_SEED)
    for number in range(count):
        ref = ItemRef.of(f"/photos/{rng.integers(1000):04d}/{number:08d}.jpg")
        given = {"photo_uri": ref.uri}
        beside = {name: [_values(schema, given, rng)] for name, schema in schemas.BESIDE_MATCHES.items()}
        rows = [_values(schemas.MATCHES, given | {"rank": rank}, rng) for rank in range(1, 6)]
        yield Outcome(ref, Status.DONE, "match", faces=1, shard_key=ref.item_id, rows=rows, beside=beside)


def write_match_shard(count: int) -> dict[str, Any]:
    """Writes a shard of a match job of so many photos with one face each, and does what the driver does at the end."""
    from celebface.pipelines import match_results, report
    from celebface.transforms import shard

    with tempfile.TemporaryDirectory() as folder:
        with costing() as staging:
            places = _staged(_probe_photos(count), folder, schemas.MATCHES, schemas.BESIDE_MATCHES)
        out = os.path.join(folder, "out")
        layout = shard.ShardLayout(out, "matches", schemas.MATCHES, 1, beside=schemas.BESIDE_MATCHES)
        with costing() as cost:
            shard.write_by_slices(shard.in_order(places), 0, layout)
        with costing() as ledger:
            report.count_ledger(out)
        with costing() as table:
            lines = sum(1 for _ in match_results._csv_lines(out))
        return {
            "photos": count,
            **dataclasses.asdict(cost[0]),
            "staging_seconds": staging[0].seconds,  # making up the rows, too
            "ledger_seconds": ledger[0].seconds,
            "csv_seconds": table[0].seconds,
            "csv_rows": lines - 1,
        }


def _bytes_of(folder: str) -> int:
    return sum(file.stat().st_size for file in pathlib.Path(folder).glob("**/*") if file.is_file())


def find_near_duplicates(count: int) -> dict[str, Any]:
    """Looks for near-duplicates among so many photos of one person, none of which is one."""
    from celebface.transforms import shard

    rng = np.random.default_rng(_SEED)
    vectors = draw_faces(np.repeat(draw_people(1, rng), count, axis=0), rng)
    faces = pa.StructArray.from_arrays(
        [
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), SIZE),
            pa.FixedSizeListArray.from_arrays(pa.array(np.tile([0, 0, 99, 99], count).astype(np.int32)), 4),
            pa.array(rng.integers(2**63, size=count).astype(np.uint64)),
            pa.array(["0123456789abcdef"] * count),
            pa.array([f"https://example.org/{number}.jpg" for number in range(count)]),
        ],
        ["embedding", "box", "crop_hash", "identity_id", "uri"],
    )
    outcomes = pa.table({"uri": faces.field("uri")})
    with costing() as cost:
        found = list(shard._find_near(outcomes, faces, np.arange(count), np.ones(count, bool), "all"))
    return {"photos": count, "seconds": cost[0].seconds, "found": len(found)}


# --- galleries --------------------------------------------------------------------------------------------------------


def judge_people(people: int) -> dict[str, Any]:
    """Sums up so many people of ten faces each, and judges all of them as the audit's one worker does."""
    rng = np.random.default_rng(_SEED)
    who = np.repeat(np.arange(people), FACES_EACH)
    vectors = draw_faces(draw_people(people, rng)[who], rng)
    faces, names = [f"{number:016x}" for number in range(len(who))], [f"{number:016x}" for number in who]
    with costing() as summing:
        summary = audit.summarise(faces, names, names, vectors)
    with costing() as cost:
        audit.judge(summary)
    return {
        "people": people,
        "unsettled_faces": len(summary.faces),
        "summary_seconds": summing[0].seconds,
        **dataclasses.asdict(cost[0]),
    }


def build_indexes(faces: int, kinds: Sequence[str]) -> dict[str, Any]:
    """Builds an index of each kind over so many faces, tunes it, and asks it for people."""
    found: dict[str, Any] = {"faces": faces}
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "index").mkdir()
        vectors, _ = draw_gallery(faces, 2)
        people = np.sort(np.arange(faces) % max(1, faces // FACES_EACH))
        order = np.argsort(np.arange(faces) % max(1, faces // FACES_EACH), kind="stable")
        np.save(os.path.join(folder, vectors_name(0, 1)), vectors[order])
        rng = np.random.default_rng(_SEED)
        hashes = np.sort(rng.integers(2**63, size=people[-1] + 1))  # ids are hashes, which do not compress
        who = [f"{hashes[number]:016x}" for number in people]
        names = [f"Given{number % 997} Family{number}" for number in people]
        ids, images = ([f"{number:016x}" for number in rng.integers(2**63, size=faces)] for _ in range(2))
        uris = [f"https://example.org/photos/{number}.jpg" for number in images]
        table = pa.table({"face_id": ids, "identity": names, "identity_id": who, "image_id": images, "uri": uris})
        labels.write(table, os.path.join(folder, labels_name(0, 1)))
        found["labels"] = {"bytes": os.path.getsize(os.path.join(folder, labels_name(0, 1)))}
        found["vectors"] = {"bytes": os.path.getsize(os.path.join(folder, vectors_name(0, 1)))}
        del vectors, table, who, names, ids, images, uris
        with costing() as cost:
            opened = Parts.of_part(folder, "exact", 0, 1)
        found["open"] = dataclasses.asdict(cost[0])
        with costing() as cost:
            trial = recall.Trial.of(opened)
        found["truth_seconds"] = cost[0].seconds
        found["kinds"] = {kind: _build(folder, kind, trial) for kind in kinds}
    return found


def _build(folder: str, kind: str, trial: recall.Trial) -> dict[str, Any]:
    with costing() as building:
        write_index(folder, kind, 0, 1)
    opened = Parts.of_part(folder, kind, 0, 1)
    with costing() as tuning:
        recall.tune(opened, kind, trial, IndexRequest().min_recall)
    at_one, at_ten = trial.recall(opened)
    searcher = Searcher(opened)
    with costing() as asking:
        for start in range(0, len(trial.queries), 128):
            searcher.nearest_people(trial.queries[start : start + 128], 5)
    names = index_names(kind, 0, 1)
    return {
        "build_seconds": building[0].seconds,
        "build_memory": building[0].memory,
        "tune_seconds": tuning[0].seconds,
        "probe_seconds": asking[0].seconds / len(trial.queries),
        "effort": opened.effort,
        "by_index": bool(opened.by_index and KINDS[kind].FILES),
        "recall_at_1": at_one,
        "recall_at_10": at_ten,
        "bytes": sum(os.path.getsize(os.path.join(folder, name)) for name in names),
    }


def checksum(size: int) -> dict[str, Any]:
    """Reads a file as every opening of a gallery does."""
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(size // 2**20):
            file.write(os.urandom(2**20))
        file.flush()
        with costing() as cost:
            storage.checksum(file.name)
    return {"bytes": size, "seconds": cost[0].seconds}
