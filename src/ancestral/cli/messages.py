"""Conversion of library error messages to command-line syntax."""

from __future__ import annotations

import re
import shlex
from argparse import Action
from collections.abc import Mapping

ARGUMENT = re.compile(
    r"""\b([a-zA-Z][a-z_]*)=('[^']*'|"[^"]*"|\([^)]*\)|\[[^\]]*\]|\.\.\.|[^\s,;:()]*[^\s,;:().])"""
)


def with_cli_option_names(message: str, options: Mapping[str, Action]) -> str:
    """Replace ``name=value`` in a message by ``--name value`` if the command has that option.

    Parameters
    ----------
    message : str
        Error message of the library.
    options : mapping of str to Action
        Actions of the command's parser by option string.

    Examples
    --------
    >>> from argparse import ArgumentParser
    >>> parser = ArgumentParser()
    >>> actions = [parser.add_argument(f"--{name}") for name in ("hidden", "n-latents")]
    >>> options = {action.option_strings[0]: action for action in actions}
    >>> with_cli_option_names("n_latents=0: expected more; hidden=(500, 0) too", options)
    '--n-latents 0: expected more; --hidden 500,0 too'
    """

    def as_option(match: re.Match[str]) -> str:
        name, value = match[1].replace("_", "-"), match[2]
        if value == "False" and f"--no-{name}" in options:
            return f"--no-{name}"
        option = options.get(f"--{name}")
        if option is None:
            return match[0]
        if option.nargs == 0:
            return f"--{name}"
        text = value.strip("'\"").rstrip(",")
        if value[0] in "([":
            text = value[1:-1].rstrip(",").replace(", ", ",").replace("'", "")
        if text == "...":
            return f"--{name} {option.metavar or name.upper()}"
        return f"--{name} {shlex.quote(text)}"

    return ARGUMENT.sub(as_option, message)
