"""Commands that evaluate models: evaluate, compare, units, repair."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ancestral import (
    classification,
    datasets,
    experiment,
    kept,
    protocol,
    provenance,
    records,
    scoring,
    storage,
)
from ancestral.ais import Annealing, Sandwich
from ancestral.commands.common import (
    check_folder,
    check_picture,
    classifier,
    dataset_of,
    explicit,
    print_metric,
    training_data,
    write_rows,
)
from ancestral.commands.labels import evaluate_labels
from ancestral.damage import Damage, Repair
from ancestral.damage import classify as classify_damaged
from ancestral.damage import repair as repair_rows
from ancestral.density import LatentEstimator
from ancestral.errors import mcnemar
from ancestral.evaluate import LogLikelihood
from ancestral.evaluate import compare as compare_rows
from ancestral.experiment import Config
from ancestral.fields import Count, Natural, check, parse
from ancestral.labels import ClassifierBase, RegressorBase
from ancestral.methods.autoencoder import Autoencoder
from ancestral.methods.implicit import ImplicitEstimator
from ancestral.protocol import Metric, Scoring

STRIP = 14
"""Number of images per line of the output image of repair."""

WHOLE: dict[type, Callable[[Any, datasets.Dataset, Scoring], Metric]] = {
    ImplicitEstimator: scoring.resemble,
    RegressorBase: scoring.regress,
    Autoencoder: scoring.rebuild,
}
"""Metrics of a whole split that have no row-wise values, by estimator class."""


def evaluate(options: Namespace) -> None:
    """Run ``ancestral evaluate RUN``."""
    check("rows", options.rows, Count | None)
    check("two_sided", options.two_sided, Count | None)
    estimator, config = experiment.open_run(options.run)
    noise = _observed(options, estimator)
    if options.second_stage is not None:
        classifier(options.run, estimator)
    if options.two_sided is not None:
        model = estimator if noise else explicit(options.run, estimator)
        annealing = _annealing(options)
        _print_sandwich(model.sandwich(options.two_sided, annealing, **noise, progress=True))
        return
    dataset = dataset_of(options.run, options, config, estimator)
    if options.out is not None:
        check_folder(options.out)
    if options.classifier is not None:
        evaluate_labels(options, estimator, dataset)
        return
    if noise:
        settings = _scorings(options)[0]
        result = scoring.observe(estimator, dataset, settings, **noise, progress=True)
        _keep_rows(options, *result)
        return
    for kind, score in WHOLE.items():
        if isinstance(estimator, kind):
            _evaluate_whole(options, estimator, dataset, score)
            return
    metrics = _applicable(estimator, dataset) if options.metric is None else [options.metric]
    if "error" in metrics:
        rows = _evaluate_errors(options, config, estimator, dataset)
    if "log_likelihood" in metrics:
        rows = _evaluate_likelihood(options, estimator, dataset)
    if (options.run / storage.RECORD).is_file():
        print(records.summary(options.run / storage.RECORD))
    if options.out is not None:
        storage.write_file(options.out, rows)


def _observed(options: Namespace, estimator: Any) -> dict[str, float]:
    """Variance of the observation noise of a generator, as a keyword argument; empty if unset.

    Raises
    ------
    ValueError
        If the variance is missing for an annealed evaluation of a generator, or given for any other
        evaluation.
    """
    variance, implicit = options.observation_variance, isinstance(estimator, ImplicitEstimator)
    annealed = options.annealed or options.two_sided is not None
    if variance is None and not (implicit and annealed):
        return {}
    content = f"{options.run} contains a {type(estimator).__name__}"
    if variance is None:
        raise ValueError(f"{content}, which has no likelihood without an --observation-variance")
    if not (implicit and annealed):
        raise ValueError(
            f"observation_variance={variance}: requires a generator and --annealed or --two-sided; "
            f"{content}"
        )
    return {"variance": variance}


def _keep_rows(options: Namespace, metric: Metric, result: LogLikelihood) -> None:
    """Print a log-likelihood, add it to the run's metrics and write row-wise values to --out."""
    print_metric(metric)
    if (options.run / storage.MODEL).is_dir():
        kept.add_metric(options.run, metric)
    if options.out is not None:
        storage.write_file(options.out, kept.rows_csv(result))


