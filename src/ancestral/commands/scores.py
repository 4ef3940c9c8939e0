"""Commands that score: evaluate, compare, units, repair."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ancestral import datasets, experiment, provenance, records, scoring, storage
from ancestral.ais import Annealing, Sandwich
from ancestral.commands.common import (
    check_folder,
    classifier,
    dataset_of,
    explicit,
    print_metric,
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
from ancestral.fields import Count, Natural, check, parse
from ancestral.labels import ClassLearner, TargetLearner
from ancestral.methods.autoencoder import Autoencoder
from ancestral.methods.implicit import ImplicitEstimator
from ancestral.methods.pegasos import svm
from ancestral.scoring import Metric, Scoring

STRIP = 14
"""Images in a row of a strip."""

WHOLE: dict[type, Callable[[Any, datasets.Dataset, Scoring], Metric]] = {
    ImplicitEstimator: scoring.resemble,
    TargetLearner: scoring.regress,
    Autoencoder: scoring.rebuild,
}
"""Scores that all rows have together, by what an estimator is."""


def evaluate(options: Namespace) -> None:
    """``ancestral evaluate RUN``."""
    estimator, config = experiment.open_run(options.run)
    observed = _observed(options, estimator)
    if options.second_stage is not None:
        classifier(options.run, estimator)
    if options.two_sided is not None:
        model = estimator if observed else explicit(options.run, estimator)
        how = _annealing(options)
        _print_sandwich(model.sandwich(options.two_sided, how, **observed, progress=True))
        return
    dataset = dataset_of(options, config, estimator)
    if options.out is not None:
        check_folder(options.out)
    if options.classifier is not None:
        evaluate_labels(options, estimator, dataset)
        return
    if observed:
        scored = scoring.observe(
            estimator, dataset, _scorings(options)[0], **observed, progress=True
        )
        _keep_rows(options, *scored)
        return
    for kind, score in WHOLE.items():
        if isinstance(estimator, kind):
            _evaluate_whole(options, estimator, dataset, score)
            return
    metrics = _applicable(estimator, dataset) if options.metric is None else [options.metric]
    if "error" in metrics:
        rows = _evaluate_errors(options, estimator, dataset)
    if "log_likelihood" in metrics:
        rows = _evaluate_likelihood(options, estimator, dataset)
    if (options.run / storage.RECORD).is_file():
        print(records.summary(options.run / storage.RECORD))
    if options.out is not None:
        storage.write_file(options.out, rows)


def _observed(options: Namespace, estimator: Any) -> dict[str, float]:
    """Return the variance of the noise on top of a generator's rows, if it was asked for."""
    variance, implicit = options.observation_variance, isinstance(estimator, ImplicitEstimator)
    anneals = options.annealed or options.two_sided is not None
    if variance is None and not (implicit and anneals):
        return {}
    holds = f"{options.run} holds a {type(estimator).__name__}"
    if variance is None:
        raise ValueError(f"{holds}, which has no likelihood without an --observation-variance")
    if not (implicit and anneals):
        raise ValueError(
            f"observation_variance={variance}: for generators, with --annealed or --two-sided; "
            f"{holds}"
        )
    return {"variance": variance}


def _keep_rows(options: Namespace, metric: Metric, found: LogLikelihood) -> None:
    """Print a likelihood, add it to the run's metrics, and write it row by row if asked to."""
    print_metric(metric)
    if (options.run / storage.MODEL).is_dir():
        scoring.add_metric(options.run, metric)
    if options.out is not None:
        storage.write_file(options.out, scoring.rows_csv(found))


def _evaluate_whole(
    options: Namespace,
    estimator: Any,
    dataset: datasets.Dataset,
    score: Callable[[Any, datasets.Dataset, Scoring], Metric],
) -> None:
    """Print a score that all rows have together."""
    if options.metric is not None or options.out is not None:
        raise ValueError(
            f"{options.run} holds a {type(estimator).__name__}, scored on all rows together: "
            "leave out --metric and --out"
        )
    metric = score(estimator, dataset, _rows(options))
    print_metric(metric)
    if (options.run / storage.MODEL).is_dir():
        scoring.add_metric(options.run, metric)


