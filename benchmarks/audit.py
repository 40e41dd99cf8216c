"""How many wrong labels the audit finds, and how many right ones it takes for wrong, on galleries with shuffled labels.

A twentieth of a gallery's faces get another person's name, in two ways. permuted: the names are dealt out again among
the faces chosen, so that a person with many photos takes and gives many. strangers: each face goes to any other person,
whoever has many photos or one.

No evidence: a face that is alone under its wrong name, and whose true person has no other face in the gallery. Nothing
in the gallery tells that it is wrong; such faces are counted by themselves, and nothing else is left out. Shares are of
all shuffles together; what LFW and the sample themselves have under a wrong name counts as right.
"""

import argparse
import pathlib
import time
from collections.abc import Sequence

import numpy as np

from benchmarks import photos, report
from benchmarks.report import Figure, Target, percent
from celebface.indexing import audit, publish, storage
from celebface.indexing.cache import default_cache
from celebface.models.weights import sample_folder
from celebface.pipelines import build_gallery
from celebface.pipelines.report import read_rows, shards

SHARE = 0.05
SHUFFLES = 20
FOUND = Target(0.90, at_least=True)
LOST = Target(0.02, at_least=False)

GALLERIES = photos.ROOT / "build" / "bench" / "galleries"


def vectors_of(folder: pathlib.Path, name: str, source: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """The faces of a gallery, which is built if it is not there.

    Returns:
      float32 [N, d], unit rows, and the number of the person on each.
    """
    gallery = str(folder / name)
    if not storage.exists(storage.join(gallery, publish.LATEST)):
        flags = [f"--source={source}", f"--output_root={folder}", f"--name={name}", "--audit=off"]
        if build_gallery.main(flags):
            raise SystemExit(f"{name} could not be built")
    columns = ["face_id", "identity_id", "embedding"]
    rows = [row for shard in shards(publish.find_version(gallery), "faces") for row in read_rows(shard, columns)]
    rows.sort(key=lambda row: row["face_id"])
    _, people = np.unique([row["identity_id"] for row in rows], return_inverse=True)
    return np.array([row["embedding"] for row in rows], np.float32), people


def shuffled(people: np.ndarray, way: str, seed: int, share: float = SHARE) -> np.ndarray:
    """The people with some of the faces under another's number.

    Args:
      people: int [N].
      way: "permuted" or "strangers".
      seed: Of the shuffle.
      share: Of the faces.
    """
    random = np.random.default_rng(seed)
    labels = people.copy()
    count = round(share * len(people))
    chosen = random.choice(len(people), count, replace=False)
    if way == "strangers":
        everybody = people.max() + 1
        labels[chosen] = (people[chosen] + random.integers(1, everybody, len(chosen))) % everybody
        return labels
    while np.bincount(people[chosen]).max() > count / 2:  # somebody would get their own name, however it is dealt
        chosen = random.choice(len(people), count, replace=False)
    dealt = random.permutation(people[chosen])
    while (same := np.flatnonzero(dealt == people[chosen])).size:  # who got their own name swaps with anybody
        other = random.integers(len(chosen))
        dealt[[same[0], other]] = dealt[[other, same[0]]]
    labels[chosen] = dealt
    return labels


def measure(vectors: np.ndarray, people: np.ndarray, way: str) -> list[Figure]:
    """Shuffles labels and audits, `SHUFFLES` times."""
    ids = [f"{number:08d}" for number in range(len(people))]
    found, lost, hopeless, seconds = [], [], [], []
    for seed in range(SHUFFLES):
        labels = shuffled(people, way, seed)
        names = [f"{label:08d}" for label in labels]
        start = time.perf_counter()
        doubts = audit.judge(audit.summarise(ids, names, names, vectors)).doubts
        seconds.append(time.perf_counter() - start)
        doubted = np.isin(ids, [doubt.face_id for doubt in doubts])
        wrong = labels != people
        alone = (np.bincount(labels, minlength=people.max() + 1)[labels] == 1) & (np.bincount(people)[people] == 1)
        hopeless.append(wrong & alone)
        found.append((doubted[wrong & ~alone].sum(), (wrong & ~alone).sum(), doubted[wrong].sum(), wrong.sum()))
        lost.append((doubted[~wrong].sum(), (~wrong).sum()))
    caught, kept_out = np.array(found), np.array(lost)
    return [
        Figure("wrong labels quarantined", _share(caught[:, :2]), percent, FOUND),
        Figure("  in the worst shuffle", float((caught[:, 0] / caught[:, 1]).min()), percent),
        Figure("  of all, those without evidence too", _share(caught[:, 2:]), percent),
        Figure("right labels quarantined", _share(kept_out), percent, LOST),
        Figure("  in the worst shuffle", float((kept_out[:, 0] / kept_out[:, 1]).max()), percent),
        Figure("wrong labels in a shuffle", float(caught[:, 3].mean()), "{:.1f}".format),
        Figure("  of them without evidence", float(np.mean([each.sum() for each in hopeless])), "{:.1f}".format),
        Figure("seconds", float(np.mean(seconds)), "{:.2f}".format),
    ]


def _share(counts: np.ndarray) -> float:
    return float(counts[:, 0].sum() / counts[:, 1].sum())


def main(argv: Sequence[str] | None = None) -> None:
    """Measures on the sample and LFW, prints and stores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galleries", type=pathlib.Path, default=GALLERIES, help="where they are, or are built")
    args = parser.parse_args(argv)
    sets = {
        "sample": sample_folder(default_cache(), "train"),
        "lfw-dev": photos.SOURCES / "lfw" / "dev",
        "lfw-train": photos.SOURCES / "lfw" / "train",
    }
    results = {}
    for name, source in sets.items():
        vectors, people = vectors_of(args.galleries, name, source)
        alone = int((np.bincount(people) == 1).sum())
        size = {"faces": len(people), "people": int(people.max()) + 1, "people_with_one_face": alone}
        untouched = audit.summarise(
            [f"{number:08d}" for number in range(len(people))], *([f"{each:08d}" for each in people],) * 2, vectors
        )
        judged = audit.judge(untouched)
        own = [
            Figure("faces in doubt", len(judged.doubts) / len(people), percent),
            Figure("pairs of people too close to tell apart", len(judged.pairs), "{:.0f}".format),
        ]
        report.show(f"{name}, {len(people)} faces of {size['people']} people, {alone} of them with one: as it is", own)
        results[name] = {**size, "as_it_is": report.as_json(own)}
        for way in ("permuted", "strangers"):
            figures = measure(vectors, people, way)
            report.show(f"{name}, {SHARE:.0%} {way}, {SHUFFLES} shuffles", figures)
            results[name][way] = report.as_json(figures)
    report.store("audit", {"share": SHARE, "shuffles": SHUFFLES, **results})


if __name__ == "__main__":
    main()
