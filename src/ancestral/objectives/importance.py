"""Bounds on the log-likelihood from importance samples: ELBO and IWAE.

``log_w`` [k, batch] are the log importance weights log p(x, z_k) - log q(z_k | x) of a run. Every
term here is a negative bound: nats per example, minimised.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral.data import Batch
from ancestral.distributions import centre, detach, kl, log_prob
from ancestral.models import LatentModel, Run
from ancestral.objectives.base import Objective, RunModel
from ancestral.objectives.resampling import run_resampled

NEGLIGIBLE = 12 * math.log(10)
"""Nats below the greatest log weight from which on a sample's gradient is dropped."""

Gradient = Literal["reparameterised", "doubly"]
KLTerm = Literal["analytic", "sampled", "path"]


def log_mean_exp(log_w: Float[Tensor, "k *b"]) -> Float[Tensor, "*b"]:  # noqa: F821
    """Log (1/K) sum_k exp(log_w_k).

    >>> log_mean_exp(torch.tensor([[0.0], [0.0]]))
    tensor([0.])
    """
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


def _without_specks(log_w: Tensor) -> Tensor:
    """Cut samples off the gradient whose share of the weight is below 1e-12.

    They would make numbers too small for full precision all along the backward pass, which cost
    time and change nothing.
    """
    counts = log_w.detach() > log_w.detach().amax(0) - NEGLIGIBLE
    return torch.where(counts, log_w, log_w.detach())


def elbo(n_samples: int = 1, kl: KLTerm = "analytic") -> Objective:
    """Evidence lower bound E_q[log p(x | z)] - KL(q(z | x) || p(z)) (Kingma and Welling, 2014).

    Parameters
    ----------
    n_samples : int
        Latent samples per row, over which the bound is averaged.
    kl : {"analytic", "sampled", "path"}
        The closed form of the KL term (their estimator B), or log q(z | x) - log p(z) at the
        samples (their estimator A), or that, differentiated along the path of the samples only
        (Roeder, Wu and Duvenaud, 2017): noise that vanishes as q nears the posterior. All have
        the same mean, and their gradients too.

    Returns
    -------
    Objective
        Terms ``reconstruction`` = -E_q[log p(x | z)] and ``kl``.

    Raises
    ------
    ValueError
        If ``n_samples`` is not positive or ``kl`` unknown.
    """
    _check_samples("n_samples", n_samples)
    terms = {"analytic": _analytic_kl, "sampled": _sampled_kl, "path": _path_kl}
    if kl not in terms:
        raise ValueError(f"kl={kl!r}: expected 'analytic', 'sampled' or 'path'")
    both = {"reconstruction": _reconstruction, "kl": terms[kl]}
    return Objective(both, runner(n_samples), n_samples=n_samples)


def iwae(
    k: int, gradient: Gradient = "reparameterised", n_resampled: int | None = None
) -> Objective:
    """L_K = E[log (1/K) sum_k w_k] (Burda, Grosse and Salakhutdinov, 2016, equation 8).

    Parameters
    ----------
    k : int
        Importance samples per row; k = 1 is the ELBO.
    gradient : {"reparameterised", "doubly"}
        Plain differentiation of the bound, or the doubly reparameterised estimator (Tucker,
        Lawson, Gu and Maddison, 2018), whose signal for q does not fade as k grows.
    n_resampled : int, optional
        Differentiate only so many of the k samples, drawn by weight: the same gradient on average,
        for less work. Other terms of the objective see the samples drawn.

    Returns
    -------
    Objective
        Term ``bound`` = -L_K.

    Raises
    ------
    ValueError
        If ``k`` is not positive, ``gradient`` unknown or ``n_resampled`` not below ``k``.
    """
    _check_samples("k", k)
    if n_resampled is not None and not 1 <= n_resampled < k:
        raise ValueError(
            f"n_resampled={n_resampled}: expected 1 or more, and fewer than all {k} samples: "
            "take more of these, or leave it out"
        )
    terms = {"reparameterised": _reparameterised, "doubly": _doubly_reparameterised}
    if gradient not in terms:
        raise ValueError(f"gradient={gradient!r}: expected 'reparameterised' or 'doubly'")
    run = runner(k, n_resampled=n_resampled)
    return Objective({"bound": terms[gradient]}, run, n_samples=k)


def runner(k: int, *, score_function: bool = False, n_resampled: int | None = None) -> RunModel:
    """Run with k samples; refuse a q(z | x) for which the objective's gradient would be wrong."""

    def run(model: nn.Module, batch: Batch) -> Run:
        assert isinstance(model, LatentModel)
        learning = torch.is_grad_enabled()
        few = n_resampled if learning else None
        result = model.run(batch, k) if few is None else run_resampled(model, batch, k, few)
        assert result.q is not None
        if learning and result.q.has_rsample == score_function:
            cure = "iwae" if score_function else "vimco"
            nature = "can" if score_function else "can't"
            raise ValueError(f"q(z | x) {nature} be reparameterised: use {cure}")
        return result

    return run


def _reconstruction(_: nn.Module, run: Run) -> Tensor:
    assert run.log_px is not None
    return -run.log_px.mean()


def _analytic_kl(_: nn.Module, run: Run) -> Tensor:
    assert run.q is not None
    assert run.prior is not None
    return kl(run.q, run.prior).mean()


def _sampled_kl(_: nn.Module, run: Run) -> Tensor:
    return (run.log_qz - run.log_pz).mean()


def _path_kl(_: nn.Module, run: Run) -> Tensor:
    assert run.q is not None
    assert run.z is not None
    return (log_prob(detach(run.q), run.z) - run.log_pz).mean()


def negative_bound(run: Run) -> Tensor:
    """Return -L_K, nats per example."""
    log_w = run.log_w if run.log_w_before is None else run.log_w_before
    return -log_mean_exp(_without_specks(log_w)).mean()


def _reparameterised(_: nn.Module, run: Run) -> Tensor:
    bound = negative_bound(run)
    return bound if run.log_w_before is None else surrogate(bound, -run.log_w.mean())


def _doubly_reparameterised(_: nn.Module, run: Run) -> Tensor:
    """Tucker et al., equation 8: theta sees sum w~ grad log p, phi sees sum w~^2 through z."""
    assert run.q is not None
    assert run.z is not None
    assert run.log_px is not None
    bound = negative_bound(run)
    if not run.z.requires_grad:
        return bound
    shares = weights = torch.softmax(run.log_w.detach(), 0)
    if run.log_w_before is not None:  # drawn by one factor w~, and weighted by the other
        shares = torch.exp(run.log_w.detach() - torch.logsumexp(run.log_w_before, 0))
        weights = torch.full_like(shares, 1 / len(shares))
    log_w = run.log_px + run.log_pz - log_prob(detach(run.q), run.z)
    once = -(weights * log_w).sum(0).mean()  # theta's gradient, and phi's with w~ in place of w~^2
    (into_z,) = torch.autograd.grad(once, run.z, retain_graph=True)
    twice = (((shares - 1).unsqueeze(-1) * into_z) * run.z).sum()
    return surrogate(bound, once + twice)


def surrogate(value: Tensor, differentiated: Tensor) -> Tensor:
    """Return ``value``, to be differentiated as another expression is."""
    return value.detach() + differentiated - differentiated.detach()


def posterior_mean(run: Run) -> Tensor:
    """E_q[z | x], the features of the averaging classifier: [batch, n_latents]."""
    assert run.q is not None
    return centre(run.q)


def _check_samples(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}={value}: at least one sample is needed")
