"""Seeded splits.

All draws come from `numpy.random.RandomState`, whose stream numpy keeps frozen, so that a
declared split outlasts upgrades.
"""

from __future__ import annotations

import numpy as np

from ancestral.datasets.core import DataError


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
