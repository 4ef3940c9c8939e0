"""Evaluation settings of a fitted model and the record format of its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np

from ancestral import datasets
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.evaluation.ais import Annealing
from ancestral.evaluation.estimate import Estimate
from ancestral.training.engine import Precision
from ancestral.utils.validation import Count, Natural

Metric = dict[str, Any]


@dataclass(frozen=True)
class EvaluationSettings:
    """Evaluation settings: the scored rows and the likelihood estimator.

    Attributes
    ----------
    n_importance_samples : int
        Number S of importance samples per row of the bound L_S.
    split : {"test", "valid", "train"}, optional
        Split of the scored rows; by default the test rows, or the training rows if there are none.
    binarize_seed : int
        Seed of the fixed binarisation of grey values.
    n_rows : int, optional
        Number of scored rows, from the first; by default all.
    precision : {"float32", "bfloat16", "auto"}
        Precision of matrix products.
    annealing : Annealing, optional
        Settings of annealed importance sampling, which then replaces L_S.
    """

    n_importance_samples: Count = 5000
    split: Literal["test", "valid", "train"] | None = None
    binarize_seed: Natural = 0
    n_rows: Count | None = None
    precision: Precision = "float32"
    annealing: Annealing | None = None

    def rows(self, dataset: datasets.Dataset) -> tuple[str, np.ndarray]:
        """Name of the scored split, and its rows [n, n_features].

        Raises
        ------
        ValueError
            If the data set has no such split.
        """
        split = self.split or ("train" if dataset.x_test is None else "test")
        X = getattr(dataset, f"x_{split}")
        if X is None:
            raise ValueError(f"split={split!r}: the data set {dataset.name} has no such rows")
        return split, X[: self.n_rows]

    def __str__(self) -> str:
        if self.annealing is None:
            return f"L_{self.n_importance_samples}"
        ais = self.annealing
        text = f"AIS_{ais.n_chains}, {ais.n_steps} steps from the {ais.initial_distribution}"
        default = Annealing(
            ais.n_steps, ais.n_chains, initial_distribution=ais.initial_distribution
        )
        moves = f", {ais.n_leapfrog} leapfrogs, at first of {ais.initial_step_size:g}"
        return text if ais == default else text + moves

    def likelihood_identity(self, estimator: LatentEstimator, dataset: datasets.Dataset) -> Metric:
        """Identifying fields of a likelihood evaluation: equal fields imply equal values."""
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


def make_metric(
    name: str,
    split: str,
    n_rows: int,
    dataset: datasets.Dataset,
    value: Estimate,
    start_time: float,
    **extra: Any,
) -> Metric:
    """Record of one metric, as written to ``metrics.json``.

    Parameters
    ----------
    name : str
        Name of the metric, with its unit.
    split : str
        Name of the scored split.
    n_rows : int
        Number of scored rows.
    dataset : Dataset
        Data set of the rows.
    value : Estimate
        The metric and its standard error.
    start_time : float
        Time at which the evaluation started, from ``perf_counter``, in seconds.
    **extra
        Further fields of the record.
    """
    return {
        "metric": name,
        "split": split,
        "n_rows": n_rows,
        **extra,
        "data": dataset.name,
        "data_checksum": dataset.checksum,
        "value": value.value,
        "standard_error": value.standard_error,
        "seconds": perf_counter() - start_time,
    }


def labels(dataset: datasets.Dataset, rows: EvaluationSettings) -> np.ndarray | None:
    """Labels of the whole scored split, [n] or [n, d]; None if the data set has none."""
    return getattr(dataset, f"y_{rows.rows(dataset)[0]}")


def labelled_rows(
    dataset: datasets.Dataset, rows: EvaluationSettings, description: str = "labels"
) -> tuple[str, np.ndarray, np.ndarray]:
    """Name of the scored split, its rows [n, n_features] and their labels [n] or [n, d].

    Raises
    ------
    ValueError
        If the data set has no labels; the message refers to them as ``description``.
    """
    split, X = rows.rows(dataset)
    y = labels(dataset, rows)
    if y is None:
        raise ValueError(f"the data set {dataset.name} has no {description} for its {split} rows")
    return split, X, y[: len(X)]
