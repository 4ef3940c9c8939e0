"""Expectation maximisation: a loop without rates, in which the likelihood never falls."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ancestral.checkpoint import Checkpoint
from ancestral.data import Data
from ancestral.exact import ExactModel, Statistics, added
from ancestral.train.players import Callback, History
from ancestral.train.rounds import rounds


@torch.no_grad()
def expectation_maximisation(
    model: ExactModel,
    data: Data,
    *,
    max_iter: int,
    tol: float,
    rows_at_once: int,
    callbacks: Sequence[Callback] = (),
    checkpoint: Checkpoint | None = None,
) -> History:
    """Take turns at expected statistics of the latents and the parameters that suit them best.

    Parameters
    ----------
    model : ExactModel
        Where to start; its parameters move in place, in their own precision.
    data : Data
        The rows, all of which every iteration visits.
    max_iter : int
        Iterations at most.
    tol : float
        Stop when the mean log-likelihood has changed by less than this, nats per row.
    rows_at_once : int
        How many rows are held at once.
    callbacks, checkpoint
        See :func:`ancestral.train.rounds.rounds`.

    Returns
    -------
    History
        A record per iteration: ``loss`` is the negative log-likelihood, nats per row, of the
        parameters that it led to.

    Raises
    ------
    NonFiniteError
        If the log-likelihood becomes infinite or not a number.
    CheckpointError
        If the checkpoint is damaged, or of another training.
    """
    statistics: Statistics | None = None

    def iterate(_: int) -> float:
        nonlocal statistics
        if statistics is None:  # at the start, and where a checkpoint goes on
            statistics = _expected(model, data, rows_at_once)[1]
        model.maximise(statistics)
        loss, statistics = _expected(model, data, rows_at_once)
        return loss

    return rounds(
        model,
        iterate,
        n_rounds=max_iter,
        is_over=lambda history: is_settled(history, tol),
        callbacks=callbacks,
        checkpoint=checkpoint,
    )


def is_settled(history: History, tol: float) -> bool:
    """Whether the last iteration changed the log-likelihood by less than ``tol``.

    >>> is_settled(History([{"loss": 3.0}, {"loss": 2.0}]), 0.1)
    False
    """
    return len(history) > 1 and abs(history[-2]["loss"] - history[-1]["loss"]) < tol


def _expected(model: ExactModel, data: Data, rows_at_once: int) -> tuple[float, Statistics]:
    """Return the negative log-likelihood of a row, and the statistics of all."""
    total, statistics = 0.0, None
    for batch in data.parts(rows_at_once):
        log_px, sums = model.expect(batch)
        total += log_px.sum().item()
        statistics = added(statistics, sums)
    assert statistics is not None
    return -total / len(data), statistics
