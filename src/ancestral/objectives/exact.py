"""Exact likelihoods: for conditionals whose marginal has a closed form."""

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
