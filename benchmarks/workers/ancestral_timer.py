"""What listens to ancestral's training for the workers that use it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np
import torch
from common import BATCH, Clock, Enough, Task
from torch import nn

from ancestral import Batch, DeviceData, Objective, Player
from ancestral.training import Progress, train


class Timer:
    """A callback that tells the clock of every step, and evaluates a loss when it asks for one.

    Parameters
    ----------
    task : Task
        What is measured.
    objective : Objective
        Whose terms are summed for the loss.
    unit : float
        What the stored number one stands for.
    """

    def __init__(self, task: Task, objective: Objective, unit: float = 1.0) -> None:
        self.objective, self.unit = objective, unit
        self.clock: Clock = task.clock(self.loss_of)

    def __call__(self, progress: Progress) -> None:
        """Follow training."""
        self.model = progress.model
        if progress.event == "start":
            self.clock.start()
        elif progress.event == "step":
            self.clock.tick_or_stop()

    @torch.no_grad()
    def loss_of(self, part: np.ndarray) -> float:
        """Return the mean loss of rows, in nats."""
        x = torch.from_numpy(part).float() * self.unit
        return sum(term.item() for term in self.objective(self.model, Batch(x)).values())


def measure(
    task: Task, model: nn.Module, players: Player | Mapping[str, Player], timer: Timer
) -> Clock:
    """Train a model by ``ancestral.training.train`` until the clock has seen enough."""
    data = DeviceData(task.rows, unit=timer.unit)
    with contextlib.suppress(Enough):
        train(
            model,
            players,
            data,
            max_epochs=1_000_000,
            batch_size=BATCH,
            random_state=task.seed,
            callbacks=[timer],
        )
    return timer.clock
