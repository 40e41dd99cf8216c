"""MTCNN face detection, batched: the networks and weights of the `mtcnn` package, our own cascade around them.

Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", 2016. A proposal
network (P-Net) looks at 12-pixel windows over a pyramid of scaled photos, a refinement network (R-Net, 24 pixels) and
an output network (O-Net, 48 pixels) sift and sharpen what it proposes. The package runs them over one photo, or over
photos padded to the largest of the batch, with the work between the networks in eager operations; here photos of like
size share one graph.
"""

import dataclasses
import functools
import hashlib
import importlib.resources
import io
from collections.abc import Iterator, Sequence

import joblib
import numpy as np

from celebface.models.quiet_tensorflow import tf  # isort: skip  # before mtcnn, which loads TensorFlow too

from mtcnn.network.onet import ONet
from mtcnn.network.pnet import PNet
from mtcnn.network.rnet import RNet

from celebface.models.faces import DetectorConfig

# The package keeps its weights as joblib pickles. A pickle can carry code, so only these bytes (mtcnn 1.0.0) are read.
_WEIGHTS_SHA256 = {
    "pnet.lz4": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet.lz4": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet.lz4": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}

_CELL = 12  # P-Net's window in pixels
_STRIDE = 2  # and the step between windows
_R_SIDE, _O_SIDE = 24, 48  # input sides of R-Net and O-Net in pixels

# As the package has them by default; O-Net's threshold is DetectorConfig.min_confidence.
_PYRAMID_FACTOR = 0.709
_P_THRESHOLD, _R_THRESHOLD = 0.6, 0.7
_NMS_LEVEL, _NMS_PYRAMID, _NMS_REFINE, _NMS_OUTPUT = 0.5, 0.7, 0.7, 0.7

# Bounds the square matrix of overlaps, 25 MB, and R-Net's work. A crowd of 170 faces on 1.3 megapixels has 1,960
# windows on the level that has most.
_MOST_BOXES = 2500
_PATCH_RUNS = (16, 64, 256)  # patches that pass R-Net or O-Net together: few sizes, bounded on a crowd
_PIXELS_PER_RUN = 2_000_000  # photos that pass P-Net together, by their pixels: 32 of LFW's size
_MIN_FACE_STEP = 4  # smallest faces are rounded down to this, in pixels, so that few graphs are traced


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """The faces of one photo, largest first.

    Attributes:
      boxes: float32 [N, 4], corners x0, y0, x1, y1 in pixels of the detected image, within its edges.
      confidence: float32 [N], 0..1.
      landmarks: float32 [N, 5, 2], x and y of the eye, eye, nose, mouth corner, mouth corner; the left of each pair
        is the observer's left.
    """

    boxes: np.ndarray
    confidence: np.ndarray
    landmarks: np.ndarray


