"""Test configuration: run-time checks of shape annotations, and a fixed seed for every test."""

import os
from collections.abc import Iterator
from importlib import import_module

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel

import jaxtyping
import numpy as np
import pytest
import torch

CHECKED = (
    "probability.distributions",
    "probability.conditionals",
    "models.factor_analysis",
    "probability.composite",
    "nn",
    "models.latent",
    "models.deterministic",
    "models.implicit",
    "models.run",
    "models.stacked",
    "probability.kernels",
    "probability.kernel_features",
    "objectives",
    "evaluation.imputation",
    "evaluation.log_likelihood",
    "evaluation.active_units",
)

jaxtyping.install_import_hook([f"ancestral.{name}" for name in CHECKED], "beartype.beartype")
for _name in CHECKED:
    import_module(f"ancestral.{_name}")  # a stale name would turn the check off

CHECKED_STEPS = 20
"""Number of training steps with shape checks; shapes in later steps are the same, and the checks
are slow."""


@pytest.fixture(autouse=True, scope="session")
def _disable_shape_checks_of_later_steps() -> Iterator[None]:
    from ancestral.training.state import TrainingState

    take_step = TrainingState.take_step

    def partly_checked_step(training: TrainingState, data: object, index: torch.Tensor) -> None:
        previous = jaxtyping.config.jaxtyping_disable
        jaxtyping.config.update("jaxtyping_disable", training.step >= CHECKED_STEPS)
        try:
            take_step(training, data, index)
        finally:
            jaxtyping.config.update("jaxtyping_disable", previous)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "take_step", partly_checked_step)
        yield


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """Make results of a test independent of the tests that ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, object]) -> None:
    """Names that docstring examples use without importing them."""
    doctest_namespace |= {"np": np, "torch": torch, "nn": torch.nn}
