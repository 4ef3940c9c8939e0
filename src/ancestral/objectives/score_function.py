"""Score-function gradients of the bound for discrete latents: VIMCO, reweighted wake-sleep."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestral.models.run import LatentRun
from ancestral.objectives.base import Objective, Term
from ancestral.objectives.variational import log_mean_exp, make_run, negative_bound, surrogate


def vimco(k: int) -> Objective:
    """Negative bound L_K for discrete latents with VIMCO gradients (Mnih and Rezende, 2016).

    The value is the bound. The learning signal of each latent sample is the bound minus the bound
    with the weight of that sample replaced by the geometric mean of the other weights.

    Parameters
    ----------
    k : int
        Number of latent samples per data sample, at least 2.

    Returns
    -------
    Objective
        Term ``bound`` = -L_K.

    Raises
    ------
    ValueError
        If ``k`` is below 2; at the first step, if q(z | x) is reparameterised.
    """
    return _score_function_objective(k, "VIMCO", _vimco)


def reweighted_wake(k: int) -> Objective:
    """Negative bound L_K for discrete latents, by the wake phases of reweighted wake-sleep.

    The value is the bound, whose gradient trains the model. On the same latent samples, q(z | x)
    minimises -sum_k w~_k log q(z_k | x), where w~ are the normalised importance weights
    (Bornschein and Bengio, 2015, section 3.2).

    Parameters
    ----------
    k : int
        Number of latent samples per data sample, at least 2.

    Returns
    -------
    Objective
        Term ``bound`` = -L_K.

    Raises
    ------
    ValueError
        If ``k`` is below 2; at the first step, if q(z | x) is reparameterised.
    """
    return _score_function_objective(k, "reweighted wake-sleep", _reweighted_wake)


def _score_function_objective(k: int, name: str, term: Term) -> Objective:
    if k < 2:
        raise ValueError(f"k={k}: {name} compares samples with each other; expected at least 2")
    return Objective({"bound": term}, make_run(k, score_function=True), n_samples=k)


def _vimco(_: nn.Module, run: LatentRun) -> Tensor:
    log_w = run.log_w
    k = len(log_w)
    with torch.no_grad():
        leave_one_out_mean = (log_w.sum(0) - log_w) / (k - 1)
        diagonal = torch.eye(k, dtype=log_w.dtype, device=log_w.device).unsqueeze(-1)
        baseline = log_w.unsqueeze(0) * (1 - diagonal) + leave_one_out_mean.unsqueeze(0) * diagonal
        signal = log_mean_exp(log_w) - log_mean_exp(baseline.transpose(0, 1))
    bound = negative_bound(run)
    return surrogate(bound, bound - (signal * run.log_qz).sum(0).mean())


def _reweighted_wake(_: nn.Module, run: LatentRun) -> Tensor:
    weights = torch.softmax(run.log_w.detach(), 0)
    # log p(x, z) trains the model, log q(z | x) the recognition model
    log_densities = run.log_px + run.log_pz + run.log_qz
    return surrogate(negative_bound(run), -(weights * log_densities).sum(0).mean())
