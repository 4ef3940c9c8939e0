"""What a report is about: an estimator, and the rows it is shown on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ancestral.estimators.base.latent import LatentEstimator

if TYPE_CHECKING:
    from ancestral.datasets import Dataset
    from ancestral.estimators.base.estimator import Estimator


MOST_ROWS = 2000

MOST_REFERENCE_ROWS = 10_000


@dataclass(frozen=True, eq=False)
class Subject:
    """A fitted estimator and a fixed choice of rows, as floats in the estimator's units.

    Attributes
    ----------
    estimator : Estimator
        Fitted.
    dataset : Dataset
        Where the rows come from.
    seed : int
        Of every choice and draw.
    x : array [n, d]
        The rows shown: at most 2,000 test rows (training rows where there is no test split).
    y : array [n], optional
        Their class indices (-1 = none), or real targets, one a row.
    targets : array [n, n_targets], optional
        Their targets, if these are numbers.
    n_rows : int
        How many rows the split holds.
    reference : array [m, d]
        Training rows, for the baselines: at most 10,000.
    """

    estimator: Any
    dataset: Dataset
    seed: int
    x: np.ndarray
    y: np.ndarray | None
    n_rows: int
    reference: np.ndarray
    targets: np.ndarray | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the likelihood of the model is known in closed form."""
        return isinstance(self.estimator, LatentEstimator) and self.estimator.is_exact

    @property
    def split(self) -> str:
        """Which rows are shown, in a word."""
        return "training" if self.dataset.x_test is None else "test"

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """What a row is a picture of, if it is one."""
        shape = self.dataset.image_shape or self.estimator.image_shape
        return None if shape is None else tuple(shape)

    @property
    def kinds(self) -> list[str]:
        """Likelihood of every column."""
        return list(self.estimator.likelihood_)

    @property
    def names(self) -> list[str]:
        """Name of every column."""
        given = self.dataset.feature_names or self.estimator.column_names
        return [f"column {j}" for j in range(self.x.shape[1])] if given is None else list(given)

    @property
    def code(self) -> str:
        """What a row is encoded to, in words."""
        return "posterior mean" if isinstance(self.estimator, LatentEstimator) else "code"

    @property
    def limits(self) -> tuple[float, float]:
        """The values that are shown as black and as white."""
        low, high = float(np.nanmin(self.x)), float(np.nanmax(self.x))
        return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)

    @cached_property
    def latents(self) -> np.ndarray:
        """Posterior means of the rows shown, [n, n_latents]."""
        return np.asarray(self.estimator.transform(self.x), dtype=np.float64)

    def noise(self, purpose: int) -> np.random.Generator:
        """Return a stream of its own for each purpose."""
        return np.random.default_rng([self.seed, purpose])


def choose(estimator: Estimator, dataset: Dataset, seed: int) -> Subject:
    """Choose the rows of a report, the same ones for the same seed.

    Raises
    ------
    ValueError
        If the rows are not as wide as those the estimator was fitted on.
    """
    n_features = estimator.n_features_in_
    if dataset.x_train.shape[1] != n_features:
        raise ValueError(
            f"dataset={dataset.name!r}: its rows have {dataset.x_train.shape[1]} entries and the "
            f"estimator was fitted on {n_features}; pass the data set it was fitted on"
        )
    x, y = dataset.x_test, dataset.y_test
    if x is None:
        x, y = dataset.x_train, dataset.y_train
    rows = _pick(len(x), MOST_ROWS, seed)
    return Subject(
        estimator=estimator,
        dataset=dataset,
        seed=seed,
        x=_values(x, rows, estimator.unit_),
        y=None if y is None else _labels(np.asarray(y)[rows]),
        targets=None if y is None else _targets(np.asarray(y)[rows]),
        n_rows=len(x),
        reference=_values(
            dataset.x_train,
            _pick(len(dataset.x_train), MOST_REFERENCE_ROWS, seed),
            estimator.unit_,
        ),
    )


def _pick(n_rows: int, most: int, seed: int) -> np.ndarray:
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, most, replace=False))


def _values(x: np.ndarray, rows: np.ndarray, unit: float) -> np.ndarray:
    """Rows as the floats that the estimator works in: bytes become pixels, bits 0 and 1."""
    chosen = np.asarray(x[rows])
    if chosen.dtype == np.uint8:
        return chosen.astype(np.float32) * np.float32(unit)
    return chosen if chosen.dtype.kind == "f" else chosen.astype(np.float32)


def _targets(y: np.ndarray) -> np.ndarray | None:
    """Targets of numbers, a column for each."""
    return y.reshape(len(y), -1).astype(np.float64) if y.dtype.kind in "iuf" else None


def _labels(y: np.ndarray) -> np.ndarray | None:
    """Labels or targets that one colour can show: one per row, numbers, not all alike."""
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or y.dtype.kind not in "biuf":
        return None
    y = y.astype(np.int64) if y.dtype.kind in "biu" else y
    return y if len(np.unique(y)) > 1 else None
