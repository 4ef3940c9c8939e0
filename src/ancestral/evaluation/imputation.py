"""Imputation of missing entries by pseudo-Gibbs sampling."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ancestral.data.batch import Batch
from ancestral.models.latent import LatentModel
from ancestral.probability.distributions import mean_or_mode, rsample_or_sample


@torch.no_grad()
def pseudo_gibbs(
    model: LatentModel,
    x: Float[Tensor, "batch d"],
    mask: Float[Tensor, "batch d"],
    init: Float[Tensor, "batch d"],
    *,
    n_iter: int = 100,
    return_mean: bool = True,
    y: Tensor | None = None,
    bounds: Float[Tensor, "2 d"] | None = None,
) -> Float[Tensor, "batch d"]:
    """Impute missing entries by pseudo-Gibbs sampling.

    Each iteration samples z ~ q(z | x) and replaces the missing entries given z (Rezende, Mohamed
    and Wierstra, 2014, appendix F). Noise comes from torch's global generator.

    Parameters
    ----------
    model : LatentModel
        Model in evaluation mode.
    x, mask : Tensor [batch, d]
        Values, and whether each is observed (1) or missing (0).
    init : Tensor [batch, d]
        Initial values of the missing entries.
    n_iter : int
        Number of iterations.
    return_mean : bool
        Replacement of missing entries: E[x | z], as in the papers, or a sample of p(x | z). Only
        with samples can the stationary distribution of the chain be the conditional distribution
        of the missing entries.
    y : Tensor [batch], optional
        Labels, for a model conditioned on them.
    bounds : Tensor [2, d], optional
        Minimum and maximum of each feature, to which imputed values are clipped. This prevents the
        iterations of a poorly fitted model from diverging.

    Returns
    -------
    Tensor [batch, d]
        Values after the last iteration; observed entries are unchanged.
    """
    observed = mask > 0
    imputed = torch.where(observed, x, init)
    for _ in range(n_iter):
        p = model.decode(rsample_or_sample(model.encode(Batch(imputed, y))), y)
        proposal = mean_or_mode(p) if return_mean else p.sample()
        proposal = proposal if bounds is None else proposal.clamp(*bounds)
        imputed = torch.where(observed, x, proposal)
    return imputed
