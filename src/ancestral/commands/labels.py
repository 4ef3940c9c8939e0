"""Drawn rows as a classifier sees them: part of the command evaluate."""

from __future__ import annotations

from argparse import Namespace
from time import perf_counter
from typing import Any

from ancestral import datasets, experiment, scoring, storage
from ancestral.commands.common import classifier, print_metric
from ancestral.errors import Errors
from ancestral.labelled import can_be_asked, class_shares, label_errors, train_on_generated
from ancestral.scoring import Metric, Scoring

DRAWN = 2000
"""Rows drawn to see which classes there are."""


def evaluate_labels(options: Namespace, estimator: Any, dataset: datasets.Dataset) -> None:
    """``ancestral evaluate RUN --classifier OTHER``.

    Raises
    ------
    ValueError
        If one can't draw rows, or the other can't tell classes.
    """
    if options.metric is not None or options.out is not None:
        raise ValueError("--classifier judges rows that are drawn: leave out --metric and --out")
    if not hasattr(estimator, "sample"):
        raise ValueError(f"{options.run} holds a {type(estimator).__name__}, which draws no rows")
    judge = classifier(options.classifier, experiment.open_run(options.classifier)[0])
    if judge.n_features_in_ != estimator.n_features_in_:
        raise ValueError(
            f"{options.classifier} knows rows of {judge.n_features_in_} entries and {options.run} "
            f"draws {estimator.n_features_in_}: name a classifier of the same rows"
        )
    rows = Scoring(split=options.split, n_rows=options.rows)
    _print_shares(estimator, judge)
    if can_be_asked(estimator):
        began = perf_counter()
        found = label_errors(estimator, judge)
        _keep(options, _metric("label error of drawn rows, %", "drawn", found, began))
        print_metric(scoring.classify(judge, dataset, rows)[0])
    if options.retrain:
        _retrain(options, estimator, judge, dataset, rows)


def _print_shares(estimator: Any, judge: Any) -> None:
    found = class_shares(estimator, judge, DRAWN)
    names = getattr(judge, "class_names_", judge.classes_)
    pairs = zip(names, found.shares, strict=True)
    print(f"classes of {found.n} drawn rows: {', '.join(f'{c} {s:.1%}' for c, s in pairs)}")


def _retrain(
    options: Namespace, estimator: Any, judge: Any, dataset: datasets.Dataset, rows: Scoring
) -> None:
    split, X = rows.rows(dataset)
    y = scoring.labels(dataset, rows)
    if y is None:
        raise ValueError(f"the data set {dataset.name} has no labels of its {split} rows")
    began = perf_counter()
    real = scoring.as_values(X, estimator.unit_, len(X))
    found = train_on_generated(estimator, judge, real, y[: len(X)])
    _keep(options, _metric("error after training on drawn rows, %", split, found, began))


def _metric(name: str, split: str, found: Errors, began: float) -> Metric:
    return {
        "metric": name,
        "split": split,
        "n_rows": len(found.wrong),
        "value": found.percent,
        "standard_error": found.standard_error,
        "seconds": perf_counter() - began,
    }


def _keep(options: Namespace, metric: Metric) -> None:
    """Print what was found, and add it to the run's metrics."""
    print_metric(metric)
    if (options.run / storage.MODEL).is_dir():
        scoring.add_metric(options.run, metric | {"classifier": str(options.classifier)})
