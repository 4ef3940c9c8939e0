"""Casts to single precision: densities and moments are computed in float32 or higher."""

from __future__ import annotations

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, ...])


def at_least_float32(outputs: Outputs) -> Outputs:
    """Cast the outputs of a network to float32, unless their precision is already that or higher.

    >>> at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    if isinstance(outputs, tuple):
        return tuple(at_least_float32(u) for u in outputs)
    return outputs.float() if outputs.dtype.itemsize < 4 else outputs


SUM_GROUP_SIZE = 10
"""Maximum number of adjacent rows summed in one pass of a compiled graph."""


def sum_of_rows(u: Float[Tensor, "r n"]) -> Float[Tensor, " n"]:
    """Sum over rows; a compiled graph first sums groups of adjacent rows, which is faster.

    >>> sum_of_rows(torch.ones(3, 2))
    tensor([3., 3.])
    """
    if not torch.compiler.is_compiling():
        return u.sum(0)
    size = next(size for size in range(SUM_GROUP_SIZE, 0, -1) if len(u) % size == 0)
    return u.unflatten(0, (-1, size)).sum(1).sum(0)
