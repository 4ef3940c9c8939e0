"""A memory that a layer reads by attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral.networks.ladder import Ladder
from ancestral.networks.layers import ACTIVATIONS, linear
from ancestral.networks.taps import Tap

Attention = Literal["sigmoid", "softmax"]
Composition = Literal["ladder", "plus"]


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
