"""Players, the training history and the progress passed to callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn

from ancestral.data.device_data import DeviceData
from ancestral.objectives.base import Objective
from ancestral.training.optim import Optimizer, adam


@dataclass
class Player:
    """Parameters with an objective, an optimiser and an update frequency.

    Parameters
    ----------
    params : Module or iterable of Parameter
        Parameters that this player updates; those of different players are disjoint.
    objective : Objective
        Objective to minimise.
    optimizer : Optimizer
        Optimiser of the parameters; by default Adam with rate 1e-3.
    every : int
        Period of the updates, in steps.
    repeat : int
        Number of updates in each of these steps.
    """

    params: nn.Module | Iterable[nn.Parameter]
    objective: Objective
    optimizer: Optimizer = field(default_factory=adam)
    every: int = 1
    repeat: int = 1


class History(list[dict[str, float]]):
    """Records of the epochs: ``epoch``, ``step``, ``seconds`` and the mean of every term.

    Examples
    --------
    >>> History([{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.0}]).curve("loss")
    [3.0, 2.0]
    """

    def curve(self, name: str) -> list[float]:
        """Return the values of one quantity in the order of the epochs."""
        return [record[name] for record in self if name in record]


@dataclass(frozen=True)
class Progress:
    """State of training passed to callbacks.

    Attributes
    ----------
    event : str
        ``start``, ``step``, ``epoch`` or ``end``.
    epoch, n_epochs : int
        Number of completed epochs and their maximal number.
    step, n_steps : int
        Number of completed steps and their maximal number.
    model : Module
        Model that is trained.
    history : History
        Records of the completed epochs.
    """

    event: str
    epoch: int
    n_epochs: int
    step: int
    n_steps: int
    model: nn.Module
    history: History


Callback = Callable[[Progress], None]

EpochMetrics = Callable[[Progress, DeviceData | None], Mapping[str, float]]
"""(progress, held-out set or None) -> metrics by name, computed after each epoch on the model in
evaluation mode with its evaluation parameters."""
