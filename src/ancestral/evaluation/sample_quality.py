"""Sample-quality metrics for generative models without a tractable likelihood.

MMD and its permutation test, the classifier two-sample test (C2ST), precision and recall, the
nearest-neighbour distance to the training set, covered modes, and the Parzen-window log-likelihood.
Some are also computed between two sets of real samples, for reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from ancestral.data.preprocessing import as_shares
from ancestral.probability.kernels import median_variance
from ancestral.probability.mmd import mmd2, mmd2_standard_error, two_sample_test

FEWEST = 10
"""Minimum number of samples of each kind for a comparison of distributions."""

NEIGHBOURS = 5

FOLDS = 5


@dataclass(frozen=True)
class Likeness:
    """Sample-quality metrics of generated samples against the same number of real samples.

    Attributes
    ----------
    mmd2, real_mmd2 : float
        Unbiased squared MMD (Gaussian kernel, median heuristic) between generated and real samples,
        and between two halves of the real samples.
    mmd2_error : float
        Standard error of ``mmd2``.
    p_value : float
        P-value of the permutation test that both have the same distribution.
    told_apart, told_apart_error : float
        Cross-validated accuracy of a nearest-neighbour classifier two-sample test (Lopez-Paz and
        Oquab, 2017), in [0, 1], and its standard error. 0.5 is ideal; lower values indicate copies.
    precision, recall : float
        Fraction of generated samples in the k-nearest-neighbour manifold of the real ones, and vice
        versa (Kynkaanniemi et al., 2019), in [0, 1]: quality and diversity.
    nearest, real_nearest : float
        Median Euclidean distance of generated, and of real, samples to the nearest training sample.
        A much smaller value for generated samples indicates memorisation. NaN without a training
        set.
    n : int
        Number of samples of each kind.
    """

    mmd2: float
    real_mmd2: float
    mmd2_error: float
    p_value: float
    told_apart: float
    told_apart_error: float
    precision: float
    recall: float
    nearest: float
    real_nearest: float
    n: int


def likeness(
    drawn: Float[np.ndarray, "n d"],
    real: Float[np.ndarray, "m d"],
    training: Float[np.ndarray, "k d"] | None = None,
    *,
    random_state: int = 0,
) -> Likeness:
    """Compute sample-quality metrics of generated samples against held-out real samples.

    Distances are Euclidean, in the units of the data. Standardise features of different scales
    first, with the statistics of the training set; otherwise the largest scale dominates.

    Parameters
    ----------
    drawn, real : array [n, d], [m, d]
        Generated and real samples. uint8 values are divided by 255 unless they are binary. A random
        subset of the larger set is used, of the size of the smaller one.
    training : array [k, d], optional
        Training set of the model.
    random_state : int
        Seed of the subset, the permutations and the cross-validation folds.

    Returns
    -------
    Likeness
        The metrics.

    Raises
    ------
    ValueError
        If either set has fewer than ten samples, the numbers of features differ, or values are not
        finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> real, drawn = rng.normal(size=(200, 2)), rng.normal(size=(200, 2))
    >>> quality = likeness(drawn, real)
    >>> quality.p_value > 0.05 and abs(quality.told_apart - 0.5) < 0.1
    True
    """
    drawn, real = _as_floats(drawn, "drawn"), _as_floats(real, "real")
    training = None if training is None else _as_floats(training, "training")
    _check_shapes(drawn, real, training)
    n = min(len(drawn), len(real))
    rng = np.random.default_rng(random_state)  # samples may be sorted, for example by class
    drawn, real = (x[rng.permutation(len(x))[:n]] for x in (drawn, real))
    a, b = torch.from_numpy(drawn), torch.from_numpy(real)
    try:
        kernel = [median_variance(b)]
    except ValueError as error:
        raise ValueError(f"real: {error}") from None
    accuracy, accuracy_error = told_apart(drawn, real, random_state)
    return Likeness(
        mmd2=float(mmd2(a, b, kernel, "unbiased")),
        real_mmd2=float(mmd2(b[: n // 2], b[n // 2 :], kernel, "unbiased")),
        mmd2_error=mmd2_standard_error(a, b, kernel),
        p_value=two_sample_test(a, b, kernel, random_state=random_state).p_value,
        told_apart=accuracy,
        told_apart_error=accuracy_error,
        precision=_within(drawn, real),
        recall=_within(real, drawn),
        nearest=math.nan if training is None else _median_distance(drawn, training),
        real_nearest=math.nan if training is None else _median_distance(real, training),
        n=n,
    )


def _check_shapes(drawn: np.ndarray, real: np.ndarray, training: np.ndarray | None) -> None:
    """Raise ValueError if there are too few samples or the numbers of features differ."""
    if min(len(drawn), len(real)) < FEWEST or drawn.shape[1] != real.shape[1]:
        raise ValueError(
            f"drawn {drawn.shape} and real {real.shape}: expected at least {FEWEST} samples each, "
            "with the same number of features"
        )
    if training is not None and (not len(training) or training.shape[1] != real.shape[1]):
        raise ValueError(
            f"training {training.shape} and real {real.shape}: expected at least one training "
            "sample, with the same number of features"
        )


def _as_floats(x: Any, name: str) -> np.ndarray:
    """Convert samples to a finite float64 array [n, d]; uint8 images are scaled to [0, 1]."""
    x = np.asarray(x)
    if x.ndim != 2:
        raise ValueError(
            f"{name} {x.shape}: expected an array [n, d]; reshape a single feature to [n, 1]"
        )
    values = (as_shares(x) if x.dtype == np.uint8 else x).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name}: contains infinite or missing values, expected finite ones; drop those samples"
        )
    return values


def told_apart(
    drawn: Float[np.ndarray, "n d"], real: Float[np.ndarray, "n d"], random_state: int = 0
) -> tuple[float, float]:
    """Accuracy of a nearest-neighbour classifier two-sample test (C2ST).

    A 5-nearest-neighbour classifier separates generated from real samples; its accuracy is
    estimated by 5-fold cross-validation (Lopez-Paz and Oquab, 2017).

    Parameters
    ----------
    drawn, real : array [n, d]
        Generated and real samples.
    random_state : int
        Seed of the cross-validation folds.

    Returns
    -------
    (float, float)
        Accuracy in [0, 1] and its binomial standard error.

    References
    ----------
    Revisiting Classifier Two-Sample Tests, https://arxiv.org/abs/1610.06545
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    x, y = np.concatenate([drawn, real]), np.repeat([0, 1], [len(drawn), len(real)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=random_state)
    accuracy = float(cross_val_score(KNeighborsClassifier(NEIGHBOURS), x, y, cv=folds).mean())
    return accuracy, math.sqrt(accuracy * (1 - accuracy) / len(x))


def _within(points: np.ndarray, others: np.ndarray) -> float:
    """Fraction of points inside the k-nearest-neighbour ball of at least one of the others."""
    from sklearn.metrics import pairwise_distances

    k = min(NEIGHBOURS, len(others) - 1)
    radius = np.sort(pairwise_distances(others), axis=1)[:, k]
    return float((pairwise_distances(points, others) <= radius).any(1).mean())


def nearest(
    points: Float[np.ndarray, "n d"], training: Float[np.ndarray, "k d"]
) -> tuple[np.ndarray, np.ndarray]:
    """Distance to, and index of, the nearest training sample of every point, [n] each.

    Examples
    --------
    >>> nearest(np.array([[0.9]]), np.array([[0.0], [1.0]]))[1]
    array([1])
    """
    from sklearn.neighbors import NearestNeighbors

    distance, index = NearestNeighbors(n_neighbors=1).fit(training).kneighbors(points)
    return distance[:, 0], index[:, 0]


def _median_distance(points: np.ndarray, training: np.ndarray) -> float:
    return float(np.median(nearest(points, training)[0]))


def modes_covered(
    drawn: Float[np.ndarray, "n d"],
    centres: Float[np.ndarray, "k d"],
    radius: float,
    share: float = 0.01,
) -> int:
    """Count the modes of a known distribution that are covered by generated samples.

    A mode is covered if enough samples have its centre as their nearest one and lie within the
    radius.

    Parameters
    ----------
    drawn : array [n, d]
        Generated samples.
    centres : array [k, d]
        Centres of the modes.
    radius : float
        Euclidean radius around a centre, for example three standard deviations of a mode.
    share : float
        Minimum fraction of the samples per covered mode, in [0, 1]; at least one sample.

    Examples
    --------
    >>> drawn = np.array([[0.0], [0.1], [1.1], [7.0]])
    >>> modes_covered(drawn, np.array([[0.0], [1.0], [2.0]]), radius=0.3)
    2
    """
    distance, index = nearest(drawn, centres)
    counts = np.bincount(index[distance <= radius], minlength=len(centres))
    return int((counts >= max(1, share * len(drawn))).sum())
