"""Generative moment matching: a generator whose samples have the moments of the data."""

from __future__ import annotations

from ancestral.data import Data
from ancestral.fields import Count
from ancestral.methods.matched import MomentMatcher
from ancestral.objectives import mmd
from ancestral.train import Player


class GMMN(MomentMatcher):
    """Generative moment matching network (Li, Swersky and Zemel, 2015).

    Minimises the maximum mean discrepancy between a batch of rows and as many samples; with an
    ``autoencoder`` between their codes and the codes drawn. Noise is uniform on [-1, 1], as theirs.

    Parameters
    ----------
    root : bool
        Minimise the root of the squared discrepancy, as the authors do.
    batch_size : int
        Rows, and samples, a step: moments need many.

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

    root: bool = True
    batch_size: Count = 1000

    def _initialise(self, data: Data) -> None:
        self._learn_kernel(data)

    def _players(self) -> Player:
        return Player(self._learner, mmd(self.variances_, root=self.root), self._optimizer())
