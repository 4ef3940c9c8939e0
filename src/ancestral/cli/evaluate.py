"""Commands that evaluate models: evaluate, active-units."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np

from ancestral import datasets
from ancestral.cli.common import (
    check_folder,
    load_dataset,
    print_metric,
    require_classifier,
    require_likelihood,
)
from ancestral.cli.options import (
    _annealing_settings,
    _evaluation_settings,
    _row_settings,
    _second_stage,
)
from ancestral.estimators.autoencoder import Autoencoder
from ancestral.estimators.base.implicit import ImplicitEstimator
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.estimators.base.supervised import ClassifierBase, RegressorBase
from ancestral.evaluation.ais import BidirectionalBounds
from ancestral.evaluation.class_fidelity import is_class_conditional
from ancestral.evaluation.log_likelihood import LogLikelihood
from ancestral.experiments import metrics_file, records, scoring
from ancestral.experiments.config import Config
from ancestral.experiments.evaluation_settings import EvaluationSettings, Metric
from ancestral.experiments.metrics import (
    class_consistency_error,
    error_after_training_on_samples,
    rarest_class_frequency,
)
from ancestral.experiments.run_folder import open_run
from ancestral.utils import files
from ancestral.utils.validation import Count, check_field

AGGREGATE_METRICS: dict[type, Callable[[Any, datasets.Dataset, EvaluationSettings], Metric]] = {
    ImplicitEstimator: scoring.score_sample_quality,
    RegressorBase: scoring.score_regression,
    Autoencoder: scoring.score_reconstruction,
}
"""Metrics of a whole split that have no row-wise values, by estimator class."""


def evaluate(options: Namespace) -> None:
    """Run ``ancestral evaluate RUN``."""
    check_field("n_rows", options.n_rows, Count | None)
    check_field("bidirectional", options.bidirectional, Count | None)
    estimator, config = open_run(options.run)
    noise = _observation_noise(options, estimator)
    if options.linear_classifier is not None:
        require_classifier(options.run, estimator)
    if options.bidirectional is not None:
        model = estimator if noise else require_likelihood(options.run, estimator)
        annealing = _annealing_settings(options)
        _print_bidirectional_bounds(
            model.bidirectional_bounds(options.bidirectional, annealing, **noise, progress=True)
        )
        return
    dataset = load_dataset(options.run, options, config, estimator)
    if options.out is not None:
        check_folder(options.out)
    if options.classifier is not None:
        evaluate_class_fidelity(options, estimator, dataset)
        return
    if noise:
        settings = _evaluation_settings(options)[0]
        result = scoring.score_noisy_generator(estimator, dataset, settings, **noise, progress=True)
        _save_likelihoods(options, *result)
        return
    for kind, score in AGGREGATE_METRICS.items():
        if isinstance(estimator, kind):
            _evaluate_aggregate(options, estimator, dataset, score)
            return
    metrics = (
        _applicable_metrics(estimator, dataset) if options.metric is None else [options.metric]
    )
    if "error" in metrics:
        rows = _evaluate_errors(options, config, estimator, dataset)
    if "log_likelihood" in metrics:
        rows = _evaluate_likelihood(options, estimator, dataset)
    if (options.run / files.RECORD).is_file():
        print(records.summary(options.run / files.RECORD))
    if options.out is not None:
        files.write_file(options.out, rows)


def _observation_noise(options: Namespace, estimator: Any) -> dict[str, float]:
    """Variance of the observation noise of a generator, as a keyword argument; empty if unset.

    Raises
    ------
    ValueError
        If the variance is missing for an annealed evaluation of a generator, or given for any other
        evaluation.
    """
    variance, implicit = options.observation_variance, isinstance(estimator, ImplicitEstimator)
    annealed = options.annealed or options.bidirectional is not None
    if variance is None and not (implicit and annealed):
        return {}
    content = f"{options.run} contains a {type(estimator).__name__}"
    if variance is None:
        raise ValueError(f"{content}, which has no likelihood without an --observation-variance")
    if not (implicit and annealed):
        raise ValueError(
            f"observation_variance={variance}: requires a generator and --annealed or "
            "--bidirectional; "
            f"{content}"
        )
    return {"variance": variance}


def _save_likelihoods(options: Namespace, metric: Metric, result: LogLikelihood) -> None:
    """Print a log-likelihood, add it to the run's metrics and write row-wise values to --out."""
    print_metric(metric)
    if (options.run / files.MODEL).is_dir():
        metrics_file.add_metric(options.run, metric)
    if options.out is not None:
        files.write_file(options.out, metrics_file.likelihoods_to_csv(result))


def _evaluate_aggregate(
    options: Namespace,
    estimator: Any,
    dataset: datasets.Dataset,
    score: Callable[[Any, datasets.Dataset, EvaluationSettings], Metric],
) -> None:
    """Compute and print a metric that has no row-wise values."""
    if options.metric is not None or options.out is not None:
        raise ValueError(
            f"{options.run} contains a {type(estimator).__name__}, whose metric has no row-wise "
            "values: omit --metric and --out"
        )
    metric = score(estimator, dataset, _row_settings(options))
    print_metric(metric)
    if (options.run / files.MODEL).is_dir():
        metrics_file.add_metric(options.run, metric)


