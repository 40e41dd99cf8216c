"""Both pipelines as Dataflow jobs, built without a network and without an account, and what is wrong with them.

    make dataflow-plan
    python -m deploy.dataflow_plan --image=europe-docker.pkg.dev/you/celebface/worker:1 --bucket=gs://you-celebface

The jobs are those that the commands build. What Dataflow would be sent is written to build/dataflow/<command>.json. It
shows that the graph can be built, pickled and described; not that the image runs, nor what the service thinks of it.
Exit 0 if every check holds, 1 if one does not, 2 for wrong usage.
"""

import argparse
import base64
import bz2
import dataclasses
import json
import logging
import pathlib
import pickletools
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

logging.getLogger().addHandler(logging.NullHandler())  # else Beam's greetings are printed

import apache_beam as beam  # noqa: E402  # after the handler
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions  # noqa: E402
from apache_beam.portability import common_urns, python_urns  # noqa: E402
from apache_beam.portability.api import beam_runner_api_pb2  # noqa: E402
from apache_beam.runners.runner import create_runner  # noqa: E402
from google.protobuf.message import DecodeError  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from celebface.indexing import storage  # noqa: E402
from celebface.indexing.cache import default_cache  # noqa: E402
from celebface.indexing.tombstones import NONE  # noqa: E402
from celebface.models.weights import encoder_folder  # noqa: E402
from celebface.pipelines import build_gallery, engine, match  # noqa: E402
from celebface.transforms.encoders import load_card  # noqa: E402

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "build" / "dataflow"
HARNESS_THREADS = 2  # one reads and encodes while the other waits for storage; each SDK process has one reader more
MACHINE_TYPE = "n2d-standard-4"
DISK_GB = 50
MAX_WORKERS = 50
COMMANDS = ("build-gallery", "match")
_PATH = re.compile(r"/\w[^\n]*")
_URI = re.compile(r"[a-z][a-z0-9]*://")
_REACHED = ("gs://", "http://", "https://")
_GS = re.compile(r"gs://[a-z0-9][a-z0-9._-]+(/.*)?")


@dataclasses.dataclass(frozen=True)
class Plan:
    """A job as Dataflow would be sent it.

    Attributes:
      command: build-gallery or match.
      options: Beam's options.
      job: The request, as JSON.
      graph: The pipeline, portable; None if it could not be built.
      fault: Why not.
    """

    command: str
    options: PipelineOptions
    job: Mapping[str, Any]
    graph: beam_runner_api_pb2.Pipeline | None
    fault: str = ""


@dataclasses.dataclass(frozen=True)
class Check:
    """Something that must hold.

    Attributes:
      what: In words.
      faults: What is against it.
    """

    what: str
    faults: Sequence[str]


def flags(image: str, bucket: str, command: str) -> list[str]:
    """The flags of Beam that the jobs are launched with; deploy/dataflow.md explains them.

    Args:
      image: Of the workers.
      bucket: gs:// URI for staging and temporary files.
      command: Names the job.
    """
    return [
        "--runner=DataflowRunner",
        "--project=a-project",
        "--region=europe-west4",
        f"--job_name=celebface-{command}",
        f"--staging_location={bucket}/staging",
        f"--temp_location={bucket}/temp",
        f"--sdk_container_image={image}",
        "--sdk_location=container",
        f"--worker_machine_type={MACHINE_TYPE}",
        f"--disk_size_gb={DISK_GB}",
        f"--max_num_workers={MAX_WORKERS}",
        "--autoscaling_algorithm=THROUGHPUT_BASED",
        f"--number_of_worker_harness_threads={HARNESS_THREADS}",
        "--resource_hint=min_ram=4GB",
        "--no_use_public_ips",
    ]


def builder(bucket: str, command: str) -> Callable[[beam.Pipeline], None]:
    """What builds a command's pipeline, over places in a bucket; nothing is looked up there.

    Args:
      bucket: gs:// URI.
      command: Of `COMMANDS`.
    """
    encoder = f"{bucket}/encoders/{encoder_folder(default_cache()).name}"
    if command == "build-gallery":
        argv = [f"--source={bucket}/people", f"--output_root={bucket}/galleries", f"--encoder={encoder}"]
        config, _ = build_gallery.parse_args([*argv, "--precision=bfloat16"])
        card = load_card(str(encoder_folder(default_cache())))
        return lambda pipeline: build_gallery.build(pipeline, config, card, f"{config.gallery}/.staging-plan", NONE)
    gallery = f"{bucket}/galleries/celebrities"
    matched, _ = match.parse_args([f"{bucket}/photos", f"--gallery={gallery}", f"--output={bucket}/matches"])
    terms = match.Terms(f"{gallery}/20260101T000000Z-00000000", encoder, "bfloat16", 1.0, None)
    return lambda pipeline: match.build(pipeline, matched, terms, f"{matched.output}/.staging-plan")


