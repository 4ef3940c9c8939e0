"""Finite mixture as a latent-variable model with an exact posterior."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ancestral.data.batch import Batch
from ancestral.models.exact import Asked, ExactModel, Statistics, _filled
from ancestral.models.mixture_components import SPECK, Component
from ancestral.nn import Constant
from ancestral.probability.class_conditional import Classes, OneHot
from ancestral.probability.composite import Product
from ancestral.probability.distributions import centre, draw


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
