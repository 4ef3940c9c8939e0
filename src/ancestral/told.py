"""Models whose first latent variable is a class: what is left of them once the class is told.

Annealing moves latent variables along gradients, which a class has not. But classes are few: the
others are annealed at each class by itself, and p(x) is the sum of p(y) p(x | y).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor
from torch.distributions import Distribution, OneHotCategorical

from ancestral.ais import Annealing, annealed_log_likelihood
from ancestral.conditional import Conditional, Context, Given, reads_context
from ancestral.data import Batch, Data
from ancestral.distributions import Ancestral
from ancestral.evaluate import LogLikelihood
from ancestral.models import LatentModel
from ancestral.networks import one_hot


class Told(LatentModel):
    """p(z | y) p(x | y, z) of a model of the latent variables [y, z], with the class y as a label.

    Parameters
    ----------
    model : LatentModel
        Its prior begins with a one-hot class.
    n_classes : int
        How many there are.
    """

    def __init__(self, model: LatentModel, n_classes: int) -> None:
        def prior(y: Tensor, _: Context) -> Distribution:
            return _after(model.prior(), y)

        def likelihood(y: Tensor, given: Context) -> Distribution:
            assert given.z is not None
            return model.decode(torch.cat([y.expand(*given.z.shape[:-1], -1), given.z], -1))

        def posterior(y: Tensor, given: Context) -> Distribution:
            assert given.x is not None
            return _after(model.encode(Batch(given.x, mask=given.mask)), y)

        parts = [_AtClass(make, n_classes) for make in (prior, likelihood, posterior)]
        super().__init__(*parts)
        self.model = model


class _AtClass(Conditional):
    """A conditional at the class that is told."""

    reads = ("y",)

    def __init__(self, make: Callable[[Tensor, Context], Distribution], n_classes: int) -> None:
        super().__init__()
        self.make, self.n_classes = make, n_classes

    def forward(self, c: Given = None) -> Distribution:
        """Return the distribution in a context."""
        assert isinstance(c, Context)
        assert c.y is not None
        return self.make(one_hot(c.y, self.n_classes), c)


def _after(p: Distribution, y: Tensor) -> Distribution:
    """Return what else there is at a class, laid out as before."""
    assert isinstance(p, Ancestral)
    if not p.reverse:
        return p.after(y)
    (begun,) = p.rest  # of codes first, and of the class and the rest given those
    sizes = [p.sizes[0], p.sizes[1] - y.shape[-1]]
    return Ancestral(p.first, [lambda c: _after(begun(c), y)], sizes, reverse=True)


def shares(model: LatentModel) -> Tensor | None:
    """Return log p(y) of the class that a model begins with, [n_classes], if it does so.

    Examples
    --------
    >>> from ancestral.conditional import standard_normal
    >>> shares(LatentModel(standard_normal(2), standard_normal(3), standard_normal(2))) is None
    True
    """
    if reads_context(model.prior):
        return None
    p = model.prior()
    while isinstance(p, Ancestral):
        p = p.first
    return p.logits if isinstance(p, OneHotCategorical) else None


@torch.no_grad()
def annealed(model: LatentModel, data: Data, annealing: Annealing, **how: Any) -> LogLikelihood:
    """Estimate log p(x) of every row by annealing, at every class by itself if there are classes.

    Parameters
    ----------
    model, data, annealing, **how
        See :func:`ancestral.ais.annealed_log_likelihood`; latent variables but the first one are
        continuous.

    Returns
    -------
    LogLikelihood
        A stochastic lower bound in nats.
    """
    log_py = shares(model)
    if log_py is None:
        return annealed_log_likelihood(model, data, annealing, **how)
    n, n_classes = len(data), len(log_py)
    rows = data.subset(np.tile(np.arange(n), n_classes))
    rows.y = torch.arange(n_classes, device=data.device).repeat_interleave(n)
    found = annealed_log_likelihood(Told(model, n_classes).eval(), rows, annealing, **how)

    def by_class(values: np.ndarray) -> np.ndarray:
        return values.reshape(n_classes, n)

    joint = by_class(found.values) + log_py.double().cpu().numpy()[:, None]
    values = logsumexp(joint, axis=0)
    share = np.exp(joint - values)
    return LogLikelihood(
        values,
        np.sqrt(np.square(share * by_class(found.monte_carlo_errors)).sum(0)),
        1 / (np.square(share) / by_class(found.effective_sample_sizes)).sum(0),
        found.n_samples,
        found.estimator,
    )
