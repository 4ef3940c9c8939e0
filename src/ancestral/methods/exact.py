"""What estimators share that learn by expectation maximisation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from ancestral import engine
from ancestral.checkpoint import Checkpoint
from ancestral.data import Data
from ancestral.density import LatentEstimator
from ancestral.exact import ExactModel
from ancestral.fields import Count, Positive
from ancestral.train import expectation_maximisation, is_settled

ENTRIES = 2**22
"""Numbers that are held at once of what is expected of rows."""


class ExactEstimator(LatentEstimator, ABC):
    """A model whose posterior and likelihood are exact, learnt by expectation maximisation.

    ``score_samples`` is log p(x) itself, ``impute`` fills in E[x_missing | x_observed], and rows
    with missing entries are learnt from as they are.

    Parameters
    ----------
    max_iter : int
        Iterations at most.
    tol : float
        Stop when an iteration changes the mean log-likelihood by less than this, nats per row.
    binarize : {"once", "none"}
        How values between 0 and 1 become the bits of a Bernoulli likelihood: drawn once for all, or
        not at all (they then count as fractions of a bit). Evaluation draws the bits once, with a
        seed of its own.

    Attributes
    ----------
    n_iter_ : int
        How many iterations were made.
    converged_ : bool
        Whether the last one changed less than ``tol``.
    """

    max_iter: Count = 500
    tol: Positive = 1e-4
    binarize: Literal["once", "none"] = "once"

    @abstractmethod
    def _entries(self, data: Data) -> int:
        """Return how many numbers are expected of a row."""

    def _rows_at_once(self, data: Data) -> int:
        return max(1, ENTRIES // self._entries(data))

    def _check_combination(self) -> None:
        """There is nothing to contradict."""

    def _learn(self, data: Data, checkpoint: Checkpoint | None) -> None:
        self.n_rows_ = len(data)
        wide = engine.widest(data.device)
        self.model_.to(wide)
        self.history_ = expectation_maximisation(
            self.model_,
            data.in_precision(wide),
            max_iter=self.max_iter,
            tol=self.tol,
            rows_at_once=self._rows_at_once(data),
            callbacks=self._callbacks(),
            checkpoint=checkpoint,
        )
        self.model_.float()
        self.n_iter_ = len(self.history_)
        self.converged_ = is_settled(self.history_, self.tol)

    if TYPE_CHECKING:
        model_: ExactModel
