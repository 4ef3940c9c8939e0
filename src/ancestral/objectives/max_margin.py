"""Max-margin loss (Crammer and Singer, 2001) and regularizers of max-margin models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ancestral.models.run import Run
from ancestral.nn.numerics import at_least_float32
from ancestral.objectives.base import Objective
from ancestral.objectives.variational import posterior_mean
from ancestral.utils import distributed


def hinge_loss(
    scores: Float[Tensor, "batch classes"], y: Int[Tensor, " batch"], margin: float = 1.0
) -> Float[Tensor, " batch"]:
    """Multi-class hinge loss max_j (margin [j != y] + f_j) - f_y (Crammer and Singer, 2001).

    Parameters
    ----------
    scores : Tensor [batch, classes]
        Class scores f.
    y : Tensor [batch]
        True class indices in [0, classes).
    margin : float
        Cost of a wrong class, positive.

    Returns
    -------
    Tensor [batch]
        Loss of each sample.

    Examples
    --------
    >>> hinge_loss(torch.tensor([[0.2, 0.1, 0.9]]), torch.tensor([1]))
    tensor([1.8000])
    """
    y_one_hot = torch.nn.functional.one_hot(y.long(), scores.shape[-1]).to(scores.dtype)
    return (scores + margin * (1 - y_one_hot)).amax(-1) - (scores * y_one_hot).sum(-1)


def hinge(
    c: float = 1.0,
    margin: float = 1.0,
    features: Callable[[Any], Tensor] = posterior_mean,
) -> Objective:
    """C times the mean hinge loss of ``model.classifier`` on features of the run.

    The mean is over the labelled samples of the batch. Samples with y = -1 are ignored; a batch
    without labels has loss zero (``train(n_labelled=...)`` guarantees labels in every batch). Add
    the objective to a bound, so that both are computed from the same run (max-margin deep
    generative models; Li, Zhu, Shi and Zhang, 2015).

    Parameters
    ----------
    c : float
        Weight C of the loss relative to the bound; both are means over samples.
    margin : float
        Cost of a wrong class in :func:`hinge_loss`.
    features : callable
        Function Run -> [batch, n] that returns the inputs of the classifier; by default E_q[z | x].

    Returns
    -------
    Objective
        Term ``hinge``.

    Raises
    ------
    ValueError
        At the first step, if a batch has no ``y``.
    """

    def term(model: nn.Module, run: Run) -> Tensor:
        y = run.batch.y
        if y is None:
            raise ValueError("the hinge loss needs labels: the batch has y=None; pass y")
        scores = at_least_float32(model.classifier(features(run)))  # type: ignore[operator]
        losses = hinge_loss(scores, y.clamp(min=0), margin) * (y >= 0)
        # data-parallel processes divide by the mean number of labelled samples per process
        n_labelled = distributed.all_reduce_mean((y >= 0).sum().to(losses.dtype))
        return c * losses.sum() / torch.where(n_labelled > 0, n_labelled, 1.0)

    return Objective({"hinge": term})
