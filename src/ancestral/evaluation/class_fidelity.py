"""Class fidelity of generated samples, measured by a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import clone

from ancestral.data.labels import has_label
from ancestral.evaluation.metrics import ClassificationErrors, classification_errors
from ancestral.utils.validation import Count, RandomState, check_field


@dataclass(frozen=True)
class ClassFrequencies:
    """Frequencies of the predicted classes of unconditional samples.

    Attributes
    ----------
    classes : array [n_classes]
        Class labels of the classifier.
    frequencies : array [n_classes]
        Frequency of each predicted class, in [0, 1]; they sum to 1.
    n : int
        Number of samples.
    """

    classes: np.ndarray
    frequencies: np.ndarray
    n: int

    @property
    def standard_errors(self) -> np.ndarray:
        """Binomial standard error of each frequency, [n_classes]."""
        return np.sqrt(self.frequencies * (1 - self.frequencies) / self.n)

    def __str__(self) -> str:
        pairs = zip(self.classes, self.frequencies, strict=True)
        return ", ".join(f"{c} {frequency:.1%}" for c, frequency in pairs)


def is_class_conditional(generator: Any) -> bool:
    """Whether an estimator is fitted with classes and its ``sample`` accepts labels ``y``."""
    sample = getattr(generator, "sample", None)
    if not hasattr(generator, "classes_") or sample is None:
        return False
    return "y" in signature(sample).parameters and getattr(generator, "is_class_conditional_", True)


def class_consistency_errors(
    generator: Any, classifier: Any, n_per_class: int = 100, *, random_state: RandomState = 0
) -> ClassificationErrors:
    """Class-consistency errors: class-conditional samples assigned to another class.

    Misclassifications by the classifier itself count as errors; compare with its error on real
    data.

    Parameters
    ----------
    generator : estimator
        Fitted class-conditional generator with ``classes_`` and ``sample(n, y)``.
    classifier : estimator
        Classifier with ``predict``, fitted independently of the generator to real samples in the
        same units.
    n_per_class : int
        Number of samples per class.
    random_state : int, RandomState, Generator or None
        Seed of the samples.

    Returns
    -------
    ClassificationErrors
        Whether each sample is misclassified, in the order of ``generator.classes_``.

    Raises
    ------
    ValueError
        If the generator is not class-conditional, or the classifier lacks one of its classes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from ancestral import CGMMN
    >>> X, y = load_digits(return_X_y=True)
    >>> cgmmn = CGMMN(hidden=(50,), max_epochs=5, random_state=0).fit(X / 16, y)
    >>> classifier = KNeighborsClassifier().fit(X / 16, y)
    >>> 0 <= class_consistency_errors(cgmmn, classifier, 5).percent <= 100
    True
    """
    rows, y = _sample_per_class(generator, n_per_class, random_state)
    unknown = sorted({str(c) for c in generator.classes_ if c not in classifier.classes_})
    if unknown:
        raise ValueError(
            f"classifier: was not fitted to the classes {', '.join(unknown)} of the generator; fit "
            "it to data with the same classes"
        )
    return classification_errors(classifier.predict(rows), y)


def predicted_class_frequencies(
    generator: Any, classifier: Any, n: int = 2000, *, random_state: RandomState = 0
) -> ClassFrequencies:
    """Predicted class frequencies of unconditional samples.

    Classes that are rarer than in the real data indicate missing modes.

    Parameters
    ----------
    generator : estimator
        Fitted generator with ``sample(n)``.
    classifier : estimator
        Classifier with ``predict``, fitted to real samples in the same units.
    n : int
        Number of samples, positive.
    random_state : int, RandomState, Generator or None
        Seed of the samples.

    Returns
    -------
    ClassFrequencies
        Frequencies with binomial standard errors.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from ancestral import GMMN
    >>> X, y = load_digits(return_X_y=True)
    >>> gmmn = GMMN(hidden=(50,), max_epochs=5, random_state=0).fit(X / 16)
    >>> result = predicted_class_frequencies(gmmn, KNeighborsClassifier().fit(X / 16, y), 50)
    >>> round(float(result.frequencies.sum()), 6), result.n
    (1.0, 50)
    """
    check_field("n", n, Count)
    predicted = classifier.predict(generator.sample(n, random_state=random_state))
    frequencies = np.array([(predicted == c).mean() for c in classifier.classes_])
    return ClassFrequencies(np.asarray(classifier.classes_), frequencies, n)


def train_on_generated_errors(
    generator: Any,
    classifier: Any,
    X: Any,
    y: Any,
    n_per_class: int = 500,
    *,
    random_state: RandomState = 0,
) -> ClassificationErrors:
    """Test error on real data of a classifier trained on generated samples only.

    The accuracy, one minus the error rate, is the classification accuracy score (CAS) of Ravuri
    and Vinyals (2019), which measures quality and diversity. Compare with the same classifier
    trained on the same number of real samples.

    Parameters
    ----------
    generator : estimator
        Fitted class-conditional generator with ``classes_`` and ``sample(n, y)``.
    classifier : estimator
        Classifier with the scikit-learn interface; a clone of it is fitted.
    X, y : array-like [n_samples, n_features], [n_samples]
        Real samples held out from the generator, and their labels; unlabelled ones (-1) are
        excluded.
    n_per_class : int
        Number of generated samples per class.
    random_state : int, RandomState, Generator or None
        Seed of the generated samples.

    Returns
    -------
    ClassificationErrors
        Whether each labelled real sample is misclassified.

    Raises
    ------
    ValueError
        If the generator is not class-conditional, or ``y`` contains a class that it lacks.

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
    >>> X, y = X[1500:] / 16, y[1500:]
    >>> result = train_on_generated_errors(cgmmn, KNeighborsClassifier(), X, y, 5)
    >>> len(result.misclassified)
    297
    """
    y = np.asarray(y)
    rows, labels = _sample_per_class(generator, n_per_class, random_state)
    unknown = sorted({str(c) for c in y[has_label(y)] if c not in generator.classes_})
    if unknown:
        raise ValueError(
            f"y: contains classes {', '.join(unknown)} ({y.dtype}) that the generator lacks; "
            f"expected {', '.join(map(str, generator.classes_))} "
            f"({np.asarray(generator.classes_).dtype})"
        )
    return classification_errors(clone(classifier).fit(rows, labels).predict(X), y)


def _sample_per_class(generator: Any, n: int, random_state: RandomState) -> tuple[Any, np.ndarray]:
    check_field("n_per_class", n, Count)
    if not is_class_conditional(generator):
        raise ValueError(
            f"generator: {type(generator).__name__} cannot sample a given class; expected an "
            "estimator fitted with labels whose sample accepts y"
        )
    y = np.repeat(generator.classes_, n)
    return generator.sample(len(y), y, random_state=random_state), y
