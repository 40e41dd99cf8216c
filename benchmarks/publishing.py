"""Publishing under stress: two publishers at once, and publishers that are killed, on local folders and in stores."""

import argparse
import dataclasses
import datetime
import hashlib
import json
import multiprocessing
import pathlib
import queue
import random
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from celebface.indexing import publish, storage, versions
from celebface.indexing.manifest import Manifest

_FILES = ("faces-00000-of-00001.parquet", "index/faces.ann", "index/labels.parquet", "index/vectors.npy", "run.json")
_START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_SEED = 7
_PATIENCE = 60  # seconds for one publication, in which nothing may hang


@dataclasses.dataclass(frozen=True)
class Race:
    """How rounds of two publishers at once ended.

    Attributes:
      rounds: Their number.
      won: Publishers whose version became the latest.
      told: Publishers who were told that it did not.
      seen: Times that a reader beside them found the latest version whole.
    """

    rounds: int
    won: int
    told: int
    seen: int


def assemble(folder: pathlib.Path, number: int, who: int, size: int = 2000) -> Manifest:
    """Makes files that no other version has, and describes them."""
    files = {}
    for name in _FILES:
        data = f"{number} {who} {name}\n".encode().ljust(size, b".")
        storage.write_bytes(str(folder / name), data)
        files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    created = _START + datetime.timedelta(seconds=number)
    digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    return Manifest(
        version=publish.version_name(created, digest),
        created=created.isoformat(),
        encoder_id="0123456789abcdef",
        encoder={},
        preprocessing={},
        precision="float32",
        dimension=4,
        metric="squared L2",
        counts={"faces": 1},
        index={"kind": "exact", "parts": 1, "effort": 0, "params": {}, "built_on": {}},
        files=files,
        config={},
        code={},
    )


# --- two at once ------------------------------------------------------------------------------------------------------


def race(gallery: str, rounds: int) -> Race:
    """Lets two processes publish at the same time, both upon the version of the round before.

    Raises:
      AssertionError: If not just one of them wins, the other is not told, or a version is not whole.
    """
    spawn = multiprocessing.get_context("spawn")
    gate, answers = spawn.Barrier(2), spawn.Queue()
    asked = [spawn.Queue() for _ in range(2)]
    publishers = [
        spawn.Process(target=_publish_when_asked, args=(gallery, who, asked[who], gate, answers), daemon=True)
        for who in range(2)
    ]
    for publisher in publishers:
        publisher.start()
    with tempfile.TemporaryDirectory() as folder:
        first = assemble(pathlib.Path(folder), 0, 0)
        publish.publish(folder, gallery, first)
    won, told, latest = 0, 0, first.version
    with _Reader(gallery) as reader:
        for number in range(1, rounds + 1):
            for each in asked:
                each.put((number, latest))
            outcomes = dict(answers.get(timeout=_PATIENCE) for _ in range(2))
            winners = [version for version, fault in outcomes.items() if not fault]
            assert len(winners) == 1, f"round {number}: {outcomes}"
            won, told, latest = won + 1, told + 1, winners[0]
            assert storage.read_bytes(storage.join(gallery, publish.LATEST)).decode() == f"{latest}\n"
            assert not versions.faults(versions.find(gallery))
    for each in asked:
        each.put(None)
    for publisher in publishers:
        publisher.join(_PATIENCE)
    return Race(rounds, won, told, reader.seen)


def _publish_when_asked(gallery: str, who: int, asked: Any, gate: Any, answers: Any) -> None:
    while (task := asked.get()) is not None:
        number, latest = task
        with tempfile.TemporaryDirectory() as folder:
            manifest = assemble(pathlib.Path(folder), number, who)
            gate.wait()
            fault = ""
            try:
                publish.publish(folder, gallery, manifest, based_on=latest)
            except (storage.Conflict, publish.Refused) as error:
                fault = str(error)
            answers.put((manifest.version, fault))


class _Reader:
    """Opens the latest version again and again while others publish."""

    def __init__(self, gallery: str):
        self.seen = 0
        self._gallery = gallery
        self._faults: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "_Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        assert self._faults.empty(), self._faults.get()

    def _read(self) -> None:
        while not self._over.is_set():
            for fault in versions.faults(versions.find(self._gallery)):
                self._faults.put(fault)
            self.seen += 1


