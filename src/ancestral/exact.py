"""Latent-variable models with closed-form posterior: factor analysis and finite mixtures.

The posterior p(z | x) and the marginal p(x) are exact, also with missing entries. The models are
fitted by expectation maximisation (EM; Dempster, Laird and Rubin, 1977).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from ancestral.classes import Classes, OneHot
from ancestral.components import LEAST_VARIANCE, SPECK, Component
from ancestral.conditional import (
    Conditional,
    FactorAnalyser,
    Given,
    Product,
    standard_normal,
)
from ancestral.data import Batch
from ancestral.distributions import centre, draw
from ancestral.models import LatentModel
from ancestral.networks import Constant

Statistics = list[list[Tensor]]
"""Expected sufficient statistics summed over rows, one list per group of columns."""


class Asked(Conditional):
    """Conditional defined by a function, without parameters.

    Parameters
    ----------
    ask : callable
        Map context -> distribution.
    reads : sequence of str, optional
        Fields of the ``Context`` that are passed as arguments. Default: the context itself is
        passed.
    """

    def __init__(self, ask: Callable[..., Distribution], reads: Sequence[str] = ()) -> None:
        super().__init__()
        self.ask, self.reads = ask, tuple(reads)

    def forward(self, c: Given = None) -> Distribution:
        """Return the distribution at c."""
        return self.ask(*(getattr(c, name) for name in self.reads)) if self.reads else self.ask(c)


class ExactModel(LatentModel, ABC):
    """Latent-variable model with exact p(z | x) and p(x)."""

    @abstractmethod
    def log_marginal(self, batch: Batch) -> Float[Tensor, " b"]:
        """Log p(x) of the observed entries, [batch], in nats."""

    @abstractmethod
    def expect(self, batch: Batch) -> tuple[Float[Tensor, " b"], Statistics]:
        """E-step: log p(x) [batch], and expected sufficient statistics summed over rows."""

    @abstractmethod
    def maximise(self, statistics: Statistics) -> None:
        """M-step: set the parameters that maximise the expected log p(x, z)."""

    @abstractmethod
    def fill(self, batch: Batch, *, sample: bool = False) -> Float[Tensor, "b d"]:
        """Impute missing entries by E[x_missing | x_observed], or by a sample if ``sample``."""


class LatentFeatures(ExactModel):
    """Factor analysis: z ~ N(0, I), x | z ~ N(W z + mu, Psi) with diagonal Psi.

    Parameters
    ----------
    analyser : FactorAnalyser
        Conditional with parameters W, mu and Psi.
    isotropic : bool, default False
        Constrain Psi = sigma^2 I: probabilistic PCA (Tipping and Bishop, 1999).

    Examples
    --------
    >>> model = LatentFeatures(FactorAnalyser(torch.ones(3, 1), torch.zeros(3), torch.zeros(3)))
    >>> run = model.run(Batch(torch.ones(2, 3)), k=4)  # each importance weight equals p(x)
    >>> bool((run.log_w - model.log_marginal(run.batch)).abs().max() < 1e-5)
    True
    """

    def __init__(self, analyser: FactorAnalyser, isotropic: bool = False) -> None:
        super().__init__(
            standard_normal(analyser.loading.shape[1]),
            Asked(analyser.given),
            Asked(analyser.posterior, reads=("x", "mask")),
        )
        self.analyser, self.isotropic = analyser, isotropic

    def log_marginal(self, batch: Batch) -> Float[Tensor, " b"]:
        """Log p(x) of the observed entries, [batch], in nats."""
        q = self.encode(batch)
        return self.run_at(q.mean, batch, q).log_w  # log p(x, z) - log p(z | x) is equal at all z

    def expect(self, batch: Batch) -> tuple[Float[Tensor, " b"], Statistics]:
        """E-step: log p(x) and, with u = [z, 1], sums of E[u u^T], x E[u]^T, x^2 and counts.

        Sums run over the rows in which a column is observed.
        """
        x, mask, q = batch.x, batch.mask, self.analyser.posterior(batch.x, batch.mask)
        u = nn.functional.pad(q.mean, (0, 1), value=1.0)
        products = u.unsqueeze(-1) * u.unsqueeze(-2)
        products[:, :-1, :-1] += q.covariance_matrix
        if mask is None:  # equal for all columns
            products, n = products.sum(0, keepdim=True), x.new_full((1,), len(x))
        else:
            products = (mask.T @ products.flatten(1)).unflatten(-1, u.shape[-1:] * 2)
            n = mask.sum(0)
        log_px = self.run_at(q.mean, batch, q).log_w
        return log_px, [[products, x.T @ u, x.square().sum(0), n]]

    def maximise(self, statistics: Statistics) -> None:
        """M-step: regress each column on [z, 1]; Psi is the residual variance."""
        products, cross, squares, n = statistics[0]
        weights = torch.linalg.solve(products, cross.unsqueeze(-1)).squeeze(-1)
        rss = squares - (weights * cross).sum(-1)  # residual sum of squares
        psi = (rss.sum() / n.expand_as(rss).sum()).expand_as(rss) if self.isotropic else rss / n
        self.analyser.loading.copy_(weights[:, :-1])
        self.analyser.mu.copy_(weights[:, -1])
        self.analyser.log_psi.copy_(psi.clamp(min=LEAST_VARIANCE).log())

    def fill(self, batch: Batch, *, sample: bool = False) -> Float[Tensor, "b d"]:
        """Impute missing entries by E[x_missing | x_observed], or by a sample if ``sample``."""
        q = self.encode(batch)
        p = self.decode(draw(q) if sample else centre(q))
        return _filled(batch, draw(p) if sample else centre(p))


class LatentClasses(ExactModel):
    """Finite mixture: a one-hot class z ~ Mult(alpha) and p(x | z).

    Parameters
    ----------
    components : sequence of Component
        p(x | z), one for each group of columns; groups are independent given z.
    columns : sequence of sequence of int
        Column indices of each group; each column belongs to exactly one group.
    smoothing : float, default 0
        Prior count per class, in rows: pseudo-observations of each class with the statistics of
        the average row of the data and independent entries. It keeps classes from becoming empty
        or collapsing to a point. 0 is maximum likelihood.
    """

    def __init__(
        self,
        components: Sequence[Component],
        columns: Sequence[Sequence[int]],
        smoothing: float = 0.0,
    ) -> None:
        conditionals = [component.conditional for component in components]
        logits = Constant(torch.zeros(len(components[0].tables[0])))
        super().__init__(
            Classes(logits),
            conditionals[0] if len(conditionals) == 1 else Product(conditionals, columns),
            Asked(self.classify, reads=("x", "mask")),
        )
        self.components, self.columns = list(components), [list(group) for group in columns]
        self.log_shares, self.smoothing = logits.values[0], smoothing
        self.average: Statistics = [[] for _ in components]

    def classify(self, x: Tensor, mask: Tensor | None = None) -> OneHot:
        """Return the posterior over classes p(z | x)."""
        return OneHot(self._log_joint(x, mask))

    def log_marginal(self, batch: Batch) -> Float[Tensor, " b"]:
        """Log p(x) of the observed entries, [batch], in nats."""
        return torch.logsumexp(self._log_joint(batch.x, batch.mask), -1)

    def expect(self, batch: Batch) -> tuple[Float[Tensor, " b"], Statistics]:
        """E-step: log p(x), and the statistics of the rows weighted by responsibilities."""
        log_joint = self._log_joint(batch.x, batch.mask)
        return torch.logsumexp(log_joint, -1), self.sums(batch, torch.softmax(log_joint, -1))

    def sums(self, batch: Batch, weights: Float[Tensor, "b k"]) -> Statistics:
        """Compute the sufficient statistics of rows with given weights in each class.

        The first list contains the class counts [k], the others the statistics of each group.
        """
        groups = zip(self.components, self._groups(batch.x, batch.mask), strict=True)
        return [[weights.sum(0)], *(c.sums(x, mask, weights) for c, (x, mask) in groups)]

    def maximise(self, statistics: Statistics) -> None:
        """M-step: set the class probabilities and the parameters of the components."""
        (n,), *groups = statistics
        counts = n + self.smoothing
        self.log_shares.copy_((counts / counts.sum()).clamp(min=SPECK).log())
        for component, sums, row in zip(self.components, groups, self.average, strict=True):
            pairs = zip(sums, row, strict=True)
            component.learn([s + self.smoothing * r for s, r in pairs] if row else sums)

    def fill(self, batch: Batch, *, sample: bool = False) -> Float[Tensor, "b d"]:
        """Impute missing entries by E[x_missing | x_observed], or by a sample if ``sample``."""
        q = self.encode(batch)
        z, x = (draw(q) if sample else centre(q)), torch.empty_like(batch.x)
        mask = torch.ones_like(batch.x) if batch.mask is None else batch.mask
        for component, columns in zip(self.components, self.columns, strict=True):
            impute = component.drawn if sample else component.expected
            x[:, columns] = impute(batch.x[:, columns], mask[:, columns], z)
        return _filled(batch, x)

    def _log_joint(self, x: Tensor, mask: Tensor | None) -> Float[Tensor, "b k"]:
        log_joint = self.prior().logits
        groups = self._groups(x, mask)
        for component, (x_group, mask_group) in zip(self.components, groups, strict=True):
            log_joint = log_joint + component.log_density(x_group, mask_group)
        return log_joint

    def _groups(self, x: Tensor, mask: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
        if len(self.columns) == 1:
            return [(x, mask)]
        return [(x[:, j], None if mask is None else mask[:, j]) for j in self.columns]


def added(a: Statistics | None, b: Statistics) -> Statistics:
    """Add two sets of statistics; None means no rows."""
    if a is None:
        return b
    return [[x + y for x, y in zip(*pair, strict=True)] for pair in zip(a, b, strict=True)]


def _filled(batch: Batch, x: Tensor) -> Tensor:
    return batch.x if batch.mask is None else torch.where(batch.mask > 0, batch.x, x)
