"""Evaluation on held-out data after each epoch, and early stopping."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ancestral.data.device_data import Data
from ancestral.nn import batch_statistics
from ancestral.training import engine
from ancestral.training.player import History, Watch
from ancestral.training.state import Means, Training


@torch.no_grad()
def held_out(training: Training, data: Data, batch_size: int) -> dict[str, float]:
    """Return the mean of every term on held-out data, with the evaluation parameters."""
    means, n_batches = Means(), -(-len(data) // batch_size)
    with training.averaged():
        for i, index in enumerate(data.spread(n_batches)):
            engine.seed(training.random_state, 0, i)
            batch = data.take(index)
            for seat in training.seats:
                means.add(seat.name, seat.evaluate(batch), len(index))
    values = means.take()
    named_values = [pair for seat in training.seats for pair in seat.named(values[seat.name])]
    return {f"validation.{k}": v for k, v in named_values}


@torch.no_grad()
def watched(
    training: Training, watch: Watch, max_epochs: int, data: Data | None
) -> dict[str, float]:
    """Return user-defined metrics of the model in evaluation mode, with fixed random numbers.

    Batch normalisation uses batch statistics, because running statistics do not exist before
    calibration.
    """
    training.model.eval()
    progress = training.progress("epoch", len(training.history) + 1, max_epochs)
    with training.averaged(), batch_statistics(training.model), training.products():
        engine.seed(training.random_state, 0)
        return {f"validation.{k}": v for k, v in watch(progress, data).items()}


@dataclass(frozen=True)
class Outlook:
    """Validation after every epoch and the early-stopping criterion.

    Parameters
    ----------
    data : Data or None
        Held-out set.
    watch : callable or None
        User-defined metrics; see :func:`ancestral.training.train`.
    patience : int or None
        Number of epochs without improvement after which training stops.
    criterion : str
        Monitored quantity, lower is better: a term or a key returned by ``watch``.

    Raises
    ------
    ValueError
        If ``patience`` is given without a held-out set.
    """

    data: Data | None
    watch: Watch | None
    patience: int | None
    criterion: str

    def __post_init__(self) -> None:
        if self.patience is not None and self.data is None:
            raise ValueError(
                f"patience={self.patience} requires a held-out set: expected validation data"
            )

    def end_epoch(self, training: Training, max_epochs: int, batch_size: int) -> None:
        """Record an epoch, and store its parameters if it is the best so far."""
        record = training.take_means()
        if self.data is not None:
            record |= held_out(training, self.data, batch_size)
        if self.watch is not None:
            record |= watched(training, self.watch, max_epochs, self.data)
        training.record(record)
        if self.patience and epochs_since_best(training.history, self.criterion) == 0:
            training.remember_best()

    def is_over(self, history: History) -> bool:
        """Whether the criterion has not improved for ``patience`` epochs."""
        if self.patience is None or not history:
            return False
        return epochs_since_best(history, self.criterion) >= self.patience


def epochs_since_best(history: History, criterion: str = "loss") -> int:
    """Return the number of epochs since the first minimum of a held-out quantity.

    With several players the quantity is summed over players.

    >>> epochs_since_best(History({"validation.loss": v} for v in (3.0, 1.0, 2.0, 1.0)))
    2
    """
    name = f".{criterion}"
    values = [
        sum(v for k, v in record.items() if k.startswith("validation.") and k.endswith(name))
        for record in history
    ]
    return len(values) - 1 - values.index(min(values))
