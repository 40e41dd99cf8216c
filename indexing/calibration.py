"""From distances to verdicts: thresholds for stated false match rates, with the evidence for them."""

import dataclasses
import enum
import json
from collections.abc import Mapping, Sequence

from celebface.indexing.manifest import BadBundle

NAME = "index/calibration.json"
DEFAULT_FALSE_MATCH_RATE = 1e-3

# Two people whose distances differ by less cannot be told apart. On LFW (one enrolled photo for each of 2,086 people,
# 3,287 probes) 61 % of the wrong nearest people within tau 1.02 have a smaller margin, and 3 % of the right ones.
AMBIGUOUS_MARGIN = 0.1


class Verdict(enum.StrEnum):
    """What a distance says about the nearest person."""

    MATCH = "match"  # D <= tau: taken for the same person
    AMBIGUOUS = "ambiguous"  # D <= tau, but another person is as near
    LOOKALIKE = "lookalike"  # D > tau: resembles


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Contents of calibration.json.

    Attributes:
      tau: Threshold on D for the default false match rate; None if no rate is known for the encoder.
      false_match_rate: That rate, of pairs of different people.
      operating_points: All known thresholds: tau, false_match_rate, true_match_rate.
      evidence: What they were measured on.
    """

    tau: float | None
    false_match_rate: float | None
    operating_points: Sequence[Mapping[str, float]]
    evidence: str

    @staticmethod
    def of_encoder(operating_points: Sequence[Mapping[str, float]], evidence: str) -> "Calibration":
        """Takes over the operating points of an encoder's card."""
        rates = {point["false_match_rate"]: point["tau"] for point in operating_points}
        tau = rates.get(DEFAULT_FALSE_MATCH_RATE)
        return Calibration(tau, DEFAULT_FALSE_MATCH_RATE if tau else None, list(operating_points), evidence)

    def to_json(self) -> bytes:
        """The file's bytes."""
        return (json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n").encode()

    @staticmethod
    def from_json(data: bytes) -> "Calibration":
        """Reads the file.

        Raises:
          BadBundle: If it is not a calibration.
        """
        try:
            return Calibration(**json.loads(data))
        except (ValueError, TypeError, RecursionError) as error:
            raise BadBundle(f"the gallery's calibration cannot be read: {error}") from error


def verdict(distance: float, margin: float | None, tau: float) -> Verdict:
    """Judges the nearest person.

    Args:
      distance: D to the nearest person.
      margin: How much farther the second person is; None if there is none.
      tau: Threshold on D.
    """
    if distance > tau:
        return Verdict.LOOKALIKE
    if margin is not None and margin < AMBIGUOUS_MARGIN:
        return Verdict.AMBIGUOUS
    return Verdict.MATCH


def similarity(distance: float) -> float:
    """Cosine of the angle between two unit vectors at squared distance D: 1 - D / 2, from -1 to 1."""
    return 1.0 - distance / 2.0
