"""What training with the triplet loss gives, by `celebface train` on LFW's train part, measured on its dev part.

    scratch       a small network with random weights
    fine_tuning   the pre-trained FaceNet, several seeds: validation people, first weights and batches differ
    labels        a tenth of the labels wrong: what the audit of build-gallery finds before anything is trained, and
                  what training makes of the wrong, the audited and the right labels

Nothing is chosen by the dev part: weights are kept, and the threshold of pairs set, by people set aside from the train
part. Runs that are there, in build/bench/siamese, are not made again.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks import audit, photos, report
from benchmarks.report import Figure, Target
from celebface.indexing import publish
from celebface.indexing.cache import default_cache
from celebface.models.weights import encoder_folder
from celebface.pipelines.report import shards

FOLDER = photos.ROOT / "build" / "bench" / "siamese"
LFW = photos.SOURCES / "lfw"
SEEDS = range(5)
WRONG = 0.1  # share of the labels

_SCRATCH_TARGET = Target(0.80, at_least=True)
_MOST_MINUTES = Target(60, at_least=False)
_NO_WORSE = Target(0.0, at_least=True)


def run(*arguments: object) -> None:
    """Runs a command of celebface in a process of its own.

    Raises:
      SystemExit: If it fails.
    """
    command = [sys.executable, "-m", "celebface.pipelines.cli", *map(str, arguments)]
    print("celebface", *map(str, arguments), flush=True)
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"celebface {arguments[0]} failed")


def train(name: str, *flags: object) -> dict[str, Any]:
    """Trains, if that was not done, and returns train.json; dev is its test."""
    run("train", f"--output={FOLDER / name}", f"--test_images={LFW / 'dev'}", *flags)
    return json.loads((FOLDER / name / "train.json").read_text())


def on_pairs(name: str, encoder: pathlib.Path) -> dict[str, float]:
    """What `celebface evaluate` says of an encoder on the pairs of dev."""
    place = FOLDER / f"{name}.json"
    run("evaluate", f"--images={LFW / 'dev'}", f"--pairs={LFW / 'pairs_dev.txt'}", f"--encoder={encoder}",
        f"--json={place}")  # fmt: skip
    found = json.loads(place.read_text())
    rates = {f"pairs, {_val(rate)}": rate["true_match_rate"] for rate in found["rates"]}
    return {
        "pairs, accuracy at the card's tau": found["accuracy_at_tau"],
        "pairs, accuracy in ten folds": found["accuracy_mean"],
        **rates,
        "rank-1, one enrolled": found["rank_one"],
    }


def on_faces(measured: Mapping[str, Any]) -> dict[str, float]:
    """What train.json says of all pairs of dev's faces."""
    return {
        **{f"all pairs, {_val(rate)}": rate["true_match_rate"] for rate in measured["rates"]},
        "all pairs, EER": measured["eer"],
    }


def _val(rate: Mapping[str, float]) -> str:
    return f"VAL at FAR {rate['false_match_rate']:g}"


def scratch() -> dict[str, Any]:
    """Trains the small network."""
    story = train("scratch", f"--images={LFW / 'train'}", "--init=scratch")
    found = on_pairs("scratch", FOLDER / "scratch") | on_faces(story["results"]["test"]["after"])
    before = story["results"]["test"]["before"]
    figures = [
        Figure("pairs, accuracy at the card's tau", found["pairs, accuracy at the card's tau"], "{:.4f}".format,
               _SCRATCH_TARGET),
        Figure("all pairs, accuracy untrained", before["accuracy"], "{:.4f}".format),
        Figure("all pairs, accuracy", story["results"]["test"]["after"]["accuracy"], "{:.4f}".format),
        *(Figure(name, value, "{:.4f}".format) for name, value in list(found.items())[1:]),
        Figure("minutes", story["seconds"] / 60, "{:.1f}".format, _MOST_MINUTES),
    ]  # fmt: skip
    report.show("a small network from scratch, on dev", figures)
    return {"figures": report.as_json(figures), "evaluations": story["evaluations"]}


