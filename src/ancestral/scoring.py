"""Scoring a fitted model by a stated protocol: likelihood, errors, likeness of samples."""

from __future__ import annotations

from dataclasses import asdict, replace
from time import perf_counter
from typing import Any

import numpy as np

from ancestral import datasets
from ancestral.classification import classify
from ancestral.density import LatentEstimator
from ancestral.errors import squared_errors
from ancestral.evaluate import LogLikelihood, standard_error_of_mean
from ancestral.fields import check, hints
from ancestral.labels import ClassLearner, LabelLearner, TargetLearner
from ancestral.likeness import likeness
from ancestral.methods.autoencoder import Autoencoder
from ancestral.methods.implicit import ImplicitEstimator
from ancestral.protocol import Metric, Scoring, labelled_rows, labels, measured
from ancestral.rows import RowEstimator

LIKENESS = "MMD^2 of samples"

SAMPLES = 2000
"""Most samples that are compared with real rows."""


def evaluate(
    estimator: LatentEstimator,
    dataset: datasets.Dataset,
    scoring: Scoring,
    *,
    checkpoint: str | None = None,
    progress: bool = False,
) -> tuple[Metric, LogLikelihood]:
    """Estimate the log-likelihood of one split; with a checkpoint, it can be interrupted.

    Returns
    -------
    (dict, LogLikelihood)
        What goes into ``metrics.json``, and the values themselves.
    """
    for name, hint in hints(Scoring).items():
        check(name, getattr(scoring, name), hint)
    _, X = scoring.rows(dataset)
    began = perf_counter()
    result = estimator.log_likelihood(
        X,
        scoring.n_importance_samples,
        annealing=scoring.annealing,
        binarize_seed=scoring.binarize_seed,
        precision=scoring.precision,
        checkpoint=checkpoint,
        progress=progress,
    )
    found = {
        "value": result.mean,
        "standard_error": result.standard_error,
        "seconds": perf_counter() - began,
    }
    if not result.is_exact:
        found["median_effective_sample_size"] = float(np.median(result.effective_sample_sizes))
    return scoring.describe_likelihood(estimator, dataset) | found, result


def look(
    estimator: RowEstimator,
    dataset: datasets.Dataset,
    rows: Scoring,
    *,
    n_likelihoods: int | None = None,
) -> tuple[list[Metric], LogLikelihood | None]:
    """Score an estimator by all that it can be scored by: a first look, after training.

    The likelihood, which takes by far the longest, may be of the first ``n_likelihoods`` rows only.

    Returns
    -------
    (list of dict, LogLikelihood or None)
        Likelihood first, then errors; the likelihood row by row.
    """
    metrics, likelihoods = [], None
    if isinstance(estimator, LatentEstimator):
        fewer = rows if n_likelihoods is None else replace(rows, n_rows=n_likelihoods)
        metric, likelihoods = evaluate(estimator, dataset, fewer)
        metrics.append(metric)
    if isinstance(estimator, ClassLearner) and labels(dataset, rows) is not None:
        metrics.append(classify(estimator, dataset, rows)[0])
    if isinstance(estimator, TargetLearner) and labels(dataset, rows) is not None:
        metrics.append(regress(estimator, dataset, rows))
    if isinstance(estimator, Autoencoder):
        metrics.append(rebuild(estimator, dataset, rows))
    if isinstance(estimator, ImplicitEstimator):
        metrics.append(resemble(estimator, dataset, rows))
    return metrics, likelihoods


def regress(estimator: Any, dataset: datasets.Dataset, rows: Scoring) -> Metric:
    """Compare predicted targets with the true ones of one split, in the targets' units."""
    split, X, y = labelled_rows(dataset, rows, "targets")
    began = perf_counter()
    squares = np.square(estimator.predict(X) - y).reshape(len(X), -1).mean(1)
    root = float(np.sqrt(squares.mean()))
    value = root, standard_error_of_mean(squares) / (2 * root or 1.0)
    return measured("root mean squared error", split, len(X), dataset, value, began)


