"""Error metrics: classification error, McNemar's test and squared error at selected entries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ancestral.data.labels import has_label
from ancestral.evaluation.estimate import Estimate, Measurement, mean_estimate


@dataclass(frozen=True)
class ClassificationErrors(Measurement):
    """Classification error of individual samples.

    Attributes
    ----------
    misclassified : bool array [n]
        Whether each sample is misclassified.
    """

    misclassified: np.ndarray

    @property
    def estimate(self) -> Estimate:
        """Error rate and its binomial standard error, in per cent."""
        rate = float(self.misclassified.mean())
        return Estimate(100 * rate, 100 * math.sqrt(rate * (1 - rate) / len(self.misclassified)))

    @property
    def percent(self) -> float:
        """Error rate in per cent."""
        return self.estimate.value

    def __str__(self) -> str:
        return f"{self.estimate:.2f} %"


def classification_errors(predicted: np.ndarray, y: np.ndarray) -> ClassificationErrors:
    """Compare predicted with true class labels.

    Parameters
    ----------
    predicted, y : array [n]
        Predicted and true labels. Unlabelled samples (y = -1; in arrays of text or objects also
        "-1") are excluded.

    Returns
    -------
    ClassificationErrors
        Misclassified samples among the labelled ones, in order.

    Raises
    ------
    ValueError
        If the shapes differ or all samples are unlabelled.

    Examples
    --------
    >>> print(classification_errors(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])))
    25.00 +- 21.65 %
    """
    predicted, y = np.asarray(predicted), np.asarray(y)
    if predicted.shape != y.shape:
        raise ValueError(
            f"predicted {predicted.shape} and y {y.shape}: expected arrays of the same shape"
        )
    labelled = has_label(y)
    if not labelled.any():
        raise ValueError("y: all samples are unlabelled; expected at least one class label")
    return ClassificationErrors(predicted[labelled] != y[labelled])


@dataclass(frozen=True)
class SquaredErrors(Measurement):
    """Squared error at selected entries of each sample, in the squared units of the data.

    Attributes
    ----------
    sums : array [n]
        Sum of the squared error of each sample over its selected entries.
    counts : array [n]
        Number of selected entries of each sample.
    """

    sums: np.ndarray
    counts: np.ndarray

    @property
    def estimate(self) -> Estimate:
        """Mean over all selected entries; standard error by the delta method for the ratio."""
        mean = float(self.sums.sum() / self.counts.sum())
        return Estimate(
            mean, mean_estimate((self.sums - mean * self.counts) / self.counts.mean())[1]
        )

    @property
    def mean(self) -> float:
        """Mean squared error over all selected entries."""
        return self.estimate.value

    def __str__(self) -> str:
        return f"{self.estimate:.4f}"


def squared_errors(truth: np.ndarray, guess: np.ndarray, where: np.ndarray) -> SquaredErrors:
    """Squared error of an estimate at selected entries.

    Parameters
    ----------
    truth, guess : array [n, d]
        True and estimated values. Entries with a true value of ``NaN`` are excluded.
    where : bool array [n, d]
        Mask of the selected entries.

    Raises
    ------
    ValueError
        If no entry with a true value is selected.

    Examples
    --------
    >>> truth = np.array([[0.0, 1.0], [1.0, 1.0]])
    >>> print(squared_errors(truth, np.full((2, 2), 0.5), np.eye(2) > 0))
    0.2500 +- 0.0000
    """
    where = where & ~np.isnan(truth)
    if not where.any():
        raise ValueError("where: expected at least one selected entry with a true value, got none")
    squares = np.where(where, np.square(np.nan_to_num(truth) - guess), 0.0)
    return SquaredErrors(squares.sum(1, dtype=np.float64), where.sum(1))


@dataclass(frozen=True)
class McNemar(Measurement):
    """Paired comparison of two classifiers on the same samples (McNemar's test).

    Attributes
    ----------
    n_first_only, n_second_only : int
        Number of samples that only the first, or only the second, classifier misclassifies.
    n_rows : int
        Total number of samples.
    """

    n_first_only: int
    n_second_only: int
    n_rows: int

    @property
    def estimate(self) -> Estimate:
        """Error rate of the first classifier minus that of the second, paired, in per cent."""
        difference = (self.n_first_only - self.n_second_only) / self.n_rows
        discordant = (self.n_first_only + self.n_second_only) / self.n_rows
        error = math.sqrt(max(discordant - difference**2, 0) / self.n_rows)
        return Estimate(100 * difference, 100 * error)

    @property
    def percent(self) -> float:
        """Error rate of the first classifier minus that of the second, in per cent."""
        return self.estimate.value

    @property
    def p_value(self) -> float:
        """Two-sided p-value of the exact test that both error rates are equal."""
        from scipy.stats import binomtest

        n = self.n_first_only + self.n_second_only
        return float(binomtest(self.n_first_only, n).pvalue) if n else 1.0

    def __str__(self) -> str:
        return (
            f"{self.estimate:+.2f} %, discordant samples "
            f"{self.n_first_only} and {self.n_second_only} of {self.n_rows}, McNemar p = "
            f"{self.p_value:.2g}"
        )


def mcnemar(first: ClassificationErrors, second: ClassificationErrors) -> McNemar:
    """Compare two classifiers on the same samples by McNemar's test (McNemar, 1947).

    Parameters
    ----------
    first, second : ClassificationErrors
        Classification results for the same samples in the same order.

    Returns
    -------
    McNemar
        First minus second, negative if the first classifier is better.

    Raises
    ------
    ValueError
        If the numbers of samples differ.

    Examples
    --------
    >>> misclassified = np.zeros(100, dtype=bool)
    >>> first, second = misclassified.copy(), misclassified.copy()
    >>> first[:3], second[1:12] = True, True
    >>> print(mcnemar(ClassificationErrors(first), ClassificationErrors(second)))
    -8.00 +- 3.06 %, discordant samples 1 and 9 of 100, McNemar p = 0.021
    """
    a, b = first.misclassified, second.misclassified
    if len(a) != len(b):
        raise ValueError(
            f"first and second: got results for {len(a)} and {len(b)} samples, expected the same "
            "samples; evaluate both classifiers on the same data"
        )
    return McNemar(int((a & ~b).sum()), int((b & ~a).sum()), len(a))