def _evaluate_likelihood(options: Namespace, estimator: Any, dataset: datasets.Dataset) -> str:
    """Print the log-likelihood for each binarisation; return the row-wise values of the last."""
    estimator = require_likelihood(options.run, estimator)
    # without grey values there is no binarisation: all seeds give the same result
    settings = _evaluation_settings(options)[: None if estimator.draws_bits_ else 1]
    results = [
        metrics_file.evaluate_cached(
            options.run, estimator, dataset, scoring, recompute=True, progress=True
        )
        for scoring in settings
    ]
    for metric, _ in results:
        print_metric(metric)
    if len(results) > 1:
        values = [metric["value"] for metric, _ in results]
        print(
            f"mean over {len(results)} binarisations: {np.mean(values):.3f}, "
            f"standard deviation {np.std(values, ddof=1):.3f}"
        )
    return metrics_file.likelihoods_to_csv(results[-1][1])


def _evaluate_errors(
    options: Namespace, config: Config | None, estimator: Any, dataset: datasets.Dataset
) -> str:
    """Print the error rate; return the row-wise errors (0 or 1) as CSV text."""
    import polars as pl

    stage = _second_stage(options, config, estimator, dataset)
    metric, result = scoring.score_classification(
        require_classifier(options.run, estimator), dataset, _row_settings(options), **stage
    )
    name = metric["metric"].removesuffix(", %")
    print(f"{metric['split']} {name}: {result} ({metric['n_rows']} rows)")
    if (options.run / files.MODEL).is_dir():
        metrics_file.add_metric(options.run, metric)
    return pl.DataFrame({"wrong": result.misclassified.astype(np.uint8)}).write_csv()


def _applicable_metrics(estimator: Any, dataset: datasets.Dataset) -> list[str]:
    """Names of the metrics that apply to an estimator and a data set."""
    metrics = ["log_likelihood"] if isinstance(estimator, LatentEstimator) else []
    if isinstance(estimator, ClassifierBase) and (dataset.y_train is not None or not metrics):
        metrics.append("error")
    return metrics


def active_units(options: Namespace) -> None:
    """Run ``ancestral active-units RUN``."""
    check_field("n_rows", options.n_rows, Count)
    estimator, config = open_run(options.run)
    estimator = require_likelihood(options.run, estimator)
    dataset = load_dataset(options.run, options, config, estimator)
    active = estimator.active_units(dataset.x_train[: options.n_rows])
    sizes = estimator._latent_sizes()
    print(f"active units: {' + '.join(map(str, active))} of {' + '.join(map(str, sizes))}")


def _print_bidirectional_bounds(bounds: BidirectionalBounds) -> None:
    """Print lower and upper bounds on the log-likelihood of samples."""
    print(f"{len(bounds.lower.values)} samples of the model, log-likelihood")
    print(f"  lower bound: {bounds.lower}")
    print(f"  upper bound: {bounds.upper}")
    print(f"  gap: {bounds.gap:.3f} nats")


def evaluate_class_fidelity(options: Namespace, estimator: Any, dataset: datasets.Dataset) -> None:
    """Run ``ancestral evaluate RUN --classifier OTHER``.

    Raises
    ------
    ValueError
        If RUN is not a generative model, OTHER is not a classifier of the same features, or
        ``--retrain`` is given for a model that is not class-conditional.
    """
    if options.metric is not None or options.out is not None:
        raise ValueError("--classifier scores generated samples: omit --metric and --out")
    if not hasattr(estimator, "sample"):
        name = type(estimator).__name__
        raise ValueError(f"{options.run} contains a {name}, which does not generate samples")
    classifier = require_classifier(options.classifier, open_run(options.classifier)[0])
    if classifier.n_features_in_ != estimator.n_features_in_:
        raise ValueError(
            f"{options.classifier} was fitted on {classifier.n_features_in_} features, but "
            f"{options.run} generates {estimator.n_features_in_}: choose a classifier of the same "
            "features"
        )
    if options.retrain and not is_class_conditional(estimator):
        name = type(estimator).__name__
        raise ValueError(
            f"--retrain requires a class-conditional model, but {options.run} contains a {name}"
        )
    rows = EvaluationSettings(split=options.split, n_rows=options.n_rows)
    metric = rarest_class_frequency(estimator, classifier, dataset)
    pairs = zip(metric["classes"], metric["shares"], strict=True)
    print(
        f"predicted classes of {metric['n_rows']} samples: "
        f"{', '.join(f'{c} {s:.1%}' for c, s in pairs)}"
    )
    if is_class_conditional(estimator):
        _save_metric(options, class_consistency_error(estimator, classifier, dataset))
        print_metric(scoring.score_classification(classifier, dataset, rows)[0])
    if options.retrain:
        _save_metric(options, error_after_training_on_samples(estimator, classifier, dataset, rows))


def _save_metric(options: Namespace, metric: Metric) -> None:
    """Print a metric and add it to the metrics of the run."""
    print_metric(metric)
    if (options.run / files.MODEL).is_dir():
        metrics_file.add_metric(options.run, metric | {"classifier": str(options.classifier)})
