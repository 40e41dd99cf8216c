"""Reads command lines in which Beam's flags stand among ours."""

import argparse
import difflib
from collections.abc import Sequence

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    SparkRunnerOptions,
    StandardOptions,
    WorkerOptions,
    _BeamArgumentParser,
)
from apache_beam.runners.runner import create_runner

from celebface.pipelines.arguments import LOCAL_RUNNER, Parser

_OURS = ("--dry_run",)  # Beam has it too, for Dataflow, where it needs a value
_OWN_FLAGS = ("FlinkRunner", "PortableRunner", "PrismRunner", "SparkRunner")  # their job servers know more than Beam
# Beam's options that say nothing to its local engine; some of theirs that it does not mind are in other classes.
_OF_ENGINES = (
    FlinkRunnerOptions, SparkRunnerOptions, PrismRunnerOptions, PortableOptions, JobServerOptions, GoogleCloudOptions,
    WorkerOptions,
)  # fmt: skip
_SLIP = 0.8  # likeness of two flags of which one is a slip at the other, such as --tua and --tau


def split_flags(parser: Parser, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tells Beam's flags from ours and from the names of photos among them.

    Args:
      parser: Reports flags with values that Beam does not take.
      argv: The command line.

    Returns:
      What is not Beam's, and what is, both in their order.
    """
    flags = [argument for argument in argv if argument not in _OURS]
    captured: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=captured.append)
    beam_parser = captured[0]
    beam_parser.error = parser.error  # type: ignore[method-assign]  # one line instead of Beam's whole usage
    _, others = beam_parser.parse_known_args(flags)
    ours, beams = [*others, *(argument for argument in argv if argument in _OURS)], []
    for argument in flags:
        if others and others[0] == argument:
            others = others[1:]
        else:
            beams.append(argument)
    return ours, beams


def parse_args(parser: Parser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Reads a command line in which our flags, Beam's, and positional arguments may stand in any order.

    Flags that nobody knows are refused, as Beam itself only logs them. Runners with a job server ask that for more
    flags, so those pass, unless they look like a slip at one that is known; they need the form --flag=value.

    Returns:
      Our values, and Beam's flags.
    """
    if not {"-h", "--help"}.isdisjoint(argv):
        parser.parse_args(["--help"])  # before Beam's parser shows its own
    ours, beams = split_flags(parser, argv)
    _, unknown = parser.parse_known_intermixed_args(ours)
    engines = [argument for argument in unknown if argument.startswith("--")]
    args, unknown = parser.parse_known_intermixed_args([argument for argument in ours if argument not in engines])
    args.runner = runner_name(beams)
    lonely = [name for flag in beams if (name := flag.partition("=")[0]) in _engines_flags()]
    if args.runner == LOCAL_RUNNER and lonely:
        parser.error(f"{lonely[0]} needs a --runner")
    if args.runner in _OWN_FLAGS:
        unknown = [flag for flag in engines if _is_misspelled(flag, parser)] + unknown
    else:
        unknown = engines + unknown
    if unknown:
        hint = "" if unknown[0].startswith("-") else " (see --help for how photos are named)"
        parser.error(f"unknown argument {unknown[0]}{hint}")
    if args.runner != LOCAL_RUNNER:
        try:
            create_runner(args.runner)
        except (ValueError, ImportError) as error:
            parser.error(f"--runner {args.runner}: {error}")
    return args, beams + engines


def runner_name(argv: Sequence[str]) -> str:
    """The runner that Beam flags ask for, as Beam writes it."""
    asked = PipelineOptions(list(argv)).view_as(StandardOptions).runner or LOCAL_RUNNER
    known = {name.lower(): name for name in StandardOptions.KNOWN_RUNNER_NAMES}
    return known.get(asked.lower(), known.get(f"{asked.lower()}runner", asked))


def _engines_flags() -> set[str]:
    """Flags of Beam that only engines heed: a user who gives one without --runner believes to use one."""
    parser = _BeamArgumentParser(add_help=False)
    for options in _OF_ENGINES:
        options._add_argparse_args(parser)
    return set(parser._option_string_actions)


def _is_misspelled(flag: str, parser: Parser) -> bool:
    """Whether a flag that nobody knows is all but one of those that are known."""
    known: list[argparse.ArgumentParser] = [parser]
    PipelineOptions([]).get_all_options(add_extra_args_fn=known.append)
    names = [name for each in known for name in each._option_string_actions]
    return bool(difflib.get_close_matches(flag.partition("=")[0], names, n=1, cutoff=_SLIP))
