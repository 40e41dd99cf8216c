"""Beam's local engine, with worker processes that are watched.

Beam's own environment of processes starts them and forgets them. If one is killed, by the system when memory runs out,
say, Beam notices only while it waits for data from it, and only when the others are done; else it waits for ever. Its
multi-processing mode, which uses that environment, also keeps the pipeline options from the workers, and lets them
write their log to the terminal. So the processes are started here.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2, beam_provision_api_pb2, endpoints_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcServer, GrpcWorkerHandler, WorkerHandler
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.transforms.environments import Environment, python_sdk_capabilities
from google.protobuf import json_format, text_format

from celebface.pipelines import threads

_URN = "celebface:env:watched_processes:v1"
_SECONDS_BETWEEN_LOOKS = 0.1  # at what Beam waits for from a process that is dead
_SECONDS_TO_END = 60.0  # for a process that was told to
_SECONDS_TO_HEAR = 2.0  # of a death, which connections tell a moment before the kernel does

_runs: dict[str, "Processes"] = {}  # by their keys: Beam makes the handlers, and passes nothing but bytes


@dataclasses.dataclass(eq=False)
class Processes:
    """The worker processes of a run.

    Attributes:
      key: Names the run in Beam's environment.
      death: How the first of them died, for people; empty while none did.
      died: Set when one has.
    """

    key: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    death: str = ""
    died: threading.Event = dataclasses.field(default_factory=threading.Event)
    _running: list["subprocess.Popen[bytes]"] = dataclasses.field(default_factory=list)
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def start(self, command: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        """Starts one."""
        with self._lock:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
            self._running.append(process)
        return process

    def mourn(self, process: "subprocess.Popen[bytes]") -> None:
        """Ends the others as well, as the run fails, and they would work on for nobody."""
        with self._lock:
            if not self.death:
                self.death = _how_it_ended(process.returncode)
                self.died.set()
                for other in self._running:
                    other.kill()


@contextlib.contextmanager
def local_runner(options: PipelineOptions, workers: int) -> Iterator[tuple[FnApiRunner, Processes]]:
    """Beam's local engine: within this process, or with workers of its own.

    Args:
      options: Go to the workers.
      workers: How many; one means this process.

    Yields:
      The runner, and the processes it will start, which tell afterwards whether one of them died.
    """
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = beam_provision_api_pb2.ProvisionInfo(retrieval_token="unused", pipeline_options=encoded)
    processes = Processes()

    def is_of_a_death(raised: BaseException) -> bool:
        """Of a thread of Beam's that listens to a process when it dies, or whose answer `_watch` gave already."""
        return isinstance(raised, grpc.RpcError | KeyError) and processes.died.wait(_SECONDS_TO_HEAR)

    environment = _WatchedProcesses(processes.key) if workers > 1 else None
    _runs[processes.key] = processes
    try:
        with threads.hiding(is_of_a_death) if workers > 1 else contextlib.nullcontext():
            yield (
                FnApiRunner(default_environment=environment, provision_info=ExtendedProvisionInfo(provision)),
                processes,
            )
    finally:
        del _runs[processes.key]


class _WatchedProcesses(Environment):
    """Tells Beam which handler starts the workers."""

    def __init__(self, key: str):
        super().__init__(capabilities=python_sdk_capabilities())
        self._key = key

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        return _URN, self._key.encode()


@WorkerHandler.register_environment(_URN, bytes)
class _WatchedWorker(GrpcWorkerHandler):
    """A worker process. Where Beam waits for a dead one, it gets an error, upon which it fails the run."""

    def __init__(self, key: bytes, state: Any, provision_info: Any, grpc_server: GrpcServer):
        super().__init__(state, provision_info, grpc_server)
        self._processes = _runs[key.decode()]
        self._closing = threading.Event()

    def start_worker(self) -> None:
        control = endpoints_pb2.ApiServiceDescriptor(url=self.control_address)
        environment = os.environ | {
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(control),
            "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.logging_api_service_descriptor()),
            "PIPELINE_OPTIONS": json_format.MessageToJson(self.provision_info.provision_info.pipeline_options),
            "WORKER_ID": self.worker_id,
        }
        command = [sys.executable, "-P", "-m", "celebface.pipelines.worker"]
        self._process = self._processes.start(command, environment)
        threading.Thread(target=self._watch, name="watch_worker", daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        try:
            super().close()
        except grpc.RpcError:  # of a stream that broke with its process
            self.stop_worker()

    def stop_worker(self) -> None:
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _watch(self) -> None:
        self._process.wait()
        if self._closing.is_set():
            return
        self._processes.mourn(self._process)
        while not self._closing.wait(_SECONDS_BETWEEN_LOOKS):
            # Beam asks a handler's connection, and has no other way to be told; what it asks later waits, too.
            for instruction in list(self.control_conn._futures_by_id):
                if future := self.control_conn._futures_by_id.pop(instruction, None):
                    died = f"a worker process {self._processes.death}"
                    future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=instruction, error=died))


def _how_it_ended(status: int) -> str:
    return f"was killed ({signal.Signals(-status).name})" if status < 0 else f"ended with status {status}"
