"""Alignment of data with the columns and classes of an estimator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ancestral import datasets
from ancestral.data.labels import UNLABELLED, class_name, has_label
from ancestral.estimators.base.estimator import Estimator
from ancestral.estimators.base.supervised import class_names


def align_columns(dataset: datasets.Dataset, estimator: Estimator) -> datasets.Dataset:
    """Reorder the columns of a table to the order in which the model was fitted.

    Raises
    ------
    ValueError
        If the sets of column names differ.
    """
    model_columns, columns = estimator.column_names, dataset.feature_names
    if model_columns is None or columns is None or list(columns) == model_columns:
        return dataset
    if sorted(columns) != sorted(model_columns):
        raise ValueError(
            f"{dataset.name}: its columns are {', '.join(columns)}; "
            f"the model was fitted on {', '.join(model_columns)}"
        )
    order = [columns.index(name) for name in model_columns]
    splits: dict[str, Any] = {
        k: v[:, order] for k, v in dataset.arrays().items() if k.startswith("x_")
    }
    return replace(dataset, feature_names=tuple(model_columns), **splits)


def align_columns_and_classes(dataset: datasets.Dataset, estimator: Estimator) -> datasets.Dataset:
    """Convert the columns of a table to the model's order and the labels to the model's classes.

    Classes are matched by name; the name of a numeric class is the number.

    Raises
    ------
    ValueError
        If the sets of column names differ, or the data contain classes unknown to the model.
    """
    dataset = align_columns(dataset, estimator)
    if estimator.target_kind != "classes":
        return dataset
    classes, names = np.asarray(estimator.classes_), dataset.class_names
    model_names = class_names(estimator)
    labels: dict[str, Any] = {}
    for split, y in dataset.arrays().items():
        if not split.startswith("y_"):
            continue
        labelled = has_label(y)
        values, codes = np.unique(y[labelled], return_inverse=True)
        data_names = [class_name(v) if names is None else names[int(v)] for v in values]
        if unknown := [name for name in data_names if name not in model_names]:
            raise ValueError(
                f"{dataset.name}: unknown classes {', '.join(unknown)}; the model was fitted on "
                f"{', '.join(model_names)}"
            )
        model_classes = classes[[model_names.index(name) for name in data_names]]
        numeric = model_classes.dtype.kind in "iuf"
        dtype = model_classes.dtype if numeric else object
        labels[split] = np.full(len(y), UNLABELLED, dtype=dtype)
        labels[split][labelled] = model_classes[codes]
    return replace(dataset, class_names=None, **labels)