def _evaluate_whole(
    options: Namespace,
    estimator: Any,
    dataset: datasets.Dataset,
    score: Callable[[Any, datasets.Dataset, Scoring], Metric],
) -> None:
    """Compute and print a metric that has no row-wise values."""
    if options.metric is not None or options.out is not None:
        raise ValueError(
            f"{options.run} contains a {type(estimator).__name__}, whose metric has no row-wise "
            "values: omit --metric and --out"
        )
    metric = score(estimator, dataset, _rows(options))
    print_metric(metric)
    if (options.run / storage.MODEL).is_dir():
        kept.add_metric(options.run, metric)


def _evaluate_likelihood(options: Namespace, estimator: Any, dataset: datasets.Dataset) -> str:
    """Print the log-likelihood for each binarisation; return the row-wise values of the last."""
    estimator = explicit(options.run, estimator)
    # without grey values there is no binarisation: all seeds give the same result
    settings = _scorings(options)[: None if estimator.draws_bits_ else 1]
    results = [
        kept.scored(options.run, estimator, dataset, scoring, again=True, progress=True)
        for scoring in settings
    ]
    for metric, _ in results:
        print_metric(metric)
    if len(results) > 1:
        values = [metric["value"] for metric, _ in results]
        print(
            f"mean over {len(results)} binarisations: {np.mean(values):.3f}, "
            f"spread {np.std(values, ddof=1):.3f}"
        )
    return kept.rows_csv(results[-1][1])


def _evaluate_errors(
    options: Namespace, config: Config | None, estimator: Any, dataset: datasets.Dataset
) -> str:
    """Print the error rate; return the row-wise errors (0 or 1) as CSV text."""
    stage = _second_stage(options, config, estimator, dataset)
    metric, result = classification.classify(
        classifier(options.run, estimator), dataset, _rows(options), **stage
    )
    name = metric["metric"].removesuffix(", %")
    print(f"{metric['split']} {name}: {result} ({metric['n_rows']} rows)")
    if (options.run / storage.MODEL).is_dir():
        kept.add_metric(options.run, metric)
    return storage.to_csv([{"wrong": int(wrong)} for wrong in result.wrong])


def _second_stage(
    options: Namespace, config: Config | None, estimator: Any, dataset: datasets.Dataset
) -> dict[str, Any]:
    """Keyword arguments of second-stage classification: the SVM and its training data."""
    if options.second_stage is None:
        return {}
    training = training_data(options.run, options, config, dataset)
    stage = classification.second_stage(options.second_stage, estimator, training)
    return {"second_stage": stage, "training": training}


def _applicable(estimator: Any, dataset: datasets.Dataset) -> list[str]:
    """Names of the metrics that apply to an estimator and a data set."""
    metrics = ["log_likelihood"] if isinstance(estimator, LatentEstimator) else []
    if isinstance(estimator, ClassifierBase) and (dataset.y_train is not None or not metrics):
        metrics.append("error")
    return metrics


def compare(options: Namespace) -> None:
    """Run ``ancestral compare FIRST SECOND``."""
    check("rows", options.rows, Count | None)
    if options.out is not None:
        check_folder(options.out)
    compare_models = _compared_errors if options.metric == "error" else _compared_likelihoods
    differences = compare_models(options)
    if options.out is not None:
        models = {"first": str(options.run), "second": str(options.second)}
        version = {"date": provenance.today(), "commit": provenance.commit()}
        text = json.dumps(models | {"differences": differences} | version, indent=1)
        storage.write_file(options.out, text + "\n")


