"""Learning-rate schedules: functions of the step and the number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[int, int], float]
"""(step, n_steps) -> learning rate; steps count from zero."""


def constant(rate: float) -> Schedule:
    """Constant rate."""
    return lambda _step, _n_steps: rate


def cosine(rate: float) -> Schedule:
    """Cosine annealing from ``rate`` to zero.

    Examples
    --------
    >>> [round(cosine(1.0)(step, 4), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    return lambda step, n_steps: rate * 0.5 * (1 + math.cos(math.pi * step / max(1, n_steps)))


def inverse(scale: float) -> Schedule:
    """Rate 1 / (scale t) at step t = 1, 2, ..., for an objective of strong convexity ``scale``.

    The schedule of Pegasos (Shalev-Shwartz, Singer, Srebro and Cotter, 2011).

    >>> inverse(0.5)(3, 10)
    0.5
    """
    return lambda step, _n_steps: 1 / (scale * (step + 1))


def iwae_stages(rate: float = 1e-3, n_stages: int = 8) -> Schedule:
    """Stages of length proportional to 3^i at ``rate`` 10^(-i/7), i = 0 .. 7.

    The schedule of IWAE (Burda et al., 2016, section 5). Over 3,280 epochs the stages take the
    paper's 1, 3, 9, ... 2187 epochs. For other ``n_stages`` the final rate remains 0.1 ``rate``.

    Examples
    --------
    >>> [round(iwae_stages()(epoch, 3280), 6) for epoch in (0, 1, 4, 3279)]
    [0.001, 0.00072, 0.000518, 0.0001]
    """
    ends = [(3 ** (i + 1) - 1) / (3**n_stages - 1) for i in range(n_stages)]

    def rate_at(step: int, n_steps: int) -> float:
        stage = sum(step >= end * n_steps - 1e-9 for end in ends[:-1])
        return float(rate * 10 ** (-stage / (n_stages - 1)))

    return rate_at


def delayed_exponential(
    rate: float, start: float = 1 / 3, final_ratio: float = 0.998**2000
) -> Schedule:
    """Constant ``rate``, then exponential decay to ``final_ratio`` times ``rate``.

    With the defaults and 3,000 epochs the rate is multiplied by 0.998 per epoch from epoch 1,000
    on, as in the paper on generative models with memory.

    Parameters
    ----------
    rate : float
        Initial learning rate.
    start : float
        Fraction of training after which the decay begins, in [0, 1).
    final_ratio : float
        Ratio of the final rate to the initial one.

    Examples
    --------
    >>> [round(delayed_exponential(1.0)(epoch, 3000), 4) for epoch in (0, 1000, 1001, 3000)]
    [1.0, 1.0, 0.998, 0.0182]
    """

    def rate_at(step: int, n_steps: int) -> float:
        progress = step / max(1, n_steps)
        return float(rate * final_ratio ** max(0.0, (progress - start) / (1 - start)))

    return rate_at


def step_decay(schedule: Schedule, milestones: Sequence[float], factor: float = 3.0) -> Schedule:
    """Step decay: divide ``schedule`` by ``factor`` at each milestone.

    Parameters
    ----------
    schedule : Schedule
        Schedule to divide.
    milestones : sequence of float
        Milestones as fractions of training, in [0, 1].
    factor : float
        Divisor applied once per milestone.

    Examples
    --------
    >>> [round(step_decay(constant(1.0), [0.5, 0.75])(step, 8), 3) for step in range(8)]
    [1.0, 1.0, 1.0, 1.0, 0.333, 0.333, 0.111, 0.111]
    """

    def rate_at(step: int, n_steps: int) -> float:
        return float(
            schedule(step, n_steps) / factor ** _n_milestones_reached(milestones, step, n_steps)
        )

    return rate_at


def piecewise_constant(values: Sequence[float], milestones: Sequence[float]) -> Schedule:
    """Piecewise constant schedule.

    Parameters
    ----------
    values : sequence of float
        Values before the first milestone and after each, [len(milestones) + 1].
    milestones : sequence of float
        Milestones as fractions of training, in [0, 1].

    Raises
    ------
    ValueError
        If the number of values is not the number of milestones plus one.

    Examples
    --------
    >>> [piecewise_constant([0.9, 0.99], [0.5])(step, 4) for step in range(4)]
    [0.9, 0.9, 0.99, 0.99]
    """
    n_values = len(milestones) + 1
    if len(values) != n_values:
        raise ValueError(
            f"values={tuple(values)}: expected {n_values} values, one more than the number of "
            "milestones"
        )
    return lambda step, n_steps: values[_n_milestones_reached(milestones, step, n_steps)]


def _n_milestones_reached(milestones: Sequence[float], step: int, n_steps: int) -> int:
    """Return the number of milestones reached at ``step``."""
    return sum(step >= share * n_steps - 1e-9 for share in milestones)


def with_warmup(schedule: Schedule, n_steps: int) -> Schedule:
    """Linear warm-up over ``n_steps`` steps, followed by ``schedule`` over the remaining steps.

    Examples
    --------
    >>> [with_warmup(constant(1.0), 4)(step, 100) for step in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    n_warmup = n_steps

    def rate_at(step: int, n_steps: int) -> float:
        if step < n_warmup:
            return schedule(0, n_steps - n_warmup) * (step + 1) / n_warmup
        return schedule(step - n_warmup, n_steps - n_warmup)

    return rate_at


SCHEDULES: dict[str, Callable[[float], Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "delayed_exponential": delayed_exponential,
    "iwae_stages": iwae_stages,
}


def as_schedule(rate: float | Schedule) -> Schedule:
    """Return ``rate`` as a schedule; a number becomes a constant schedule."""
    return rate if callable(rate) else constant(rate)
