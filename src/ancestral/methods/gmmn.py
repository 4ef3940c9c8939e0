"""Generative moment matching: a generator whose samples have the moments of the data."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from ancestral.data import Data
from ancestral.fields import Count, Positive
from ancestral.methods.implicit import ImplicitEstimator, automatic_variances
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

    variances: tuple[Positive, ...] | Literal["auto"] = "auto"
    root: bool = True
    batch_size: Count = 1000

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        return {"columns_": columns, "model_": self._make_generator(columns)}

    def _initialise(self, data: Data) -> None:
        rows = data.take(torch.arange(min(len(data), self.batch_size), device=data.device)).x
        given = self.variances
        self.variances_ = automatic_variances(rows) if given == "auto" else list(given)

    def _players(self) -> Player:
        return Player(self.model_, mmd(self.variances_, root=self.root), self._optimizer())
