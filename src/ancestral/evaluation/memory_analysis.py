"""Analysis of memory attention by class (Li, Zhu and Zhang, 2016).

The functions take attention weights as returned by ``MemoryVAE.attend``.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def class_mean_attention(
    attention: Float[np.ndarray, "n slots"], y: Int[np.ndarray, " n"], n_classes: int | None = None
) -> Float[np.ndarray, "classes slots"]:
    """Mean attention weights of the samples of each class.

    Parameters
    ----------
    attention : array [n, n_slots]
        Non-negative attention weights of each sample over the memory slots. Each row is normalised
        to sum to one.
    y : array [n]
        Class indices from 0; samples with -1 (unlabelled) are excluded.
    n_classes : int, optional
        Number of classes, by default ``max(y) + 1``.

    Returns
    -------
    array [n_classes, n_slots]
        Mean normalised weights; rows sum to one, or are NaN for a class without samples.

    Raises
    ------
    ValueError
        If the lengths differ, all samples are unlabelled, or ``y`` does not contain integers.

    Examples
    --------
    >>> class_mean_attention(np.array([[1.0, 1.0], [0.0, 3.0], [1.0, 3.0]]), np.array([0, 1, 1]))
    array([[0.5  , 0.5  ],
           [0.125, 0.875]])
    """
    attention, y = np.asarray(attention, dtype=np.float64), np.asarray(y)
    if y.dtype.kind not in "iu":
        raise ValueError(f"y: expected class indices from 0, got values of {y.dtype}")
    if len(attention) != len(y):
        raise ValueError(
            f"y has {len(y)} entries and attention {len(attention)} rows: expected equal lengths"
        )
    if not (y >= 0).any():
        raise ValueError("y: all samples are unlabelled; expected at least one class index")
    weights = attention / attention.sum(1, keepdims=True)
    n = int(y.max()) + 1 if n_classes is None else n_classes
    members = y == np.arange(n)[:, None]
    with np.errstate(invalid="ignore"):
        return members.astype(np.float64) @ weights / members.sum(1, keepdims=True)


def largest_slots(
    mean_attention: Float[np.ndarray, "classes slots"], n: int = 3
) -> list[np.ndarray]:
    """Slots with the largest mean attention of each class, in descending order.

    Parameters
    ----------
    mean_attention : array [n_classes, n_slots]
        Mean attention of each class.
    n : int
        Number of slots per class.

    Returns
    -------
    [int array [n_classes, n], float array [n_classes, n]]
        Slot indices, which differ between classes, and their mean attention.

    Examples
    --------
    >>> slots, weights = largest_slots(np.array([[0.2, 0.5, 0.3]]), n=2)
    >>> slots.tolist(), weights.tolist()
    ([[1, 2]], [[0.5, 0.3]])
    """
    order = np.argsort(-mean_attention, axis=1, kind="stable")[:, :n]
    return [order, np.take_along_axis(mean_attention, order, 1)]


def class_covariance(
    averages: Float[np.ndarray, "classes d"],
) -> Float[np.ndarray, "classes classes"]:
    """Covariance between classes of their mean attention weights or mean pixel values.

    Parameters
    ----------
    averages : array [n_classes, d]
        Mean vector of each class.

    Returns
    -------
    array [n_classes, n_classes]
        Sample covariance over the d entries.

    Examples
    --------
    >>> class_covariance(np.array([[0.0, 1.0], [1.0, 0.0]]))
    array([[ 0.5, -0.5],
           [-0.5,  0.5]])
    """
    return np.cov(np.asarray(averages, dtype=np.float64))


def slots_by_class(mean_attention: Float[np.ndarray, "classes slots"]) -> Int[np.ndarray, " slots"]:
    """Slot indices sorted by the class with the largest mean attention, then by that attention.

    Within a class the order is descending. Returns [n_slots].

    >>> slots_by_class(np.array([[0.1, 0.6, 0.3], [0.8, 0.2, 0.0]])).tolist()
    [1, 2, 0]
    """
    weights = np.nan_to_num(mean_attention)
    return np.lexsort((-weights.max(0), weights.argmax(0)))
