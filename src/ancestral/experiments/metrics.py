"""Metrics of recipes: one function for each metric of a protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ancestral.datasets import Dataset
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.estimators.base.supervised import class_names
from ancestral.evaluation.class_fidelity import (
    class_consistency_errors,
    predicted_class_frequencies,
    train_on_generated_errors,
)
from ancestral.evaluation.estimate import Estimate
from ancestral.evaluation.metrics import ClassificationErrors
from ancestral.evaluation.parzen import parzen_log_likelihood
from ancestral.experiments import metrics_file, scoring
from ancestral.experiments.corruption import (
    Corruption,
    ImputationSettings,
    score_corrupted_classification,
    score_imputation,
)
from ancestral.experiments.evaluation_settings import (
    EvaluationSettings,
    Metric,
    labelled_rows,
    make_metric,
)
from ancestral.experiments.recipes import Protocol
from ancestral.experiments.scoring import complete_rows
from ancestral.utils import files

PARZEN_SAMPLES, MAX_PARZEN_VALIDATION_ROWS = 10_000, 5000
"""Number of samples of a Parzen window; maximum number of validation rows for its width."""


@dataclass(frozen=True, eq=False)
class EvaluationTask:
    """A fitted model and its evaluation protocol.

    Attributes
    ----------
    name : str
        Name of the job in progress messages.
    folder : Path
        Run folder, in which expensive results are cached.
    estimator : estimator
        Fitted model.
    dataset : Dataset
        Data set of the model.
    protocol : Protocol
        Evaluation protocol of the recipe.
    rows : EvaluationSettings
        Evaluation settings.
    classifier : classifier, optional
        Fitted classifier of generated samples.
    """

    name: str
    folder: Path
    estimator: Any
    dataset: Dataset
    protocol: Protocol
    rows: EvaluationSettings
    classifier: Any = None


def evaluate_task(task: EvaluationTask) -> list[Metric]:
    """Compute the metric of the protocol; the likelihood of bits once per binarisation seed."""
    if task.protocol.corruption is not None:
        return [_corrupted_metric(task)]
    return METRIC_FUNCTIONS[task.protocol.metric](task)


def _log_likelihood(task: EvaluationTask) -> list[Metric]:
    metrics = []
    estimator, dataset = task.estimator, task.dataset
    for seed in task.protocol.binarize_seeds if estimator.draws_bits_ else (0,):
        settings = replace(task.rows, binarize_seed=seed)
        print(f"{task.name}: {settings}, binarisation seed {seed}")
        metric, _ = metrics_file.evaluate_cached(
            task.folder, estimator, dataset, settings, progress=True
        )
        metrics.append(metric)
    return metrics


def _corrupted_metric(task: EvaluationTask) -> Metric:
    """Imputation error or error rate on corrupted rows, imputed first if the model can do so."""
    protocol, estimator, dataset = task.protocol, task.estimator, task.dataset
    assert protocol.corruption is not None
    corruption = Corruption.parse(protocol.corruption)
    settings = ImputationSettings(
        protocol.n_iter, batch_statistics=protocol.batch_statistics, method="pseudo-gibbs"
    )
    imputation = None
    if isinstance(estimator, LatentEstimator):
        cache = task.folder / files.IMPUTATIONS
        imputation = score_imputation(estimator, dataset, corruption, settings, task.rows, cache)
    if protocol.metric == "error":
        stage = _second_stage(task)
        results = score_corrupted_classification(
            estimator, dataset, corruption, settings, task.rows, imputation, linear_classifier=stage
        )
        metric = results[-1][0]
        seconds = metric["seconds"] + (imputation.metric["seconds"] if imputation else 0.0)
        return metric | {"seconds": seconds}
    if imputation is None:
        raise ValueError(
            f"{type(estimator).__name__} does not support imputation, which metric="
            f"{protocol.metric!r} requires"
        )
    return imputation.metric


def _second_stage(task: EvaluationTask) -> Any:
    """Linear SVM for second-stage classification; None if the protocol has none."""
    return scoring.make_second_stage(task.protocol.linear_classifier, task.estimator, task.dataset)


def _parzen(task: EvaluationTask) -> list[Metric]:
    """Parzen-window log-likelihood, in nats.

    The width is chosen on validation rows other than the scored rows, or by halves of the scored
    rows; never on training rows.
    """
    estimator, dataset = task.estimator, task.dataset
    split, X = task.rows.rows(dataset)
    x_valid = None if split == "valid" else dataset.x_valid
    start_time = perf_counter()
    unit, valid = estimator.unit_, None
    if x_valid is not None:
        description = f"{dataset.name}, the last {MAX_PARZEN_VALIDATION_ROWS} valid rows"
        valid = complete_rows(x_valid[-MAX_PARZEN_VALIDATION_ROWS:], unit, description)
    samples = estimator.sample(PARZEN_SAMPLES, random_state=0)
    window = parzen_log_likelihood(
        samples, valid, complete_rows(X, unit, f"{dataset.name}, {split} rows")
    )
    name, value = "Parzen-window log-likelihood, nats", window.estimate
    widths: dict[str, Any] = {
        "widths": list(window.widths),
        "chosen_on": f"halves of {split}" if valid is None else "valid",
    }
    return [make_metric(name, split, len(X), dataset, value, start_time, **widths)]


def _error_rate(task: EvaluationTask) -> list[Metric]:
    stage = _second_stage(task)
    estimator, dataset = task.estimator, task.dataset
    return [scoring.score_classification(estimator, dataset, task.rows, linear_classifier=stage)[0]]


def _target_error(task: EvaluationTask) -> list[Metric]:
    return [scoring.score_regression(task.estimator, task.dataset, task.rows)]


def _target_density(task: EvaluationTask) -> list[Metric]:
    return [scoring.score_target_density(task.estimator, task.dataset, task.rows)]


def _reconstruction(task: EvaluationTask) -> list[Metric]:
    return [scoring.score_reconstruction(task.estimator, task.dataset, task.rows)]


def _sample_quality(task: EvaluationTask) -> list[Metric]:
    return [scoring.score_sample_quality(task.estimator, task.dataset, task.rows)]


def _class_consistency_error(task: EvaluationTask) -> list[Metric]:
    return [class_consistency_error(task.estimator, task.classifier, task.dataset)]


def _rarest_class_frequency(task: EvaluationTask) -> list[Metric]:
    return [rarest_class_frequency(task.estimator, task.classifier, task.dataset)]


def _error_after_training_on_samples(task: EvaluationTask) -> list[Metric]:
    classifier = task.classifier
    return [error_after_training_on_samples(task.estimator, classifier, task.dataset, task.rows)]


METRIC_FUNCTIONS: dict[str, Callable[[EvaluationTask], list[Metric]]] = {
    "log_likelihood": _log_likelihood,
    "error": _error_rate,
    "target_error": _target_error,
    "target_density": _target_density,
    "reconstruction": _reconstruction,
    "mmd2": _sample_quality,
    "parzen": _parzen,
    "class_consistency_error": _class_consistency_error,
    "rarest_class_frequency": _rarest_class_frequency,
    "train_on_generated_error": _error_after_training_on_samples,
}
"""Metric functions for uncorrupted rows, by the name of the metric in a protocol."""

CLASS_FREQUENCY_SAMPLES = 2000
"""Number of samples for estimating class frequencies."""


def class_consistency_error(generator: Any, classifier: Any, dataset: Dataset) -> Metric:
    """Per cent of class-conditional samples assigned to another class, of 100 per class."""
    start_time = perf_counter()
    result = class_consistency_errors(generator, classifier)
    name = "class-consistency error of samples, %"
    return _error_metric(name, "generated", dataset, result, start_time)


def rarest_class_frequency(generator: Any, classifier: Any, dataset: Dataset) -> Metric:
    """Frequency of the rarest predicted class among unconditional samples, in per cent."""
    start_time = perf_counter()
    frequencies = predicted_class_frequencies(generator, classifier, CLASS_FREQUENCY_SAMPLES)
    rarest = int(np.argmin(frequencies.frequencies))
    value = Estimate(
        100 * float(frequencies.frequencies[rarest]),
        100 * float(frequencies.standard_errors[rarest]),
    )
    return make_metric(
        "frequency of the rarest class among samples, %",
        "generated",
        frequencies.n,
        dataset,
        value,
        start_time,
        classes=class_names(classifier),
        shares=frequencies.frequencies.tolist(),
    )


def error_after_training_on_samples(
    generator: Any, classifier: Any, dataset: Dataset, rows: EvaluationSettings
) -> Metric:
    """Error rate on real rows of a copy of the classifier trained on samples only, in per cent.

    Raises
    ------
    ValueError
        If the data set has no labels.
    """
    split, X, y = labelled_rows(dataset, rows)
    start_time = perf_counter()
    real = complete_rows(X, generator.unit_)
    result = train_on_generated_errors(generator, classifier, real, y)
    return _error_metric("error after training on samples, %", split, dataset, result, start_time)


def _error_metric(
    name: str, split: str, dataset: Dataset, result: ClassificationErrors, start_time: float
) -> Metric:
    """Record of an error rate."""
    value = result.estimate
    return make_metric(name, split, len(result.misclassified), dataset, value, start_time)
