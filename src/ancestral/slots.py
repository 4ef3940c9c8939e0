"""What the slots of a memory stand for: which classes ask for which, and how alike that makes them.

The analyses of Li, Zhu and Zhang (2016), on attention as ``MemoryVAE.attend`` gives it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def class_preferences(
    attention: Float[np.ndarray, "n slots"], y: Int[np.ndarray, " n"], n_classes: int | None = None
) -> Float[np.ndarray, "classes slots"]:
    """Average the attention of the rows of each class, every row's as shares that sum to one.

    Parameters
    ----------
    attention : array [n, n_slots]
        How much each row asks of each slot, not negative; sigmoid attention is divided by its sum.
    y : array [n]
        Class indices from 0; -1 = none, left out.
    n_classes : int, optional
        By default as many as ``y`` holds.

    Returns
    -------
    array [n_classes, n_slots]
        Shares; those of a class without rows are not a number.

    Raises
    ------
    ValueError
        If the two differ in length, no row has a class, or classes are not given by index.

    Examples
    --------
    >>> class_preferences(np.array([[1.0, 1.0], [0.0, 3.0], [1.0, 3.0]]), np.array([0, 1, 1]))
    array([[0.5  , 0.5  ],
           [0.125, 0.875]])
    """
    attention, y = np.asarray(attention, dtype=np.float64), np.asarray(y)
    if y.dtype.kind not in "iu":
        raise ValueError(f"y: expected class indices from 0, got values of {y.dtype}")
    if len(attention) != len(y):
        raise ValueError(f"y has {len(y)} entries and attention {len(attention)} rows")
    if not (y >= 0).any():
        raise ValueError("y: no row has a class")
    shares = attention / attention.sum(1, keepdims=True)
    n = int(y.max()) + 1 if n_classes is None else n_classes
    members = y == np.arange(n)[:, None]
    with np.errstate(invalid="ignore"):
        return members.astype(np.float64) @ shares / members.sum(1, keepdims=True)


def largest(preferences: Float[np.ndarray, "classes slots"], n: int = 3) -> list[np.ndarray]:
    """Return the slots and the sizes of each class's largest averages, in falling order.

    Returns
    -------
    [int array [n_classes, n], float array [n_classes, n]]
        Columns of different classes are different slots.

    Examples
    --------
    >>> slots, sizes = largest(np.array([[0.2, 0.5, 0.3]]), n=2)
    >>> slots.tolist(), sizes.tolist()
    ([[1, 2]], [[0.5, 0.3]])
    """
    order = np.argsort(-preferences, axis=1, kind="stable")[:, :n]
    return [order, np.take_along_axis(preferences, order, 1)]


def class_similarity(
    averages: Float[np.ndarray, "classes d"],
) -> Float[np.ndarray, "classes classes"]:
    """Covariance of class averages, of attention or of pixels: how alike are the classes.

    Parameters
    ----------
    averages : array [n_classes, d]
        What is average in each class.

    Returns
    -------
    array [n_classes, n_classes]
        Covariance over the d entries.

    Examples
    --------
    >>> class_similarity(np.array([[0.0, 1.0], [1.0, 0.0]]))
    array([[ 0.5, -0.5],
           [-0.5,  0.5]])
    """
    return np.cov(np.asarray(averages, dtype=np.float64))


def by_preference(preferences: Float[np.ndarray, "classes slots"]) -> Int[np.ndarray, " slots"]:
    """Order slots by the class that asks most for them, within a class by how much.

    >>> by_preference(np.array([[0.1, 0.6, 0.3], [0.8, 0.2, 0.0]])).tolist()
    [1, 2, 0]
    """
    filled = np.nan_to_num(preferences)
    return np.lexsort((-filled.max(0), filled.argmax(0)))
