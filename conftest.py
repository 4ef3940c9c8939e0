"""Shape annotations are checked at run time, in tests only."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

CHECKED = ("distributions", "conditional", "networks", "models", "kernels", "objectives", "impute",
           "evaluate")  # fmt: skip

install_import_hook([f"ancestral.{name}" for name in CHECKED], "beartype.beartype")


@pytest.fixture(autouse=True)
def _names_in_examples(doctest_namespace: dict[str, object]) -> None:
    """What every example in a docstring may take as imported."""
    doctest_namespace |= {"np": np, "torch": torch, "nn": torch.nn}
