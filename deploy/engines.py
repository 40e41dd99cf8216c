"""The flags by which a job runs on an engine that this repository starts.

    celebface match photos/ $(python -m deploy.engines FlinkRunner)

On other clusters they differ in the addresses, and in how a Python worker comes to be there; see deploy/flink.md.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from deploy.flink import cluster

ROOT = pathlib.Path(__file__).parents[1]
FLINK_JOB_SERVER = cluster.HOME / "job-server.jar"
PRISM = ROOT / "build" / "prism"
_KEEP_WORKERS_MS = 60_000  # a Python worker waits so long for the next stage; else each stage loads the networks anew


def flags(runner: str, parallelism: int = 2) -> list[str]:
    """Beam's flags for a runner; of one that needs no more than its name, that.

    Args:
      runner: As Beam calls it.
      parallelism: Slots that a Flink job takes.
    """
    given = [f"--runner={runner}"]
    if runner == "FlinkRunner":
        given += [
            f"--flink_master={cluster.MASTER}",
            f"--flink_job_server_jar={FLINK_JOB_SERVER}",
            f"--parallelism={parallelism}",
            "--environment_type=PROCESS",
            f"--environment_options=process_command={pathlib.Path(sys.executable).parent / 'celebface-worker'}",
            f"--environment_cache_millis={_KEEP_WORKERS_MS}",
        ]
    if runner == "PrismRunner" and PRISM.exists():  # Beam fetches it otherwise
        given.append(f"--prism_location={PRISM}")
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the flags, for a shell."""
    parser = argparse.ArgumentParser(prog="python -m deploy.engines", description=__doc__.splitlines()[0])
    parser.add_argument("runner")
    parser.add_argument("--parallelism", type=int, default=2)
    args = parser.parse_args(argv)
    if args.parallelism < 1:
        parser.error(f"--parallelism must be at least 1, not {args.parallelism}")
    if args.runner == "FlinkRunner" and not FLINK_JOB_SERVER.exists():
        print("there is no Flink here: make cluster-up fetches and starts it", file=sys.stderr)
        return 2
    print(*flags(args.runner, args.parallelism))
    return 0


if __name__ == "__main__":
    sys.exit(main())
