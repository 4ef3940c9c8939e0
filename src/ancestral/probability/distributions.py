"""Densities of observed entries, KL divergences, means and sampling for torch distributions.

torch.distributions evaluates elementwise or per event, does not marginalise over missing entries,
and computes KL divergences through a registry that does not compile. This module contains the
closed forms used in this library, and two distributions that torch lacks: columns of mixed types,
and a chain of stochastic layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)
from torch.distributions.constraints import Constraint

from ancestral.probability.bernoulli import bernoulli_log_prob
from ancestral.utils import distributed

LOG_2PI = math.log(2 * math.pi)

Shape = torch.Size | list[int] | tuple[int, ...]


class MixedColumns(Distribution):
    """Independent groups of columns, each with a separate elementwise distribution.

    Parameters
    ----------
    parts : sequence of Distribution
        Distribution of each group; its batch shape ends in the number of columns of the group.
    order : Tensor [d]
        Position of each table column in the concatenation of the groups.
    """

    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, parts: Sequence[Distribution], order: Tensor) -> None:
        self.parts, self.order = list(parts), order
        self._sizes = [int(p.batch_shape[-1]) for p in self.parts]
        leading = self.parts[0].batch_shape[:-1]
        super().__init__(torch.Size([*leading, sum(self._sizes)]), validate_args=False)

    def _gather(self, parts: Sequence[Tensor]) -> Tensor:
        first = self.parts[0]
        dtype = (first.logits if isinstance(first, Categorical) else first.mean).dtype
        return torch.cat([p.to(dtype) for p in parts], -1)[..., self.order]

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Sample without gradient, [*sample_shape, ..., d]."""
        return self._gather([p.sample(torch.Size(sample_shape)) for p in self.parts])

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of every entry in nats, [..., d]."""
        columns = value[..., self.order.argsort()].split(self._sizes, -1)
        return self._gather([p.log_prob(v) for p, v in zip(self.parts, columns, strict=True)])


class ChainDistribution(Distribution):
    """Chain of stochastic layers, each conditioned on the previous one, as a single vector.

    Parameters
    ----------
    first : Distribution
        Elementwise distribution of the first layer.
    conditionals : sequence of callable
        Conditional of each further layer: value of the previous layer -> distribution.
    sizes : sequence of int
        Widths of the layers in sampling order.
    reverse : bool
        Whether to concatenate the layers in reverse sampling order.
    """

    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012

    def __init__(
        self,
        first: Distribution,
        conditionals: Sequence[Callable[[Tensor], Distribution]],
        sizes: Sequence[int],
        reverse: bool = False,
    ) -> None:
        self.first, self.conditionals, self.sizes, self.reverse = (
            first,
            list(conditionals),
            list(sizes),
            reverse,
        )
        batch = first.batch_shape if first.event_shape else first.batch_shape[:-1]
        super().__init__(batch, torch.Size([sum(sizes)]), validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether the first layer is reparameterised; assumed to hold for all layers."""
        return bool(self.first.has_rsample)

    def _sample_layers(self, sample_shape: Shape, layer: Callable[..., Tensor]) -> Tensor:
        parts = [layer(self.first, tuple(sample_shape))]
        for conditional in self.conditionals:
            parts.append(layer(conditional(parts[-1]), ()))
        return torch.cat(parts[::-1] if self.reverse else parts, -1)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Sample with reparameterised gradients, [*sample_shape, ..., d]."""
        return self._sample_layers(sample_shape, rsample_or_sample)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Sample without gradient, [*sample_shape, ..., d]."""
        with torch.no_grad():
            return self._sample_layers(sample_shape, rsample_or_sample)

    def condition_on_first(self, first: Tensor) -> Distribution:
        """Distribution of all later layers given a value of the first layer, [..., sizes[0]]."""
        if not isinstance(self.first, ChainDistribution):
            return self.conditionals[0](first)
        n = first.shape[-1]  # the first layer is a chain, and `first` the value of its first layer
        sizes = [self.sizes[0] - n, *self.sizes[1:]]

        def second(remainder: Tensor) -> Distribution:
            given = first.expand(*remainder.shape[:-1], n)
            return self.conditionals[0](torch.cat([given, remainder], -1))

        return ChainDistribution(
            self.first.condition_on_first(first), [second, *self.conditionals[1:]], sizes
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Joint log-density of the layers in nats, [...]."""
        sizes = self.sizes[::-1] if self.reverse else self.sizes
        parts = list(value.split(sizes, -1))
        parts = parts[::-1] if self.reverse else parts
        total = log_prob(self.first, parts[0])
        for conditional, previous, part in zip(
            self.conditionals, parts[:-1], parts[1:], strict=True
        ):
            total = total + log_prob(conditional(previous), part)
        return total

    @property
    def mean(self) -> Tensor:
        """Mean (or mode) of each layer given that of the previous layer, [..., d]."""
        return self._sample_layers((), lambda p, _: mean_or_mode(p))


def log_prob(
    p: Distribution, x: Float[Tensor, "*b d"], mask: Float[Tensor, "*b2 d"] | None = None
) -> Float[Tensor, "*b3"]:
    """Log-density of the observed entries of ``x`` in nats, with missing entries integrated out.

    Exact for every distribution of this library: independent entries are summed over the observed
    ones; correlated Gaussians and mixtures use their closed-form marginals.

    Parameters
    ----------
    p : Distribution
        Elementwise distribution (batch shape ending in d) or distribution of events of d entries.
    x : Tensor [..., d]
        Values; those at missing entries are ignored.
    mask : Tensor [..., d], optional
        1 = observed, 0 = missing; all observed by default.

    Returns
    -------
    Tensor [...]
        Log-density of each event.

    Raises
    ------
    NotImplementedError
        If the marginal of ``p`` has no closed form.

    Examples
    --------
    >>> p = Normal(torch.zeros(2), torch.ones(2))
    >>> round(log_prob(p, torch.zeros(2), torch.tensor([1.0, 0.0])).item(), 6)
    -0.918939
    """
    if mask is not None:
        x = torch.where(mask > 0, x, torch.zeros_like(x))  # also replaces NaN
        mask = mask.to(x.dtype)
    if isinstance(p, Bernoulli):
        return bernoulli_log_prob(p.logits, x, mask)
    if mask is None:
        return p.log_prob(x) if p.event_shape else p.log_prob(x).sum(-1)
    if not p.event_shape:
        return (p.log_prob(x) * mask).sum(-1)
    return _marginal_log_prob(p, x, mask)


def _marginal_log_prob(p: Distribution, x: Tensor, mask: Tensor) -> Tensor:
    marginal: Distribution
    match p:
        case Independent():
            return log_prob(p.base_dist, x, mask)
        case MixtureSameFamily():
            log_weights = p.mixture_distribution.logits
            components = log_prob(p.component_distribution, x.unsqueeze(-2), mask.unsqueeze(-2))
            return torch.logsumexp(log_weights + components, -1)
        case LowRankMultivariateNormal():
            marginal = LowRankMultivariateNormal(
                p.loc * mask,
                p.cov_factor * mask.unsqueeze(-1),
                torch.where(mask > 0, p.cov_diag, torch.ones_like(p.cov_diag)),
                validate_args=False,
            )
        case MultivariateNormal():
            pairs = mask.unsqueeze(-1) * mask.unsqueeze(-2)
            marginal = MultivariateNormal(
                p.loc * mask,
                p.covariance_matrix * pairs + torch.diag_embed(1 - mask),
                validate_args=False,
            )
        case _:
            raise NotImplementedError(
                f"{type(p).__name__} has no closed-form marginal: log_prob with missing entries "
                "is not available"
            )
    # missing entries have mean 0, variance 1 and value 0 here: subtract their log-density
    return marginal.log_prob(x) + 0.5 * LOG_2PI * (1 - mask).sum(-1)


def condition_gaussian(
    p: MultivariateNormal, x: Float[Tensor, "*b d"], mask: Float[Tensor, "*b2 d"]
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of a Gaussian conditioned on the observed entries.

    Parameters
    ----------
    p : MultivariateNormal
        Distribution of events of d entries.
    x : Tensor [..., d]
        Values; those at missing entries are ignored.
    mask : Tensor [..., d]
        1 = observed, 0 = missing.

    Returns
    -------
    (Tensor [..., d], Tensor [..., d, d])
        Conditional mean and covariance. The mean of an observed entry is its value, with zero
        variance.

    Examples
    --------
    >>> p = MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
    >>> condition_gaussian(p, torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
    (tensor([2., 1.]), tensor([[0.0000, 0.0000],
            [0.0000, 0.7500]]))
    """
    covariance, observed = p.covariance_matrix, mask.to(x.dtype)
    missing = 1 - observed
    cov_oo = covariance * observed.unsqueeze(-1) * observed.unsqueeze(-2)
    cov_oo = cov_oo + torch.diag_embed(missing)  # identity block at missing entries
    cov_xo = covariance * observed.unsqueeze(-2)  # [..., d, d], columns of missing entries zero
    gain = torch.linalg.solve(cov_oo, cov_xo.mT).mT
    residual = torch.where(observed > 0, x - p.loc, torch.zeros_like(x))
    mean = p.loc + (gain @ residual.unsqueeze(-1)).squeeze(-1)
    cov = (covariance - gain @ cov_xo.mT) * missing.unsqueeze(-1) * missing.unsqueeze(-2)
    return torch.where(observed > 0, x, mean), cov


def kl(q: Distribution, p: Distribution) -> Float[Tensor, "*b"]:
    """Closed-form KL(q || p) in nats, summed over the entries, [...].

    Raises
    ------
    NotImplementedError
        If no closed form is implemented for the pair; a sampled KL works for every pair.

    Examples
    --------
    >>> q, p = Normal(torch.tensor([0.3]), torch.tensor([0.7])), Normal(torch.zeros(1), 1.0)
    >>> round(kl(q, p).item(), 6)
    0.146675
    """
    match q, p:
        case Normal(), Normal():
            ratio = (q.scale / p.scale).square()
            shift = ((q.loc - p.loc) / p.scale).square()
            return 0.5 * (ratio + shift - 1 - ratio.log()).sum(-1)
        case MultivariateNormal(), Normal():
            variance = q.scale_tril.square().sum(-1)
            entries = (variance + (q.loc - p.loc).square()) / p.scale.square() - 1
            log_det_q = 2 * q.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            return 0.5 * (entries.sum(-1) + 2 * p.scale.log().sum(-1) - log_det_q)
        case Laplace(), Laplace():
            ratio, shift = q.scale / p.scale, (q.loc - p.loc).abs()
            tail = ratio * torch.exp(-shift / q.scale) + shift / p.scale
            return (tail - 1 - ratio.log()).sum(-1)
        case Bernoulli(), Bernoulli():
            log_odds = q.logits - p.logits
            softplus = torch.nn.functional.softplus
            return (q.probs * log_odds + softplus(p.logits) - softplus(q.logits)).sum(-1)
        case Categorical(), Categorical():
            return (q.probs * (q.logits - p.logits)).sum((-2, -1))
    raise NotImplementedError(
        f"KL({type(q).__name__} || {type(p).__name__}) has no closed form here; use kl='sampled'"
    )


def mean_or_mode(p: Distribution) -> Float[Tensor, "*b d"]:
    """Mean of a distribution, or the mode of categorical codes, [..., d]."""
    match p:
        case Categorical():
            return p.logits.argmax(-1).to(p.logits.dtype)
        case MixedColumns():
            return p._gather([mean_or_mode(part) for part in p.parts])
    return p.mean


def rsample_or_sample(p: Distribution, sample_shape: tuple[int, ...] = ()) -> Float[Tensor, "*b d"]:
    """Sample from ``p`` with reparameterised gradients if available, else without gradient.

    In data-parallel training, noise is generated for the global batch and sliced to the rows of
    this process.
    """
    p_global = (
        p
        if isinstance(p, ChainDistribution)
        else _repeat_to_global_batch(p, distributed.n_shards())
    )
    shape = torch.Size(sample_shape)
    sample = p_global.rsample(shape) if p.has_rsample else p_global.sample(shape)
    return sample if p_global is p else distributed.local_shard(sample, -2)


def _repeat_to_global_batch(p: Distribution, n_shards: int) -> Distribution:
    """Repeat the rows of ``p`` ``n_shards`` times, to the size of the global batch."""
    if n_shards == 1:
        return p
    if isinstance(p, Independent):
        n_events = p.reinterpreted_batch_ndims
        return Independent(
            _repeat_to_global_batch(p.base_dist, n_shards), n_events, validate_args=False
        )
    n_axes = len(p.batch_shape) - (0 if p.event_shape else 1)  # axes up to and including the rows
    repeated: dict[str, Any] = {
        k: v.repeat([1] * (n_axes - 1) + [n_shards] + [1] * (v.ndim - n_axes))
        for k, v in distribution_parameters(p).items()
    }
    return type(p)(**repeated, validate_args=False)


def detach_distribution(p: Distribution) -> Distribution:
    """Copy of a distribution with detached parameters.

    Raises
    ------
    NotImplementedError
        If ``p`` is not Normal, Laplace, MultivariateNormal or Bernoulli.
    """
    if not isinstance(p, Normal | Laplace | MultivariateNormal | Bernoulli):
        raise NotImplementedError(
            f"{type(p).__name__}: expected Normal, Laplace, MultivariateNormal or Bernoulli, the "
            "distributions whose parameters can be detached"
        )
    return type(p)(
        **{k: v.detach() for k, v in distribution_parameters(p).items()}, validate_args=False
    )


def distribution_parameters(p: Distribution) -> dict[str, Tensor]:
    """Constructor arguments of ``p``, by name."""
    match p:
        case MultivariateNormal():
            return {"loc": p.loc, "scale_tril": p._unbroadcasted_scale_tril}
        case Bernoulli() | Categorical() | OneHotCategorical():
            return {"logits": p.logits}
    return {name: getattr(p, name) for name in p.arg_constraints}
