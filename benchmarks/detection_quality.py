"""Our detector beside the `mtcnn` package, which looks at every photo in its full size.

Ours is asked as the face reader asks it: photos are opened and decoded, perhaps at a reduced scale, and detected in
batches. The package gets all pixels, one photo at a time. Its answers are kept under build/bench, by the photo's bytes.

Counted are faces of at least 40 pixels and 3 % of the photo's longer side, by the shorter side of their boxes:

found: of the package's faces, the share for which ours has a box with an IoU of 0.7 or more.
extra: boxes of ours that go with no box of the package, whatever its size, as a share of the package's faces.
landmarks: distances between the five points of faces found, as shares of the distance of the package's eyes.

The package rounds what it prints to whole pixels, which is some per cent of the distance of the eyes of a small face,
so it is asked for the numbers before that. To suppress overlapping boxes it makes matrices of all by all: 17 GB and
more for some photos of 24 megapixels. Here it gets another suppression, with the same answer by the same arithmetic,
that holds 128 boxes at a time against the others; on some photos of LFW it is checked that nothing changes.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import pathlib
import unittest.mock
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks import report
from benchmarks.environments import FOLDER
from benchmarks.photos import photo_set
from benchmarks.report import Figure, Target
from celebface.models.face_reader import FaceReader
from celebface.models.faces import PhotoFault, ReaderConfig
from celebface.models.mtcnn import Detections
from celebface.models.precision import PRECISIONS

SETS = ("lfw", "large")
ALL = "all"

FOUND = Target(0.995, at_least=True)
EXTRA = Target(0.005, at_least=False)
LANDMARKS = Target(0.03, at_least=False)

_LEAST_PIXELS, _LEAST_SHARE = 40, 0.03
_LEAST_IOU = 0.7
_CHECKED = 24  # photos on which the replaced suppression is held against the package's own
_AT_A_TIME = 128  # boxes that are held against all that are better
_SHOWN = 50  # of the faces that differ, how many are stored
_SUPPRESSION = "smart_nms_from_bboxes"


# --- metrics ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Faces:
    """Faces of one photo.

    Attributes:
      boxes: float [N, 4], corners x0, y0, x1, y1 in pixels.
      landmarks: float [N, 5, 2], the two eyes first.
    """

    boxes: np.ndarray
    landmarks: np.ndarray

    def counted(self, longer_side: int) -> np.ndarray:
        """Which of them are large enough to count, bool [N]."""
        sides = (self.boxes[:, 2:] - self.boxes[:, :2]).min(axis=1)
        return sides >= max(_LEAST_PIXELS, _LEAST_SHARE * longer_side)


@dataclasses.dataclass
class Tally:
    """What a comparison counted.

    Attributes:
      photos: Photos compared.
      wanted: The package's faces that count.
      found: Those that we found.
      extra: Ours that count and go with none of the package's.
      errors: For each face found the errors of its five points, as shares of the distance of the eyes.
      differing: What is not found and what is extra, in words.
    """

    photos: int = 0
    wanted: int = 0
    found: int = 0
    extra: int = 0
    errors: list[np.ndarray] = dataclasses.field(default_factory=list)
    differing: list[str] = dataclasses.field(default_factory=list)

    def __add__(self, other: "Tally") -> "Tally":
        mine, theirs = vars(self), vars(other)
        return Tally(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def found_share(self) -> float:
        """Of the package's faces."""
        return self.found / max(1, self.wanted)

    @property
    def extra_share(self) -> float:
        """Against the package's faces."""
        return self.extra / max(1, self.wanted)

    def error(self, percentile: float) -> float:
        """A percentile of the errors of all points."""
        return float(np.percentile(np.concatenate(self.errors), percentile)) if self.errors else 0.0


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of each box with each of the others.

    Args:
      boxes: float [N, 4], corners.
      others: float [M, 4], corners.

    Returns:
      float [N, M].
    """
    upper = np.maximum(boxes[:, None, :2], others[None, :, :2])
    lower = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.maximum(lower - upper, 0).prod(axis=-1)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=-1) for each in (boxes, others)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def pairs(boxes: np.ndarray, others: np.ndarray) -> dict[int, int]:
    """Which box goes with which of the others: those that overlap most first, each once, at an IoU of 0.7 or more."""
    alike = overlaps(boxes, others)
    found: dict[int, int] = {}
    for row, column in sorted(np.argwhere(alike >= _LEAST_IOU).tolist(), key=lambda pair: -alike[pair[0], pair[1]]):
        if row not in found and column not in found.values():
            found[row] = column
    return found


def compare(theirs: Faces, ours: Faces, longer_side: int, name: str) -> Tally:
    """Compares the faces of one photo.

    Args:
      theirs: The package's.
      ours: Ours.
      longer_side: Of the photo, in pixels.
      name: Of the photo.
    """
    wanted, mine = theirs.counted(longer_side), ours.counted(longer_side)
    partners = pairs(theirs.boxes, ours.boxes)
    tally = Tally(photos=1, wanted=int(wanted.sum()))
    for face in np.flatnonzero(wanted).tolist():
        if face not in partners:
            tally.differing.append(f"{name}: not found: {_corners(theirs.boxes[face])}")
            continue
        tally.found += 1
        points = theirs.landmarks[face]
        distances = np.linalg.norm(ours.landmarks[partners[face]] - points, axis=-1)
        tally.errors.append(distances / np.linalg.norm(points[0] - points[1]))
    for face in np.flatnonzero(mine).tolist():
        if face not in partners.values():
            tally.extra += 1
            tally.differing.append(f"{name}: extra: {_corners(ours.boxes[face])}")
    return tally


def _corners(box: np.ndarray) -> str:
    return " ".join(f"{corner:.0f}" for corner in box)


# --- the package ------------------------------------------------------------------------------------------------------


class Package:
    """The `mtcnn` package."""

    def __init__(self):
        from mtcnn import MTCNN  # here, as it loads Keras, and its answers may all be kept already
        from mtcnn.stages import stage_onet, stage_pnet, stage_rnet

        self._detector = MTCNN()
        self._stages = stage_pnet, stage_rnet, stage_onet

    def detect(self, pixels: np.ndarray, own_suppression: bool = False) -> np.ndarray:
        """Detects faces.

        Args:
          pixels: uint8 [H, W, 3], RGB.
          own_suppression: Use the package's own suppression, which needs memory for all boxes squared.

        Returns:
          float [N, 16]: photo, x0, y0, x1, y1, score, the points' five x, the points' five y.
        """
        with contextlib.ExitStack() as replaced:
            for stage in () if own_suppression else self._stages:
                replaced.enter_context(unittest.mock.patch.object(stage, _SUPPRESSION, suppress))
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(self._detector.detect_faces(pixels, output_type="numpy", box_format="xyxy"))


def suppress(
    bboxes: np.ndarray,
    threshold: float,
    column_image_id: int = 0,
    columns_bbox: slice = slice(1, 5),
    column_confidence: int = 5,
    method: str = "union",
    initial_sort: bool = True,
) -> np.ndarray:
    """What the package's function of this signature gives for boxes of one photo, in bounded memory.

    A box goes if any better one overlaps it, kept or not.
    """
    if initial_sort:
        bboxes = bboxes[np.argsort(bboxes[:, column_confidence])[::-1]]
    if len(np.unique(bboxes[:, column_image_id])) > 1:
        raise ValueError("boxes of one photo at a time")
    boxes = bboxes[:, columns_bbox]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    stays = np.ones(len(boxes), bool)
    for start in range(0, len(boxes), _AT_A_TIME):
        end = min(len(boxes), start + _AT_A_TIME)
        these, better = boxes[start:end, None], boxes[None, :end]
        down = np.maximum(0, np.minimum(these[..., 2], better[..., 2]) - np.maximum(these[..., 0], better[..., 0]))
        across = np.maximum(0, np.minimum(these[..., 3], better[..., 3]) - np.maximum(these[..., 1], better[..., 1]))
        shared = down * across
        if method == "union":
            whole = area[start:end, None] + area[None, :end] - shared
        else:
            whole = np.minimum(area[start:end, None], area[None, :end])
        before = np.arange(end)[None] < np.arange(start, end)[:, None]
        stays[start:end] = ~(before & (shared / whole > threshold)).any(axis=1)
    return bboxes[stays]


def check_suppression(package: Package, photos: Sequence[pathlib.Path]) -> None:
    """Checks that the replaced suppression changes nothing.

    Raises:
      RuntimeError: If it does.
    """
    for photo in photos:
        pixels = all_pixels(photo)
        if not np.array_equal(package.detect(pixels), package.detect(pixels, own_suppression=True)):
            raise RuntimeError(f"with the replaced suppression the mtcnn package has other faces of {photo}")


def all_pixels(photo: pathlib.Path) -> np.ndarray:
    """A photo in its full size, upright, uint8 [H, W, 3]."""
    with Image.open(photo) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


class Reference:
    """The package's faces of photos, kept from run to run."""

    def __init__(self, photos_to_check: Sequence[pathlib.Path]):
        """Nothing is loaded before a photo is asked for whose faces are not kept.

        Args:
          photos_to_check: Photos for `check_suppression`.
        """
        self._folder = FOLDER / f"mtcnn-{importlib.metadata.version('mtcnn')}"
        self._to_check = photos_to_check
        self._package: Package | None = None

    def faces(self, photo: pathlib.Path) -> tuple[Faces, int]:
        """The package's faces of a photo, and the photo's longer side."""
        kept = self._folder / f"{hashlib.sha256(photo.read_bytes()).hexdigest()}.npz"
        if not kept.exists():
            self._keep(photo, kept)
        with np.load(kept, allow_pickle=False) as arrays:
            rows, longer_side = arrays["rows"], int(arrays["shape"].max())
        return Faces(rows[:, 1:5], np.stack([rows[:, 6:11], rows[:, 11:16]], axis=-1)), longer_side

    def _keep(self, photo: pathlib.Path, kept: pathlib.Path) -> None:
        if self._package is None:
            self._package = Package()
            check_suppression(self._package, self._to_check)
        pixels = all_pixels(photo)
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(".part.npz")
        np.savez(unfinished, rows=self._package.detect(pixels), shape=np.array(pixels.shape[:2]))
        unfinished.replace(kept)


