"""Base class of estimators fitted by expectation maximisation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from ancestral.data.device_data import DeviceData
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.models.exact import ExactModel
from ancestral.training import engine, expectation_maximisation, has_converged
from ancestral.training.checkpoint import Checkpoint
from ancestral.utils.validation import Count, Positive

MAX_ENTRIES = 2**22
"""Numbers of expected statistics held in memory at once."""


class EMEstimator(LatentEstimator, ABC):
    """A model with exact posterior and likelihood, fitted by expectation maximisation.

    ``score_samples`` returns log p(x) itself, ``impute`` returns E[x_missing | x_observed], and
    missing entries of the training rows are integrated out.

    Parameters
    ----------
    max_iter : int
        Maximum number of iterations.
    tol : float
        Change of the mean log-likelihood below which iterations stop, in nats per row.
    binarize : {"once", "none"}
        Conversion of values between 0 and 1 to the bits of a Bernoulli likelihood: sampled once, or
        not at all (the values then count as fractions of a bit). Evaluation binarises once, with a
        separate seed.

    Attributes
    ----------
    n_iter_ : int
        Number of iterations.
    converged_ : bool
        Whether the last iteration changed the mean log-likelihood by less than ``tol``.
    """

    max_iter: Count = 500
    tol: Positive = 1e-4
    binarize: Literal["once", "none"] = "once"

    @abstractmethod
    def _n_statistics(self, data: DeviceData) -> int:
        """Return the number of expected statistics per row."""

    def _chunk_size(self, data: DeviceData) -> int:
        return max(1, MAX_ENTRIES // self._n_statistics(data))

    def _fit_model(self, data: DeviceData, checkpoint: Checkpoint | None) -> None:
        self.n_rows_ = len(data)
        wide = engine.widest_float_dtype(data.device)
        self.model_.to(wide)
        self.history_ = expectation_maximisation(
            self.model_,
            data.with_dtype(wide),
            max_iter=self.max_iter,
            tol=self.tol,
            chunk_size=self._chunk_size(data),
            callbacks=self._callbacks(),
            checkpoint=checkpoint,
        )
        self.model_.float()
        self.n_iter_ = len(self.history_)
        self.converged_ = has_converged(self.history_, self.tol)

    if TYPE_CHECKING:
        model_: ExactModel
