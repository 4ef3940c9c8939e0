"""A ladder's composition of two vectors, in few passes over memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ancestral.networks.precision import at_least_single
from ancestral.networks.sums import sum_of_rows

Rows = tuple[Tensor, ...]
Sums = tuple[Tensor, ...]


class Ladder(nn.Module):
    """Composes two vectors entry by entry, as a ladder network does.

    s = sigmoid(c1 + c2 h_g + c3 h_m + c4 h_g h_m),
    u = a1 + a2 h_g + a3 h_m + a4 h_g h_m + b1 s; every coefficient is a vector.
    At the start a2 = c2 = 1 and the others are zero, so that u = h_g. The four of a, and of c, lie
    one after the other in one vector.

    Parameters
    ----------
    n : int
        Width of both.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        # vectors, which reduced precision leaves alone: near one its steps are coarse
        start = torch.tensor([0.0, 1.0, 0.0, 0.0]).repeat_interleave(n)
        self.a, self.c = nn.Parameter(start), nn.Parameter(start.clone())
        self.b = nn.Parameter(torch.zeros(n))

    def forward(self, h_g: Float[Tensor, "*b n"], h_m: Float[Tensor, "*b n"]) -> Tensor:
        """Return u [..., n]."""
        return _Composed.apply(h_g, h_m, self.a, self.c, self.b)


class _Composed(torch.autograd.Function):
    """The composition as one operation: the inner loop of a layer with a memory.

    What lies in memory is in the precision of products, that of ``h_m``, as the next product has it
    anyway; sums are single at least.
    """

    @staticmethod
    def forward(ctx: Any, h_g: Tensor, h_m: Tensor, a: Tensor, c: Tensor, b: Tensor) -> Tensor:
        kept, ctx.given = h_g.to(h_m.dtype), h_g.dtype
        (u, s), _ = _by_rows(lambda g, m: (_compose(g, m, a, c, b), ()), kept, h_m)
        ctx.save_for_backward(kept, h_m, s, a, c, b)
        return u

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, ...]:
        *kept, a, c, b = ctx.saved_tensors
        (of_g, of_m), (of_a, of_c, of_b) = _by_rows(
            lambda du, g, m, s: _pull_back(du, g, m, s, a, c, b), *outer, *kept
        )
        return of_g.to(ctx.given), of_m, of_a, of_c, of_b


def _compose(g: Tensor, m: Tensor, a: Tensor, c: Tensor, b: Tensor) -> Rows:
    """Return u and s."""
    s = _bilinear(c, g, m).sigmoid_()
    return (_bilinear(a, g, m).addcmul_(b, s), s)


def _bilinear(w: Tensor, g: Tensor, m: Tensor) -> Tensor:
    """w1 + w2 g + w3 m + w4 g m."""
    w1, w2, w3, w4 = w.view(4, -1)
    return torch.addcmul(w1, w2, g).addcmul_(m, torch.addcmul(w3, w4, g))


def _pull_back(
    du: Tensor, g: Tensor, m: Tensor, s: Tensor, a: Tensor, c: Tensor, b: Tensor
) -> tuple[Rows, Sums]:
    """Return the gradients by g and m, and those by a, c and b, from ``du``, the gradient by u.

    With v the logit of s, dv = du b s (1 - s).
    """
    (_, a2, a3, a4), (_, c2, c3, c4) = a.view(4, -1), c.view(4, -1)
    dv = (du * b).mul_(s).mul_(1 - s)
    of_g = torch.addcmul(a2, a4, m).mul_(du).addcmul_(dv, torch.addcmul(c2, c4, m))
    of_m = torch.addcmul(a3, a4, g).mul_(du).addcmul_(dv, torch.addcmul(c3, c4, g))
    return (of_g, of_m), (_sums(du, g, m), _sums(dv, g, m), sum_of_rows(du * s))


def _sums(d: Tensor, g: Tensor, m: Tensor) -> Tensor:
    """Sums over rows of d, d g, d m and d g m, one after the other."""
    by_g = d * g
    sums = [sum_of_rows(d), sum_of_rows(by_g), sum_of_rows(d * m), sum_of_rows(by_g.mul_(m))]
    return torch.cat(sums)


BLOCK = 2**18
"""Most numbers of a tensor that are worked on at a time: few enough to stay in a cache."""


def _by_rows(function: Callable[..., tuple[Rows, Sums]], *tensors: Tensor) -> tuple[Rows, Sums]:
    """Call a function of rows, in single precision at least, and return its rows and its sums.

    Rows come back in the shape and precision of the last of ``tensors``. On a CPU the function sees
    a block of rows at a time; but all of them in a compiled graph, which has one loop for it all.
    """
    like, rows = tensors[-1], [t.flatten(0, -2) for t in tensors]
    whole = torch.compiler.is_compiling() or like.device.type != "cpu"
    size = len(rows[0]) if whole else BLOCK // like.shape[-1]
    blocks = zip(*(r.split(max(1, size)) for r in rows), strict=True)
    found = [function(*(at_least_single(part) for part in block)) for block in blocks]
    by_rows, sums = (list(zip(*parts, strict=True)) for parts in zip(*found, strict=True))
    return (
        tuple(_joined([p.to(like.dtype) for p in parts]).view(like.shape) for parts in by_rows),
        tuple(sum(parts[1:], parts[0]) for parts in sums),
    )


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
