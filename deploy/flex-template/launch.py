"""What a flex template's launcher runs: the command that the parameter `command` names, with the others as its flags.

It describes the job and goes; the results are handed over, or a gallery is published, by the same command without
--runner when the job has run.
"""

import sys

from celebface.pipelines import cli


def arguments(argv: list[str]) -> list[str]:
    """The command line: the value of --command first, then the other flags."""
    named = [flag for flag in argv if flag.startswith("--command=")]
    return [*(flag.removeprefix("--command=") for flag in named), *(flag for flag in argv if flag not in named)]


if __name__ == "__main__":
    sys.exit(cli.main(arguments(sys.argv[1:])))
