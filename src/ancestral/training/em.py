"""Expectation maximisation (EM): no learning rate, and a likelihood that never decreases."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ancestral.data.device_data import DeviceData
from ancestral.models.exact import ExactModel, Statistics, add_statistics
from ancestral.training.checkpoint import Checkpoint
from ancestral.training.iterations import iterate
from ancestral.training.player import Callback, History


@torch.no_grad()
def expectation_maximisation(
    model: ExactModel,
    data: DeviceData,
    *,
    max_iter: int,
    tol: float,
    chunk_size: int,
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
    chunk_size : int
        Number of samples processed at once.
    callbacks : sequence of callable
        Callbacks; see :func:`ancestral.training.iterations.iterate`.
    checkpoint : Checkpoint, optional
        Checkpoint file; see :func:`ancestral.training.iterations.iterate`.

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
            statistics = _e_step(model, data, chunk_size)[1]
        model.m_step(statistics)
        loss, statistics = _e_step(model, data, chunk_size)
        return loss

    return iterate(
        model,
        em_iteration,
        max_iter=max_iter,
        should_stop=lambda history: has_converged(history, tol),
        callbacks=callbacks,
        checkpoint=checkpoint,
    )


def has_converged(history: History, tol: float) -> bool:
    """Whether the last iteration changed the log-likelihood by less than ``tol``.

    >>> has_converged(History([{"loss": 3.0}, {"loss": 2.0}]), 0.1)
    False
    """
    return len(history) > 1 and abs(history[-2]["loss"] - history[-1]["loss"]) < tol


def _e_step(model: ExactModel, data: DeviceData, chunk_size: int) -> tuple[float, Statistics]:
    """E-step: return the mean negative log-likelihood and the summed sufficient statistics."""
    log_likelihood, statistics = 0.0, None
    for batch in data.even_chunks(chunk_size):
        log_px, batch_statistics = model.e_step(batch)
        log_likelihood += log_px.sum().item()
        statistics = add_statistics(statistics, batch_statistics)
    assert statistics is not None
    return -log_likelihood / len(data), statistics
