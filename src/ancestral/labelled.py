"""What a classifier makes of generated rows: are they of their class, are there some of each."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import clone

from ancestral.errors import Errors, errors
from ancestral.fields import Count, RandomState, check
from ancestral.labels import has_label


@dataclass(frozen=True)
class ClassShares:
    """How often a classifier sees each class in rows that were drawn without asking for one.

    Attributes
    ----------
    classes : array [n_classes]
        The classifier's.
    shares : array [n_classes]
        Of the rows.
    n : int
        Rows.
    """

    classes: np.ndarray
    shares: np.ndarray
    n: int

    @property
    def standard_errors(self) -> np.ndarray:
        """Of every share (binomial)."""
        return np.sqrt(self.shares * (1 - self.shares) / self.n)

    def __str__(self) -> str:
        pairs = zip(self.classes, self.shares, strict=True)
        return ", ".join(f"{c} {share:.1%}" for c, share in pairs)


def can_be_asked(generator: Any) -> bool:
    """Whether an estimator draws rows of a class: it has some, and its ``sample`` takes ``y``."""
    draw = getattr(generator, "sample", None)
    if not hasattr(generator, "classes_") or draw is None:
        return False
    return "y" in signature(draw).parameters and getattr(generator, "draws_classes_", True)


def label_errors(
    generator: Any, classifier: Any, n_per_class: int = 100, *, random_state: RandomState = 0
) -> Errors:
    """Count the drawn rows in which a classifier sees another class than was asked for.

    The classifier's own errors count too: its error on real rows is what to compare with.

    Parameters
    ----------
    generator : estimator
        Fitted, with ``classes_`` and ``sample(n, y)``.
    classifier : estimator
        Fitted to real rows in the same units, apart from the generator; any with ``predict``.
    n_per_class : int
        Rows drawn of each class.
    random_state : int, RandomState, Generator or None
        Of the draw.

    Returns
    -------
    Errors
        Of the rows in the order of the classes.

    Raises
    ------
    ValueError
        If the generator can't be asked for a class, or the classifier knows other classes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from ancestral import CGMMN
    >>> X, y = load_digits(return_X_y=True)
    >>> cgmmn = CGMMN(hidden=(50,), max_epochs=5, random_state=0).fit(X / 16, y)
    >>> 0 <= label_errors(cgmmn, KNeighborsClassifier().fit(X / 16, y), 5).percent <= 100
    True
    """
    rows, y = _drawn_by_class(generator, n_per_class, random_state)
    unknown = sorted({str(c) for c in generator.classes_ if c not in classifier.classes_})
    if unknown:
        raise ValueError(
            f"classifier: it knows no {', '.join(unknown)}, of which the generator draws rows; fit "
            "it to rows of the same classes"
        )
    return errors(classifier.predict(rows), y)


def class_shares(
    generator: Any, classifier: Any, n: int = 2000, *, random_state: RandomState = 0
) -> ClassShares:
    """Count how often a classifier sees each class in rows drawn freely.

    Beside the shares of the classes among real rows it tells which are left out.

    Parameters
    ----------
    generator : estimator
        Fitted, with ``sample(n)``.
    classifier : estimator
        Fitted to real rows in the same units; any with ``predict``.
    n : int
        How many rows to draw.
    random_state : int, RandomState, Generator or None
        Of the draw.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from ancestral import GMMN
    >>> X, y = load_digits(return_X_y=True)
    >>> gmmn = GMMN(hidden=(50,), max_epochs=5, random_state=0).fit(X / 16)
    >>> found = class_shares(gmmn, KNeighborsClassifier().fit(X / 16, y), 50)
    >>> round(float(found.shares.sum()), 6), found.n
    (1.0, 50)
    """
    check("n", n, Count)
    seen = classifier.predict(generator.sample(n, random_state=random_state))
    shares = np.array([(seen == c).mean() for c in classifier.classes_])
    return ClassShares(np.asarray(classifier.classes_), shares, n)


def train_on_generated(
    generator: Any,
    classifier: Any,
    X: Any,
    y: Any,
    n_per_class: int = 500,
    *,
    random_state: RandomState = 0,
) -> Errors:
    """Train a classifier on generated rows alone, and count its errors on real ones.

    One less the share of errors is the classification accuracy score (CAS) of Ravuri and Vinyals
    (2019): it asks for quality and variety at once. To compare with: the same classifier trained
    on as many real rows.

    Parameters
    ----------
    generator : estimator
        Fitted, with ``classes_`` and ``sample(n, y)``.
    classifier : estimator
        Cloned and fitted afresh; any of scikit-learn's manners.
    X, y : array-like [n_samples, n_features], [n_samples]
        Real rows that the generator has not seen, and their classes; those of class -1 do not
        count.
    n_per_class : int
        Rows drawn of each class.
    random_state : int, RandomState, Generator or None
        Of the draw.

    Raises
    ------
    ValueError
        If the generator can't be asked for a class, or rows are of a class that it does not know.

    References
    ----------
    Classification Accuracy Score for Conditional Generative Models,
    https://arxiv.org/abs/1905.10887

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from ancestral import CGMMN
    >>> X, y = load_digits(return_X_y=True)
    >>> cgmmn = CGMMN(hidden=(50,), max_epochs=5, random_state=0).fit(X[:1500] / 16, y[:1500])
    >>> found = train_on_generated(cgmmn, KNeighborsClassifier(), X[1500:] / 16, y[1500:], 5)
    >>> len(found.wrong)
    297
    """
    y = np.asarray(y)
    rows, labels = _drawn_by_class(generator, n_per_class, random_state)
    unknown = sorted({str(c) for c in y[has_label(y)] if c not in generator.classes_})
    if unknown:
        raise ValueError(
            f"y: classes {', '.join(unknown)} of {y.dtype}, of which the generator draws no rows; "
            f"it knows {', '.join(map(str, generator.classes_))} of "
            f"{np.asarray(generator.classes_).dtype}"
        )
    return errors(clone(classifier).fit(rows, labels).predict(X), y)


def _drawn_by_class(generator: Any, n: int, random_state: RandomState) -> tuple[Any, np.ndarray]:
    check("n_per_class", n, Count)
    if not can_be_asked(generator):
        raise ValueError(f"generator: {type(generator).__name__} can't be asked for a class")
    y = np.repeat(generator.classes_, n)
    return generator.sample(len(y), y, random_state=random_state), y
