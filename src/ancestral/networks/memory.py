"""A memory that a layer reads by attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ancestral.networks.layers import ACTIVATIONS, linear
from ancestral.networks.precision import at_least_single
from ancestral.networks.taps import Tap

Attention = Literal["sigmoid", "softmax"]
Composition = Literal["ladder", "plus"]


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
    """A ladder's composition in few passes over memory: the inner loop of a layer with one.

    What lies in memory is in the precision of products, that of ``h_m``, as the next product has it
    anyway; sums are single at least. With v = c1 + c2 h_g + ... , s = sigmoid(v) and du given,
    dv = du b1 s (1 - s); coefficients get sums of du and dv over rows.
    """

    @staticmethod
    def forward(ctx: Any, h_g: Tensor, h_m: Tensor, a: Tensor, c: Tensor, b: Tensor) -> Tensor:
        (a1, a2, a3, a4), (c1, c2, c3, c4) = a.view(4, -1), c.view(4, -1)
        kept = h_g.to(h_m.dtype)
        g, m = at_least_single(kept), at_least_single(h_m)
        s = torch.sigmoid(c1 + c2 * g + c3 * m + c4 * (g * m)).to(h_m.dtype)
        ctx.save_for_backward(kept, h_m, s, a, c, b)
        ctx.given = h_g.dtype
        return (a1 + a2 * g + a3 * m + a4 * (g * m) + b * s).to(h_m.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, ...]:
        *kept, a, c, b = ctx.saved_tensors
        du, g, m, s = (at_least_single(v) for v in (*outer, *kept))
        (_, a2, a3, a4), (_, c2, c3, c4) = a.view(4, -1), c.view(4, -1)
        dv, both = du * b * s * (1 - s), g * m
        of_g = du * (a2 + a4 * m) + dv * (c2 + c4 * m)
        of_m = du * (a3 + a4 * g) + dv * (c3 + c4 * g)
        of_a = [sum_of_rows(part) for part in (du, du * g, du * m, du * both)]
        of_c = [sum_of_rows(part) for part in (dv, dv * g, dv * m, dv * both)]
        of_h = of_g.to(ctx.given), of_m.to(kept[1].dtype)
        return *of_h, torch.cat(of_a), torch.cat(of_c), sum_of_rows(du * s)


GROUP = 10
"""Most rows that are summed at a time: few enough to be near one another in memory."""


def sum_of_rows(u: Float[Tensor, "*b n"]) -> Float[Tensor, " n"]:
    """Sum over all axes but the last, groups of neighbouring rows first, which is faster.

    >>> sum_of_rows(torch.ones(3, 4, 2))
    tensor([12., 12.])
    """
    u = u.flatten(0, -2)
    size = next(size for size in range(GROUP, 0, -1) if len(u) % size == 0)
    return u.unflatten(0, (-1, size)).sum(1).sum(0)


class Plus(nn.Module):
    """Composes two vectors by adding them."""

    def forward(self, h_g: Float[Tensor, "*b n"], h_m: Float[Tensor, "*b n"]) -> Tensor:
        """Return h_g + h_m."""
        return h_g + h_m


class Memory(nn.Module):
    """A memory read by attention and composed with the input (Li, Zhu and Zhang, 2016).

    a = sigmoid(h_g C + b) or softmax(h_g C + b), h_m = a M, out = phi(compose(h_g, h_m)). The
    slots, rows of M, are shared by all examples and learned like any parameter. With the ladder
    composition and phi = ReLU the layer starts as the identity of what a ReLU gives.

    Parameters
    ----------
    n : int
        Width of the layer.
    n_slots : int
        Number of memory slots.
    attention : {"sigmoid", "softmax"}
        Each slot by itself, or shares that sum to one.
    composition : {"ladder", "plus"}
        Of the input with what was read.
    activation : str
        phi, one of :data:`~ancestral.networks.ACTIVATIONS`.
    name : str
        The attention appears in ``Run.taps`` under ``name + ".attention"``.

    Attributes
    ----------
    slots : Parameter [n_slots, n]
        M.
    answers : bool
        Whether it is asked; :func:`silenced` turns that off.

    Examples
    --------
    >>> h = torch.rand(5, 8)
    >>> torch.equal(Memory(8, 3)(h), h)
    True
    """

    def __init__(
        self,
        n: int,
        n_slots: int,
        *,
        attention: Attention = "sigmoid",
        composition: Composition = "ladder",
        activation: str = "relu",
        name: str = "memory",
    ) -> None:
        super().__init__()
        self.address = linear(n, n_slots)
        self.slots = nn.Parameter(0.01 * torch.randn(n_slots, n))
        self.normalise = nn.Softmax(-1) if attention == "softmax" else nn.Sigmoid()
        self.attention = Tap(f"{name}.attention")
        self.compose = Ladder(n) if composition == "ladder" else Plus()
        self.activation = ACTIVATIONS[activation]()
        self.answers = True

    def forward(self, h_g: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        """Return the composition of ``h_g`` with what the memory answers to it."""
        h_m = self.attention(self.attend(h_g)) @ self.slots
        return self.join(h_g, h_m if self.answers else torch.ones_like(h_m))

    def attend(self, h_g: Float[Tensor, "*b n"]) -> Float[Tensor, "*b slots"]:
        """Return how much of every slot ``h_g`` asks for."""
        return self.normalise(self.address(h_g))

    def join(self, h_g: Float[Tensor, "*b n"], h_m: Float[Tensor, "*b n"]) -> Tensor:
        """Return the layer's output when the memory answers ``h_m``."""
        return self.activation(self.compose(h_g, h_m))


def memories(network: nn.Module) -> list[Memory]:
    """Return the memories in a network, in the order of its layers."""
    return [m for m in network.modules() if isinstance(m, Memory)]


@contextmanager
def silenced(*which: Memory) -> Iterator[None]:
    """Have memories answer with ones, whatever they are asked, to see what they contribute.

    The paper's ablation. What was learned stays as it is.

    Examples
    --------
    >>> h, memory = torch.rand(5, 8), Memory(8, 3, composition="plus")
    >>> with silenced(memory):
    ...     torch.equal(memory(h), h + 1)
    True
    """
    before = [memory.answers for memory in which]
    for memory in which:
        memory.answers = False
    try:
        yield
    finally:
        for memory, answers in zip(which, before, strict=True):
            memory.answers = answers
