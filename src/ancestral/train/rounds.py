"""A loop of rounds without gradients, with the records, progress and checkpoints of ``train``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import perf_counter

from torch import nn

from ancestral import engine
from ancestral.checkpoint import Checkpoint, HeldInterrupt, Snapshot
from ancestral.train.players import Callback, History, Progress
from ancestral.train.state import NonFiniteError


def rounds(
    model: nn.Module,
    take: Callable[[int], float],
    *,
    n_rounds: int,
    is_over: Callable[[History], bool] = lambda _: False,
    callbacks: Sequence[Callback] = (),
    checkpoint: Checkpoint | None = None,
) -> History:
    """Take rounds until there were so many, or enough.

    Parameters
    ----------
    model : Module
        What changes; its parameters and buffers are all that a round depends on besides its number.
    take : callable
        Number of the round, from 0 -> its loss, nats per row.
    n_rounds : int
        How many, at most.
    is_over : callable
        History -> whether that is enough.
    callbacks : sequence of callable
        Told of the start, every round (which is a step and an epoch) and the end.
    checkpoint : Checkpoint, optional
        Where the state is kept from time to time, to go on from there to the same end.

    Returns
    -------
    History
        A record per round.

    Raises
    ------
    NonFiniteError
        If a loss is infinite or not a number.
    CheckpointError
        If the checkpoint is damaged, or of another training.
    """
    history, began = History(), perf_counter()
    snapshot = None if checkpoint is None else checkpoint.load()
    if snapshot is not None:
        model.load_state_dict(snapshot.tensors)
        history.extend(snapshot.facts["history"])
        began -= history[-1]["seconds"]

    def tell(event: str) -> None:
        n = len(history)
        for callback in callbacks:
            callback(Progress(event, n, n_rounds, n, n_rounds, model, history))

    try:
        with engine.memory_kept(), HeldInterrupt(active=checkpoint is not None) as interrupt:
            tell("start")
            while len(history) < n_rounds and not is_over(history):
                history.append(_record(len(history) + 1, take(len(history)), began))
                tell("step")
                tell("epoch")
                if checkpoint is not None and (interrupt.asked or checkpoint.is_due()):
                    checkpoint.save(Snapshot(model.state_dict(), {"history": list(history)}))
                if interrupt.asked:
                    raise KeyboardInterrupt
    finally:
        model.eval()
        tell("end")
    return history


def _record(n: int, loss: float, began: float) -> dict[str, float]:
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"the loss became {loss} in round {n}: a column may be far larger than the others, or "
            "nearly constant; scale it, or leave it out"
        )
    return {"epoch": n, "step": n, "loss": loss, "seconds": perf_counter() - began}
