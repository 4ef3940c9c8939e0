"""Seeded splits, and random choice of labelled rows.

Random numbers come from `numpy.random.RandomState`, whose stream is frozen, so that splits do not
change with the version of numpy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ancestral.data.labels import UNLABELLED, has_label
from ancestral.datasets.dataset import DataError, Dataset


def random_permutation(n: int, seed: int) -> np.ndarray:
    """Return a random permutation of 0 to n - 1."""
    return np.random.RandomState(seed).permutation(n)


def stratified_split(y: np.ndarray, n_test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stratified split into training and test rows.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Class indices.
    n_test : int
        Number of test rows, distributed over the classes in proportion to their counts and
        rounded by the largest remainder method.
    seed : int
        Seed of the permutation.

    Returns
    -------
    train, test : ndarray of int
        Sorted row indices of the two splits.
    """
    classes, counts = np.unique(y, return_counts=True)
    expected = counts * n_test / len(y)
    n_each = np.floor(expected).astype(int)
    # The stable sort breaks ties by class, identically on every machine.
    n_each[np.argsort(n_each - expected, kind="stable")[: n_test - n_each.sum()]] += 1
    order = random_permutation(len(y), seed)
    test = np.concatenate(
        [order[y[order] == label][:n] for label, n in zip(classes, n_each, strict=True)]
    )
    return np.setdiff1d(np.arange(len(y)), test), np.sort(test)


def sample_per_class(y: np.ndarray, n_each: int, rng: np.random.RandomState) -> np.ndarray:
    """Sample `n_each` rows of every class without replacement; returns sorted row indices."""
    samples = [
        rng.choice(np.flatnonzero(y == label), n_each, replace=False) for label in np.unique(y)
    ]
    return np.sort(np.concatenate(samples))


def subsample_labels(dataset: Dataset, n_labels: int, seed: int = 0) -> Dataset:
    """Return the data set with `n_labels` labelled training rows, equally many per class.

    The labels of the other training rows become -1. The checksum is unchanged.

    Parameters
    ----------
    dataset : Dataset
        Data set with classes.
    n_labels : int
        Number of labelled training rows, a multiple of the number of classes.
    seed : int
        Seed of the choice of the rows.

    Returns
    -------
    Dataset
        The data set with changed training labels and note.

    Raises
    ------
    DataError
        If the data set has no classes, or `n_labels` is not a multiple of the number of classes or
        exceeds the rows of a class.
    """
    y = dataset.y_train
    if y is None or dataset.class_names is None:
        raise DataError(f"n_labels={n_labels}: {dataset.name} has no class labels")
    rows = np.flatnonzero(has_label(y))
    classes, counts = np.unique(y[rows], return_counts=True)
    n_each, remainder = divmod(n_labels, len(classes))
    if remainder or not 1 <= n_each <= counts.min():
        raise DataError(
            f"n_labels={n_labels}: expected a positive multiple of {len(classes)}, the number of "
            f"classes, and at most {counts.min()} per class, the count of the rarest class of "
            f"{dataset.name}"
        )
    labelled = rows[sample_per_class(y[rows], n_each, np.random.RandomState(seed))]
    y_train = np.full_like(y, UNLABELLED)
    y_train[labelled] = y[labelled]
    note = f"{dataset.note} Only {n_labels} training rows are labelled, sampled with seed {seed}."
    return replace(dataset, y_train=y_train, note=note.strip())


def train_test_split(
    x: np.ndarray, y: np.ndarray | None, fraction: float, seed: int, shuffle: bool
) -> dict[str, np.ndarray | None]:
    """Split rows into train and test.

    Parameters
    ----------
    x, y : ndarray
        Features, and labels or None.
    fraction : float
        Fraction of rows in the test split, between 0 and 1.
    seed : int
        Seed of the permutation.
    shuffle : bool
        Random split with copies (True), or views with the last rows as the test split (False).

    Returns
    -------
    dict
        x_train and x_test, with y_train and y_test if ``y`` is given.

    Raises
    ------
    DataError
        If a split would be empty.
    """
    n_test = round(len(x) * fraction)
    if not 0 < n_test < len(x):
        raise DataError(
            f"test_fraction={fraction} of {len(x)} rows leaves a split empty; expected a fraction "
            "between 0 and 1 with at least one training and one test row."
        )
    cut = len(x) - n_test
    order = random_permutation(len(x), seed) if shuffle else None
    train = order[:cut] if order is not None else slice(None, cut)
    test = order[cut:] if order is not None else slice(cut, None)
    labels = {} if y is None else {"y_train": y[train], "y_test": y[test]}
    return {"x_train": x[train], "x_test": x[test], **labels}