def _evaluate_likelihood(options: Namespace, estimator: Any, dataset: datasets.Dataset) -> str:
    """Print the likelihood under every binarisation; return the last one's rows."""
    estimator = explicit(options.run, estimator)
    # without grey values nothing is drawn: every seed gives the same
    different = _scorings(options)[: None if estimator.draws_bits_ else 1]
    found = [
        scoring.scored(options.run, estimator, dataset, how, again=True, progress=True)
        for how in different
    ]
    for metric, _ in found:
        print_metric(metric)
    if len(found) > 1:
        values = [metric["value"] for metric, _ in found]
        print(
            f"mean over {len(found)} binarisations: {np.mean(values):.3f}, "
            f"spread {np.std(values, ddof=1):.3f}"
        )
    return scoring.rows_csv(found[-1][1])


def _evaluate_errors(options: Namespace, estimator: Any, dataset: datasets.Dataset) -> str:
    """Print the share of wrong rows; return which they are."""
    stage = _second_stage(options, dataset)
    metric, found = scoring.classify(
        classifier(options.run, estimator), dataset, _rows(options), second_stage=stage
    )
    name = metric["metric"].removesuffix(", %")
    print(f"{metric['split']} {name}: {found} ({metric['n_rows']} rows)")
    if (options.run / storage.MODEL).is_dir():
        scoring.add_metric(options.run, metric)
    return storage.to_csv([{"wrong": int(wrong)} for wrong in found.wrong])


def _second_stage(options: Namespace, dataset: datasets.Dataset) -> Any:
    """Return the linear SVM that is to tell classes in the model's place, if one is asked for."""
    solver = options.second_stage
    return None if solver is None else svm(solver, len(dataset.x_train))


def _applicable(estimator: Any, dataset: datasets.Dataset) -> list[str]:
    """Return the metrics that an estimator has on some data."""
    found = ["log_likelihood"] if isinstance(estimator, LatentEstimator) else []
    if isinstance(estimator, ClassLearner) and (dataset.y_train is not None or not found):
        found.append("error")
    return found


def compare(options: Namespace) -> None:
    """``ancestral compare FIRST SECOND``."""
    if options.out is not None:
        check_folder(options.out)
    how = _compared_errors if options.metric == "error" else _compared_likelihoods
    differences = how(options)
    if options.out is not None:
        about = {"first": str(options.run), "second": str(options.second)}
        when = {"date": provenance.today(), "commit": provenance.commit()}
        text = json.dumps(about | {"differences": differences} | when, indent=1)
        storage.write_file(options.out, text + "\n")


def _compared_likelihoods(options: Namespace) -> list[dict[str, Any]]:
    """Compare two models under every binarisation, row by row."""

    def scored(path: Path, estimator: Any, dataset: datasets.Dataset) -> list[Any]:
        how, estimator = _scorings(options), explicit(path, estimator)
        return [scoring.scored(path, estimator, dataset, one, progress=True) for one in how]

    pairs = _scored_pairs(options, scored)
    for metric, _ in [first for first, _ in pairs] + [second for _, second in pairs]:
        print_metric(metric)
    found = []
    for (metric, first), (_, second) in pairs:
        difference = compare_rows(first, second)
        print(f"{options.run} less {options.second}: {difference}")
        found.append(
            _same(metric)
            | {
                "difference": difference.mean,
                "standard_error": difference.standard_error,
                "share_better": difference.share,
            }
        )
    return found


def _compared_errors(options: Namespace) -> list[dict[str, Any]]:
    """Compare two classifiers on the same rows."""

    def scored(path: Path, estimator: Any, dataset: datasets.Dataset) -> list[Any]:
        return [scoring.classify(classifier(path, estimator), dataset, _rows(options))]

    (((metric, first), (_, second)),) = _scored_pairs(options, scored)
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


