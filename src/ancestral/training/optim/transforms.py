"""Optimiser transformations: clipping, weight decay, per-parameter step sizes, weight averaging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Size, Tensor

from ancestral.training.optim.optimizer import Optimizer, Rates, Shapes, State
from ancestral.training.optim.schedules import Schedule, as_schedule


def clip(optimizer: Optimizer, norm: float | None = None, value: float | None = None) -> Optimizer:
    """Clip gradients by global norm, then by value, before the update.

    Parameters
    ----------
    optimizer : Optimizer
        Optimiser that receives the clipped gradients.
    norm : float, optional
        Maximal Euclidean norm of the full gradient vector.
    value : float, optional
        Maximal absolute value of each entry, applied after ``norm``.
    """

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        if norm is not None:
            gradient = gradient * (norm / gradient.norm().clamp(min=norm))
        if value is not None:
            gradient = gradient.clamp(-value, value)
        optimizer.update(flat, gradient, state, rates)

    return replace(optimizer, update=update)


def all_parameters(_: Size) -> float:
    """Factor 1 for every parameter."""
    return 1.0


def matrices_only(shape: Size) -> float:
    """Factor 1 for matrices and convolution kernels, 0 for vectors (biases, scales)."""
    return float(len(shape) > 1)


def l2_decay(
    optimizer: Optimizer, rate: float, decay_factor: Callable[[Size], float] = all_parameters
) -> Optimizer:
    """Add ``rate`` times the parameters to the gradient: L2 regularisation, or a Gaussian prior.

    The decay term passes through the update rule (including Adam's scaling), as in the max-margin
    models' code. A prior N(0, 1) on every parameter has ``rate`` = 1 / (number of training
    samples).

    Parameters
    ----------
    optimizer : Optimizer
        Optimiser that receives the regularised gradients.
    rate : float
        L2 coefficient.
    decay_factor : callable
        Shape of a parameter -> factor of its decay; see :func:`matrices_only`.
    """

    def init(flat: Tensor, shapes: Shapes) -> State:
        return optimizer.init(flat, shapes) | {
            "decay": rate * _expand_factors(decay_factor, flat, shapes)
        }

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        optimizer.update(flat, gradient + state["decay"] * flat, state, rates)

    return replace(optimizer, init=init, update=update)


def weight_decay(
    optimizer: Optimizer,
    decay: float | Schedule,
    decay_factor: Callable[[Size], float] = matrices_only,
) -> Optimizer:
    """Multiply parameters by 1 - ``decay`` before each update: decoupled weight decay.

    The decoupled weight decay of Loshchilov and Hutter (2019). In the paper it follows the
    schedule of the learning rate.

    Parameters
    ----------
    optimizer : Optimizer
        Optimiser applied after the decay.
    decay : float or Schedule
        Fraction by which parameters shrink in a step; not multiplied by the learning rate.
    decay_factor : callable
        Shape of a parameter -> factor of its decay; see :func:`matrices_only`.

    Examples
    --------
    >>> from ancestral.training.optim import sgd
    >>> optimizer = weight_decay(sgd(1.0), 0.25)
    >>> x = torch.ones(2); state = optimizer.init(x, [Size([1, 1]), Size([1])])
    >>> optimizer.update(x, torch.zeros(2), state, optimizer.rates(0, 1)); x
    tensor([0.7500, 1.0000])
    """
    schedule = as_schedule(decay)

    def init(flat: Tensor, shapes: Shapes) -> State:
        return optimizer.init(flat, shapes) | {
            "shrinks": _expand_factors(decay_factor, flat, shapes)
        }

    def rates(step: int, n_steps: int) -> tuple[float, ...]:
        return *optimizer.rates(step, n_steps), schedule(step, n_steps)

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        flat.sub_(flat * state["shrinks"] * rates[-1])
        optimizer.update(flat, gradient, state, rates[:-1])

    return replace(optimizer, init=init, rates=rates, update=update)


def scale_per_parameter(optimizer: Optimizer, factor: Callable[[Size], float]) -> Optimizer:
    """Scale the steps of each parameter by a factor, for example biases at twice the rate.

    Parameters
    ----------
    optimizer : Optimizer
        Optimiser whose steps are multiplied by the factors.
    factor : callable
        Shape of a parameter -> factor of its steps.

    Examples
    --------
    >>> from ancestral.training.optim import sgd
    >>> optimizer = scale_per_parameter(sgd(1.0), lambda shape: 2.0 if len(shape) == 1 else 1.0)
    >>> x = torch.zeros(2); state = optimizer.init(x, [Size([1, 1]), Size([1])])
    >>> optimizer.update(x, torch.ones(2), state, optimizer.rates(0, 1)); x
    tensor([-1., -2.])
    """

    def init(flat: Tensor, shapes: Shapes) -> State:
        return optimizer.init(flat, shapes) | {"factor": _expand_factors(factor, flat, shapes)}

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        previous = flat.clone()
        optimizer.update(flat, gradient, state, rates)
        flat.copy_(previous + state["factor"] * (flat - previous))

    return replace(optimizer, init=init, update=update)


def ema(optimizer: Optimizer, decay: float = 0.999) -> Optimizer:
    """Exponential moving average of the parameters, for evaluation only.

    The averages do not influence training itself.

    Parameters
    ----------
    optimizer : Optimizer
        Optimiser that updates the parameters.
    decay : float
        Decay rate of the average, in [0, 1). At early steps the rate is (1 + step) / (10 + step) if
        that is smaller, which reduces the weight of the initial parameters.

    Examples
    --------
    >>> from ancestral.training.optim import sgd
    >>> optimizer = ema(sgd(1.0), 0.5)
    >>> x = torch.zeros(1); state = optimizer.init(x, [x.shape])
    >>> optimizer.update(x, torch.ones(1), state, optimizer.rates(100, 101))
    >>> x, optimizer.evaluation_vector(x, state)
    (tensor([-1.]), tensor([-0.5000]))
    """

    def init(flat: Tensor, shapes: Shapes) -> State:
        return optimizer.init(flat, shapes) | {"average": flat.clone()}

    def rates(step: int, n_steps: int) -> tuple[float, ...]:
        return *optimizer.rates(step, n_steps), 1 - min(decay, (1 + step) / (10 + step))

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        optimizer.update(flat, gradient, state, rates[:-1])
        average = state["average"]
        average.add_((flat - average) * rates[-1])

    return Optimizer(init, rates, update, lambda _, state: state["average"])


def _expand_factors(factor: Callable[[Size], float], flat: Tensor, shapes: Shapes) -> Tensor:
    """Return the factor of each parameter, repeated to the layout of the flat vector, [n]."""
    return torch.cat([flat.new_full((shape.numel(),), factor(shape)) for shape in shapes])
