"""celebface-worker: what an engine such as Flink starts on its machines to run the Python steps of a job.

Beam's containers hold a program, boot, that an engine calls with the address of its provision service. Where the
environment is this one already and there is no container (--environment_type=PROCESS), this takes its place.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import grpc
from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc
from google.protobuf import json_format, text_format

_PATIENCE = 60  # seconds for the engine to answer


def main(argv: Sequence[str] | None = None) -> None:
    """Asks the engine what to do and becomes Beam's worker."""
    parser = argparse.ArgumentParser(prog="celebface-worker", description=__doc__.splitlines()[0])
    parser.add_argument("--id", required=True, help="the worker's name")
    parser.add_argument("--provision_endpoint", required=True, help="host:port of the engine's provision service")
    args, _ = parser.parse_known_args(argv)  # engines pass the other services' addresses, too
    os.environ.update(environment(args.id, provision(args.id, args.provision_endpoint)))
    os.execv(sys.executable, [sys.executable, "-P", "-m", "celebface.pipelines.worker"])


def provision(worker: str, endpoint: str) -> beam_provision_api_pb2.ProvisionInfo:
    """Asks an engine for its services and the job's options.

    Args:
      worker: The worker's name, which the engine knows it by.
      endpoint: host:port.
    """
    with grpc.insecure_channel(endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        answer = service.GetProvisionInfo(
            beam_provision_api_pb2.GetProvisionInfoRequest(),
            metadata=[("worker_id", worker)],
            timeout=_PATIENCE,
            wait_for_ready=True,
        )
    return answer.info


def environment(worker: str, info: beam_provision_api_pb2.ProvisionInfo) -> dict[str, str]:
    """The variables by which Beam's worker is told what boot knows."""
    variables = {
        "WORKER_ID": worker,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.logging_endpoint),
        "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.control_endpoint),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    if info.status_endpoint.url:
        variables["STATUS_API_SERVICE_DESCRIPTOR"] = text_format.MessageToString(info.status_endpoint)
    return variables


if __name__ == "__main__":
    main()
