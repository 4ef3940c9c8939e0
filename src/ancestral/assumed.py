"""Assumed-density filtering: a network whose weights are Gaussian, one observation at a time.

The moments of what goes through such a network are known up to what each layer assumes: that its
inputs are independent Gaussians again. So the probability of an observation is known, and from its
derivatives the Gaussian that is nearest to the posterior of the weights (Opper, 1998; for networks
Hernandez-Lobato and Adams, 2015, whose code has the formulas here).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral.distributions import LOG_2PI

SPECK = 1e-100
"""A variance at most so large is none, and an update that leads there is not made."""


LEAST_PRECISION = 1e-6
"""Of a weight without its prior, for the prior to be taken in anew."""


class Moments(NamedTuple):
    """Mean and variance of independent values."""

    mean: Tensor
    variance: Tensor


class Gamma(NamedTuple):
    """Shape and rate of the distribution of a precision; b / (a - 1) is its expected variance."""

    a: float
    b: float

    @property
    def variance(self) -> float:
        """E[1 / precision]."""
        return self.b / (self.a - 1)


def relu_moments(u: Moments) -> Moments:
    """Return mean and variance of max(0, u) for Gaussian u.

    Examples
    --------
    >>> mean, variance = relu_moments(Moments(torch.zeros(1), torch.ones(1)))
    >>> round(mean.item(), 6), round(variance.item(), 6)
    (0.398942, 0.340845)
    """
    scale = u.variance.sqrt()
    alpha = u.mean / scale
    below = torch.special.ndtr(alpha)
    density = torch.exp(-0.5 * alpha.square() - 0.5 * LOG_2PI)
    mean = u.mean * below + scale * density
    square = (u.mean.square() + u.variance) * below + u.mean * scale * density
    return Moments(mean, (square - mean.square()).clamp(min=0))


def linear_moments(
    u: Moments, mean: Float[Tensor, "o n"], variance: Float[Tensor, "o n"]
) -> Moments:
    """Return the moments of W [u, 1] / sqrt(n) for independent Gaussian weights and inputs.

    Parameters
    ----------
    u : Moments [..., n - 1]
        Of the inputs.
    mean, variance : Tensor [n_out, n]
        Of the weights; the last column is the bias.
    """
    known = nn.functional.pad(u.mean, (0, 1), value=1.0)
    unsure = nn.functional.pad(u.variance, (0, 1))
    n = known.shape[-1]
    spread = unsure @ (variance + mean.square()).T + known.square() @ variance.T
    return Moments(known @ mean.T / math.sqrt(n), spread / n)


def updated_gamma(prior: Gamma, log_z: float, log_z1: float, log_z2: float) -> Gamma:
    """Return the Gamma distribution that has the first two moments of the posterior.

    Parameters
    ----------
    prior : Gamma
        Of the precision.
    log_z, log_z1, log_z2 : float
        Log-probability of what was observed, the variance b / (a - 1) in it replaced by b / a and
        b / (a + 1) for the other two: moments of the posterior are their ratios.
    """
    a, b = prior
    first, second = math.exp(log_z1 - log_z), math.exp(log_z2 - log_z1)
    new_a = 1 / (second / first * (a + 1) / a - 1)
    return Gamma(new_a, 1 / (second * (a + 1) / b - first * a / b))


def updated_gaussian(prior: Moments, by_mean: Tensor, by_variance: Tensor) -> Moments:
    """Return the Gaussian that has the first two moments of the posterior.

    Parameters
    ----------
    prior : Moments
        Of the weights.
    by_mean, by_variance : Tensor
        Derivatives of log Z, the log-probability of what was observed, by the prior's moments.

    Examples
    --------
    >>> mean, spread = torch.zeros(1, requires_grad=True), torch.ones(1, requires_grad=True)
    >>> seen = Moments(2 * mean, 4 * spread)  # y = 2 w + noise of variance 1/2 was 1.5
    >>> log_z = log_normal(torch.tensor(1.5), seen, 0.5).sum()
    >>> slopes = torch.autograd.grad(log_z, (mean, spread))
    >>> found = updated_gaussian(Moments(mean.detach(), spread.detach()), *slopes)
    >>> [round(u.item(), 6) for u in found]  # as Bayes has it: 2/3 and 1/9
    [0.666667, 0.111111]
    """
    mean = prior.mean + prior.variance * by_mean
    shrunk = prior.variance.square() * (by_mean.square() - 2 * by_variance)
    variance = prior.variance - shrunk
    sound = (variance > SPECK) & mean.isfinite()
    return Moments(
        torch.where(sound, mean, prior.mean), torch.where(sound, variance, prior.variance)
    )


def log_normal(y: Tensor, p: Moments, noise: float) -> Tensor:
    """Log N(y; mean, variance + noise), nats."""
    variance = p.variance + noise
    return -0.5 * (LOG_2PI + variance.log() + (y - p.mean).square() / variance)


class GaussianWeights(nn.Module):
    """A network of rectified units with one output, and what is known of its weights.

    p(y | x) = N(f(x), 1 / gamma), weights N(0, 1 / lambda); gamma and lambda have Gamma priors of
    shape and rate 6. What is known is kept as independent Gaussians for weights, and Gammas.

    Parameters
    ----------
    n_in : int
        Number of inputs.
    hidden : sequence of int
        Widths of the hidden layers.

    Examples
    --------
    >>> net = GaussianWeights(2, (8,)).double()
    >>> before = net.log_probability(x := torch.ones(2).double(), torch.tensor(1.0))
    >>> _ = net.observe(x, torch.tensor(1.0))
    >>> bool(net.log_probability(x, torch.tensor(1.0)) > before)
    True
    """

    def __init__(self, n_in: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [n_in, *hidden, 1]
        shapes = [(n_out, n + 1) for n, n_out in pairwise(sizes)]
        prior = Gamma(6.0, 6.0)
        start = [torch.randn(shape) / math.sqrt(shape[1]) for shape in shapes]
        self.means = nn.ParameterList(start)
        self.variances = nn.ParameterList(torch.full(s, prior.variance) for s in shapes)
        n = sum(math.prod(shape) for shape in shapes)
        # what the prior of every weight contributes: precision, precision times mean, a, b
        sites = torch.tensor([1 / prior.variance, 0.0, 0.0, 0.0]).repeat(n, 1)
        self.register_buffer("sites", sites)
        self.register_buffer("gammas", torch.tensor([prior, prior]))  # of the noise, of the weights
        self.sites: Tensor
        self.gammas: Tensor

    @property
    def noise(self) -> Gamma:
        """What is known of gamma, the precision of the noise."""
        return Gamma(*self.gammas[0].tolist())

    def forward(self, x: Float[Tensor, "*b n"]) -> Moments:
        """Return the moments of f(x), [...], without the noise."""
        u = Moments(x, torch.zeros_like(x))
        pairs = list(zip(self.means, self.variances, strict=True))
        for mean, variance in pairs[:-1]:
            u = relu_moments(linear_moments(u, mean, variance))
        mean, variance = linear_moments(u, *pairs[-1])
        return Moments(mean.squeeze(-1), variance.squeeze(-1))

    def log_probability(self, x: Float[Tensor, "*b n"], y: Float[Tensor, "*b"]) -> Tensor:
        """Log p(y | x) given all that was observed, nats: Gaussian with the noise's variance."""
        return log_normal(y, self(x), self.noise.variance)

    def observe(self, x: Float[Tensor, " n"], y: Tensor) -> float:
        """Learn from one row; return what its log-probability was before."""
        with torch.enable_grad():
            f = self(x)
            log_z = log_normal(y, f, self.noise.variance)
            weights = [*self.means, *self.variances]
            slopes = torch.autograd.grad(log_z, weights)
        n = len(self.means)
        with torch.no_grad():
            for layer in range(n):
                prior = Moments(self.means[layer], self.variances[layer])
                after = updated_gaussian(prior, slopes[layer], slopes[n + layer])
                for now, new in zip(prior, after, strict=True):
                    now.copy_(new)
            self.gammas[0] = torch.tensor(self._noise_after(y, f, log_z.item()))
        return log_z.item()

    def _noise_after(self, y: Tensor, f: Moments, log_z: float) -> Gamma:
        a, b = self.noise
        others = (log_normal(y, f, b / scale).item() for scale in (a, a + 1))
        return updated_gamma(self.noise, log_z, *others)

    @torch.no_grad()
    def refine_prior(self) -> None:
        """Replace what the prior contributes to each weight: expectation propagation, in turn."""
        means, variances = (
            torch.cat([u.flatten() for u in group]) for group in (self.means, self.variances)
        )
        gamma, sites = Gamma(*self.gammas[1].tolist()), self.sites.tolist()
        found = []
        for moments in zip(means.tolist(), variances.tolist(), sites, strict=True):
            *after, gamma, site = _refined(*moments, gamma)
            found.append((*after, *site))
        new = torch.tensor(found, dtype=self.sites.dtype, device=self.sites.device)
        self.sites.copy_(new[:, 2:])
        self.gammas[1] = torch.tensor(gamma)
        start = 0
        for mean, variance in zip(self.means, self.variances, strict=True):
            stop = start + mean.numel()
            mean.copy_(new[start:stop, 0].view_as(mean))
            variance.copy_(new[start:stop, 1].view_as(variance))
            start = stop


