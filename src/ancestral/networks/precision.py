"""Casts to single precision: densities and moments are computed in float32 or higher."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, ...])


def at_least_single(outputs: Outputs) -> Outputs:
    """Cast the outputs of a network to float32, unless their precision is already that or higher.

    >>> at_least_single(torch.ones(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    if isinstance(outputs, tuple):
        return tuple(at_least_single(u) for u in outputs)
    return outputs.float() if outputs.dtype.itemsize < 4 else outputs
