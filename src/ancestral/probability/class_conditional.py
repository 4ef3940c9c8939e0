"""Class labels as latent variables, observed for labelled samples only.

The one-hot class y and the latent z form one latent vector [y, z]. Ancestral sampling, importance
weights and imputation of latent-variable models then apply to the pair without change.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Normal, OneHotCategorical

from ancestral.nn.numerics import at_least_float32
from ancestral.probability.conditionals import Conditional, ContextLike, Unconditional
from ancestral.probability.distributions import ChainDistribution


class UncheckedOneHotCategorical(OneHotCategorical):
    """One-hot categorical distribution without validation of its inner ``Categorical``.

    torch's class always validates the inner distribution, which prevents compilation.

    Parameters
    ----------
    logits : Tensor [..., n]
        Unnormalised log-probabilities of the n classes.
    validate_args : bool, default False
        Whether to validate arguments.
    """

    def __init__(self, logits: Tensor, validate_args: bool = False) -> None:
        self._categorical = Categorical(logits=logits, validate_args=validate_args)
        shape, n = self._categorical.batch_shape, self._categorical.param_shape[-1:]
        Distribution.__init__(self, shape, n, validate_args=validate_args)


class OneHotConditional(Conditional):
    """Distribution p(y | c) over one-hot classes.

    Parameters
    ----------
    network : Module
        Map c -> logits [..., n_classes].

    Examples
    --------
    >>> OneHotConditional(nn.Linear(3, 4))(torch.zeros(5, 3)).sample().sum(-1)
    tensor([1., 1., 1., 1., 1.])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, c: ContextLike = None) -> UncheckedOneHotCategorical:
        """Return the distribution of a one-hot vector."""
        return UncheckedOneHotCategorical(at_least_float32(self.network(c)))


class StandardNormalLike(Conditional):
    """Standard normal N(0, I) over d entries, with the batch shape of c and independent of c."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.d = d

    def forward(self, c: ContextLike = None) -> Normal:
        """Return N(0, I) with parameters [..., d] for c [..., n]."""
        assert isinstance(c, Tensor)
        mean = torch.zeros(*c.shape[:-1], self.d, device=c.device)
        return Normal(mean, torch.ones_like(mean), validate_args=False)


class ClassThenLatent(Conditional):
    """Joint distribution p(y | c) p(z | y, c) of a one-hot class and a latent, as [y, z].

    Parameters
    ----------
    label : Conditional
        p(y | c) over one-hot classes.
    latent : Conditional
        p(z | y, c), called on the concatenation [``encoder(c)``, y], or on y if ``encoder`` is
        None.
    sizes : sequence of int
        Number of classes and number of latent variables.
    encoder : Module, optional
        Shared feature network c -> features [..., n].

    Examples
    --------
    >>> prior = ClassThenLatent(uniform_classes(4), StandardNormalLike(2), (4, 2))
    >>> prior().sample((3,)).shape
    torch.Size([3, 6])
    """

    def __init__(
        self,
        label: Conditional,
        latent: Conditional,
        sizes: Sequence[int],
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.label, self.latent, self.sizes, self.encoder = label, latent, tuple(sizes), encoder

    def forward(self, c: ContextLike = None) -> ChainDistribution:
        """Return the joint distribution of class and latent variables."""
        features = None if self.encoder is None else self.encoder(c)

        def latent(y: Tensor) -> torch.distributions.Distribution:
            if features is None:
                return self.latent(y)
            h = features.expand(*y.shape[:-1], -1)
            return self.latent(torch.cat([h, y.to(features.dtype)], -1))

        return ChainDistribution(self.label(features), [latent], self.sizes)


def uniform_classes(n: int) -> Unconditional:
    """Return the uniform distribution p(y) over n one-hot classes."""
    return Unconditional(UncheckedOneHotCategorical(torch.zeros(n)))
