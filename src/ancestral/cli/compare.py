"""Command that compares two models on the same rows."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ancestral import datasets
from ancestral.cli.common import (
    check_folder,
    load_dataset,
    print_metric,
    require_classifier,
    require_likelihood,
)
from ancestral.cli.options import _evaluation_settings, _row_settings
from ancestral.evaluation.log_likelihood import compare as compare_likelihoods
from ancestral.evaluation.metrics import mcnemar
from ancestral.experiments import metrics_file, provenance, scoring
from ancestral.experiments.evaluation_settings import Metric
from ancestral.experiments.run_folder import open_run
from ancestral.utils import files
from ancestral.utils.validation import Count, check_field


def compare(options: Namespace) -> None:
    """Run ``ancestral compare FIRST SECOND``."""
    check_field("n_rows", options.n_rows, Count | None)
    if options.out is not None:
        check_folder(options.out)
    compare_models = _compare_errors if options.metric == "error" else _compare_likelihoods
    differences = compare_models(options)
    if options.out is not None:
        models = {"first": str(options.run), "second": str(options.second)}
        version = {"date": provenance.today(), "commit": provenance.commit()}
        text = json.dumps(models | {"differences": differences} | version, indent=1)
        files.write_file(options.out, text + "\n")


def _compare_likelihoods(options: Namespace) -> list[dict[str, Any]]:
    """Paired differences of log-likelihood between two models, one per binarisation."""
    settings, pair = _evaluation_settings(options), _open_pair(options, require_likelihood)
    seed = settings[0].binarize_seed
    seeds = [seed if estimator.draws_bits_ else None for _, estimator, _ in pair]
    _check_same(options, "binarize_seed", seeds)
    results = [
        [metrics_file.evaluate_cached(*model, scoring, progress=True) for scoring in settings]
        for model in pair
    ]
    for metric, _ in [result for of_model in results for result in of_model]:
        print_metric(metric)
    differences = []
    for (metric, first), (_, second) in zip(*results, strict=True):
        difference = compare_likelihoods(first, second)
        print(f"{options.run} minus {options.second}: {difference}")
        differences.append(
            _shared_fields(metric)
            | {
                "difference": difference.mean,
                "standard_error": difference.standard_error,
                "share_better": difference.fraction_better,
            }
        )
    return differences


def _compare_errors(options: Namespace) -> list[dict[str, Any]]:
    """Paired difference of error rate between two classifiers, with McNemar's test."""
    pair, rows = _open_pair(options, require_classifier), _row_settings(options)
    (metric, first), (_, second) = (
        scoring.score_classification(estimator, dataset, rows) for _, estimator, dataset in pair
    )
    difference = mcnemar(first, second)
    for path, errors in ((options.run, first), (options.second, second)):
        print(f"{path}: {metric['split']} error {errors}")
    print(f"{options.run} minus {options.second}: {difference}")
    return [
        _shared_fields(metric)
        | {
            "difference": difference.percent,
            "standard_error": difference.standard_error,
            "wrong_alone": [difference.n_first_only, difference.n_second_only],
            "p_value": difference.p_value,
        }
    ]


def _open_pair(
    options: Namespace, require: Callable[[Path, Any], Any]
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
    runs = [(path, *open_run(path)) for path in (options.run, options.second)]
    models = [(path, require(path, estimator), config) for path, estimator, config in runs]
    pair = [
        (path, estimator, load_dataset(path, options, config, estimator))
        for path, estimator, config in models
    ]
    data = [dataset for _, _, dataset in pair]
    _check_same(options, "data_checksum", [dataset.checksum for dataset in data])
    _check_same(options, "split", [_row_settings(options).rows(dataset)[0] for dataset in data])
    return pair


def _check_same(options: Namespace, key: str, values: Sequence[object]) -> None:
    """Raise an error if two models differ in a property that determines their evaluation rows."""
    first, second = values
    if first != second:
        raise ValueError(
            f"{options.run} and {options.second} have different evaluation rows: "
            f"{key} {first} and {second}; name the data"
        )


def _shared_fields(metric: Metric) -> dict[str, Any]:
    """Fields of a metric that two compared evaluations have in common."""
    keys = ("metric", "split", "n_rows", "binarize_seed", "data", "data_checksum")
    return {k: metric.get(k) for k in keys}
