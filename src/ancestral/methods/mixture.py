"""Finite mixtures: latent classes of rows."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ancestral import engine
from ancestral.components import Component, Correlated, Independent
from ancestral.data import Data, block_rows
from ancestral.distributions import centre
from ancestral.exact import LatentClasses, Statistics, added
from ancestral.fields import Count, Weight
from ancestral.methods.deep import Modules
from ancestral.methods.exact import ExactEstimator
from ancestral.networks import one_hot
from ancestral.preprocess import ColumnKind, Columns

MOST_ROWS = 20_000
"""Among which clusters are looked for, to begin with."""


class MixtureModel(ExactEstimator):
    """Finite mixture: a class of every row, and what rows of a class are like.

    Columns may be of mixed kinds, Gaussian, bits, codes, counts, independent given the class
    (latent class analysis), or all Gaussian with full covariances. ``transform`` returns the
    probabilities of the classes.

    Parameters
    ----------
    n_components : int
        Number of classes.
    covariance : {"diagonal", "spherical", "full", "tied"}
        Of Gaussian columns given the class: a variance for each, one for all, a full matrix, or a
        full matrix that the classes share.
    smoothing : float
        Further rows, like the average row, that every class has seen: with some no class dies out
        or shrinks to a single row, where the likelihood has no bound. 0 is maximum likelihood.
    initialise : {"kmeans", "random"}
        Classes to begin with: clusters by k-means, or shares drawn at random.

    Attributes
    ----------
    weights_ : array [n_components]
        Shares of the classes.
    means_ : array [n_components, n_features]
        E[x | class] in the units of the columns; of codes the most probable one.

    References
    ----------
    Maximum likelihood from incomplete data via the EM algorithm (Dempster, Laird and Rubin), JRSS B
    39, 1977.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> mixture = MixtureModel(n_components=3, covariance="full", random_state=0).fit(X)
    >>> np.bincount(mixture.predict(X)).size, mixture.converged_
    (3, True)
    """

    n_components: Count = 10
    covariance: Literal["diagonal", "spherical", "full", "tied"] = "diagonal"
    smoothing: Weight = 0.1
    initialise: Literal["kmeans", "random"] = "kmeans"

    @property
    def weights_(self) -> np.ndarray:
        """Shares of the classes, [n_components]."""
        return self.model_.prior().probs.detach().cpu().double().numpy()

    @property
    def means_(self) -> np.ndarray:
        """E[x | class] in the units of the columns, [n_components, n_features]."""
        with torch.no_grad():
            classes = torch.eye(self.n_components, device=self._device())
            return self.columns_.to_user(centre(self.model_.decode(classes))).cpu().numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of every row, [n_samples]: numbers from 0.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry.
        """
        return self.transform(X).argmax(1)

    def _build(self) -> Modules:
        columns, k = self._columns(), self.n_components
        kinds = sorted(set(columns.kinds))
        if self.covariance in ("full", "tied"):
            if kinds != ["gaussian"]:
                raise ValueError(
                    f"covariance={self.covariance!r} is of Gaussian columns, and there are others "
                    f"({', '.join(kinds)}): take 'diagonal', or likelihood='gaussian'"
                )
            tied = self.covariance == "tied"
            parts: list[Component] = [Correlated(k, len(columns.kinds), tied=tied)]
        else:
            parts = [self._independent(kind, columns) for kind in kinds]
        model = LatentClasses(parts, [columns.columns_of(j) for j in kinds], self.smoothing)
        return {"columns_": columns, "model_": model}

    def _independent(self, kind: ColumnKind, columns: Columns) -> Independent:
        chosen = columns.columns_of(kind)
        codes = [columns.n_categories[j] for j in chosen]
        spherical = self.covariance == "spherical"
        return Independent(kind, self.n_components, len(chosen), codes, spherical=spherical)

    @torch.no_grad()
    def _initialise(self, data: Data) -> None:
        """Start at clusters, or anywhere; and see what the average row is like."""
        model, k = self.model_, self.n_components
        if len(data) < k:
            raise ValueError(
                f"n_components={k}: expected at most as many classes as rows, of which there are "
                f"{len(data)}"
            )
        wide = engine.widest(data.device)
        engine.moved(model.to(wide), data.device)
        shares = self._first_shares(data)
        total: Statistics | None = None
        everyone: Statistics | None = None
        for batch in data.in_precision(wide).parts(self._rows_at_once(data)):
            weights = shares[batch.index].to(data.device, wide)
            total = added(total, model.sums(batch, weights))
            everyone = added(everyone, model.sums(batch, torch.ones_like(weights[:, :1])))
        assert total is not None
        assert everyone is not None
        groups = zip(model.components, everyone[1:], strict=True)
        model.average = [component.average(sums) for component, sums in groups]
        model.maximise(total)

    def _first_shares(self, data: Data) -> Tensor:
        """Return how much every row belongs to every class to begin with, [n, k]."""
        k = self.n_components
        if self.initialise == "random":
            return torch.softmax(torch.randn(len(data), k), -1)
        from sklearn.cluster import KMeans

        seen = [
            self.columns_.to_features(batch.x, batch.mask).cpu()
            for batch in data.parts(block_rows(data.n_columns))
        ]
        x = torch.cat(seen).numpy()
        rows = np.linspace(0, len(x) - 1, min(len(x), MOST_ROWS)).astype(int)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Number of distinct clusters")
            clusters = KMeans(k, n_init=1, random_state=self.seed_ % 2**32).fit(x[rows])
        return one_hot(torch.from_numpy(clusters.predict(x)).long(), k)

    def _latent_sizes(self) -> tuple[int, ...]:
        return (self.n_components,)

    def _entries(self, data: Data) -> int:
        d, full = self.columns_.n_features, self.covariance in ("full", "tied")
        return self.n_components * d * d if full and data.missing else max(d, self.n_components)

    if TYPE_CHECKING:
        model_: LatentClasses
