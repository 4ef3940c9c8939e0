"""The two sides of the adversarial game (Goodfellow et al., 2014), written on logits.

The model is a :class:`~ancestral.models.Game`, or any module with a ``generator`` and a ``critic``
whose output [n] or [n, 1] is the logit of "comes from the data".
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ancestral.data import Batch
from ancestral.models import Game, Run
from ancestral.networks.precision import at_least_single
from ancestral.objectives.base import Objective


def critic_loss(smoothing: float = 0.0) -> Objective:
    """-E_data[log D(x)] - E_model[log(1 - D(x))], which the critic minimises.

    At the best critic it equals log 4 - 2 JSD(data, model).

    Parameters
    ----------
    smoothing : float
        One-sided label smoothing: data count as such with this less than certainty (Salimans et
        al., 2016).

    Returns
    -------
    Objective
        Terms ``real`` and ``fake``; the generator gets no gradient.
    """

    def run(model: nn.Module, batch: Batch) -> Run:
        with torch.no_grad():
            return model.generator.run(batch)  # type: ignore[operator, union-attr]

    def real(model: nn.Module, run: Run) -> Tensor:
        logits = _judge(model, run.batch.x, run)
        return (softplus(-logits) + smoothing * logits).mean()

    def fake(model: nn.Module, run: Run) -> Tensor:
        return softplus(_judge(model, run.sample, run)).mean()

    return Objective({"real": real, "fake": fake}, run)


def gradient_penalty(weight: float = 1.0) -> Objective:
    """Weight / 2 times the mean squared length of the critic's gradient at the data (R1).

    It keeps the game from circling around its solution (Mescheder, Geiger and Nowozin, 2018). Add
    it to :func:`critic_loss`.

    Parameters
    ----------
    weight : float
        Of the penalty.

    Returns
    -------
    Objective
        Term ``penalty``.
    """

    def penalty(model: nn.Module, run: Run) -> Tensor:
        x = run.batch.x.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(_judge(model, x, run).sum(), x, create_graph=True)
        return weight / 2 * slope.square().sum(-1).mean()

    return Objective({"penalty": penalty}, compiles=False)


def generator_loss(kind: Literal["non-saturating", "minimax"] = "non-saturating") -> Objective:
    """What the generator minimises: -E[log D(G(h))], or E[log(1 - D(G(h)))].

    Parameters
    ----------
    kind : {"non-saturating", "minimax"}
        Per sample the two gradients are positive multiples of one another.

    Returns
    -------
    Objective
        Term ``fool``.

    Raises
    ------
    ValueError
        If ``kind`` is unknown.
    """
    if kind not in ("non-saturating", "minimax"):
        raise ValueError(f"kind={kind!r}: expected 'non-saturating' or 'minimax'")

    def run(model: nn.Module, batch: Batch) -> Run:
        return model.generator.run(batch)  # type: ignore[operator, union-attr]

    def fool(model: nn.Module, run: Run) -> Tensor:
        logits = _judge(model, run.sample, run)
        return softplus(-logits).mean() if kind == "non-saturating" else -softplus(logits).mean()

    return Objective({"fool": fool}, run)


def _judge(model: nn.Module, x: Tensor | None, run: Run) -> Tensor:
    """Logits of rows; the critic of a conditional game sees their conditions too."""
    assert x is not None
    if isinstance(model, Game):
        return at_least_single(model.judge(x, run.batch))
    return at_least_single(model.critic(x))  # type: ignore[operator]
