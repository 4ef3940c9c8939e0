"""Lines that say what the hardware allows: each once, and only where somebody reads them."""

from __future__ import annotations

import logging
import sys

LOG = logging.getLogger("ancestral")
_said: set[str] = set()


def notice(text: str, *, warn: bool = False) -> None:
    """Say something once in this process.

    A warning reaches standard error by itself; anything else only where logging is listened to,
    or after :func:`show_notices`.
    """
    if text not in _said:
        _said.add(text)
        LOG.log(logging.WARNING if warn else logging.INFO, text)


class _ToStandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"ancestral: {record.getMessage()}", file=sys.stderr)


def show_notices() -> None:
    """Print notices on standard error, as the command line and ``verbose=1`` do."""
    if not any(isinstance(handler, _ToStandardError) for handler in LOG.handlers):
        LOG.addHandler(_ToStandardError())
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