# --- killed -----------------------------------------------------------------------------------------------------------

_WITHIN = ("files", "version")
_PUBLISHER = """
import pathlib, sys
from celebface.indexing import publish
from benchmarks.publishing import assemble
folder, gallery, number = sys.argv[1:]
manifest = assemble(pathlib.Path(folder), int(number), 0, 400_000)
print(manifest.version, flush=True)
sys.stdin.readline()
publish.publish(folder, gallery, manifest)
print("published", flush=True)
"""


def kill_publishers(gallery: str, count: int, seed: int = _SEED) -> list[str]:
    """Kills publishers at random moments, runs each again, and checks the gallery in between.

    Args:
      gallery: Its folder.
      count: How many are to be killed after their first write and before their last; others are killed on the way.
      seed: Of the moments.

    Returns:
      For each what it had done when it was killed: "nothing", "files", "version", or "latest".

    Raises:
      AssertionError: If the latest version is ever not a whole one, or the second run does not finish.
    """
    chance = random.Random(seed)
    duration = min(_publish_once(gallery, number) for number in range(2))
    reached: list[str] = []
    while sum(state in _WITHIN for state in reached) < count:
        number = len(reached) + 2
        before = publish.find_version(gallery)
        with tempfile.TemporaryDirectory() as folder, _publisher(folder, gallery, number) as process:
            name = _begin(process)
            assert process.stdout
            select.select([process.stdout], [], [], chance.uniform(0, duration))
            process.kill()
            process.wait()
        version = storage.join(gallery, name)
        after = publish.find_version(gallery)
        assert after in (before, version), after
        assert not [fault for each in versions.versions(gallery) for fault in versions.faults(each)]
        whole = bool(storage.exists(storage.join(version, "manifest.json")))
        there = bool(storage.exists(version))
        reached.append("latest" if after == version else "version" if whole else "files" if there else "nothing")
        _publish_once(gallery, number)
        assert publish.find_version(gallery) == version
        assert not versions.faults(versions.find(gallery))
    return reached


def _publisher(folder: str, gallery: str, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PUBLISHER, folder, gallery, str(number)]
    root = pathlib.Path(__file__).parents[1]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)


def _begin(process: subprocess.Popen[str]) -> str:
    """Waits until a publisher is about to publish, and lets it; returns its version's name."""
    assert process.stdin and process.stdout
    name = process.stdout.readline().strip()
    process.stdin.write("\n")
    process.stdin.flush()
    return name


def _publish_once(gallery: str, number: int) -> float:
    with tempfile.TemporaryDirectory() as folder, _publisher(folder, gallery, number) as process:
        _begin(process)
        start = time.perf_counter()
        assert process.stdout and process.stdout.readline() == "published\n"
        return time.perf_counter() - start


# --- the command ------------------------------------------------------------------------------------------------------


def _stores() -> Iterator[tuple[str, str]]:
    """A local folder and a bucket of each emulator, by name."""
    import pytest

    from tests import object_stores

    with tempfile.TemporaryDirectory() as folder:
        yield "local folder", f"{folder}/gallery"
    for kind in object_stores.SWAPPING:
        with object_stores.server(kind) as address, pytest.MonkeyPatch.context() as environment:
            object_stores.point_to(environment, kind, address)
            yield kind, f"{object_stores.make_bucket(kind, address).uri}/gallery"


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="of two publishers at once (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=50, help="of a publisher (default: %(default)s)")
    args = parser.parse_args()
    for name, gallery in _stores():
        start = time.perf_counter()
        result = race(gallery, args.rounds)
        print(
            f"{name}: {result.rounds} rounds of two publishers at once: {result.won} won, {result.told} were told, the "
            f"latest version was whole all {result.seen} times it was read; {time.perf_counter() - start:.1f} s"
        )
    with tempfile.TemporaryDirectory() as folder:
        reached = kill_publishers(f"{folder}/gallery", args.kills)
    counts = {state: reached.count(state) for state in ("nothing", "files", "version", "latest")}
    print(f"{len(reached)} publishers killed, by what was there: {counts}; each second run finished")


if __name__ == "__main__":
    main()
