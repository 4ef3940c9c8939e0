"""Conditional moment matching: a generator of rows of a class."""

from __future__ import annotations

from typing import Literal

from ancestral.data import Data
from ancestral.fields import Count, Positive, Sizes
from ancestral.kernels import DeltaKernel
from ancestral.labels import LabelLearner
from ancestral.methods.matched import MomentMatcher
from ancestral.objectives import cmmd
from ancestral.train import Player


class CGMMN(LabelLearner, MomentMatcher):
    """Conditional generative moment-matching network that draws rows of a class (Ren et al., 2016).

    Parameters
    ----------
    noise : {"uniform", "unit", "centred", "normal", "bits"}
        By default that of a :class:`GMMN`; as published it is uniform on [0, 1], in the authors'
        script for generation on [-1/2, 1/2]. The first layer can turn one into another, so they
        differ in where training starts: from wider noise samples start further apart.
    regularization : float
        lambda of the regression in feature space, in which classes have the delta kernel.
    form : {"cmmd", "classwise"}
        The published formula, or what the authors' script for generation computes in its place,
        the sum of discrepancies inside each class: see ``objectives.cmmd``.
    batch_size : int
        Rows, and samples, a step. Batches are drawn once and recur.

    Attributes
    ----------
    classes_ : array [n_classes]
        What rows can be drawn of.

    References
    ----------
    Conditional Generative Moment-Matching Networks, https://arxiv.org/abs/1606.04218

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> cgmmn = CGMMN(hidden=(50,), max_epochs=5, random_state=0).fit(X / 16, y)
    >>> cgmmn.sample(3, y=[0, 1, 2]).shape
    (3, 64)
    """

    n_noise: Count = 5
    hidden: Sizes = (64, 256, 256, 512)
    regularization: Positive = 1e-3
    form: Literal["cmmd", "classwise"] = "cmmd"
    batch_size: Count = 500

    _shuffle = "once"

    def _initialise(self, data: Data) -> None:
        self._learn_shares(data)
        self._learn_kernel(data)

    def _players(self) -> Player:
        objective = cmmd(
            "y",
            "x",
            DeltaKernel(),
            self.variances_,
            self.regularization,
            len(self.classes_),
            self.form,
        )
        return Player(self._learner, objective, self._optimizer())
