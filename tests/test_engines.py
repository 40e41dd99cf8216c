"""Jobs on real engines: a Flink cluster on this machine, and Prism. Each is held against Beam's local engine.

`make test-engines` fetches the engines and runs these tests; without that they are skipped. The cluster is started here
and ended, so none may be running.
"""

import contextlib
import os
import pathlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest
import requests
import tenacity
from crashing.sitecustomize import MARK

from celebface.transforms.staged import PART
from deploy import engines, golden, same
from deploy.flink import cluster

pytestmark = pytest.mark.timeout(900)

CRASHING = pathlib.Path(__file__).parent / "crashing"
MANY, SOME = 2000, 600  # photos
LOCAL = golden.Engine("local", ["--direct_num_workers=2"])
FLINK = golden.Engine("Flink", engines.flags("FlinkRunner", 2))
PRISM = golden.Engine("Prism", engines.flags("PrismRunner"))


def missing(what: str) -> None:
    if os.environ.get("CELEBFACE_ENGINES"):
        pytest.fail(f"{what} is missing, though CELEBFACE_ENGINES wants these tests to run")
    pytest.skip(f"{what} is missing: make test-engines fetches it and runs these tests")


@pytest.fixture(scope="module")
def flink() -> Iterator[None]:
    if not (cluster.HOME / "lib").is_dir() or not engines.FLINK_JOB_SERVER.exists():
        missing("Flink")
    if golden.flink_runs():
        pytest.fail("a cluster is running; make cluster-down ends it")
    cluster.up()
    yield
    cluster.down()


@pytest.fixture(scope="module")
def prism() -> None:
    if not engines.PRISM.exists():
        missing("Prism")


@pytest.fixture
def whole_cluster(flink) -> None:
    """What an earlier test has killed runs again."""
    cluster.up()


