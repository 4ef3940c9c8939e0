"""The three things asked of a distribution: its log-density on what is observed, a KL, a centre.

torch's distributions answer elementwise or per event, cannot marginalise and compute KL through a
registry that does not compile. Here is the one copy of each closed form this library uses, and
the two distributions that torch lacks: columns of mixed kinds, and a chain of stochastic layers.
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

from ancestral import parallel
from ancestral.bits import bits_log_prob

LOG_2PI = math.log(2 * math.pi)

Shape = torch.Size | list[int] | tuple[int, ...]


class MixedColumns(Distribution):
    """Independent groups of columns, each with its own elementwise distribution.

    Parameters
    ----------
    parts : sequence of Distribution
        Their batch shapes end in the number of columns of the group.
    order : Tensor [d]
        Where column j of the table stands in the concatenation of the groups.
    """

    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, parts: Sequence[Distribution], order: Tensor) -> None:
        self.parts, self.order = list(parts), order
        self._sizes = [int(p.batch_shape[-1]) for p in self.parts]
        above = self.parts[0].batch_shape[:-1]
        super().__init__(torch.Size([*above, sum(self._sizes)]), validate_args=False)

    def _gather(self, parts: Sequence[Tensor]) -> Tensor:
        first = self.parts[0]
        dtype = (first.logits if isinstance(first, Categorical) else first.mean).dtype
        return torch.cat([p.to(dtype) for p in parts], -1)[..., self.order]

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw [*sample_shape, ..., d]."""
        return self._gather([p.sample(torch.Size(sample_shape)) for p in self.parts])

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of every entry, [..., d]."""
        columns = value[..., self.order.argsort()].split(self._sizes, -1)
        return self._gather([p.log_prob(v) for p, v in zip(self.parts, columns, strict=True)])


class Ancestral(Distribution):
    """A chain of stochastic layers, each given the one before, laid out as one vector.

    Parameters
    ----------
    first : Distribution
        Of the first layer (elementwise).
    rest : sequence of callable
        Layer value -> distribution of the next layer.
    sizes : sequence of int
        Widths of the layers in the order of drawing.
    reverse : bool
        Lay the last-drawn layer first.
    """

    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012

    def __init__(
        self,
        first: Distribution,
        rest: Sequence[Callable[[Tensor], Distribution]],
        sizes: Sequence[int],
        reverse: bool = False,
    ) -> None:
        self.first, self.rest, self.sizes, self.reverse = first, list(rest), list(sizes), reverse
        batch = first.batch_shape if first.event_shape else first.batch_shape[:-1]
        super().__init__(batch, torch.Size([sum(sizes)]), validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether the first layer, taken for all, can be reparameterised."""
        return bool(self.first.has_rsample)

    def _draw(self, sample_shape: Shape, layer: Callable[..., Tensor]) -> Tensor:
        parts = [layer(self.first, tuple(sample_shape))]
        for conditional in self.rest:
            parts.append(layer(conditional(parts[-1]), ()))
        return torch.cat(parts[::-1] if self.reverse else parts, -1)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw [*sample_shape, ..., d], differentiably."""
        return self._draw(sample_shape, draw)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw [*sample_shape, ..., d]."""
        with torch.no_grad():
            return self._draw(sample_shape, draw)

    def after(self, first: Tensor) -> Distribution:
        """Return the distribution of what comes after the first layer at a given value of it."""
        if not isinstance(self.first, Ancestral):
            return self.rest[0](first)
        n = first.shape[-1]  # the first layer is a chain itself, which `first` is the beginning of
        sizes = [self.sizes[0] - n, *self.sizes[1:]]

        def second(rest: Tensor) -> Distribution:
            begun = first.expand(*rest.shape[:-1], n)
            return self.rest[0](torch.cat([begun, rest], -1))

        return Ancestral(self.first.after(first), [second, *self.rest[1:]], sizes)

    def log_prob(self, value: Tensor) -> Tensor:
        """Joint log-density of the layers, [...]."""
        sizes = self.sizes[::-1] if self.reverse else self.sizes
        parts = list(value.split(sizes, -1))
        parts = parts[::-1] if self.reverse else parts
        total = log_prob(self.first, parts[0])
        for conditional, above, part in zip(self.rest, parts[:-1], parts[1:], strict=True):
            total = total + log_prob(conditional(above), part)
        return total

    @property
    def mean(self) -> Tensor:
        """The centre of each layer given the centre of the one before."""
        return self._draw((), lambda p, _: centre(p))


