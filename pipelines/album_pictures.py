"""The pictures of a look-alike report: files named by their contents, so that each is there once."""

import concurrent.futures
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from celebface.indexing import build, storage
from celebface.indexing.schemas import PHOTO_TABLE
from celebface.pipelines import album, report

FOLDER = "img"
_DIGITS = 16  # of the sha256, hexadecimal
_WRITERS = 8  # at once: a store takes its time for each file


class Pictures:
    """Takes pictures out of tables and writes them below a folder.

    A picture is known by its name; `place` tells where it is. The empty name stands for none.
    """

    def __init__(self, folder: str, advance: Callable[[int], Any]):
        """Args: where they go, and what is told how many were looked at."""
        self._folder = folder
        self._advance = advance
        self._written: set[str] = set()
        self._pool = concurrent.futures.ThreadPoolExecutor(_WRITERS, "pictures")

    def __enter__(self) -> "Pictures":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def __len__(self) -> int:
        return len(self._written)

    def of_photos(self, results: str, uris: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Thumbnails of photos.

        Args:
          results: Folder of a job's results.
          uris: Of the photos, strings [P], all different.

        Returns:
          Names, bytes [P], and sizes, width and height in pixels of the upright photo, int32 [P, 2], 0 if unknown.
        """
        sizes = np.zeros((len(uris), 2), np.int32)
        names = _no_names(len(uris))
        columns = ["thumbnail_jpeg", "image_width", "image_height"]
        for rows, batch in album.read_pictures(report.shards(results, PHOTO_TABLE), "photo_uri", uris, columns):
            names[rows] = self._store(batch["thumbnail_jpeg"].to_pylist())
            sizes[rows] = np.stack([batch["image_width"].to_numpy(), batch["image_height"].to_numpy()], axis=1)
        return names, sizes

    def of_faces(self, shards: Sequence[str], ids: pa.Array) -> np.ndarray:
        """Crops of faces: those of the photos, or of a gallery.

        Args:
          shards: Files of the table.
          ids: Of the faces, strings [F], all different.

        Returns:
          Names, bytes [F].
        """
        names = _no_names(len(ids))
        for rows, batch in album.read_pictures(shards, "face_id", ids, ["crop_jpeg"]):
            names[rows] = self._store(batch["crop_jpeg"].to_pylist())
        return names

    def of_gallery(self, version: str, ids: pa.Array) -> tuple[np.ndarray, str]:
        """Crops of a gallery's faces.

        Returns:
          Names, bytes [F], and why some are missing; empty if none is.
        """
        names = _no_names(len(ids))
        try:
            names = self.of_faces(build.face_shards(version), ids)
        except (storage.StorageError, OSError, pa.ArrowException, KeyError) as error:
            return names, f"the gallery cannot be read: {error}"
        missing = int(np.sum(names == b""))
        return names, f"{missing} of {len(ids)} are no longer in the gallery {version}" if missing else ""

    def _store(self, pictures: Sequence[bytes | None]) -> list[bytes]:
        """Writes those that are new, and names all."""
        named = [(hashlib.sha256(picture).hexdigest()[:_DIGITS] if picture else "", picture) for picture in pictures]
        new = {name: picture for name, picture in named if picture and name not in self._written}
        for _ in self._pool.map(self._write, new.items()):
            pass
        self._written.update(new)
        self._advance(len(pictures))
        return [name.encode() for name, _ in named]

    def _write(self, picture: tuple[str, bytes]) -> None:
        name, data = picture
        storage.write_bytes(storage.join(self._folder, place(name)), data)


def place(name: str) -> str:
    """Where a picture lies in the report."""
    return f"{FOLDER}/{name[:2]}/{name}.jpg"


def _no_names(count: int) -> np.ndarray:
    return np.zeros(count, f"S{_DIGITS}")
