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
from ancestral.evaluation.metrics import ClassificationErrors
from ancestral.evaluation.parzen import parzen_log_likelihood
from ancestral.experiments import run_metrics, scoring
from ancestral.experiments.corruption import Damage, Repair, classify, repair
from ancestral.experiments.protocol import Metric, Scoring, labelled_rows, measured
from ancestral.experiments.recipes import Protocol
from ancestral.experiments.scoring import as_values
from ancestral.utils import files

PARZEN_SAMPLES, PARZEN_ROWS = 10_000, 5000
"""Number of samples of a Parzen window; maximum number of validation rows for its width."""


@dataclass(frozen=True, eq=False)
class Subject:
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
    rows : Scoring
        Evaluation settings.
    judge : classifier, optional
        Fitted classifier of generated samples.
    """

    name: str
    folder: Path
    estimator: Any
    dataset: Dataset
    protocol: Protocol
    rows: Scoring
    judge: Any = None


def measure(subject: Subject) -> list[Metric]:
    """Compute the metric of the protocol; the likelihood of bits once per binarisation seed."""
    if subject.protocol.damage is not None:
        return [_damaged(subject)]
    return MEASURES[subject.protocol.metric](subject)


def _log_likelihood(subject: Subject) -> list[Metric]:
    metrics = []
    estimator, dataset = subject.estimator, subject.dataset
    for seed in subject.protocol.binarize_seeds if estimator.draws_bits_ else (0,):
        settings = replace(subject.rows, binarize_seed=seed)
        print(f"{subject.name}: {settings}, binarisation seed {seed}")
        metric, _ = run_metrics.scored(subject.folder, estimator, dataset, settings, progress=True)
        metrics.append(metric)
    return metrics


def _damaged(subject: Subject) -> Metric:
    """Imputation error or error rate on corrupted rows, imputed first if the model can do so."""
    protocol, estimator, dataset = subject.protocol, subject.estimator, subject.dataset
    assert protocol.damage is not None
    corruption = Damage.parse(protocol.damage)
    settings = Repair(protocol.n_iter, batch_statistics=protocol.batch_statistics)
    imputation = None
    if isinstance(estimator, LatentEstimator):
        cache = subject.folder / files.REPAIRS
        imputation = repair(estimator, dataset, corruption, settings, subject.rows, cache)
    if protocol.metric == "error":
        stage = _second_stage(subject)
        results = classify(
            estimator, dataset, corruption, settings, subject.rows, imputation, second_stage=stage
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


def _second_stage(subject: Subject) -> Any:
    """Linear SVM for second-stage classification; None if the protocol has none."""
    return scoring.second_stage(subject.protocol.second_stage, subject.estimator, subject.dataset)


def _parzen(subject: Subject) -> list[Metric]:
    """Parzen-window log-likelihood, in nats.

    The width is chosen on validation rows other than the scored rows, or by halves of the scored
    rows; never on training rows.
    """
    estimator, dataset = subject.estimator, subject.dataset
    split, X = subject.rows.rows(dataset)
    x_valid = None if split == "valid" else dataset.x_valid
    began = perf_counter()
    unit, valid = estimator.unit_, None
    if x_valid is not None:
        description = f"{dataset.name}, the last {PARZEN_ROWS} valid rows"
        valid = as_values(x_valid[-PARZEN_ROWS:], unit, description)
    samples = estimator.sample(PARZEN_SAMPLES, random_state=0)
    window = parzen_log_likelihood(
        samples, valid, as_values(X, unit, f"{dataset.name}, {split} rows")
    )
    name, value = "log-likelihood of a Parzen window, nats", (window.mean, window.standard_error)
    widths: dict[str, Any] = {
        "widths": list(window.widths),
        "chosen_on": f"halves of {split}" if valid is None else "valid",
    }
    return [measured(name, split, len(X), dataset, value, began, **widths)]


def _classes(subject: Subject) -> list[Metric]:
    stage = _second_stage(subject)
    estimator, dataset = subject.estimator, subject.dataset
    return [scoring.classify(estimator, dataset, subject.rows, second_stage=stage)[0]]


def _target_error(subject: Subject) -> list[Metric]:
    return [scoring.regress(subject.estimator, subject.dataset, subject.rows)]


def _target_density(subject: Subject) -> list[Metric]:
    return [scoring.regress_density(subject.estimator, subject.dataset, subject.rows)]


def _reconstruction(subject: Subject) -> list[Metric]:
    return [scoring.rebuild(subject.estimator, subject.dataset, subject.rows)]


def _resemblance(subject: Subject) -> list[Metric]:
    return [scoring.resemble(subject.estimator, subject.dataset, subject.rows)]


def _label_error(subject: Subject) -> list[Metric]:
    return [label_error(subject.estimator, subject.judge, subject.dataset)]


def _smallest_share(subject: Subject) -> list[Metric]:
    return [smallest_share(subject.estimator, subject.judge, subject.dataset)]


def _retrained_error(subject: Subject) -> list[Metric]:
    judge = subject.judge
    return [retrained_error(subject.estimator, judge, subject.dataset, subject.rows)]


MEASURES: dict[str, Callable[[Subject], list[Metric]]] = {
    "log_likelihood": _log_likelihood,
    "error": _classes,
    "target_error": _target_error,
    "target_density": _target_density,
    "reconstruction": _reconstruction,
    "resemblance": _resemblance,
    "parzen": _parzen,
    "label_error": _label_error,
    "smallest_share": _smallest_share,
    "retrained_error": _retrained_error,
}
"""Metric functions for uncorrupted rows, by the name of the metric in a protocol."""

DRAWN = 2000
"""Number of samples for estimating class frequencies."""


def label_error(generator: Any, judge: Any, dataset: Dataset) -> Metric:
    """Per cent of class-conditional samples assigned to another class, of 100 per class."""
    began = perf_counter()
    result = class_consistency_errors(generator, judge)
    return _errors("label error of drawn rows, %", "drawn", dataset, result, began)


def smallest_share(generator: Any, judge: Any, dataset: Dataset) -> Metric:
    """Frequency of the rarest predicted class among unconditional samples, in per cent."""
    began = perf_counter()
    frequencies = predicted_class_frequencies(generator, judge, DRAWN)
    rarest = int(np.argmin(frequencies.frequencies))
    value = (
        100 * float(frequencies.frequencies[rarest]),
        100 * float(frequencies.standard_errors[rarest]),
    )
    return measured(
        "smallest share of a class among drawn rows, %",
        "drawn",
        frequencies.n,
        dataset,
        value,
        began,
        classes=class_names(judge),
        shares=frequencies.frequencies.tolist(),
    )


def retrained_error(generator: Any, judge: Any, dataset: Dataset, rows: Scoring) -> Metric:
    """Error rate on real rows of a copy of the classifier trained on samples only, in per cent.

    Raises
    ------
    ValueError
        If the data set has no labels.
    """
    split, X, y = labelled_rows(dataset, rows)
    began = perf_counter()
    real = as_values(X, generator.unit_)
    result = train_on_generated_errors(generator, judge, real, y)
    return _errors("error after training on drawn rows, %", split, dataset, result, began)


def _errors(
    name: str, split: str, dataset: Dataset, result: ClassificationErrors, began: float
) -> Metric:
    """Record of an error rate."""
    value = result.percent, result.standard_error
    return measured(name, split, len(result.misclassified), dataset, value, began)
