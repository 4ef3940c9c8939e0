"""The log-probability of bits in few passes over memory: the inner loop of binary images.

log p(x) = sum_j x_j l_j - log(1 + exp(l_j)) for log-odds l. The second part is max(l, 0) plus
log(1 + exp(-|l|)), and a hundred such logarithms are the one of their product, which stays below
2^100. The derivative, x - sigmoid(l), needs nothing of that.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

GROUP = 100
"""Most factors multiplied before a logarithm is taken: 2^100 is a float32."""


def bits_log_prob(
    logits: Float[Tensor, "*b d"],
    x: Float[Tensor, "*b2 d"],
    mask: Float[Tensor, "*b3 d"] | None = None,
) -> Float[Tensor, "*b4"]:
    """Log-probability of independent bits, summed over the observed ones, in nats.

    Parameters
    ----------
    logits : Tensor [..., d]
        Log-odds.
    x : Tensor [..., d]
        Bits, or fractions of bits: then x log p + (1 - x) log(1 - p).
    mask : Tensor [..., d], optional
        1 = observed, 0 = missing.

    Examples
    --------
    >>> round(bits_log_prob(torch.zeros(3), torch.ones(3)).exp().item(), 6)
    0.125
    """
    return _BitsLogProb.apply(logits, x, mask)


class _BitsLogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(logits, x, mask)
        linear = x * logits - logits.clamp(min=0)
        odds = torch.exp(-logits.abs())
        if mask is not None:
            linear, odds = linear * mask, odds * mask
        d = logits.shape[-1]
        factors = (1 + odds).unflatten(-1, (d // _group(d), _group(d)))
        return linear.sum(-1) - factors.prod(-1).log().sum(-1)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        logits, x, mask = ctx.saved_tensors
        g = outer[0].unsqueeze(-1)
        g = g if mask is None else g * mask
        of_logits = of_x = None
        if ctx.needs_input_grad[0]:
            of_logits = (g * (x - torch.sigmoid(logits))).sum_to_size(logits.shape)
        if ctx.needs_input_grad[1]:
            of_x = (g * logits).sum_to_size(x.shape)
        return of_logits, of_x, None


def _group(d: int) -> int:
    """Return the greatest divisor of ``d`` that is at most :data:`GROUP`.

    >>> _group(784)
    98
    """
    return next((size for size in range(min(d, GROUP), 0, -1) if d % size == 0), 1)
