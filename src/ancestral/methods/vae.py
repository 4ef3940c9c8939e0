"""Variational autoencoders: the ELBO (Kingma and Welling) and importance weights (Burda et al.)."""

from __future__ import annotations

from typing import Literal

from ancestral.fields import Count
from ancestral.methods.deep import DeepLatentEstimator
from ancestral.objectives import Objective, elbo, iwae


class VAE(DeepLatentEstimator):
    """Variational autoencoder (Kingma and Welling, 2014): maximises the ELBO.

    Parameters
    ----------
    n_latent_samples : int
        L: draws of z per row and step, over which the bound is averaged.
    kl : {"auto", "analytic", "sampled", "path"}
        The KL term in closed form or at the samples; ``"auto"`` takes the closed form where there
        is one (a single stochastic layer). ``"path"`` is at the samples too, with a gradient whose
        noise vanishes as q nears the posterior (Roeder et al., 2017); a single layer again.

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
            raise ValueError(f"kl={kl!r} is for a single stochastic layer: 'sampled', or 'auto'")
        return elbo(self.n_latent_samples, kl)


class IWAE(DeepLatentEstimator):
    """Importance weighted autoencoder (Burda, Grosse and Salakhutdinov, 2016): maximises L_K.

    Parameters
    ----------
    n_importance_samples : int
        K: samples of z per row and step; the bound tightens with K.
    gradient : {"reparameterised", "doubly"}
        As in the paper, or the doubly reparameterised estimator of Tucker et al. (2018), whose
        signal for the encoder does not fade as K grows.
    n_resampled : int, optional
        Differentiate only so many of the K samples, drawn in proportion to their weights (section
        3 of the paper): with large K half the work or less, for a gradient that is noisier.

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
    gradient: Literal["reparameterised", "doubly"] = "reparameterised"
    n_resampled: Count | None = None

    def _objective(self) -> Objective:
        if self.gradient == "doubly" and len(self._latent_sizes()) > 1:
            raise ValueError("gradient='doubly' is for a single stochastic layer: n_latents=int")
        return iwae(self.n_importance_samples, self.gradient, self.n_resampled)
