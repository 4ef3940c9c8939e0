"""Bayesian multilayer perceptron fitted by probabilistic backpropagation (PBP).

Assumed-density filtering with a factorised Gaussian over the weights, one sample at a time. The
moments of the activations are propagated under the assumption that the inputs of each layer are
independent Gaussians. The gradients of the resulting log-evidence give the Gaussian with the
moments of the posterior (Opper, 1998; Hernandez-Lobato and Adams, 2015, whose published code has
the formulas used here).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral.probability.distributions import LOG_2PI

MIN_VARIANCE = 1e-100
"""Minimal variance; updates with a smaller new variance are skipped."""


MIN_PRECISION = 1e-6
"""Minimal cavity precision of a weight for a refinement of its prior factor."""


class Moments(NamedTuple):
    """Mean and variance of independent values."""

    mean: Tensor
    variance: Tensor


class Gamma(NamedTuple):
    """Gamma distribution of a precision with shape a and rate b; E[1 / precision] = b / (a - 1)."""

    a: float
    b: float

    @property
    def variance(self) -> float:
        """E[1 / precision]."""
        return self.b / (self.a - 1)


def relu_moments(u: Moments) -> Moments:
    """Compute mean and variance of max(0, u) for Gaussian u.

    Examples
    --------
    >>> mean, variance = relu_moments(Moments(torch.zeros(1), torch.ones(1)))
    >>> round(mean.item(), 6), round(variance.item(), 6)
    (0.398942, 0.340845)
    """
    scale = u.variance.sqrt()
    alpha = u.mean / scale
    cdf = torch.special.ndtr(alpha)
    pdf = torch.exp(-0.5 * alpha.square() - 0.5 * LOG_2PI)
    mean = u.mean * cdf + scale * pdf
    square = (u.mean.square() + u.variance) * cdf + u.mean * scale * pdf
    return Moments(mean, (square - mean.square()).clamp(min=0))


def linear_moments(
    u: Moments, mean: Float[Tensor, "o n"], variance: Float[Tensor, "o n"]
) -> Moments:
    """Compute the moments of W [u, 1] / sqrt(n) for independent Gaussian weights and inputs.

    Parameters
    ----------
    u : Moments [..., n - 1]
        Moments of the inputs.
    mean, variance : Tensor [n_out, n]
        Moments of the weights W; the last column is the bias.

    Returns
    -------
    Moments [..., n_out]
        Moments of the outputs.
    """
    input_mean = nn.functional.pad(u.mean, (0, 1), value=1.0)
    input_variance = nn.functional.pad(u.variance, (0, 1))
    n = input_mean.shape[-1]
    total = input_variance @ (variance + mean.square()).T + input_mean.square() @ variance.T
    return Moments(input_mean @ mean.T / math.sqrt(n), total / n)


def update_gamma(prior: Gamma, log_z: float, log_z1: float, log_z2: float) -> Gamma:
    """Compute the Gamma distribution with the first two moments of the posterior.

    Parameters
    ----------
    prior : Gamma
        Prior of the precision.
    log_z, log_z1, log_z2 : float
        Log-evidence of the observation with variance b / (a - 1), b / a and b / (a + 1). Their
        ratios give the moments of the posterior.
    """
    a, b = prior
    ratio1, ratio2 = math.exp(log_z1 - log_z), math.exp(log_z2 - log_z1)
    new_a = 1 / (ratio2 / ratio1 * (a + 1) / a - 1)
    return Gamma(new_a, 1 / (ratio2 * (a + 1) / b - ratio1 * a / b))


def update_gaussian(prior: Moments, grad_mean: Tensor, grad_variance: Tensor) -> Moments:
    """Compute the Gaussian with the first two moments of the posterior.

    Entries whose new mean is not finite or whose new variance is too small remain unchanged.

    Parameters
    ----------
    prior : Moments
        Moments of the weights.
    grad_mean, grad_variance : Tensor
        Gradients of log Z, the log-evidence of the observation, in the prior's moments.

    Examples
    --------
    >>> mean, variance = torch.zeros(1, requires_grad=True), torch.ones(1, requires_grad=True)
    >>> prediction = Moments(2 * mean, 4 * variance)  # y = 2 w + noise of variance 1/2
    >>> log_z = log_normal(torch.tensor(1.5), prediction, 0.5).sum()
    >>> gradients = torch.autograd.grad(log_z, (mean, variance))
    >>> posterior = update_gaussian(Moments(mean.detach(), variance.detach()), *gradients)
    >>> [round(u.item(), 6) for u in posterior]  # the exact posterior: 2/3 and 1/9
    [0.666667, 0.111111]
    """
    mean = prior.mean + prior.variance * grad_mean
    reduction = prior.variance.square() * (grad_mean.square() - 2 * grad_variance)
    variance = prior.variance - reduction
    valid = (variance > MIN_VARIANCE) & mean.isfinite()
    return Moments(
        torch.where(valid, mean, prior.mean), torch.where(valid, variance, prior.variance)
    )


def log_normal(y: Tensor, p: Moments, noise: float) -> Tensor:
    """Log N(y; mean, variance + noise) in nats; ``noise`` is a variance."""
    variance = p.variance + noise
    return -0.5 * (LOG_2PI + variance.log() + (y - p.mean).square() / variance)


class BayesianMLP(nn.Module):
    """Bayesian ReLU network with one output and a factorised posterior over its weights.

    p(y | x) = N(f(x), 1 / gamma) with weights N(0, 1 / lambda); gamma and lambda have Gamma priors
    of shape 6 and rate 6. The posterior is approximated by independent Gaussians over the weights
    and Gamma distributions over gamma and lambda.

    Parameters
    ----------
    n_in : int
        Number of inputs.
    hidden : sequence of int
        Widths of the hidden layers.

    Examples
    --------
    >>> net = BayesianMLP(2, (8,)).double()
    >>> before = net.log_probability(x := torch.ones(2).double(), torch.tensor(1.0))
    >>> _ = net.update(x, torch.tensor(1.0))
    >>> bool(net.log_probability(x, torch.tensor(1.0)) > before)
    True
    """

    def __init__(self, n_in: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [n_in, *hidden, 1]
        shapes = [(n_out, n + 1) for n, n_out in pairwise(sizes)]
        prior = Gamma(6.0, 6.0)
        means = [torch.randn(shape) / math.sqrt(shape[1]) for shape in shapes]
        self.means = nn.ParameterList(means)
        self.variances = nn.ParameterList(torch.full(s, prior.variance) for s in shapes)
        n = sum(math.prod(shape) for shape in shapes)
        # site of each weight's prior: precision, precision times mean, a, b
        sites = torch.tensor([1 / prior.variance, 0.0, 0.0, 0.0]).repeat(n, 1)
        self.register_buffer("sites", sites)
        self.register_buffer("gammas", torch.tensor([prior, prior]))  # of the noise, of the weights
        self.sites: Tensor
        self.gammas: Tensor

    @property
    def noise(self) -> Gamma:
        """Posterior of gamma, the precision of the noise."""
        return Gamma(*self.gammas[0].tolist())

    def forward(self, x: Float[Tensor, "*b n"]) -> Moments:
        """Compute the moments of f(x), [...], without the noise."""
        u = Moments(x, torch.zeros_like(x))
        pairs = list(zip(self.means, self.variances, strict=True))
        for mean, variance in pairs[:-1]:
            u = relu_moments(linear_moments(u, mean, variance))
        mean, variance = linear_moments(u, *pairs[-1])
        return Moments(mean.squeeze(-1), variance.squeeze(-1))

    def log_probability(self, x: Float[Tensor, "*b n"], y: Float[Tensor, "*b"]) -> Tensor:
        """Log posterior predictive density log p(y | x) in nats, under a Gaussian approximation."""
        return log_normal(y, self(x), self.noise.variance)

    def update(self, x: Float[Tensor, " n"], y: Tensor) -> float:
        """Update the posterior with one sample (x [n], scalar y) in place.

        Returns the log predictive density of the sample before the update, in nats.
        """
        with torch.enable_grad():
            f = self(x)
            log_z = log_normal(y, f, self.noise.variance)
            weights = [*self.means, *self.variances]
            gradients = torch.autograd.grad(log_z, weights)
        n = len(self.means)
        with torch.no_grad():
            for layer in range(n):
                prior = Moments(self.means[layer], self.variances[layer])
                posterior = update_gaussian(prior, gradients[layer], gradients[n + layer])
                for parameter, value in zip(prior, posterior, strict=True):
                    parameter.copy_(value)
            self.gammas[0] = torch.tensor(self._noise_posterior(y, f, log_z.item()))
        return log_z.item()

    def _noise_posterior(self, y: Tensor, f: Moments, log_z: float) -> Gamma:
        a, b = self.noise
        log_z1, log_z2 = (log_normal(y, f, b / scale).item() for scale in (a, a + 1))
        return update_gamma(self.noise, log_z, log_z1, log_z2)

    @torch.no_grad()
    def refine_prior(self) -> None:
        """Refine the prior's site of each weight in turn, by expectation propagation."""
        means, variances = (
            torch.cat([u.flatten() for u in group]) for group in (self.means, self.variances)
        )
        gamma, sites = Gamma(*self.gammas[1].tolist()), self.sites.tolist()
        rows = []
        for moments in zip(means.tolist(), variances.tolist(), sites, strict=True):
            *new_moments, gamma, site = _refine_site(*moments, gamma)
            rows.append((*new_moments, *site))
        values = torch.tensor(rows, dtype=self.sites.dtype, device=self.sites.device)
        self.sites.copy_(values[:, 2:])
        self.gammas[1] = torch.tensor(gamma)
        start = 0
        for mean, variance in zip(self.means, self.variances, strict=True):
            stop = start + mean.numel()
            mean.copy_(values[start:stop, 0].view_as(mean))
            variance.copy_(values[start:stop, 1].view_as(variance))
            start = stop


