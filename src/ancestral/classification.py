"""Error rate of a classifier, or of a second-stage linear SVM on its features."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone

from ancestral import datasets
from ancestral.errors import Errors, errors
from ancestral.labels import ClassifierBase, LinearClassifierBase, has_label
from ancestral.methods.pegasos import Solver, name_of, svm
from ancestral.protocol import Metric, Scoring, labelled_rows, measured

ERROR = "error, %"


def classify(
    estimator: ClassifierBase,
    dataset: datasets.Dataset,
    rows: Scoring,
    *,
    second_stage: Any = None,
    training: datasets.Dataset | None = None,
) -> tuple[Metric, Errors]:
    """Error rate of a classifier on the labelled rows of one split, in per cent.

    Parameters
    ----------
    estimator : ClassifierBase
        Fitted classifier.
    dataset : Dataset
        Data set of the scored rows.
    rows : Scoring
        Evaluation settings: split and number of rows.
    second_stage : classifier, optional
        Classifier that is fitted to features of the training rows and predicts the classes instead
        of the estimator; see :func:`learned_afresh`.
    training : Dataset, optional
        Data set of the training rows of the second stage; by default ``dataset``.

    Returns
    -------
    (dict, Errors)
        The record for ``metrics.json``, and the row-wise errors.

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
    result = errors(predict(X), y)
    value = result.percent, result.standard_error
    return measured(name, split, len(result.wrong), dataset, value, began), result


def learned_afresh(
    estimator: ClassifierBase, dataset: datasets.Dataset, classifier: Any
) -> Callable[[np.ndarray], np.ndarray]:
    """Fit a clone of a classifier to features of the training rows; return its predict function.

    Raises
    ------
    ValueError
        If the estimator has no features, or the training rows have no labels.
    """
    model, x, y = _lessons(name_of(classifier), estimator, dataset)
    head = clone(classifier).fit(model.features_of(x), y)
    return lambda rows: head.predict(model.features_of(rows))


def second_stage(
    solver: Solver | None, estimator: ClassifierBase, training: datasets.Dataset
) -> Any:
    """Build the linear SVM for second-stage classification. Returns None if `solver` is None.

    Raises
    ------
    ValueError
        If the estimator has no features, or the training rows have no labels.
    """
    if solver is None:
        return None
    _, _, y = _lessons(solver, estimator, training)
    return svm(solver, len(y))


def _lessons(
    named: str, estimator: ClassifierBase, dataset: datasets.Dataset
) -> tuple[LinearClassifierBase, np.ndarray, np.ndarray]:
    """Training data of a second stage: the feature model, labelled rows [n, d] and labels [n]."""
    if not isinstance(estimator, LinearClassifierBase):
        raise ValueError(
            f"second_stage={named!r}: {type(estimator).__name__} has no features: expected a model "
            "whose scores are linear in features, such as MaxMarginVAE"
        )
    y = dataset.y_train
    labelled = np.flatnonzero(has_label(y)) if y is not None else np.empty(0, np.int64)
    if y is None or not len(labelled):
        raise ValueError(
            f"second_stage={named!r}: the training rows of {dataset.name} have no labels: name "
            "labelled data"
        )
    return estimator, dataset.x_train[labelled], y[labelled]
