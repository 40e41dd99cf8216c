"""A Flink cluster on this machine: a job manager and two task managers, as processes of their own.

    python -m deploy.flink.cluster up
    python -m deploy.flink.cluster status
    python -m deploy.flink.cluster down

`make cluster-up` fetches Flink first. Flink's own start scripts are not in the distribution that PyPI has, so the two
programs that they end in are started here.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import requests
import tenacity

from celebface.pipelines import machine

HERE = pathlib.Path(__file__).parent
HOME = HERE.parents[1] / "build" / "flink"  # all that the cluster is and leaves
CONF = dict(re.findall(r"^([\w.-]+): (.+)$", (HERE / "flink-conf.yaml").read_text(), re.MULTILINE))
MASTER = f"{CONF['rest.address']}:{CONF['rest.port']}"
REST = f"http://{MASTER}"
TASK_MANAGERS = 2

_JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_NOT_NEEDED = ("flink-table", "flink-cep", "flink-csv", "flink-json", "flink-scala")  # SQL, events, file formats
# What Flink's scripts make of the configuration, in MB.
_TASK_HEAP = ("framework.heap.size", "task.heap.size")
_TASK_DIRECT = ("framework.off-heap.size", "task.off-heap.size", "network.max")
_JOB_HEAP, _JOB_DIRECT = 448, 128
# What Flink reaches into of Java 17; from the configuration that Flink is published with.
_OPENED = ("lang", "net", "io", "nio", "lang.reflect", "text", "time", "util", "util.concurrent")
_PATIENCE = 60  # seconds for the cluster to be there, and again for it to end
_SECONDS_TO_END = 10  # before a process that was asked to end is killed


class ClusterError(Exception):
    """The cluster cannot be started."""


@dataclasses.dataclass(frozen=True)
class Process:
    """One of the cluster's processes.

    Attributes:
      name: "jobmanager", "taskmanager-1" and so on.
    """

    name: str

    @property
    def pid_file(self) -> pathlib.Path:
        """Where its process id is kept while it runs."""
        return HOME / "run" / f"{self.name}.pid"

    @property
    def log(self) -> pathlib.Path:
        """What it says."""
        return HOME / "log" / f"{self.name}.log"

    @property
    def written(self) -> list[str]:
        """What was noted at its start: process id, start time, and the name it has in Flink; empty if nothing."""
        try:
            return self.pid_file.read_text().split()
        except FileNotFoundError:
            return []

    @property
    def pid(self) -> int | None:
        """Its process id, which is also its process group's; None if it does not run."""
        if not self.written:
            return None
        pid, started, _ = self.written
        with contextlib.suppress(ChildProcessError):
            os.waitpid(int(pid), os.WNOHANG)  # if it was started here and has died, it still has to be taken note of
        return int(pid) if start_time(int(pid)) == started else None


def start_time(pid: int) -> str:
    """When a process was started, in the kernel's ticks: with its id it names a process for good, as ids are used anew.

    Empty for a process that is not, or is dead and only waits to be taken note of.
    """
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *fields = stat.rpartition(")")[2].split()  # a program's name, before it, may hold spaces
    return "" if state in "ZX" else fields[18]  # field 22 of proc(5)


JOB_MANAGER = Process("jobmanager")


def task_managers() -> list[Process]:
    """The task managers, running or not."""
    return [Process(f"taskmanager-{number}") for number in range(1, TASK_MANAGERS + 1)]


def up() -> None:
    """Starts what does not run yet, and waits until all task managers have reported.

    Raises:
      ClusterError: If Flink or Java are not there, or the cluster does not come up.
    """
    if not any((HOME / "lib").glob("flink-dist-*.jar")):
        raise ClusterError(f"there is no Flink in {HOME}; make cluster-up fetches it")
    if shutil.which("java") is None:
        raise ClusterError("Flink needs Java, 11 or 17")
    for folder in ("conf", "log", "run", "tmp"):
        (HOME / folder).mkdir(exist_ok=True)
    conf = (HERE / "flink-conf.yaml").read_text()
    (HOME / "conf" / "flink-conf.yaml").write_text(f"{conf}\nio.tmp.dirs: {HOME / 'tmp'}\n")
    _start(JOB_MANAGER, _JOB_MANAGER)
    for manager in task_managers():
        _start(manager, _TASK_MANAGER)
    try:
        _await_task_managers()
    except tenacity.RetryError as error:
        logs = ", ".join(str(process.log) for process in (JOB_MANAGER, *task_managers()))
        raise ClusterError(f"the cluster did not come up in {_PATIENCE} s; see {logs}") from error


def down() -> None:
    """Ends all of it, Python workers and job servers included, and deletes what it left beside logs."""
    for process in (*task_managers(), JOB_MANAGER):
        _end(process)
    for pid in _processes():
        with contextlib.suppress(OSError):  # it is gone, or somebody else's
            if str(HOME / "job-server.jar") in _words(
                pid, "cmdline"
            ):  # of a driver that was killed; Beam's client ends them else
                os.kill(pid, signal.SIGTERM)
    for folder in ("conf", "run", "tmp"):
        shutil.rmtree(HOME / folder, ignore_errors=True)