def _compared_likelihoods(options: Namespace) -> list[dict[str, Any]]:
    """Paired differences of log-likelihood between two models, one per binarisation."""
    settings, pair = _scorings(options), _pair(options, explicit)
    seed = settings[0].binarize_seed
    seeds = [seed if estimator.draws_bits_ else None for _, estimator, _ in pair]
    _check_same(options, "binarize_seed", seeds)
    results = [
        [kept.scored(*model, scoring, progress=True) for scoring in settings] for model in pair
    ]
    for metric, _ in [result for of_model in results for result in of_model]:
        print_metric(metric)
    differences = []
    for (metric, first), (_, second) in zip(*results, strict=True):
        difference = compare_rows(first, second)
        print(f"{options.run} less {options.second}: {difference}")
        differences.append(
            _same(metric)
            | {
                "difference": difference.mean,
                "standard_error": difference.standard_error,
                "share_better": difference.share,
            }
        )
    return differences


def _compared_errors(options: Namespace) -> list[dict[str, Any]]:
    """Paired difference of error rate between two classifiers, with McNemar's test."""
    pair, rows = _pair(options, classifier), _rows(options)
    (metric, first), (_, second) = (
        classification.classify(estimator, dataset, rows) for _, estimator, dataset in pair
    )
    difference = mcnemar(first, second)
    for path, errors in ((options.run, first), (options.second, second)):
        print(f"{path}: {metric['split']} error {errors}")
    print(f"{options.run} less {options.second}: {difference}")
    return [
        _same(metric)
        | {
            "difference": difference.percent,
            "standard_error": difference.standard_error,
            "wrong_alone": [difference.first_only, difference.second_only],
            "p_value": difference.p_value,
        }
    ]


def _pair(
    options: Namespace, suited: Callable[[Path, Any], Any]
) -> list[tuple[Path, Any, datasets.Dataset]]:
    """Open two models and their data, and check that they can be compared.

    Parameters
    ----------
    options : Namespace
        Parsed options of the command.
    suited : callable
        Function of a folder and its estimator that returns the estimator, or raises ValueError if
        it is not of the compared kind.

    Returns
    -------
    list of (Path, estimator, Dataset)
        Run folder, fitted model and data of both models.

    Raises
    ------
    ValueError
        If a model is not of the compared kind, or the models have different evaluation rows.
    """
    runs = [(path, *experiment.open_run(path)) for path in (options.run, options.second)]
    models = [(path, suited(path, estimator), config) for path, estimator, config in runs]
    pair = [
        (path, estimator, dataset_of(path, options, config, estimator))
        for path, estimator, config in models
    ]
    data = [dataset for _, _, dataset in pair]
    _check_same(options, "data_checksum", [dataset.checksum for dataset in data])
    _check_same(options, "split", [_rows(options).rows(dataset)[0] for dataset in data])
    return pair


def _check_same(options: Namespace, key: str, values: Sequence[object]) -> None:
    """Raise an error if two models differ in a property that determines their evaluation rows."""
    first, second = values
    if first != second:
        raise ValueError(
            f"{options.run} and {options.second} have different evaluation rows: "
            f"{key} {first} and {second}; name the data"
        )


def _same(metric: Metric) -> dict[str, Any]:
    """Fields of a metric that two compared evaluations have in common."""
    keys = ("metric", "split", "n_rows", "binarize_seed", "data", "data_checksum")
    return {k: metric.get(k) for k in keys}


def units(options: Namespace) -> None:
    """Run ``ancestral units RUN``."""
    check("rows", options.rows, Count)
    estimator, config = experiment.open_run(options.run)
    estimator = explicit(options.run, estimator)
    dataset = dataset_of(options.run, options, config, estimator)
    active = estimator.active_units(dataset.x_train[: options.rows])
    sizes = estimator._latent_sizes()
    print(f"active units: {' + '.join(map(str, active))} of {' + '.join(map(str, sizes))}")


