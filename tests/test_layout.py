"""The import rule: pipelines -> transforms -> {models, indexing}, never back; heavy libraries only at the edge."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MAY_IMPORT = {
    "pipelines": {"pipelines", "transforms", "models", "indexing"},
    "transforms": {"transforms", "models", "indexing"},
    "models": {"models"},
    "indexing": {"indexing"},
}
# What steps share; everything else in transforms is a step, and steps meet only in pipelines.
SHARED_BY_STEPS = {
    "records",
    "removed",
    "metrics",
    "progress",
    "staged",
    "bundles",
    "hosts",
    "encoders",
    "files",
    "folders",
    "lines",
    "lists",
    "web",
    "audit",
}


def imported_modules(path: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules(layer: str) -> list[pathlib.Path]:
    return sorted((ROOT / layer).rglob("*.py"))


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_layers_import_downwards_only(layer):
    for path in modules(layer):
        layers = {name.split(".")[1] for name in imported_modules(path) if name.startswith("celebface.")}
        assert layers <= MAY_IMPORT[layer], path


@pytest.mark.parametrize("folder", [*MAY_IMPORT, "tests", "benchmarks", "deploy"])
def test_no_layer_is_imported_by_its_bare_name(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        assert not {name.split(".")[0] for name in imported_modules(path)} & MAY_IMPORT.keys(), path


def test_steps_do_not_import_steps():
    for path in modules("transforms"):
        if path.stem == "__init__" or {path.stem, path.parent.name} & SHARED_BY_STEPS:
            continue
        names = {name.split(".")[2] for name in imported_modules(path) if name.startswith("celebface.transforms.")}
        assert names <= SHARED_BY_STEPS, path


@pytest.mark.parametrize(
    ("layer", "banned"), [("models", "apache_beam"), ("indexing", "apache_beam"), ("indexing", "tensorflow")]
)
def test_libraries_stay_out_of_layers(layer, banned):
    for path in modules(layer):
        assert banned not in {name.split(".")[0] for name in imported_modules(path)}, path


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("celebface.transforms.records", ("apache_beam", "tensorflow")),
        ("celebface.indexing.gallery", ("apache_beam", "tensorflow")),
        ("celebface.indexing", ("apache_beam", "tensorflow", "annoy", "pyarrow")),
        ("celebface.models.faces", ("apache_beam", "tensorflow")),
        ("celebface.pipelines.cli", ("apache_beam", "tensorflow")),
        ("celebface.pipelines.verify", ("apache_beam", "tensorflow", "matplotlib")),
        ("celebface.pipelines.api", ("apache_beam", "tensorflow")),
        ("celebface.pipelines.match", ("tensorflow",)),  # the driver of a run with worker processes
        ("celebface.pipelines.build_gallery", ("tensorflow",)),
        ("celebface.pipelines.galleries", ("tensorflow",)),
        ("celebface.pipelines.album_report", ("tensorflow",)),
        ("celebface.indexing.storage", ("boto3", "google.cloud.storage")),  # extras
    ],
)
def test_loading_a_module_does_not_load(module, banned):
    code = f"import sys, {module}; print([name for name in {banned!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


def test_benchmarks_find_all_that_they_import():
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
    assert len(names) > 10
    code = "import importlib\n" + "".join(f"importlib.import_module('benchmarks.{name}')\n" for name in names)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_a_gallery_is_opened_without_heavy_libraries():
    code = "import sys; from celebface.indexing import BadBundle, Gallery, Neighbour, open_gallery\n"
    code += "print([name for name in ('apache_beam', 'tensorflow') if name in sys.modules], Gallery.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[] celebface.indexing.gallery"