def overview() -> dict[str, Any]:
    """What the job manager says of the cluster.

    Raises:
      requests.RequestException: If there is none.
    """
    return _ask("overview")


def jobs() -> list[dict[str, Any]]:
    """The jobs that the job manager knows, the newest first, each with its name and state."""
    return sorted(_ask("jobs/overview")["jobs"], key=lambda job: -job["start-time"])


def _start(process: Process, main_class: str) -> None:
    if process.pid:
        return
    _end(process)  # what a dead one has left
    name = f"{process.name}-{time.time_ns()}"
    jars = [str(jar) for jar in sorted((HOME / "lib").glob("*.jar")) if not jar.name.startswith(_NOT_NEEDED)]
    command = [
        "java",
        *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPENED),
        "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
        f"-Xmx{_JOB_HEAP if process == JOB_MANAGER else _megabytes(_TASK_HEAP)}m",
        f"-XX:MaxDirectMemorySize={_JOB_DIRECT if process == JOB_MANAGER else _megabytes(_TASK_DIRECT)}m",
        f"-Dlog4j.configurationFile={HERE / 'log4j.properties'}",
        "-cp",
        os.pathsep.join(jars),
        main_class,
        "--configDir",
        str(HOME / "conf"),
        "-D",
        f"taskmanager.resource-id={name}",
    ]
    threads = str(max(1, machine.cores() // TASK_MANAGERS))
    # The task managers' Python workers inherit these: each its share of the cores.
    shares = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), threads)
    with process.log.open("ab") as log:  # the last one may have told why it died
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, with its workers; Ctrl-C here is not meant for it
            env={**shares, **os.environ, "TMPDIR": str(HOME / "tmp")},
        )
    process.pid_file.write_text(f"{child.pid} {start_time(child.pid) or 'dead'} {name}")


def _megabytes(names: Sequence[str]) -> int:
    return sum(int(CONF[f"taskmanager.memory.{name}"].removesuffix("m")) for name in names)


@tenacity.retry(
    stop=tenacity.stop_after_delay(_PATIENCE),
    wait=tenacity.wait_fixed(0.5),
    retry=tenacity.retry_if_exception_type(requests.RequestException)
    | tenacity.retry_if_result(lambda all_in: not all_in),
)
def _await_task_managers() -> bool:
    """Whether those have reported that run, and no other is believed to run: one that died is, until it is missed."""
    seen = {manager["id"] for manager in _ask("taskmanagers")["taskmanagers"]}
    return seen == {manager.written[-1] for manager in task_managers()}


def _end(process: Process) -> None:
    """Ends a process, and what is left of its group, which may outlive it: its Python workers."""
    if not process.written:
        return
    group = int(process.written[0])
    if process.pid:
        os.kill(group, signal.SIGTERM)
        with contextlib.suppress(tenacity.RetryError):
            _await_end(process)
    for pid in _processes():
        with contextlib.suppress(OSError):  # it is gone, or somebody else's
            # It was started for the cluster: groups' numbers are used anew, too.
            if os.getpgid(pid) == group and f"TMPDIR={HOME / 'tmp'}" in _words(pid, "environ"):
                os.kill(pid, signal.SIGKILL)
    process.pid_file.unlink()


def _processes() -> list[int]:
    return [int(stat.parent.name) for stat in pathlib.Path("/proc").glob("[0-9]*/stat")]


def _words(pid: int, kind: str) -> list[str]:
    """Of a process's command line ("cmdline") or environment ("environ")."""
    return os.fsdecode(pathlib.Path(f"/proc/{pid}/{kind}").read_bytes()).split("\0")


@tenacity.retry(
    stop=tenacity.stop_after_delay(_SECONDS_TO_END),
    wait=tenacity.wait_fixed(0.1),
    retry=tenacity.retry_if_result(bool),
)
def _await_end(process: Process) -> bool:
    return process.pid is not None


def _ask(path: str) -> dict[str, Any]:
    answer = requests.get(f"{REST}/{path}", timeout=5)
    answer.raise_for_status()
    return answer.json()


def _status() -> Iterator[str]:
    try:
        seen = overview()
    except requests.RequestException:
        yield "there is no cluster"
        return
    yield f"Flink {seen['flink-version']}: {seen['taskmanagers']} task managers, {seen['slots-total']} slots, {REST}"
    for job in jobs():
        yield f"{job['state']:<10} {job['duration'] / 1000:8.1f} s  {job['name']}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.flink.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("do", choices=("up", "status", "down"))
    args = parser.parse_args(argv)
    try:
        if args.do == "up":
            up()
        if args.do == "down":
            down()
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    print("\n".join(_status()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
