"""Weights in fewer bits, to ship: half precision, or eight bits and a scale for every row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Bits = Literal[32, 16, 8]
LARGE, STEPS, SCALE = 2**16, 127, ".scale"
"""Entries of what is worth eight bits; steps of a row to either side; how scales are called."""


def rounded(weights: Mapping[str, Tensor], bits: Bits) -> dict[str, Tensor]:
    """Return matrices and kernels in fewer bits; vectors and codes stay as they are.

    Parameters
    ----------
    weights : dict
        By name.
    bits : {32, 16, 8}
        All of them; half precision; or eight for every large matrix, each of whose rows has a scale
        beside it, and half precision for the others.

    Examples
    --------
    >>> few = rounded({"w": torch.randn(256, 256), "b": torch.zeros(256)}, 8)
    >>> few["w"].dtype, few["w.scale"].shape, few["b"].dtype
    (torch.int8, torch.Size([256]), torch.float32)
    """
    found: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if bits == 32 or not weight.is_floating_point() or weight.ndim < 2:
            found[name] = weight
        elif bits == 16 or weight.numel() < LARGE:
            found[name] = weight.half()
        else:
            scale = weight.flatten(1).abs().amax(1) / STEPS
            along = _along(scale, weight)
            found[name] = (weight / along.clamp(min=1e-30)).round().to(torch.int8)
            found[name + SCALE] = scale
    return found


def restored(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo the eight bits of :func:`rounded`, but for the rounding; half precision stays.

    Examples
    --------
    >>> w = torch.randn(256, 256)
    >>> (restored(rounded({"w": w}, 8))["w"] - w).abs().max().item() < 0.03
    True
    """
    scaled = {name + SCALE: name for name, w in weights.items() if w.dtype == torch.int8}
    found = {name: w for name, w in weights.items() if name not in scaled}
    for scale, name in scaled.items():
        if scale in weights:
            found[name] = found[name] * _along(weights[scale], found[name])
    return found


def _along(scale: Tensor, weight: Tensor) -> Tensor:
    """Return one number a row in the shape that broadcasts over a weight."""
    return scale.view(-1, *(1,) * (weight.ndim - 1))
