"""Adversarial losses of critic and generator (Goodfellow et al., 2014), computed from logits.

The model is a :class:`~ancestral.models.implicit.AdversarialPair`, or any module with a
``generator`` and a ``critic`` whose output [n] or [n, 1] is the logit of D(x), the probability that
x is a data sample.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ancestral.data.batch import Batch
from ancestral.models.implicit import AdversarialPair
from ancestral.models.run import GeneratorRun
from ancestral.nn.numerics import at_least_float32
from ancestral.objectives.base import Objective


def critic_loss(smoothing: float = 0.0) -> Objective:
    """Loss of the critic, -E_data[log D(x)] - E_model[log(1 - D(x))].

    At the optimal critic it equals log 4 - 2 JSD(data, model).

    Parameters
    ----------
    smoothing : float
        One-sided label smoothing in [0, 1): the target of data samples is 1 - ``smoothing``
        (Salimans et al., 2016).

    Returns
    -------
    Objective
        Terms ``real`` and ``fake``. The generator receives no gradient.
    """

    def run(model: nn.Module, batch: Batch) -> GeneratorRun:
        with torch.no_grad():
            return model.generator.run(batch)  # type: ignore[operator, union-attr]

    def real(model: nn.Module, run: GeneratorRun) -> Tensor:
        logits = _critic_logits(model, run.batch.x, run)
        return (softplus(-logits) + smoothing * logits).mean()

    def fake(model: nn.Module, run: GeneratorRun) -> Tensor:
        return softplus(_critic_logits(model, run.sample, run)).mean()

    return Objective({"real": real, "fake": fake}, run)


def gradient_penalty(weight: float = 1.0) -> Objective:
    """R1 penalty: weight / 2 times the mean squared norm of the critic's gradient at the data.

    It stabilises training near the equilibrium (Mescheder, Geiger and Nowozin, 2018). Add it to
    :func:`critic_loss`.

    Parameters
    ----------
    weight : float
        Weight of the penalty, non-negative.

    Returns
    -------
    Objective
        Term ``penalty``.
    """

    def penalty(model: nn.Module, run: GeneratorRun) -> Tensor:
        x = run.batch.x.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(
                _critic_logits(model, x, run).sum(), x, create_graph=True
            )
        return weight / 2 * gradient.square().sum(-1).mean()

    return Objective({"penalty": penalty}, compilable=False)


def generator_loss(kind: Literal["non-saturating", "minimax"] = "non-saturating") -> Objective:
    """Loss of the generator, -E[log D(G(h))] or E[log(1 - D(G(h)))].

    Parameters
    ----------
    kind : {"non-saturating", "minimax"}
        The first or the second loss. For each sample their gradients are positive multiples of
        each other.

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

    def run(model: nn.Module, batch: Batch) -> GeneratorRun:
        return model.generator.run(batch)  # type: ignore[operator, union-attr]

    def fool(model: nn.Module, run: GeneratorRun) -> Tensor:
        logits = _critic_logits(model, run.sample, run)
        return softplus(-logits).mean() if kind == "non-saturating" else -softplus(logits).mean()

    return Objective({"fool": fool}, run)


def _critic_logits(model: nn.Module, x: Tensor, run: GeneratorRun) -> Tensor:
    """Return the critic's logits of x; a conditional critic also receives the conditions."""
    if isinstance(model, AdversarialPair):
        return at_least_float32(model.critic_logits(x, run.batch))
    return at_least_float32(model.critic(x))  # type: ignore[operator]
