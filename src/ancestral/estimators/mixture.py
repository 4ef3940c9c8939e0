"""Finite mixture models."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ancestral.data.columns import ColumnKind, Columns
from ancestral.data.device_data import DeviceData, rows_per_block
from ancestral.estimators.base.deep_latent import Modules
from ancestral.estimators.base.em import EMEstimator
from ancestral.estimators.base.network import SMALL_ROWS
from ancestral.models.exact import Statistics, add_statistics
from ancestral.models.mixture import MixtureLatentModel
from ancestral.models.mixture_components import Component, FullCovariance, IndependentColumns
from ancestral.nn import one_hot
from ancestral.probability.distributions import mean_or_mode
from ancestral.training import engine
from ancestral.utils.validation import Count, Weight

MAX_INIT_SAMPLES = 20_000
"""Maximum number of samples in the k-means clustering of the initialisation."""

MIN_ROWS_PER_COLUMN = 3
"""Smallest number of rows per column for which ``"auto"`` selects a covariance matrix."""


class MixtureModel(EMEstimator):
    """Finite mixture model, fitted by expectation maximisation.

    Features may be Gaussian, Bernoulli, categorical and Poisson, independent given the component
    (latent class analysis), or all Gaussian with full covariances. ``transform`` returns the
    posterior probabilities of the components.

    Parameters
    ----------
    n_components : int
        Number of components.
    covariance_type : {"auto", "diag", "spherical", "full", "tied"}
        Covariance of Gaussian features given the component: a variance for each feature, one for
        all features, a full matrix, or a full matrix shared by the components. ``"auto"`` is
        ``"tied"`` for real-valued rows, fewer than 5,000 and at least three per column, that are
        not images, and ``"diag"`` otherwise.
    prior_count : float
        Number of pseudo-samples, with the statistics of the average sample, added to every
        component. They prevent components from vanishing or from shrinking to a single sample,
        where the likelihood is unbounded. 0 gives maximum likelihood.
    init_params : {"kmeans", "random"}
        Initial responsibilities: k-means clusters, or the softmax of normal random numbers.

    Attributes
    ----------
    weights_ : array [n_components]
        Mixture weights.
    means_ : array [n_components, n_features]
        E[x | component] in the units of the features; for categorical features the mode.

    References
    ----------
    Maximum likelihood from incomplete data via the EM algorithm (Dempster, Laird and Rubin), JRSS B
    39, 1977.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> mixture = MixtureModel(n_components=3, covariance_type="full", random_state=0).fit(X)
    >>> np.bincount(mixture.predict(X)).size, mixture.converged_
    (3, True)
    """

    n_components: Count = 10
    covariance_type: Literal["auto", "diag", "spherical", "full", "tied"] = "auto"
    prior_count: Weight = 0.1
    init_params: Literal["kmeans", "random"] = "kmeans"

    @property
    def weights_(self) -> np.ndarray:
        """Mixture weights, [n_components]."""
        return self.model_.prior().probs.detach().cpu().double().numpy()

    @property
    def means_(self) -> np.ndarray:
        """E[x | component] in the units of the features, [n_components, n_features]."""
        with torch.no_grad():
            classes = torch.eye(self.n_components, device=self._device())
            return (
                self.columns_.to_data_units(mean_or_mode(self.model_.decode(classes))).cpu().numpy()
            )

    def predict(self, X: Any) -> np.ndarray:
        """Index of the most probable component of each sample, [n_samples].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Data; ``NaN`` marks missing values.
        """
        return self.transform(X).argmax(1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the posterior probabilities of the components, [n_samples, n_components].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry.
        """
        return self.transform(X)

    def _resolve_defaults(self, data: DeviceData) -> None:
        self.covariance_type_ = self.covariance_type
        if self.covariance_type == "auto":
            is_image = self.image_shape is not None
            self.covariance_type_ = (
                "diag" if is_image else covariance_type(len(data), self.likelihood_)
            )

    def _build(self) -> Modules:
        columns, k = self._columns(), self.n_components
        kinds = sorted(set(columns.kinds))
        covariance = self._resolved("covariance_type")
        if covariance in ("full", "tied"):
            if kinds != ["gaussian"]:
                raise ValueError(
                    f"covariance_type={self.covariance_type!r} requires Gaussian columns, got "
                    f"{', '.join(kinds)}: set covariance='diag', or likelihood='gaussian'"
                )
            tied = covariance == "tied"
            parts: list[Component] = [FullCovariance(k, len(columns.kinds), tied=tied)]
        else:
            parts = [self._independent_columns(kind, columns) for kind in kinds]
        model = MixtureLatentModel(
            parts, [columns.column_indices(j) for j in kinds], self.prior_count
        )
        return {"columns_": columns, "model_": model}

    def _independent_columns(self, kind: ColumnKind, columns: Columns) -> IndependentColumns:
        index = columns.column_indices(kind)
        n_categories = [columns.n_categories[j] for j in index]
        spherical = self.covariance_type == "spherical"
        return IndependentColumns(
            kind, self.n_components, len(index), n_categories, spherical=spherical
        )

    @torch.no_grad()
    def _init_parameters(self, data: DeviceData) -> None:
        """Initialise by an M-step on the initial responsibilities; set the average statistics."""
        model, k = self.model_, self.n_components
        if len(data) < k:
            raise ValueError(
                f"n_components={k}: expected at most the number of training samples, {len(data)}"
            )
        dtype = engine.widest_float_dtype(data.device)
        engine.move_to(model.to(dtype), data.device)
        responsibilities = self._initial_responsibilities(data)
        statistics: Statistics | None = None
        pooled: Statistics | None = None
        for batch in data.with_dtype(dtype).even_chunks(self._chunk_size(data)):
            weights = responsibilities[batch.index].to(data.device, dtype)
            statistics = add_statistics(statistics, model.sufficient_statistics(batch, weights))
            pooled = add_statistics(
                pooled, model.sufficient_statistics(batch, torch.ones_like(weights[:, :1]))
            )
        assert statistics is not None
        assert pooled is not None
        groups = zip(model.components, pooled[1:], strict=True)
        model.average_statistics = [
            component.average_statistics(sums) for component, sums in groups
        ]
        model.m_step(statistics)

    def _initial_responsibilities(self, data: DeviceData) -> Tensor:
        """Initial responsibilities of the components for each sample, [n, k]; rows sum to one."""
        k = self.n_components
        if self.init_params == "random":
            return torch.softmax(torch.randn(len(data), k), -1)
        from sklearn.cluster import KMeans

        features = [
            self.columns_.to_features(batch.x, batch.mask).cpu()
            for batch in data.even_chunks(rows_per_block(data.n_columns))
        ]
        x = torch.cat(features).numpy()
        index = np.linspace(0, len(x) - 1, min(len(x), MAX_INIT_SAMPLES)).astype(int)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Number of distinct clusters")
            kmeans = KMeans(k, n_init=1, random_state=self.seed_ % 2**32).fit(x[index])
        return one_hot(torch.from_numpy(kmeans.predict(x)).long(), k)

    def _latent_sizes(self) -> tuple[int, ...]:
        return (self.n_components,)

    def _n_statistics(self, data: DeviceData) -> int:
        d, full = self.columns_.n_features, self._resolved("covariance_type") in ("full", "tied")
        return self.n_components * d * d if full and data.missing else max(d, self.n_components)

    if TYPE_CHECKING:
        model_: MixtureLatentModel


def covariance_type(n_rows: int, kinds: Sequence[str]) -> Literal["diag", "tied"]:
    """Return the covariance of a mixture for a data set.

    Real-valued tables of fewer than 5,000 rows get one matrix for all components: it models
    correlations, which a few components with a variance for each column don't.

    Parameters
    ----------
    n_rows : int
        Number of training rows.
    kinds : sequence of str
        Kind of each column.

    Examples
    --------
    >>> covariance_type(100, ["gaussian"] * 4), covariance_type(10, ["gaussian"] * 4)
    ('tied', 'diag')
    """
    is_real = set(kinds) == {"gaussian"}
    enough = MIN_ROWS_PER_COLUMN * len(kinds) <= n_rows < SMALL_ROWS
    return "tied" if is_real and enough else "diag"
