"""Held-out rows: the terms on them after each epoch, and when to stop for their sake."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ancestral import engine
from ancestral.data import Data
from ancestral.networks import batch_statistics
from ancestral.train.players import History, Watch
from ancestral.train.state import Means, Training


@torch.no_grad()
def held_out(training: Training, data: Data, batch_size: int) -> dict[str, float]:
    """Evaluate every term on held-out rows, with the parameters to evaluate with."""
    means, n_batches = Means(), -(-len(data) // batch_size)
    with training.averaged():
        for number, index in enumerate(data.spread(n_batches)):
            engine.seed(training.random_state, 0, number)
            batch = data.take(index)
            for seat in training.seats:
                means.add(seat.name, seat.evaluate(batch), len(index))
    taken = means.take()
    named = [pair for seat in training.seats for pair in seat.named(taken[seat.name])]
    return {f"validation.{k}": v for k, v in named}


@torch.no_grad()
def watched(
    training: Training, watch: Watch, max_epochs: int, data: Data | None
) -> dict[str, float]:
    """Return what is seen of the model as it would be used, by the same noise after every epoch.

    Batch normalisation has no statistics to evaluate with yet, and uses those of the rows at hand.
    """
    training.model.eval()
    progress = training.progress("epoch", len(training.history) + 1, max_epochs)
    with training.averaged(), batch_statistics(training.model), training.products():
        engine.seed(training.random_state, 0)
        return {f"validation.{k}": v for k, v in watch(progress, data).items()}


@dataclass(frozen=True)
class Outlook:
    """What is looked at after every epoch, and whether that is a reason to stop.

    Parameters
    ----------
    data : Data, optional
        Held-out rows.
    watch : callable, optional
        Looks at the model.
    patience : int, optional
        Epochs to wait for better.
    criterion : str
        What is to be lower: a term, or what ``watch`` returns.

    Raises
    ------
    ValueError
        If ``patience`` has no held-out rows to look at.
    """

    data: Data | None
    watch: Watch | None
    patience: int | None
    criterion: str

    def __post_init__(self) -> None:
        if self.patience is not None and self.data is None:
            raise ValueError(
                f"patience={self.patience} needs held-out rows to look at: give validation"
            )

    def end_epoch(self, training: Training, max_epochs: int, batch_size: int) -> None:
        """Record an epoch, and keep its parameters if none so far did better."""
        record = training.take_means()
        if self.data is not None:
            record |= held_out(training, self.data, batch_size)
        if self.watch is not None:
            record |= watched(training, self.watch, max_epochs, self.data)
        training.record(record)
        if self.patience and epochs_since_best(training.history, self.criterion) == 0:
            training.remember_best()

    def is_over(self, history: History) -> bool:
        """Whether patience has run out."""
        if self.patience is None or not history:
            return False
        return epochs_since_best(history, self.criterion) >= self.patience


def epochs_since_best(history: History, criterion: str = "loss") -> int:
    """Epochs since what counts on held-out rows was lowest; of equals, the first.

    The loss of several players is the sum of theirs.

    >>> epochs_since_best(History({"validation.loss": v} for v in (3.0, 1.0, 2.0, 1.0)))
    2
    """
    name = f".{criterion}"
    values = [
        sum(v for k, v in record.items() if k.startswith("validation.") and k.endswith(name))
        for record in history
    ]
    return len(values) - 1 - values.index(min(values))
