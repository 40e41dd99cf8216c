"""Fixtures: the fetched models, a gallery built from the sample, photos made on the spot."""

import os
import pathlib

import pytest

from celebface.indexing.cache import default_cache
from celebface.models import weights

# --- data -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def cache() -> pathlib.Path:
    """The cache of fetched models; `make test` fills it."""
    folder = default_cache()
    if not weights.encoder_folder(folder).is_dir() or not weights.sample_folder(folder, "val").is_dir():
        pytest.skip("the models are not fetched: run celebface fetch-models")
    return folder


@pytest.fixture(scope="session")
def encoder(cache) -> str:
    return str(weights.encoder_folder(cache))


@pytest.fixture(scope="session")
def sample(cache) -> pathlib.Path:
    """The photos of the sample's gallery, <person>/<photo>.jpg."""
    return weights.sample_folder(cache, "train")


@pytest.fixture(scope="session")
def probes(cache) -> pathlib.Path:
    """The photos to match, <person>/<photo>.jpg."""
    return weights.sample_folder(cache, "val")


@pytest.fixture(scope="session")
def portrait(probes) -> pathlib.Path:
    """A photo with one clear face."""
    return sorted(probes.glob("madonna/*.jpg"))[0]


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Data sets beside the repository, for those tests that measure on them."""
    folder = pathlib.Path(os.environ.get("CELEBFACE_SHARED", pathlib.Path(__file__).parents[2] / "shared"))
    if not (folder / "data" / "lfw").is_dir():
        pytest.skip("no LFW photos: set CELEBFACE_SHARED to a folder with data/lfw")
    return folder


# --- execution --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def gallery(cache, tmp_path_factory) -> pathlib.Path:
    """<root>/<name> of a gallery of the sample, built by the command."""
    from celebface.pipelines import cli

    root = tmp_path_factory.mktemp("galleries")
    assert cli.main(["build-gallery", f"--output_root={root}", "--name=sample"]) == 0
    return root / "sample"
