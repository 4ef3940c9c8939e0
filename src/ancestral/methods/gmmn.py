"""Generative moment matching: a generator whose samples have the moments of the data."""

from __future__ import annotations

from torch import nn

from ancestral.data import Data
from ancestral.fields import Count
from ancestral.methods.implicit import WIDTHS, ImplicitEstimator, Variances, kernel_of_rows
from ancestral.objectives import mmd
from ancestral.train import Player


class GMMN(ImplicitEstimator):
    """Generative moment matching network (Li, Swersky and Zemel, 2015).

    Minimises the maximum mean discrepancy between a batch of rows and as many samples.

    Parameters
    ----------
    variances : list of float, or "auto"
        Of the Gaussians whose sum is the kernel, in the units of the model: numbers in [0, 1] as
        they are, others standardised. ``"auto"`` takes five around the median heuristic's.
    root : bool
        Minimise the root of the squared discrepancy, as the authors do.
    batch_size : int
        Rows, and samples, a step: moments need many.

    Attributes
    ----------
    variances_ : list of float
        Those in use.

    References
    ----------
    Generative Moment Matching Networks, https://arxiv.org/abs/1502.02761

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> gmmn = GMMN(hidden=(50,), max_epochs=5, random_state=0).fit(X / 16)
    >>> gmmn.sample(3).shape
    (3, 64)
    """

    variances: Variances = "auto"
    root: bool = True
    batch_size: Count = 1000

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        return {"columns_": columns, "model_": self._make_generator(columns)}

    def _initialise(self, data: Data) -> None:
        self.variances_ = kernel_of_rows(self.variances, data, self.batch_size, WIDTHS)

    def _players(self) -> Player:
        return Player(self.model_, mmd(self.variances_, root=self.root), self._optimizer())
