"""Log messages about hardware and compilation, each emitted once per process."""

from __future__ import annotations

import logging
import sys

LOGGER = logging.getLogger("ancestral")

_logged: set[str] = set()


def log_once(text: str, *, warn: bool = False) -> None:
    """Log a message, once per process.

    Parameters
    ----------
    text : str
        Message.
    warn : bool
        Whether to log at level WARNING, which is printed to standard error by default, instead of
        INFO, which is printed only if logging is configured or after :func:`log_to_stderr`.
    """
    if text not in _logged:
        _logged.add(text)
        LOGGER.log(logging.WARNING if warn else logging.INFO, text)


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"ancestral: {record.getMessage()}", file=sys.stderr)


def log_to_stderr() -> None:
    """Print log messages on standard error; used by the command line and ``verbose=1``."""
    if not any(isinstance(handler, _StderrHandler) for handler in LOGGER.handlers):
        LOGGER.addHandler(_StderrHandler())
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False
