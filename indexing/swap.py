"""Compare-and-swap: a small file is replaced only if it is still what was read, so that of two writers one is told.

Local folders have a lock for it, stores their own preconditions: ETags in S3, generations in Google Cloud Storage.
pyarrow knows neither, so the stores are asked through their own libraries, which are extras of celebface.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import os
import posixpath
import secrets
from collections.abc import Iterator
from typing import Any

import tenacity

from celebface.indexing import stores
from celebface.indexing.stores import (
    ATTEMPTS,
    CONNECT_SECONDS,
    StorageError,
    gcs_emulator,
    in_words,
    is_stored,
    resolve,
    s3_settings,
    told,
)

_NOTHING = ""  # the tag of a file that is not there
_EXTRAS = {"s3": ("boto3", "aws"), "gs": ("google.cloud.storage", "gcp")}
_READS = 5  # of an object that is replaced while it is read
_CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class Conflict(Exception):
    """Somebody else has written since; the message is for the user."""


class _Replaced(Exception):
    """An object was replaced between two requests that belong together."""


def check_swappable(uri: str) -> None:
    """Makes sure that files can be swapped at a place, before work is begun that ends with it.

    Raises:
      StorageError: If the library that it takes is not installed.
    """
    if is_stored(uri):
        module, extra = _EXTRAS[uri.split("://", 1)[0]]
        if not _is_installed(module):
            raise StorageError(f"to publish to {uri} takes {module}: pip install '.[{extra}]' in celebface's folder")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent of it
        return False


def read_tagged(uri: str) -> tuple[bytes | None, str]:
    """Reads a file together with what `replace_tagged` knows its state by.

    Returns:
      Its contents, None if there is no file, and the tag.

    Raises:
      StorageError: If its store does not give it.
    """
    if not is_stored(uri):
        return _read_local(resolve(uri)[1])
    check_swappable(uri)
    with _store_faults(uri):
        return _read_s3(uri) if uri.startswith("s3://") else _read_gcs(uri)


def replace_tagged(uri: str, data: bytes, tag: str) -> None:
    """Writes a file if it is still the one that the tag was read of; a reader sees it old or new.

    If it already holds just these bytes that is as good, whoever wrote them: a request that is sent again since its
    answer was lost meets its own work.

    Args:
      uri: The file.
      data: Its new contents.
      tag: As `read_tagged` gave it.

    Raises:
      Conflict: If it has been written, made or deleted since.
      StorageError: If its store does not take it.
    """
    if not is_stored(uri):
        written = _replace_local(resolve(uri)[1], data, tag)
    else:
        check_swappable(uri)
        with _store_faults(uri):
            written = (_replace_s3 if uri.startswith("s3://") else _replace_gcs)(uri, data, tag)
    if not written and read_tagged(uri)[0] != data:
        raise Conflict(f"{uri} was changed by somebody else meanwhile")


def honours_conditions(folder: str) -> bool:
    """Whether a place refuses to write what has changed: not all stores that speak S3 do, some emulators neither."""
    if not is_stored(folder):
        return True
    probe = f"{folder}/.celebface-probe-{secrets.token_hex(4)}"
    replace_tagged(probe, b"1", _NOTHING)
    try:
        replace_tagged(probe, b"2", _NOTHING)
    except Conflict:
        return True
    else:
        return False
    finally:
        system, path = resolve(probe)
        with told(probe):
            system.delete_file(path)


def _place(uri: str) -> tuple[str, str]:
    """Bucket and key."""
    bucket, _, key = uri.split("://", 1)[1].partition("/")
    return bucket, key


# --- local folders ----------------------------------------------------------------------------------------------------


def _read_local(path: str) -> tuple[bytes | None, str]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None, _NOTHING
    return data, hashlib.sha256(data).hexdigest()


def _replace_local(path: str, data: bytes, tag: str) -> bool:
    folder = posixpath.dirname(path)
    os.makedirs(folder, exist_ok=True)
    with locked(folder):
        if _read_local(path)[1] != tag:
            return False
        scratch = f"{path}.{secrets.token_hex(4)}.tmp"
        with open(scratch, "wb") as file:
            file.write(data)
        os.replace(scratch, path)
        return True


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], wait: bool = True) -> Iterator[None]:
    """Holds a folder's lock, known to this machine's processes; it ends with the process, however that dies.

    Args:
      folder: Path.
      wait: Whether to wait for whoever holds it.

    Raises:
      BlockingIOError: If somebody else holds it, and that is not waited for.
    """
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(place)


# --- S3 ---------------------------------------------------------------------------------------------------------------


@functools.cache
def _s3_client(endpoint: str, region: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=CONNECT_SECONDS, retries={"max_attempts": ATTEMPTS, "mode": "standard"})
    return boto3.client("s3", endpoint_url=endpoint or None, region_name=region or "us-east-1", config=config)


def _read_s3(uri: str) -> tuple[bytes | None, str]:
    client, (bucket, key) = _s3_client(*s3_settings()), _place(uri)
    try:
        found = client.get_object(Bucket=bucket, Key=key)
    except client.exceptions.NoSuchKey:
        return None, _NOTHING
    return found["Body"].read(), found["ETag"]


def _replace_s3(uri: str, data: bytes, tag: str) -> bool:
    import botocore.exceptions

    client, (bucket, key) = _s3_client(*s3_settings()), _place(uri)
    condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
    try:
        client.put_object(Bucket=bucket, Key=key, Body=data, **condition)
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in (*_CONFLICTS, "NoSuchKey"):  # the last: it was deleted
            return False
        raise
    return True


# --- Google Cloud Storage ---------------------------------------------------------------------------------------------


@functools.cache
def _gcs_client(emulator: str) -> Any:
    import google.auth.credentials
    import google.cloud.storage

    if not emulator:
        return google.cloud.storage.Client()
    address = emulator if "://" in emulator else f"http://{emulator}"
    anonymous = google.auth.credentials.AnonymousCredentials()
    options = {"api_endpoint": address.rstrip("/")}
    return google.cloud.storage.Client(project="emulated", credentials=anonymous, client_options=options)


def _gcs_object(uri: str) -> Any:
    bucket, key = _place(uri)
    return _gcs_client(gcs_emulator()).bucket(bucket).blob(key)


def _patience() -> Any:
    import google.cloud.storage.retry

    return google.cloud.storage.retry.DEFAULT_RETRY.with_timeout(stores.RETRY_SECONDS)


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(_Replaced), stop=tenacity.stop_after_attempt(_READS), reraise=True
)
def _read_gcs(uri: str) -> tuple[bytes | None, str]:
    import google.api_core.exceptions

    found = _gcs_object(uri)
    try:
        found.reload(retry=_patience())
    except google.api_core.exceptions.NotFound as error:
        if "bucket does not exist" in str(error):
            raise
        return None, _NOTHING
    generation = found.generation
    try:
        return found.download_as_bytes(if_generation_match=generation, retry=_patience()), str(generation)
    except (google.api_core.exceptions.NotFound, google.api_core.exceptions.PreconditionFailed) as error:
        raise _Replaced from error


def _replace_gcs(uri: str, data: bytes, tag: str) -> bool:
    import google.api_core.exceptions

    target = _gcs_object(uri)
    try:
        target.upload_from_string(
            data, "application/octet-stream", if_generation_match=int(tag or 0), retry=_patience()
        )
    except (google.api_core.exceptions.PreconditionFailed, google.api_core.exceptions.Conflict):
        return False
    return True


# --- faults -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _store_faults(uri: str) -> Iterator[None]:
    """Puts what the stores' libraries raise in words."""
    try:
        yield
    except _Replaced as error:
        raise Conflict(f"{uri} is being changed all the time") from error
    except _faults_of(uri) as error:
        raise StorageError(f"{in_words(error)}: {uri}") from error


def _faults_of(uri: str) -> tuple[type[Exception], ...]:
    if uri.startswith("s3://"):
        import botocore.exceptions

        return botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError
    import google.api_core.exceptions
    import google.auth.exceptions
    import requests

    return google.api_core.exceptions.GoogleAPIError, google.auth.exceptions.GoogleAuthError, requests.RequestException
