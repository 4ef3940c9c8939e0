"""Finite mixture as a latent-variable model with an exact posterior."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ancestral.data.batch import Batch
from ancestral.models.exact import ExactModel, FunctionConditional, Statistics, _fill_missing
from ancestral.models.mixture_components import MIN_COUNT, Component
from ancestral.nn import Constant
from ancestral.probability.class_conditional import OneHotConditional, UncheckedOneHotCategorical
from ancestral.probability.composite import Product
from ancestral.probability.distributions import mean_or_mode, rsample_or_sample


class MixtureLatentModel(ExactModel):
    """Finite mixture: a one-hot class z ~ Mult(alpha) and p(x | z).

    Parameters
    ----------
    components : sequence of Component
        p(x | z), one for each group of columns; groups are independent given z.
    columns : sequence of sequence of int
        Column indices of each group; each column belongs to exactly one group.
    prior_count : float, default 0
        Prior count per class, in rows: pseudo-observations of each class with the statistics of
        the average row of the data and independent entries. It keeps classes from becoming empty
        or collapsing to a point. 0 is maximum likelihood.
    """

    def __init__(
        self,
        components: Sequence[Component],
        columns: Sequence[Sequence[int]],
        prior_count: float = 0.0,
    ) -> None:
        conditionals = [component.conditional for component in components]
        logits = Constant(torch.zeros(len(components[0].tables[0])))
        super().__init__(
            OneHotConditional(logits),
            conditionals[0] if len(conditionals) == 1 else Product(conditionals, columns),
            FunctionConditional(self.class_posterior, context_fields=("x", "mask")),
        )
        self.components, self.columns = list(components), [list(group) for group in columns]
        self.log_class_probs, self.prior_count = logits.values[0], prior_count
        self.average_statistics: Statistics = [[] for _ in components]

    def class_posterior(self, x: Tensor, mask: Tensor | None = None) -> UncheckedOneHotCategorical:
        """Return the posterior over classes p(z | x)."""
        return UncheckedOneHotCategorical(self._log_joint(x, mask))

    def log_marginal(self, batch: Batch) -> Float[Tensor, " b"]:
        """Log p(x) of the observed entries, [batch], in nats."""
        return torch.logsumexp(self._log_joint(batch.x, batch.mask), -1)

    def e_step(self, batch: Batch) -> tuple[Float[Tensor, " b"], Statistics]:
        """E-step: log p(x), and the statistics of the rows weighted by responsibilities."""
        log_joint = self._log_joint(batch.x, batch.mask)
        return torch.logsumexp(log_joint, -1), self.sufficient_statistics(
            batch, torch.softmax(log_joint, -1)
        )

    def sufficient_statistics(self, batch: Batch, weights: Float[Tensor, "b k"]) -> Statistics:
        """Compute the sufficient statistics of rows with given weights in each class.

        The first list contains the class counts [k], the others the statistics of each group.
        """
        groups = zip(self.components, self._groups(batch.x, batch.mask), strict=True)
        return [
            [weights.sum(0)],
            *(c.sufficient_statistics(x, mask, weights) for c, (x, mask) in groups),
        ]

    def m_step(self, statistics: Statistics) -> None:
        """M-step: set the class probabilities and the parameters of the components."""
        (n,), *groups = statistics
        counts = n + self.prior_count
        self.log_class_probs.copy_((counts / counts.sum()).clamp(min=MIN_COUNT).log())
        for component, sums, row in zip(
            self.components, groups, self.average_statistics, strict=True
        ):
            pairs = zip(sums, row, strict=True)
            component.m_step([s + self.prior_count * r for s, r in pairs] if row else sums)

    def impute(self, batch: Batch, *, sample: bool = False) -> Float[Tensor, "b d"]:
        """Impute missing entries by E[x_missing | x_observed], or by a sample if ``sample``."""
        q = self.encode(batch)
        z, x = (rsample_or_sample(q) if sample else mean_or_mode(q)), torch.empty_like(batch.x)
        mask = torch.ones_like(batch.x) if batch.mask is None else batch.mask
        for component, columns in zip(self.components, self.columns, strict=True):
            impute = component.conditional_sample if sample else component.conditional_mean
            x[:, columns] = impute(batch.x[:, columns], mask[:, columns], z)
        return _fill_missing(batch, x)

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
