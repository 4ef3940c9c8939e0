"""Metrics of recipes: one function for each metric of a protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from ancestral import classification, damage, judging, kept, scoring, storage
from ancestral.datasets import Dataset
from ancestral.density import LatentEstimator
from ancestral.likeness import parzen
from ancestral.protocol import Metric, Scoring, measured
from ancestral.recipes import Protocol
from ancestral.scoring import as_values

PARZEN_SAMPLES, PARZEN_ROWS = 10_000, 5000
"""Number of samples of a Parzen window; maximum number of validation rows for its width."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A fitted model and its evaluation protocol.

    Attributes
    ----------
    name : str
        Name of the job in progress messages.
    folder : Path
        Run folder, in which expensive results are cached.
    estimator : estimator
        Fitted model.
    dataset : Dataset
        Data set of the model.
    protocol : Protocol
        Evaluation protocol of the recipe.
    rows : Scoring
        Evaluation settings.
    judge : classifier, optional
        Fitted classifier of generated samples.
    """

    name: str
    folder: Path
    estimator: Any
    dataset: Dataset
    protocol: Protocol
    rows: Scoring
    judge: Any = None


def measure(subject: Subject) -> list[Metric]:
    """Compute the metric of the protocol; the likelihood of bits once per binarisation seed."""
    if subject.protocol.damage is not None:
        return [_damaged(subject)]
    return MEASURES[subject.protocol.metric](subject)


def _log_likelihood(subject: Subject) -> list[Metric]:
    metrics = []
    estimator, dataset = subject.estimator, subject.dataset
    for seed in subject.protocol.binarize_seeds if estimator.draws_bits_ else (0,):
        settings = replace(subject.rows, binarize_seed=seed)
        print(f"{subject.name}: {settings}, binarisation seed {seed}")
        metric, _ = kept.scored(subject.folder, estimator, dataset, settings, progress=True)
        metrics.append(metric)
    return metrics


def _damaged(subject: Subject) -> Metric:
    """Imputation error or error rate on corrupted rows, imputed first if the model can do so."""
    protocol, estimator, dataset = subject.protocol, subject.estimator, subject.dataset
    assert protocol.damage is not None
    corruption = damage.Damage.parse(protocol.damage)
    settings = damage.Repair(protocol.n_iter, batch_statistics=protocol.batch_statistics)
    imputation = None
    if isinstance(estimator, LatentEstimator):
        cache = subject.folder / storage.REPAIRS
        imputation = damage.repair(estimator, dataset, corruption, settings, subject.rows, cache)
    if protocol.metric == "error":
        stage = _second_stage(subject)
        results = damage.classify(
            estimator, dataset, corruption, settings, subject.rows, imputation, second_stage=stage
        )
        metric = results[-1][0]
        seconds = metric["seconds"] + (imputation.metric["seconds"] if imputation else 0.0)
        return metric | {"seconds": seconds}
    if imputation is None:
        raise ValueError(
            f"{type(estimator).__name__} does not support imputation, which metric="
            f"{protocol.metric!r} requires"
        )
    return imputation.metric


def _second_stage(subject: Subject) -> Any:
    """Linear SVM for second-stage classification; None if the protocol has none."""
    return classification.second_stage(
        subject.protocol.second_stage, subject.estimator, subject.dataset
    )


def _parzen(subject: Subject) -> list[Metric]:
    """Parzen-window log-likelihood, in nats.

    The width is chosen on validation rows other than the scored rows, or by halves of the scored
    rows; never on training rows.
    """
    estimator, dataset = subject.estimator, subject.dataset
    split, X = subject.rows.rows(dataset)
    x_valid = None if split == "valid" else dataset.x_valid
    began = perf_counter()
    unit, valid = estimator.unit_, None
    if x_valid is not None:
        description = f"{dataset.name}, the last {PARZEN_ROWS} valid rows"
        valid = as_values(x_valid[-PARZEN_ROWS:], unit, description)
    samples = estimator.sample(PARZEN_SAMPLES, random_state=0)
    window = parzen(samples, valid, as_values(X, unit, f"{dataset.name}, {split} rows"))
    name, value = "log-likelihood of a Parzen window, nats", (window.mean, window.standard_error)
    widths: dict[str, Any] = {
        "widths": list(window.widths),
        "chosen_on": f"halves of {split}" if valid is None else "valid",
    }
    return [measured(name, split, len(X), dataset, value, began, **widths)]


def _classes(subject: Subject) -> list[Metric]:
    stage = _second_stage(subject)
    estimator, dataset = subject.estimator, subject.dataset
    return [classification.classify(estimator, dataset, subject.rows, second_stage=stage)[0]]


def _target_error(subject: Subject) -> list[Metric]:
    return [scoring.regress(subject.estimator, subject.dataset, subject.rows)]


def _target_density(subject: Subject) -> list[Metric]:
    return [scoring.regress_density(subject.estimator, subject.dataset, subject.rows)]


def _reconstruction(subject: Subject) -> list[Metric]:
    return [scoring.rebuild(subject.estimator, subject.dataset, subject.rows)]


def _resemblance(subject: Subject) -> list[Metric]:
    return [scoring.resemble(subject.estimator, subject.dataset, subject.rows)]


def _label_error(subject: Subject) -> list[Metric]:
    return [judging.label_error(subject.estimator, subject.judge, subject.dataset)]


def _smallest_share(subject: Subject) -> list[Metric]:
    return [judging.smallest_share(subject.estimator, subject.judge, subject.dataset)]


def _retrained_error(subject: Subject) -> list[Metric]:
    judge = subject.judge
    return [judging.retrained_error(subject.estimator, judge, subject.dataset, subject.rows)]


MEASURES: dict[str, Callable[[Subject], list[Metric]]] = {
    "log_likelihood": _log_likelihood,
    "error": _classes,
    "target_error": _target_error,
    "target_density": _target_density,
    "reconstruction": _reconstruction,
    "resemblance": _resemblance,
    "parzen": _parzen,
    "label_error": _label_error,
    "smallest_share": _smallest_share,
    "retrained_error": _retrained_error,
}
"""Metric functions for uncorrupted rows, by the name of the metric in a protocol."""
