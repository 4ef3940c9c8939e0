"""The one loop: players take turns at moving their parameters down their objectives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from torch import Tensor, nn

from ancestral import engine, parallel
from ancestral.batching import Labelled, Shuffle
from ancestral.checkpoint import Checkpoint, HeldInterrupt, Snapshot
from ancestral.data import Data
from ancestral.engine import CompileChoice, Precision
from ancestral.train.players import Callback, History, Player, Watch
from ancestral.train.state import Training, check_shares
from ancestral.train.validation import Outlook


def train(
    model: nn.Module,
    players: Player | Mapping[str, Player],
    data: Data,
    *,
    max_epochs: int,
    batch_size: int = 100,
    shuffle: Shuffle = True,
    n_labelled: Labelled = None,
    random_state: int = 0,
    validation: Data | None = None,
    patience: int | None = None,
    criterion: str = "loss",
    watch: Watch | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Checkpoint | None = None,
    compile: CompileChoice = "auto",
    precision: Precision = "auto",
) -> History:
    """Train a model: the one loop of this library.

    Every step takes one minibatch; the players then move in order, each seeing the moves before
    its own. All noise of a step comes from a stream seeded by (random_state, step), so that the
    same seed gives the same result to the bit and the user's own streams are untouched.

    Under ``torchrun`` the processes share every batch and do together what one alone would.

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
    shuffle : bool or "once"
        Visit the rows in a new order every epoch; without, or if that is done only once, the same
        batches recur.
    n_labelled : int or "share", optional
        Where only some rows have a class (``y`` = -1 for the others): how many of the rows of every
        step have one, or their share of the rows, rounded up, so that terms which average over
        labelled rows are never without. Those rows go round in an order of their own, and an epoch
        is over when every row was visited. By default rows come as they are.
    random_state : int
        Seeds order and noise.
    validation : Data, optional
        Held-out rows on which every term is evaluated after each epoch (recorded as
        ``validation.term``), batch normalisation by the statistics of the batch at hand.
    patience : int, optional
        Stop when the held-out loss (the sum over players) has not fallen for so many epochs, and
        go back to the parameters of the best one.
    criterion : str
        What ``patience`` looks at in place of the loss: another term, or what ``watch`` returns.
    watch : callable, optional
        Called after every epoch with where training stands and the held-out rows (``None`` without
        ``validation``), the model in evaluation mode; what it returns is recorded as
        ``validation.name``. Noise drawn inside is the same every time.
    callbacks : sequence of callable
        Told of the start, every step, every epoch and the end.
    checkpoint : Checkpoint, optional
        Where the state of training is kept from time to time. If it holds one of this very
        training, training goes on from there, and ends as if it had never stopped.
    compile : "auto" or bool
        Whether a step becomes one compiled graph; see :func:`ancestral.engine.plan`.
    precision : {"auto", "float32", "bfloat16"}
        Of matrix products; see :func:`ancestral.engine.plan`.

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
    ValueError
        If two players move the same parameter, ``patience`` has no ``validation`` to look at,
        several processes can't share a batch, or a batch has no room for unlabelled rows.
    """
    named = {"": players} if isinstance(players, Player) else dict(players)
    world, batch_size = parallel.world(), min(batch_size, len(data))
    check_shares(named, batch_size, world)
    outlook = Outlook(validation, watch, patience, criterion)
    n_steps = max_epochs * data.makeup(batch_size, n_labelled).n_batches
    snapshot = None if checkpoint is None else checkpoint.load()
    plan = _plan(model, named, data, n_steps * batch_size, compile, precision, snapshot)
    training = Training(model, named, random_state, n_steps, plan, world)
    history = training.history

    def tell(event: str) -> None:
        with training.products():  # a callback may call the model
            for callback in callbacks if world.rank == 0 else ():
                callback(training.progress(event, len(history), max_epochs))

    def after_step() -> None:
        tell("step")
        if checkpoint is not None and (interrupt.asked or checkpoint.is_due()):
            training.keep(checkpoint)
        if interrupt.asked:
            raise KeyboardInterrupt

    try:
        with (
            engine.private_randomness(data.device),
            engine.memory_kept(),
            HeldInterrupt(active=checkpoint is not None) as interrupt,
        ):
            training.restore(snapshot)
            tell("start")
            while len(history) < max_epochs and not outlook.is_over(history):
                for index in _batches(training, data, batch_size, shuffle, n_labelled):
                    training.take_step(data, index)
                    after_step()
                outlook.end_epoch(training, max_epochs, batch_size)
                tell("epoch")
    finally:
        training.release()
        model.eval()
        tell("end")
    return history


def _batches(
    training: Training, data: Data, batch_size: int, shuffle: Shuffle, n_labelled: Labelled
) -> Iterator[Tensor]:
    """The minibatches of the epoch under way that were not visited yet."""
    epoch, n_batches = len(training.history), data.makeup(batch_size, n_labelled).n_batches
    training.model.train()
    engine.seed(training.random_state, epoch, 1)
    data.start_epoch()
    how: dict[str, Any] = {"shuffle": shuffle, "n_labelled": n_labelled}
    order = data.batches(batch_size, seed=training.random_state, epoch=epoch, **how)
    return islice(order, training.step - epoch * n_batches, None)


def _plan(
    model: nn.Module,
    players: Mapping[str, Player],
    data: Data,
    n_rows: int,
    compile: CompileChoice,
    precision: Precision,
    snapshot: Snapshot | None,
) -> engine.Plan:
    """Carry the steps out as before, if this training was begun before."""
    if snapshot is not None:
        return engine.Plan(**snapshot.facts["plan"])
    n_samples = max(player.objective.n_samples for player in players.values())
    work = n_rows * n_samples * sum(p.numel() for p in model.parameters())
    return engine.plan(model, data.device, work, compile, precision)