class FaceDetector:
    """Finds faces in batches of photos of any sizes."""

    def __init__(self, config: DetectorConfig):
        """Loads the three networks.

        Raises:
          RuntimeError: If the installed `mtcnn` package holds other weights than the known ones.
        """
        self.config = config
        self._pnet = _load_network(PNet(), "pnet.lz4")
        self._rnet = _on_patches(_load_network(RNet(), "rnet.lz4"), _R_SIDE)
        self._onet = _on_patches(_load_network(ONet(), "onet.lz4"), _O_SIDE)
        self._pyramids: dict[tuple[float, ...], tf.types.experimental.GenericFunction] = {}

    def detect(self, images: Sequence[np.ndarray], min_faces: Sequence[float]) -> list[Detections]:
        """Detects the faces of each image.

        Args:
          images: uint8 [H, W, 3] each, RGB.
          min_faces: Smallest face looked for in each image, in its pixels; 20 at least.

        Returns:
          One Detections per image, in the same order. The result of an image does not depend on its neighbours.
        """
        if not images:
            return []
        runs = _runs(images, min_faces)
        proposals = np.concatenate([self._propose(run) for run in runs])
        faces = self._refine(runs, proposals)
        return self._output(runs, faces, [image.shape[:2] for image in images])

    def _propose(self, run: "_Run") -> np.ndarray:
        """P-Net over the pyramid of one run. Rows of the result: image, x0, y0, x1, y1, score; square boxes."""
        scales = _pyramid(run.batch.shape[1], run.batch.shape[2], run.min_face)
        if not scales:  # too narrow for the smallest face
            return np.empty((0, 6), np.float32)
        if scales not in self._pyramids:
            signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
            graph = functools.partial(self._pyramid_graph, scales=scales)
            self._pyramids[scales] = tf.function(graph, input_signature=signature, autograph=False)
        rows = self._pyramids[scales](run.batch).numpy()
        kept = []
        for position, image in enumerate(run.images):
            mine = rows[rows[:, 0] == position]
            levels = [_suppressed(mine[mine[:, 6] == level], _NMS_LEVEL) for level in range(len(scales))]
            boxes = _suppressed(np.concatenate(levels), _NMS_PYRAMID)[:, :6]
            boxes[:, 0] = image
            kept.append(boxes)
        return _squared(np.concatenate(kept))

    def _pyramid_graph(self, batch: tf.Tensor, scales: tuple[float, ...]) -> tf.Tensor:
        """All levels of the pyramid in one graph. Rows of the result: position, x0, y0, x1, y1, score, level."""
        normalised = _normalised(tf.cast(batch, tf.float32))
        shape = tf.cast(tf.shape(batch)[1:3], tf.float32)
        found = []
        for level, scale in enumerate(scales):
            side = tf.cast(shape * scale, tf.int32)
            offsets, probabilities = self._pnet(tf.image.resize(normalised, side, method=tf.image.ResizeMethod.AREA))
            cells = tf.where(probabilities[..., 1] > _P_THRESHOLD)
            position, score = tf.cast(cells[:, 0], tf.float32), tf.gather_nd(probabilities[..., 1], cells)
            y, x = (tf.cast(cells[:, axis], tf.float32) * _STRIDE + 1 for axis in (1, 2))
            span = float(_CELL - 1)
            windows = tf.stack([x, y, x + span, y + span], axis=1) + tf.gather_nd(offsets, cells) * span
            head, tail = position[:, None], tf.stack([score, tf.fill(tf.shape(score), float(level))], axis=1)
            found.append(tf.concat([head, windows / scale, tail], axis=1))
        return tf.concat(found, axis=0)

    def _refine(self, runs: Sequence["_Run"], faces: np.ndarray) -> np.ndarray:
        offsets, probabilities = _on_faces(self._rnet, _R_SIDE, runs, faces, widths=(4, 2))
        faces = _shifted(faces, offsets, probabilities[:, 1])
        faces = faces[faces[:, 5] > _R_THRESHOLD]
        kept = [_suppressed(faces[faces[:, 0] == image], _NMS_REFINE) for image in np.unique(faces[:, 0])]
        return _squared(np.concatenate(kept)) if kept else faces

    def _output(self, runs: Sequence["_Run"], faces: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[Detections]:
        offsets, points, probabilities = _on_faces(self._onet, _O_SIDE, runs, faces, widths=(4, 10, 2))
        spans = faces[:, 3:5] - faces[:, 1:3] + 1
        landmarks = points.reshape(-1, 2, 5).transpose(0, 2, 1) * spans[:, None] + faces[:, None, 1:3] - 1
        faces = _shifted(faces, offsets, probabilities[:, 1])
        results = []
        for image, (height, width) in enumerate(shapes):
            mine = np.flatnonzero((faces[:, 0] == image) & (faces[:, 5] > self.config.min_confidence))
            mine = mine[np.lexsort((faces[mine, 1], faces[mine, 2], -faces[mine, 5]))]
            mine = mine[_survivors(faces[mine, 1:5], _NMS_OUTPUT, of_smaller=True)]
            boxes = np.clip(faces[mine, 1:5], 0, (width - 1, height - 1, width - 1, height - 1))
            area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
            order = np.lexsort((boxes[:, 0], boxes[:, 1], -area))
            order = order[area[order] > 0]
            results.append(
                Detections(
                    boxes=boxes[order].astype(np.float32),
                    confidence=faces[mine[order], 5].astype(np.float32),
                    landmarks=landmarks[mine[order]].astype(np.float32),
                )
            )
        return results


def _load_network(network: tf.keras.Model, asset: str) -> tf.keras.Model:
    data = (importlib.resources.files("mtcnn.assets.weights") / asset).read_bytes()
    if hashlib.sha256(data).hexdigest() != _WEIGHTS_SHA256[asset]:
        raise RuntimeError(f"the installed mtcnn package has an unknown {asset}; celebface needs mtcnn 1.0.0")
    network.build()
    network.set_weights(joblib.load(io.BytesIO(data)))
    return network


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """Images of one size that pass P-Net together.

    Attributes:
      images: Their places in the caller's batch.
      batch: uint8 [B, H, W, 3], RGB.
      min_face: Smallest face looked for, in whole pixels.
    """

    images: list[int]
    batch: tf.Tensor
    min_face: int


def _runs(images: Sequence[np.ndarray], min_faces: Sequence[float]) -> list[_Run]:
    """Groups images by exact size; padding to a common one would shift the pyramid's sampling and so the boxes."""
    groups: dict[tuple[int, int, int], list[int]] = {}
    for i, (image, min_face) in enumerate(zip(images, min_faces, strict=True)):
        step = int(min_face) // _MIN_FACE_STEP * _MIN_FACE_STEP
        groups.setdefault((image.shape[0], image.shape[1], step), []).append(i)
    runs = []
    for (height, width, min_face), members in groups.items():
        size = max(1, _PIXELS_PER_RUN // (height * width))
        for start in range(0, len(members), size):
            part = members[start : start + size]
            runs.append(_Run(part, tf.constant(np.stack([images[i] for i in part])), min_face))
    return runs


def _pyramid(height: int, width: int, min_face: int) -> tuple[float, ...]:
    """Scales at which the smallest face, and each next one up to the whole image, fills P-Net's window."""
    scales = []
    scale = _CELL / min_face
    while min(height, width) * scale >= _CELL:
        scales.append(scale)
        scale *= _PYRAMID_FACTOR
    return tuple(scales)


def _normalised(values: tf.Tensor) -> tf.Tensor:
    """Grey levels 0..255 to the range the networks were trained with."""
    return (values - 127.5) / 128.0


def _on_patches(network: tf.keras.Model, side: int) -> tf.types.experimental.GenericFunction:
    """The network as a graph over float32 [N, side, side, 3] patches with grey levels 0..255."""
    signature = [tf.TensorSpec([None, side, side, 3], tf.float32)]
    return tf.function(lambda patches: network(_normalised(patches)), input_signature=signature, autograph=False)


def _on_faces(graph, side: int, runs: Sequence[_Run], faces: np.ndarray, widths: tuple[int, ...]) -> list[np.ndarray]:
    """Runs a patch network on all boxes, in chunks that mix the runs; each row of its outputs belongs to a box."""
    outputs = [np.empty((len(faces), width), np.float32) for width in widths]

    def flush(rows: list[np.ndarray], patches: list[np.ndarray]) -> None:
        places = np.concatenate(rows)
        size = next(size for size in _PATCH_RUNS if size >= len(places))
        chunk = np.zeros((size, side, side, 3), np.float32)
        chunk[: len(places)] = np.concatenate(patches)
        for output, values in zip(outputs, graph(chunk), strict=True):
            output[places] = values.numpy()[: len(places)]

    rows: list[np.ndarray] = []
    patches: list[np.ndarray] = []
    for places, run in _pieces(runs, faces):
        if sum(map(len, rows)) + len(places) > _PATCH_RUNS[-1]:
            flush(rows, patches)
            rows, patches = [], []
        rows.append(places)
        patches.append(_cut_patches(run, faces[places], side))
    if rows:
        flush(rows, patches)
    return outputs


def _pieces(runs: Sequence[_Run], faces: np.ndarray) -> Iterator[tuple[np.ndarray, _Run]]:
    """Rows of `faces` that lie in one run, no more at a time than the networks take."""
    for run in runs:
        mine = np.flatnonzero(np.isin(faces[:, 0], run.images))
        for start in range(0, len(mine), _PATCH_RUNS[-1]):
            yield mine[start : start + _PATCH_RUNS[-1]], run


def _cut_patches(run: _Run, faces: np.ndarray, side: int) -> np.ndarray:
    """Scales each box to side x side pixels; beyond the image lies mid-grey. float32 [N, side, side, 3], 0..255."""
    position = {image: place for place, image in enumerate(run.images)}
    places = np.array([position[int(image)] for image in faces[:, 0]], np.int32)
    height, width = run.batch.shape[1:3]
    # crop_and_resize wants shares of (side - 1); the package gives it shares of the side, and the networks' corrections
    # verify better with that small shift than without it (LFW pairs: 0.9927 against 0.9910).
    corners = faces[:, (2, 1, 4, 3)] / (height, width, height, width)
    cut = tf.image.crop_and_resize(
        run.batch, corners.astype(np.float32), places, (side, side), extrapolation_value=127.5
    )
    return cut.numpy()


def _by_score(faces: np.ndarray) -> np.ndarray:
    """Best score first; equals from top to bottom and left to right, so that the order never depends on the batch."""
    return faces[np.lexsort((faces[:, 1], faces[:, 2], -faces[:, 5]))]


def _suppressed(faces: np.ndarray, threshold: float) -> np.ndarray:
    """The boxes that survive non-maximum suppression, best first."""
    best = _by_score(faces)[:_MOST_BOXES]
    return best[_survivors(best[:, 1:5], threshold)]


def _shifted(faces: np.ndarray, offsets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Moves the corners by a network's offsets (shares of the box) and takes over its scores."""
    spans = np.tile(faces[:, 3:5] - faces[:, 1:3] + 1, 2)
    return np.concatenate([faces[:, :1], faces[:, 1:5] + offsets * spans, scores[:, None]], axis=1)


def _squared(faces: np.ndarray) -> np.ndarray:
    """Makes each box a square of its longer side around the same centre."""
    centre = (faces[:, 1:3] + faces[:, 3:5]) / 2
    half = (faces[:, 3:5] - faces[:, 1:3]).max(axis=1, keepdims=True) / 2
    return np.concatenate([faces[:, :1], centre - half, centre + half, faces[:, 5:]], axis=1)


def _survivors(boxes: np.ndarray, threshold: float, of_smaller: bool = False) -> np.ndarray:
    """Non-maximum suppression as the package does it: a box goes if any better one overlaps it, kept or not.

    Args:
      boxes: float [N, 4], corners, best first.
      threshold: Overlap above which the worse of two goes.
      of_smaller: Measure the overlap against the smaller of two boxes, not against their union.

    Returns:
      Rows that stay, ascending.
    """
    x0, y0, x1, y1 = boxes.T
    area = (x1 - x0) * (y1 - y0)
    across = np.minimum(x1[:, None], x1) - np.maximum(x0[:, None], x0)
    down = np.minimum(y1[:, None], y1) - np.maximum(y0[:, None], y0)
    shared = np.maximum(across, 0) * np.maximum(down, 0)
    whole = np.minimum(area[:, None], area) if of_smaller else area[:, None] + area - shared
    return np.flatnonzero(~np.triu(shared > threshold * whole, k=1).any(axis=0))
