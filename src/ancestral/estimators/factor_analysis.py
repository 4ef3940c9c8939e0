"""Factor analysis and probabilistic principal component analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from ancestral.data.device_data import DeviceData
from ancestral.estimators.base.deep_latent import Modules
from ancestral.estimators.base.em import EMEstimator
from ancestral.models.factor_analysis import FactorAnalyser, FactorAnalysisModel
from ancestral.utils.validation import Count

MAX_INIT_SAMPLES = 5000
"""Maximum number of samples in the principal component analysis of the initialisation."""


class FactorAnalysis(EMEstimator):
    """Factor analysis: x = W z + mu + noise, z ~ N(0, I), fitted by expectation maximisation.

    This is the linear VAE with an exact posterior. W is identified up to a rotation of z: compare
    W W^T.

    Parameters
    ----------
    n_components : int
        Number of factors.
    noise_covariance : {"diagonal", "isotropic"}
        Noise covariance: a variance for each feature, or one for all standardised features
        (probabilistic principal component analysis).
    likelihood : {"gaussian"}
        Distribution of the features: all are real-valued.

    Attributes
    ----------
    components_ : array [n_latents, n_features]
        W transposed, in the units of the features.
    mean_, noise_variance_ : array [n_features]
        mu and the diagonal of Psi, in the units of the features.

    References
    ----------
    EM algorithms for ML factor analysis (Rubin and Thayer), Psychometrika 47, 1982.
    Probabilistic principal component analysis (Tipping and Bishop), JRSS B 61, 1999.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> fa = FactorAnalysis(n_components=2, random_state=0).fit(X)
    >>> fa.transform(X).shape, fa.converged_
    ((150, 2), True)
    >>> X_missing = X.copy()
    >>> X_missing[::2, 0] = float("nan")
    >>> bool(abs(fa.fit(X_missing).impute(X_missing) - X).mean() < 0.1)
    True
    """

    n_components: Count = 10
    noise_covariance: Literal["diagonal", "isotropic"] = "diagonal"
    likelihood: Literal["gaussian"] = "gaussian"

    @property
    def components_(self) -> np.ndarray:
        """W transposed, in the units of the features, [n_latents, n_features]."""
        return self.model_.analyser.loading.detach().cpu().double().T.numpy() * self.scale_

    @property
    def mean_(self) -> np.ndarray:
        """Mean of each feature, [n_features]."""
        mu = self.model_.analyser.mu.detach().cpu().double().numpy()
        return mu * self.scale_ + self.location_

    @property
    def noise_variance_(self) -> np.ndarray:
        """Variance of each feature given z, [n_features]."""
        log_psi = self.model_.analyser.log_psi.detach().cpu().double().numpy()
        return np.exp(log_psi) * np.square(self.scale_)

    def _build(self) -> Modules:
        d = len(self.likelihood_)
        analyser = FactorAnalyser(torch.zeros(d, self.n_components), torch.zeros(d), torch.zeros(d))
        model = FactorAnalysisModel(analyser, isotropic=self.noise_covariance == "isotropic")
        return {"columns_": self._columns(), "model_": model}

    @torch.no_grad()
    def _init_parameters(self, data: DeviceData) -> None:
        """Initialise by principal components, with missing values replaced by feature means."""
        d, n = data.n_columns, self.n_components
        index = torch.linspace(
            0, len(data) - 1, min(len(data), MAX_INIT_SAMPLES), device=data.device
        )
        x = data.batch_at(index.long()).x
        analyser = self.model_.analyser
        analyser.mu.copy_(x.mean(0))
        _, scale, axes = torch.svd_lowrank(x - x.mean(0), min(n, d, len(x)), niter=4)
        variances = scale.square() / len(x)
        residual = (x.var(0, correction=0).sum() - variances.sum()).clamp(min=0) / max(1, d - n)
        analyser.loading.normal_(std=0.01)  # for factors in excess of the components
        analyser.loading[:, : len(scale)] = axes * (variances - residual).clamp(min=1e-4).sqrt()
        analyser.log_psi.fill_(residual.clamp(min=1e-3).log())

    def _latent_sizes(self) -> tuple[int, ...]:
        return (self.n_components,)

    def _n_statistics(self, data: DeviceData) -> int:
        return max(data.n_columns, (self.n_components + 1) ** 2)

    if TYPE_CHECKING:
        model_: FactorAnalysisModel
