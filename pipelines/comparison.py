"""One comparison of two photos: the faces that are meant, how far apart they are, and what a threshold stands for."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from celebface.indexing.calibration import (
    DEFAULT_FALSE_MATCH_RATE,
    LFW_CURVE,
    ONE_COMPARISON,
    Calibration,
    Curve,
    Trials,
    Unstated,
)
from celebface.indexing.manifest import BadBundle
from celebface.indexing.rates import Tail
from celebface.models.encoder_card import EncoderCard
from celebface.models.faces import PhotoFaces, PhotoFault
from celebface.pipelines.embedder import EmbeddedFaces
from celebface.pipelines.photo_bytes import shown

_SAME_TAU = 5e-5  # thresholds are stated to four digits


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A threshold on D, and what is stated of it.

    Attributes:
      tau: D of one person is at most this.
      false_match_rate: Share of those who should not pass that do; None if it is not stated.
      interval: Its 95 % interval, 0 to 1 if nobody was there to count; None of the encoder card's rates.
      method: "measured", "interpolated" or "extrapolated"; empty if no rate is stated.
      stated: All that in words.
    """

    tau: float
    false_match_rate: float | None
    interval: tuple[float, float] | None
    method: str
    stated: str

    @staticmethod
    def of(calibration: Calibration, of_what: str, tau: float | None = None, far: float | None = None) -> "Threshold":
        """What a calibration states.

        Args:
          calibration: Whose.
          of_what: What its rates are of, in words.
          tau: The threshold, if it is given.
          far: The rate that one is wanted for; None for the usual one.

        Raises:
          Unstated: If none is stated for the rate.
        """
        if tau is None:
            point = calibration.at(DEFAULT_FALSE_MATCH_RATE if far is None else far)
        else:
            try:
                point = calibration.at_tau(tau)
            except Unstated as why:
                return Threshold(tau, None, None, "", f"{why}, {of_what}")
        return Threshold(point.tau, point.false_match_rate, point.interval, point.method, f"{point.stated}, {of_what}")

    def as_json(self) -> dict[str, Any]:
        """Its fields of a JSON object."""
        return {
            "tau": self.tau,
            "false_match_rate": self.false_match_rate,
            "false_match_interval": self.interval,
            "method": self.method,
            "stated": self.stated,
        }


def by_card(card: EncoderCard, tau: float | None = None, far: float | None = None) -> Threshold:
    """A threshold for one comparison, by what the encoder's card states of pairs of photos (1:1).

    Between the card's points, and beyond them down to 0.1 % and up to 10 %, the rate is that of a normal distribution
    through the smallest and the largest of them; see `rates.Tail`.

    Args:
      card: The encoder's.
      tau: The threshold; None for that of the best accuracy, the one that `celebface evaluate` judges by.
      far: The false match rate, in place of a threshold.

    Raises:
      Unstated: If the card does not state what is asked for.
    """
    points: list[Mapping[str, float]] = [dataclasses.asdict(point) for point in card.operating_points]
    tail = Tail.through(points, card.evidence)
    known = Calibration(ONE_COMPARISON, card.encoder_id, 1, 1.0, Trials(0), Trials(0), 0, tail)
    of_what = "in one comparison"
    if tau is None and far is None:
        tau = card.best_tau
        if tau is None:
            raise Unstated("the encoder's card states no threshold; give one with --tau")
    found = Threshold.of(known, of_what, tau, far)
    if found.false_match_rate is None:
        return found
    taus = sorted(each["tau"] for each in points)
    method = "interpolated" if taus[0] < found.tau < taus[-1] else "extrapolated"
    if any(abs(each - found.tau) < _SAME_TAU for each in taus):
        method = "measured"
    stated = f"false match rate {100 * found.false_match_rate:g} %, {of_what} ({method}; {card.evidence})"
    return Threshold(found.tau, found.false_match_rate, None, method, stated)


def by_calibration(
    calibration: Calibration, encoder_id: str, tau: float | None = None, far: float | None = None
) -> Threshold:
    """A threshold for one comparison, by labelled pairs of one's own; see `celebface calibrate --pairs`.

    Raises:
      BadBundle: If the calibration is a gallery's, or another encoder's.
      Unstated: If it does not state what is asked for.
    """
    if calibration.subject != ONE_COMPARISON:
        raise BadBundle("the calibration is a gallery's; celebface calibrate --images --pairs makes one of pairs")
    if calibration.encoder_id != encoder_id:
        raise BadBundle(f"the calibration is of encoder {calibration.encoder_id}, the one used is {encoder_id}")
    of_what = f"in one comparison ({calibration.strangers.count} pairs of two people)"
    return Threshold.of(calibration, of_what, tau, far)


@dataclasses.dataclass(frozen=True, eq=False)
class MainFace:
    """The face of a photo that is meant: the largest, most central one.

    Attributes:
      place: Where the photo is, as the system knows it.
      found: What was read from it; the first face is the one.
      vector: float32 [d], of length 1.
    """

    place: str
    found: PhotoFaces
    vector: np.ndarray

    @staticmethod
    def of(place: str, embedded: EmbeddedFaces | PhotoFault) -> "MainFace":
        """Takes it of a photo that was read with `ReaderConfig.one_face`.

        Raises:
          PhotoFault: If there is none.
        """
        if isinstance(embedded, PhotoFault):
            raise embedded
        return MainFace(place, embedded.found, embedded.vectors[0])

    @property
    def photo(self) -> str:
        """The photo's place as text."""
        return shown(self.place)

    @property
    def box(self) -> list[int]:
        """Corners x0, y0, x1, y1 in pixels of the upright photo."""
        return self.found.faces[0].box.tolist()

    @property
    def remark(self) -> str:
        """What is to be said of the other faces; empty if there are none."""
        if self.found.faces_found < 2:
            return ""
        return f"{self.photo} shows {self.found.faces_found} faces; the largest, most central one counts"

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "photo": self.photo,
            "width": self.found.width,
            "height": self.found.height,
            "box": self.box,
            "confidence": self.found.faces[0].confidence,
            "faces_found": self.found.faces_found,
        }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a comparison of two faces says.

    Attributes:
      distance: D, squared L2 of the unit vectors, 0..4.
      similarity: In per cent; see `calibration.Curve`.
      same: Whether D is within the threshold.
      threshold: What it was judged by.
    """

    distance: float
    similarity: float
    same: bool
    threshold: Threshold


def compare(first: np.ndarray, second: np.ndarray, threshold: Threshold, curve: Curve = LFW_CURVE) -> Comparison:
    """Judges whether two vectors are one person's.

    Args:
      first: float32 [d], of length 1.
      second: The same, of the same encoder.
      threshold: To judge by.
      curve: How alike a distance is.
    """
    distance = float(np.square(first - second).sum())
    return Comparison(distance, curve.percent(distance), distance <= threshold.tau, threshold)
