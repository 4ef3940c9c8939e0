"""Max-margin loss (Crammer and Singer, 2001) and regularizers of max-margin models."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ancestral import parallel
from ancestral.models import Run
from ancestral.networks import Heads
from ancestral.networks.precision import at_least_single
from ancestral.objectives.base import Objective
from ancestral.objectives.importance import posterior_mean


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
        scores = at_least_single(model.classifier(features(run)))  # type: ignore[operator]
        losses = hinge_loss(scores, y.clamp(min=0), margin) * (y >= 0)
        # data-parallel processes divide by the mean number of labelled samples per process
        n_labelled = parallel.mean((y >= 0).sum().to(losses.dtype))
        return c * losses.sum() / torch.where(n_labelled > 0, n_labelled, 1.0)

    return Objective({"hinge": term})


def sparse_units(weight: float = 3.0, share: float = 0.1) -> Objective:
    """Sparsity penalty weight * sum over hidden units of KL(share || r), divided by batch size.

    r is the batch mean of the activation of an encoder unit when all hidden activations are
    replaced with sigmoids. The code of max-margin deep generative models (Li, Zhu, Shi and Zhang,
    2015) contains this penalty; the paper does not mention it. The penalty of a batch does not
    depend on the batch size and is therefore divided by it in a loss per sample.

    Parameters
    ----------
    weight : float
        Weight of the penalty of one batch.
    share : float
        Target mean activation in (0, 1).

    Returns
    -------
    Objective
        Term ``sparsity``. The posterior of the model must be a dense network with heads.
    """

    def term(model: nn.Module, run: Run) -> Tensor:
        u, total = run.batch.x, run.batch.x.new_zeros(())
        for layer in _hidden_layers(model.posterior):  # type: ignore[arg-type]
            u = layer(u).sigmoid()
            mean_activation = parallel.mean(u.float().mean(0)).clamp(1e-6, 1 - 1e-6)
            total = total + _bernoulli_kl(share, mean_activation).sum()
        return weight * total / (len(run.batch.x) * parallel.n_shares())

    return Objective({"sparsity": term})


def _hidden_layers(posterior: nn.Module) -> list[nn.Linear]:
    """Return the dense layers of an encoder without those of its heads."""
    (heads,) = (m for m in posterior.modules() if isinstance(m, Heads))
    head_ids = {id(layer) for layer in heads.layers}
    return [m for m in posterior.modules() if isinstance(m, nn.Linear) and id(m) not in head_ids]


def _bernoulli_kl(p: float, q: Tensor) -> Tensor:
    return p * (math.log(p) - q.log()) + (1 - p) * (math.log1p(-p) - torch.log1p(-q))


def gaussian_prior(precision: float) -> Objective:
    """Negative log density of a Gaussian weight prior: precision / 2 times the squared norm.

    The prior is on all parameters of the model. For N(0, 1), in nats per sample of the training
    set, ``precision`` is 1 / (number of training samples).

    Parameters
    ----------
    precision : float
        Precision of the prior divided by the number of training samples.

    Returns
    -------
    Objective
        Term ``prior``, without its normalising constant.
    """

    def term(model: nn.Module, _: Run) -> Tensor:
        squares = torch.stack([at_least_single(p).square().sum() for p in model.parameters()])
        return precision / 2 * squares.sum()

    return Objective({"prior": term})