def plan(command: str, build: Callable[[beam.Pipeline], None], argv: Sequence[str]) -> Plan:
    """Builds a job as far as its request, which goes nowhere.

    Args:
      command: Names it.
      build: Applies the transforms.
      argv: Beam's flags.
    """
    from apache_beam.runners.dataflow.internal import apiclient

    FOLDER.mkdir(parents=True, exist_ok=True)
    written = FOLDER / f"{command}.json"
    written.unlink(missing_ok=True)

    def keep(self: Any, folder: str, name: str, content: Any, **kwargs: Any) -> None:
        if name == written.name:  # else it is one of the files that would be staged
            written.write_bytes(content.read())

    options = PipelineOptions([*argv, "--no_auth", f"--template_location={written}"])
    engine.settle(options)
    client = apiclient.DataflowApplicationClient
    runner = create_runner("DataflowRunner")
    with (
        mock.patch.object(GoogleCloudOptions, "_warn_if_soft_delete_policy_enabled"),
        mock.patch.object(client, "stage_file_with_retry", keep),
        mock.patch.object(client, "_gcs_file_copy"),
        mock.patch.object(storage, "list_files", return_value=[]),  # nothing is done yet
    ):
        try:
            pipeline = beam.Pipeline(runner=runner, options=options)
            build(pipeline)
            pipeline.run()
        except Exception as error:  # whatever keeps it from being built is what this is here to tell
            return Plan(command, options, {}, None, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    return Plan(command, options, json.loads(written.read_text()), runner.proto_pipeline)


# --- checks -----------------------------------------------------------------------------------------------------------


def checks(made: Plan) -> list[Check]:
    """All checks of a job; of one that could not be built only that it could not."""
    built = Check("the graph is built, every step pickled", [made.fault] if made.fault else [])
    if made.graph is None:
        return [built]
    payloads = list(_payloads(made.graph))
    return [
        built,
        Check("project, region, and gs:// for staging and temporary files", list(_place_faults(made.options))),
        Check("the workers run our image", list(_image_faults(made))),
        Check("nothing is installed or staged at the start of a worker", list(_staged_faults(made))),
        Check("machines, disks, threads and most workers are set", list(_worker_faults(made.job))),
        Check("nothing is pickled out of the main session", list(_main_faults(made.options, payloads))),
        Check("no path in the graph, and no store that workers do not reach", list(_location_faults(payloads))),
    ]


def _place_faults(options: PipelineOptions) -> Iterator[str]:
    cloud = options.view_as(GoogleCloudOptions)
    for name in ("project", "region", "job_name"):
        if not getattr(cloud, name):
            yield f"--{name} is not given"
    for name in ("staging_location", "temp_location"):
        if not _GS.fullmatch(getattr(cloud, name) or ""):
            yield f"--{name} is {getattr(cloud, name)}"


def _image_faults(made: Plan) -> Iterator[str]:
    assert made.graph is not None
    wanted = made.options.get_all_options()["sdk_container_image"]
    if not wanted:
        yield "--sdk_container_image is not given"
    for environment in made.graph.components.environments.values():
        if environment.urn != common_urns.environments.DOCKER.urn:
            yield f"an environment is {environment.urn}"
            continue
        image = beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
        if image != wanted:
            yield f"an environment runs {image}"


def _staged_faults(made: Plan) -> Iterator[str]:
    assert made.graph is not None
    for environment in made.graph.components.environments.values():
        for artifact in environment.dependencies:
            name = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(artifact.role_payload).staged_name
            if name != "submission_environment_dependencies.txt":  # for people who look into a job; it installs nothing
                yield f"{name} is staged"


def _worker_faults(job: Mapping[str, Any]) -> Iterator[str]:
    for pool in job["environment"]["workerPools"]:
        scaling = pool.get("autoscalingSettings", {})
        for what, value, wanted in (
            ("machine type", pool.get("machineType"), MACHINE_TYPE),
            ("disk size", pool.get("diskSizeGb"), DISK_GB),
            ("threads of a worker", pool.get("numThreadsPerWorker"), HARNESS_THREADS),
            ("most workers", scaling.get("maxNumWorkers"), MAX_WORKERS),
            ("public addresses", pool.get("ipConfiguration"), "WORKER_IP_PRIVATE"),
        ):
            if value != wanted:
                yield f"{what}: {value}, not {wanted}"


def _main_faults(options: PipelineOptions, payloads: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    if options.get_all_options()["save_main_session"]:
        yield "--save_main_session"
    for step, payload in payloads:
        if "__main__" in _strings(payload):
            yield f"{step} holds something of __main__"


def _location_faults(payloads: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    """Places that no worker reaches: paths, as text or as objects, and stores that are neither Google's nor the web."""
    for step, payload in payloads:
        for text in sorted(set(_strings(payload))):
            is_path = bool(_PATH.fullmatch(text)) and not text.endswith(".py")  # where a function was written
            is_elsewhere = bool(_URI.match(text)) and not text.startswith(_REACHED)
            if is_path or is_elsewhere or text in ("PosixPath", "WindowsPath"):
                yield f"{step} holds {text}"


def _payloads(graph: beam_runner_api_pb2.Pipeline) -> Iterator[tuple[str, bytes]]:
    """Names of steps and coders, with what is pickled in each."""
    for transform in graph.components.transforms.values():
        yield transform.unique_name, transform.spec.payload
        try:
            par_do = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
        except DecodeError:
            continue
        if par_do.do_fn.urn == python_urns.PICKLED_DOFN_INFO:
            yield transform.unique_name, par_do.do_fn.payload
    for name, coder in graph.components.coders.items():
        yield name, coder.spec.payload


def _strings(payload: bytes) -> list[str]:
    """The strings in a pickle, which Beam keeps compressed and in base64; of other payloads what can be read."""
    data = payload
    for unpack in (base64.b64decode, bz2.decompress, zlib.decompress):
        try:
            data = unpack(data)
        except (ValueError, OSError, zlib.error):
            continue
    try:
        return [text for _, text, _ in pickletools.genops(data) if isinstance(text, str)]
    except Exception:  # no pickle; pickletools raises whatever it stumbles on
        return re.findall(r"[\x20-\x7e]{4,}", payload.decode("latin-1"))


def shuffles(graph: beam_runner_api_pb2.Pipeline) -> list[str]:
    """Names of the steps at which elements cross from worker to worker."""
    urns = {common_urns.primitives.GROUP_BY_KEY.urn}
    return sorted(step.unique_name for step in graph.components.transforms.values() if step.spec.urn in urns)


# --- the command ------------------------------------------------------------------------------------------------------


def _show(made: Plan, found: Sequence[Check], console: Console) -> None:
    table = Table(box=None, title=made.command, title_justify="left")
    table.add_column("check")
    table.add_column("holds")
    for check in found:
        table.add_row(check.what, "; ".join(check.faults[:3]) if check.faults else "ok")
    console.print(table)
    if made.graph is not None:
        steps = len(made.graph.components.transforms)
        console.print(f"  {steps} steps, shuffled at: {', '.join(shuffles(made.graph))}")
        console.print(f"  {(FOLDER / made.command).relative_to(ROOT)}.json")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.dataflow_plan", description=__doc__.splitlines()[0])
    parser.add_argument("--image", default="europe-docker.pkg.dev/a-project/celebface/worker:0.1.0", metavar="IMAGE")
    parser.add_argument("--bucket", default="gs://a-bucket", metavar="gs://BUCKET")
    args = parser.parse_args(argv)
    if not _GS.fullmatch(args.bucket):
        parser.error(f"--bucket must be a gs:// place, not {args.bucket}")
    try:
        import apache_beam.runners.dataflow.internal.apiclient  # noqa: F401  # it takes the extra gcp
    except ImportError as error:
        print(f"dataflow-plan: {error}; make dataflow-plan installs what it takes", file=sys.stderr)
        return 2
    console = Console(width=200, soft_wrap=True)
    broken = False
    for command in COMMANDS:
        made = plan(command, builder(args.bucket, command), flags(args.image, args.bucket, command))
        found = checks(made)
        _show(made, found, console)
        broken = broken or any(check.faults for check in found)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
