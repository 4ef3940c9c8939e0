"""By what protocol a model is scored: which rows, how, and the form of what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np

from ancestral import datasets
from ancestral.ais import Annealing
from ancestral.density import LatentEstimator
from ancestral.engine import Precision
from ancestral.fields import Count, Natural

Metric = dict[str, Any]


@dataclass(frozen=True)
class Scoring:
    """Which rows are scored, and how.

    Attributes
    ----------
    n_importance_samples : int
        S of L_S.
    split : {"test", "valid", "train"}, optional
        By default the test rows, if there are some.
    binarize_seed : int
        Of the one binarisation of grey values.
    n_rows : int, optional
        The first so many rows only.
    precision : {"float32", "bfloat16", "auto"}
        Of matrix products.
    annealing : Annealing, optional
        Annealed importance sampling in place of L_S.
    """

    n_importance_samples: Count = 5000
    split: Literal["test", "valid", "train"] | None = None
    binarize_seed: Natural = 0
    n_rows: Count | None = None
    precision: Precision = "float32"
    annealing: Annealing | None = None

    def rows(self, dataset: datasets.Dataset) -> tuple[str, np.ndarray]:
        """Return the name of the split, and its rows."""
        split = self.split or ("train" if dataset.x_test is None else "test")
        X = getattr(dataset, f"x_{split}")
        if X is None:
            raise ValueError(f"split={split!r}: the data set {dataset.name} has no such rows")
        return split, X[: self.n_rows]

    def __str__(self) -> str:
        if self.annealing is None:
            return f"L_{self.n_importance_samples}"
        how = self.annealing
        words = f"AIS_{how.n_chains}, {how.n_steps} steps from the {how.start}"
        usual = Annealing(how.n_steps, how.n_chains, start=how.start)
        moves = f", {how.n_leapfrog} leapfrogs, at first of {how.first_step_size:g}"
        return words if how == usual else words + moves

    def describe_likelihood(self, estimator: LatentEstimator, dataset: datasets.Dataset) -> Metric:
        """Say what an evaluation is of: two that agree in this give the same values."""
        split, X = self.rows(dataset)
        return {
            "metric": f"log-likelihood{'' if estimator.is_exact else f' {self}'}, nats",
            "split": split,
            "n_rows": len(X),
            "precision": self.precision,
            "binarize_seed": self.binarize_seed if estimator.draws_bits_ else None,
            "data": dataset.name,
            "data_checksum": dataset.checksum,
        }


def measured(
    name: str,
    split: str,
    n_rows: int,
    dataset: datasets.Dataset,
    value: tuple[float, float],
    began: float,
    **more: Any,
) -> Metric:
    """Return what is kept of a measurement.

    Parameters
    ----------
    name, split : str
        Which metric, with its unit, of which rows.
    n_rows : int
        How many these are.
    dataset : Dataset
        Of which data.
    value : (float, float)
        The number and its standard error.
    began : float
        When, by ``perf_counter``.
    **more
        What else there is to say.
    """
    return {
        "metric": name,
        "split": split,
        "n_rows": n_rows,
        **more,
        "data": dataset.name,
        "data_checksum": dataset.checksum,
        "value": value[0],
        "standard_error": value[1],
        "seconds": perf_counter() - began,
    }


def labels(dataset: datasets.Dataset, rows: Scoring) -> np.ndarray | None:
    """Return the labels of the rows that are scored, if the data set has some."""
    return getattr(dataset, f"y_{rows.rows(dataset)[0]}")


def labelled_rows(
    dataset: datasets.Dataset, rows: Scoring, what: str = "labels"
) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the name of the split that is scored, its rows, and the label of each.

    Raises
    ------
    ValueError
        If the data set has no labels; ``what`` is what the message calls them.
    """
    split, X = rows.rows(dataset)
    y = labels(dataset, rows)
    if y is None:
        raise ValueError(f"the data set {dataset.name} has no {what} of its {split} rows")
    return split, X, y[: len(X)]
