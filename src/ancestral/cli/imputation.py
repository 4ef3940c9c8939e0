"""Command that corrupts rows and scores their imputation and classification."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields

import numpy as np

from ancestral.cli.common import (
    check_image_output,
    load_dataset,
    require_classifier,
    require_likelihood,
    training_data,
    write_rows,
)
from ancestral.cli.options import _row_settings, _second_stage
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.estimators.base.supervised import ClassifierBase
from ancestral.experiments import evaluation_settings, metrics_file
from ancestral.experiments.corruption import (
    Corruption,
    ImputationSettings,
    score_corrupted_classification,
    score_imputation,
)
from ancestral.experiments.evaluation_settings import Metric
from ancestral.experiments.run_folder import open_run
from ancestral.utils import files
from ancestral.utils.validation import Count, check_field

IMAGES_PER_LINE = 14
"""Number of images per line of the output image."""


def evaluate_imputation(options: Namespace) -> None:
    """Run ``ancestral evaluate-imputation RUN``."""
    check_field("n_rows", options.n_rows, Count | None)
    corruptions = [Corruption.parse(text) for text in options.corruption.split(",")]
    if options.out is not None and options.out.suffix != ".png":
        raise ValueError(f"out={options.out}: expected a name ending in .png")
    estimator, config = open_run(options.run)
    if not isinstance(estimator, ClassifierBase) or options.out is not None:
        require_likelihood(options.run, estimator)
    dataset = load_dataset(options.run, options, config, estimator)
    shape = dataset.image_shape or estimator.image_shape
    if options.out is not None:
        check_image_output(options.out, shape)
    settings = ImputationSettings(
        **{field.name: getattr(options, field.name) for field in fields(ImputationSettings)}
    )
    rows = _row_settings(options)
    if options.linear_classifier is not None:
        require_classifier(options.run, estimator)
    stage = _second_stage(options, config, estimator, dataset)
    if not stage and len(rows.rows(dataset)[1]) == 1:  # noise is drawn from other rows
        stage = {"training": training_data(options.run, options, config, dataset)}
    strips: list[np.ndarray] = []
    for corruption in corruptions:
        result = None
        if isinstance(estimator, LatentEstimator):
            result = score_imputation(estimator, dataset, corruption, settings, rows)
            _save_corrupted_metric(options, result.metric, result.errors)
            strips += [
                x[:IMAGES_PER_LINE] for x in (result.truth, result.corrupted, result.imputed)
            ]
        if (
            isinstance(estimator, ClassifierBase)
            and evaluation_settings.labels(dataset, rows) is not None
        ):
            results = score_corrupted_classification(
                estimator, dataset, corruption, settings, rows, result, **stage
            )
            for metric, errors in results:
                _save_corrupted_metric(options, metric, errors)
    if options.out is not None:
        write_rows(options.out, np.concatenate(strips), shape, None, n_columns=IMAGES_PER_LINE)


def _save_corrupted_metric(options: Namespace, metric: Metric, value: object) -> None:
    """Print a metric of corrupted rows and add it to the metrics of the run."""
    print(f"{metric['split']} {metric['metric']}: {value} ({metric['n_rows']} rows)")
    if (options.run / files.MODEL).is_dir():
        metrics_file.add_metric(options.run, metric)
