"""Exact likelihood losses: negative log-likelihood and reconstruction error."""

from __future__ import annotations

from torch import Tensor, nn

from ancestral.data.batch import Batch
from ancestral.models.run import AutoencoderRun, Run
from ancestral.objectives.base import Objective
from ancestral.probability.conditionals import Conditional


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
    """Negative log-likelihood of the observed entries given the latent code of the sample.

    For a Bernoulli likelihood this is the cross-entropy; for a Gaussian one with unit variance it
    is half the squared error plus a constant.

    Returns
    -------
    Objective
        Term ``reconstruction``, nats per example.
    """

    def term(_: nn.Module, run: AutoencoderRun) -> Tensor:
        return -run.log_px.mean()

    return Objective({"reconstruction": term})
