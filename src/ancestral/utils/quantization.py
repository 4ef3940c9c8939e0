"""Weight quantisation of shipped models: half precision, or integers with one scale per row.

Integers have 8 bits, or 12 bits, of which two are packed in three bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Bits = Literal[32, 16, 12, 8]

MIN_QUANTIZED_SIZE, SCALE_SUFFIX, SHAPE_SUFFIX = 2**16, ".scale", ".shape"
"""Minimal number of entries of a quantised matrix; suffixes of the names of scales and of the
shapes of packed matrices."""


def quantize(weights: Mapping[str, Tensor], bits: Bits) -> dict[str, Tensor]:
    """Quantise matrices and convolution kernels; vectors and integer tensors remain unchanged.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Weights by name.
    bits : {32, 16, 12, 8}
        Bits per weight. 32 leaves the weights unchanged and 16 is half precision. 12 and 8 quantise
        matrices of at least ``MIN_QUANTIZED_SIZE`` entries, with one scale per row stored as
        ``name.scale``; smaller ones have half precision.

    Returns
    -------
    dict of str to Tensor
        Quantised weights, scales and, for 12 bits, shapes of packed matrices.

    Examples
    --------
    >>> quantized = quantize({"w": torch.randn(256, 256), "b": torch.zeros(256)}, 8)
    >>> quantized["w"].dtype, quantized["w.scale"].shape, quantized["b"].dtype
    (torch.int8, torch.Size([256]), torch.float32)
    >>> quantize({"w": torch.randn(256, 256)}, 12)["w"].numel() / 256**2
    1.5
    """
    result: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if bits == 32 or not weight.is_floating_point() or weight.ndim < 2:
            result[name] = weight
        elif bits == 16 or weight.numel() < MIN_QUANTIZED_SIZE:
            result[name] = weight.half()
        else:
            scale = weight.flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)
            integers = (weight / _broadcast_over_rows(scale, weight).clamp(min=1e-30)).round()
            result[name + SCALE_SUFFIX] = scale
            if bits == 8:
                result[name] = integers.to(torch.int8)
            else:
                result[name], result[name + SHAPE_SUFFIX] = (
                    _pack_12_bit(integers),
                    torch.tensor(weight.shape),
                )
    return result


def dequantize(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Dequantise the result of :func:`quantize`; half-precision weights remain so.

    Examples
    --------
    >>> w = torch.randn(256, 256)
    >>> (dequantize(quantize({"w": w}, 8))["w"] - w).abs().max().item() < 0.03
    True
    >>> (dequantize(quantize({"w": w}, 12))["w"] - w).abs().max().item() < 0.002
    True
    """
    shapes = {name + SHAPE_SUFFIX: name for name in weights if name + SHAPE_SUFFIX in weights}
    result = {name: w for name, w in weights.items() if name not in shapes}
    for shape, name in shapes.items():
        result[name] = _unpack_12_bit(result[name], torch.Size(weights[shape].tolist()))
    for name, w in weights.items():
        if w.dtype in (torch.int8, torch.uint8) and name + SCALE_SUFFIX in weights:
            result[name] = result[name] * _broadcast_over_rows(
                result.pop(name + SCALE_SUFFIX), result[name]
            )
    return result


def _pack_12_bit(steps: Tensor) -> Tensor:
    """Pack integers in [-2047, 2047], two in three bytes, [n_bytes]."""
    shifted = steps.flatten().to(torch.int32) + 2048
    a, b = torch.nn.functional.pad(shifted, (0, len(shifted) % 2)).view(-1, 2).unbind(1)
    triples = [a >> 4, (a & 15) << 4 | b >> 8, b & 255]
    return torch.stack(triples, 1).flatten().to(torch.uint8)


def _unpack_12_bit(packed: Tensor, shape: torch.Size) -> Tensor:
    """Invert :func:`_pack_12_bit`; the result has the given shape."""
    high, middle, low = packed.to(torch.int32).view(-1, 3).unbind(1)
    pairs = torch.stack([high << 4 | middle >> 4, (middle & 15) << 8 | low], 1)
    return (pairs.flatten()[: shape.numel()] - 2048).view(shape)


def _broadcast_over_rows(scale: Tensor, weight: Tensor) -> Tensor:
    """Return one scale per row, reshaped to broadcast over a weight, [n_rows, 1, ...]."""
    return scale.view(-1, *(1,) * (weight.ndim - 1))
