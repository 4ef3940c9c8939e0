"""A memory that a layer reads by attention."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral.networks.layers import linear


class Memory(nn.Module):
    """A memory read by attention and composed with the input (Li, Zhu and Zhang, 2016).

    a = sigmoid(h_g C + b), h_m = a M, and the ladder composition
    s = sigmoid(c1 + c2 h_g + c3 h_m + c4 h_g h_m),
    out = relu(a1 + a2 h_g + a3 h_m + a4 h_g h_m + b1 s).
    At the start a2 = c2 = 1 and the other coefficients are zero: the layer returns relu(h_g).

    Parameters
    ----------
    n : int
        Width of the layer.
    n_slots : int
        Number of memory slots.

    Examples
    --------
    >>> h = torch.rand(5, 8)
    >>> torch.equal(Memory(8, 3)(h), h)
    True
    """

    def __init__(self, n: int, n_slots: int) -> None:
        super().__init__()
        self.address = linear(n, n_slots)
        self.slots = nn.Parameter(0.01 * torch.randn(n_slots, n))
        self.a = nn.Parameter(torch.tensor([0.0, 1.0, 0.0, 0.0]).unsqueeze(-1).repeat(1, n))
        self.c = nn.Parameter(torch.tensor([0.0, 1.0, 0.0, 0.0]).unsqueeze(-1).repeat(1, n))
        self.b = nn.Parameter(torch.zeros(n))

    def forward(self, h_g: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        """Return the composition of ``h_g`` with what the memory answers to it."""
        h_m = torch.sigmoid(self.address(h_g)) @ self.slots
        both = h_g * h_m
        a1, a2, a3, a4 = self.a
        c1, c2, c3, c4 = self.c
        s = torch.sigmoid(c1 + c2 * h_g + c3 * h_m + c4 * both)
        return torch.relu(a1 + a2 * h_g + a3 * h_m + a4 * both + self.b * s)
