"""The peers' virtual environments, under build/bench: made once, by pip, each with pinned versions.

facenet-pytorch pins versions of torch and NumPy that are years old, so it goes without its dependencies, onto today's.
torch's wheels for Linux on PyPI are built for CUDA and will not load without its libraries, 5 GB, which pip therefore
brings along; without a GPU they lie idle, and the CPU code is that of torch's CPU build.
"""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable

from celebface.indexing.cache import default_cache
from celebface.models import encoder_card, weights

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "build" / "bench"
CONTENDERS = pathlib.Path(__file__).parent / "contenders"
_MARKER = "installed.txt"
_SPARE_BYTES = 10 * 2**30  # disk left free beside an environment
_INSTALL_SECONDS = 1800


class CannotMake(Exception):
    """An environment cannot be made; the message says why in one line."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """What a peer needs.

    Attributes:
      name: Its folder under build/bench.
      installs: Arguments of `pip install`, one call each.
      disk_bytes: What it takes when it is made.
      finish: What is left to do once the packages are there; gets the environment's Python.
    """

    name: str
    installs: tuple[tuple[str, ...], ...]
    disk_bytes: int
    finish: Callable[[pathlib.Path], None] | None = None

    @property
    def recipe(self) -> str:
        """All that the environment is made of, so that one of another recipe is made anew."""
        python = ".".join(map(str, sys.version_info[:3]))
        return "\n".join([f"python {python}", *(" ".join(install) for install in self.installs)]) + "\n"


def make(environment: Environment, folder: pathlib.Path = FOLDER) -> pathlib.Path:
    """Makes an environment, unless it is there.

    Args:
      environment: What to make.
      folder: Where environments lie.

    Returns:
      Its Python.

    Raises:
      CannotMake: If it cannot be made.
    """
    home = folder / environment.name
    python = home / "bin" / "python"
    marker = home / _MARKER
    if marker.exists() and marker.read_text() == environment.recipe:
        return python
    shutil.rmtree(home, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    needed = environment.disk_bytes + _SPARE_BYTES
    if (free := shutil.disk_usage(folder).free) < needed:
        raise CannotMake(f"{needed / 2**30:.0f} GB of free disk are needed, there are {free / 2**30:.0f}")
    print(f"making the environment of {environment.name} ...", flush=True)
    venv.create(home, with_pip=True)
    for packages in environment.installs:
        run([str(python), "-m", "pip", "install", "--quiet", "--no-cache-dir", *packages])
    if environment.finish:
        environment.finish(python)
    marker.write_text(environment.recipe)
    return python


def run(command: list[str]) -> None:
    """Runs a command.

    Raises:
      CannotMake: If it fails, with the last line that it printed.
    """
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, env=environ, timeout=_INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise CannotMake(f"it took more than {_INSTALL_SECONDS} s") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise CannotMake(next((line for line in lines if line.startswith("ERROR")), lines[-1]))


def _give_weights(python: pathlib.Path) -> None:
    """DeepFace would download its weights; it gets ours, and must give our vectors with them."""
    with tempfile.TemporaryDirectory() as scratch:
        probes = pathlib.Path(scratch) / "probes.npz"
        run([sys.executable, str(CONTENDERS / "keras_facenet.py"), str(probes)])
        arrays = weights.encoder_folder(default_cache()) / encoder_card.WEIGHTS_NAME
        run([str(python), str(CONTENDERS / "deepface_weights.py"), str(arrays), str(probes)])


DEEPFACE = Environment(
    name="deepface",
    # werkzeug: DeepFace imports it without asking for it.
    installs=(
        (
            "deepface==0.0.103",
            "mtcnn==1.0.0",
            "tensorflow==2.21.0",
            "tf-keras==2.21.0",
            "keras==3.15.1",
            "numpy==2.4.6",
            "opencv-contrib-python-headless==5.0.0.93",
            "werkzeug==3.1.9",
        ),
    ),
    disk_bytes=3 * 2**30,
    finish=_give_weights,
)
FACENET_PYTORCH = Environment(
    name="facenet_pytorch",
    installs=(
        ("torch==2.15.0", "torchvision==0.29.2", "numpy==2.4.6", "pillow==12.3.0", "requests", "tqdm"),
        ("--no-deps", "facenet-pytorch==2.6.0"),
    ),
    disk_bytes=6 * 2**30,
)
INDEXES = Environment(
    name="indexes", installs=(("faiss-cpu==1.15.1", "usearch==2.26.6", "numpy==2.4.6"),), disk_bytes=2**30
)
ENVIRONMENTS = (DEEPFACE, FACENET_PYTORCH)  # that turn photos into vectors


def main() -> None:
    """Makes all environments."""
    for environment in (*ENVIRONMENTS, INDEXES):
        try:
            print(f"{environment.name}: {make(environment)}")
        except CannotMake as why:
            print(f"{environment.name} is left out: {why}")


if __name__ == "__main__":
    main()
