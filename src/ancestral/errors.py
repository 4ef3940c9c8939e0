"""How far off: error rates of classifiers, two of them compared, squared errors of repairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ancestral.datasets.core import has_label
from ancestral.evaluate import standard_error_of_mean


@dataclass(frozen=True)
class Errors:
    """Which rows a classifier gets wrong.

    Attributes
    ----------
    wrong : bool array [n]
        Of every row.
    """

    wrong: np.ndarray

    @property
    def percent(self) -> float:
        """Share of wrong rows, in per cent."""
        return 100 * float(self.wrong.mean())

    @property
    def standard_error(self) -> float:
        """Of that share, in per cent (binomial)."""
        share = float(self.wrong.mean())
        return 100 * math.sqrt(share * (1 - share) / len(self.wrong))

    def __str__(self) -> str:
        return f"{self.percent:.2f} +- {self.standard_error:.2f} %"


def errors(predicted: np.ndarray, y: np.ndarray) -> Errors:
    """Compare predicted classes with the true ones, both [n]; rows with y = -1 are left out.

    Beside text -1 may be a number or text itself.

    Raises
    ------
    ValueError
        If the two differ in length, or no row is labelled.

    Examples
    --------
    >>> print(errors(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])))
    25.00 +- 21.65 %
    """
    predicted, y = np.asarray(predicted), np.asarray(y)
    if predicted.shape != y.shape:
        raise ValueError(f"predicted has the shape {predicted.shape} and y {y.shape}")
    known = has_label(y)
    if not known.any():
        raise ValueError("y: no row is labelled")
    return Errors(predicted[known] != y[known])


@dataclass(frozen=True)
class SquaredErrors:
    """Squared errors of some entries of each row, in the square of the user's units.

    Attributes
    ----------
    sums : array [n]
        Over the entries of a row.
    counts : array [n]
        How many entries.
    """

    sums: np.ndarray
    counts: np.ndarray

    @property
    def mean(self) -> float:
        """Mean over all entries."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def standard_error(self) -> float:
        """Standard error of that mean, rows being independent (delta method for the ratio)."""
        return standard_error_of_mean((self.sums - self.mean * self.counts) / self.counts.mean())

    def __str__(self) -> str:
        return f"{self.mean:.4f} +- {self.standard_error:.4f}"


def squared_errors(truth: np.ndarray, guess: np.ndarray, where: np.ndarray) -> SquaredErrors:
    """Compare a guess with the truth, both [n, d], at chosen entries.

    Parameters
    ----------
    truth, guess : array [n, d]
        ``NaN`` in the truth is left out.
    where : bool array [n, d]
        Which entries count.

    Raises
    ------
    ValueError
        If no entry counts.

    Examples
    --------
    >>> truth = np.array([[0.0, 1.0], [1.0, 1.0]])
    >>> print(squared_errors(truth, np.full((2, 2), 0.5), np.eye(2) > 0))
    0.2500 +- 0.0000
    """
    where = where & ~np.isnan(truth)
    if not where.any():
        raise ValueError("where: no entry to compare")
    squares = np.where(where, np.square(np.nan_to_num(truth) - guess), 0.0)
    return SquaredErrors(squares.sum(1, dtype=np.float64), where.sum(1))


@dataclass(frozen=True)
class McNemar:
    """Two classifiers compared on the same rows, by the rows on which they disagree.

    Attributes
    ----------
    first_only, second_only : int
        Rows that only the first, or only the second, gets wrong.
    n_rows : int
        All rows.
    """

    first_only: int
    second_only: int
    n_rows: int

    @property
    def percent(self) -> float:
        """Error of the first less that of the second, in per cent."""
        return 100 * (self.first_only - self.second_only) / self.n_rows

    @property
    def standard_error(self) -> float:
        """Of that difference, in per cent: what both get wrong cancels."""
        share = (self.first_only + self.second_only) / self.n_rows
        return 100 * math.sqrt(max(share - (self.percent / 100) ** 2, 0) / self.n_rows)

    @property
    def p_value(self) -> float:
        """How often as lopsided a split comes up if both are equally good (exact, two-sided)."""
        from scipy.stats import binomtest

        n = self.first_only + self.second_only
        return float(binomtest(self.first_only, n).pvalue) if n else 1.0

    def __str__(self) -> str:
        return (
            f"{self.percent:+.2f} +- {self.standard_error:.2f} %, wrong alone {self.first_only} "
            f"and {self.second_only} of {self.n_rows} rows, McNemar p = {self.p_value:.2g}"
        )


def mcnemar(first: Errors, second: Errors) -> McNemar:
    """Compare two classifiers on the same rows (McNemar, 1947).

    Parameters
    ----------
    first, second : Errors
        Of the same rows in the same order.

    Returns
    -------
    McNemar
        First less second: negative where the first is better.

    Raises
    ------
    ValueError
        If the numbers of rows differ.

    Examples
    --------
    >>> wrong = np.zeros(100, dtype=bool)
    >>> first, second = wrong.copy(), wrong.copy()
    >>> first[:3], second[1:12] = True, True
    >>> print(mcnemar(Errors(first), Errors(second)))
    -8.00 +- 3.06 %, wrong alone 1 and 9 of 100 rows, McNemar p = 0.021
    """
    a, b = first.wrong, second.wrong
    if len(a) != len(b):
        raise ValueError(
            f"the classifiers were scored on {len(a)} and {len(b)} rows: a comparison takes the "
            "same rows"
        )
    return McNemar(int((a & ~b).sum()), int((b & ~a).sum()), len(a))
