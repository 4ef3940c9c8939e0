"""The one loop: players take turns at moving their parameters down their objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch import nn

from ancestral import engine
from ancestral.checkpoint import Checkpoint, HeldInterrupt
from ancestral.data import Data
from ancestral.train.players import Callback, History, Player, Progress
from ancestral.train.state import Means, Training, label


def train(
    model: nn.Module,
    players: Player | Mapping[str, Player],
    data: Data,
    *,
    max_epochs: int,
    batch_size: int = 100,
    shuffle: bool = True,
    random_state: int = 0,
    validation: Data | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Checkpoint | None = None,
) -> History:
    """Train a model: the one loop of this library.

    Every step takes one minibatch; the players then move in order, each seeing the moves before
    its own. All noise of a step comes from a stream seeded by (random_state, step), so that the
    same seed gives the same result to the bit and the user's own streams are untouched.

    Parameters
    ----------
    model : Module
        Trained in place and left in evaluation mode; batch-normalised ones still need
        :func:`ancestral.networks.calibrate`.
    players : Player or mapping of str to Player
        With several, their terms are recorded as ``name.term``.
    data : Data
        The rows.
    max_epochs, batch_size : int
        Passes over the rows, and rows a step (at most as many as there are).
    shuffle : bool
        Visit the rows in a new order every epoch; without, the same batches recur.
    random_state : int
        Seeds order and noise.
    validation : Data, optional
        Held-out rows on which every term is evaluated after each epoch (recorded as
        ``validation.term``), batch normalisation by the statistics of the batch at hand.
    callbacks : sequence of callable
        Told of the start, every step, every epoch and the end.
    checkpoint : Checkpoint, optional
        Where the state of training is kept from time to time. If it holds one of this very
        training, training goes on from there, and ends as if it had never stopped.

    Returns
    -------
    History
        A record per epoch.

    Raises
    ------
    NonFiniteError
        If a term becomes infinite or not a number; the message names it, the step and the cures.
    CheckpointError
        If the checkpoint is damaged, or of another training.
    """
    named = {"": players} if isinstance(players, Player) else dict(players)
    n_epoch_steps = -(-len(data) // min(batch_size, len(data)))
    training = Training(model, named, random_state, max_epochs * n_epoch_steps)
    history = training.history

    def tell(event: str, epoch: int) -> None:
        for callback in callbacks:
            callback(
                Progress(event, epoch, max_epochs, training.step, training.n_steps, model, history)
            )

    try:
        with (
            engine.private_randomness(data.device),
            HeldInterrupt(active=checkpoint is not None) as interrupt,
        ):
            if checkpoint is not None and (snapshot := checkpoint.load()) is not None:
                training.restore(snapshot)
            tell("start", len(history))
            for epoch in range(len(history), max_epochs):
                model.train()
                engine.seed(random_state, epoch, 1)
                data.start_epoch()
                batches = data.batches(batch_size, seed=random_state, epoch=epoch, shuffle=shuffle)
                for index in islice(batches, training.step - epoch * n_epoch_steps, None):
                    training.take_step(data, index)
                    tell("step", epoch)
                    if checkpoint is not None and (interrupt.asked or checkpoint.is_due()):
                        checkpoint.save(training.snapshot())
                    if interrupt.asked:
                        raise KeyboardInterrupt
                record = {"epoch": epoch + 1, "step": training.step, **training.means.take()}
                training.means = Means()
                if validation is not None:
                    record |= _validate(training, validation, batch_size)
                history.append(record | {"seconds": training.seconds})
                tell("epoch", epoch + 1)
    finally:
        for seat in training.seats:
            seat.flat.release()
        model.eval()
        tell("end", len(history))
    return history


def _validate(training: Training, data: Data, batch_size: int) -> dict[str, float]:
    means = Means()
    with torch.no_grad():
        n_batches = -(-len(data) // batch_size)
        for number, index in enumerate(torch.arange(len(data)).tensor_split(n_batches)):
            engine.seed(training.random_state, 0, number)
            batch = data.take(index.to(data.device))
            for seat in training.seats:
                terms = seat.player.objective(training.model, batch)
                named = {label(seat.name, k): v for k, v in terms.items()}
                loss = torch.stack(list(terms.values())).sum()
                means.add({label(seat.name, "loss"): loss, **named}, len(index))
    return {f"validation.{k}": v for k, v in means.take().items()}
