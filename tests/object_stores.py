"""Object stores for tests: servers in processes of their own, on ports that the system chooses, that hold nothing.

The Python emulator of Google Cloud Storage knows no preconditions. What needs them runs against fake-gcs-server, a Go
program, which is made here if it is not installed but Go is.
"""

import contextlib
import dataclasses
import importlib.util
import itertools
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import requests

KINDS = ("s3", "gs")
SWAPPING = ("s3", "fake-gcs")  # those that honour preconditions
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
# moto looks at a precondition and writes in two steps; S3 does both at once, and so does one writer after the other.
_SERVERS = {
    "s3": """
import logging, sys, threading
from moto.moto_server import threaded_moto_server
logging.getLogger("werkzeug").setLevel(logging.ERROR)
one_at_a_time = threading.Lock()
class Application(threaded_moto_server.DomainDispatcherApplication):
    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] != "PUT":
            return super().__call__(environ, start_response)
        with one_at_a_time:
            return list(super().__call__(environ, start_response))
threaded_moto_server.DomainDispatcherApplication = Application
server = threaded_moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
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
    if kind == "fake-gcs":
        with _fake_gcs_server() as address:
            yield address
        return
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


_FAKE_GCS = "github.com/fsouza/fake-gcs-server@v1.56.1"
_PROGRAMS = pathlib.Path(__file__).parents[1] / "build" / "bin"


def _fake_gcs_program() -> str:
    found = shutil.which("fake-gcs-server", path=f"{os.environ['PATH']}{os.pathsep}{_PROGRAMS}")
    if not found and shutil.which("go"):
        subprocess.run(["go", "install", _FAKE_GCS], env={**os.environ, "GOBIN": str(_PROGRAMS)}, check=False)
        found = shutil.which("fake-gcs-server", path=str(_PROGRAMS))
    if not found:
        pytest.skip(f"there is no fake-gcs-server: go install {_FAKE_GCS}")
    return found


@contextlib.contextmanager
def _fake_gcs_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # the program must be told its own address, so it cannot choose
    flags = ["-scheme=http", "-host=127.0.0.1", f"-port={port}", "-backend=memory", "-log-level=error"]
    with subprocess.Popen([_fake_gcs_program(), *flags], stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.02)
            assert process.poll() is None, "the server did not start"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def point_to(monkeypatch: pytest.MonkeyPatch, kind: str, address: str) -> None:
    """Lets the environment name a store, and nothing else that this machine may be set up for."""
    for name in _SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    for each, name in (("s3", "AWS_ENDPOINT_URL_S3"), ("gcs", "STORAGE_EMULATOR_HOST")):
        mine = (kind == "s3") == (each == "s3")
        monkeypatch.setenv(name, address if mine else "http://127.0.0.1:1")  # where nobody listens


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
