"""Attention-based memory layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral.nn.ladder import Ladder
from ancestral.nn.mlp import ACTIVATIONS, ActivationTap, linear

Attention = Literal["sigmoid", "softmax"]

Composition = Literal["ladder", "plus"]


class Plus(nn.Module):
    """Composition of two vectors by addition."""

    def forward(self, h_g: Float[Tensor, "*b n"], h_m: Float[Tensor, "*b n"]) -> Tensor:
        """Return h_g + h_m."""
        return h_g + h_m


class Memory(nn.Module):
    """Memory layer read by attention and composed with its input (Li, Zhu and Zhang, 2016).

    a = sigmoid(h_g C + b) or softmax(h_g C + b), h_m = a M, out = phi(compose(h_g, h_m)). The
    slots, the rows of M, are trainable parameters shared by all samples. With the ladder
    composition and phi = ReLU the initial layer is the identity on non-negative inputs.

    Parameters
    ----------
    n : int
        Width of the layer.
    n_slots : int
        Number of memory slots.
    attention : {"sigmoid", "softmax"}
        Attention function: independent weights in (0, 1), or weights that sum to 1.
    composition : {"ladder", "plus"}
        Function that combines the input with the memory readout.
    activation : str
        phi, a key of :data:`~ancestral.nn.ACTIVATIONS`.
    name : str
        Name of the layer; a run records the attention weights as ``name + ".attention"``.

    Attributes
    ----------
    slots : Parameter [n_slots, n]
        Memory matrix M.
    enabled : bool
        Whether the memory is read; if False its readout is replaced with ones, see
        :func:`ablate_memories`.

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
        self.attention = ActivationTap(f"{name}.attention")
        self.compose = Ladder(n) if composition == "ladder" else Plus()
        self.activation = ACTIVATIONS[activation]()
        self.enabled = True

    def forward(self, h_g: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        """Return the activated composition of ``h_g`` with the memory readout."""
        h_m = self.attention(self.attend(h_g)) @ self.slots
        return self.combine(h_g, h_m if self.enabled else torch.ones_like(h_m))

    def attend(self, h_g: Float[Tensor, "*b n"]) -> Float[Tensor, "*b slots"]:
        """Return the attention weights of ``h_g`` over the slots, in [0, 1]."""
        return self.normalise(self.address(h_g))

    def combine(self, h_g: Float[Tensor, "*b n"], h_m: Float[Tensor, "*b n"]) -> Tensor:
        """Return the output of the layer for the memory readout ``h_m``."""
        return self.activation(self.compose(h_g, h_m))


def memories(network: nn.Module) -> list[Memory]:
    """Return the memory layers of a network, in the order of its modules."""
    return [m for m in network.modules() if isinstance(m, Memory)]


@contextmanager
def ablate_memories(*layers: Memory) -> Iterator[None]:
    """Context manager that replaces the readout of memory layers with ones.

    This is the ablation of the paper (Li, Zhu and Zhang, 2016). Parameters are not changed.

    Parameters
    ----------
    *layers : Memory
        Memory layers to ablate.

    Examples
    --------
    >>> h, memory = torch.rand(5, 8), Memory(8, 3, composition="plus")
    >>> with ablate_memories(memory):
    ...     torch.equal(memory(h), h + 1)
    True
    """
    previous = [memory.enabled for memory in layers]
    for memory in layers:
        memory.enabled = False
    try:
        yield
    finally:
        for memory, enabled in zip(layers, previous, strict=True):
            memory.enabled = enabled
