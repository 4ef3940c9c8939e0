"""What goes around an update rule: clipping, decay, learning-rate factors, weight averaging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Size, Tensor

from ancestral.optim.base import Optimizer, Rates, Shapes, State
from ancestral.optim.schedules import Schedule, as_schedule


def clipped(
    optimizer: Optimizer, norm: float | None = None, value: float | None = None
) -> Optimizer:
    """Scale gradients down to ``norm``, then hold their entries within ``value``, then update.

    Parameters
    ----------
    optimizer : Optimizer
        What updates.
    norm : float, optional
        Greatest Euclidean length of the whole gradient.
    value : float, optional
        Greatest absolute value of an entry, after that.
    """

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        if norm is not None:
            gradient = gradient * (norm / gradient.norm().clamp(min=norm))
        if value is not None:
            gradient = gradient.clamp(-value, value)
        optimizer.update(flat, gradient, state, rates)

    return replace(optimizer, update=update)


def everything(_: Size) -> float:
    """One, for every parameter."""
    return 1.0


def weights_only(shape: Size) -> float:
    """One for matrices and kernels, zero for vectors: biases, scales."""
    return float(len(shape) > 1)


def decayed(
    optimizer: Optimizer, rate: float, on: Callable[[Size], float] = everything
) -> Optimizer:
    """Add ``rate`` times the parameters to their gradient: the log-density of a Gaussian prior.

    The decay goes through the update rule, Adam's scaling too, as in the max-margin models' code;
    a prior N(0, 1) on everything is ``rate`` = 1 / (number of training rows).

    Parameters
    ----------
    optimizer : Optimizer
        What updates.
    rate : float
        Of decay.
    on : callable
        Shape of a parameter -> factor of its decay; see :func:`weights_only`.
    """

    def init(flat: Tensor, shapes: Shapes) -> State:
        return optimizer.init(flat, shapes) | {"decay": rate * _spread(on, flat, shapes)}

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        optimizer.update(flat, gradient + state["decay"] * flat, state, rates)

    return replace(optimizer, init=init, update=update)


def shrunk(
    optimizer: Optimizer,
    decay: float | Schedule,
    on: Callable[[Size], float] = weights_only,
) -> Optimizer:
    """Shrink parameters by a share ``decay`` of themselves before every update, beside its rule.

    The decoupled weight decay of Loshchilov and Hutter (2019), who let it follow the learning
    rate's schedule.

    Parameters
    ----------
    optimizer : Optimizer
        What updates.
    decay : float or Schedule
        Share taken off in a step.
    on : callable
        Shape of a parameter -> factor of its decay; see :func:`weights_only`.

    Examples
    --------
    >>> from ancestral.optim import sgd
    >>> optimizer = shrunk(sgd(1.0), 0.25)
    >>> x = torch.ones(2); state = optimizer.init(x, [Size([1, 1]), Size([1])])
    >>> optimizer.update(x, torch.zeros(2), state, optimizer.rates(0, 1)); x
    tensor([0.7500, 1.0000])
    """
    schedule = as_schedule(decay)

    def init(flat: Tensor, shapes: Shapes) -> State:
        return optimizer.init(flat, shapes) | {"shrinks": _spread(on, flat, shapes)}

    def rates(step: int, n_steps: int) -> tuple[float, ...]:
        return *optimizer.rates(step, n_steps), schedule(step, n_steps)

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        flat.sub_(flat * state["shrinks"] * rates[-1])
        optimizer.update(flat, gradient, state, rates[:-1])

    return replace(optimizer, init=init, rates=rates, update=update)


def scaled(optimizer: Optimizer, factor: Callable[[Size], float]) -> Optimizer:
    """Multiply every parameter's steps by a factor of its own: biases at twice the rate, say.

    Parameters
    ----------
    optimizer : Optimizer
        What updates.
    factor : callable
        Shape of a parameter -> factor.

    Examples
    --------
    >>> from ancestral.optim import sgd
    >>> optimizer = scaled(sgd(1.0), lambda shape: 2.0 if len(shape) == 1 else 1.0)
    >>> x = torch.zeros(2); state = optimizer.init(x, [Size([1, 1]), Size([1])])
    >>> optimizer.update(x, torch.ones(2), state, optimizer.rates(0, 1)); x
    tensor([-1., -2.])
    """

    def init(flat: Tensor, shapes: Shapes) -> State:
        return optimizer.init(flat, shapes) | {"factor": _spread(factor, flat, shapes)}

    def update(flat: Tensor, gradient: Tensor, state: State, rates: Rates) -> None:
        before = flat.clone()
        optimizer.update(flat, gradient, state, rates)
        flat.copy_(before + state["factor"] * (flat - before))

    return replace(optimizer, init=init, update=update)


def averaged(optimizer: Optimizer, decay: float = 0.999) -> Optimizer:
    """Evaluate with an exponential moving average of the parameters; training goes on unaveraged.

    Parameters
    ----------
    optimizer : Optimizer
        What updates.
    decay : float
        Of the average. Early on it is (1 + step) / (10 + step), so that the start is forgotten.

    Examples
    --------
    >>> from ancestral.optim import sgd
    >>> optimizer = averaged(sgd(1.0), 0.5)
    >>> x = torch.zeros(1); state = optimizer.init(x, [x.shape])
    >>> optimizer.update(x, torch.ones(1), state, optimizer.rates(100, 101))
    >>> x, optimizer.result(x, state)
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


def _spread(factor: Callable[[Size], float], flat: Tensor, shapes: Shapes) -> Tensor:
    """One factor a parameter, as a vector beside the flat one."""
    return torch.cat([flat.new_full((shape.numel(),), factor(shape)) for shape in shapes])
