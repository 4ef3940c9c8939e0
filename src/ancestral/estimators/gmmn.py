"""Generative moment-matching network."""

from __future__ import annotations

from ancestral.estimators.moment_matching import MomentMatchingEstimator
from ancestral.objectives import mmd
from ancestral.training import Player
from ancestral.utils.validation import Count


class GMMN(MomentMatchingEstimator):
    """Generative moment-matching network (Li, Swersky and Zemel, 2015).

    Minimises the maximum mean discrepancy between a batch of data and as many generated samples, or
    between their codes with an ``autoencoder``. Noise is uniform on [-1, 1], as in the paper.

    Parameters
    ----------
    sqrt_loss : bool
        Minimise the square root of the squared discrepancy, as the authors do.
    batch_size : int
        Number of data samples, and of generated samples, per step; estimates of moments need large
        batches.

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

    sqrt_loss: bool = True
    batch_size: Count = 1000

    def _players(self) -> Player:
        return Player(
            self._trained_module,
            mmd(self.kernel_variances_, sqrt_loss=self.sqrt_loss),
            self._optimizer(),
        )
