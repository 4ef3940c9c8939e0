"""The same bound for bits, which no gradient passes through: VIMCO, reweighted wake-sleep."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestral.models import Run
from ancestral.objectives.base import Objective, Term
from ancestral.objectives.importance import log_mean_exp, negative_bound, runner, surrogate


def vimco(k: int) -> Objective:
    """L_K for latent bits, by the multi-sample score function (Mnih and Rezende, 2016).

    The value is the bound; the gradient is VIMCO's: each sample's learning signal is the bound
    less what the bound would be with its weight replaced by the geometric mean of the others.

    Parameters
    ----------
    k : int
        Samples per row, at least 2.

    Returns
    -------
    Objective
        Term ``bound`` = -L_K.

    Raises
    ------
    ValueError
        If ``k`` is below 2; at the first step, if q(z | x) is reparameterised.
    """
    return _by_samples(k, "VIMCO", _vimco)


def reweighted_wake(k: int) -> Objective:
    """L_K for latent bits, by the wake phases of reweighted wake-sleep.

    The value is the bound, and the model follows its gradient; q(z | x) is drawn towards the
    posterior instead, as the weights show it: on the same samples it descends
    -sum_k w~_k log q(z_k | x), w~ the normalised weights (Bornschein and Bengio, 2015, section
    3.2).

    Parameters
    ----------
    k : int
        Samples per row, at least 2.

    Returns
    -------
    Objective
        Term ``bound`` = -L_K.

    Raises
    ------
    ValueError
        If ``k`` is below 2; at the first step, if q(z | x) is reparameterised.
    """
    return _by_samples(k, "reweighted wake-sleep", _reweighted_wake)


def _by_samples(k: int, name: str, term: Term) -> Objective:
    if k < 2:
        raise ValueError(f"k={k}: {name} compares samples with one another and needs at least 2")
    return Objective({"bound": term}, runner(k, score_function=True), n_samples=k)


def _vimco(_: nn.Module, run: Run) -> Tensor:
    log_w = run.log_w
    k = len(log_w)
    with torch.no_grad():
        mean_of_others = (log_w.sum(0) - log_w) / (k - 1)
        swap = torch.eye(k, dtype=log_w.dtype, device=log_w.device).unsqueeze(-1)
        replaced = log_w.unsqueeze(0) * (1 - swap) + mean_of_others.unsqueeze(0) * swap
        signal = log_mean_exp(log_w) - log_mean_exp(replaced.transpose(0, 1))
    bound = negative_bound(run)
    return surrogate(bound, bound - (signal * run.log_qz).sum(0).mean())


def _reweighted_wake(_: nn.Module, run: Run) -> Tensor:
    assert run.log_px is not None
    weights = torch.softmax(run.log_w.detach(), 0)
    log_both = (
        run.log_px + run.log_pz + run.log_qz
    )  # the first two are the model's, the last is q's
    return surrogate(negative_bound(run), -(weights * log_both).sum(0).mean())
