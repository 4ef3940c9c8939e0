"""Importance-weighted bounds on the log-likelihood: ELBO and IWAE.

``log_w`` [k, batch] are the log importance weights log p(x, z_k) - log q(z_k | x) of a run. The
terms are negative bounds, minimised, in nats per example.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ancestral.data.batch import Batch
from ancestral.models.latent import LatentModel
from ancestral.models.run import LatentRun
from ancestral.nn import shared_statistics
from ancestral.objectives.base import Objective, RunModel
from ancestral.probability.distributions import (
    detach_distribution,
    kl,
    log_prob,
    mean_or_mode,
    rsample_or_sample,
)
from ancestral.utils import distributed

MAX_LOG_WEIGHT_GAP = 12 * math.log(10)
"""Distance in nats below the largest log weight beyond which gradients are dropped."""

Gradient = Literal["reparameterised", "doubly"]

KLTerm = Literal["analytic", "sampled", "path"]


def log_mean_exp(log_w: Float[Tensor, "k *b"]) -> Float[Tensor, "*b"]:  # noqa: F821
    """Return log (1/K) sum_k exp(log_w_k), the logarithm of the mean over the first axis.

    >>> log_mean_exp(torch.tensor([[0.0], [0.0]]))
    tensor([0.])
    """
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


def _detach_negligible(log_w: Tensor) -> Tensor:
    """Detach log weights more than log 1e12 below the largest one of the same data sample.

    Their negligible gradients would be denormal numbers throughout the backward pass, which are
    slow to compute with.
    """
    has_gradient = log_w.detach() > log_w.detach().amax(0) - MAX_LOG_WEIGHT_GAP
    return torch.where(has_gradient, log_w, log_w.detach())


def elbo(n_samples: int = 1, kl: KLTerm = "analytic") -> Objective:
    """Negative ELBO, with ELBO = E_q[log p(x | z)] - KL(q(z | x) || p(z)).

    Parameters
    ----------
    n_samples : int
        Number of latent samples per data sample, over which the bound is averaged.
    kl : {"analytic", "sampled", "path"}
        Estimator of the KL term. ``"analytic"``: closed form (estimator B of Kingma and Welling,
        2014). ``"sampled"``: log q(z | x) - log p(z) at the latent samples (their estimator A).
        ``"path"``: as ``"sampled"``, with the path derivative only (Roeder, Wu and Duvenaud,
        2017), whose variance vanishes as q approaches the posterior. Values and gradients of the
        three have the same expectation.

    Returns
    -------
    Objective
        Terms ``reconstruction`` = -E_q[log p(x | z)] and ``kl``.

    Raises
    ------
    ValueError
        If ``n_samples`` is not positive or ``kl`` is unknown; at the first step, if q(z | x) is
        not reparameterised.
    """
    _check_samples("n_samples", n_samples)
    terms = {"analytic": _analytic_kl, "sampled": _sampled_kl, "path": _path_kl}
    if kl not in terms:
        raise ValueError(f"kl={kl!r}: expected 'analytic', 'sampled' or 'path'")
    bound_terms = {"reconstruction": _reconstruction, "kl": terms[kl]}
    return Objective(bound_terms, make_run(n_samples), n_samples=n_samples)


def iwae(
    k: int, gradient: Gradient = "reparameterised", n_resampled: int | None = None
) -> Objective:
    """Negative importance-weighted bound, with L_K = E[log (1/K) sum_k w_k].

    See Burda, Grosse and Salakhutdinov (2016), equation 8.

    Parameters
    ----------
    k : int
        Number of importance samples per data sample; k = 1 gives the ELBO.
    gradient : {"reparameterised", "doubly"}
        Gradient estimator: differentiation of the bound, or the doubly reparameterised estimator
        (Tucker, Lawson, Gu and Maddison, 2018), whose signal-to-noise ratio for q does not
        decrease with k.
    n_resampled : int, optional
        Number of importance samples, below k, that are resampled by weight and differentiated:
        the gradient has the same expectation and costs less. Other terms of the objective are
        computed from the resampled latents. By default all k are differentiated.

    Returns
    -------
    Objective
        Term ``bound`` = -L_K.

    Raises
    ------
    ValueError
        If ``k`` is not positive, ``gradient`` is unknown or ``n_resampled`` is not in [1, k); at
        the first step, if q(z | x) is not reparameterised.
    """
    _check_samples("k", k)
    if n_resampled is not None and not 1 <= n_resampled < k:
        raise ValueError(
            f"n_resampled={n_resampled}: expected at least 1 and fewer than all {k} samples; "
            "increase the number of samples, or leave n_resampled out"
        )
    terms = {"reparameterised": _reparameterised, "doubly": _doubly_reparameterised}
    if gradient not in terms:
        raise ValueError(f"gradient={gradient!r}: expected 'reparameterised' or 'doubly'")
    run = make_run(k, n_resampled=n_resampled)
    return Objective({"bound": terms[gradient]}, run, n_samples=k)


def make_run(k: int, *, score_function: bool = False, n_resampled: int | None = None) -> RunModel:
    """Return a function that runs the model with k latent samples.

    With gradients enabled, the function raises a ``ValueError`` if q(z | x) is reparameterised and
    ``score_function`` is True, or the reverse: the gradient would be wrong.
    """

    def run(model: nn.Module, batch: Batch) -> LatentRun:
        assert isinstance(model, LatentModel)
        requires_grad = torch.is_grad_enabled()
        m = n_resampled if requires_grad else None
        result = model.run(batch, k) if m is None else run_resampled(model, batch, k, m)
        if requires_grad and result.q.has_rsample == score_function:
            expected = "discrete" if score_function else "reparameterised"
            alternative = "elbo or iwae" if score_function else "vimco or reweighted_wake"
            raise ValueError(f"expected a {expected} q(z | x): use {alternative} for this model")
        return result

    return run


def _reconstruction(_: nn.Module, run: LatentRun) -> Tensor:
    return -run.log_px.mean()


def _analytic_kl(_: nn.Module, run: LatentRun) -> Tensor:
    return kl(run.q, run.prior).mean()


def _sampled_kl(_: nn.Module, run: LatentRun) -> Tensor:
    return (run.log_qz - run.log_pz).mean()


def _path_kl(_: nn.Module, run: LatentRun) -> Tensor:
    return (log_prob(detach_distribution(run.q), run.z) - run.log_pz).mean()


def negative_bound(run: LatentRun) -> Tensor:
    """Return -L_K, averaged over the batch, in nats per example."""
    log_w = run.log_w if run.log_w_all is None else run.log_w_all
    return -log_mean_exp(_detach_negligible(log_w)).mean()


def _reparameterised(_: nn.Module, run: LatentRun) -> Tensor:
    bound = negative_bound(run)
    return bound if run.log_w_all is None else surrogate(bound, -run.log_w.mean())


def _doubly_reparameterised(_: nn.Module, run: LatentRun) -> Tensor:
    """Return the term of equation 8 of Tucker et al. (2018).

    The gradient is that of sum_k w~_k log p for theta, and sum_k w~_k^2 d log w_k / d z_k through
    z for phi.
    """
    bound = negative_bound(run)
    if not run.z.requires_grad:
        return bound
    probabilities = weights = torch.softmax(run.log_w.detach(), 0)
    if run.log_w_all is not None:  # one factor w~ by resampling, the other as a weight
        probabilities = torch.exp(run.log_w.detach() - torch.logsumexp(run.log_w_all, 0))
        weights = torch.full_like(probabilities, 1 / len(probabilities))
    log_w = run.log_px + run.log_pz - log_prob(detach_distribution(run.q), run.z)
    # gradient for theta, and for phi with w~ instead of w~^2, which the correction completes
    weighted = -(weights * log_w).sum(0).mean()
    (grad_z,) = torch.autograd.grad(weighted, run.z, retain_graph=True)
    correction = (((probabilities - 1).unsqueeze(-1) * grad_z) * run.z).sum()
    return surrogate(bound, weighted + correction)


def surrogate(value: Tensor, differentiated: Tensor) -> Tensor:
    """Return a scalar with the value of ``value`` and the gradient of ``differentiated``."""
    return value.detach() + differentiated - differentiated.detach()


def posterior_mean(run: LatentRun) -> Tensor:
    """Return E_q[z | x], the features of the averaging classifier, [batch, n_latents]."""
    return mean_or_mode(run.q)


def _check_samples(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}={value}: expected at least one sample")


def run_resampled(model: LatentModel, batch: Batch, k: int, m: int) -> LatentRun:
    """Run the model at m of k latent samples, resampled by importance weight.

    ``LatentRun.log_w_all`` [k, batch] holds the log weights of all k samples. Batch
    normalisation applies the statistics of all k samples to the m resampled ones.
    """
    q = model.encode(batch)
    z = rsample_or_sample(q, (k,))
    with torch.no_grad(), shared_statistics(model, "lend"):
        full_run = model.run_at(z, batch, q)
        log_w = full_run.log_w
    indices = systematic_resampling(torch.softmax(log_w, 0), m).unsqueeze(-1)
    with shared_statistics(model, "borrow"):
        run = model.run_at(z.gather(0, indices.expand(-1, -1, z.shape[-1])), batch, q)
    run.log_w_all = log_w
    # activations of the encoder, and of the decoder at the resampled latents
    run.activations = full_run.activations | run.activations
    return run


def systematic_resampling(probabilities: Float[Tensor, "k b"], m: int) -> Int[Tensor, "m b"]:
    """Systematic resampling: draw m of k indices in each column, with replacement.

    m equally spaced points with a uniform random offset are compared with the cumulative
    probabilities, so that an index of probability p is drawn floor(m p) or ceil(m p) times.

    Parameters
    ----------
    probabilities : Tensor [k, batch]
        Probabilities in [0, 1]; each column sums to 1.
    m : int
        Number of draws per column.

    Returns
    -------
    Tensor [m, batch]
        Indices in [0, k).

    Examples
    --------
    >>> systematic_resampling(torch.tensor([[0.0], [1.0]]), 3).flatten()
    tensor([1, 1, 1])
    """
    n = probabilities.shape[1] * distributed.n_shards()
    offset = distributed.local_shard(
        torch.rand(n, dtype=probabilities.dtype, device=probabilities.device)
    )
    steps = torch.arange(m, dtype=probabilities.dtype, device=probabilities.device)
    points = (steps.unsqueeze(-1) + offset) / m
    ends = probabilities.cumsum(0)[:-1]
    return (ends.unsqueeze(0) <= points.unsqueeze(1)).sum(1)
