"""Conditional distributions: modules that map a context to a torch ``Distribution``.

Priors, likelihoods, posteriors, mixtures and factor analysers share this interface and can be
combined freely. The network of a conditional maps the context to the distribution's parameters.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, distributions, nn
from torch.distributions import Distribution

from ancestral.nn.numerics import at_least_float32
from ancestral.probability.distributions import (
    distribution_parameters,
    log_prob,
)


class Context(NamedTuple):
    """Inputs of a conditional; a network that begins with ``ReadContext`` selects fields of it."""

    x: Tensor | None = None
    y: Tensor | None = None
    mask: Tensor | None = None
    z: Tensor | None = None


ContextLike = Tensor | Context | None


class Conditional(nn.Module, ABC):
    """Conditional distribution p(. | c) over vectors of d entries.

    A call on a context c returns a torch ``Distribution`` that is either elementwise (its batch
    shape ends in d) or has events of shape [d].
    """

    @abstractmethod
    def forward(self, c: ContextLike = None) -> Distribution:
        """Return p(. | c), with parameters of float32 or a wider dtype."""

    def log_prob(
        self,
        x: Float[Tensor, "*b d"],
        c: ContextLike = None,
        mask: Float[Tensor, "*b2 d"] | None = None,
    ) -> Float[Tensor, "*b3"]:
        """Log-density of the observed entries in nats; missing entries are integrated out exactly.

        ``mask`` is 1 where an entry is observed and 0 where it is missing. See
        :func:`ancestral.probability.distributions.log_prob`.
        """
        return log_prob(self(c), x, mask)


def reads_context(conditional: Conditional) -> bool:
    """Return whether the network begins with ``ReadContext`` and needs the full ``Context``."""
    return any(getattr(m, "context_fields", None) for m in conditional.modules())


class Gaussian(Conditional):
    """Gaussian with diagonal covariance, N(mu(c), diag exp(log_var(c))).

    Parameters
    ----------
    network : Module
        Map c -> (mu [..., d], log_var [..., d]), or c -> mu if ``log_var`` is given.
    log_var : float or Tensor, optional
        Log-variance that does not depend on c: fixed, or fitted if it is a ``Parameter``.
    log_var_range : (float, float)
        Range to which log-variances are clamped. Without it, the density of a constant column is
        unbounded.

    Examples
    --------
    >>> Gaussian(nn.Linear(3, 2), log_var=0.0)(torch.zeros(5, 3)).batch_shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        network: nn.Module,
        log_var: float | Tensor | None = None,
        log_var_range: tuple[float, float] = (-14.0, 14.0),
    ) -> None:
        super().__init__()
        self.network, self.log_var_range = network, log_var_range
        self.log_var: Tensor | None
        if isinstance(log_var, nn.Parameter) or log_var is None:
            self.log_var = log_var
        else:
            self.register_buffer("log_var", torch.as_tensor(log_var))

    def forward(self, c: ContextLike = None) -> distributions.Normal:
        """Return the normal distribution, elementwise."""
        output = at_least_float32(self.network(c))
        mu, log_var = output if self.log_var is None else (output, self.log_var)
        scale = torch.exp(0.5 * log_var.clamp(*self.log_var_range))
        return distributions.Normal(mu, scale, validate_args=False)


class FullGaussian(Conditional):
    """Gaussian with full covariance, N(mu(c), L(c) L(c)^T).

    L is lower triangular; its diagonal is the exponential of the network's output.

    Parameters
    ----------
    network : Module
        Map c -> (mu [..., d], l [..., d (d + 1) / 2]); l holds the entries of L in row-major
        order, those of the diagonal as logarithms.

    Examples
    --------
    >>> from ancestral.nn import MLP
    >>> FullGaussian(MLP(4, (8,), heads=(2, 3)))(torch.zeros(5, 4)).event_shape
    torch.Size([2])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, c: ContextLike = None) -> distributions.MultivariateNormal:
        """Return the multivariate normal distribution."""
        mu, entries = at_least_float32(self.network(c))
        d = mu.shape[-1]
        row, column = torch.tril_indices(d, d, device=mu.device)
        tril = mu.new_zeros(*entries.shape[:-1], d, d)
        tril[..., row, column] = entries
        diagonal = tril.diagonal(dim1=-2, dim2=-1)
        tril = tril.tril(-1) + torch.diag_embed(diagonal.exp())
        return distributions.MultivariateNormal(mu, scale_tril=tril, validate_args=False)


class Laplace(Conditional):
    """Independent Laplace entries with location mu(c) and scale exp(log_scale(c)).

    Parameters
    ----------
    network : Module
        Map c -> (mu [..., d], log_scale [..., d]); log-scales are clamped to [-7, 7].
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, c: ContextLike = None) -> distributions.Laplace:
        """Return the Laplace distribution, elementwise."""
        mu, log_scale = at_least_float32(self.network(c))
        return distributions.Laplace(mu, log_scale.clamp(-7.0, 7.0).exp(), validate_args=False)