def _refined(
    mean: float, variance: float, site: Sequence[float], gamma: Gamma
) -> tuple[float, float, Gamma, tuple[float, ...]]:
    """Return moments of a weight, the Gamma of lambda and the prior's site, with a better site."""
    unchanged = mean, variance, gamma, tuple(site)
    precision, shift, site_a, site_b = site
    without = 1 / variance - precision
    a, b = gamma.a - site_a, gamma.b - site_b
    if not (without > LEAST_PRECISION and a > 1 and b > 0):
        return unchanged
    cavity, left = Gamma(a, b), 1 / without
    centre = left * (mean / variance - shift)
    log_z, log_z1, log_z2 = (
        -0.5 * (math.log(left + v) + centre**2 / (left + v))
        for v in (b / (a - 1), b / a, b / (a + 1))
    )
    total = left + cavity.variance
    by_mean = -centre / total
    by_variance = -0.5 / total + 0.5 * (centre / total) ** 2
    new_mean = centre + left * by_mean
    new_variance = left - left**2 * (by_mean**2 - 2 * by_variance)
    after = updated_gamma(cavity, log_z, log_z1, log_z2)
    if not (SPECK < new_variance < 1 / LEAST_PRECISION and after.a > 1 and after.b > 0):
        return unchanged
    better = (
        1 / new_variance - without,
        new_mean / new_variance - centre * without,
        after.a - a,
        after.b - b,
    )
    return new_mean, new_variance, after, better