# --- ours -------------------------------------------------------------------------------------------------------------


def detect(reader: FaceReader, photos: Sequence[pathlib.Path]) -> Iterator[Detections]:
    """What the face reader's detector finds, photo by photo, before it is rounded and gated.

    Raises:
      PhotoFault: If a photo cannot be decoded.
    """
    left = enumerate(photo.read_bytes() for photo in photos)
    while opened := reader._decode(left, {}):
        pictures = []
        for photo in opened.values():
            if isinstance(photo, PhotoFault):
                raise photo
            pictures.append(photo.picture)
        yield from reader._detector.detect(pictures)


def measure(photos: Sequence[pathlib.Path], reader: FaceReader, reference: Reference) -> Tally:
    """Compares the two on all photos of a set."""
    tally = Tally()
    for photo, ours in zip(photos, detect(reader, photos), strict=True):
        theirs, longer_side = reference.faces(photo)
        tally += compare(theirs, Faces(ours.boxes, ours.landmarks), longer_side, photo.name)
    return tally


def _share(value: float) -> str:
    return f"{value:.2%}"


def figures(tally: Tally) -> list[Figure]:
    """What is asked of a comparison, beside its targets."""
    return [
        Figure("faces found", tally.found_share, _share, FOUND),
        Figure("extra faces", tally.extra_share, _share, EXTRA),
        Figure("landmarks, 95th percentile", tally.error(95), _share, LANDMARKS),
        Figure("landmarks, median", tally.error(50), _share),
    ]


