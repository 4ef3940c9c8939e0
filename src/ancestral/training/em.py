"""Expectation maximisation (EM): no learning rate, and a likelihood that never decreases."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ancestral.data.device_data import Data
from ancestral.models.exact import ExactModel, Statistics, added
from ancestral.training.checkpoint import Checkpoint
from ancestral.training.iterations import rounds
from ancestral.training.player import Callback, History


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
    """Fit a model by EM: alternate expected sufficient statistics and parameter updates.

    Parameters
    ----------
    model : ExactModel
        Model with initial parameters, which are updated in place in their precision.
    data : Data
        Training samples; each iteration uses all of them.
    max_iter : int
        Maximal number of iterations.
    tol : float
        Tolerance: stop when the mean log-likelihood changes by less, nats per sample.
    rows_at_once : int
        Number of samples processed at once.
    callbacks : sequence of callable
        Callbacks; see :func:`ancestral.training.iterations.rounds`.
    checkpoint : Checkpoint, optional
        Checkpoint file; see :func:`ancestral.training.iterations.rounds`.

    Returns
    -------
    History
        One record per iteration. ``loss`` is the negative log-likelihood after the iteration, nats
        per sample.

    Raises
    ------
    NonFiniteError
        If the log-likelihood is infinite or not a number.
    CheckpointError
        If the checkpoint is corrupt or belongs to another training run.
    """
    statistics: Statistics | None = None

    def em_iteration(_: int) -> float:
        nonlocal statistics
        if statistics is None:  # at the first iteration, also after resuming
            statistics = _expected(model, data, rows_at_once)[1]
        model.maximise(statistics)
        loss, statistics = _expected(model, data, rows_at_once)
        return loss

    return rounds(
        model,
        em_iteration,
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
    """E-step: return the mean negative log-likelihood and the summed sufficient statistics."""
    log_likelihood, statistics = 0.0, None
    for batch in data.parts(rows_at_once):
        log_px, batch_statistics = model.expect(batch)
        log_likelihood += log_px.sum().item()
        statistics = added(statistics, batch_statistics)
    assert statistics is not None
    return -log_likelihood / len(data), statistics
