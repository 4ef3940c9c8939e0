"""Marks the tests that fit models or start commands as slow; ``make check`` skips them."""

from pathlib import Path

import pytest

SLOW_FILES = [
    "ais",
    "autoencoder",
    "bad_input",
    "checkpoint",
    "class_conditioned",
    "class_fidelity",
    "classical",
    "cli",
    "conditional_vae",
    "convolution",
    "datasets",
    "distributed",
    "engine",
    "estimators",
    "exact_checks",
    "examples",
    "first_step",
    "implicit",
    "imputation",
    "jensen_shannon",
    "log_likelihood",
    "max_margin",
    "memory",
    "mmd",
    "own_estimator",
    "pbp",
    "pegasos",
    "report",
    "reproduce",
    "threads",
]
"""Files, without ``test_``, whose tests take minutes together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow files."""
    for item in items:
        if Path(item.path).stem.removeprefix("test_") in SLOW_FILES:
            item.add_marker(pytest.mark.slow)
