"""Gradient-free iterations with the history, callbacks and checkpoints of ``train``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from time import perf_counter

from torch import nn

from ancestral.training import engine
from ancestral.training.checkpoint import Checkpoint, DeferredInterrupt, Snapshot
from ancestral.training.player import Callback, History, Progress
from ancestral.training.state import NonFiniteError


def iterate(
    model: nn.Module,
    update: Callable[[int], float],
    *,
    max_iter: int,
    should_stop: Callable[[History], bool] = lambda _: False,
    callbacks: Sequence[Callback] = (),
    checkpoint: Checkpoint | None = None,
) -> History:
    """Iterate a gradient-free update until convergence or ``max_iter`` iterations.

    Parameters
    ----------
    model : Module
        Model, updated in place. An iteration may depend only on its number and on the parameters
        and buffers of the model.
    update : callable
        Update: number of the iteration, from 0 -> loss, nats per sample.
    max_iter : int
        Maximal number of iterations.
    should_stop : callable
        Stopping criterion: history -> whether to stop.
    callbacks : sequence of callable
        Functions of the progress, called at the start, after every iteration (which counts as a
        step and as an epoch) and at the end.
    checkpoint : Checkpoint, optional
        Checkpoint file, written at regular intervals. If it holds a snapshot of the same run, the
        iterations resume from it and give the same result as without interruption.

    Returns
    -------
    History
        One record per iteration.

    Raises
    ------
    NonFiniteError
        If a loss is infinite or not a number.
    CheckpointError
        If the checkpoint is corrupt or belongs to another training run.
    """
    history, start_time = History(), perf_counter()
    snapshot = None if checkpoint is None else checkpoint.load()
    if snapshot is not None:
        model.load_state_dict(snapshot.tensors)
        history.extend(snapshot.metadata["history"])
        start_time -= history[-1]["seconds"]

    def notify(event: str) -> None:
        n = len(history)
        for callback in callbacks:
            callback(Progress(event, n, max_iter, n, max_iter, model, history))

    interrupt = None if checkpoint is None else DeferredInterrupt()

    def after_iteration() -> None:
        if checkpoint is None or interrupt is None:
            return
        if interrupt.requested or checkpoint.is_due():
            checkpoint.save(Snapshot(model.state_dict(), {"history": list(history)}))
        if interrupt.requested:
            raise KeyboardInterrupt

    try:
        with engine.retain_freed_memory(), interrupt or nullcontext():
            notify("start")
            while len(history) < max_iter and not should_stop(history):
                history.append(_record(len(history) + 1, update(len(history)), start_time))
                notify("step")
                notify("epoch")
                after_iteration()
    finally:
        model.eval()
        notify("end")
    return history


def _record(n: int, loss: float, start_time: float) -> dict[str, float]:
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"the loss is {loss} at iteration {n}; expected a finite number. A column may be "
            "nearly constant or much larger than the others: scale or remove it."
        )
    return {"epoch": n, "step": n, "loss": loss, "seconds": perf_counter() - start_time}
