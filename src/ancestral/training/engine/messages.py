"""Log messages about hardware and compilation, each emitted once per process."""

from __future__ import annotations

import logging
import sys

LOG = logging.getLogger("ancestral")

_said: set[str] = set()


def notice(text: str, *, warn: bool = False) -> None:
    """Log a message, once per process.

    Parameters
    ----------
    text : str
        Message.
    warn : bool
        Whether to log at level WARNING, which is printed to standard error by default, instead of
        INFO, which is printed only if logging is configured or after :func:`show_notices`.
    """
    if text not in _said:
        _said.add(text)
        LOG.log(logging.WARNING if warn else logging.INFO, text)


class _ToStandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"ancestral: {record.getMessage()}", file=sys.stderr)


def show_notices() -> None:
    """Print log messages on standard error; used by the command line and ``verbose=1``."""
    if not any(isinstance(handler, _ToStandardError) for handler in LOG.handlers):
        LOG.addHandler(_ToStandardError())
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
