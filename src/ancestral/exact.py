"""Models of which all is known in closed form: latent features, and latent classes.

Their posterior p(z | x) and the likelihood p(x) are exact, with missing entries too, so they learn
by expectation maximisation: expected statistics of the latent variables, then the parameters that
suit these best (Dempster, Laird and Rubin, 1977).
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
"""Sums over rows, of one group of columns after the other."""


class Asked(Conditional):
    """A conditional without parameters of its own: another module is asked.

    Parameters
    ----------
    ask : callable
        What it is called on -> distribution.
    reads : sequence of str
        What of a ``Context`` is asked about, if not the plain tensor.
    """

    def __init__(self, ask: Callable[..., Distribution], reads: Sequence[str] = ()) -> None:
        super().__init__()
        self.ask, self.reads = ask, tuple(reads)

    def forward(self, c: Given = None) -> Distribution:
        """Return the answer."""
        return self.ask(*(getattr(c, name) for name in self.reads)) if self.reads else self.ask(c)


class ExactModel(LatentModel, ABC):
    """A latent-variable model with an exact p(z | x) and p(x)."""

    @abstractmethod
    def log_marginal(self, batch: Batch) -> Float[Tensor, " b"]:
        """Log p(x) of the observed entries, [batch]."""

    @abstractmethod
    def expect(self, batch: Batch) -> tuple[Float[Tensor, " b"], Statistics]:
        """Return log p(x), and the expected statistics of rows and latents summed over the rows."""

    @abstractmethod
    def maximise(self, statistics: Statistics) -> None:
        """Take the parameters that make the expected log p(x, z) greatest."""

    @abstractmethod
    def fill(self, batch: Batch, *, sample: bool = False) -> Float[Tensor, "b d"]:
        """Return rows with E[x_missing | x_observed], or a draw of it, in their gaps."""


class LatentFeatures(ExactModel):
    """Factor analysis: z ~ N(0, I), x ~ N(W z + mu, Psi), Psi diagonal.

    Parameters
    ----------
    analyser : FactorAnalyser
        W, mu and Psi.
    isotropic : bool
        Learn Psi = sigma^2 I: probabilistic principal components (Tipping and Bishop, 1999).

    Examples
    --------
    >>> model = LatentFeatures(FactorAnalyser(torch.ones(3, 1), torch.zeros(3), torch.zeros(3)))
    >>> run = model.run(Batch(torch.ones(2, 3)), k=4)  # every weight is p(x) itself
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
        """Log p(x) of the observed entries, [batch]."""
        q = self.encode(batch)
        return self.run_at(q.mean, batch, q).log_w  # log p(x, z) - log p(z | x), at whatever z

    def expect(self, batch: Batch) -> tuple[Float[Tensor, " b"], Statistics]:
        """Return log p(x); sums of E[u u^T], x E[u]^T, x^2, 1 where x is observed, u = [z, 1]."""
        x, mask, q = batch.x, batch.mask, self.analyser.posterior(batch.x, batch.mask)
        u = nn.functional.pad(q.mean, (0, 1), value=1.0)
        products = u.unsqueeze(-1) * u.unsqueeze(-2)
        products[:, :-1, :-1] += q.covariance_matrix
        if mask is None:  # the same for all columns
            products, n = products.sum(0, keepdim=True), x.new_full((1,), len(x))
        else:
            products = (mask.T @ products.flatten(1)).unflatten(-1, u.shape[-1:] * 2)
            n = mask.sum(0)
        log_px = self.run_at(q.mean, batch, q).log_w
        return log_px, [[products, x.T @ u, x.square().sum(0), n]]

    def maximise(self, statistics: Statistics) -> None:
        """Regress every column on [z, 1]: W, mu, and in Psi what is left over."""
        products, with_x, squares, n = statistics[0]
        weights = torch.linalg.solve(products, with_x.unsqueeze(-1)).squeeze(-1)
        left = squares - (weights * with_x).sum(-1)
        psi = (left.sum() / n.expand_as(left).sum()).expand_as(left) if self.isotropic else left / n
        self.analyser.loading.copy_(weights[:, :-1])
        self.analyser.mu.copy_(weights[:, -1])
        self.analyser.log_psi.copy_(psi.clamp(min=LEAST_VARIANCE).log())

    def fill(self, batch: Batch, *, sample: bool = False) -> Float[Tensor, "b d"]:
        """Return rows with E[x_missing | x_observed], or a draw of it, in their gaps."""
        q = self.encode(batch)
        p = self.decode(draw(q) if sample else centre(q))
        return _filled(batch, draw(p) if sample else centre(p))


