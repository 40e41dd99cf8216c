"""MTCNN face detection, batched: the networks and weights of the `mtcnn` package, our own cascade around them.

Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", 2016. A proposal
network (P-Net) looks at 12-pixel windows over a pyramid of scaled photos, a refinement network (R-Net, 24 pixels) and
an output network (O-Net, 48 pixels) sift and sharpen what it proposes.

MTCNN's landmarks jitter with where its samples fall: shifting a photo by one pixel moves the package's own by 11 % of
the distance of the eyes (95th percentile, LFW). So samples fall where the package's fall: its pyramid of the whole
photo, less the levels that only show smaller faces than are wanted, and patches from the photo's own pixels.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from celebface.models import mtcnn_networks as networks
from celebface.models.area import average_rows
from celebface.models.boxes import best_first, corrected, squared, survivors
from celebface.models.faces import DetectorConfig
from celebface.models.patches import pixel_words, sample_patches
from celebface.models.precision import check_precision
from celebface.models.quiet_tensorflow import tf

# As the package has them by default; O-Net's threshold is DetectorConfig.min_confidence.
_FIRST_SCALE, _PYRAMID_FACTOR = 0.6, 0.709
_P_THRESHOLD, _R_THRESHOLD = 0.6, 0.7
_NMS_LEVEL, _NMS_PYRAMID, _NMS_REFINE, _NMS_OUTPUT = 0.5, 0.7, 0.7, 0.7

_MOST_LEVELS = 64  # of any pyramid; 0.709 ** 64 is 3e-10
_PATCH_RUNS = (16, 32, 64, 128, 256)  # patches that pass R-Net or O-Net together: few sizes, bounded on a crowd
_PIXELS_PER_RUN = 500_000  # photos that pass P-Net together, by their pixels: 8 of LFW's size; more is not faster
_PIXELS_AT_ONCE = 5_000_000  # larger photos are scaled in two steps


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A photo as the detector wants it.

    Attributes:
      image: RGB, perhaps decoded at a reduced scale.
      width: Pixels across of the photo itself.
      height: Pixels down of the photo itself.
      min_face: Smallest face looked for, in pixels of the photo itself; 20 at least.
    """

    image: Image.Image
    width: int
    height: int
    min_face: float

    @property
    def pixels(self) -> int:
        """Pixels of the image."""
        return self.image.width * self.image.height

    @functools.cached_property
    def words(self) -> np.ndarray:
        """The image's pixels in place: uint32 [H, W], see `patches.pixel_words`."""
        return pixel_words(self.image)

    @functools.cached_property
    def pyramid(self) -> tuple[float, ...]:
        """Scales of the photo at which it passes P-Net: 12-pixel windows show the smallest face, and each larger one.

        They are those of the package's own pyramid, which begins with faces of 20 pixels. None for a photo that is
        narrower than the smallest face; so no level is longer than 12 / 0.709 of the photo by its smallest face.
        """
        if self.min_face > min(self.width, self.height):
            return ()
        levels = (_FIRST_SCALE * _PYRAMID_FACTOR**level for level in range(_MOST_LEVELS))
        seen = [scale for scale in levels if min(self.width, self.height) * scale >= networks.CELL]
        wanted = sum(networks.CELL / scale <= self.min_face for scale in seen)
        return tuple(seen[max(0, wanted - 1) :])


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """The faces of one photo, largest first.

    Attributes:
      boxes: float32 [N, 4], corners x0, y0, x1, y1 in pixels of the photo itself, within its edges.
      confidence: float32 [N], 0..1.
      landmarks: float32 [N, 5, 2], x and y of the eye, eye, nose, mouth corner, mouth corner; the left of each pair
        is the observer's left.
    """

    boxes: np.ndarray
    confidence: np.ndarray
    landmarks: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class _Candidates:
    """Boxes that may be faces, of several pictures.

    Attributes:
      pictures: int [N], ascending: in which picture.
      boxes: float32 [N, 4], corners in pixels of the photo itself.
      scores: float32 [N], probability of a face.
    """

    pictures: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def __getitem__(self, rows: np.ndarray | slice) -> "_Candidates":
        return _Candidates(self.pictures[rows], self.boxes[rows], self.scores[rows])

    def suppressed(self, threshold: float) -> "_Candidates":
        """The best of those that overlap."""
        ordered = self[best_first(self.boxes, self.scores, self.pictures)]
        return ordered[survivors(ordered.boxes, ordered.pictures, threshold)]

    def squared(self) -> "_Candidates":
        return dataclasses.replace(self, boxes=squared(self.boxes))


