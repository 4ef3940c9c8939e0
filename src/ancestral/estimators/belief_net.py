"""Sigmoid belief networks (Neal, 1992), fitted by VIMCO or reweighted wake-sleep."""

from __future__ import annotations

from typing import Literal

from ancestral.estimators.base.deep_latent import BERNOULLI_LATENTS, DeepLatentEstimator
from ancestral.objectives import Objective, reweighted_wake, vimco
from ancestral.utils.validation import Count, Sizes


class BeliefNet(DeepLatentEstimator):
    """Sigmoid belief network (Neal, 1992): layers of binary latent variables.

    The log-odds of the top layer, p(h_top), are parameters. Those of every other layer, and of the
    data, are a linear function of the layer above, or a dense network of it with ``hidden``.
    q(h | x) is a network of the same shape from the data upward. Binary variables cannot be
    reparameterised, so the gradient of q is a score-function estimate that compares samples.

    Parameters
    ----------
    n_latents : int or list of int
        Number of binary latent variables; a list defines several layers, from the data upward.
    hidden : list of int, or list of such lists
        Widths of deterministic hidden layers between the data and the lowest layer, and between
        layers; an empty list gives the classical network.
    n_importance_samples : int
        K: importance samples per data point and step, at least 2.
    gradient_estimator : {"vimco", "reweighted_wake"}
        Gradient estimator of q: the unbiased gradient of L_K (Mnih and Rezende, 2016), or the wake
        phase of reweighted wake-sleep (Bornschein and Bengio, 2015), which fits q to the posterior.

    References
    ----------
    Connectionist learning of belief networks, Artificial Intelligence 56, 1992.
    Variational inference for Monte Carlo objectives, https://arxiv.org/abs/1602.06725
    Reweighted wake-sleep, https://arxiv.org/abs/1406.2751

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data / 16
    >>> net = BeliefNet(n_latents=(20, 10), max_epochs=5, random_state=0).fit(X)
    >>> net.transform(X).shape, net.sample(3).shape
    ((1797, 30), (3, 64))
    """

    n_latents: Count | Sizes = 200
    hidden: Sizes | tuple[Sizes, ...] = ()
    n_importance_samples: Count = 10
    gradient_estimator: Literal["vimco", "reweighted_wake"] = "vimco"

    _latent_kind = BERNOULLI_LATENTS

    def _check_architecture(self) -> None:
        if self.network != "dense":
            raise ValueError(f"network={self.network!r}: BeliefNet supports only network='dense'")

    def _objective(self) -> Objective:
        if self.n_importance_samples < 2:
            raise ValueError(
                f"n_importance_samples={self.n_importance_samples}: expected at least 2, because "
                "the gradient compares importance samples"
            )
        objectives = {"vimco": vimco, "reweighted_wake": reweighted_wake}
        return objectives[self.gradient_estimator](self.n_importance_samples)