def repair(options: Namespace) -> None:
    """Run ``ancestral repair RUN``."""
    check("rows", options.rows, Count | None)
    corruptions = [Damage.parse(text) for text in options.damage.split(",")]
    if options.out is not None and options.out.suffix != ".png":
        raise ValueError(f"out={options.out}: expected a name ending in .png")
    estimator, config = experiment.open_run(options.run)
    if not isinstance(estimator, ClassifierBase) or options.out is not None:
        explicit(options.run, estimator)
    dataset = dataset_of(options.run, options, config, estimator)
    shape = dataset.image_shape or estimator.image_shape
    if options.out is not None:
        check_picture(options.out, shape)
    settings = Repair(**{field.name: getattr(options, field.name) for field in fields(Repair)})
    rows = _rows(options)
    if options.second_stage is not None:
        classifier(options.run, estimator)
    stage = _second_stage(options, config, estimator, dataset)
    if not stage and len(rows.rows(dataset)[1]) == 1:  # noise is drawn from other rows
        stage = {"training": training_data(options.run, options, config, dataset)}
    strips: list[np.ndarray] = []
    for corruption in corruptions:
        result = None
        if isinstance(estimator, LatentEstimator):
            result = repair_rows(estimator, dataset, corruption, settings, rows)
            _keep_repair(options, result.metric, result.errors)
            strips += [x[:STRIP] for x in (result.truth, result.damaged, result.filled)]
        if isinstance(estimator, ClassifierBase) and protocol.labels(dataset, rows) is not None:
            results = classify_damaged(
                estimator, dataset, corruption, settings, rows, result, **stage
            )
            for metric, errors in results:
                _keep_repair(options, metric, errors)
    if options.out is not None:
        write_rows(options.out, np.concatenate(strips), shape, None, n_columns=STRIP)


def _keep_repair(options: Namespace, metric: Metric, value: object) -> None:
    """Print a metric of corrupted rows and add it to the metrics of the run."""
    print(f"{metric['split']} {metric['metric']}: {value} ({metric['n_rows']} rows)")
    if (options.run / storage.MODEL).is_dir():
        kept.add_metric(options.run, metric)


def _scorings(options: Namespace) -> list[Scoring]:
    """Evaluation settings of the command, one for each binarisation seed."""
    common = Scoring(
        n_importance_samples=options.n_importance_samples,
        split=options.split,
        n_rows=options.rows,
        precision=options.precision,
        annealing=_annealing(options),
    )
    seeds = parse("binarize_seed", f"{options.binarize_seed},", tuple[Natural, ...])
    return [replace(common, binarize_seed=seed) for seed in seeds]


def _annealing(options: Namespace) -> Annealing | None:
    """Settings of annealed importance sampling; None if it is not requested.

    Raises
    ------
    ValueError
        If a setting is given without ``--annealed`` or ``--two-sided``.
    """
    values = {field.name: getattr(options, field.name) for field in fields(Annealing)}
    values = {name: value for name, value in values.items() if value is not None}
    if options.annealed or getattr(options, "two_sided", None) is not None:
        return Annealing(**values)
    if values:
        name, value = next(iter(values.items()))
        raise ValueError(f"{name}={value}: requires --annealed")
    return None


def _print_sandwich(bounds: Sandwich) -> None:
    """Print lower and upper bounds on the log-likelihood of samples."""
    print(f"{len(bounds.lower.values)} rows drawn from the model, log-likelihood")
    print(f"  from below: {bounds.lower}")
    print(f"  from above: {bounds.upper}")
    print(f"  gap: {bounds.gap:.3f} nats")


def _rows(options: Namespace) -> Scoring:
    """Evaluation settings of the command that select rows: split and number of rows."""
    return Scoring(split=options.split, n_rows=options.rows)
