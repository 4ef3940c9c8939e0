"""What an optimiser is: a few plain functions on one flat vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Size, Tensor

State = dict[str, Tensor]
Rates = Sequence[float | Tensor]
Shapes = Sequence[Size]


def itself(flat: Tensor, _: State) -> Tensor:
    """Return the vector as it is."""
    return flat


@dataclass(frozen=True)
class Optimizer:
    """What to keep beside a flat vector of parameters, and how to move it.

    What differs from step to step (learning rates, bias corrections) is computed outside as plain
    numbers, so that one compiled graph serves all steps.

    Attributes
    ----------
    init : callable
        (flat, shapes of the parameters that lie in it) -> state, a dictionary of tensors.
    rates : callable
        (step, n_steps) -> the numbers that ``update`` needs at this step, counted from zero.
    update : callable
        (flat, gradient, state, rates) -> None; changes ``flat`` and ``state`` in place. The rates
        arrive as numbers or as scalar tensors.
    result : callable
        (flat, state) -> the vector to evaluate with; the current one unless weights are averaged.
    """

    init: Callable[[Tensor, Shapes], State]
    rates: Callable[[int, int], tuple[float, ...]]
    update: Callable[[Tensor, Tensor, State, Rates], None]
    result: Callable[[Tensor, State], Tensor] = itself