@pytest.fixture(scope="module")
def photos(cache, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("photos")
    golden.make_photos(folder, MANY)
    return folder


@pytest.fixture(scope="module")
def some_photos(photos, tmp_path_factory) -> str:
    """A list of the first of them."""
    found = tmp_path_factory.mktemp("list") / "photos.txt"
    found.write_text("".join(f"{path}\n" for path in sorted(photos.iterdir())[:SOME]))
    return str(found)


@pytest.fixture(scope="module")
def version(gallery) -> str:
    [found] = (path for path in gallery.iterdir() if (path / "manifest.json").exists())
    return str(found)


@pytest.fixture(scope="module")
def unbroken(some_photos, version, tmp_path_factory) -> str:
    """Their results by the local engine."""
    return golden.match(LOCAL, [some_photos], version, tmp_path_factory.mktemp("local") / "matches").output


def faults(one: str, other: str) -> dict[str, str]:
    found = same.compare(one, other)
    assert sum(row.rows for row in found) > 0
    return same.faults(found, to_the_byte=True)


@pytest.mark.parametrize("engine", [FLINK, PRISM], ids=lambda engine: engine.name)
def test_a_gallery_is_the_same_whatever_built_it(engine, request, version, tmp_path):
    request.getfixturevalue("prism" if engine is PRISM else "whole_cluster")
    built = golden.build_gallery(engine, "", tmp_path / "galleries")
    assert not faults(version, built.output)
    assert engine is PRISM or cluster.jobs()[0]["state"] == "FINISHED"


def test_matches_of_many_photos_are_the_same(whole_cluster, photos, version, tmp_path):
    here = golden.match(LOCAL, [str(photos)], version, tmp_path / "local")
    there = golden.match(FLINK, [str(photos)], version, tmp_path / "flink")
    [ledger] = (row for row in same.compare(here.output, there.output) if row.name == "ledger")
    assert ledger.rows == MANY
    assert not faults(here.output, there.output)
    assert cluster.jobs()[0]["state"] == "FINISHED"


def test_matches_by_prism_are_the_same(prism, some_photos, version, unbroken, tmp_path):
    assert not faults(unbroken, golden.match(PRISM, [some_photos], version, tmp_path / "matches").output)


@contextlib.contextmanager
def started_match(photos: str, version: str, output: pathlib.Path) -> Iterator[subprocess.Popen]:
    command = ["match", photos, f"--gallery={version}", f"--output={output}", "--embeddings", *FLINK.flags]
    with subprocess.Popen(
        [sys.executable, "-m", "celebface.pipelines.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as job:
        try:
            yield job
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)  # with Beam's job server, if something went wrong


@tenacity.retry(
    stop=tenacity.stop_after_delay(300),
    wait=tenacity.wait_fixed(0.2),
    retry=tenacity.retry_if_result(lambda met: not met),
)
def in_the_middle(job: subprocess.Popen, output: pathlib.Path) -> bool:
    """Waits until some photos are done."""
    assert job.poll() is None, job.communicate()[0]
    return any(output.rglob(f"{PART}-*.arrow"))


def kill_task_manager() -> None:
    os.kill(cluster.task_managers()[0].pid, signal.SIGKILL)


def kill_python_worker() -> None:
    group = cluster.task_managers()[0].pid
    found = subprocess.check_output(["pgrep", "-g", str(group), "-f", "celebface.pipelines.worker"], text=True)
    os.kill(int(found.split()[0]), signal.SIGKILL)


@pytest.mark.parametrize("kill", [kill_task_manager, kill_python_worker])
def test_a_job_outlives_what_is_killed(kill, whole_cluster, some_photos, version, unbroken, tmp_path):
    with started_match(some_photos, version, tmp_path / "matches") as job:
        in_the_middle(job, tmp_path)
        kill()
        said, _ = job.communicate()
    assert job.returncode == 0, said
    newest = cluster.jobs()[0]
    history = requests.get(f"{cluster.REST}/jobs/{newest['jid']}/exceptions", timeout=5).json()
    assert newest["state"] == "FINISHED"
    assert history["exceptionHistory"]["entries"], "nothing had to be done again"
    assert not faults(unbroken, str(tmp_path / "matches"))


@tenacity.retry(stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(0.5))
def assert_cancelled() -> None:
    assert cluster.jobs()[0]["state"] == "CANCELED"


def test_ctrl_c_ends_the_job(whole_cluster, some_photos, version, tmp_path):
    """A terminal sends it to all of the group, and so to Beam's job server, which has to outlive it."""
    with started_match(some_photos, version, tmp_path / "matches") as job:
        in_the_middle(job, tmp_path)
        os.killpg(job.pid, signal.SIGINT)
        said, _ = job.communicate()
    assert (job.returncode, said) == (130, "celebface match: interrupted; the same command goes on where it was\n")
    assert_cancelled()


@pytest.fixture(scope="module")
def with_a_marked_photo(photos, tmp_path_factory) -> pathlib.Path:
    """A folder of 40 of the photos; one of them kills whoever decodes it."""
    folder = tmp_path_factory.mktemp("marked")
    for photo in sorted(photos.iterdir())[:40]:
        mark = MARK if photo.stem == "00003" else b""
        (folder / photo.name).write_bytes(photo.read_bytes() + mark)
    return folder


@pytest.mark.parametrize("engine", [LOCAL, FLINK, PRISM], ids=lambda engine: engine.name)
def test_a_photo_that_kills_its_decoder_is_lost_alone(
    engine, request, with_a_marked_photo, version, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(CRASHING), os.environ.get("PYTHONPATH")])))
    flags = engine.flags
    if engine is FLINK:
        request.getfixturevalue("whole_cluster")
        [worker] = (flag.rpartition("=")[2] for flag in flags if "process_command" in flag)
        flags = [flag.replace(worker, str(as_told(worker, tmp_path))) for flag in flags]
    if engine is PRISM:
        request.getfixturevalue("prism")
    done = golden.match(golden.Engine(engine.name, flags), [str(with_a_marked_photo)], version, tmp_path / "matches")
    [ledger] = pathlib.Path(done.output).glob("ledger-*.parquet")
    rows = pq.read_table(ledger, columns=["uri", "status", "reason", "detail"]).to_pylist()
    assert len(rows) == len({row["uri"] for row in rows}) == 40
    [crashed] = (row for row in rows if row["reason"] == "crashed")
    assert crashed["uri"].endswith("00003.jpg")
    assert crashed["detail"] == "the process that read it died (SIGSEGV), 3 times"
    assert sum(row["status"] == "done" for row in rows) == 13


def as_told(worker: str, folder: pathlib.Path) -> pathlib.Path:
    """A worker's program with this process's PYTHONPATH, which the cluster does not have."""
    script = folder / "worker"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(os.environ["PYTHONPATH"])} exec {worker} "$@"\n')
    script.chmod(0o755)
    return script
