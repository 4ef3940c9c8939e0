"""Timing of ancestral's training by a callback, for the workers that use it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np
import torch
from common import BATCH_SIZE, Clock, MeasurementComplete, Task
from torch import nn

from ancestral import Batch, DeviceData, Objective, Player
from ancestral.training import Progress, train


class Timer:
    """Callback that advances the clock at every step and evaluates the loss on request.

    Parameters
    ----------
    task : Task
        Measured task.
    objective : Objective
        Objective; the loss is the sum of its terms.
    unit : float
        Factor from the stored to the model's values.
    """

    def __init__(self, task: Task, objective: Objective, unit: float = 1.0) -> None:
        self.objective, self.unit = objective, unit
        self.clock: Clock = task.clock(self.loss_of)

    def __call__(self, progress: Progress) -> None:
        """Start or advance the clock."""
        self.model = progress.model
        if progress.event == "start":
            self.clock.start()
        elif progress.event == "step":
            self.clock.tick_or_stop()

    @torch.no_grad()
    def loss_of(self, rows: np.ndarray) -> float:
        """Mean loss of rows [batch, d], in nats."""
        x = torch.from_numpy(rows).float() * self.unit
        return sum(term.item() for term in self.objective(self.model, Batch(x)).values())


def measure(
    task: Task, model: nn.Module, players: Player | Mapping[str, Player], timer: Timer
) -> Clock:
    """Train a model by ``ancestral.training.train`` until the measurement is complete."""
    data = DeviceData(task.rows, unit=timer.unit)
    with contextlib.suppress(MeasurementComplete):
        train(
            model,
            players,
            data,
            max_epochs=1_000_000,
            batch_size=BATCH_SIZE,
            random_state=task.seed,
            callbacks=[timer],
        )
    return timer.clock