class Bernoulli(Conditional):
    """Independent Bernoulli entries, parametrised by logits.

    Parameters
    ----------
    network : Module
        Map c -> logits [..., d].
    clip : float, default 0
        Means are clamped to [clip, 1 - clip], with zero gradient outside; in [0, 1/2), where 0
        disables clamping.

    Raises
    ------
    ValueError
        If ``clip`` is not in [0, 1/2).

    Examples
    --------
    >>> Bernoulli(nn.Identity(), clip=0.001)(torch.tensor([-20.0, 0.0, 20.0])).mean
    tensor([0.0010, 0.5000, 0.9990])
    """

    def __init__(self, network: nn.Module, clip: float = 0.0) -> None:
        super().__init__()
        if not 0 <= clip < 0.5:
            raise ValueError(f"clip={clip}: expected a number in [0, 0.5)")
        self.network = network
        self.max_logit = math.inf if clip == 0 else math.log((1 - clip) / clip)

    def forward(self, c: ContextLike = None) -> distributions.Bernoulli:
        """Return the Bernoulli distribution, elementwise."""
        logits = at_least_float32(self.network(c))
        if self.max_logit < math.inf:
            logits = logits.clamp(-self.max_logit, self.max_logit)
        return distributions.Bernoulli(logits=logits, validate_args=False)


class Poisson(Conditional):
    """Independent Poisson entries, parametrised by log-rates.

    Parameters
    ----------
    network : Module
        Map c -> log_rate [..., d]; log-rates are clamped to [-20, 20].
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, c: ContextLike = None) -> distributions.Poisson:
        """Return the Poisson distribution, elementwise."""
        log_rate = at_least_float32(self.network(c)).clamp(-20, 20)
        return distributions.Poisson(log_rate.exp(), validate_args=False)


class Categorical(Conditional):
    """Independent categorical columns with codes 0 .. n - 1; n may differ between columns.

    Parameters
    ----------
    network : Module
        Map c -> logits [..., sum of n], concatenated over columns.
    n_categories : sequence of int
        Number n of categories of each column.

    Examples
    --------
    >>> p = Categorical(nn.Linear(2, 5), [2, 3])
    >>> p.log_prob(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)).shape
    torch.Size([1])
    """

    def __init__(self, network: nn.Module, n_categories: Sequence[int]) -> None:
        super().__init__()
        self.network, self.n_categories = network, tuple(n_categories)

    def forward(self, c: ContextLike = None) -> distributions.Categorical:
        """Return one distribution per column, padded to max n with categories of probability 0."""
        width = max(self.n_categories)
        columns = at_least_float32(self.network(c)).split(self.n_categories, -1)
        min_logit = torch.finfo(columns[0].dtype).min
        padded = [nn.functional.pad(u, (0, width - u.shape[-1]), value=min_logit) for u in columns]
        return distributions.Categorical(logits=torch.stack(padded, -2), validate_args=False)


class Unconditional(Conditional):
    """Context-independent distribution, such as a standard normal prior.

    Parameters
    ----------
    distribution : Distribution
        Distribution to return. Its parameters become buffers, so that they move with the module
        to a device or dtype.

    Raises
    ------
    TypeError
        If the distribution wraps another one and has no tensor parameters.

    Examples
    --------
    >>> Unconditional(distributions.Normal(torch.zeros(2), torch.ones(2)))().sample((3,)).shape
    torch.Size([3, 2])
    """

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        if not distribution_parameters(distribution):
            raise TypeError(
                f"distribution: {type(distribution).__name__} has no tensor parameters; pass the "
                "distribution it wraps"
            )
        self.family = type(distribution)
        self.names = tuple(distribution_parameters(distribution))
        for name, value in distribution_parameters(distribution).items():
            self.register_buffer(name, value.detach().clone())

    def forward(self, c: ContextLike = None) -> Distribution:  # noqa: ARG002
        """Return the distribution."""
        return self.family(**{n: getattr(self, n) for n in self.names}, validate_args=False)


def standard_normal(d: int) -> Unconditional:
    """Return the standard normal distribution N(0, I) over d entries."""
    return Unconditional(distributions.Normal(torch.zeros(d), torch.ones(d)))
