"""Components of a mixture: distributions of rows given their class, learnt from rows by weight.

Entries that are independent given the class are learnt from sums of r t(x) over the rows in which
they are observed: r are weights, t the sufficient statistics of the kind. Entries that vary
together are learnt from sums of what is expected of x and x x^T given the entries observed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, ExponentialFamily, MultivariateNormal

from ancestral.conditional import (
    Bernoulli,
    Categorical,
    Conditional,
    FullGaussian,
    Gaussian,
    Poisson,
)
from ancestral.distributions import given_observed, log_prob
from ancestral.networks import Lookup, logit
from ancestral.preprocess import ColumnKind

Sums = list[Tensor]

LEAST_VARIANCE = 1e-6
"""Of standardised columns: a component on a single value would have none."""

SPECK = 1e-10
"""Of rows: a component that holds less stays as it is."""


class Component(ABC):
    """p(x | class) of some columns, for all classes: a conditional, and how it learns.

    Parameters
    ----------
    conditional : Conditional
        Called on one-hot classes [..., k]; its network is a ``Lookup``.
    """

    def __init__(self, conditional: Conditional) -> None:
        self.conditional = conditional

    @property
    def tables(self) -> list[Tensor]:
        """The parameters of every class, [k, width] each."""
        lookup = self.conditional.network
        assert isinstance(lookup, Lookup)
        return list(lookup.tables)

    @property
    def each(self) -> Distribution:
        """The distributions of the classes, [k, n] or [k] over events of n."""
        return self.conditional(torch.eye(len(self.tables[0])).to(self.tables[0]))

    @abstractmethod
    def log_density(self, x: Float[Tensor, "b n"], mask: Tensor | None) -> Float[Tensor, "b k"]:
        """Log p(x | class) of the observed entries in every class."""

    @abstractmethod
    def sums(self, x: Float[Tensor, "b n"], mask: Tensor | None, weights: Tensor) -> Sums:
        """Return what is learnt from rows that count ``weights`` [b, k] in every class."""

    @abstractmethod
    def average(self, total: Sums) -> Sums:
        """Return the sums of one row that is like all, of what rows that count once come to."""

    @abstractmethod
    def learn(self, sums: Sums) -> None:
        """Take the parameters under which the rows summed up are likeliest."""

    @abstractmethod
    def expected(
        self, x: Float[Tensor, "b n"], mask: Float[Tensor, "b n"], shares: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b n"]:
        """Return what is expected of rows of such classes, given their observed entries."""

    @abstractmethod
    def drawn(
        self, x: Float[Tensor, "b n"], mask: Float[Tensor, "b n"], y: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b n"]:
        """Draw rows of one-hot classes, given their observed entries."""


class Independent(Component):
    """Columns of one kind, independent given the class.

    Parameters
    ----------
    kind : {"bernoulli", "gaussian", "categorical", "poisson"}
        Of the columns.
    k : int
        Number of classes.
    n : int
        Number of columns.
    n_categories : sequence of int
        Of categorical columns.
    spherical : bool
        Gaussian columns have one variance a class.
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
        """Log p(x | class) of the observed entries in every class.

        In double precision by products with the natural parameters, as fast as can be; in single
        these lose digits where a variance is small.
        """
        if x.dtype != torch.float64:
            return log_density(self.each, x, mask)
        known, *statistics = self._statistics(x, mask)
        if self.kind == "categorical":
            return statistics[0] @ self._of_categories(self.each.logits).T  # type: ignore[attr-defined]
        p = self.each
        assert isinstance(p, ExponentialFamily)
        natural = p._natural_params
        found = -known @ p._log_normalizer(*natural).T
        for statistic, parameter in zip(statistics, natural, strict=True):
            found = found + statistic @ parameter.T
        if self.kind == "poisson":
            found = found - (known * torch.lgamma(x + 1)).sum(-1, keepdim=True)
        return found

    def sums(self, x: Float[Tensor, "b n"], mask: Tensor | None, weights: Tensor) -> Sums:
        """Return how many rows count, and the sums of their statistics, [k, width] each."""
        return [weights.T @ s for s in self._statistics(x, mask)]

    def _statistics(self, x: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Return what is observed, and what a row says of the parameters, [b, width] each."""
        known = torch.ones_like(x) if mask is None else mask
        if self.kind == "gaussian":
            return [known, known * x, known * x.square()]
        if self.kind != "categorical":
            return [known, known * x]
        pairs = zip(x.long().unbind(-1), self.n_categories, strict=True)
        codes = torch.cat([nn.functional.one_hot(c, n) for c, n in pairs], -1).to(x)
        known = known.repeat_interleave(torch.tensor(self.n_categories).to(x.device), -1)
        return [known, known * codes]

    def _of_categories(self, values: Float[Tensor, "k n c"]) -> Float[Tensor, "k width"]:
        """Lay the categories of the columns side by side, without padding."""
        return torch.cat([values[:, j, :c] for j, c in enumerate(self.n_categories)], -1)

    def average(self, total: Sums) -> Sums:
        """Return the sums of one row that is like all, of what rows that count once come to."""
        return [s / total[0].clamp(min=SPECK) for s in total]

    def learn(self, sums: Sums) -> None:
        """Take the parameters that have the means of the statistics."""
        n, *totals = sums
        means = [total / n.clamp(min=SPECK) for total in totals]
        for table, new in zip(self.tables, self._with_means(n, *means), strict=True):
            table.copy_(torch.where(n > SPECK, new, table))

    def _with_means(self, n: Tensor, mean: Tensor, square: Tensor | None = None) -> list[Tensor]:
        if self.kind == "bernoulli":
            return [logit(mean)]
        if square is None:
            return [mean.clamp(min=SPECK).log()]
        variance = square - mean.square()
        if self.spherical:
            variance = (n * variance).sum(-1, keepdim=True) / n.sum(-1, keepdim=True)
        return [mean, variance.clamp(min=LEAST_VARIANCE).log().expand_as(mean)]

    def expected(
        self, x: Float[Tensor, "b n"], mask: Float[Tensor, "b n"], shares: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b n"]:
        """Return the mean, of codes the most probable one; what is observed says no more."""
        del mask
        if self.kind != "categorical":
            return shares @ self.each.mean
        return torch.einsum("bk,knc->bnc", shares, self.each.probs).argmax(-1).to(x)  # type: ignore[attr-defined]

    def drawn(
        self, x: Float[Tensor, "b n"], mask: Float[Tensor, "b n"], y: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b n"]:
        """Draw rows of one-hot classes; what is observed says no more."""
        del mask
        return self.conditional(y).sample().to(x)


class Correlated(Component):
    """Gaussian columns with a full covariance for every class, or one for all.

    Parameters
    ----------
    k : int
        Number of classes.
    n : int
        Number of columns.
    tied : bool
        One covariance for all classes.
    """

    def __init__(self, k: int, n: int, *, tied: bool = False) -> None:
        tables = Lookup(torch.zeros(k, n), torch.zeros(k, n * (n + 1) // 2))
        super().__init__(FullGaussian(tables))
        self.tied = tied

    def log_density(self, x: Float[Tensor, "b n"], mask: Tensor | None) -> Float[Tensor, "b k"]:
        """Log p(x | class) of the observed entries in every class."""
        return log_density(self.each, x, mask)

    def sums(self, x: Float[Tensor, "b n"], mask: Tensor | None, weights: Tensor) -> Sums:
        """Return sums of r, r E[x] and r E[x x^T]: [k, 1], [k, n] and [k, n, n]."""
        n = weights.sum(0).unsqueeze(-1)
        if mask is None:
            return [n, weights.T @ x, torch.einsum("bk,bi,bj->kij", weights, x, x)]
        mean, left = self._given(x, mask)
        products = torch.einsum("bk,bki,bkj->kij", weights, mean, mean)
        return [
            n,
            torch.einsum("bk,bki->ki", weights, mean),
            products + torch.einsum("bk,bkij->kij", weights, left),
        ]

    def average(self, total: Sums) -> Sums:
        """Return the sums of one row of independent entries with the mean and variances of all."""
        n, mean, products = total[0], total[1] / total[0], total[2] / total[0].unsqueeze(-1)
        outer = mean.unsqueeze(-1) * mean.unsqueeze(-2)
        variance = (products - outer).diagonal(dim1=-2, dim2=-1)
        return [n / n, mean, outer + torch.diag_embed(variance)]

    def learn(self, sums: Sums) -> None:
        """Take the means and covariances of the rows summed up."""
        n, total, products = sums
        mean = total / n.clamp(min=SPECK)
        spread = products - n.unsqueeze(-1) * mean.unsqueeze(-1) * mean.unsqueeze(-2)
        if self.tied:
            covariance = (spread.sum(0) / n.sum()).expand_as(spread)
        else:
            covariance = spread / n.clamp(min=SPECK).unsqueeze(-1)
        size = covariance.shape[-1]
        least = LEAST_VARIANCE * torch.eye(size, dtype=mean.dtype, device=mean.device)
        tril = torch.linalg.cholesky(covariance + least)
        tril = tril.tril(-1) + torch.diag_embed(tril.diagonal(dim1=-2, dim2=-1).log())
        row, column = torch.tril_indices(size, size, device=mean.device)
        for table, new in zip(self.tables, (mean, tril[:, row, column]), strict=True):
            table.copy_(torch.where(n > SPECK, new, table))

    def expected(
        self, x: Float[Tensor, "b n"], mask: Float[Tensor, "b n"], shares: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b n"]:
        """Return the regressions on what is observed, by the shares of the classes."""
        return torch.einsum("bk,bki->bi", shares, self._given(x, mask)[0])

    def drawn(
        self, x: Float[Tensor, "b n"], mask: Float[Tensor, "b n"], y: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b n"]:
        """Draw rows of one-hot classes, given their observed entries."""
        mean, left = given_observed(self.conditional(y), x, mask)
        somewhere = left + torch.diag_embed(mask)  # which has an inverse; what is known stays
        away = MultivariateNormal(torch.zeros_like(mean), somewhere, validate_args=False).sample()
        return torch.where(mask > 0, x, mean + away)

    def _given(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return means [b, k, n] and covariances of rows of every class, given what is observed."""
        each = self.each
        assert isinstance(each, MultivariateNormal)
        return given_observed(each, x.unsqueeze(-2), mask.unsqueeze(-2))


def log_density(
    each: Distribution, x: Float[Tensor, "b n"], mask: Tensor | None
) -> Float[Tensor, "b k"]:
    """Log-densities of rows under several distributions [k], each row under each."""
    return log_prob(each, x.unsqueeze(-2), None if mask is None else mask.unsqueeze(-2))
