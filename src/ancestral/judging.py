"""Class fidelity of generated samples, measured by an independent classifier."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from ancestral.datasets import Dataset
from ancestral.errors import Errors
from ancestral.labelled import class_shares, label_errors, train_on_generated
from ancestral.labels import class_names
from ancestral.protocol import Metric, Scoring, labelled_rows, measured
from ancestral.scoring import as_values

DRAWN = 2000
"""Number of samples for estimating class frequencies."""


def label_error(generator: Any, judge: Any, dataset: Dataset) -> Metric:
    """Per cent of class-conditional samples assigned to another class, of 100 per class."""
    began = perf_counter()
    result = label_errors(generator, judge)
    return _errors("label error of drawn rows, %", "drawn", dataset, result, began)


def smallest_share(generator: Any, judge: Any, dataset: Dataset) -> Metric:
    """Frequency of the rarest predicted class among unconditional samples, in per cent."""
    began = perf_counter()
    frequencies = class_shares(generator, judge, DRAWN)
    rarest = int(np.argmin(frequencies.shares))
    value = (
        100 * float(frequencies.shares[rarest]),
        100 * float(frequencies.standard_errors[rarest]),
    )
    return measured(
        "smallest share of a class among drawn rows, %",
        "drawn",
        frequencies.n,
        dataset,
        value,
        began,
        classes=class_names(judge),
        shares=frequencies.shares.tolist(),
    )


def retrained_error(generator: Any, judge: Any, dataset: Dataset, rows: Scoring) -> Metric:
    """Error rate on real rows of a copy of the classifier trained on samples only, in per cent.

    Raises
    ------
    ValueError
        If the data set has no labels.
    """
    split, X, y = labelled_rows(dataset, rows)
    began = perf_counter()
    real = as_values(X, generator.unit_)
    result = train_on_generated(generator, judge, real, y)
    return _errors("error after training on drawn rows, %", split, dataset, result, began)


def _errors(name: str, split: str, dataset: Dataset, result: Errors, began: float) -> Metric:
    """Record of an error rate."""
    value = result.percent, result.standard_error
    return measured(name, split, len(result.wrong), dataset, value, began)