def fine_tuning(layers: Sequence[str]) -> dict[str, Any]:
    """Trains the pre-trained encoder, for each seed, and compares with it as it was."""
    start = on_pairs("pretrained", encoder_folder(default_cache()))
    results: dict[str, Any] = {}
    for kind in layers:
        runs = []
        for seed in SEEDS:
            name = f"{kind}-{seed}"
            story = train(name, f"--images={LFW / 'train'}", f"--layers={kind}", f"--seed={seed}")
            before = start | on_faces(story["results"]["test"]["before"])
            runs.append((before, on_pairs(name, FOLDER / name) | on_faces(story["results"]["test"]["after"])))
        figures = []
        for name, value in runs[0][0].items():
            after = np.array([found[name] for _, found in runs])
            figures.append(Figure(f"{name}, before", value, "{:.4f}".format))
            spread = "{:.4f}" + f" +- {after.std():.4f}"
            figures.append(Figure("  after, mean and spread", float(after.mean()), spread.format))
            if "accuracy" not in name and "EER" not in name:
                figures.append(Figure("  gained", float(after.mean() - value), "{:+.4f}".format, _NO_WORSE))
        report.show(f"{kind} of the pre-trained encoder, {len(SEEDS)} seeds, on dev", figures)
        results[kind] = {"figures": report.as_json(figures), "after": [found for _, found in runs]}
    return results


def mislabel(source: pathlib.Path, target: pathlib.Path) -> set[str]:
    """Copies people's photos with some under another's name.

    Returns:
      The names of the photos that are.
    """
    shutil.rmtree(target, ignore_errors=True)
    paths = sorted(source.glob("*/*.jpg"))
    names, people = np.unique([path.parent.name for path in paths], return_inverse=True)
    labels = audit.shuffled(people, "permuted", seed=0, share=WRONG)
    for path, label in zip(paths, labels, strict=True):
        (target / names[label]).mkdir(parents=True, exist_ok=True)
        (target / names[label] / path.name).symlink_to(path)
    return {path.name for path, wrong in zip(paths, labels != people, strict=True) if wrong}


def wrong_labels(layers: Sequence[str]) -> dict[str, Any]:
    """Audits a gallery of wrong labels, and trains on them, on what the audit leaves, and on the right ones."""
    wrong = mislabel(LFW / "train", FOLDER / "mislabelled")
    shutil.rmtree(FOLDER / "galleries", ignore_errors=True)
    run("build-gallery", f"--source={FOLDER / 'mislabelled'}", f"--output_root={FOLDER / 'galleries'}", "--name=noisy",
        "--audit=quarantine")  # fmt: skip
    gallery = str(FOLDER / "galleries" / "noisy")
    version = publish.find_version(gallery)
    put_aside = {
        pathlib.Path(uri).name
        for shard in shards(version, "quarantined")
        for uri in pq.read_table(shard, columns=["uri"])["uri"].to_pylist()
    }
    right = len(list((FOLDER / "mislabelled").glob("*/*"))) - len(wrong)
    figures = [
        Figure(
            "wrong labels found by the audit", len(wrong & put_aside) / len(wrong), report.percent, Target(0.5, True)
        ),
        Figure("right labels taken for wrong", len(put_aside - wrong) / right, report.percent),
    ]
    for kind in layers:
        for labels, flags in (
            ("wrong", (f"--images={FOLDER / 'mislabelled'}",)),
            ("audited", (f"--gallery={gallery}",)),
            ("right", (f"--images={LFW / 'train'}",)),
        ):
            story = train(f"labels-{kind}-{labels}", f"--layers={kind}", *flags)
            after = story["results"]["test"]["after"]
            for name, value in on_faces(after).items():
                figures.append(Figure(f"{kind} trained on {labels} labels: {name}", value, "{:.4f}".format))
    report.show("a tenth of the labels wrong", figures)
    return {"figures": report.as_json(figures)}


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, prints the figures and stores them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["scratch", "fine_tuning", "labels"], help="of them")
    parser.add_argument("--layers", nargs="+", default=["offset"], help="of the pre-trained encoder that are trained")
    args = parser.parse_args(argv)
    FOLDER.mkdir(parents=True, exist_ok=True)
    parts = {
        "scratch": scratch,
        "fine_tuning": lambda: fine_tuning(args.layers),
        "labels": lambda: wrong_labels(args.layers),
    }
    for part in args.parts:
        report.store(f"siamese_{part}", parts[part]())


if __name__ == "__main__":
    main()
