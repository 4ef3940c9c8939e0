"""Drawn rows as a classifier sees them: part of the command evaluate."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ancestral import classification, datasets, experiment, kept, storage
from ancestral.commands.common import classifier, print_metric
from ancestral.judging import label_error, retrained_error, smallest_share
from ancestral.labelled import can_be_asked
from ancestral.protocol import Metric, Scoring


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
    if options.retrain and not can_be_asked(estimator):
        name = type(estimator).__name__
        raise ValueError(f"--retrain: {options.run} holds a {name}, which draws no rows of a class")
    rows = Scoring(split=options.split, n_rows=options.rows)
    shares = smallest_share(estimator, judge, dataset)
    pairs = zip(shares["classes"], shares["shares"], strict=True)
    print(
        f"classes of {shares['n_rows']} drawn rows: {', '.join(f'{c} {s:.1%}' for c, s in pairs)}"
    )
    if can_be_asked(estimator):
        _keep(options, label_error(estimator, judge, dataset))
        print_metric(classification.classify(judge, dataset, rows)[0])
    if options.retrain:
        _keep(options, retrained_error(estimator, judge, dataset, rows))


def _keep(options: Namespace, metric: Metric) -> None:
    """Print what was found, and add it to the run's metrics."""
    print_metric(metric)
    if (options.run / storage.MODEL).is_dir():
        kept.add_metric(options.run, metric | {"classifier": str(options.classifier)})
