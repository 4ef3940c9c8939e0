"""Likelihoods without a bound: of a conditional whose marginal is known, of rows given codes."""

from __future__ import annotations

from torch import Tensor, nn

from ancestral.conditional import Conditional
from ancestral.data import Batch
from ancestral.models import Run
from ancestral.objectives.base import Objective


def nll() -> Objective:
    """Negative log-likelihood of the observed entries under a :class:`Conditional`.

    Returns
    -------
    Objective
        Term ``nll``, nats per example.
    """

    def run(_: nn.Module, batch: Batch) -> Run:
        return Run(batch)

    def term(model: nn.Module, run: Run) -> Tensor:
        assert isinstance(model, Conditional)
        return -model.log_prob(run.batch.x, None, run.batch.mask).mean()

    return Objective({"nll": term}, run)


def reconstruction() -> Objective:
    """Negative log-likelihood of the observed entries given the code of their row.

    Of bits, and of shares of one, this is the cross-entropy; of real values with unit variance
    half the squared error and a constant.

    Returns
    -------
    Objective
        Term ``reconstruction``, nats per example.
    """

    def term(_: nn.Module, run: Run) -> Tensor:
        assert run.log_px is not None
        return -run.log_px.mean()

    return Objective({"reconstruction": term})
