"""Measured numbers with their standard errors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A measured number and its standard error, in the same unit.

    Attributes
    ----------
    value : float
        The number.
    standard_error : float
        Its standard error; NaN if it cannot be estimated.

    Examples
    --------
    >>> print(f"{Estimate(-85.4, 0.22):.2f}")
    -85.40 +- 0.22
    """

    value: float
    standard_error: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} +- {self.standard_error:{spec.lstrip('+')}}"


def mean_estimate(values: np.ndarray) -> Estimate:
    """Return the mean of independent values and its standard error, NaN for a single value.

    Parameters
    ----------
    values : array [n]
        Independent values.

    Examples
    --------
    >>> mean_estimate(np.array([1.0, 2.0, 3.0, 4.0])).value
    2.5
    """
    from scipy.stats import sem  # imported here: 1.4 s, the rest of the package 0.3 s

    error = float(sem(values)) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), error)


class Measurement(ABC):
    """A result whose headline number is an :class:`Estimate`."""

    @property
    @abstractmethod
    def estimate(self) -> Estimate:
        """Headline number and its standard error."""

    @property
    def standard_error(self) -> float:
        """Standard error of the headline number."""
        return self.estimate.standard_error

    def __repr__(self) -> str:
        """Headline number, standard error and scalar fields; only the length of ``values``."""
        value, error = self.estimate
        fields = {k: v for k, v in vars(self).items() if isinstance(v, bool | int | float | str)}
        if isinstance(values := vars(self).get("values"), np.ndarray):
            fields = {"n": len(values)} | fields
        rest = "".join(f", {k}={v!r}" for k, v in fields.items())
        return f"{type(self).__name__}({value:.6g} +- {error:.2g}{rest})"
