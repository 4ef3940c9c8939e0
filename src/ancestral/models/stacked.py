"""Latent-variable models stacked on one another."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from ancestral.data.batch import Batch
from ancestral.models.latent import LatentModel
from ancestral.probability.composite import Chain
from ancestral.probability.conditionals import Conditional, ContextLike
from ancestral.probability.distributions import rsample_or_sample


class LastLatentConditional(Conditional):
    """Likelihood p(x | h_1, ..., c) that depends only on the last n entries, c.

    Parameters
    ----------
    conditional : Conditional
        p(x | c).
    n : int
        Width of c.
    """

    def __init__(self, conditional: Conditional, n: int) -> None:
        super().__init__()
        self.conditional, self.n = conditional, n

    def forward(self, c: ContextLike = None) -> Distribution:
        """Call the conditional on the last n entries."""
        assert isinstance(c, Tensor)
        return self.conditional(c[..., -self.n :])


class StackedLatentModel(LatentModel):
    """Stack of two latent-variable models, p(h) p(c | h) p(x | c).

    The fitted bottom model gives p(x | c) and q(c | x). The top model replaces its prior p(c) and
    is fitted to codes c sampled from q(c | x). The latent vector is [h, c].

    Parameters
    ----------
    top : LatentModel
        p(h) p(c | h) with q(h | c); its conditionals are called on tensors.
    bottom : LatentModel
        p(x | c) with q(c | x). It remains in evaluation mode.
    sizes : (int, int)
        Widths of h and of c.

    Examples
    --------
    >>> from ancestral.probability.conditionals import Gaussian
    >>> from ancestral.probability.conditionals import standard_normal
    >>> from ancestral.nn import MLP
    >>> top, bottom = (
    ...     LatentModel(standard_normal(n), Gaussian(MLP(n, (8,), heads=(d, d))),
    ...                 Gaussian(MLP(d, (8,), heads=(n, n))))
    ...     for n, d in [(2, 3), (3, 5)]
    ... )
    >>> both = StackedLatentModel(top, bottom, (2, 3))
    >>> both.run(Batch(torch.ones(4, 5)), k=6).log_w.shape, both.sample(7).shape
    (torch.Size([6, 4]), torch.Size([7, 5]))
    """

    def __init__(self, top: LatentModel, bottom: LatentModel, sizes: tuple[int, int]) -> None:
        n_top, n_codes = sizes
        super().__init__(
            Chain([top.prior, top.likelihood], (n_top, n_codes)),
            LastLatentConditional(bottom.likelihood, n_codes),
            Chain([bottom.posterior, top.posterior], (n_codes, n_top), reverse=True),
        )
        self.sizes, self._submodels = sizes, (top, bottom)  # a tuple: their modules are registered
        self.train(self.training)

    @property
    def top(self) -> LatentModel:
        """Model of the codes, p(h) p(c | h)."""
        return self._submodels[0]

    @property
    def bottom(self) -> LatentModel:
        """Model of the data given codes, p(x | c)."""
        return self._submodels[1]

    def train(self, mode: bool = True) -> StackedLatentModel:
        """Set the mode of the top model; the bottom model remains in evaluation mode."""
        super().train(mode)
        self.bottom.eval()
        return self

    def codes(self, batch: Batch) -> Batch:
        """Return the batch with x replaced by codes sampled from q(c | x), without a mask."""
        with torch.no_grad():
            return batch._replace(x=rsample_or_sample(self.bottom.encode(batch)), mask=None)
