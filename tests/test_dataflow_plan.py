"""The plan of the Dataflow jobs: it is clean as it stands, and tells what is put into it that must not be there.

It takes Beam's Dataflow client, so these tests run in the environment that `make dataflow-plan` makes, by
`make test-engines`.
"""

import importlib.util
import json
import os
import pathlib
import sys

import apache_beam as beam
import pytest

from celebface.pipelines import engine
from deploy import dataflow_plan
from deploy.dataflow_plan import COMMANDS, checks, flags, plan

LOCATIONS = "no path in the graph, and no store that workers do not reach"
IMAGE, BUCKET = "europe-docker.pkg.dev/a-project/celebface/worker:1", "gs://a-bucket"


@pytest.fixture(scope="module", autouse=True)
def client(cache):
    try:
        import apache_beam.runners.dataflow.internal.apiclient  # noqa: F401
    except ImportError:
        if os.environ.get("CELEBFACE_ENGINES"):
            pytest.fail("apache-beam[gcp] is missing, though CELEBFACE_ENGINES wants these tests to run")
        pytest.skip("apache-beam[gcp] is missing: make test-engines installs it and runs these tests")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setattr(dataflow_plan, "FOLDER", tmp_path)
    return tmp_path


def faults(command="match", step=None, argv=()) -> dict[str, list[str]]:
    """Plans a job, with a step or flags that are not its own."""
    build = dataflow_plan.builder(BUCKET, command)

    def build_more(pipeline):
        build(pipeline)
        if step:
            _ = pipeline | "Odd" >> beam.Create([1]) | "Step" >> step()

    made = plan(command, build_more, [*flags(IMAGE, BUCKET, command), *argv])
    return {check.what: list(check.faults) for check in checks(made) if check.faults}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_job_as_it_is_launched_is_clean(command, folder):
    assert not faults(command)
    job = json.loads((folder / f"{command}.json").read_text())
    [pool] = job["environment"]["workerPools"]
    assert job["name"] == f"celebface-{command}"
    assert pool["sdkHarnessContainerImages"][0]["containerImage"] == IMAGE


def take(element, what):
    return element, what


class Unpicklable:
    def __reduce__(self):
        raise TypeError("this is not for others")


@pytest.mark.parametrize("path", [str(pathlib.Path.home() / "photos"), str(pathlib.Path(__file__).parent), "file:///a"])
def test_a_local_path_in_the_graph_is_told(path):
    found = faults(step=lambda: beam.Map(take, path))
    assert found[LOCATIONS] == [f"Step holds {path}"]


def test_a_local_path_object_in_the_graph_is_told():
    found = faults(step=lambda: beam.Map(take, pathlib.Path("/somewhere")))
    assert "PosixPath" in str(found[LOCATIONS])


def test_a_step_that_cannot_be_pickled_is_told():
    [fault] = faults(step=lambda: beam.Map(take, Unpicklable()))["the graph is built, every step pickled"]
    assert "this is not for others" in fault


def test_something_of_the_main_session_is_told(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "odd", type("Odd", (), {"__module__": "__main__"}), raising=False)
    found = faults(step=lambda: beam.Map(take, sys.modules["__main__"].odd()))
    assert "__main__" in str(found["nothing is pickled out of the main session"])


@pytest.mark.parametrize(
    ("flag", "check"),
    [
        ("--sdk_container_image=", "the workers run our image"),
        ("--worker_machine_type=n1-standard-1", "machines, disks, threads and most workers are set"),
        ("--extra_package=EXTRA", "nothing is installed or staged at the start of a worker"),
    ],
)
def test_flags_that_must_not_be_are_told(flag, check, tmp_path):
    extra = tmp_path / "extra-1.tar.gz"
    extra.write_bytes(b"")
    found = faults(argv=[flag.replace("EXTRA", str(extra))])
    assert check in found


def test_the_main_session_is_never_sent(monkeypatch):
    assert not faults(argv=["--save_main_session"])
    monkeypatch.setattr(engine, "settle", lambda options: None)
    assert "nothing is pickled out of the main session" in faults(argv=["--save_main_session"])


@pytest.mark.parametrize(
    "place", ["/data/photos", "/mnt/my photos (1)/Zoë.jpg", "s3://bucket/photos/a.jpg", "hdfs://names/photos"]
)
def test_a_place_that_the_workers_do_not_reach_is_told(place):
    assert faults(step=lambda: beam.Map(take, place)) == {LOCATIONS: [f"Step holds {place}"]}


def test_a_fault_without_words_is_told():
    def fail(pipeline):
        raise AssertionError

    assert plan("match", fail, flags(IMAGE, BUCKET, "match")).fault == "AssertionError: "


def test_the_page_has_the_flags_that_are_planned():
    page = (dataflow_plan.ROOT / "deploy" / "dataflow.md").read_text()
    for flag in flags(IMAGE, BUCKET, "match"):
        name = flag.partition("=")[0]
        own = name in ("--project", "--staging_location", "--temp_location", "--sdk_container_image", "--job_name")
        assert (name if own else flag) in page


def test_the_launcher_passes_on_what_the_workers_need(monkeypatch):
    monkeypatch.setenv("CELEBFACE_IMAGE", IMAGE)
    spec = importlib.util.spec_from_file_location(
        "launch", dataflow_plan.ROOT / "deploy" / "flex-template" / "launch.py"
    )
    launch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launch)
    given = ["--runner=DataflowRunner", "--command=match", "--photos=gs://b/album/", "--output=gs://b/matches"]
    command, *rest = launch.arguments(given)
    assert command == "match"
    worker = [f"--sdk_container_image={IMAGE}", *launch.WORKERS]
    assert set(worker) < set(flags(IMAGE, BUCKET, "match"))
    assert sorted(rest) == sorted([*(flag for flag in given if flag != "--command=match"), *worker])


def test_the_templates_parameters_are_flags():
    from celebface.pipelines import build_gallery, match

    known = {}
    for command, module in (("build-gallery", build_gallery), ("match", match)):
        with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
            said: list[str] = []
            patch.setattr(
                "argparse.ArgumentParser.print_help", lambda self, file=None, said=said: said.append(self.format_help())
            )
            module.parse_args(["--help"])
        known[command] = said[0]
    metadata = json.loads((dataflow_plan.ROOT / "deploy" / "flex-template" / "metadata.json").read_text())
    for parameter in metadata["parameters"]:
        if parameter["name"] != "command":
            assert any(f"--{parameter['name']} " in text for text in known.values()), parameter["name"]
