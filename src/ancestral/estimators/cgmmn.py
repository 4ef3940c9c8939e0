"""Class-conditional generative moment-matching network."""

from __future__ import annotations

from typing import Literal

from ancestral.estimators.base.implicit import ClassConditionalGenerator
from ancestral.estimators.moment_matching import MomentMatchingEstimator
from ancestral.objectives import cmmd
from ancestral.probability.kernels import DeltaKernel
from ancestral.training import Player
from ancestral.utils.validation import Count, Positive, Sizes


class CGMMN(ClassConditionalGenerator, MomentMatchingEstimator):
    """Class-conditional generative moment-matching network (Ren et al., 2016).

    Minimises the conditional maximum mean discrepancy between data and generated samples given
    their class.

    Parameters
    ----------
    noise_distribution : {"uniform", "unit", "centred", "normal", "bits"}
        Distribution of the noise; the default is that of :class:`GMMN`. The paper states uniform
        noise on [0, 1], the authors' generation script uses [-1/2, 1/2]. The first layer can map
        one to the other, so the choice affects only the initialisation: the wider the noise, the
        further apart the initial samples.
    regularization : float
        lambda > 0 of the regression in feature space; classes have the delta kernel.
    objective : {"cmmd", "classwise"}
        The published formula, or the one that the authors' generation script computes: the sum of
        the discrepancies within each class; see ``objectives.cmmd``.
    batch_size : int
        Number of data samples, and of generated samples, per step. Batches are drawn once and
        reused in every epoch.

    Attributes
    ----------
    classes_ : array [n_classes]
        Sorted class labels, which ``sample`` accepts as ``y``.

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
    objective: Literal["cmmd", "classwise"] = "cmmd"
    batch_size: Count = 500

    _shuffle = "once"

    def _players(self) -> Player:
        objective = cmmd(
            "y",
            "x",
            DeltaKernel(),
            self.kernel_variances_,
            self.regularization,
            len(self.classes_),
            self.objective,
        )
        return Player(self._trained_module, objective, self._optimizer())
