"""Base class of latent-variable models with a closed-form posterior.

The posterior p(z | x) and the marginal p(x) are exact, also with missing entries. The models are
fitted by expectation maximisation (EM; Dempster, Laird and Rubin, 1977).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from ancestral.data.batch import Batch
from ancestral.models.latent import LatentModel
from ancestral.probability.conditionals import Conditional, ContextLike

Statistics = list[list[Tensor]]
"""Expected sufficient statistics summed over rows, one list per group of columns."""


class FunctionConditional(Conditional):
    """Conditional defined by a function, without parameters.

    Parameters
    ----------
    function : callable
        Map context -> distribution.
    context_fields : sequence of str, optional
        Fields of the ``Context`` that are passed as arguments. Default: the context itself is
        passed.
    """

    def __init__(
        self, function: Callable[..., Distribution], context_fields: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.function, self.context_fields = function, tuple(context_fields)

    def forward(self, c: ContextLike = None) -> Distribution:
        """Return the distribution at c."""
        return (
            self.function(*(getattr(c, name) for name in self.context_fields))
            if self.context_fields
            else self.function(c)
        )


class ExactModel(LatentModel, ABC):
    """Latent-variable model with exact p(z | x) and p(x)."""

    @abstractmethod
    def log_marginal(self, batch: Batch) -> Float[Tensor, " b"]:
        """Log p(x) of the observed entries, [batch], in nats."""

    @abstractmethod
    def e_step(self, batch: Batch) -> tuple[Float[Tensor, " b"], Statistics]:
        """E-step: log p(x) [batch], and expected sufficient statistics summed over rows."""

    @abstractmethod
    def m_step(self, statistics: Statistics) -> None:
        """M-step: set the parameters that maximise the expected log p(x, z)."""

    @abstractmethod
    def impute(self, batch: Batch, *, sample: bool = False) -> Float[Tensor, "b d"]:
        """Impute missing entries by E[x_missing | x_observed], or by a sample if ``sample``."""


def add_statistics(a: Statistics | None, b: Statistics) -> Statistics:
    """Add two sets of statistics; None means no rows."""
    if a is None:
        return b
    return [[x + y for x, y in zip(*pair, strict=True)] for pair in zip(a, b, strict=True)]


def _fill_missing(batch: Batch, x: Tensor) -> Tensor:
    return batch.x if batch.mask is None else torch.where(batch.mask > 0, batch.x, x)
