"""Optimiser interface: functions on one flat parameter vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Size, Tensor

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
