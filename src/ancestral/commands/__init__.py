"""Implementations of the subcommands: one function each, called with the parsed options."""

from __future__ import annotations

from ancestral.commands.recipes import reproduce
from ancestral.commands.rows import impute, predict, sample
from ancestral.commands.scores import compare, evaluate, repair, units
from ancestral.commands.training import demo, fit, report
from ancestral.commands.wording import in_options
from ancestral.engine import denormals_flushed, show_notices
from ancestral.train import NonFiniteError

COMMANDS = {
    command.__name__: command
    for command in (
        fit,
        evaluate,
        compare,
        units,
        sample,
        predict,
        repair,
        impute,
        report,
        reproduce,
        demo,
    )
}

__all__ = ["COMMANDS", "FOR_THE_USER", "denormals_flushed", "in_options", "show_notices"]

FOR_THE_USER = (ValueError, OSError, NonFiniteError)
"""Exceptions whose messages are printed without a traceback."""
