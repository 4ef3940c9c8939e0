"""Seeded splits, and the choice of the few rows whose labels are known.

All draws come from `numpy.random.RandomState`, whose stream numpy keeps frozen, so that a
declared split outlasts upgrades.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ancestral.datasets.core import UNLABELLED, DataError, Dataset, has_label


def shuffled(n: int, seed: int) -> np.ndarray:
    """Return the row numbers 0 to n - 1 in a seeded random order."""
    return np.random.RandomState(seed).permutation(n)


def stratified(y: np.ndarray, n_test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted row numbers (train, test) with the classes' shares kept in both.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Class indices.
    n_test : int
        Rows of the test split; each class gives its share, rounded by largest remainder.
    seed : int
        Seed of the draw.
    """
    classes, counts = np.unique(y, return_counts=True)
    share = counts * n_test / len(y)
    take = np.floor(share).astype(int)
    # A stable sort settles equal remainders by class, the same on every machine.
    take[np.argsort(take - share, kind="stable")[: n_test - take.sum()]] += 1
    order = shuffled(len(y), seed)
    test = np.concatenate(
        [order[y[order] == label][:n] for label, n in zip(classes, take, strict=True)]
    )
    return np.setdiff1d(np.arange(len(y)), test), np.sort(test)


def per_class(y: np.ndarray, n_each: int, rng: np.random.RandomState) -> np.ndarray:
    """Return sorted row numbers, `n_each` of every class, drawn without replacement."""
    draws = [
        rng.choice(np.flatnonzero(y == label), n_each, replace=False) for label in np.unique(y)
    ]
    return np.sort(np.concatenate(draws))


def few_labels(dataset: Dataset, n_labels: int, seed: int = 0) -> Dataset:
    """Return the data with the labels of `n_labels` training rows, as many of every class.

    The other training rows are unlabelled, -1. The checksum stays.

    Parameters
    ----------
    dataset : Dataset
        Rows with classes.
    n_labels : int
        Labels that stay.
    seed : int
        Of the draw of their rows.

    Raises
    ------
    DataError
        If rows have no classes, or there are too few of one.
    """
    y = dataset.y_train
    if y is None or dataset.class_names is None:
        raise DataError(f"n_labels={n_labels}: rows of {dataset.name} have no classes")
    rows = np.flatnonzero(has_label(y))
    classes, counts = np.unique(y[rows], return_counts=True)
    each, rest = divmod(n_labels, len(classes))
    if rest or not 1 <= each <= counts.min():
        raise DataError(
            f"n_labels={n_labels}: expected a multiple of the {len(classes)} classes, and at most "
            f"{counts.min()} rows of each, which the rarest in {dataset.name} has"
        )
    kept = rows[per_class(y[rows], each, np.random.RandomState(seed))]
    few = np.full_like(y, UNLABELLED)
    few[kept] = y[kept]
    note = f"{dataset.note} Labels of {n_labels} training rows are known, drawn with seed {seed}."
    return replace(dataset, y_train=few, note=note.strip())


def hold_out(
    x: np.ndarray, y: np.ndarray | None, fraction: float, seed: int, shuffle: bool
) -> dict[str, np.ndarray | None]:
    """Split rows into train and test.

    Parameters
    ----------
    x, y : ndarray
        Rows and their labels, if any.
    fraction : float
        Share of the rows that go to the test split, between 0 and 1.
    seed : int
        Seed of the draw.
    shuffle : bool
        If False, the last rows are the test split and nothing is copied.

    Raises
    ------
    DataError
        If a split would be empty.
    """
    n_test = round(len(x) * fraction)
    if not 0 < n_test < len(x):
        raise DataError(
            f"test_fraction={fraction} of {len(x)} rows leaves a split empty; give a share "
            "between 0 and 1 that leaves at least one row on each side."
        )
    cut = len(x) - n_test
    order = shuffled(len(x), seed) if shuffle else None
    train = order[:cut] if order is not None else slice(None, cut)
    test = order[cut:] if order is not None else slice(cut, None)
    labels = {} if y is None else {"y_train": y[train], "y_test": y[test]}
    return {"x_train": x[train], "x_test": x[test], **labels}
