"""Ladder composition of two vectors, computed in few passes over memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ancestral.nn.numerics import at_least_float32, sum_of_rows

Rows = tuple[Tensor, ...]

Sums = tuple[Tensor, ...]


class Ladder(nn.Module):
    """Elementwise composition of two vectors, as in ladder networks.

    s = sigmoid(c1 + c2 h_g + c3 h_m + c4 h_g h_m),
    u = a1 + a2 h_g + a3 h_m + a4 h_g h_m + b1 s; all coefficients are vectors [n].
    Initially a2 = c2 = 1 and the others are zero, so that u = h_g. The parameters ``a`` and ``c``
    are the concatenations [4 n] of a1 to a4 and c1 to c4.

    Parameters
    ----------
    n : int
        Size of both vectors.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        # one-dimensional parameters stay in float32: bfloat16 is too coarse near 1
        initial = torch.tensor([0.0, 1.0, 0.0, 0.0]).repeat_interleave(n)
        self.a, self.c = nn.Parameter(initial), nn.Parameter(initial.clone())
        self.b = nn.Parameter(torch.zeros(n))

    def forward(self, h_g: Float[Tensor, "*b n"], h_m: Float[Tensor, "*b n"]) -> Tensor:
        """Return the composition u [..., n]."""
        return _LadderFunction.apply(h_g, h_m, self.a, self.c, self.b)


class _LadderFunction(torch.autograd.Function):
    """Ladder composition as one autograd operation.

    Saved tensors and the output have the dtype of ``h_m``, that of the matrix products. Sums are
    computed in float32 or higher.
    """

    @staticmethod
    def forward(ctx: Any, h_g: Tensor, h_m: Tensor, a: Tensor, c: Tensor, b: Tensor) -> Tensor:
        cast, ctx.input_dtype = h_g.to(h_m.dtype), h_g.dtype
        (u, s), _ = _blockwise(lambda g, m: (_compose(g, m, a, c, b), ()), cast, h_m)
        ctx.save_for_backward(cast, h_m, s, a, c, b)
        return u

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, ...]:
        *row_tensors, a, c, b = ctx.saved_tensors
        (grad_g, grad_m), (grad_a, grad_c, grad_b) = _blockwise(
            lambda du, g, m, s: _vjp(du, g, m, s, a, c, b), *grad_outputs, *row_tensors
        )
        return grad_g.to(ctx.input_dtype), grad_m, grad_a, grad_c, grad_b


def _compose(g: Tensor, m: Tensor, a: Tensor, c: Tensor, b: Tensor) -> Rows:
    """Return u and s."""
    s = _bilinear(c, g, m).sigmoid_()
    return (_bilinear(a, g, m).addcmul_(b, s), s)


def _bilinear(w: Tensor, g: Tensor, m: Tensor) -> Tensor:
    """Return w1 + w2 g + w3 m + w4 g m, for w = [w1, w2, w3, w4]."""
    w1, w2, w3, w4 = w.view(4, -1)
    return torch.addcmul(w1, w2, g).addcmul_(m, torch.addcmul(w3, w4, g))


def _vjp(
    du: Tensor, g: Tensor, m: Tensor, s: Tensor, a: Tensor, c: Tensor, b: Tensor
) -> tuple[Rows, Sums]:
    """Return the gradients with respect to (g, m) and (a, c, b), given ``du``, that of u.

    With v the logit of s, dv = du b s (1 - s).
    """
    (_, a2, a3, a4), (_, c2, c3, c4) = a.view(4, -1), c.view(4, -1)
    dv = (du * b).mul_(s).mul_(1 - s)
    grad_g = torch.addcmul(a2, a4, m).mul_(du).addcmul_(dv, torch.addcmul(c2, c4, m))
    grad_m = torch.addcmul(a3, a4, g).mul_(du).addcmul_(dv, torch.addcmul(c3, c4, g))
    return (grad_g, grad_m), (
        _monomial_sums(du, g, m),
        _monomial_sums(dv, g, m),
        sum_of_rows(du * s),
    )


def _monomial_sums(d: Tensor, g: Tensor, m: Tensor) -> Tensor:
    """Return the concatenated sums over rows of d, d g, d m and d g m, [4 n]."""
    dg = d * g
    sums = [sum_of_rows(d), sum_of_rows(dg), sum_of_rows(d * m), sum_of_rows(dg.mul_(m))]
    return torch.cat(sums)


BLOCK_SIZE = 2**18
"""Maximum number of elements of a tensor processed at a time on a CPU, to fit the cache."""


def _blockwise(function: Callable[..., tuple[Rows, Sums]], *tensors: Tensor) -> tuple[Rows, Sums]:
    """Apply a row-wise function in blocks of rows, in float32 or higher.

    Returns the concatenated row outputs, in the shape and dtype of the last of ``tensors``, and
    the column sums added over blocks. Blocks are used on a CPU without compilation only; a
    compiled graph fuses the operations into one loop.
    """
    like, rows = tensors[-1], [t.flatten(0, -2) for t in tensors]
    single_block = torch.compiler.is_compiling() or like.device.type != "cpu"
    size = len(rows[0]) if single_block else BLOCK_SIZE // like.shape[-1]
    blocks = zip(*(r.split(max(1, size)) for r in rows), strict=True)
    outputs = [function(*(at_least_float32(part) for part in block)) for block in blocks]
    row_outputs, sums = (list(zip(*parts, strict=True)) for parts in zip(*outputs, strict=True))
    return (
        tuple(
            _concatenate([p.to(like.dtype) for p in parts]).view(like.shape)
            for parts in row_outputs
        ),
        tuple(sum(parts[1:], parts[0]) for parts in sums),
    )


def _concatenate(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
