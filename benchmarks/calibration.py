"""Whether thresholds keep what they state: LFW's train part as a gallery, its dev part as strangers.

One photo of each person of the gallery who has several is held back and searched for. Gallery and matches are made by
the commands; verdicts at the rate asked for are those of `celebface match --far`. Strangers are people: of each one
photo counts, the first by name; all photos are counted beside.
"""

import argparse
import dataclasses
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

from benchmarks import report
from benchmarks.photos import SOURCES
from celebface.indexing.calibration import FALSE_MATCH_RATES, Verdict, verdict
from celebface.indexing.gallery import Gallery
from celebface.indexing.rates import wilson
from celebface.pipelines import cli

_FAR = 0.01


@dataclasses.dataclass(frozen=True)
class Answer:
    """Whom a face was taken for.

    Attributes:
      photo: Its photo.
      person: Who is on it.
      nearest: The nearest person.
      distance: D to them.
      margin: How much farther the second is.
      verdict: As `match` gave it.
    """

    photo: str
    person: str
    nearest: str
    distance: float
    margin: float
    verdict: str

    def matched(self, tau: float) -> bool:
        """Whether it gets `match` at another threshold."""
        return verdict(self.distance, self.margin, tau) is Verdict.MATCH


def hold_back(people: pathlib.Path, enrolled: pathlib.Path, held: pathlib.Path) -> None:
    """Copies photos to two folders: the last of each person who has several to `held`, all others to `enrolled`."""
    for person in sorted(people.iterdir()):
        photos = sorted(person.glob("*.jpg"))
        for photo in photos:
            folder = (held if photo == photos[-1] and len(photos) > 1 else enrolled) / person.name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(photo, folder / photo.name)


def match(gallery: str, photos: pathlib.Path, output: pathlib.Path) -> list[Answer]:
    """Runs the command and reads the nearest person of each photo, by the photos' names."""
    _run("match", str(photos), f"--gallery={gallery}", f"--far={_FAR}", f"--output={output}", "--one_face", "--top_k=1")
    rows = [row for path in output.glob("matches-*.parquet") for row in pq.read_table(path).to_pylist()]
    answers = [
        Answer(
            row["photo_uri"], pathlib.Path(row["photo_uri"]).parent.name, row["identity"], row["distance"],
            row["margin"], row["verdict"],
        )
        for row in rows
    ]  # fmt: skip
    return sorted(answers, key=lambda answer: answer.photo)


def first_of_each(answers: Sequence[Answer]) -> list[Answer]:
    """One answer a person, that of their first photo."""
    return list({answer.person: answer for answer in reversed(answers)}.values())


def share(found: int, trials: int) -> dict[str, Any]:
    """A share, its 95 % interval, and what it is of."""
    return {"share": found / trials, "interval": wilson(found, trials), "found": found, "of": trials}


def _run(*arguments: str) -> None:
    if cli.main(arguments):
        raise RuntimeError(f"celebface {arguments[0]} failed")


def main(argv: Sequence[str] | None = None) -> None:
    """Builds, matches, prints the figures and stores them."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        place = pathlib.Path(scratch)
        hold_back(SOURCES / "lfw" / "train", place / "enrolled", place / "held")
        _run("build-gallery", f"--source={place / 'enrolled'}", f"--output_root={place}", "--name=lfw")
        strangers = match(str(place / "lfw"), SOURCES / "lfw" / "dev", place / "strangers")
        known = match(str(place / "lfw"), place / "held", place / "known")
        calibration = Gallery.open(str(place / "lfw")).calibration
    people = first_of_each(strangers)
    point = calibration.at(_FAR)
    matched = [answer for answer in people if answer.verdict == Verdict.MATCH]
    by_person = share(len(matched), len(people))
    by_photo = share(sum(answer.verdict == Verdict.MATCH for answer in strangers), len(strangers))
    rank_one = share(sum(answer.nearest == answer.person for answer in known), len(known))
    right = [answer for answer in known if answer.nearest == answer.person and answer.verdict == Verdict.MATCH]
    true_match = share(len(right), len(known))
    wrong = sum(answer.nearest != answer.person and answer.verdict == Verdict.MATCH for answer in known)
    figures = [
        report.Figure("tau", point.tau, "{:.4f}".format),
        report.Figure(
            "strangers given match, by person", by_person["share"], "{:.2%}".format,
            report.Target(point.interval[1], at_least=False),
        ),
        report.Figure(
            "strangers given match, by photo", by_photo["share"], "{:.2%}".format,
            report.Target(point.interval[1], at_least=False),
        ),
        report.Figure("known people at rank 1", rank_one["share"], "{:.2%}".format),
        report.Figure("known people given match with their name", true_match["share"], "{:.2%}".format),
    ]  # fmt: skip
    low, high = point.interval
    report.show(f"LFW train, {calibration.people} people, --far {_FAR}: {low:.2%} to {high:.2%} are stated", figures)
    other = {}
    for rate in FALSE_MATCH_RATES:
        stated = calibration.at(rate)
        seen = share(sum(answer.matched(stated.tau) for answer in people), len(people))
        other[f"{rate:g}"] = {**dataclasses.asdict(stated), "seen": seen}
        print(f"at {rate:g} ({stated.method}): tau {stated.tau:.4f}, strangers given match {seen['share']:.2%}")
    for answer in matched:
        print(f"taken for {answer.nearest}: {answer.person}, D {answer.distance:.3f}, margin {answer.margin:.3f}")
    results = {
        "gallery": {"people": calibration.people, "stated": dataclasses.asdict(point)},
        "strangers_by_person": by_person,
        "strangers_by_photo": by_photo,
        "within_stated_interval": all(low <= each["share"] <= high for each in (by_person, by_photo)),
        "rank_one": rank_one,
        "true_match": true_match,
        "known_given_another_name": wrong,
        "by_rate": other,
    }
    report.store("calibration", results)


if __name__ == "__main__":
    main()
