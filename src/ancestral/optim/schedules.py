"""Learning rates as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[int, int], float]
"""(step, number of steps) -> learning rate; steps count from zero."""


def constant(rate: float) -> Schedule:
    """The same rate throughout."""
    return lambda _step, _n_steps: rate


def cosine(rate: float) -> Schedule:
    """From ``rate`` to zero along half a cosine.

    Examples
    --------
    >>> [round(cosine(1.0)(step, 4), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    return lambda step, n_steps: rate * 0.5 * (1 + math.cos(math.pi * step / max(1, n_steps)))


def inverse(scale: float) -> Schedule:
    """1 / (scale t) at step t = 1, 2, ...: Pegasos, whose objective is curved by ``scale``.

    Shalev-Shwartz, Singer, Srebro and Cotter (2011).

    >>> inverse(0.5)(3, 10)
    0.5
    """
    return lambda step, _n_steps: 1 / (scale * (step + 1))


def stages(rate: float = 1e-3, n_stages: int = 8) -> Schedule:
    """``rate`` 10^(-i/7) for a share 3^i of training, i = 0 .. 7 (Burda et al., 2016, section 5).

    Over 3,280 epochs these are the paper's 1, 3, 9, ... 2187 epochs.

    Examples
    --------
    >>> [round(stages()(epoch, 3280), 6) for epoch in (0, 1, 4, 3279)]
    [0.001, 0.00072, 0.000518, 0.0001]
    """
    ends = [(3 ** (i + 1) - 1) / (3**n_stages - 1) for i in range(n_stages)]

    def at(step: int, n_steps: int) -> float:
        stage = sum(step >= end * n_steps - 1e-9 for end in ends[:-1])
        return float(rate * 10 ** (-stage / (n_stages - 1)))

    return at


def late(rate: float, start: float = 1 / 3, last: float = 0.998**2000) -> Schedule:
    """``rate`` up to ``start`` of the way, then by equal factors down to ``last`` times as much.

    Over 3,000 epochs these are the memory networks' 0.998 an epoch from epoch 1,000 on.

    Examples
    --------
    >>> [round(late(1.0)(epoch, 3000), 4) for epoch in (0, 1000, 1001, 3000)]
    [1.0, 1.0, 0.998, 0.0182]
    """

    def at(step: int, n_steps: int) -> float:
        progress = step / max(1, n_steps)
        return float(rate * last ** max(0.0, (progress - start) / (1 - start)))

    return at


def dropped(schedule: Schedule, at: Sequence[float], by: float = 3.0) -> Schedule:
    """``schedule``, divided by ``by`` once more after each of some shares of training.

    Examples
    --------
    >>> [round(dropped(constant(1.0), [0.5, 0.75])(step, 8), 3) for step in range(8)]
    [1.0, 1.0, 1.0, 1.0, 0.333, 0.333, 0.111, 0.111]
    """

    def rate(step: int, n_steps: int) -> float:
        return float(schedule(step, n_steps) / by ** _passed(at, step, n_steps))

    return rate


def in_turn(values: Sequence[float], at: Sequence[float]) -> Schedule:
    """The first value, and the next after each of some shares of training.

    Examples
    --------
    >>> [in_turn([0.9, 0.99], [0.5])(step, 4) for step in range(4)]
    [0.9, 0.9, 0.99, 0.99]
    """
    if len(values) != len(at) + 1:
        raise ValueError(
            f"values={tuple(values)}: expected {len(at) + 1}, one before and after each of {at=}"
        )
    return lambda step, n_steps: values[_passed(at, step, n_steps)]


def _passed(at: Sequence[float], step: int, n_steps: int) -> int:
    """How many of some shares of training are over."""
    return sum(step >= share * n_steps - 1e-9 for share in at)


def warmed_up(schedule: Schedule, n_steps: int) -> Schedule:
    """``schedule``, after a linear rise over its first ``n_steps`` steps, which come on top.

    Examples
    --------
    >>> [warmed_up(constant(1.0), 4)(step, 100) for step in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    rise = n_steps

    def at(step: int, n_steps: int) -> float:
        if step < rise:
            return schedule(0, n_steps - rise) * (step + 1) / rise
        return schedule(step - rise, n_steps - rise)

    return at


SCHEDULES: dict[str, Callable[[float], Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "late": late,
    "stages": stages,
}


def as_schedule(rate: float | Schedule) -> Schedule:
    """Take a number for a constant rate."""
    return rate if callable(rate) else constant(rate)
