"""Evaluation of fitted models: log-likelihood, prediction errors and sample quality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone

from ancestral import datasets
from ancestral.data.labels import has_label
from ancestral.estimators.autoencoder import Autoencoder
from ancestral.estimators.base.estimator import Estimator
from ancestral.estimators.base.implicit import ImplicitEstimator
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.estimators.base.supervised import ClassifierBase, LinearClassifierBase, RegressorBase
from ancestral.estimators.pegasos import Solver, make_linear_svm, solver_name
from ancestral.evaluation.estimate import Estimate, mean_estimate
from ancestral.evaluation.log_likelihood import LogLikelihood
from ancestral.evaluation.metrics import ClassificationErrors, classification_errors, squared_errors
from ancestral.evaluation.sample_quality import SampleQuality, sample_quality
from ancestral.experiments.evaluation_settings import (
    EvaluationSettings,
    Metric,
    labelled_rows,
    labels,
    make_metric,
)
from ancestral.utils.validation import check_field, field_hints

SAMPLE_QUALITY = "MMD^2 of samples"

MAX_SAMPLES = 2000
"""Maximum number of samples that are compared with real rows."""


def score_log_likelihood(
    estimator: LatentEstimator,
    dataset: datasets.Dataset,
    scoring: EvaluationSettings,
    *,
    checkpoint: str | None = None,
    progress: bool = False,
) -> tuple[Metric, LogLikelihood]:
    """Estimate the log-likelihood of one split, in nats.

    Parameters
    ----------
    estimator : LatentEstimator
        Fitted model.
    dataset : Dataset
        Data set of the scored rows.
    scoring : EvaluationSettings
        Evaluation settings.
    checkpoint : str, optional
        Path of a file of finished rows, from which an interrupted evaluation is resumed.
    progress : bool
        Whether to print progress.

    Returns
    -------
    (dict, LogLikelihood)
        The record for ``metrics.json``, and the row-wise values.

    Raises
    ------
    ValueError
        If a setting is invalid, or the data set has no such split.
    """
    for name, hint in field_hints(EvaluationSettings).items():
        check_field(name, getattr(scoring, name), hint)
    _, X = scoring.rows(dataset)
    start_time = perf_counter()
    result = estimator.log_likelihood(
        X,
        scoring.n_importance_samples,
        annealing=scoring.annealing,
        binarize_seed=scoring.binarize_seed,
        precision=scoring.precision,
        checkpoint=checkpoint,
        progress=progress,
    )
    metric = {
        "value": result.mean,
        "standard_error": result.standard_error,
        "seconds": perf_counter() - start_time,
    }
    if not result.is_exact:
        metric["median_effective_sample_size"] = float(np.median(result.effective_sample_sizes))
    if result.n_unreliable:
        metric["n_unreliable"] = result.n_unreliable
    return scoring.likelihood_identity(estimator, dataset) | metric, result


def score_all(
    estimator: Estimator,
    dataset: datasets.Dataset,
    rows: EvaluationSettings,
    *,
    n_likelihoods: int | None = None,
) -> tuple[list[Metric], LogLikelihood | None]:
    """Compute all metrics that apply to an estimator.

    The log-likelihood, by far the most expensive, is estimated on the first ``n_likelihoods`` rows
    only, if given.

    Returns
    -------
    (list of dict, LogLikelihood or None)
        The records, log-likelihood first; the row-wise log-likelihood in nats.
    """
    metrics, likelihoods = [], None
    if isinstance(estimator, LatentEstimator):
        settings = rows if n_likelihoods is None else replace(rows, n_rows=n_likelihoods)
        metric, likelihoods = score_log_likelihood(estimator, dataset, settings)
        metrics.append(metric)
    if isinstance(estimator, ClassifierBase) and labels(dataset, rows) is not None:
        metrics.append(score_classification(estimator, dataset, rows)[0])
    if isinstance(estimator, RegressorBase) and labels(dataset, rows) is not None:
        metrics.append(score_regression(estimator, dataset, rows))
    if isinstance(estimator, Autoencoder):
        metrics.append(score_reconstruction(estimator, dataset, rows))
    if isinstance(estimator, ImplicitEstimator):
        metrics.append(score_sample_quality(estimator, dataset, rows))
    return metrics, likelihoods


def score_regression(estimator: Any, dataset: datasets.Dataset, rows: EvaluationSettings) -> Metric:
    """Root mean squared error of predicted targets on one split, in the units of the targets."""
    split, X, y = labelled_rows(dataset, rows, "targets")
    start_time = perf_counter()
    squares = np.square(estimator.predict(X) - y).reshape(len(X), -1).mean(1)
    rmse = float(np.sqrt(squares.mean()))
    value = Estimate(rmse, mean_estimate(squares).standard_error / (2 * rmse or 1.0))
    return make_metric("root mean squared error", split, len(X), dataset, value, start_time)


def score_target_density(
    estimator: Any, dataset: datasets.Dataset, rows: EvaluationSettings
) -> Metric:
    """Mean log p(y | x) of the targets of one split, in nats, for targets in their own units."""
    split, X, y = labelled_rows(dataset, rows, "targets")
    start_time = perf_counter()
    values = estimator.log_density(X, y)
    value = mean_estimate(values)
    return make_metric("log-likelihood of targets, nats", split, len(X), dataset, value, start_time)


def score_reconstruction(
    estimator: Autoencoder, dataset: datasets.Dataset, rows: EvaluationSettings
) -> Metric:
    """Mean squared reconstruction error of an autoencoder on one split, over observed entries."""
    split, X = rows.rows(dataset)
    start_time = perf_counter()
    truth = X.astype(np.float64) * (estimator.unit_ if X.dtype == np.uint8 else 1.0)
    mse = squared_errors(truth, estimator.reconstruct(X), ~np.isnan(truth))
    value = mse.estimate
    name = "mean squared error of reconstructions"
    return make_metric(name, split, len(X), dataset, value, start_time)


def score_sample_quality(
    estimator: ImplicitEstimator,
    dataset: datasets.Dataset,
    rows: EvaluationSettings,
    *,
    seed: int = 0,
) -> Metric:
    """Sample quality of an implicit model: samples against at most 2,000 rows of one split.

    From larger splits a fixed random subset of rows is used, since tables may be sorted. Samples
    and rows are compared in the input units of the model: real values standardised as during fit,
    bits and pixels unchanged.

    Raises
    ------
    ValueError
        If a row of the split, or a training row, has missing entries.
    """
    split, X = rows.rows(dataset)
    real = complete_rows(X, estimator.unit_, f"{dataset.name}, {split} rows")
    real = real[np.random.default_rng(0).permutation(len(X))[:MAX_SAMPLES]]
    training = complete_rows(dataset.x_train, estimator.unit_, f"{dataset.name}, training rows")
    start_time = perf_counter()
    samples = estimator.sample(len(real), random_state=seed)
    quality = sample_quality(*(to_model_units(estimator, x) for x in (samples, real, training)))
    fields = _flat_fields(quality)
    return make_metric(
        SAMPLE_QUALITY, split, len(real), dataset, quality.mmd2, start_time, **fields
    )


def _flat_fields(quality: SampleQuality) -> dict[str, Any]:
    """Return the fields of a result; an estimate has a second one, ``NAME_error``."""
    flat: dict[str, Any] = {}
    for name, value in vars(quality).items():
        if isinstance(value, Estimate):
            flat |= {name: value.value, f"{name}_error": value.standard_error}
        else:
            flat[name] = value
    return flat


def score_noisy_generator(
    estimator: ImplicitEstimator,
    dataset: datasets.Dataset,
    rows: EvaluationSettings,
    variance: float,
    *,
    progress: bool = False,
) -> tuple[Metric, LogLikelihood]:
    """Estimate the log-likelihood of rows under a generator with Gaussian observation noise.

    Parameters
    ----------
    estimator : ImplicitEstimator
        Fitted generator.
    dataset : Dataset
        Data set of the scored rows.
    rows : EvaluationSettings
        Evaluation settings, with annealing.
    variance : float
        Variance of the noise added to generated rows.
    progress : bool
        Whether to print progress.

    Returns
    -------
    (dict, LogLikelihood)
        The record for ``metrics.json``, and the row-wise values in nats.
    """
    split, X = rows.rows(dataset)
    y = labels(dataset, rows) if estimator.target_kind == "classes" else None
    start_time = perf_counter()
    y = None if y is None else y[: len(X)]
    options: dict[str, Any] = {"annealing": rows.annealing, "progress": progress}
    result = estimator.log_likelihood(X, y, variance=variance, **options)
    name = f"log-likelihood {rows} with noise of variance {variance:g}, nats"
    value = result.estimate
    return make_metric(name, split, len(X), dataset, value, start_time), result


def to_model_units(estimator: Estimator, rows: np.ndarray) -> np.ndarray:
    """Rows [n, d] in the input units of the model: real values standardised, others unchanged."""
    return (np.asarray(rows, np.float64) - estimator.location_) / estimator.scale_


def complete_rows(x: np.ndarray, unit: float, description: str = "rows") -> np.ndarray:
    """Complete rows [n, d] as float64, with bytes multiplied by ``unit``.

    Raises
    ------
    ValueError
        If entries are missing or infinite; the message refers to the rows as ``description``.
    """
    values = np.asarray(x)
    values = values.astype(np.float64) * (unit if values.dtype == np.uint8 else 1.0)
    incomplete = np.flatnonzero(~np.isfinite(values).all(1))
    if len(incomplete):
        raise ValueError(
            f"{description}: {len(incomplete)} of {len(values)} rows have missing or infinite "
            "entries, "
            f"the first at index {incomplete[0]}. Only complete rows can be compared: impute them "
            "(for example with VAE.impute) or drop the rows"
        )
    return values


ERROR = "error, %"


def score_classification(
    estimator: ClassifierBase,
    dataset: datasets.Dataset,
    rows: EvaluationSettings,
    *,
    linear_classifier: Any = None,
    training: datasets.Dataset | None = None,
) -> tuple[Metric, ClassificationErrors]:
    """Error rate of a classifier on the labelled rows of one split, in per cent.

    Parameters
    ----------
    estimator : ClassifierBase
        Fitted classifier.
    dataset : Dataset
        Data set of the scored rows.
    rows : EvaluationSettings
        Evaluation settings: split and number of rows.
    linear_classifier : classifier, optional
        Classifier that is fitted to features of the training rows and predicts the classes instead
        of the estimator; see :func:`fit_second_stage`.
    training : Dataset, optional
        Data set of the training rows of the second stage; by default ``dataset``.

    Returns
    -------
    (dict, ClassificationErrors)
        The record for ``metrics.json``, and the row-wise errors.

    Raises
    ------
    ValueError
        If the data set has no labels.
    """
    split, X, y = labelled_rows(dataset, rows)
    start_time, name = perf_counter(), ERROR
    predict: Callable[[np.ndarray], np.ndarray] = estimator.predict
    if linear_classifier is not None:
        predict = fit_second_stage(estimator, training or dataset, linear_classifier)
        name = f"error by {solver_name(linear_classifier)}, %"
    result = classification_errors(predict(X), y)
    value = result.estimate
    return make_metric(name, split, len(result.misclassified), dataset, value, start_time), result


def fit_second_stage(
    estimator: ClassifierBase, dataset: datasets.Dataset, classifier: Any
) -> Callable[[np.ndarray], np.ndarray]:
    """Fit a clone of a classifier to features of the training rows; return its predict function.

    Raises
    ------
    ValueError
        If the estimator has no features, or the training rows have no labels.
    """
    model, x, y = _second_stage_data(solver_name(classifier), estimator, dataset)
    head = clone(classifier).fit(model.features_of(x), y)
    return lambda rows: head.predict(model.features_of(rows))


def make_second_stage(
    solver: Solver | None, estimator: ClassifierBase, training: datasets.Dataset
) -> Any:
    """Build the linear SVM for second-stage classification. Returns None if `solver` is None.

    Raises
    ------
    ValueError
        If the estimator has no features, or the training rows have no labels.
    """
    if solver is None:
        return None
    _, _, y = _second_stage_data(solver, estimator, training)
    return make_linear_svm(solver, len(y))


def _second_stage_data(
    solver: str, estimator: ClassifierBase, dataset: datasets.Dataset
) -> tuple[LinearClassifierBase, np.ndarray, np.ndarray]:
    """Training data of a second stage: the feature model, labelled rows [n, d] and labels [n]."""
    if not isinstance(estimator, LinearClassifierBase):
        raise ValueError(
            f"linear_classifier={solver!r}: {type(estimator).__name__} has no features: expected "
            "a model "
            "whose scores are linear in features, such as MaxMarginVAE"
        )
    y = dataset.y_train
    labelled = np.flatnonzero(has_label(y)) if y is not None else np.empty(0, np.int64)
    if y is None or not len(labelled):
        raise ValueError(
            f"linear_classifier={solver!r}: the training rows of {dataset.name} have no labels: "
            "name "
            "labelled data"
        )
    return estimator, dataset.x_train[labelled], y[labelled]
