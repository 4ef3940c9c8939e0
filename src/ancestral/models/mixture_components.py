"""Components of a mixture: class-conditional distributions p(x | class) with EM updates.

Entries that are independent given the class are fitted to sums of r t(x) over the rows in which
they are observed, with responsibilities r and sufficient statistics t. Gaussians with full
covariance are fitted to sums of r E[x] and r E[x x^T] given the observed entries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, ExponentialFamily, MultivariateNormal

from ancestral.data.columns import ColumnKind
from ancestral.nn import Lookup, logit
from ancestral.probability.conditionals import (
    Bernoulli,
    Categorical,
    Conditional,
    FullGaussian,
    Gaussian,
    Poisson,
)
from ancestral.probability.distributions import condition_gaussian, log_prob

ComponentStatistics = list[Tensor]
"""Weighted sums of sufficient statistics over rows, per class."""

MIN_VARIANCE = 1e-6
"""Lower bound of variances of standardised columns."""

MIN_COUNT = 1e-10
"""Minimal total weight of a class, in rows; parameters of a class with less are not updated."""


class Component(ABC):
    """Distribution p(x | class) of a group of columns for all k classes, with its EM updates.

    Parameters
    ----------
    conditional : Conditional
        p(x | class), called on one-hot classes [..., k]; its network is a ``Lookup``.
    """

    def __init__(self, conditional: Conditional) -> None:
        self.conditional = conditional

    @property
    def tables(self) -> list[Tensor]:
        """Parameters of the classes, [k, width] each."""
        lookup = self.conditional.network
        assert isinstance(lookup, Lookup)
        return list(lookup.tables)

    @property
    def class_distributions(self) -> Distribution:
        """Distributions of the k classes, with batch shape [k, n], or [k] and event shape [n]."""
        return self.conditional(torch.eye(len(self.tables[0])).to(self.tables[0]))

    @abstractmethod
    def log_density(self, x: Float[Tensor, "b n"], mask: Tensor | None) -> Float[Tensor, "b k"]:
        """Log p(x | class) of the observed entries under each class, in nats."""

    @abstractmethod
    def sufficient_statistics(
        self, x: Float[Tensor, "b n"], mask: Tensor | None, weights: Tensor
    ) -> ComponentStatistics:
        """Compute the sufficient statistics of rows with weights [b, k] in the classes."""

    @abstractmethod
    def average_statistics(self, total: ComponentStatistics) -> ComponentStatistics:
        """Compute the statistics of the average row from those of rows with weight 1."""

    @abstractmethod
    def m_step(self, sums: ComponentStatistics) -> None:
        """M-step: set the maximum likelihood parameters for the given statistics."""

    @abstractmethod
    def conditional_mean(
        self, x: Float[Tensor, "b n"], mask: Float[Tensor, "b n"], class_probs: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b n"]:
        """Compute E[x | observed entries] with class probabilities ``class_probs``.

        ``mask`` is 1 where an entry is observed.
        """

    @abstractmethod
    def conditional_sample(
        self, x: Float[Tensor, "b n"], mask: Float[Tensor, "b n"], y: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b n"]:
        """Sample rows of one-hot classes ``y``, given their observed entries."""


class IndependentColumns(Component):
    """Columns of one kind that are independent given the class.

    Parameters
    ----------
    kind : {"bernoulli", "gaussian", "categorical", "poisson"}
        Distribution of the columns.
    k : int
        Number of classes.
    n : int
        Number of columns.
    n_categories : sequence of int
        Number of categories of each column, for categorical columns.
    spherical : bool, default False
        Whether the Gaussian columns of a class share one variance.
    """

    def __init__(
        self,
        kind: ColumnKind,
        k: int,
        n: int,
        n_categories: Sequence[int] = (),
        *,
        spherical: bool = False,
    ) -> None:
        width = sum(n_categories) if kind == "categorical" else n
        tables = Lookup(*torch.zeros(2 if kind == "gaussian" else 1, k, width))
        conditionals: dict[ColumnKind, Conditional] = {
            "bernoulli": Bernoulli(tables),
            "gaussian": Gaussian(tables),
            "categorical": Categorical(tables, n_categories),
            "poisson": Poisson(tables),
        }
        super().__init__(conditionals[kind])
        self.kind, self.n_categories, self.spherical = kind, tuple(n_categories), spherical

    def log_density(self, x: Float[Tensor, "b n"], mask: Tensor | None) -> Float[Tensor, "b k"]:
        """Log p(x | class) of the observed entries under each class, in nats.

        In float64, it is computed as a matrix product with the natural parameters, which is fast
        but loses precision in float32 if a variance is small.
        """
        if x.dtype != torch.float64:
            return log_density(self.class_distributions, x, mask)
        observed, *statistics = self._statistics(x, mask)
        if self.kind == "categorical":
            return statistics[0] @ self._concatenate_categories(self.class_distributions.logits).T  # type: ignore[attr-defined]
        p = self.class_distributions
        assert isinstance(p, ExponentialFamily)
        natural = p._natural_params
        log_px = -observed @ p._log_normalizer(*natural).T
        for statistic, parameter in zip(statistics, natural, strict=True):
            log_px = log_px + statistic @ parameter.T
        if self.kind == "poisson":
            log_px = log_px - (observed * torch.lgamma(x + 1)).sum(-1, keepdim=True)
        return log_px

    def sufficient_statistics(
        self, x: Float[Tensor, "b n"], mask: Tensor | None, weights: Tensor
    ) -> ComponentStatistics:
        """Compute the weighted counts and sums of statistics, [k, width] each."""
        return [weights.T @ s for s in self._statistics(x, mask)]

    def _statistics(self, x: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Return the mask and the masked sufficient statistics of each row, [b, width] each."""
        observed = torch.ones_like(x) if mask is None else mask
        if self.kind == "gaussian":
            return [observed, observed * x, observed * x.square()]
        if self.kind != "categorical":
            return [observed, observed * x]
        pairs = zip(x.long().unbind(-1), self.n_categories, strict=True)
        codes = torch.cat([nn.functional.one_hot(c, n) for c, n in pairs], -1).to(x)
        observed = observed.repeat_interleave(torch.tensor(self.n_categories).to(x.device), -1)
        return [observed, observed * codes]

    def _concatenate_categories(self, values: Float[Tensor, "k n c"]) -> Float[Tensor, "k width"]:
        """Concatenate the categories of the columns, without padding."""
        return torch.cat([values[:, j, :c] for j, c in enumerate(self.n_categories)], -1)

    def average_statistics(self, total: ComponentStatistics) -> ComponentStatistics:
        """Compute the statistics of the average row from those of rows with weight 1."""
        return [s / total[0].clamp(min=MIN_COUNT) for s in total]

    def m_step(self, sums: ComponentStatistics) -> None:
        """M-step: set the parameters whose expected statistics are the weighted means."""
        n, *totals = sums
        means = [total / n.clamp(min=MIN_COUNT) for total in totals]
        for table, new in zip(self.tables, self._parameters_from_means(n, *means), strict=True):
            table.copy_(torch.where(n > MIN_COUNT, new, table))

    def _parameters_from_means(
        self, n: Tensor, mean: Tensor, square: Tensor | None = None
    ) -> list[Tensor]:
        if self.kind == "bernoulli":
            return [logit(mean)]
        if square is None:
            return [mean.clamp(min=MIN_COUNT).log()]
        variance = square - mean.square()
        if self.spherical:
            variance = (n * variance).sum(-1, keepdim=True) / n.sum(-1, keepdim=True)
        return [mean, variance.clamp(min=MIN_VARIANCE).log().expand_as(mean)]

    def conditional_mean(
        self, x: Float[Tensor, "b n"], mask: Float[Tensor, "b n"], class_probs: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b n"]:
        """Return the mean, or the most probable category, which ignore the observed entries."""
        del mask
        if self.kind != "categorical":
            return class_probs @ self.class_distributions.mean
        category_probs = self.class_distributions.probs  # type: ignore[attr-defined]
        return torch.einsum("bk,knc->bnc", class_probs, category_probs).argmax(-1).to(x)

    def conditional_sample(
        self, x: Float[Tensor, "b n"], mask: Float[Tensor, "b n"], y: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b n"]:
        """Sample rows of one-hot classes ``y``, independently of the observed entries."""
        del mask
        return self.conditional(y).sample().to(x)


class FullCovariance(Component):
    """Gaussian columns with a full covariance matrix per class, or one shared by all.

    Parameters
    ----------
    k : int
        Number of classes.
    n : int
        Number of columns.
    tied : bool, default False
        Whether all classes share one covariance matrix.
    """

    def __init__(self, k: int, n: int, *, tied: bool = False) -> None:
        tables = Lookup(torch.zeros(k, n), torch.zeros(k, n * (n + 1) // 2))
        super().__init__(FullGaussian(tables))
        self.tied = tied

    def log_density(self, x: Float[Tensor, "b n"], mask: Tensor | None) -> Float[Tensor, "b k"]:
        """Log p(x | class) of the observed entries under each class, in nats."""
        return log_density(self.class_distributions, x, mask)

    def sufficient_statistics(
        self, x: Float[Tensor, "b n"], mask: Tensor | None, weights: Tensor
    ) -> ComponentStatistics:
        """Compute sums of r, r E[x] and r E[x x^T]: [k, 1], [k, n] and [k, n, n]."""
        n = weights.sum(0).unsqueeze(-1)
        if mask is None:
            return [n, weights.T @ x, torch.einsum("bk,bi,bj->kij", weights, x, x)]
        mean, covariance = self._condition(x, mask)
        products = torch.einsum("bk,bki,bkj->kij", weights, mean, mean)
        return [
            n,
            torch.einsum("bk,bki->ki", weights, mean),
            products + torch.einsum("bk,bkij->kij", weights, covariance),
        ]

    def average_statistics(self, total: ComponentStatistics) -> ComponentStatistics:
        """Compute the statistics of a row with the mean and variances of all, uncorrelated."""
        n, mean, products = total[0], total[1] / total[0], total[2] / total[0].unsqueeze(-1)
        outer = mean.unsqueeze(-1) * mean.unsqueeze(-2)
        variance = (products - outer).diagonal(dim1=-2, dim2=-1)
        return [n / n, mean, outer + torch.diag_embed(variance)]

    def m_step(self, sums: ComponentStatistics) -> None:
        """M-step: set the weighted means and covariances."""
        n, total, products = sums
        mean = total / n.clamp(min=MIN_COUNT)
        scatter = products - n.unsqueeze(-1) * mean.unsqueeze(-1) * mean.unsqueeze(-2)
        if self.tied:
            covariance = (scatter.sum(0) / n.sum()).expand_as(scatter)
        else:
            covariance = scatter / n.clamp(min=MIN_COUNT).unsqueeze(-1)
        size = covariance.shape[-1]
        ridge = MIN_VARIANCE * torch.eye(size, dtype=mean.dtype, device=mean.device)
        tril = torch.linalg.cholesky(covariance + ridge)
        tril = tril.tril(-1) + torch.diag_embed(tril.diagonal(dim1=-2, dim2=-1).log())
        row, column = torch.tril_indices(size, size, device=mean.device)
        for table, new in zip(self.tables, (mean, tril[:, row, column]), strict=True):
            table.copy_(torch.where(n > MIN_COUNT, new, table))

    def conditional_mean(
        self, x: Float[Tensor, "b n"], mask: Float[Tensor, "b n"], class_probs: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b n"]:
        """Compute E[x | observed entries], averaged over classes with weights ``class_probs``."""
        return torch.einsum("bk,bki->bi", class_probs, self._condition(x, mask)[0])

    def conditional_sample(
        self, x: Float[Tensor, "b n"], mask: Float[Tensor, "b n"], y: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b n"]:
        """Sample rows of one-hot classes ``y``, given their observed entries."""
        mean, covariance = condition_gaussian(self.conditional(y), x, mask)
        regular = covariance + torch.diag_embed(mask)  # invertible; observed entries are restored
        noise = MultivariateNormal(torch.zeros_like(mean), regular, validate_args=False).sample()
        return torch.where(mask > 0, x, mean + noise)

    def _condition(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return conditional means [b, k, n] and covariances [b, k, n, n] of each class."""
        p = self.class_distributions
        assert isinstance(p, MultivariateNormal)
        return condition_gaussian(p, x.unsqueeze(-2), mask.unsqueeze(-2))


def log_density(
    each: Distribution, x: Float[Tensor, "b n"], mask: Tensor | None
) -> Float[Tensor, "b k"]:
    """Log-densities [b, k] of b rows under each of k distributions, in nats."""
    return log_prob(each, x.unsqueeze(-2), None if mask is None else mask.unsqueeze(-2))
