"""Where a URI is: local folders, S3 and Google Cloud Storage; how they are reached, and what their faults mean.

A store's names are taken as they are: %, ? and # in s3:// and gs:// URIs stand for themselves. Where a store is and who
asks is read from the environment, by the names that its other clients know: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL,
AWS_REGION or AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID and its like; STORAGE_EMULATOR_HOST, GOOGLE_APPLICATION_CREDENTIALS.
"""

import contextlib
import datetime
import errno
import functools
import os
import posixpath
import re
from collections.abc import Iterator

import pyarrow
import pyarrow.fs

_STORES = ("s3", "gs")
CONNECT_SECONDS = 5
ATTEMPTS = 3
RETRY_SECONDS = 10

# What a store's faults come down to. The first that is found counts.
_FAULTS = (
    (
        r"OAuth2 access token|Could not load .*credentials|credentials were not found|Unable to locate cred",
        "there are no credentials for this store",
    ),
    (r"NO_SUCH_BUCKET|NoSuchBucket|^Bucket '.*' not found|bucket does not exist", "there is no such bucket"),
    (
        r"ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE_DOES_NOT_MATCH|UNRECOGNIZED_CLIENT"
        r"|HTTP status 40[13]|PERMISSION_DENIED|UNAUTHENTICATED|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch"
        r"|\(40[13]\)|^40[13] ",
        "the store denies access; the credentials may be missing or wrong",
    ),
    (
        r"NETWORK_CONNECTION|UNAVAILABLE|DEADLINE_EXCEEDED|Could not connect|Max retries exceeded|Timeout",
        "the store cannot be reached",
    ),
    (r"Empty path component", "a name with an empty part cannot be used"),
)


class StorageError(Exception):
    """A place cannot be used; the message is for the user."""


def resolve(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Finds the file system of a URI.

    Args:
      uri: A local path, or a file://, s3:// or gs:// URI.

    Returns:
      The file system and the path within it.

    Raises:
      StorageError: If the scheme is not served, the name cannot be used, or the bucket cannot be found.
    """
    try:
        uri.encode()
    except UnicodeEncodeError as error:
        raise StorageError(f"a name that is no UTF-8 cannot be used here: {uri!r}") from error
    if "://" not in uri:
        return pyarrow.fs.LocalFileSystem(), os.path.abspath(uri)
    scheme = uri.split("://", 1)[0]
    if scheme == "file":
        try:
            return pyarrow.fs.FileSystem.from_uri(uri)
        except pyarrow.ArrowInvalid as error:
            raise StorageError(f"not a URI: {uri}") from error
    if not is_stored(uri):
        raise StorageError(f"{scheme}:// is not a place this version of celebface can use: {uri}")
    path = uri.split("://", 1)[1].rstrip("/")
    bucket = path.split("/", 1)[0]
    if not bucket:
        raise StorageError(f"it names no bucket: {uri}")
    with told(uri):
        return (_s3(bucket, *s3_settings()) if scheme == "s3" else _gcs(gcs_emulator())), path


def is_stored(uri: str) -> bool:
    """Whether a URI is one of an object store."""
    return uri.startswith(tuple(f"{scheme}://" for scheme in _STORES))


def s3_settings() -> tuple[str, str]:
    """Endpoint and region that the environment names; pyarrow reads only the credentials there."""
    known = os.environ.get
    endpoint = known("AWS_ENDPOINT_URL_S3") or known("AWS_ENDPOINT_URL") or ""
    return endpoint, known("AWS_REGION") or known("AWS_DEFAULT_REGION") or ""


@functools.cache
def _s3(bucket: str, endpoint: str, region: str) -> pyarrow.fs.S3FileSystem:
    if not endpoint:  # Amazon's own: a bucket is asked for where it lies
        try:
            region = pyarrow.fs.resolve_s3_region(bucket)
        except OSError:
            if not region:
                raise
    return pyarrow.fs.S3FileSystem(
        region=region or "us-east-1",
        endpoint_override=endpoint or None,
        connect_timeout=CONNECT_SECONDS,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


def gcs_emulator() -> str:
    """Address of the emulator that the environment names; empty for Google's own."""
    return os.environ.get("STORAGE_EMULATOR_HOST", "")


@functools.cache
def _gcs(emulator: str) -> pyarrow.fs.GcsFileSystem:
    patience = datetime.timedelta(seconds=RETRY_SECONDS)
    if not emulator:
        return pyarrow.fs.GcsFileSystem(retry_time_limit=patience)
    scheme, _, host = emulator.rpartition("://")
    return pyarrow.fs.GcsFileSystem(
        anonymous=True, scheme=scheme or "http", endpoint_override=host.rstrip("/"), retry_time_limit=patience
    )


@contextlib.contextmanager
def told(uri: str) -> Iterator[None]:
    """Puts a store's faults in words. Those of local files stay as they are; what is not there is not found."""
    try:
        yield
    except FileNotFoundError as error:
        if not is_stored(uri):
            raise
        raise FileNotFoundError(errno.ENOENT, "there is no such object", uri) from error
    except (OSError, pyarrow.ArrowException) as error:
        if not is_stored(uri):
            raise
        if "NO_SUCH_KEY" in str(error):
            raise FileNotFoundError(errno.ENOENT, "there is no such object", uri) from error
        raise StorageError(f"{in_words(error)}: {uri}") from error


def in_words(error: Exception) -> str:
    """What a store's fault comes down to, whichever library tells of it."""
    text = " ".join(str(error).split())
    return next((words for pattern, words in _FAULTS if re.search(pattern, text)), text[:300])


def join(uri: str, *parts: str) -> str:
    """Appends names to a URI."""
    return posixpath.join(uri, *parts)


def absolute(uri: str) -> str:
    """A local path made absolute, so that workers in other folders find it; URIs stay as they are."""
    return uri if "://" in uri else os.path.abspath(uri)
