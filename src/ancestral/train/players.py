"""Who learns what, and what is told of it: players, the history, the progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn

from ancestral.data import Data
from ancestral.objectives.base import Objective
from ancestral.optim import Optimizer, adam


@dataclass
class Player:
    """Who moves which parameters, by which objective and optimiser, how often.

    Parameters
    ----------
    params : Module or iterable of Parameter
        What this player moves; players move disjoint parameters.
    objective : Objective
        What it minimises.
    optimizer : Optimizer
        How.
    every : int
        It moves at every ``every``-th step only.
    repeat : int
        It moves this often in a row.
    """

    params: nn.Module | Iterable[nn.Parameter]
    objective: Objective
    optimizer: Optimizer = field(default_factory=adam)
    every: int = 1
    repeat: int = 1


class History(list[dict[str, float]]):
    """One record per epoch: ``epoch``, ``step``, ``seconds``, and the mean of every term.

    Examples
    --------
    >>> History([{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.0}]).curve("loss")
    [3.0, 2.0]
    """

    def curve(self, name: str) -> list[float]:
        """Return one column, in the order of the epochs."""
        return [record[name] for record in self if name in record]


@dataclass(frozen=True)
class Progress:
    """What a callback is told: where training stands.

    Attributes
    ----------
    event : str
        ``start``, ``step``, ``epoch`` or ``end``.
    epoch, n_epochs, step, n_steps : int
        Done so far, and in all.
    model : Module
        In training.
    history : History
        The records so far.
    """

    event: str
    epoch: int
    n_epochs: int
    step: int
    n_steps: int
    model: nn.Module
    history: History


Callback = Callable[[Progress], None]

Watch = Callable[[Progress, Data | None], Mapping[str, float]]
"""Looks after an epoch at the model as it would be used, and at held-out rows if there are any."""
