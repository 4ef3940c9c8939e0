"""Max-margin terms: the multi-class hinge loss of Crammer and Singer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ancestral import parallel
from ancestral.models import Run
from ancestral.objectives.base import Objective
from ancestral.objectives.importance import posterior_mean


def hinge_loss(
    scores: Float[Tensor, "batch classes"], y: Int[Tensor, " batch"], margin: float = 1.0
) -> Float[Tensor, " batch"]:
    """max_j (margin [j != y] + f_j) - f_y per example (Crammer and Singer, 2001).

    Parameters
    ----------
    scores : Tensor [batch, classes]
        f.
    y : Tensor [batch]
        True classes.
    margin : float
        The cost of a wrong class.

    Examples
    --------
    >>> hinge_loss(torch.tensor([[0.2, 0.1, 0.9]]), torch.tensor([1]))
    tensor([1.8000])
    """
    true = torch.nn.functional.one_hot(y.long(), scores.shape[-1]).to(scores.dtype)
    return (scores + margin * (1 - true)).amax(-1) - (scores * true).sum(-1)


def hinge(
    c: float = 1.0,
    margin: float = 1.0,
    features: Callable[[Run], Tensor] = posterior_mean,
) -> Objective:
    """C times the mean hinge loss of ``model.classifier`` on features of the run.

    The mean is over the labelled rows of the batch; rows with y = -1 do not count. Add it to a
    bound: both then read the same run (max-margin deep generative models; Li, Zhu, Shi and
    Zhang, 2015).

    Parameters
    ----------
    c : float
        The weight C of the loss against the bound, both means over examples.
    margin : float
        Of :func:`hinge_loss`.
    features : callable
        Run -> [batch, n]; by default E_q[z | x].

    Returns
    -------
    Objective
        Term ``hinge``.
    """

    def term(model: nn.Module, run: Run) -> Tensor:
        y = run.batch.y
        if y is None:
            raise ValueError("the hinge loss needs labels: the batch has y=None")
        scores = model.classifier(features(run))  # type: ignore[operator]
        losses = hinge_loss(scores, y.clamp(min=0), margin) * (y >= 0)
        # a share of a batch divides by the mean number of labelled rows of all shares
        n_labelled = parallel.mean((y >= 0).sum().to(losses.dtype))
        return c * losses.sum() / torch.where(n_labelled > 0, n_labelled, 1.0)

    return Objective({"hinge": term})


def gaussian_prior(precision: float) -> Objective:
    """Precision / 2 times the squared length of all parameters of the model.

    A prior N(0, 1) on everything, in nats per example, has the precision 1 / (number of rows).

    Parameters
    ----------
    precision : float
        Of the prior, per row.

    Returns
    -------
    Objective
        Term ``prior``, without its constant.
    """

    def term(model: nn.Module, _: Run) -> Tensor:
        squares = torch.stack([p.square().sum() for p in model.parameters()])
        return precision / 2 * squares.sum()

    return Objective({"prior": term})
