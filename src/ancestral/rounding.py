"""Weights in fewer bits, to ship: half precision, or whole steps of a scale for every row.

Steps take eight bits, or twelve, two of them in three bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Bits = Literal[32, 16, 12, 8]
LARGE, SCALE, SHAPE = 2**16, ".scale", ".shape"
"""Entries of what is worth steps of a scale; how scales, and shapes of what was packed, are called.
"""


def rounded(weights: Mapping[str, Tensor], bits: Bits) -> dict[str, Tensor]:
    """Return matrices and kernels in fewer bits; vectors and codes stay as they are.

    Parameters
    ----------
    weights : dict
        By name.
    bits : {32, 16, 12, 8}
        All of them; half precision; or twelve or eight for every large matrix, each of whose rows
        has a scale beside it, and half precision for the others.

    Examples
    --------
    >>> few = rounded({"w": torch.randn(256, 256), "b": torch.zeros(256)}, 8)
    >>> few["w"].dtype, few["w.scale"].shape, few["b"].dtype
    (torch.int8, torch.Size([256]), torch.float32)
    >>> rounded({"w": torch.randn(256, 256)}, 12)["w"].numel() / 256**2
    1.5
    """
    found: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if bits == 32 or not weight.is_floating_point() or weight.ndim < 2:
            found[name] = weight
        elif bits == 16 or weight.numel() < LARGE:
            found[name] = weight.half()
        else:
            scale = weight.flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)
            steps = (weight / _along(scale, weight).clamp(min=1e-30)).round()
            found[name + SCALE] = scale
            if bits == 8:
                found[name] = steps.to(torch.int8)
            else:
                found[name], found[name + SHAPE] = _packed(steps), torch.tensor(weight.shape)
    return found


def restored(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo the steps of :func:`rounded`, but for the rounding; half precision stays.

    Examples
    --------
    >>> w = torch.randn(256, 256)
    >>> (restored(rounded({"w": w}, 8))["w"] - w).abs().max().item() < 0.03
    True
    >>> (restored(rounded({"w": w}, 12))["w"] - w).abs().max().item() < 0.002
    True
    """
    shapes = {name + SHAPE: name for name in weights if name + SHAPE in weights}
    found = {name: w for name, w in weights.items() if name not in shapes}
    for shape, name in shapes.items():
        found[name] = _unpacked(found[name], torch.Size(weights[shape].tolist()))
    for name, w in weights.items():
        if w.dtype in (torch.int8, torch.uint8) and name + SCALE in weights:
            found[name] = found[name] * _along(found.pop(name + SCALE), found[name])
    return found


def _packed(steps: Tensor) -> Tensor:
    """Return whole numbers of -2047 to 2047, two of them in three bytes, [n]."""
    shifted = steps.flatten().to(torch.int32) + 2048
    first, second = torch.nn.functional.pad(shifted, (0, len(shifted) % 2)).view(-1, 2).unbind(1)
    three = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
    return torch.stack(three, 1).flatten().to(torch.uint8)


def _unpacked(packed: Tensor, shape: torch.Size) -> Tensor:
    """Undo :func:`_packed`."""
    one, two, three = packed.to(torch.int32).view(-1, 3).unbind(1)
    pairs = torch.stack([one << 4 | two >> 4, (two & 15) << 8 | three], 1)
    return (pairs.flatten()[: shape.numel()] - 2048).view(shape)


def _along(scale: Tensor, weight: Tensor) -> Tensor:
    """Return one number a row in the shape that broadcasts over a weight."""
    return scale.view(-1, *(1,) * (weight.ndim - 1))
