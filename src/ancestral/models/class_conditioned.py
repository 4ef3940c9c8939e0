"""A latent-variable model conditioned on its class label.

AIS moves latent variables along gradients and cannot move a discrete class. This module exposes
p(z | y) and p(x | y, z) of a model whose first latent variable is a class y, so that AIS runs once
per class and p(x) = sum_y p(y) p(x | y).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, OneHotCategorical

from ancestral.data.batch import Batch
from ancestral.models.latent import LatentModel
from ancestral.nn import one_hot
from ancestral.probability.conditionals import Conditional, Context, ContextLike, reads_context
from ancestral.probability.distributions import ChainDistribution


class ClassConditionedModel(LatentModel):
    """p(z | y) p(x | y, z) of a model with latent variables [y, z]; the class y is a label.

    Parameters
    ----------
    model : LatentModel
        Model whose prior begins with a one-hot class.
    n_classes : int
        Number of classes.
    """

    def __init__(self, model: LatentModel, n_classes: int) -> None:
        def prior(y: Tensor, _: Context) -> Distribution:
            return _condition_on_class(model.prior(), y)

        def likelihood(y: Tensor, given: Context) -> Distribution:
            assert given.z is not None
            return model.decode(torch.cat([y.expand(*given.z.shape[:-1], -1), given.z], -1))

        def posterior(y: Tensor, given: Context) -> Distribution:
            assert given.x is not None
            return _condition_on_class(model.encode(Batch(given.x, mask=given.mask)), y)

        parts = [
            _FixedClassConditional(build, n_classes) for build in (prior, likelihood, posterior)
        ]
        super().__init__(*parts)
        self.model = model


class _FixedClassConditional(Conditional):
    """Conditional distribution at the class label of the context."""

    context_fields = ("y",)

    def __init__(self, build: Callable[[Tensor, Context], Distribution], n_classes: int) -> None:
        super().__init__()
        self.build, self.n_classes = build, n_classes

    def forward(self, c: ContextLike = None) -> Distribution:
        """Return the distribution in a context."""
        assert isinstance(c, Context)
        assert c.y is not None
        return self.build(one_hot(c.y, self.n_classes), c)


def _condition_on_class(p: Distribution, y: Tensor) -> Distribution:
    """Distribution of the remaining latent variables given the class y, in the same layout."""
    assert isinstance(p, ChainDistribution)
    if not p.reverse:
        return p.condition_on_first(y)
    (conditional,) = (
        p.conditionals
    )  # p samples the code first, then the class and the rest given the code
    sizes = [p.sizes[0], p.sizes[1] - y.shape[-1]]
    return ChainDistribution(
        p.first, [lambda c: _condition_on_class(conditional(c), y)], sizes, reverse=True
    )


def class_log_prior(model: LatentModel) -> Tensor | None:
    """Log-probabilities log p(y) of the class that a model's prior begins with, [n_classes].

    Returns None if the prior does not begin with a class.

    Examples
    --------
    >>> from ancestral.probability.conditionals import standard_normal
    >>> model = LatentModel(standard_normal(2), standard_normal(3), standard_normal(2))
    >>> class_log_prior(model) is None
    True
    """
    if reads_context(model.prior):
        return None
    p = model.prior()
    while isinstance(p, ChainDistribution):
        p = p.first
    return p.logits if isinstance(p, OneHotCategorical) else None
