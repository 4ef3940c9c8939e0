"""How many rows a classifier gets wrong, by itself or by a linear machine on its features."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone

from ancestral import datasets
from ancestral.errors import Errors, errors
from ancestral.labels import ClassLearner, LinearScores, has_label
from ancestral.methods.pegasos import Solver, name_of, svm
from ancestral.protocol import Metric, Scoring, labelled_rows, measured

ERROR = "error, %"


def classify(
    estimator: ClassLearner,
    dataset: datasets.Dataset,
    rows: Scoring,
    *,
    second_stage: Any = None,
    training: datasets.Dataset | None = None,
) -> tuple[Metric, Errors]:
    """Count how many labelled rows of one split a classifier gets wrong.

    With a second stage, that one tells them, on the features of the first: see
    :func:`learned_afresh`. It learns the training rows of ``training``, by default those of the
    data that are scored.

    Raises
    ------
    ValueError
        If the data set has no labels.
    """
    split, X, y = labelled_rows(dataset, rows)
    began, name = perf_counter(), ERROR
    predict: Callable[[np.ndarray], np.ndarray] = estimator.predict
    if second_stage is not None:
        predict = learned_afresh(estimator, training or dataset, second_stage)
        name = f"error by {name_of(second_stage)}, %"
    found = errors(predict(X), y)
    value = found.percent, found.standard_error
    return measured(name, split, len(found.wrong), dataset, value, began), found


def learned_afresh(
    estimator: ClassLearner, dataset: datasets.Dataset, classifier: Any
) -> Callable[[np.ndarray], np.ndarray]:
    """Learn classes afresh on features of the training rows, and return how they are told.

    Raises
    ------
    ValueError
        If the estimator has no features, or the data no classes.
    """
    first, x, y = _lessons(name_of(classifier), estimator, dataset)
    fitted = clone(classifier).fit(first.features_of(x), y)
    return lambda rows: fitted.predict(first.features_of(rows))


def second_stage(solver: Solver | None, estimator: ClassLearner, training: datasets.Dataset) -> Any:
    """Return the linear machine that is to tell classes in a model's place, if one is asked for.

    Raises
    ------
    ValueError
        If the estimator has no features to learn from, or the training rows have no classes.
    """
    if solver is None:
        return None
    _, _, y = _lessons(solver, estimator, training)
    return svm(solver, len(y))


def _lessons(
    named: str, estimator: ClassLearner, dataset: datasets.Dataset
) -> tuple[LinearScores, np.ndarray, np.ndarray]:
    """Return what a second stage learns from: the features' model, labelled rows, their classes."""
    if not isinstance(estimator, LinearScores):
        raise ValueError(
            f"second_stage={named!r}: {type(estimator).__name__} has no features to learn from: "
            "expected a model whose scores are linear in features, as MaxMarginVAE"
        )
    y = dataset.y_train
    known = np.flatnonzero(has_label(y)) if y is not None else np.empty(0, np.int64)
    if y is None or not len(known):
        raise ValueError(
            f"second_stage={named!r}: the training rows of {dataset.name} have no classes to learn"
        )
    return estimator, dataset.x_train[known], y[known]
