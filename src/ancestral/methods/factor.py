"""Factor analysis and probabilistic principal components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from ancestral.conditional import FactorAnalyser
from ancestral.data import Data
from ancestral.exact import LatentFeatures
from ancestral.fields import Count
from ancestral.methods.deep import Modules
from ancestral.methods.exact import ExactEstimator

MOST_ROWS = 5000
"""Among which principal components are looked for, to begin with."""


class FactorAnalysis(ExactEstimator):
    """Factor analysis: x = W z + mu + noise, z ~ N(0, I), learnt by expectation maximisation.

    The linear VAE with an exact posterior. W is known up to a rotation of z: compare W W^T.

    Parameters
    ----------
    n_latents : int
        Number of factors.
    noise : {"diagonal", "isotropic"}
        A variance for every column, or one for all standardised columns: probabilistic principal
        component analysis.
    likelihood : {"gaussian"}
        All columns are real numbers.

    Attributes
    ----------
    components_ : array [n_latents, n_features]
        W transposed, in the units of the columns.
    mean_, noise_variance_ : array [n_features]
        mu and the diagonal of Psi, likewise.

    References
    ----------
    EM algorithms for ML factor analysis (Rubin and Thayer), Psychometrika 47, 1982.
    Probabilistic principal component analysis (Tipping and Bishop), JRSS B 61, 1999.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> fa = FactorAnalysis(n_latents=2, random_state=0).fit(X)
    >>> fa.transform(X).shape, fa.converged_
    ((150, 2), True)
    >>> gaps = X.copy()
    >>> gaps[::2, 0] = float("nan")
    >>> bool(abs(fa.fit(gaps).impute(gaps) - X).mean() < 0.1)
    True
    """

    n_latents: Count = 10
    noise: Literal["diagonal", "isotropic"] = "diagonal"
    likelihood: Literal["gaussian"] = "gaussian"

    @property
    def components_(self) -> np.ndarray:
        """W transposed, in the units of the columns, [n_latents, n_features]."""
        return self.model_.analyser.loading.detach().cpu().double().T.numpy() * self.scale_

    @property
    def mean_(self) -> np.ndarray:
        """Mean of every column, [n_features]."""
        mu = self.model_.analyser.mu.detach().cpu().double().numpy()
        return mu * self.scale_ + self.location_

    @property
    def noise_variance_(self) -> np.ndarray:
        """Variance of every column given z, [n_features]."""
        log_psi = self.model_.analyser.log_psi.detach().cpu().double().numpy()
        return np.exp(log_psi) * np.square(self.scale_)

    def _build(self) -> Modules:
        d = len(self.likelihood_)
        analyser = FactorAnalyser(torch.zeros(d, self.n_latents), torch.zeros(d), torch.zeros(d))
        model = LatentFeatures(analyser, isotropic=self.noise == "isotropic")
        return {"columns_": self._columns(), "model_": model}

    @torch.no_grad()
    def _initialise(self, data: Data) -> None:
        """Start at the principal components, of rows with means in their gaps."""
        d, n = data.n_columns, self.n_latents
        rows = torch.linspace(0, len(data) - 1, min(len(data), MOST_ROWS), device=data.device)
        x = data.take(rows.long()).x
        analyser = self.model_.analyser
        analyser.mu.copy_(x.mean(0))
        _, scale, axes = torch.svd_lowrank(x - x.mean(0), min(n, d, len(x)), niter=4)
        variances = scale.square() / len(x)
        left = (x.var(0, correction=0).sum() - variances.sum()).clamp(min=0) / max(1, d - n)
        analyser.loading.normal_(std=0.01)  # of factors that there are no components for
        analyser.loading[:, : len(scale)] = axes * (variances - left).clamp(min=1e-4).sqrt()
        analyser.log_psi.fill_(left.clamp(min=1e-3).log())

    def _latent_sizes(self) -> tuple[int, ...]:
        return (self.n_latents,)

    def _entries(self, data: Data) -> int:
        return max(data.n_columns, (self.n_latents + 1) ** 2)

    if TYPE_CHECKING:
        model_: LatentFeatures
