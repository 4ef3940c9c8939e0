"""Fused Bernoulli log-probability with few passes over memory.

For logits l, log p(x) = sum_j x_j l_j - log(1 + exp(l_j)). The second term equals
max(l, 0) + log(1 + exp(-|l|)). A sum of up to 100 such logarithms is computed as the logarithm of
one product, which is at most 2^100. The gradient in l is x - sigmoid(l).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

MAX_FACTORS = 100
"""Maximal number of factors in a product whose logarithm is taken; 2^100 fits in float32."""


def bernoulli_log_prob(
    logits: Float[Tensor, "*b d"],
    x: Float[Tensor, "*b2 d"],
    mask: Float[Tensor, "*b3 d"] | None = None,
) -> Float[Tensor, "*b4"]:
    """Log-probability of independent Bernoulli entries, summed over observed entries, in nats.

    Parameters
    ----------
    logits : Tensor [..., d]
        Logits, log p / (1 - p).
    x : Tensor [..., d]
        Values in {0, 1}, or in [0, 1]: then an entry contributes x log p + (1 - x) log(1 - p).
    mask : Tensor [..., d], optional
        1 = observed, 0 = missing. Default: all entries are observed.

    Returns
    -------
    Tensor [...]
        Log-probabilities. Gradients with respect to ``logits`` and ``x`` are supported.

    Examples
    --------
    >>> round(bernoulli_log_prob(torch.zeros(3), torch.ones(3)).exp().item(), 6)
    0.125
    """
    return _BernoulliLogProb.apply(logits, x, mask)


class _BernoulliLogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(logits, x, mask)
        linear = x * logits - logits.clamp(min=0)
        odds = torch.exp(-logits.abs())
        if mask is not None:
            linear, odds = linear * mask, odds * mask
        d = logits.shape[-1]
        factors = (1 + odds).unflatten(-1, (d // _group_size(d), _group_size(d)))
        return linear.sum(-1) - factors.prod(-1).log().sum(-1)

    @staticmethod
    def backward(ctx: Any, *grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        logits, x, mask = ctx.saved_tensors
        g = grad_output[0].unsqueeze(-1)
        g = g if mask is None else g * mask
        grad_logits = grad_x = None
        if ctx.needs_input_grad[0]:
            grad_logits = (g * (x - torch.sigmoid(logits))).sum_to_size(logits.shape)
        if ctx.needs_input_grad[1]:
            grad_x = (g * logits).sum_to_size(x.shape)
        return grad_logits, grad_x, None


def _group_size(d: int) -> int:
    """Return the largest divisor of ``d`` that is at most :data:`MAX_FACTORS`.

    >>> _group_size(784)
    98
    """
    return next((size for size in range(min(d, MAX_FACTORS), 0, -1) if d % size == 0), 1)
