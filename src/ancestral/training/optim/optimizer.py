"""Optimisers on flat parameter vectors: the interface and the update rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Size, Tensor

from ancestral.training.optim.schedules import Schedule, as_schedule

State = dict[str, Tensor]

Rates = Sequence[float | Tensor]

Shapes = Sequence[Size]


def identity(flat: Tensor, _: State) -> Tensor:
    """Return the vector unchanged."""
    return flat


@dataclass(frozen=True)
class Optimizer:
    """Optimiser of a flat parameter vector, as functions (compare optax's transformations).

    Scalars that change from step to step (learning rates, bias corrections) are computed outside
    ``update`` and passed in, so that one compiled graph serves all steps.

    Attributes
    ----------
    init : callable
        (flat, shapes of the parameters in it) -> state, a dictionary of tensors.
    rates : callable
        (step, n_steps) -> scalars that ``update`` needs at this step; steps count from zero.
    update : callable
        (flat, gradient, state, rates) -> None; changes ``flat`` and ``state`` in place. The rates
        are numbers or scalar tensors.
    evaluation_vector : callable
        (flat, state) -> parameter vector for evaluation; ``flat`` itself unless weights are
        averaged.
    """

    init: Callable[[Tensor, Shapes], State]
    rates: Callable[[int, int], tuple[float, ...]]
    update: Callable[[Tensor, Tensor, State, Rates], None]
    evaluation_vector: Callable[[Tensor, State], Tensor] = identity


def adam(
    rate: float | Schedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """Adam (Kingma and Ba, 2015), with bias correction and ``eps`` outside the square root.

    Parameters
    ----------
    rate : float or Schedule
        Learning rate.
    betas : (float, float)
        Decay rates of the two moments, in [0, 1).
    eps : float
        Constant added to the square root of the second moment.

    Examples
    --------
    >>> x = torch.tensor([1.0]); optimizer = adam(0.1); state = optimizer.init(x, [x.shape])
    >>> optimizer.update(x, torch.tensor([5.0]), state, optimizer.rates(0, 1)); x
    tensor([0.9000])
    """
    schedule, (b1, b2) = as_schedule(rate), betas

    def init(flat: Tensor, _: Shapes) -> State:
        return {"m": torch.zeros_like(flat), "v": torch.zeros_like(flat)}

    def rates(step: int, n_steps: int) -> tuple[float, ...]:
        step_size = schedule(step, n_steps) / (1 - b1 ** (step + 1))
        return step_size, (1 - b2 ** (step + 1)) ** -0.5

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        m, v = state["m"], state["v"]
        m.lerp_(gradient, 1 - b1)
        v.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        root = v.sqrt().mul_(rates[1]).add_(eps)
        flat.addcdiv_(m * -rates[0], root)

    return Optimizer(init, rates, update)


def iwae_adam(
    rate: float | Schedule = 1e-3,
    betas: tuple[float, float] = (0.99, 0.999),
    eps: float = 1e-4,
) -> Optimizer:
    """Adam as implemented in the IWAE authors' code (Burda et al., 2016).

    A step uses the moments before the current gradient is added, and the second moment is
    initialised at one: the first step is zero and the first thousand steps are small.

    Parameters
    ----------
    rate, betas, eps
        As in :func:`adam`; the defaults are those of the authors' code.

    Examples
    --------
    >>> x = torch.tensor([1.0]); optimizer = iwae_adam(0.1); state = optimizer.init(x, [x.shape])
    >>> optimizer.update(x, torch.tensor([5.0]), state, optimizer.rates(0, 1)); x
    tensor([1.])
    """
    schedule, (b1, b2) = as_schedule(rate), betas

    def init(flat: Tensor, _: Shapes) -> State:
        return {"m": torch.zeros_like(flat), "v": torch.ones_like(flat)}

    def rates(step: int, n_steps: int) -> tuple[float, ...]:
        correction = math.sqrt(1 - b2 ** (step + 1)) / (1 - b1 ** (step + 1))
        return (schedule(step, n_steps) * correction,)

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        m, v = state["m"], state["v"]
        flat.addcdiv_(m * -rates[0], v.sqrt().add_(eps))
        m.lerp_(gradient, 1 - b1)
        v.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)

    return Optimizer(init, rates, update)


def adagrad(
    rate: float | Schedule = 0.01, initial_accumulator_value: float = 0.0, eps: float = 1e-10
) -> Optimizer:
    """AdaGrad (Duchi, Hazan and Singer, 2011): step = -rate gradient / sqrt(sum of squares).

    Parameters
    ----------
    rate : float or Schedule
        Learning rate.
    initial_accumulator_value : float
        Initial value of the sum of squared gradients.
    eps : float
        Constant added to the square root.

    Examples
    --------
    >>> x = torch.tensor([1.0]); optimizer = adagrad(0.1); state = optimizer.init(x, [x.shape])
    >>> optimizer.update(x, torch.tensor([5.0]), state, optimizer.rates(0, 1)); x
    tensor([0.9000])
    """
    schedule = as_schedule(rate)

    def init(flat: Tensor, _: Shapes) -> State:
        return {"sum": torch.full_like(flat, initial_accumulator_value)}

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        state["sum"].addcmul_(gradient, gradient)
        flat.addcdiv_(gradient * -rates[0], state["sum"].sqrt().add_(eps))

    return Optimizer(init, lambda step, n_steps: (schedule(step, n_steps),), update)


def sgd(rate: float | Schedule, momentum: float | Schedule = 0.0) -> Optimizer:
    """SGD with momentum: velocity = momentum velocity + gradient, step = -rate velocity.

    Parameters
    ----------
    rate : float or Schedule
        Learning rate.
    momentum : float or Schedule
        Momentum coefficient in [0, 1). The GAN and moment-matching papers schedule both.
    """
    schedule, momentum_schedule = as_schedule(rate), as_schedule(momentum)

    def init(flat: Tensor, _: Shapes) -> State:
        return {"velocity": torch.zeros_like(flat)} if momentum else {}

    def rates(step: int, n_steps: int) -> tuple[float, ...]:
        return schedule(step, n_steps), momentum_schedule(step, n_steps)

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        if momentum:
            gradient = state["velocity"].mul_(rates[1]).add_(gradient)
        flat.sub_(gradient * rates[0])

    return Optimizer(init, rates, update)


def sgld(rate: float | Schedule, n_rows: int) -> Optimizer:
    """Stochastic gradient Langevin dynamics (Welling and Teh, 2011), a posterior sampler.

    theta <- theta - rate/2 N gradient + N(0, rate), where the gradient is that of the negative log
    joint density per sample: N times the gradient estimates that of the full training set.

    Parameters
    ----------
    rate : float or Schedule
        Step size epsilon: the variance of the noise of one step.
    n_rows : int
        N, the number of training samples.

    Examples
    --------
    >>> optimizer = sgld(0.5, n_rows=1)
    >>> optimizer.rates(0, 1)
    (0.25, 0.7071067811865476)
    """
    schedule = as_schedule(rate)

    def rates(step: int, n_steps: int) -> tuple[float, ...]:
        epsilon = schedule(step, n_steps)
        return 0.5 * epsilon * n_rows, math.sqrt(epsilon)

    def update(flat: Tensor, gradient: Tensor, _: State, rates: Rates) -> None:
        flat.sub_(gradient * rates[0]).add_(torch.randn_like(flat) * rates[1])

    return Optimizer(lambda _flat, _shapes: {}, rates, update)


RULES: dict[str, Callable[..., Optimizer]] = {
    "adam": adam,
    "iwae_adam": iwae_adam,
    "adagrad": adagrad,
    "sgd": sgd,
}
"""Update rules by name; each needs only a learning rate."""
