"""Training loop: in each step the players update their parameters in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any

from torch import Tensor, nn

from ancestral.data.device_data import DeviceData
from ancestral.data.sampling import LabelledCount, Shuffle
from ancestral.training import engine
from ancestral.training.checkpoint import Checkpoint, DeferredInterrupt, Snapshot
from ancestral.training.early_stopping import EarlyStopping
from ancestral.training.engine import CompileChoice, Precision
from ancestral.training.player import Callback, EpochMetrics, History, Player
from ancestral.training.state import TrainingState, check_shardable
from ancestral.utils import distributed


def train(
    model: nn.Module,
    players: Player | Mapping[str, Player],
    data: DeviceData,
    *,
    max_epochs: int,
    batch_size: int = 100,
    shuffle: Shuffle = True,
    n_labelled: LabelledCount = None,
    random_state: int = 0,
    validation: DeviceData | None = None,
    patience: int | None = None,
    criterion: str = "loss",
    epoch_metrics: EpochMetrics | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Checkpoint | None = None,
    compile: CompileChoice = "auto",
    precision: Precision = "auto",
) -> History:
    """Train a model by gradient steps.

    Each step uses one minibatch. The players update their parameters in order; each one uses the
    updates of those before it. The noise of a step comes from a stream seeded by (random_state,
    step): equal seeds give bitwise equal results on the same machine, and the user's random states
    do not change.

    Under ``torchrun`` each batch is split among the processes, and the result equals that of one
    process up to rounding.

    Parameters
    ----------
    model : Module
        Model, trained in place and returned to evaluation mode. With batch normalisation, call
        :func:`ancestral.nn.calibrate` after training.
    players : Player or mapping of str to Player
        One or several players. Terms of several players are recorded as ``name.term``.
    data : Data
        Training samples.
    max_epochs : int
        Maximal number of epochs.
    batch_size : int
        Number of samples per step, at most ``len(data)``.
    shuffle : bool or "once"
        Whether to shuffle the samples before every epoch. With False or ``"once"`` all epochs have
        the same batches.
    n_labelled : int or "proportional", optional
        Number of labelled samples per batch if only some have a label (``y`` = -1 for the others),
        so that terms that average over labelled samples are always defined. ``"proportional"`` is
        the batch size times the fraction of labelled samples in the data, rounded up. Labelled
        samples are cycled in a separate order; an epoch visits every sample at least once. By
        default batches ignore labels.
    random_state : int
        Seed of sample order and noise.
    validation : Data, optional
        Held-out set on which every term is evaluated after each epoch (recorded as
        ``validation.term``); batch normalisation uses the statistics of the held-out batch.
    patience : int, optional
        Number of epochs without improvement of the held-out loss (summed over players) after which
        training stops. The parameters of the best epoch are restored.
    criterion : str
        Quantity that ``patience`` monitors: ``"loss"``, another term, or a key returned by
        ``epoch_metrics``; lower is better.
    epoch_metrics : callable, optional
        Function of the progress and the held-out set (None without ``validation``), called after
        every epoch with the model in evaluation mode. It returns a mapping from names to numbers,
        recorded as ``validation.name``. It uses the same random numbers after every epoch.
    callbacks : sequence of callable
        Functions of the progress, called at the start, after every step and epoch, and at the end.
    checkpoint : Checkpoint, optional
        Checkpoint file, written at regular intervals. If it holds a snapshot of the same training
        run, training resumes from it and gives the same result as without interruption.
    compile : "auto" or bool
        Whether to compile a step as one graph; see :func:`ancestral.training.engine.make_plan`.
    precision : {"auto", "float32", "bfloat16"}
        Precision of matrix products; see :func:`ancestral.training.engine.make_plan`.

    Returns
    -------
    History
        One record per epoch.

    Raises
    ------
    NonFiniteError
        If a term becomes infinite or not a number; the message contains the term, the step and
        remedies.
    CheckpointError
        If the checkpoint is corrupt or belongs to another training run.
    ValueError
        If two players have a parameter in common, ``patience`` is given without ``validation``, a
        batch can't be split among processes, or ``n_labelled`` leaves no unlabelled samples in a
        batch.
    """
    players_by_name = {"": players} if isinstance(players, Player) else dict(players)
    world, batch_size = distributed.world(), min(batch_size, len(data))
    check_shardable(players_by_name, batch_size, world)
    early_stopping = EarlyStopping(validation, epoch_metrics, patience, criterion)
    n_steps = max_epochs * data.make_batch_sampler(batch_size, n_labelled).n_batches
    snapshot = None if checkpoint is None else checkpoint.load()
    plan = _plan(model, players_by_name, data, n_steps * batch_size, compile, precision, snapshot)
    training = TrainingState(model, players_by_name, random_state, n_steps, plan, world)
    history = training.history

    def notify(event: str) -> None:
        with training.autocast():  # a callback may call the model
            for callback in callbacks if world.rank == 0 else ():
                callback(training.progress(event, len(history), max_epochs))

    interrupt = None if checkpoint is None else DeferredInterrupt()

    try:
        with (
            engine.fork_rng(data.device),
            engine.retain_freed_memory(),
            interrupt or nullcontext(),
        ):
            training.restore(snapshot)
            notify("start")
            while len(history) < max_epochs and not early_stopping.should_stop(history):
                for index in _batches(training, data, batch_size, shuffle, n_labelled):
                    training.take_step(data, index)
                    notify("step")
                    if checkpoint is not None and interrupt is not None:
                        _save_if_due(training, checkpoint, interrupt)
                early_stopping.end_epoch(training, max_epochs, batch_size)
                notify("epoch")
    finally:
        training.release()
        model.eval()
        notify("end")
    return history


def _save_if_due(
    training: TrainingState, checkpoint: Checkpoint, interrupt: DeferredInterrupt
) -> None:
    """Save a checkpoint at regular intervals and at an interrupt, which is then raised."""
    if interrupt.requested or checkpoint.is_due():
        training.save_checkpoint(checkpoint)
    if interrupt.requested:
        raise KeyboardInterrupt


def _batches(
    training: TrainingState,
    data: DeviceData,
    batch_size: int,
    shuffle: Shuffle,
    n_labelled: LabelledCount,
) -> Iterator[Tensor]:
    """Yield the sample indices of the remaining minibatches of the current epoch."""
    epoch, n_batches = (
        len(training.history),
        data.make_batch_sampler(batch_size, n_labelled).n_batches,
    )
    training.model.train()
    engine.seed(training.random_state, epoch, 1)
    data.start_epoch()
    kwargs: dict[str, Any] = {"shuffle": shuffle, "n_labelled": n_labelled}
    batches = data.batch_indices(batch_size, seed=training.random_state, epoch=epoch, **kwargs)
    return islice(batches, training.step - epoch * n_batches, None)


def _plan(
    model: nn.Module,
    players: Mapping[str, Player],
    data: DeviceData,
    n_rows: int,
    compile: CompileChoice,
    precision: Precision,
    snapshot: Snapshot | None,
) -> engine.Plan:
    """Return the execution plan; a resumed training run reuses the plan of the snapshot."""
    if snapshot is not None:
        return engine.Plan(**snapshot.metadata["plan"])
    n_samples = max(player.objective.n_samples for player in players.values())
    work = n_rows * n_samples * sum(p.numel() for p in model.parameters())
    return engine.make_plan(model, data.device, work, compile, precision)
