"""What the rows of tables measure: one function for each metric of a protocol."""

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
"""Samples of a Parzen window, and the most held-out rows by which its width is chosen."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A fitted model, and how it is scored.

    Attributes
    ----------
    name : str
        What progress calls it.
    folder : Path
        Its run folder, which keeps what takes long.
    estimator : estimator
        The model.
    dataset : Dataset
        Its data.
    protocol : Protocol
        How the row is scored.
    rows : Scoring
        Which rows.
    judge : classifier, optional
        What classifies samples.
    """

    name: str
    folder: Path
    estimator: Any
    dataset: Dataset
    protocol: Protocol
    rows: Scoring
    judge: Any = None


def measure(subject: Subject) -> list[Metric]:
    """Score a model as its protocol says; a likelihood of bits once for each binarisation."""
    if subject.protocol.damage is not None:
        return [_damaged(subject)]
    return MEASURES[subject.protocol.metric](subject)


def _log_likelihood(subject: Subject) -> list[Metric]:
    metrics = []
    estimator, dataset = subject.estimator, subject.dataset
    for seed in subject.protocol.binarize_seeds if estimator.draws_bits_ else (0,):
        how = replace(subject.rows, binarize_seed=seed)
        print(f"{subject.name}: {how}, bits drawn with {seed}")
        metrics.append(kept.scored(subject.folder, estimator, dataset, how, progress=True)[0])
    return metrics


def _damaged(subject: Subject) -> Metric:
    """Score what is filled in, or the classes of rows: filled in, where the model can."""
    protocol, estimator, dataset = subject.protocol, subject.estimator, subject.dataset
    assert protocol.damage is not None
    what = damage.Damage.parse(protocol.damage)
    how = damage.Repair(protocol.n_iter, batch_statistics=protocol.batch_statistics)
    repaired = None
    if isinstance(estimator, LatentEstimator):
        kept = subject.folder / storage.REPAIRS
        repaired = damage.repair(estimator, dataset, what, how, subject.rows, kept)
    if protocol.metric == "error":
        stage = _second_stage(subject)
        told = damage.classify(
            estimator, dataset, what, how, subject.rows, repaired, second_stage=stage
        )
        seconds = told[-1][0]["seconds"] + (repaired.metric["seconds"] if repaired else 0.0)
        return told[-1][0] | {"seconds": seconds}
    if repaired is None:
        raise ValueError(f"{type(estimator).__name__} has no model of its rows to fill gaps by")
    return repaired.metric


def _second_stage(subject: Subject) -> Any:
    """Return what is to tell classes in the place of the model's scores, if something is."""
    return classification.second_stage(
        subject.protocol.second_stage, subject.estimator, subject.dataset
    )


def _parzen(subject: Subject) -> list[Metric]:
    """The width is chosen on held-out rows other than those scored, never on training rows."""
    estimator, dataset = subject.estimator, subject.dataset
    split, X = subject.rows.rows(dataset)
    apart = None if split == "valid" else dataset.x_valid
    began = perf_counter()
    unit, valid = estimator.unit_, None
    if apart is not None:
        last = f"{dataset.name}, the last {PARZEN_ROWS} valid rows"
        valid = as_values(apart[-PARZEN_ROWS:], unit, last)
    drawn = estimator.sample(PARZEN_SAMPLES, random_state=0)
    found = parzen(drawn, valid, as_values(X, unit, f"{dataset.name}, {split} rows"))
    name, value = "log-likelihood of a Parzen window, nats", (found.mean, found.standard_error)
    how: dict[str, Any] = {
        "widths": list(found.widths),
        "chosen_on": f"halves of {split}" if valid is None else "valid",
    }
    return [measured(name, split, len(X), dataset, value, began, **how)]


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
"""By the name that a protocol has for it; what is damaged aside."""
