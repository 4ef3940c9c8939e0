"""Optimisers as pairs of plain functions on one flat vector, and learning-rate schedules.

A player's parameters live side by side in one vector; an optimiser is what to keep beside it
(``init``) and how to move it (``update``, in place).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]

Schedule = Callable[[int, int], float]
"""(step, number of steps) -> learning rate; steps count from zero."""


@dataclass(frozen=True)
class Optimizer:
    """What to keep beside a flat vector of parameters, and how to move it.

    Attributes
    ----------
    init : callable
        flat -> state, a dictionary of tensors.
    update : callable
        (flat, gradient, state, step, n_steps) -> None; changes ``flat`` and ``state`` in place.
    """

    init: Callable[[Tensor], State]
    update: Callable[[Tensor, Tensor, State, int, int], None]


def constant(rate: float) -> Schedule:
    """The same rate throughout."""
    return lambda _step, _n_steps: rate


def cosine(rate: float, warmup: int = 0) -> Schedule:
    """From ``rate`` to zero along half a cosine, after a linear rise over ``warmup`` steps.

    Examples
    --------
    >>> [round(cosine(1.0)(step, 4), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """

    def at(step: int, n_steps: int) -> float:
        if step < warmup:
            return rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, n_steps - warmup)
        return rate * 0.5 * (1 + math.cos(math.pi * progress))

    return at


SCHEDULES: dict[str, Callable[[float], Schedule]] = {"constant": constant, "cosine": cosine}


def adam(
    rate: float | Schedule = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> Optimizer:
    """Adam (Kingma and Ba, 2015), with bias correction and ``eps`` outside the root.

    Parameters
    ----------
    rate : float or Schedule
        Learning rate.
    betas : (float, float)
        Decay rates of the two moments.
    eps : float
        Added to the root of the second moment.

    Examples
    --------
    >>> x = torch.tensor([1.0]); optimizer = adam(0.1); state = optimizer.init(x)
    >>> optimizer.update(x, torch.tensor([5.0]), state, 0, 1); x
    tensor([0.9000])
    """
    schedule = rate if callable(rate) else constant(rate)
    b1, b2 = betas

    def init(flat: Tensor) -> State:
        return {"m": torch.zeros_like(flat), "v": torch.zeros_like(flat)}

    def update(flat: Tensor, gradient: Tensor, state: State, step: int, n_steps: int) -> None:
        m, v = state["m"], state["v"]
        m.lerp_(gradient, 1 - b1)
        v.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        step_size = schedule(step, n_steps) / (1 - b1 ** (step + 1))
        root = v.sqrt().mul_((1 - b2 ** (step + 1)) ** -0.5).add_(eps)
        flat.addcdiv_(m, root, value=-step_size)

    return Optimizer(init, update)


def sgd(rate: float | Schedule, momentum: float = 0.0) -> Optimizer:
    """Stochastic gradient descent: velocity = momentum velocity + gradient, step -rate velocity."""
    schedule = rate if callable(rate) else constant(rate)

    def init(flat: Tensor) -> State:
        return {"velocity": torch.zeros_like(flat)} if momentum else {}

    def update(flat: Tensor, gradient: Tensor, state: State, step: int, n_steps: int) -> None:
        if momentum:
            gradient = state["velocity"].mul_(momentum).add_(gradient)
        flat.add_(gradient, alpha=-schedule(step, n_steps))

    return Optimizer(init, update)


def clipped(optimizer: Optimizer, norm: float, value: float | None = None) -> Optimizer:
    """Scale gradients down to ``norm``, then hold their entries within ``value``, then update."""

    def update(flat: Tensor, gradient: Tensor, state: State, step: int, n_steps: int) -> None:
        gradient = gradient * (norm / gradient.norm().clamp(min=norm))
        if value is not None:
            gradient = gradient.clamp(-value, value)
        optimizer.update(flat, gradient, state, step, n_steps)

    return Optimizer(optimizer.init, update)
