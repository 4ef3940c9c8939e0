"""Variational autoencoder (Kingma and Welling, 2014) and IWAE (Burda et al., 2016)."""

from __future__ import annotations

from typing import Literal

from ancestral.estimators.base.deep_latent import DeepLatentEstimator
from ancestral.objectives import Objective, elbo, iwae
from ancestral.utils.validation import Count


class VAE(DeepLatentEstimator):
    """Variational autoencoder (Kingma and Welling, 2014): maximises the ELBO.

    Parameters
    ----------
    n_latent_samples : int
        L: number of samples of z per data point and step, over which the bound is averaged.
    kl : {"auto", "analytic", "sampled", "path"}
        KL term in closed form, or estimated at the samples of z. ``"auto"`` selects the closed form
        for a single stochastic layer. ``"path"`` is the estimate with the pathwise gradient, whose
        variance vanishes as q approaches the posterior (Roeder et al., 2017); it requires a single
        stochastic layer.

    References
    ----------
    Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data / 16
    >>> vae = VAE(n_latents=5, hidden=(50,), max_epochs=5, random_state=0).fit(X)
    >>> vae.transform(X).shape, vae.sample(3).shape
    ((1797, 5), (3, 64))
    """

    n_latent_samples: Count = 1
    kl: Literal["auto", "analytic", "sampled", "path"] = "auto"

    def _objective(self) -> Objective:
        one_layer = len(self._latent_sizes()) == 1
        kl = ("analytic" if one_layer else "sampled") if self.kl == "auto" else self.kl
        if kl in ("analytic", "path") and not one_layer:
            raise ValueError(
                f"kl={kl!r} requires a single stochastic layer: set kl='sampled' or 'auto'"
            )
        return elbo(self.n_latent_samples, kl)


class IWAE(DeepLatentEstimator):
    """Importance weighted autoencoder (Burda, Grosse and Salakhutdinov, 2016): maximises L_K.

    Parameters
    ----------
    n_importance_samples : int
        K: number of importance samples of z per data point and step; the bound tightens with K.
    gradient_estimator : {"reparameterised", "doubly"}
        Gradient estimator: that of the paper, or the doubly reparameterised one of Tucker et al.
        (2018), whose signal-to-noise ratio for the encoder does not decrease with K.
    n_resampled : int, optional
        Number of the K samples to differentiate, resampled in proportion to their weights (section
        3 of the paper): half the computation or less for large K, noisier gradients.

    References
    ----------
    Importance Weighted Autoencoders, https://arxiv.org/abs/1509.00519

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data / 16
    >>> iwae = IWAE(n_latents=5, hidden=(50,), max_epochs=5, random_state=0).fit(X)
    >>> iwae.log_likelihood(X[:10], n_importance_samples=50).values.shape
    (10,)
    """

    n_importance_samples: Count = 5
    gradient_estimator: Literal["reparameterised", "doubly"] = "reparameterised"
    n_resampled: Count | None = None

    def _objective(self) -> Objective:
        if self.gradient_estimator == "doubly" and len(self._latent_sizes()) > 1:
            raise ValueError(
                "gradient_estimator='doubly' requires a single stochastic layer, got "
                f"n_latents={self.n_latents!r}"
            )
        return iwae(self.n_importance_samples, self.gradient_estimator, self.n_resampled)
