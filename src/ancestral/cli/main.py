"""Command-line interface: fit, evaluate, compare, sample, predict, impute and others.

The options of ``fit METHOD`` are the constructor parameters of the estimator. torch is imported
only by commands that compute, so that ``--help`` is fast.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ancestral.cli.parser import build_parser
from ancestral.estimators import registry


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Exit codes are 0, 2 for invalid input, 130 after an interrupt and 141 after a closed pipe.
    """
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        print("\nancestral: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(arguments: Sequence[str]) -> int:
    """Parse the arguments, run the command and return the exit code."""
    options, unknown = build_parser(arguments).parse_known_args(arguments)
    if unknown:
        _check_method(options)
        options.parser.error_unknown(unknown)
    if options.command in LIST_COMMANDS:
        print("\n".join(LIST_COMMANDS[options.command]()), flush=True)
        return 0
    from ancestral.cli import commands  # imports torch

    commands.log_to_stderr()
    try:
        for module in getattr(options, "modules", ()):
            registry.import_module(module)
        with commands.flush_denormals():
            commands.COMMANDS[options.command](options)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except commands.USER_ERRORS as error:
        message = commands.with_cli_option_names(str(error), options.parser.options())
        print(f"ancestral: error: {message}", file=sys.stderr)
        return 2
    return 0


def _check_method(options: argparse.Namespace) -> None:
    """Exit with an error if the method is unknown, which makes all of its options unknown."""
    method = getattr(options, "method", None)
    if method is not None:
        try:
            registry.find(method)
        except ValueError as error:
            options.parser.error(str(error))


def _list_methods() -> list[str]:
    """Lines of the command ``methods``."""
    width = max(map(len, registry.METHODS))
    return [f"{method.name:{width}} {method.summary}" for method in registry.METHODS.values()]


def _list_datasets() -> list[str]:
    """Lines of the command ``datasets``."""
    from ancestral import datasets

    return [str(datasets.describe(name)) for name in datasets.names()]


LIST_COMMANDS = {"methods": _list_methods, "datasets": _list_datasets}


if __name__ == "__main__":
    sys.exit(main())
