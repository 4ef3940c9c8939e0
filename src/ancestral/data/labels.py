"""Class labels and the marker of unlabelled rows."""

from __future__ import annotations

import numpy as np

UNLABELLED = -1
"""Label of rows without a class, as a number or as text."""


def has_label(y: np.ndarray) -> np.ndarray:
    """Return whether each row has a class label.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Class indices or names; in arrays of text or objects, both -1 and "-1" mean unlabelled.

    Returns
    -------
    ndarray of bool, shape (n,)
        False for unlabelled rows.

    Examples
    --------
    >>> has_label(np.array([2, -1])), has_label(np.array(["cat", -1], dtype=object))
    (array([ True, False]), array([ True, False]))
    """
    if y.dtype.kind in "OUS":
        return np.array([str(value) != str(UNLABELLED) for value in y], dtype=bool)
    return y != UNLABELLED


def class_name(value: object) -> str:
    """Return the display name of a class that has no other name.

    Examples
    --------
    >>> class_name(5), class_name(5.0), class_name("cat"), class_name(np.True_)
    ('5', '5', 'cat', 'true')
    """
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