def regress_density(estimator: Any, dataset: datasets.Dataset, rows: Scoring) -> Metric:
    """Average log p(y | x) of the targets of one split, in nats and in the targets' units."""
    split, X, y = labelled_rows(dataset, rows, "targets")
    began = perf_counter()
    values = estimator.log_density(X, y)
    value = float(values.mean()), standard_error_of_mean(values)
    return measured("log-likelihood of targets, nats", split, len(X), dataset, value, began)


def rebuild(estimator: Autoencoder, dataset: datasets.Dataset, rows: Scoring) -> Metric:
    """Compare rows of one split with what their codes are decoded to, entry by entry."""
    split, X = rows.rows(dataset)
    began = perf_counter()
    truth = X.astype(np.float64) * (estimator.unit_ if X.dtype == np.uint8 else 1.0)
    found = squared_errors(truth, estimator.reconstruct(X), ~np.isnan(truth))
    value = found.mean, found.standard_error
    name = "mean squared error of reconstructions"
    return measured(name, split, len(X), dataset, value, began)


def resemble(
    estimator: ImplicitEstimator, dataset: datasets.Dataset, rows: Scoring, *, seed: int = 0
) -> Metric:
    """Compare samples of an implicit model with rows of one split, at most 2,000 of each.

    If there are more, rows are chosen at random, the same ones every time, for a table may be
    sorted. All are compared in the units in which the model sees columns: real values standardised
    as it has learnt to, bits and pixels as they are.

    Raises
    ------
    ValueError
        If a row of the split, or a training row, has missing entries.
    """
    split, X = rows.rows(dataset)
    real = as_values(X, estimator.unit_, f"{dataset.name}, {split} rows")
    real = real[np.random.default_rng(0).permutation(len(X))[:SAMPLES]]
    training = as_values(dataset.x_train, estimator.unit_, f"{dataset.name}, training rows")
    began = perf_counter()
    drawn = estimator.sample(len(real), random_state=seed)
    found = likeness(*(as_seen(estimator, rows) for rows in (drawn, real, training)))
    value = found.mmd2, found.mmd2_error
    return measured(LIKENESS, split, len(real), dataset, value, began, **asdict(found))


def observe(
    estimator: ImplicitEstimator,
    dataset: datasets.Dataset,
    rows: Scoring,
    variance: float,
    *,
    progress: bool = False,
) -> tuple[Metric, LogLikelihood]:
    """Estimate the likelihood of rows under a generator with normal noise on top.

    Returns
    -------
    (dict, LogLikelihood)
        What goes into ``metrics.json``, and the values themselves.
    """
    split, X = rows.rows(dataset)
    y = labels(dataset, rows) if isinstance(estimator, LabelLearner) else None
    began = perf_counter()
    told = None if y is None else y[: len(X)]
    how: dict[str, Any] = {"annealing": rows.annealing, "progress": progress}
    found = estimator.log_likelihood(X, told, variance=variance, **how)
    name = f"log-likelihood {rows} with noise of variance {variance:g}, nats"
    value = found.mean, found.standard_error
    return measured(name, split, len(X), dataset, value, began), found


def as_seen(estimator: RowEstimator, rows: np.ndarray) -> np.ndarray:
    """Return rows in the units in which the model sees columns: bits and pixels as they are."""
    return (np.asarray(rows, np.float64) - estimator.location_) / estimator.scale_


def as_values(x: np.ndarray, unit: float, what: str = "rows") -> np.ndarray:
    """Return rows as floats in the estimator's units.

    Raises
    ------
    ValueError
        If entries are missing; ``what`` says of what.
    """
    values = np.asarray(x)
    values = values.astype(np.float64) * (unit if values.dtype == np.uint8 else 1.0)
    gaps = np.flatnonzero(~np.isfinite(values).all(1))
    if len(gaps):
        raise ValueError(
            f"{what}: {len(gaps)} of {len(values)} have missing or infinite entries, the first of "
            f"them row {gaps[0]} (counted from 0), and rows are compared whole: fill the gaps (a "
            "VAE's impute, say), or leave such rows out"
        )
    return values