def summary(tally: Tally) -> dict[str, Any]:
    """What is stored of a comparison."""
    return {
        "photos": tally.photos,
        "faces": tally.wanted,
        "found": tally.found,
        "found_share": tally.found_share,
        "extra": tally.extra,
        "extra_share": tally.extra_share,
        "landmark_error_p95": tally.error(95),
        "landmark_error_median": tally.error(50),
        "met": all(figure.target.holds(figure.value) for figure in figures(tally) if figure.target),
        "differing": tally.differing[:_SHOWN],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Compares our detector with the package, prints the figures and stores them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS), help="photo sets; of a part nothing is stored (%(default)s)")
    parser.add_argument("--precision", default=",".join(PRECISIONS), help="of our detector (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="use no more than so many photos of each set, and store nothing")
    args = parser.parse_args(argv)
    sets, precisions = args.sets.split(","), args.precision.split(",")
    for given, known in ((sets, SETS), (precisions, PRECISIONS)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"there is no {unknown[0]!r}, only {', '.join(known)}")
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    reference = Reference(photo_set("lfw")[:: len(photo_set("lfw")) // _CHECKED])
    results: dict[str, dict[str, Any]] = {}
    for precision in precisions:
        reader = FaceReader(ReaderConfig(), precision)
        tallies = {name: measure(photo_set(name)[: args.limit], reader, reference) for name in sets}
        if len(sets) > 1:
            tallies[ALL] = sum(tallies.values(), Tally())
        for name, tally in tallies.items():
            title = f"{name}, {precision}: {tally.photos} photos, {tally.wanted} faces of the mtcnn package"
            report.show(title, figures(tally))
            for line in tally.differing if name != ALL else ():
                print(line)
        results[precision] = {name: summary(tally) for name, tally in tallies.items()}
    if not args.limit and set(sets) == set(SETS) and set(precisions) == set(PRECISIONS):
        targets = {"found_share": FOUND.limit, "extra_share": EXTRA.limit, "landmark_error_p95": LANDMARKS.limit}
        report.store("detection_quality", {"precisions": results, "targets": targets})


if __name__ == "__main__":
    main()