def _refine_site(
    mean: float, variance: float, site: Sequence[float], gamma: Gamma
) -> tuple[float, float, Gamma, tuple[float, ...]]:
    """Refine the prior's site of one weight by an expectation-propagation update.

    Returns the mean and variance of the weight, the Gamma of lambda and the site; all unchanged if
    the cavity or the updated distributions are not proper.
    """
    unchanged = mean, variance, gamma, tuple(site)
    site_precision, site_shift, site_a, site_b = site
    cavity_precision = 1 / variance - site_precision
    a, b = gamma.a - site_a, gamma.b - site_b
    if not (cavity_precision > MIN_PRECISION and a > 1 and b > 0):
        return unchanged
    cavity_gamma, cavity_variance = Gamma(a, b), 1 / cavity_precision
    cavity_mean = cavity_variance * (mean / variance - site_shift)
    log_z, log_z1, log_z2 = (
        -0.5 * (math.log(cavity_variance + v) + cavity_mean**2 / (cavity_variance + v))
        for v in (b / (a - 1), b / a, b / (a + 1))
    )
    total = cavity_variance + cavity_gamma.variance
    grad_mean = -cavity_mean / total
    grad_variance = -0.5 / total + 0.5 * (cavity_mean / total) ** 2
    new_mean = cavity_mean + cavity_variance * grad_mean
    new_variance = cavity_variance - cavity_variance**2 * (grad_mean**2 - 2 * grad_variance)
    new_gamma = update_gamma(cavity_gamma, log_z, log_z1, log_z2)
    if not (
        MIN_VARIANCE < new_variance < 1 / MIN_PRECISION and new_gamma.a > 1 and new_gamma.b > 0
    ):
        return unchanged
    new_site = (
        1 / new_variance - cavity_precision,
        new_mean / new_variance - cavity_mean * cavity_precision,
        new_gamma.a - a,
        new_gamma.b - b,
    )
    return new_mean, new_variance, new_gamma, new_site
