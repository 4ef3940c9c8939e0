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

from ancestral.data.preprocessing import to_unit_interval
from ancestral.evaluation.estimate import Estimate
from ancestral.probability.kernels import median_variance
from ancestral.probability.mmd import mmd2, mmd2_standard_error, two_sample_test

MIN_SAMPLES = 10
"""Minimum number of samples of each kind for a comparison of distributions."""

N_NEIGHBORS = 5

N_FOLDS = 5


@dataclass(frozen=True)
class SampleQuality:
    """Sample-quality metrics of generated samples against the same number of real samples.

    Attributes
    ----------
    mmd2 : Estimate
        Unbiased squared MMD (Gaussian kernel, median heuristic) between generated and real samples.
    real_mmd2 : float
        The same between two halves of the real samples.
    p_value : float
        P-value of the permutation test that both have the same distribution.
    c2st_accuracy : Estimate
        Cross-validated accuracy of a nearest-neighbour classifier two-sample test (Lopez-Paz and
        Oquab, 2017), in [0, 1]. 0.5 is ideal; lower values indicate copies.
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

    mmd2: Estimate
    real_mmd2: float
    p_value: float
    c2st_accuracy: Estimate
    precision: float
    recall: float
    nearest: float
    real_nearest: float
    n: int


def sample_quality(
    generated: Float[np.ndarray, "n d"],
    real: Float[np.ndarray, "m d"],
    training: Float[np.ndarray, "k d"] | None = None,
    *,
    random_state: int = 0,
) -> SampleQuality:
    """Compute sample-quality metrics of generated samples against held-out real samples.

    Distances are Euclidean, in the units of the data. Standardise features of different scales
    first, with the statistics of the training set; otherwise the largest scale dominates.

    Parameters
    ----------
    generated, real : array [n, d], [m, d]
        Generated and real samples. uint8 values are divided by 255 unless they are binary. A random
        subset of the larger set is used, of the size of the smaller one.
    training : array [k, d], optional
        Training set of the model.
    random_state : int
        Seed of the subset, the permutations and the cross-validation folds.

    Returns
    -------
    SampleQuality
        The metrics.

    Raises
    ------
    ValueError
        If either set has fewer than ten samples, the numbers of features differ, or values are not
        finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> real, generated = rng.normal(size=(200, 2)), rng.normal(size=(200, 2))
    >>> quality = sample_quality(generated, real)
    >>> quality.p_value > 0.05 and abs(quality.c2st_accuracy.value - 0.5) < 0.1
    True
    """
    generated, real = _as_floats(generated, "generated"), _as_floats(real, "real")
    training = None if training is None else _as_floats(training, "training")
    _check_shapes(generated, real, training)
    n = min(len(generated), len(real))
    rng = np.random.default_rng(random_state)  # samples may be sorted, for example by class
    generated, real = (x[rng.permutation(len(x))[:n]] for x in (generated, real))
    a, b = torch.from_numpy(generated), torch.from_numpy(real)
    try:
        kernel = [median_variance(b)]
    except ValueError as error:
        raise ValueError(f"real: {error}") from None
    return SampleQuality(
        mmd2=Estimate(float(mmd2(a, b, kernel, "unbiased")), mmd2_standard_error(a, b, kernel)),
        real_mmd2=float(mmd2(b[: n // 2], b[n // 2 :], kernel, "unbiased")),
        p_value=two_sample_test(a, b, kernel, random_state=random_state).p_value,
        c2st_accuracy=c2st_accuracy(generated, real, random_state),
        precision=_fraction_in_manifold(generated, real),
        recall=_fraction_in_manifold(real, generated),
        nearest=math.nan if training is None else _median_distance(generated, training),
        real_nearest=math.nan if training is None else _median_distance(real, training),
        n=n,
    )


def _check_shapes(generated: np.ndarray, real: np.ndarray, training: np.ndarray | None) -> None:
    """Raise ValueError if there are too few samples or the numbers of features differ."""
    if min(len(generated), len(real)) < MIN_SAMPLES or generated.shape[1] != real.shape[1]:
        raise ValueError(
            f"generated {generated.shape} and real {real.shape}: expected at least {MIN_SAMPLES} "
            "samples each, "
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
    values = (to_unit_interval(x) if x.dtype == np.uint8 else x).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name}: contains infinite or missing values, expected finite ones; drop those samples"
        )
    return values


def c2st_accuracy(
    generated: Float[np.ndarray, "n d"], real: Float[np.ndarray, "n d"], random_state: int = 0
) -> Estimate:
    """Accuracy of a nearest-neighbour classifier two-sample test (C2ST).

    A 5-nearest-neighbour classifier separates generated from real samples; its accuracy is
    estimated by 5-fold cross-validation (Lopez-Paz and Oquab, 2017).

    Parameters
    ----------
    generated, real : array [n, d]
        Generated and real samples.
    random_state : int
        Seed of the cross-validation folds.

    Returns
    -------
    Estimate
        Accuracy in [0, 1] and its binomial standard error.

    References
    ----------
    Revisiting Classifier Two-Sample Tests, https://arxiv.org/abs/1610.06545
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    x, y = np.concatenate([generated, real]), np.repeat([0, 1], [len(generated), len(real)])
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=random_state)
    accuracy = float(cross_val_score(KNeighborsClassifier(N_NEIGHBORS), x, y, cv=folds).mean())
    return Estimate(accuracy, math.sqrt(accuracy * (1 - accuracy) / len(x)))


def _fraction_in_manifold(points: np.ndarray, others: np.ndarray) -> float:
    """Fraction of points inside the k-nearest-neighbour ball of at least one of the others."""
    from sklearn.metrics import pairwise_distances

    k = min(N_NEIGHBORS, len(others) - 1)
    radius = np.sort(pairwise_distances(others), axis=1)[:, k]
    return float((pairwise_distances(points, others) <= radius).any(1).mean())


def nearest_neighbors(
    points: Float[np.ndarray, "n d"], training: Float[np.ndarray, "k d"]
) -> tuple[np.ndarray, np.ndarray]:
    """Distance to, and index of, the nearest training sample of every point, [n] each.

    Examples
    --------
    >>> nearest_neighbors(np.array([[0.9]]), np.array([[0.0], [1.0]]))[1]
    array([1])
    """
    from sklearn.neighbors import NearestNeighbors

    distance, index = NearestNeighbors(n_neighbors=1).fit(training).kneighbors(points)
    return distance[:, 0], index[:, 0]


def _median_distance(points: np.ndarray, training: np.ndarray) -> float:
    return float(np.median(nearest_neighbors(points, training)[0]))


def count_covered_modes(
    generated: Float[np.ndarray, "n d"],
    centres: Float[np.ndarray, "k d"],
    radius: float,
    share: float = 0.01,
) -> int:
    """Count the modes of a known distribution that are covered by generated samples.

    A mode is covered if enough samples have its centre as their nearest one and lie within the
    radius.

    Parameters
    ----------
    generated : array [n, d]
        Generated samples.
    centres : array [k, d]
        Centres of the modes.
    radius : float
        Euclidean radius around a centre, for example three standard deviations of a mode.
    share : float
        Minimum fraction of the samples per covered mode, in [0, 1]; at least one sample.

    Examples
    --------
    >>> generated = np.array([[0.0], [0.1], [1.1], [7.0]])
    >>> count_covered_modes(generated, np.array([[0.0], [1.0], [2.0]]), radius=0.3)
    2
    """
    distance, index = nearest_neighbors(generated, centres)
    counts = np.bincount(index[distance <= radius], minlength=len(centres))
    return int((counts >= max(1, share * len(generated))).sum())
