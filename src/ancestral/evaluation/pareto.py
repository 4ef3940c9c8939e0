"""Tail index of importance weights, the diagnostic of Pareto-smoothed importance sampling.

A generalised Pareto distribution is fitted to the largest weights of each row by the method of
Zhang and Stephens (2009), with the weak prior of Vehtari, Simpson, Gelman, Yao and Gabry (2024,
Pareto smoothed importance sampling). The variance of the weights is infinite for a shape k above
1/2; estimates with k above 0.7 are not reliable for practical sample sizes.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

MIN_TAIL = 5
"""Minimum number of tail weights for a fit."""


def tail_size(n: int) -> int:
    """Number of the largest of n weights to which the distribution is fitted, min(n/5, 3 sqrt n).

    >>> tail_size(5000), tail_size(16)
    (212, 3)
    """
    return int(min(n / 5, 3 * math.sqrt(n)))


def pareto_k(largest: Float[Tensor, "m b"]) -> Float[Tensor, " b"]:
    """Shape k of the generalised Pareto distribution of the largest weights of each row.

    Parameters
    ----------
    largest : Tensor [tail_size + 1, batch]
        Log of the largest weights of each row, in any order; the smallest is the threshold.

    Returns
    -------
    Tensor [batch]
        Shapes; NaN for fewer than five weights above the threshold, and -inf for constant weights,
        whose mean is exact.
    """
    m = len(largest) - 1
    if m < MIN_TAIL:
        return largest.new_full(largest.shape[1:], math.nan)
    log_w = largest.double() if largest.device.type != "mps" else largest
    log_w = (log_w - log_w.max(0).values).nan_to_num(-math.inf).sort(0).values
    x = (log_w[1:].exp() - log_w[:1].exp()).clamp(min=1e-300)  # exceedances, ascending
    n_points = 30 + math.isqrt(m)
    points = torch.arange(1, n_points + 1, dtype=x.dtype, device=x.device).unsqueeze(-1) - 0.5
    quartile = x[max(int(m / 4 + 0.5) - 1, 0)]
    b = (1 - (n_points / points).sqrt()) / (3 * quartile) + 1 / x[-1]
    k = torch.stack([torch.log1p(-point * x).mean(0) for point in b])
    log_profile = m * ((-b / k).log() - k - 1)
    b = (torch.softmax(log_profile.nan_to_num(-math.inf), 0) * b).sum(0)
    shape = (m * torch.log1p(-b * x).mean(0) + 5) / (m + 10)
    constant = x[-1] <= 1e-12
    return torch.where(constant, torch.full_like(shape, -math.inf), shape).to(largest.dtype)
