"""The kinds of index beside faiss and usearch, on vectors that lie to each other as faces do.

For each number of faces: the gallery's own choice (`--index_kind auto`) with what it measured, and then each kind and
each peer, one after the other on the same probes (half of them of the gallery's people, half strangers), its effort
raised until it finds the nearest face in 99 % of cases: build time, size, recall, and answers a second one by one, by
128 (as match asks), by 1,000 and all 10,000 at once, with all cores. Our answers include the exact distances, the
peers' are their own.

Beyond a million faces only what can be built within minutes takes part.
"""

import argparse
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from rich.table import Table

from benchmarks import environments, report
from benchmarks.contenders.index_measure import RECALL, WANTED, Candidate, measure
from benchmarks.face_vectors import FACES_EACH, SIZE, draw_gallery
from benchmarks.report import Figure, Target
from celebface.indexing import choice, labels, recall, search
from celebface.indexing.kinds import KINDS, IndexRequest
from celebface.indexing.parts import Parts, files_bytes, labels_name, vectors_name, write_index
from celebface.indexing.searcher import ASKED
from celebface.pipelines.machine import cores

SIZES = (10_000, 100_000, 1_000_000)
_PROBES, _TRUE = 10_000, 1_000
_EFFORTS = 20
_NOT_BUILT = {"annoy": 2_000_000, "hnsw": 2_000_000}  # for more faces, building takes an hour
_PEERS = ("faiss", "usearch")
_PEERS_TO = {"usearch": 2_000_000}
_BATCH = "per_s_128"  # as match asks


def main(argv: Sequence[str] | None = None) -> None:
    """Measures all sizes, prints the tables and stores them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="faces of the galleries")
    args = parser.parse_args(argv)
    try:
        python = environments.make(environments.INDEXES)
    except environments.CannotMake as why:
        print(f"the peers are left out: {why}")
        python = None
    results = {}
    for size in args.sizes:
        with tempfile.TemporaryDirectory(prefix="celebface-index-") as scratch:
            folder = pathlib.Path(scratch)
            _draw(folder, size)
            auto, chosen = _choose(folder, size)
            rows = list(_ours(folder, size))
            rows += _peers(folder, size, python) if python else []
        results[str(size)] = {"rows": rows, "auto": auto, "chosen": chosen, "figures": _show(size, rows, chosen)}
    if tuple(args.sizes) == SIZES or max(args.sizes) > max(SIZES):
        report.store("index" if tuple(args.sizes) == SIZES else "index_large", {"faces": results})


def _draw(folder: pathlib.Path, size: int) -> None:
    """Writes vectors, labels, probes and what is true of them."""
    (folder / "index").mkdir()
    vectors, probes = draw_gallery(size, _PROBES)
    people = np.arange(size) % max(1, size // FACES_EACH)
    vectors = vectors[np.argsort(people, kind="stable")]
    np.save(folder / vectors_name(0, 1), vectors)
    (folder / "vectors.npy").symlink_to(folder / vectors_name(0, 1))
    np.save(folder / "probes.npy", probes)
    np.save(folder / "truth.npy", search.nearest_exact(probes[:_TRUE], vectors, WANTED)[0])
    names = [f"{number:08d}" for number in np.sort(people)]
    faces = [f"{number:016x}" for number in range(size)]
    columns = {"face_id": faces, "identity": names, "identity_id": names, "image_id": faces, "uri": faces}
    labels.write(pa.table(columns), str(folder / labels_name(0, 1)))


def _choose(folder: pathlib.Path, size: int) -> tuple[list[dict[str, Any]], str]:
    """What `--index_kind auto` measures and takes; nothing where it would take an hour."""
    if size > min(_NOT_BUILT.values()):
        return [], ""
    start = time.perf_counter()
    chosen, table = choice.choose(str(folder), 0, 1, IndexRequest(kind="auto"))
    print(f"\n{size:,} faces: auto takes {chosen}, after {time.perf_counter() - start:.0f} s")
    return table, chosen


def _ours(folder: pathlib.Path, size: int) -> Iterator[dict[str, Any]]:
    for name, kind in KINDS.items():
        if size > _NOT_BUILT.get(name, size):
            continue
        start = time.perf_counter()
        write_index(str(folder), name, 0, 1)
        seconds = time.perf_counter() - start
        parts = Parts.of_part(str(folder), name, 0, 1)
        parts.by_index = bool(kind.FILES)

        def find(probes: np.ndarray, effort: int, parts: Parts = parts) -> np.ndarray:
            parts.effort = effort
            return parts.nearest(probes, ASKED)[0][:, :WANTED]

        efforts = list(itertools.islice(recall.efforts(kind.FIRST_EFFORT), _EFFORTS)) if kind.FILES else [0]
        row = measure(Candidate(name, seconds, files_bytes(str(folder), name, [0], 1), efforts, find), folder)
        print(json.dumps(row), flush=True)
        yield row


def _peers(folder: pathlib.Path, size: int, python: pathlib.Path) -> Iterator[dict[str, Any]]:
    for peer in _PEERS:
        if size > _PEERS_TO.get(peer, size):
            continue
        script = str(environments.CONTENDERS / f"index_{peer}.py")
        done = subprocess.run(
            [str(python), script, str(folder), str(cores())], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            print(f"{peer} ended with exit status {done.returncode}")
        for line in done.stdout.splitlines():
            print(line, flush=True)
            yield json.loads(line)


def _show(size: int, rows: Sequence[dict[str, Any]], chosen: str) -> list[dict[str, Any]]:
    table = Table(
        "index", "build s", "MB", "effort", "recall@1", "recall@10", "1 by 1/s", "by 128/s", "by 1,000/s", "10,000/s"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        counts = [f"{row[name]:,.0f}" for name in ("per_s_1", _BATCH, "per_s_1000", "per_s_all")]
        recalls = [f"{row[name]:.4f}" for name in ("recall_at_1", "recall_at_10")]
        size_mb = f"{row['bytes'] / 1e6:,.1f}"
        table.add_row(row["index"], f"{row['build_seconds']:.1f}", size_mb, str(row["effort"]), *recalls, *counts)
    print(f"\n{size:,} faces of {SIZE} numbers")
    report.console().print(table)
    good = [row for row in rows if row["recall_at_1"] >= RECALL]
    ours = {row["index"]: row for row in good if row["index"] in KINDS}
    peers = [row for row in good if row["index"] not in KINDS]
    figures = []
    if chosen in ours:
        share = ours[chosen][_BATCH] / max(row[_BATCH] for row in ours.values())
        figures.append(
            Figure(f"auto takes {chosen}; answers by 128, by the best kind's", share, target=Target(0.9, True))
        )
    faiss = [row["per_s_all"] for row in peers if row["index"].startswith("faiss")]
    if faiss and ours:
        ratio = max(row["per_s_all"] for row in ours.values()) / max(faiss)
        target = Target(1.0, True) if size == max(SIZES) else None
        figures.append(Figure("10,000 probes: our best by faiss' best", ratio, target=target))
    report.show(f"{size:,} faces", figures)
    return report.as_json(figures)


if __name__ == "__main__":
    main(sys.argv[1:])
