"""Shape annotations are checked at run time, in tests only, and each starts at the same seed."""

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side

import jaxtyping
import numpy as np
import pytest
import torch

CHECKED = ("distributions", "conditional", "networks", "models", "kernels", "objectives", "impute",
           "evaluate")  # fmt: skip

jaxtyping.install_import_hook([f"ancestral.{name}" for name in CHECKED], "beartype.beartype")

CHECKED_STEPS = 20
"""Of each training: the shapes of later steps are those of these, and checking takes time."""


@pytest.fixture(autouse=True, scope="session")
def _later_steps_go_unchecked() -> Iterator[None]:
    from ancestral.train.state import Training

    take_step = Training.take_step

    def taken(training: Training, data: object, index: torch.Tensor) -> None:
        before = jaxtyping.config.jaxtyping_disable
        jaxtyping.config.update("jaxtyping_disable", training.step >= CHECKED_STEPS)
        try:
            take_step(training, data, index)
        finally:
            jaxtyping.config.update("jaxtyping_disable", before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "take_step", taken)
        yield


@pytest.fixture(autouse=True)
def _the_same_numbers_in_any_order() -> None:
    """No test depends on the ones that ran before it on its worker."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _names_in_examples(doctest_namespace: dict[str, object]) -> None:
    """What every example in a docstring may take as imported."""
    doctest_namespace |= {"np": np, "torch": torch, "nn": torch.nn}