def _scored_pairs(options: Namespace, scored: Any) -> list[Any]:
    """Score two models on the same rows: [((metric, result), (metric, result)), ...]."""
    found = []
    for path in (options.run, options.second):
        estimator, config = experiment.open_run(path)
        dataset = dataset_of(options, config, estimator)
        found.append(scored(path, estimator, dataset))
    pairs = list(zip(*found, strict=True))
    for (metric, _), (other, _) in pairs:
        for key in ("data_checksum", "split", "binarize_seed"):
            if metric.get(key) != other.get(key):
                raise ValueError(
                    f"{options.run} and {options.second} are not about the same rows: "
                    f"{key} {metric[key]} and {other[key]}; name the data"
                )
    return pairs


def _same(metric: Metric) -> dict[str, Any]:
    """Return what two compared evaluations share."""
    same = ("metric", "split", "n_rows", "binarize_seed", "data", "data_checksum")
    return {k: metric.get(k) for k in same}


def units(options: Namespace) -> None:
    """``ancestral units RUN``."""
    estimator, config = experiment.open_run(options.run)
    estimator = explicit(options.run, estimator)
    dataset = dataset_of(options, config, estimator)
    check("rows", options.rows, Count)
    active = estimator.active_units(dataset.x_train[: options.rows])
    sizes = estimator._latent_sizes()
    print(f"active units: {' + '.join(map(str, active))} of {' + '.join(map(str, sizes))}")


def repair(options: Namespace) -> None:
    """``ancestral repair RUN``."""
    ways = [Damage.parse(way) for way in options.damage.split(",")]
    if options.out is not None and options.out.suffix != ".png":
        raise ValueError(f"out={options.out}: expected a name ending in .png")
    estimator, config = experiment.open_run(options.run)
    if not isinstance(estimator, ClassLearner) or options.out is not None:
        explicit(options.run, estimator)
    dataset = dataset_of(options, config, estimator)
    how = Repair(**{field.name: getattr(options, field.name) for field in fields(Repair)})
    rows = _rows(options)
    stage = _second_stage(options, dataset)
    if stage is not None:
        classifier(options.run, estimator)
    strips: list[np.ndarray] = []
    for way in ways:
        found = None
        if isinstance(estimator, LatentEstimator):
            found = repair_rows(estimator, dataset, way, how, rows)
            _keep_repair(options, found.metric, found.errors)
            strips += [part[:STRIP] for part in (found.truth, found.damaged, found.filled)]
        if isinstance(estimator, ClassLearner) and scoring.labels(dataset, rows) is not None:
            told = classify_damaged(estimator, dataset, way, how, rows, found, second_stage=stage)
            for metric, wrong in told:
                _keep_repair(options, metric, wrong)
    if options.out is not None:
        shape = dataset.image_shape or estimator.image_shape
        write_rows(options.out, np.concatenate(strips), shape, None, n_columns=STRIP)


def _keep_repair(options: Namespace, metric: Metric, found: object) -> None:
    """Print how well damaged rows were dealt with, and add it to the run's metrics."""
    print(f"{metric['split']} {metric['metric']}: {found} ({metric['n_rows']} rows)")
    if (options.run / storage.MODEL).is_dir():
        scoring.add_metric(options.run, metric)


def _scorings(options: Namespace) -> list[Scoring]:
    """One for each binarisation asked for."""
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
    """Return how rows are annealed, if they are to be."""
    given = {field.name: getattr(options, field.name) for field in fields(Annealing)}
    given = {name: value for name, value in given.items() if value is not None}
    if options.annealed or getattr(options, "two_sided", None) is not None:
        return Annealing(**given)
    if given:
        name, value = next(iter(given.items()))
        raise ValueError(f"{name}={value}: says how to anneal, and goes with --annealed")
    return None


def _print_sandwich(found: Sandwich) -> None:
    print(f"{len(found.lower.values)} rows drawn from the model, log-likelihood")
    print(f"  from below: {found.lower}")
    print(f"  from above: {found.upper}")
    print(f"  gap: {found.gap:.3f} nats")


def _rows(options: Namespace) -> Scoring:
    """Return which rows were asked for."""
    return Scoring(split=options.split, n_rows=options.rows)
