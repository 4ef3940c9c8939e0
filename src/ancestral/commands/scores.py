"""Commands that score: evaluate, compare, units, repair."""

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
from ancestral.labels import ClassLearner, TargetLearner
from ancestral.methods.autoencoder import Autoencoder
from ancestral.methods.implicit import ImplicitEstimator
from ancestral.protocol import Metric, Scoring

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
    check("rows", options.rows, Count | None)
    check("two_sided", options.two_sided, Count | None)
    estimator, config = experiment.open_run(options.run)
    observed = _observed(options, estimator)
    if options.second_stage is not None:
        classifier(options.run, estimator)
    if options.two_sided is not None:
        model = estimator if observed else explicit(options.run, estimator)
        how = _annealing(options)
        _print_sandwich(model.sandwich(options.two_sided, how, **observed, progress=True))
        return
    dataset = dataset_of(options.run, options, config, estimator)
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
        rows = _evaluate_errors(options, config, estimator, dataset)
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
        kept.add_metric(options.run, metric)
    if options.out is not None:
        storage.write_file(options.out, kept.rows_csv(found))


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
        kept.add_metric(options.run, metric)


def _evaluate_likelihood(options: Namespace, estimator: Any, dataset: datasets.Dataset) -> str:
    """Print the likelihood under every binarisation; return the last one's rows."""
    estimator = explicit(options.run, estimator)
    # without grey values nothing is drawn: every seed gives the same
    different = _scorings(options)[: None if estimator.draws_bits_ else 1]
    found = [
        kept.scored(options.run, estimator, dataset, how, again=True, progress=True)
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
    return kept.rows_csv(found[-1][1])


def _evaluate_errors(
    options: Namespace, config: Config | None, estimator: Any, dataset: datasets.Dataset
) -> str:
    """Print the share of wrong rows; return which they are."""
    stage = _second_stage(options, config, estimator, dataset)
    metric, found = classification.classify(
        classifier(options.run, estimator), dataset, _rows(options), **stage
    )
    name = metric["metric"].removesuffix(", %")
    print(f"{metric['split']} {name}: {found} ({metric['n_rows']} rows)")
    if (options.run / storage.MODEL).is_dir():
        kept.add_metric(options.run, metric)
    return storage.to_csv([{"wrong": int(wrong)} for wrong in found.wrong])


def _second_stage(
    options: Namespace, config: Config | None, estimator: Any, dataset: datasets.Dataset
) -> dict[str, Any]:
    """Return what is to tell classes in the model's place, if asked for, and what it learns."""
    if options.second_stage is None:
        return {}
    training = training_data(options.run, options, config, dataset)
    stage = classification.second_stage(options.second_stage, estimator, training)
    return {"second_stage": stage, "training": training}


def _applicable(estimator: Any, dataset: datasets.Dataset) -> list[str]:
    """Return the metrics that an estimator has on some data."""
    found = ["log_likelihood"] if isinstance(estimator, LatentEstimator) else []
    if isinstance(estimator, ClassLearner) and (dataset.y_train is not None or not found):
        found.append("error")
    return found


def compare(options: Namespace) -> None:
    """``ancestral compare FIRST SECOND``."""
    check("rows", options.rows, Count | None)
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
    how, pair = _scorings(options), _pair(options, explicit)
    drawn = [how[0].binarize_seed if estimator.draws_bits_ else None for _, estimator, _ in pair]
    _check_same(options, "binarize_seed", drawn)
    scored = [[kept.scored(*subject, one, progress=True) for one in how] for subject in pair]
    for metric, _ in [result for results in scored for result in results]:
        print_metric(metric)
    found = []
    for (metric, first), (_, second) in zip(*scored, strict=True):
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
    """Open two models and their data, and see that they can be compared before either is scored.

    Parameters
    ----------
    options : Namespace
        Of the command.
    suited : callable
        From a folder and its estimator to the estimator, if it is of the kind that is compared.

    Raises
    ------
    ValueError
        If one is of another kind, or they are not about the same rows.
    """
    opened = [(path, *experiment.open_run(path)) for path in (options.run, options.second)]
    known = [(path, suited(path, estimator), config) for path, estimator, config in opened]
    pair = [
        (path, estimator, dataset_of(path, options, config, estimator))
        for path, estimator, config in known
    ]
    data = [dataset for _, _, dataset in pair]
    _check_same(options, "data_checksum", [dataset.checksum for dataset in data])
    _check_same(options, "split", [_rows(options).rows(dataset)[0] for dataset in data])
    return pair


def _check_same(options: Namespace, key: str, values: Sequence[object]) -> None:
    """Refuse to compare models of which something differs that their rows depend on."""
    first, second = values
    if first != second:
        raise ValueError(
            f"{options.run} and {options.second} are not about the same rows: "
            f"{key} {first} and {second}; name the data"
        )


def _same(metric: Metric) -> dict[str, Any]:
    """Return what two compared evaluations share."""
    same = ("metric", "split", "n_rows", "binarize_seed", "data", "data_checksum")
    return {k: metric.get(k) for k in same}


def units(options: Namespace) -> None:
    """``ancestral units RUN``."""
    check("rows", options.rows, Count)
    estimator, config = experiment.open_run(options.run)
    estimator = explicit(options.run, estimator)
    dataset = dataset_of(options.run, options, config, estimator)
    active = estimator.active_units(dataset.x_train[: options.rows])
    sizes = estimator._latent_sizes()
    print(f"active units: {' + '.join(map(str, active))} of {' + '.join(map(str, sizes))}")


def repair(options: Namespace) -> None:
    """``ancestral repair RUN``."""
    check("rows", options.rows, Count | None)
    ways = [Damage.parse(way) for way in options.damage.split(",")]
    if options.out is not None and options.out.suffix != ".png":
        raise ValueError(f"out={options.out}: expected a name ending in .png")
    estimator, config = experiment.open_run(options.run)
    if not isinstance(estimator, ClassLearner) or options.out is not None:
        explicit(options.run, estimator)
    dataset = dataset_of(options.run, options, config, estimator)
    shape = dataset.image_shape or estimator.image_shape
    if options.out is not None:
        check_picture(options.out, shape)
    how = Repair(**{field.name: getattr(options, field.name) for field in fields(Repair)})
    rows = _rows(options)
    if options.second_stage is not None:
        classifier(options.run, estimator)
    stage = _second_stage(options, config, estimator, dataset)
    if not stage and len(rows.rows(dataset)[1]) == 1:  # the noise in its gaps is of other rows
        stage = {"training": training_data(options.run, options, config, dataset)}
    strips: list[np.ndarray] = []
    for way in ways:
        found = None
        if isinstance(estimator, LatentEstimator):
            found = repair_rows(estimator, dataset, way, how, rows)
            _keep_repair(options, found.metric, found.errors)
            strips += [part[:STRIP] for part in (found.truth, found.damaged, found.filled)]
        if isinstance(estimator, ClassLearner) and protocol.labels(dataset, rows) is not None:
            told = classify_damaged(estimator, dataset, way, how, rows, found, **stage)
            for metric, wrong in told:
                _keep_repair(options, metric, wrong)
    if options.out is not None:
        write_rows(options.out, np.concatenate(strips), shape, None, n_columns=STRIP)


def _keep_repair(options: Namespace, metric: Metric, found: object) -> None:
    """Print how well damaged rows were dealt with, and add it to the run's metrics."""
    print(f"{metric['split']} {metric['metric']}: {found} ({metric['n_rows']} rows)")
    if (options.run / storage.MODEL).is_dir():
        kept.add_metric(options.run, metric)


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
