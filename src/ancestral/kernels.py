"""Kernels: Gaussian mixtures and their Gram matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def squared_distances(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """||a_i - b_j||^2 for all pairs."""
    origin = b.mean(0).detach()  # distances do not care, and far from it precision would be lost
    a, b = a - origin, b - origin
    cross = a @ b.T
    return (a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1) - 2 * cross).clamp(min=0)


def gaussian_gram(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], variances: Sequence[float]
) -> Float[Tensor, "n m"]:
    """Gram matrix of the kernel sum_s exp(-||a - b||^2 / (2 s)); s is a variance.

    Parameters
    ----------
    a, b : Tensor [n, d], [m, d]
        The points.
    variances : sequence of float
        One Gaussian for each; they are added, not averaged.

    Examples
    --------
    >>> gaussian_gram(torch.zeros(1, 2), torch.ones(1, 2), [1.0])
    tensor([[0.3679]])
    """
    d2 = squared_distances(a, b)
    return torch.stack([torch.exp(-d2 / (2 * s)) for s in variances]).sum(0)
