"""facenet-pytorch: its MTCNN with its own weights, its Inception-ResNet-v1 with random ones.

The recogniser's weights would have to be downloaded from a place that is no package registry. Random ones cost the same
arithmetic, and the faces that are counted depend on the detector alone.
"""

from collections.abc import Iterator, Sequence

import torch
from facenet_pytorch import MTCNN, InceptionResnetV1
from PIL import Image
from protocol import Found, serve

# Its MTCNN takes photos of one size together, which pays with small ones: 128 photos of LFW one by one 16.9 a second,
# by 8 23.2 to 27.4, by 16 14.7, by 32 21.5, by 64 22.2 (on a busy machine).
BATCH = 8
BATCHED_PIXELS = 250 * 250
ENCODED = 32


def _batches(paths: Sequence[str]) -> Iterator[list[Image.Image]]:
    """Photos that the detector takes together: neighbours of one size, or one that is large."""
    batch: list[Image.Image] = []
    for path in paths:
        with Image.open(path) as photo:
            pixels = photo.convert("RGB")
        full = len(batch) == BATCH or pixels.width * pixels.height > BATCHED_PIXELS
        if batch and (full or pixels.size != batch[0].size):
            yield batch
            batch = []
        batch.append(pixels)
    if batch:
        yield batch


def load():
    """Loads the models."""
    detector = MTCNN(keep_all=True)
    encoder = InceptionResnetV1(pretrained=None).eval()

    @torch.inference_mode()
    def read_photos(paths: Sequence[str]) -> Found:
        found = failed = 0
        for photos in _batches(paths):
            try:
                faces = [crops for crops in detector(photos) if crops is not None]
            except (RuntimeError, MemoryError):  # no memory, or none of its boxes lies in the photo
                failed += len(photos)
                continue
            if faces:
                found += sum(len(encoder(crops)) for crops in torch.cat(faces).split(ENCODED))
        return Found(found, failed)

    return read_photos


if __name__ == "__main__":
    how = f"small photos of one size by {BATCH}, others one by one; random weights in the recogniser"
    serve(load, ("facenet-pytorch", "torch", "torchvision"), how)
