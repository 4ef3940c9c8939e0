"""Samples as an independent classifier sees them, as metrics of a run."""

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
"""Rows drawn to see which classes there are."""


def label_error(generator: Any, judge: Any, dataset: Dataset) -> Metric:
    """Count samples of a class that the judge takes for another, 100 of each class."""
    began = perf_counter()
    found = label_errors(generator, judge)
    return _errors("label error of drawn rows, %", "drawn", dataset, found, began)


def smallest_share(generator: Any, judge: Any, dataset: Dataset) -> Metric:
    """Say how rare the rarest class is among samples of no class in particular."""
    began = perf_counter()
    found = class_shares(generator, judge, DRAWN)
    rarest = int(np.argmin(found.shares))
    value = 100 * float(found.shares[rarest]), 100 * float(found.standard_errors[rarest])
    return measured(
        "smallest share of a class among drawn rows, %",
        "drawn",
        found.n,
        dataset,
        value,
        began,
        classes=class_names(judge),
        shares=found.shares.tolist(),
    )


def retrained_error(generator: Any, judge: Any, dataset: Dataset, rows: Scoring) -> Metric:
    """Count the errors on real rows of a copy of the judge trained on samples alone.

    Raises
    ------
    ValueError
        If the data set has no labels.
    """
    split, X, y = labelled_rows(dataset, rows)
    began = perf_counter()
    real = as_values(X, generator.unit_)
    found = train_on_generated(generator, judge, real, y)
    return _errors("error after training on drawn rows, %", split, dataset, found, began)


def _errors(name: str, split: str, dataset: Dataset, found: Errors, began: float) -> Metric:
    value = found.percent, found.standard_error
    return measured(name, split, len(found.wrong), dataset, value, began)
