"""Importance resampling: differentiate a few of many samples, chosen by their weights.

The gradient of L_K is a mean over its K samples, each counted by its share of the weight, and most
shares are next to nothing. Samples drawn in proportion to the shares have that mean too; so all K
are weighed without a gradient, and only those drawn are run again to be differentiated (Burda,
Grosse and Salakhutdinov, 2016, section 3).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ancestral import parallel
from ancestral.data import Batch
from ancestral.distributions import draw
from ancestral.models import LatentModel, Run
from ancestral.networks import shared_statistics


def run_resampled(model: LatentModel, batch: Batch, k: int, m: int) -> Run:
    """Run with m of k samples, drawn by weight; ``Run.log_w_before`` are the weights of all k.

    Batch normalisation normalises those m by the statistics of all k, as evaluations do.
    """
    q = model.encode(batch)
    z = draw(q, (k,))
    with torch.no_grad(), shared_statistics(model, "lend"):
        everywhere = model.run_at(z, batch, q)
        log_w = everywhere.log_w
    chosen = systematic(torch.softmax(log_w, 0), m).unsqueeze(-1)
    with shared_statistics(model, "borrow"):
        run = model.run_at(z.gather(0, chosen.expand(-1, -1, z.shape[-1])), batch, q)
    run.log_w_before = log_w
    run.taps = everywhere.taps | run.taps  # the encoder's, and the decoder's of the samples drawn
    return run


def systematic(shares: Float[Tensor, "k b"], m: int) -> Int[Tensor, "m b"]:
    """Draw m of k samples in every column, in proportion to shares that sum to one.

    The shares are laid end to end and m equally spaced points, the first at random, fall on them:
    a sample of share s is drawn m s times, rounded up or down.

    >>> systematic(torch.tensor([[0.0], [1.0]]), 3).flatten()
    tensor([1, 1, 1])
    """
    n = shares.shape[1] * parallel.n_shares()
    first = parallel.share(torch.rand(n, dtype=shares.dtype, device=shares.device))
    steps = torch.arange(m, dtype=shares.dtype, device=shares.device)
    points = (steps.unsqueeze(-1) + first) / m
    ends = shares.cumsum(0)[:-1]
    return (ends.unsqueeze(0) <= points.unsqueeze(1)).sum(1)
