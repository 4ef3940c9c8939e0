"""Temperature scaling of class scores."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def fit_temperature(scores: Float[np.ndarray, "n classes"], y: Int[np.ndarray, " n"]) -> float:
    """Return the T that maximises the likelihood of softmax(scores / T).

    The log-likelihood is concave in 1 / T. The maximum is searched between 1e-2 and 1e4 times the
    standard deviation of the scores, since there is none if every row is classified correctly.

    Examples
    --------
    >>> scores = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]] * 5))
    >>> y = np.array([0, 0, 1, 1] * 4 + [0, 1, 0, 1])  # nine of ten are right
    >>> round(fit_temperature(3 * scores, y), 3)
    3.0
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    spread = float(scores.std()) or 1.0
    scaled, rows = scores / spread, np.arange(len(y))

    def nll(log_t: float) -> float:
        z = scaled / np.exp(log_t)
        return float((logsumexp(z, axis=1) - z[rows, y]).mean())

    found = minimize_scalar(nll, bounds=(np.log(1e-2), np.log(1e4)), method="bounded")
    return spread * float(np.exp(found.x))
