"""Context of a report: the estimator and the rows on which it is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ancestral.estimators.base.latent import LatentEstimator

if TYPE_CHECKING:
    from ancestral.datasets import Dataset
    from ancestral.estimators.base.estimator import Estimator


MAX_ROWS = 2000

MAX_TRAINING_ROWS = 10_000


@dataclass(frozen=True, eq=False)
class ReportContext:
    """Fitted estimator and a fixed subset of rows, as floats in the units of the estimator.

    Attributes
    ----------
    estimator : Estimator
        Fitted estimator.
    dataset : Dataset
        Data set of the rows.
    seed : int
        Seed of all random choices of the report.
    x : array [n, d]
        At most 2,000 test rows, or training rows if the data set has no test split.
    y : array [n], optional
        Class indices (-1 = unlabelled) or real targets, one per row.
    n_rows : int
        Number of rows of the split from which ``x`` is taken.
    training : array [m, d]
        At most 10,000 training rows, for baselines.
    targets : array [n, n_targets], optional
        Numeric targets.
    """

    estimator: Any
    dataset: Dataset
    seed: int
    x: np.ndarray
    y: np.ndarray | None
    n_rows: int
    training: np.ndarray
    targets: np.ndarray | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the likelihood of the model has a closed form."""
        return isinstance(self.estimator, LatentEstimator) and self.estimator.is_exact

    @property
    def split(self) -> str:
        """Split of the rows ``x``: "test" or "training"."""
        return "training" if self.dataset.x_test is None else "test"

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of the image in a row; None for a table."""
        shape = self.dataset.image_shape or self.estimator.image_shape
        return None if shape is None else tuple(shape)

    @property
    def likelihoods(self) -> list[str]:
        """Likelihood of every column."""
        return list(self.estimator.likelihood_)

    @property
    def column_names(self) -> list[str]:
        """Name of every column."""
        names = self.dataset.feature_names or self.estimator.column_names
        return [f"column {j}" for j in range(self.x.shape[1])] if names is None else list(names)

    @property
    def encoding(self) -> str:
        """Term for the encoding of a row: "posterior mean" or "code"."""
        return "posterior mean" if isinstance(self.estimator, LatentEstimator) else "code"

    @property
    def pixel_range(self) -> tuple[float, float]:
        """Values drawn as black and as white."""
        low, high = float(np.nanmin(self.x)), float(np.nanmax(self.x))
        return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)

    @cached_property
    def posterior_means(self) -> np.ndarray:
        """Posterior means of the rows ``x``, [n, n_latents]."""
        return np.asarray(self.estimator.transform(self.x), dtype=np.float64)

    def class_names(self, classes: np.ndarray) -> list[str]:
        """Names of class indices, or the indices as text if the data set does not name them."""
        names = self.dataset.class_names
        return [str(c) if names is None or c >= len(names) else names[c] for c in classes.tolist()]

    def rng(self, stream: int) -> np.random.Generator:
        """Return a random number generator, independent for each ``stream``."""
        return np.random.default_rng([self.seed, stream])


def make_context(estimator: Estimator, dataset: Dataset, seed: int) -> ReportContext:
    """Select the rows of a report, reproducibly for a seed.

    Raises
    ------
    ValueError
        If the number of features differs from that of the estimator.
    """
    n_features = estimator.n_features_in_
    if dataset.x_train.shape[1] != n_features:
        raise ValueError(
            f"dataset={dataset.name!r} has {dataset.x_train.shape[1]} features, but the estimator "
            f"was fitted on {n_features}: pass the data set on which it was fitted"
        )
    x, y = dataset.x_test, dataset.y_test
    if x is None:
        x, y = dataset.x_train, dataset.y_train
    rows = _subset(len(x), MAX_ROWS, seed)
    training_rows = _subset(len(dataset.x_train), MAX_TRAINING_ROWS, seed)
    return ReportContext(
        estimator=estimator,
        dataset=dataset,
        seed=seed,
        x=_to_floats(x[rows], estimator.unit_),
        y=None if y is None else _labels(np.asarray(y)[rows]),
        targets=None if y is None else _targets(np.asarray(y)[rows]),
        n_rows=len(x),
        training=_to_floats(dataset.x_train[training_rows], estimator.unit_),
    )


def _subset(n_rows: int, max_rows: int, seed: int) -> np.ndarray:
    """Sorted indices of at most ``max_rows`` random rows."""
    if n_rows <= max_rows:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, max_rows, replace=False))


def _to_floats(rows: np.ndarray, unit: float) -> np.ndarray:
    """Rows as floats in the units of the estimator: bytes as pixels, booleans as 0 and 1."""
    rows = np.asarray(rows)
    if rows.dtype == np.uint8:
        return rows.astype(np.float32) * np.float32(unit)
    return rows if rows.dtype.kind == "f" else rows.astype(np.float32)


def _targets(y: np.ndarray) -> np.ndarray | None:
    """Numeric targets, [n, n_targets]; None for other types."""
    return y.reshape(len(y), -1).astype(np.float64) if y.dtype.kind in "iuf" else None


def _labels(y: np.ndarray) -> np.ndarray | None:
    """Numeric labels or targets, [n]; None if there are several per row or all are equal."""
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or y.dtype.kind not in "biuf":
        return None
    y = y.astype(np.int64) if y.dtype.kind in "biu" else y
    return y if len(np.unique(y)) > 1 else None