class LatentClasses(ExactModel):
    """A finite mixture: a one-hot class z ~ Mult(alpha), and rows given their class.

    Parameters
    ----------
    components : sequence of Component
        p(x | z), one for each group of columns.
    columns : sequence of sequence of int
        Which columns each group holds; together every column once.
    smoothing : float
        Further rows like the average row of all, entries independent, that every class has seen: a
        prior under which no class dies out or shrinks to a point. 0 is maximum likelihood.
    """

    def __init__(
        self,
        components: Sequence[Component],
        columns: Sequence[Sequence[int]],
        smoothing: float = 0.0,
    ) -> None:
        several = [component.conditional for component in components]
        shares = Constant(torch.zeros(len(components[0].tables[0])))
        super().__init__(
            Classes(shares),
            several[0] if len(several) == 1 else Product(several, columns),
            Asked(self.classify, reads=("x", "mask")),
        )
        self.components, self.columns = list(components), [list(group) for group in columns]
        self.log_shares, self.smoothing = shares.values[0], smoothing
        self.average: Statistics = [[] for _ in components]

    def classify(self, x: Tensor, mask: Tensor | None = None) -> OneHot:
        """Return p(z | x)."""
        return OneHot(self._log_joint(x, mask))

    def log_marginal(self, batch: Batch) -> Float[Tensor, " b"]:
        """Log p(x) of the observed entries, [batch]."""
        return torch.logsumexp(self._log_joint(batch.x, batch.mask), -1)

    def expect(self, batch: Batch) -> tuple[Float[Tensor, " b"], Statistics]:
        """Return log p(x); sums of responsibilities, and of rows by them, group by group."""
        log_joint = self._log_joint(batch.x, batch.mask)
        return torch.logsumexp(log_joint, -1), self.sums(batch, torch.softmax(log_joint, -1))

    def sums(self, batch: Batch, weights: Float[Tensor, "b k"]) -> Statistics:
        """Return what is learnt from rows that count so much in every class."""
        groups = zip(self.components, self._groups(batch.x, batch.mask), strict=True)
        return [[weights.sum(0)], *(c.sums(x, mask, weights) for c, (x, mask) in groups)]

    def maximise(self, statistics: Statistics) -> None:
        """Take the shares of the classes, and what their rows are like."""
        (n,), *groups = statistics
        shares = n + self.smoothing
        self.log_shares.copy_((shares / shares.sum()).clamp(min=SPECK).log())
        for component, sums, row in zip(self.components, groups, self.average, strict=True):
            more = zip(sums, row, strict=True)
            component.learn([s + self.smoothing * r for s, r in more] if row else sums)

    def fill(self, batch: Batch, *, sample: bool = False) -> Float[Tensor, "b d"]:
        """Return rows with E[x_missing | x_observed], or a draw of it, in their gaps."""
        q = self.encode(batch)
        z, filled = (draw(q) if sample else centre(q)), torch.empty_like(batch.x)
        known = torch.ones_like(batch.x) if batch.mask is None else batch.mask
        for component, columns in zip(self.components, self.columns, strict=True):
            fill = component.drawn if sample else component.expected
            filled[:, columns] = fill(batch.x[:, columns], known[:, columns], z)
        return _filled(batch, filled)

    def _log_joint(self, x: Tensor, mask: Tensor | None) -> Float[Tensor, "b k"]:
        log_joint = self.prior().logits
        for component, (group, known) in zip(self.components, self._groups(x, mask), strict=True):
            log_joint = log_joint + component.log_density(group, known)
        return log_joint

    def _groups(self, x: Tensor, mask: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
        if len(self.columns) == 1:
            return [(x, mask)]
        return [(x[:, j], None if mask is None else mask[:, j]) for j in self.columns]


def added(a: Statistics | None, b: Statistics) -> Statistics:
    """Return the statistics of the rows of both; None stands for no rows."""
    if a is None:
        return b
    return [[x + y for x, y in zip(*pair, strict=True)] for pair in zip(a, b, strict=True)]


def _filled(batch: Batch, x: Tensor) -> Tensor:
    return batch.x if batch.mask is None else torch.where(batch.mask > 0, batch.x, x)
