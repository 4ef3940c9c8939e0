"""Command that fills in damaged rows and measures the repairs."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields

import numpy as np

from ancestral.cli.common import (
    check_picture,
    classifier,
    dataset_of,
    explicit,
    training_data,
    write_rows,
)
from ancestral.cli.options import _rows, _second_stage
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.estimators.base.supervised import ClassifierBase
from ancestral.experiments import protocol, run_metrics
from ancestral.experiments.corruption import Damage, Repair
from ancestral.experiments.corruption import classify as classify_damaged
from ancestral.experiments.corruption import repair as repair_rows
from ancestral.experiments.protocol import Metric
from ancestral.experiments.run import open_run
from ancestral.utils import files
from ancestral.utils.validation import Count, check_field

STRIP = 14
"""Number of images per line of the output image of repair."""


def repair(options: Namespace) -> None:
    """Run ``ancestral repair RUN``."""
    check_field("rows", options.rows, Count | None)
    corruptions = [Damage.parse(text) for text in options.damage.split(",")]
    if options.out is not None and options.out.suffix != ".png":
        raise ValueError(f"out={options.out}: expected a name ending in .png")
    estimator, config = open_run(options.run)
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
    if (options.run / files.MODEL).is_dir():
        run_metrics.add_metric(options.run, metric)
