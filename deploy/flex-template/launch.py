"""What a flex template's launcher runs: the command that the parameter `command` names, with the others as its flags.

It describes the job and goes; the results are handed over, or a gallery is published, by the same command without
--runner when the job has run. The workers run the image that this one was built with.
"""

import os
import sys

from celebface.pipelines import cli

WORKERS = ("--sdk_container_image=", "--sdk_location=", "--number_of_worker_harness_threads=")  # as in dataflow.md


def arguments(argv: list[str]) -> list[str]:
    """The command line: the value of --command first, then the other flags, and those of the workers."""
    named = [flag for flag in argv if flag.startswith("--command=")]
    workers = [
        name + value for name, value in zip(WORKERS, (os.environ["CELEBFACE_IMAGE"], "container", "2"), strict=True)
    ]
    others = [flag for flag in argv if flag not in named]
    return [*(flag.removeprefix("--command=") for flag in named), *workers, *others]


if __name__ == "__main__":
    sys.exit(cli.main(arguments(sys.argv[1:])))
