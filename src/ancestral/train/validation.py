"""Held-out rows: the terms on them after each epoch, and when to stop for their sake."""

from __future__ import annotations

import torch

from ancestral import engine
from ancestral.data import Data
from ancestral.train.players import History
from ancestral.train.state import Means, Training


@torch.no_grad()
def held_out(training: Training, data: Data, batch_size: int) -> dict[str, float]:
    """Evaluate every term on held-out rows, with the parameters to evaluate with."""
    means, n_batches = Means(), -(-len(data) // batch_size)
    with training.averaged():
        for number, index in enumerate(torch.arange(len(data)).tensor_split(n_batches)):
            engine.seed(training.random_state, 0, number)
            batch = data.take(index.to(data.device))
            for seat in training.seats:
                means.add(seat.name, seat.evaluate(batch), len(index))
    taken = means.take()
    named = [pair for seat in training.seats for pair in seat.named(taken[seat.name])]
    return {f"validation.{k}": v for k, v in named}


def check_patience(patience: int | None, validation: Data | None) -> None:
    """Refuse to wait for what nobody looks at."""
    if patience is not None and validation is None:
        raise ValueError(f"patience={patience} needs held-out rows to look at: give validation")


def epochs_since_best(history: History) -> int:
    """Epochs since the held-out loss (the sum over players) was lowest; of equals, the first.

    >>> epochs_since_best(History({"validation.loss": v} for v in (3.0, 1.0, 2.0, 1.0)))
    2
    """
    losses = [
        sum(v for k, v in record.items() if k[:11] == "validation." and k.split(".")[-1] == "loss")
        for record in history
    ]
    return len(losses) - 1 - losses.index(min(losses))


def is_over(history: History, patience: int) -> bool:
    """Whether the held-out loss has not fallen for ``patience`` epochs."""
    return len(history) > 0 and epochs_since_best(history) >= patience
