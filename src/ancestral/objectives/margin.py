"""Max-margin terms: the multi-class hinge loss of Crammer and Singer."""

from __future__ import annotations

import math
from collections.abc import Callable

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

    The mean is over the labelled rows of the batch; rows with y = -1 do not count, and a batch
    without a label gives zero (``train(n_labelled=...)`` leaves none without). Add it to a
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
        scores = at_least_single(model.classifier(features(run)))  # type: ignore[operator]
        losses = hinge_loss(scores, y.clamp(min=0), margin) * (y >= 0)
        # a share of a batch divides by the mean number of labelled rows of all shares
        n_labelled = parallel.mean((y >= 0).sum().to(losses.dtype))
        return c * losses.sum() / torch.where(n_labelled > 0, n_labelled, 1.0)

    return Objective({"hinge": term})


def sparse_units(weight: float = 3.0, share: float = 0.1) -> Objective:
    """Weight times the sum over hidden units of KL(share || r), once for a batch.

    r is how active a unit of the encoder is on average when the same weights make a network of
    sigmoids: what the max-margin models' code adds, and their paper does not mention. It does not
    grow with the batch, so of a row's loss it is one batch-th.

    Parameters
    ----------
    weight : float
        Of a batch's sum.
    share : float
        Of the time that a unit should be active.

    Returns
    -------
    Objective
        Term ``sparsity``. The model's posterior is a dense network with heads.
    """

    def term(model: nn.Module, run: Run) -> Tensor:
        u, total = run.batch.x, run.batch.x.new_zeros(())
        for layer in _hidden_layers(model.posterior):  # type: ignore[arg-type]
            u = layer(u).sigmoid()
            active = parallel.mean(u.float().mean(0)).clamp(1e-6, 1 - 1e-6)
            total = total + _bernoulli_kl(share, active).sum()
        return weight * total / (len(run.batch.x) * parallel.n_shares())

    return Objective({"sparsity": term})


def _hidden_layers(posterior: nn.Module) -> list[nn.Linear]:
    """Return the dense layers of an encoder below its heads."""
    (heads,) = (m for m in posterior.modules() if isinstance(m, Heads))
    last = {id(layer) for layer in heads.layers}
    return [m for m in posterior.modules() if isinstance(m, nn.Linear) and id(m) not in last]


def _bernoulli_kl(p: float, q: Tensor) -> Tensor:
    return p * (math.log(p) - q.log()) + (1 - p) * (math.log1p(-p) - torch.log1p(-q))


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
        squares = torch.stack([at_least_single(p).square().sum() for p in model.parameters()])
        return precision / 2 * squares.sum()

    return Objective({"prior": term})
