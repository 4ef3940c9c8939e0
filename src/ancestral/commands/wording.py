"""Messages of the library, as somebody at a command line would say them."""

from __future__ import annotations

import re
import shlex
from argparse import Action
from collections.abc import Mapping

ARGUMENT = re.compile(
    r"""\b([a-z][a-z_]*)=('[^']*'|"[^"]*"|\([^)]*\)|\[[^\]]*\]|\.\.\.|[^\s,;:()]*[^\s,;:().])"""
)


def in_options(message: str, options: Mapping[str, Action]) -> str:
    """Write ``name=value`` as ``--name value``, where a command has such an option.

    Parameters
    ----------
    message : str
        In the words of the library.
    options : mapping
        The command's options, by the words that ask for them.

    Examples
    --------
    >>> from argparse import ArgumentParser
    >>> parser = ArgumentParser()
    >>> actions = [parser.add_argument(f"--{name}") for name in ("hidden", "n-latents")]
    >>> options = {action.option_strings[0]: action for action in actions}
    >>> in_options("n_latents=0: expected more; hidden=(500, 0) too", options)
    '--n-latents 0: expected more; --hidden 500,0 too'
    """

    def said(match: re.Match[str]) -> str:
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

    return ARGUMENT.sub(said, message)
