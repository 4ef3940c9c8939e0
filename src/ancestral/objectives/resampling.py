"""Importance resampling: differentiation of a subset of the importance samples.

The gradient of L_K is a mean over its K samples weighted by their normalised importance weights,
most of which are negligible. Resampling in proportion to the weights preserves this mean: all K
weights are computed without gradients, and only the resampled latents are run again with
gradients (Burda, Grosse and Salakhutdinov, 2016, section 3).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ancestral import parallel
from ancestral.data import Batch
from ancestral.distributions import draw
from ancestral.models import LatentModel, LatentRun
from ancestral.networks import shared_statistics


def run_resampled(model: LatentModel, batch: Batch, k: int, m: int) -> LatentRun:
    """Run the model at m of k latent samples, resampled by importance weight.

    ``LatentRun.log_w_before`` [k, batch] holds the log weights of all k samples. Batch
    normalisation applies the statistics of all k samples to the m resampled ones.
    """
    q = model.encode(batch)
    z = draw(q, (k,))
    with torch.no_grad(), shared_statistics(model, "lend"):
        full_run = model.run_at(z, batch, q)
        log_w = full_run.log_w
    indices = systematic(torch.softmax(log_w, 0), m).unsqueeze(-1)
    with shared_statistics(model, "borrow"):
        run = model.run_at(z.gather(0, indices.expand(-1, -1, z.shape[-1])), batch, q)
    run.log_w_before = log_w
    # activations of the encoder, and of the decoder at the resampled latents
    run.taps = full_run.taps | run.taps
    return run


def systematic(shares: Float[Tensor, "k b"], m: int) -> Int[Tensor, "m b"]:
    """Systematic resampling: draw m of k indices in each column, with replacement.

    m equally spaced points with a uniform random offset are compared with the cumulative shares,
    so that an index of probability p is drawn floor(m p) or ceil(m p) times.

    Parameters
    ----------
    shares : Tensor [k, batch]
        Probabilities in [0, 1]; each column sums to 1.
    m : int
        Number of draws per column.

    Returns
    -------
    Tensor [m, batch]
        Indices in [0, k).

    Examples
    --------
    >>> systematic(torch.tensor([[0.0], [1.0]]), 3).flatten()
    tensor([1, 1, 1])
    """
    n = shares.shape[1] * parallel.n_shares()
    offset = parallel.share(torch.rand(n, dtype=shares.dtype, device=shares.device))
    steps = torch.arange(m, dtype=shares.dtype, device=shares.device)
    points = (steps.unsqueeze(-1) + offset) / m
    ends = shares.cumsum(0)[:-1]
    return (ends.unsqueeze(0) <= points.unsqueeze(1)).sum(1)
