"""Regularizers: sparsity of hidden units and Gaussian weight prior."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ancestral.models.run import Run
from ancestral.nn import Heads
from ancestral.nn.numerics import at_least_float32
from ancestral.objectives.base import Objective
from ancestral.utils import distributed


def sparsity_penalty(weight: float = 3.0, target_activation: float = 0.1) -> Objective:
    """Sparsity penalty: weight / batch size * sum over hidden units of KL(target_activation || r).

    r is the batch mean of the activation of an encoder unit when all hidden activations are
    replaced with sigmoids. The code of max-margin deep generative models (Li, Zhu, Shi and Zhang,
    2015) contains this penalty; the paper does not mention it. The penalty of a batch does not
    depend on the batch size and is therefore divided by it in a loss per sample.

    Parameters
    ----------
    weight : float
        Weight of the penalty of one batch.
    target_activation : float
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
            mean_activation = distributed.all_reduce_mean(u.float().mean(0)).clamp(1e-6, 1 - 1e-6)
            total = total + _bernoulli_kl(target_activation, mean_activation).sum()
        return weight * total / (len(run.batch.x) * distributed.n_shards())

    return Objective({"sparsity": term})


def _hidden_layers(posterior: nn.Module) -> list[nn.Linear]:
    """Return the dense layers of an encoder without those of its heads."""
    (heads,) = (m for m in posterior.modules() if isinstance(m, Heads))
    head_ids = {id(layer) for layer in heads.layers}
    return [m for m in posterior.modules() if isinstance(m, nn.Linear) and id(m) not in head_ids]


def _bernoulli_kl(p: float, q: Tensor) -> Tensor:
    return p * (math.log(p) - q.log()) + (1 - p) * (math.log1p(-p) - torch.log1p(-q))


def gaussian_weight_prior(precision: float) -> Objective:
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
        squares = torch.stack([at_least_float32(p).square().sum() for p in model.parameters()])
        return precision / 2 * squares.sum()

    return Objective({"prior": term})
