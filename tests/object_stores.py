"""Object stores for tests: servers in processes of their own, on ports that the system chooses, that hold nothing."""

import contextlib
import dataclasses
import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import requests

KINDS = ("s3", "gs")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
_SETTINGS = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "STORAGE_EMULATOR_HOST",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
_PACKAGES = {"s3": "moto", "gs": "gcp_storage_emulator"}
_SERVERS = {
    "s3": """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
""",
    "gs": """
import sys
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True)
server.start()
print("http://%s:%d" % server._api._httpd.server_address, flush=True)
sys.stdin.read()
server.stop()
""",
}
_numbers = itertools.count(1)


@contextlib.contextmanager
def server(kind: str) -> Iterator[str]:
    """Runs a store; gives its address. It ends with its standard input."""
    if not importlib.util.find_spec(_PACKAGES[kind]):
        pytest.skip(f"{_PACKAGES[kind]} is not installed: pip install -e .[dev]")
    with subprocess.Popen(
        [sys.executable, "-c", _SERVERS[kind]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        address = process.stdout.readline().strip()
        assert address, "the server did not start"
        yield address
        process.stdin.close()


def point_to(monkeypatch: pytest.MonkeyPatch, kind: str, address: str) -> None:
    """Lets the environment name a store, and nothing else that this machine may be set up for."""
    for name in _SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    for each, name in (("s3", "AWS_ENDPOINT_URL_S3"), ("gs", "STORAGE_EMULATOR_HOST")):
        monkeypatch.setenv(name, address if each == kind else "http://127.0.0.1:1")  # where nobody listens


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A bucket, filled and looked into without the code that is tested.

    Attributes:
      kind: Its scheme.
      uri: Its URI, without a slash at the end.
      put: Writes an object.
      names: Lists the keys of all objects.
    """

    kind: str
    uri: str
    put: Callable[[str, bytes], object]
    names: Callable[[], list[str]]


def make_bucket(kind: str, address: str) -> Bucket:
    """Makes a bucket that is empty."""
    name = f"bucket-{next(_numbers)}"
    return (_s3_bucket if kind == "s3" else _gs_bucket)(name, address)


def _s3_bucket(name: str, address: str) -> Bucket:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    client.create_bucket(Bucket=name)
    return Bucket(
        "s3",
        f"s3://{name}",
        lambda key, data: client.put_object(Bucket=name, Key=key, Body=data),
        lambda: [entry["Key"] for entry in client.list_objects_v2(Bucket=name).get("Contents", [])],
    )


def _gs_bucket(name: str, address: str) -> Bucket:
    requests.post(f"{address}/storage/v1/b", json={"name": name}, params={"project": "test"}, timeout=10)

    def put(key: str, data: bytes) -> None:
        place, kind = f"{address}/upload/storage/v1/b/{name}/o", {"Content-Type": "application/octet-stream"}
        wanted = {"uploadType": "media", "name": key}
        requests.post(place, data, params=wanted, headers=kind, timeout=10).raise_for_status()

    def names() -> list[str]:
        found = requests.get(f"{address}/storage/v1/b/{name}/o", timeout=10).json()
        return [entry["name"] for entry in found.get("items", [])]

    return Bucket("gs", f"gs://{name}", put, names)