class FaceDetector:
    """Finds faces in batches of photos of any sizes. Safe to share between threads."""

    def __init__(self, config: DetectorConfig, precision: str = "float32"):
        """Loads the three networks.

        Args:
          config: What counts as a face.
          precision: Of the networks' arithmetic, "float32" or "bfloat16".

        Raises:
          ValueError: If the precision is not known.
          RuntimeError: If the `mtcnn` package is missing or holds other weights than the known ones.
        """
        check_precision(precision)
        self.config = config
        self._dtype = tf.as_dtype(precision)
        self._pnet, rnet, onet = networks.load_weights()
        self._rnet = self._on_patches(networks.rnet, rnet, networks.R_SIDE)
        self._onet = self._on_patches(networks.onet, onet, networks.O_SIDE)
        self._pyramids: dict[tuple[int, tf.DType], tf.types.experimental.GenericFunction] = {}

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Detects the faces of each picture.

        Args:
          pictures: The photos.

        Returns:
          One Detections per picture, in the same order. The result of a picture does not depend on its neighbours.
        """
        if not pictures:
            return []
        return self._output(pictures, self._refine(pictures, self._propose(pictures)))

    def _propose(self, pictures: Sequence[Picture]) -> _Candidates:
        """P-Net over the pyramids."""
        rows = np.concatenate([self._windows(run, pictures) for run in _runs(pictures)])
        level = rows[:, 0].astype(np.int64) * _MOST_LEVELS + rows[:, 6].astype(np.int64)
        rows = rows[order := best_first(rows[:, 1:5], rows[:, 5], level)]
        rows = rows[survivors(rows[:, 1:5], level[order], _NMS_LEVEL)]
        found = _Candidates(rows[:, 0].astype(np.int64), rows[:, 1:5], rows[:, 5])
        return found.suppressed(_NMS_PYRAMID).squared()

    def _windows(self, run: Sequence[int], pictures: Sequence[Picture]) -> np.ndarray:
        """What P-Net takes for faces in pictures of one size.

        Returns:
          float32 [N, 7]: picture, x0, y0, x1, y1 in pixels of the photo itself, score, level.
        """
        first = pictures[run[0]]
        scales = first.pyramid
        if not scales:
            return np.empty((0, 7), np.float32)
        sides = np.array([(int(first.height * scale), int(first.width * scale)) for scale in scales], np.int32)
        if first.pixels > _PIXELS_AT_ONCE:
            averaged = average_rows(first.words, sides[:, 0].tolist())
            sources = [tf.constant(averaged.pop(0)[None]) for _ in scales]  # popped, as each is copied
        else:
            photos = tf.constant(np.stack([np.asarray(pictures[place].image) for place in run]))
            sources = [photos] * len(scales)
        rows = self._pyramid(len(scales), sources[0].dtype)(sources, sides, np.array(scales, np.float32)).numpy()
        rows[:, 0] = np.array(run, np.float32)[rows[:, 0].astype(np.int64)]
        return rows

    def _pyramid(self, levels: int, dtype: tf.DType) -> "tf.types.experimental.GenericFunction":
        """The graph for so many levels and either kind of photos; one serves photos of any size."""
        if (levels, dtype) not in self._pyramids:
            signature = [
                [tf.TensorSpec([None, None, None, 3 if dtype == tf.uint8 else 4], dtype)] * levels,
                tf.TensorSpec([levels, 2], tf.int32),
                tf.TensorSpec([levels], tf.float32),
            ]
            graph = tf.function(self._windows_of_levels, input_signature=signature, autograph=False)
            self._pyramids[levels, dtype] = graph
        return self._pyramids[levels, dtype]

    def _windows_of_levels(self, sources: Sequence[tf.Tensor], sides: tf.Tensor, scales: tf.Tensor) -> tf.Tensor:
        """The graph of P-Net over all levels of a pyramid.

        Args:
          sources: For each level the photos, uint8 [B, H, W, 3], or one photo's rows averaged, float32 [1, h, W, 4].
          sides: int32 [L, 2], height and width of each level.
          scales: float32 [L], its nominal scale.

        Returns:
          float32 [N, 7]: place in the batch, x0, y0, x1, y1 in pixels of the photo itself, score, level.
        """
        found = []
        for level, photos in enumerate(sources):
            scaled = tf.image.resize(photos, sides[level], method=tf.image.ResizeMethod.AREA)
            # In float32 whatever the precision: scores lie close to 1, and in bfloat16 many are the same.
            offsets, probabilities = networks.pnet(scaled[..., :3], self._pnet, tf.float32)
            cells = tf.where(probabilities > _P_THRESHOLD)
            position, score = tf.cast(cells[:, 0], tf.float32), tf.gather_nd(probabilities, cells)
            y, x = (tf.cast(cells[:, axis], tf.float32) * networks.STRIDE + 1 for axis in (1, 2))
            span = float(networks.CELL - 1)
            windows = tf.stack([x, y, x + span, y + span], axis=1) + tf.gather_nd(offsets, cells) * span
            head, tail = position[:, None], tf.stack([score, tf.fill(tf.shape(score), float(level))], axis=1)
            # By the nominal scale, as the package does it, not by the one that whole pixels give: R-Net knows it so.
            found.append(tf.concat([head, windows / scales[level], tail], axis=1))
        return tf.concat(found, axis=0)

    def _refine(self, pictures: Sequence[Picture], found: _Candidates) -> _Candidates:
        """R-Net over what was proposed."""
        offsets, scores = _on_boxes(self._rnet, networks.R_SIDE, pictures, found, widths=(4, 1))
        found = _Candidates(found.pictures, corrected(found.boxes, offsets), scores[:, 0])
        return found[found.scores > _R_THRESHOLD].suppressed(_NMS_REFINE).squared()

    def _output(self, pictures: Sequence[Picture], found: _Candidates) -> list[Detections]:
        """O-Net over what R-Net kept."""
        offsets, points, scores = _on_boxes(self._onet, networks.O_SIDE, pictures, found, widths=(4, 10, 1))
        spans = found.boxes[:, 2:] - found.boxes[:, :2] + 1
        landmarks = points.reshape(-1, 2, 5).transpose(0, 2, 1) * spans[:, None] + found.boxes[:, None, :2] - 1
        faces = _Candidates(found.pictures, corrected(found.boxes, offsets), scores[:, 0])
        sure = np.flatnonzero(faces.scores > self.config.min_confidence)
        sure = sure[best_first(faces.boxes[sure], faces.scores[sure], faces.pictures[sure])]
        sure = sure[survivors(faces.boxes[sure], faces.pictures[sure], _NMS_OUTPUT, of_smaller=True)]
        ends = np.searchsorted(faces.pictures[sure], np.arange(len(pictures) + 1))
        return [
            _largest_first(picture, faces[mine], landmarks[mine])
            for picture, mine in zip(pictures, np.split(sure, ends[1:-1]), strict=True)
        ]

    def _on_patches(
        self, network: Callable, weights: networks.Weights, side: int
    ) -> "tf.types.experimental.GenericFunction":
        """A network as a graph over float32 [N, side, side, 4] patches."""
        signature = [tf.TensorSpec([None, side, side, 4], tf.float32)]
        return tf.function(
            lambda patches: network(patches, weights, self._dtype), input_signature=signature, autograph=False
        )


def _runs(pictures: Sequence[Picture]) -> list[list[int]]:
    """Groups pictures by exact size; padding to a common one would shift the pyramid's samples."""
    groups: dict[tuple, list[int]] = {}
    for place, picture in enumerate(pictures):
        alike = (picture.image.size, picture.width, picture.height, len(picture.pyramid))
        groups.setdefault(alike, []).append(place)
    runs = []
    for ((width, height), *_), members in groups.items():
        size = max(1, _PIXELS_PER_RUN // (height * width))
        runs += [members[start : start + size] for start in range(0, len(members), size)]
    return runs


def _on_boxes(
    network: Callable,
    side: int,
    pictures: Sequence[Picture],
    found: _Candidates,
    widths: Sequence[int],
) -> list[np.ndarray]:
    """Runs a patch network on all boxes, in chunks that mix the pictures; each row of its outputs belongs to a box."""
    outputs = [np.empty((len(found.boxes), width), np.float32) for width in widths]
    for start in range(0, len(found.boxes), _PATCH_RUNS[-1]):
        chunk = found[slice(start, start + _PATCH_RUNS[-1])]
        count = len(chunk.boxes)
        patches = np.zeros((next(size for size in _PATCH_RUNS if size >= count), side, side, 4), np.float32)
        for place in np.unique(chunk.pictures):
            first, last = np.searchsorted(chunk.pictures, (place, place + 1))
            corners = _in_decoded_pixels(chunk.boxes[first:last], pictures[place])
            sample_patches(pictures[place].words, corners, patches[first:last])
        for output, values in zip(outputs, network(patches), strict=True):
            output[start : start + count] = values.numpy().reshape(len(patches), -1)[:count]
    return outputs


def _in_decoded_pixels(boxes: np.ndarray, picture: Picture) -> np.ndarray:
    """Where a box's first and last samples lie, float64 [N, 4]; 0 is the first pixel's centre.

    The package hands `crop_and_resize` shares of the photo's side where it wants shares of the side less one, and the
    networks' corrections verify better with that small shift than without it (LFW pairs: 0.9927 against 0.9910).
    """
    whole = np.array([picture.width, picture.height] * 2, np.float64)
    decoded = np.array(picture.image.size * 2, np.float64)
    places = boxes * ((whole - 1) / whole)
    return (places + 0.5) * (decoded / whole) - 0.5


def _largest_first(picture: Picture, faces: _Candidates, landmarks: np.ndarray) -> Detections:
    edge = np.array([picture.width - 1, picture.height - 1] * 2, np.float32)
    boxes = np.clip(faces.boxes, 0, edge)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = np.lexsort((boxes[:, 0], boxes[:, 1], -area))
    order = order[area[order] > 0]
    return Detections(
        boxes=boxes[order].astype(np.float32),
        confidence=faces.scores[order].astype(np.float32),
        landmarks=landmarks[order].astype(np.float32),
    )
