"""Fixtures: the fetched models, a gallery built from the sample, photos made on the spot; the order of the files."""

import functools
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

# Those that take a minute or more, first, so that at the end no process has one of them left for itself.
SLOW = (
    "web_build", "build_gallery", "match", "evaluate", "verify", "train", "build_from_lists", "store_life",
    "isolated_reader", "audit_build", "api", "build_after_removal", "facenet", "packaging", "local_engine",
    "hostile_names",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {f"test_{name}": place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session", autouse=True)
def an_encoder_that_stays():
    """The runs of this process share their encoders, which take 5 seconds to load and do not change."""
    from celebface.indexing import storage
    from celebface.models.encoder_card import CARD_NAME
    from celebface.pipelines import embedder
    from celebface.transforms import encode, encoders

    @functools.lru_cache(4)
    def load(card: bytes, uri: str, precision: str):
        return encoders.load_encoder(uri, precision)

    def load_once(uri: str, precision: str):
        return load(storage.read_bytes(storage.join(uri.removesuffix(f"/{CARD_NAME}"), CARD_NAME)), uri, precision)

    with pytest.MonkeyPatch.context() as patched:
        for module in (encode, embedder):
            patched.setattr(module, "load_encoder", load_once)
        yield


@pytest.fixture(scope="session")
def gallery(cache, tmp_path_factory) -> pathlib.Path:
    """<root>/<name> of a gallery of the sample, built by the command; one for all processes that test."""
    from celebface.indexing.swap import locked
    from celebface.pipelines import cli

    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "galleries"
    root.mkdir(exist_ok=True)
    with locked(root):
        if not (root / "sample" / "LATEST").exists():
            assert cli.main(["build-gallery", f"--output_root={root}", "--name=sample"]) == 0
    return root / "sample"
