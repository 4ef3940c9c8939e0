"""Sigmoid belief nets: layers of bits (Neal, 1992), learnt by VIMCO or reweighted wake-sleep."""

from __future__ import annotations

from typing import Literal

from ancestral.fields import Count, Sizes
from ancestral.methods.deep import BITS, Modules, NetworkEstimator
from ancestral.objectives import Objective, reweighted_wake, vimco


class BeliefNet(NetworkEstimator):
    """Sigmoid belief net (Neal, 1992): layers of latent bits, each given the one above.

    p(h_top) has log-odds of its own; those of every other layer, and of the data, are linear in the
    layer above, or a dense network of it with ``hidden``. q(h | x) is a net of the same shape from
    the data upward. Bits let no gradient through, so q learns from how samples compare.

    Parameters
    ----------
    n_latents : int or list of int
        Number of latent bits; a list makes several layers, from the data upward.
    hidden : list of int, or list of such lists
        Widths of deterministic hidden layers between data and bits, and between layers of bits;
        none makes the classical net.
    n_importance_samples : int
        K: samples per row and step, 2 or more.
    gradient : {"vimco", "reweighted_wake"}
        The unbiased gradient of L_K (Mnih and Rezende, 2016), or for q the wake phase of reweighted
        wake-sleep (Bornschein and Bengio, 2015), which draws it towards the posterior.

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
    gradient: Literal["vimco", "reweighted_wake"] = "vimco"

    _latents = BITS

    def _build(self) -> Modules:
        if self.network != "dense":
            raise ValueError(f"network={self.network!r}: layers of bits are dense, leave it out")
        return self._networks()

    def _objective(self) -> Objective:
        if self.n_importance_samples < 2:
            raise ValueError(
                f"n_importance_samples={self.n_importance_samples}: latent bits learn from how "
                "samples of a row compare, set 2 or more"
            )
        learn = {"vimco": vimco, "reweighted_wake": reweighted_wake}
        return learn[self.gradient](self.n_importance_samples)
