"""Implementations of the subcommands: one function each, called with the parsed options."""

from __future__ import annotations

from ancestral.cli.compare import compare
from ancestral.cli.evaluate import active_units, evaluate
from ancestral.cli.generate import impute, predict, sample
from ancestral.cli.imputation import evaluate_imputation
from ancestral.cli.messages import with_cli_option_names
from ancestral.cli.reproduce import reproduce
from ancestral.cli.train import demo, fit, report
from ancestral.training import NonFiniteError
from ancestral.training.engine import flush_denormals, log_to_stderr

COMMANDS = {
    command.__name__.replace("_", "-"): command
    for command in (
        fit,
        evaluate,
        compare,
        active_units,
        sample,
        predict,
        evaluate_imputation,
        impute,
        report,
        reproduce,
        demo,
    )
}

__all__ = ["COMMANDS", "USER_ERRORS", "flush_denormals", "log_to_stderr", "with_cli_option_names"]

USER_ERRORS = (ValueError, OSError, NonFiniteError)
"""Exceptions whose messages are printed without a traceback."""
