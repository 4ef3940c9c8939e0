"""EvaluationSettings options of the commands."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields, replace
from typing import Any

from ancestral import datasets
from ancestral.cli.common import training_data
from ancestral.evaluation.ais import Annealing
from ancestral.experiments import scoring
from ancestral.experiments.config import Config
from ancestral.experiments.evaluation_settings import EvaluationSettings
from ancestral.utils.validation import Natural, parse_field


def _second_stage(
    options: Namespace, config: Config | None, estimator: Any, dataset: datasets.Dataset
) -> dict[str, Any]:
    """Keyword arguments of second-stage classification: the SVM and its training data."""
    if options.linear_classifier is None:
        return {}
    training = training_data(options.run, options, config, dataset)
    stage = scoring.make_second_stage(options.linear_classifier, estimator, training)
    return {"linear_classifier": stage, "training": training}


def _evaluation_settings(options: Namespace) -> list[EvaluationSettings]:
    """Evaluation settings of the command, one for each binarisation seed."""
    common = EvaluationSettings(
        n_importance_samples=options.n_importance_samples,
        split=options.split,
        n_rows=options.n_rows,
        precision=options.precision,
        annealing=_annealing_settings(options),
    )
    seeds = parse_field("binarize_seed", f"{options.binarize_seed},", tuple[Natural, ...])
    return [replace(common, binarize_seed=seed) for seed in seeds]


def _annealing_settings(options: Namespace) -> Annealing | None:
    """Settings of annealed importance sampling; None if it is not requested.

    Raises
    ------
    ValueError
        If a setting is given without ``--annealed`` or ``--bidirectional``.
    """
    values = {field.name: getattr(options, field.name) for field in fields(Annealing)}
    values = {name: value for name, value in values.items() if value is not None}
    if options.annealed or getattr(options, "bidirectional", None) is not None:
        return Annealing(**values)
    if values:
        name, value = next(iter(values.items()))
        raise ValueError(f"{name}={value}: requires --annealed")
    return None


def _row_settings(options: Namespace) -> EvaluationSettings:
    """Evaluation settings of the command that select rows: split and number of rows."""
    return EvaluationSettings(split=options.split, n_rows=options.n_rows)