def log_prob(
    p: Distribution, x: Float[Tensor, "*b d"], mask: Float[Tensor, "*b2 d"] | None = None
) -> Float[Tensor, "*b3"]:
    """Log-density of the observed entries of ``x``, in nats, the missing ones integrated out.

    Exact for every distribution of this library: entries that are independent are summed where
    observed; Gaussians with correlations and mixtures use their closed-form marginals.

    Parameters
    ----------
    p : Distribution
        Elementwise (its batch shape ends in d) or over events of d entries.
    x : Tensor [..., d]
        Values; what stands at missing entries is ignored.
    mask : Tensor [..., d], optional
        1 = observed, 0 = missing.

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
        x = torch.where(mask > 0, x, torch.zeros_like(x))  # whatever stands there, NaN included
        mask = mask.to(x.dtype)
    if isinstance(p, Bernoulli):
        return bits_log_prob(p.logits, x, mask)
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
            both = mask.unsqueeze(-1) * mask.unsqueeze(-2)
            marginal = MultivariateNormal(
                p.loc * mask,
                p.covariance_matrix * both + torch.diag_embed(1 - mask),
                validate_args=False,
            )
        case _:
            raise NotImplementedError(
                f"{type(p).__name__} has no closed-form marginal: it can't score missing entries"
            )
    # a missing entry was given mean 0, variance 1, value 0: take its constant out again
    return marginal.log_prob(x) + 0.5 * LOG_2PI * (1 - mask).sum(-1)


def given_observed(
    p: MultivariateNormal, x: Float[Tensor, "*b d"], mask: Float[Tensor, "*b2 d"]
) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of all entries under p, given those observed: the regression.

    Parameters
    ----------
    p : MultivariateNormal
        Over events of d entries.
    x : Tensor [..., d]
        Values; what stands at missing entries is ignored.
    mask : Tensor [..., d]
        1 = observed, 0 = missing.

    Returns
    -------
    (Tensor [..., d], Tensor [..., d, d])
        Observed entries have their own value for a mean, and no variance.

    Examples
    --------
    >>> p = MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
    >>> given_observed(p, torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
    (tensor([2., 1.]), tensor([[0.0000, 0.0000],
            [0.0000, 0.7500]]))
    """
    covariance, known = p.covariance_matrix, mask.to(x.dtype)
    among = covariance * known.unsqueeze(-1) * known.unsqueeze(-2) + torch.diag_embed(1 - known)
    to_observed = covariance * known.unsqueeze(-2)  # [..., d, d], columns of missing entries zero
    gain = torch.linalg.solve(among, to_observed.mT).mT
    away = torch.where(known > 0, x - p.loc, torch.zeros_like(x))
    mean = p.loc + (gain @ away.unsqueeze(-1)).squeeze(-1)
    left = covariance - gain @ to_observed.mT
    gap = 1 - known
    return torch.where(known > 0, x, mean), left * gap.unsqueeze(-1) * gap.unsqueeze(-2)


def kl(q: Distribution, p: Distribution) -> Float[Tensor, "*b"]:
    """KL(q || p) in nats, summed over the entries, where it has a closed form.

    Raises
    ------
    NotImplementedError
        If it has none in this table; a sampled KL works for every pair.

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
        f"KL({type(q).__name__} || {type(p).__name__}) has no closed form here: use kl='sampled'"
    )


def centre(p: Distribution) -> Float[Tensor, "*b d"]:
    """Return the mean, or for codes, which have none, the most probable one."""
    match p:
        case Categorical():
            return p.logits.argmax(-1).to(p.logits.dtype)
        case MixedColumns():
            return p._gather([centre(part) for part in p.parts])
    return p.mean


def draw(p: Distribution, sample_shape: tuple[int, ...] = ()) -> Float[Tensor, "*b d"]:
    """Draw from ``p``: differentiably where it can be reparameterised, plainly elsewhere.

    Where processes share a batch, noise is drawn for all of it and this process keeps its rows.
    """
    whole = p if isinstance(p, Ancestral) else _whole(p, parallel.n_shares())
    shape = torch.Size(sample_shape)
    drawn = whole.rsample(shape) if p.has_rsample else whole.sample(shape)
    return drawn if whole is p else parallel.share(drawn, -2)


def _whole(p: Distribution, n_shares: int) -> Distribution:
    """Repeat the rows of ``p`` to as many as the whole batch has."""
    if n_shares == 1:
        return p
    if isinstance(p, Independent):
        n_events = p.reinterpreted_batch_ndims
        return Independent(_whole(p.base_dist, n_shares), n_events, validate_args=False)
    n_above = len(p.batch_shape) - (0 if p.event_shape else 1)  # axes up to the rows
    repeated: dict[str, Any] = {
        k: v.repeat([1] * (n_above - 1) + [n_shares] + [1] * (v.ndim - n_above))
        for k, v in parameters(p).items()
    }
    return type(p)(**repeated, validate_args=False)


def detach(p: Distribution) -> Distribution:
    """Return the same distribution with its parameters cut from the graph.

    Raises
    ------
    NotImplementedError
        For a distribution that is not one torch family with tensors for parameters.
    """
    if not isinstance(p, Normal | Laplace | MultivariateNormal | Bernoulli):
        raise NotImplementedError(f"the parameters of {type(p).__name__} can't be detached")
    return type(p)(**{k: v.detach() for k, v in parameters(p).items()}, validate_args=False)


def parameters(p: Distribution) -> dict[str, Tensor]:
    """Return the tensors that ``p`` was made from, by the names its constructor takes."""
    match p:
        case MultivariateNormal():
            return {"loc": p.loc, "scale_tril": p._unbroadcasted_scale_tril}
        case Bernoulli() | Categorical() | OneHotCategorical():
            return {"logits": p.logits}
    return {name: getattr(p, name) for name in p.arg_constraints}
