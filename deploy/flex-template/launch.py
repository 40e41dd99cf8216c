"""What a flex template's launcher runs: the command that the parameter `command` names, with the others as its flags.

It describes the job and goes; the results are handed over, or a gallery is published, by the same command without
--runner when the job has run. The workers run the image that this one was built with.
"""

import os
import sys

from celebface.pipelines import cli

# As in dataflow.md: what gcloud has no flag for.
WORKERS = (
    "--sdk_location=container",
    "--number_of_worker_harness_threads=2",
    "--disk_size_gb=50",
    "--resource_hint=min_ram=4GB",
)


def arguments(argv: list[str]) -> list[str]:
    """The command line: the value of --command first, then the flags of the workers, and the others."""
    named = [flag for flag in argv if flag.startswith("--command=")]
    others = [flag for flag in argv if flag not in named]
    image = f"--sdk_container_image={os.environ['CELEBFACE_IMAGE']}"
    return [*(flag.removeprefix("--command=") for flag in named), image, *WORKERS, *others]


if __name__ == "__main__":
    sys.exit(cli.main(arguments(sys.argv[1:])))
