"""Class fidelity of generated samples: part of the command evaluate."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ancestral import classification, datasets, experiment, kept, storage
from ancestral.commands.common import classifier, print_metric
from ancestral.judging import label_error, retrained_error, smallest_share
from ancestral.labelled import can_be_asked
from ancestral.protocol import Metric, Scoring


def evaluate_labels(options: Namespace, estimator: Any, dataset: datasets.Dataset) -> None:
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
    judge = classifier(options.classifier, experiment.open_run(options.classifier)[0])
    if judge.n_features_in_ != estimator.n_features_in_:
        raise ValueError(
            f"{options.classifier} was fitted on {judge.n_features_in_} features, but "
            f"{options.run} generates {estimator.n_features_in_}: choose a classifier of the same "
            "features"
        )
    if options.retrain and not can_be_asked(estimator):
        name = type(estimator).__name__
        raise ValueError(
            f"--retrain requires a class-conditional model, but {options.run} contains a {name}"
        )
    rows = Scoring(split=options.split, n_rows=options.rows)
    metric = smallest_share(estimator, judge, dataset)
    pairs = zip(metric["classes"], metric["shares"], strict=True)
    print(
        f"classes of {metric['n_rows']} drawn rows: {', '.join(f'{c} {s:.1%}' for c, s in pairs)}"
    )
    if can_be_asked(estimator):
        _keep(options, label_error(estimator, judge, dataset))
        print_metric(classification.classify(judge, dataset, rows)[0])
    if options.retrain:
        _keep(options, retrained_error(estimator, judge, dataset, rows))


def _keep(options: Namespace, metric: Metric) -> None:
    """Print a metric and add it to the metrics of the run."""
    print_metric(metric)
    if (options.run / storage.MODEL).is_dir():
        kept.add_metric(options.run, metric | {"classifier": str(options.classifier)})
