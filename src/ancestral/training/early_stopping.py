"""Evaluation on held-out data after each epoch, and early stopping."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch

from ancestral.data.device_data import DeviceData
from ancestral.nn import batch_statistics
from ancestral.training import engine
from ancestral.training.player import EpochMetrics, History
from ancestral.training.state import RunningMeans, TrainingState

LOGGER = logging.getLogger("ancestral")

MIN_EPOCHS_OF_TREND = 10
"""Smallest number of epochs of which a rise is reported."""


@torch.no_grad()
def validation_terms(
    training: TrainingState, data: DeviceData, batch_size: int
) -> dict[str, float]:
    """Return the mean of every term on held-out data, with the evaluation parameters."""
    means, n_batches = RunningMeans(), -(-len(data) // batch_size)
    with training.evaluation_parameters():
        for i, index in enumerate(data.validation_batch_indices(n_batches)):
            engine.seed(training.random_state, 0, i)
            batch = data.batch_at(index)
            for player_state in training.player_states:
                means.add(player_state.name, player_state.evaluate(batch), len(index))
    values = means.compute()
    named_values = [
        pair
        for player_state in training.player_states
        for pair in player_state.named_terms(values[player_state.name])
    ]
    return {f"validation.{k}": v for k, v in named_values}


@torch.no_grad()
def evaluate_epoch_metrics(
    training: TrainingState, epoch_metrics: EpochMetrics, max_epochs: int, data: DeviceData | None
) -> dict[str, float]:
    """Return user-defined metrics of the model in evaluation mode, with fixed random numbers.

    Batch normalisation uses batch statistics, because running statistics do not exist before
    calibration.
    """
    training.model.eval()
    progress = training.progress("epoch", len(training.history) + 1, max_epochs)
    with training.evaluation_parameters(), batch_statistics(training.model), training.autocast():
        engine.seed(training.random_state, 0)
        return {f"validation.{k}": v for k, v in epoch_metrics(progress, data).items()}


@dataclass(frozen=True)
class EarlyStopping:
    """Validation after every epoch and the early-stopping criterion.

    Parameters
    ----------
    data : Data or None
        Held-out set.
    epoch_metrics : callable or None
        User-defined metrics; see :func:`ancestral.training.train`.
    patience : int or None
        Number of epochs without improvement after which training stops.
    criterion : str
        Monitored quantity, lower is better: a term or a key returned by ``epoch_metrics``.

    Raises
    ------
    ValueError
        If ``patience`` is given without a held-out set.
    """

    data: DeviceData | None
    epoch_metrics: EpochMetrics | None
    patience: int | None
    criterion: str

    def __post_init__(self) -> None:
        if self.patience is not None and self.data is None:
            raise ValueError(
                f"patience={self.patience} requires a held-out set: expected validation data"
            )

    def end_epoch(self, training: TrainingState, max_epochs: int, batch_size: int) -> None:
        """Record an epoch, and store its parameters if it is the best so far."""
        record = training.pop_means()
        if self.data is not None:
            record |= validation_terms(training, self.data, batch_size)
        if self.epoch_metrics is not None:
            record |= evaluate_epoch_metrics(training, self.epoch_metrics, max_epochs, self.data)
        training.record(record)
        if self.patience and epochs_since_best(training.history, self.criterion) == 0:
            training.store_best()

    def should_stop(self, history: History) -> bool:
        """Whether the criterion has not improved for ``patience`` epochs."""
        if self.patience is None or not history:
            return False
        return epochs_since_best(history, self.criterion) >= self.patience


def report_rise(history: History, name: str, criterion: str, patience: int | None) -> None:
    """Log one line if the held-out loss at the end is above its minimum by more than noise.

    Noise is twice the standard deviation of the differences between consecutive epochs of the
    second half of training; the end is the mean of the last tenth of the epochs.

    Parameters
    ----------
    history : History
        Records with held-out terms.
    name : str
        Name of the estimator in the message.
    criterion : str
        Held-out quantity, lower is better.
    patience : int or None
        Patience of early stopping; with a number, the parameters are those of the best epoch.
    """
    values = np.asarray(held_out_values(history, criterion))
    if len(values) < MIN_EPOCHS_OF_TREND:
        return
    tenth = len(values) // 10
    best, end = int(values.argmin()), float(values[-tenth:].mean())
    if best >= len(values) - tenth:
        return
    if end - values[best] <= 2 * float(np.diff(values[len(values) // 2 :]).std()):
        return
    rise = f"held-out {criterion} rose from {values[best]:.4g} at epoch {best + 1} to {end:.4g}"
    if patience is None:
        LOGGER.warning("%s: %s: set patience, or max_epochs=%d", name, rise, best + 1)
    else:
        LOGGER.info("%s: %s: the model is that of epoch %d", name, rise, best + 1)


def epochs_since_best(history: History, criterion: str = "loss") -> int:
    """Return the number of epochs since the first minimum of a held-out quantity.

    With several players the quantity is summed over players.

    >>> epochs_since_best(History({"validation.loss": v} for v in (3.0, 1.0, 2.0, 1.0)))
    2
    """
    values = held_out_values(history, criterion)
    return len(values) - 1 - values.index(min(values))


def held_out_values(history: History, criterion: str) -> list[float]:
    """Return a held-out quantity of every epoch, summed over players."""
    name = f".{criterion}"
    return [
        sum(v for k, v in record.items() if k.startswith("validation.") and k.endswith(name))
        for record in history
    ]
