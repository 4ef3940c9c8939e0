"""Temperature scaling of class scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int


def fit_temperature(scores: Float[np.ndarray, "n classes"], y: Int[np.ndarray, " n"]) -> float:
    """Return the T that maximises the likelihood of softmax(scores / T) for smoothed labels.

    The target of a row of class c is (n_c + 1) / (n_c + 2) for c, with n_c the rows of that class,
    and equal shares of the rest for the other classes (Platt, 1999). Without it, T has no positive
    optimum if every row is classified correctly. The log-likelihood is concave in 1 / T; it is
    searched between 1e-2 and 1e4 times the standard deviation of the scores.

    Examples
    --------
    >>> scores = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]] * 5))
    >>> y = np.array([0, 0, 1, 1] * 4 + [0, 1, 0, 1])  # nine of ten are right
    >>> round(fit_temperature(3 * np.repeat(scores, 500, 0), np.repeat(y, 500)), 2)
    3.0
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    spread = float(scores.std()) or 1.0
    scaled = scores / spread
    targets = smoothed_labels(y, scores.shape[1])

    def nll(log_t: float) -> float:
        z = scaled / np.exp(log_t)
        return float((logsumexp(z, axis=1) - (targets * z).sum(1)).mean())

    found = minimize_scalar(nll, bounds=(np.log(1e-2), np.log(1e4)), method="bounded")
    return spread * float(np.exp(found.x))


def smoothed_labels(y: Int[np.ndarray, " n"], n_classes: int) -> Float[np.ndarray, "n classes"]:
    """Return target probabilities (n_c + 1) / (n_c + 2) for the class of a row (Platt, 1999).

    The other classes have equal shares of the rest.

    Examples
    --------
    >>> smoothed_labels(np.array([0, 0, 1]), 2).round(3).tolist()
    [[0.75, 0.25], [0.75, 0.25], [0.333, 0.667]]
    """
    n_rows = np.bincount(y, minlength=n_classes)[y]
    rest = 1 / (n_rows + 2) / max(n_classes - 1, 1)
    targets = np.repeat(rest[:, None], n_classes, 1)
    targets[np.arange(len(y)), y] = (n_rows + 1) / (n_rows + 2)
    return targets


def out_of_fold_scores(
    fit: Callable[[np.ndarray, np.ndarray], np.ndarray],
    y: Int[np.ndarray, " n"],
    n_folds: int = 3,
    seed: int = 0,
) -> Float[np.ndarray, "n classes"] | None:
    """Return scores of every row from a classifier fitted without its fold.

    Parameters
    ----------
    fit : callable
        From training and scored row numbers to the scores of the latter, [n_scored, n_classes].
    y : array [n]
        Class codes, by which folds are stratified.
    n_folds : int
        Number of folds.
    seed : int
        Seed of the folds.

    Returns
    -------
    array [n, n_classes], or None if a class has fewer rows than there are folds.

    Examples
    --------
    >>> y = np.array([0, 1] * 3)
    >>> out_of_fold_scores(lambda train, scored: np.full((len(scored), 2), len(train)), y)[0]
    array([4., 4.])
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(y)
    if counts[counts > 0].min() < n_folds:
        return None
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    parts = [(scored, fit(train, scored)) for train, scored in folds.split(y[:, None], y)]
    scores = np.empty((len(y), parts[0][1].shape[1]))
    for scored, values in parts:
        scores[scored] = values
    return scores
