"""How like the data are the samples of a model: for models that have no likelihood.

No single number says it, so there are several, some beside what real rows reach among themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from ancestral.discrepancy import mmd2, mmd2_standard_error, two_sample_test
from ancestral.fields import Positive, check
from ancestral.kernels import median_variance
from ancestral.preprocess import as_shares

FEWEST = 10
"""Rows that say something of a distribution."""

NEIGHBOURS = 5
FOLDS = 5
PARZEN_WIDTHS = tuple(float(s) for s in np.round(np.arange(0.10, 0.30, 0.01), 2))


@dataclass(frozen=True)
class Likeness:
    """Samples of a model beside as many real rows.

    Attributes
    ----------
    mmd2, real_mmd2 : float
        Unbiased squared MMD, Gaussian kernel by the median heuristic, of samples and real rows; of
        two halves of the real rows.
    mmd2_error : float
        Standard error of the first.
    p_value : float
        Of the permutation test that samples and real rows are alike.
    told_apart, told_apart_error : float
        Share that a nearest-neighbour classifier tells apart (Lopez-Paz and Oquab, 2017), by
        cross-validation, and its standard error: 0.5 is perfect, below it samples are copies.
    precision, recall : float
        Share of samples among the real rows' neighbourhoods, and of real rows among the samples'
        (Kynkaanniemi et al., 2019): quality, and variety.
    nearest, real_nearest : float
        Median distance from a sample, and from a real row, to the nearest training row: much less
        for samples means that training rows are remembered. Not a number without training rows.
    n : int
        Rows of each kind.
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
    """Compare samples with rows that the model has not seen.

    Distances are Euclidean, in the units of the rows: beside a column of large values others do not
    count, so columns of different units are to be standardised before, by the training rows.

    Parameters
    ----------
    drawn, real : array [n, d], [m, d]
        Samples and real rows, bytes as fractions of 255 unless they are bits; of the longer one,
        as many rows count as there are of the other, drawn at random.
    training : array [k, d], optional
        What the model was fitted to.
    random_state : int
        Seeds which rows count, permutations and folds.

    Raises
    ------
    ValueError
        If there are fewer than ten of either, columns differ in number, or values are missing.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> real, drawn = rng.normal(size=(200, 2)), rng.normal(size=(200, 2))
    >>> found = likeness(drawn, real)
    >>> found.p_value > 0.05 and abs(found.told_apart - 0.5) < 0.1
    True
    """
    drawn, real = _as_floats(drawn, "drawn"), _as_floats(real, "real")
    training = None if training is None else _as_floats(training, "training")
    _check_shapes(drawn, real, training)
    n = min(len(drawn), len(real))
    rng = np.random.default_rng(random_state)  # rows may be sorted, by class say
    drawn, real = (x[rng.permutation(len(x))[:n]] for x in (drawn, real))
    a, b = torch.from_numpy(drawn), torch.from_numpy(real)
    try:
        kernel = [median_variance(b)]
    except ValueError as error:
        raise ValueError(f"real: {error}") from None
    told, told_error = told_apart(drawn, real, random_state)
    return Likeness(
        mmd2=float(mmd2(a, b, kernel, "unbiased")),
        real_mmd2=float(mmd2(b[: n // 2], b[n // 2 :], kernel, "unbiased")),
        mmd2_error=mmd2_standard_error(a, b, kernel),
        p_value=two_sample_test(a, b, kernel, random_state=random_state).p_value,
        told_apart=told,
        told_apart_error=told_error,
        precision=_within(drawn, real),
        recall=_within(real, drawn),
        nearest=math.nan if training is None else _median_distance(drawn, training),
        real_nearest=math.nan if training is None else _median_distance(real, training),
        n=n,
    )


def _check_shapes(drawn: np.ndarray, real: np.ndarray, training: np.ndarray | None) -> None:
    """Refuse rows that are too few, or of other columns than the others."""
    if min(len(drawn), len(real)) < FEWEST or drawn.shape[1] != real.shape[1]:
        raise ValueError(
            f"drawn {drawn.shape} and real {real.shape}: expected ten rows or more of the same "
            "columns"
        )
    if training is not None and (not len(training) or training.shape[1] != real.shape[1]):
        raise ValueError(
            f"training {training.shape} and real {real.shape}: expected rows of the same columns"
        )


def _as_floats(x: Any, name: str) -> np.ndarray:
    """Return rows as floating point."""
    x = np.asarray(x)
    if x.ndim != 2:
        raise ValueError(f"{name} {x.shape}: expected rows, [n, d]; a single column is [n, 1]")
    found = (as_shares(x) if x.dtype == np.uint8 else x).astype(np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"{name}: rows hold infinite or missing values: leave such rows out")
    return found


def told_apart(
    drawn: Float[np.ndarray, "n d"], real: Float[np.ndarray, "n d"], random_state: int = 0
) -> tuple[float, float]:
    """Return the share of rows whose origin their neighbours tell, and its standard error.

    Parameters
    ----------
    drawn, real : array [n, d]
        Samples and real rows.
    random_state : int
        Seeds the folds of the cross-validation.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    x, y = np.concatenate([drawn, real]), np.repeat([0, 1], [len(drawn), len(real)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=random_state)
    share = float(cross_val_score(KNeighborsClassifier(NEIGHBOURS), x, y, cv=folds).mean())
    return share, math.sqrt(share * (1 - share) / len(x))


def _within(points: np.ndarray, others: np.ndarray) -> float:
    """Share of points that lie within the neighbourhood of some other point."""
    from sklearn.metrics import pairwise_distances

    k = min(NEIGHBOURS, len(others) - 1)
    radius = np.sort(pairwise_distances(others), axis=1)[:, k]
    return float((pairwise_distances(points, others) <= radius).any(1).mean())


def nearest(
    points: Float[np.ndarray, "n d"], training: Float[np.ndarray, "k d"]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance to the nearest training row, and which it is, for every point.

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
    """Count centres that enough samples are close to.

    Parameters
    ----------
    drawn : array [n, d]
        Samples.
    centres : array [k, d]
        Of the known modes.
    radius : float
        How close: say three standard deviations of a mode.
    share : float
        What part of the samples is enough.

    Examples
    --------
    >>> drawn = np.array([[0.0], [0.1], [1.1], [7.0]])
    >>> modes_covered(drawn, np.array([[0.0], [1.0], [2.0]]), radius=0.3)
    2
    """
    distance, index = nearest(drawn, centres)
    counts = np.bincount(index[distance <= radius], minlength=len(centres))
    return int((counts >= max(1, share * len(drawn))).sum())


@dataclass(frozen=True)
class Parzen:
    """A log-likelihood by a Parzen window on samples: history.

    Attributes
    ----------
    mean, standard_error : float
        Of the rows that are scored, in nats.
    widths : tuple of float
        Standard deviation of the Gaussians; where halves of the rows chose for one another, that
        of the even rows and that of the odd ones.
    """

    mean: float
    standard_error: float
    widths: tuple[float, ...]


def parzen(
    drawn: Float[np.ndarray, "n d"],
    valid: Float[np.ndarray, "m d"] | None,
    test: Float[np.ndarray, "k d"],
    widths: tuple[float, ...] = PARZEN_WIDTHS,
) -> Parzen:
    """Estimate the log-likelihood by a Parzen window on samples: for history only.

    It ranks models badly in many dimensions (Theis, van den Oord and Bethge, 2016), and is given
    because the early papers gave it.

    Parameters
    ----------
    drawn : array [n, d]
        Samples, each the centre of an isotropic Gaussian.
    valid : array [m, d], optional
        Rows on which the width is chosen: neither learnt from nor scored. Without, the even ones of
        the scored rows choose for the odd ones, and the other way round, so that no row has a part
        in the choice of its own.
    test : array [k, d]
        Rows that are scored. Bytes are fractions of 255 unless they are bits.
    widths : tuple of float
        To choose from, all positive.

    Raises
    ------
    ValueError
        If there are no widths, one is not positive, there are no rows, or values are missing.

    References
    ----------
    A note on the evaluation of generative models, https://arxiv.org/abs/1511.01844

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = parzen(*rng.normal(size=(3, 500, 1)), widths=(0.1, 0.3, 1.0))
    >>> abs(found.mean + 1.42) < 4 * found.standard_error + 0.05  # the entropy of a normal
    True
    """
    check("widths", widths, tuple[Positive, ...])
    drawn, test = _as_floats(drawn, "drawn"), _as_floats(test, "test")
    valid = None if valid is None else _as_floats(valid, "valid")
    _check_windows(drawn, valid, test, widths)
    best: tuple[int, ...]
    if valid is None:
        values = _parzen_rows(drawn, test, widths)
        even, odd = values[:, ::2], values[:, 1::2]
        best = int(odd.mean(1).argmax()), int(even.mean(1).argmax())
        scored = np.concatenate([even[best[0]], odd[best[1]]])
    else:
        best = (int(_parzen_rows(drawn, valid, widths).mean(1).argmax()),)
        scored = _parzen_rows(drawn, test, [widths[best[0]]])[0]
    error = float(scored.std(ddof=1) / math.sqrt(len(scored)))
    return Parzen(float(scored.mean()), error, tuple(widths[i] for i in best))


def _check_windows(
    drawn: np.ndarray, valid: np.ndarray | None, test: np.ndarray, widths: Sequence[float]
) -> None:
    """Refuse what no width can be chosen from or by, and rows of other columns than samples."""
    if not widths:
        raise ValueError(f"widths={widths}: expected one to choose, or several to choose from")
    fewest = {"drawn": 1, "valid": 1, "test": 2}  # a standard error is of two rows at least
    for name, rows in (("drawn", drawn), ("valid", valid), ("test", test)):
        if rows is not None and (len(rows) < fewest[name] or rows.shape[1] != drawn.shape[1]):
            raise ValueError(
                f"{name} {rows.shape}: expected {fewest[name]} rows or more, of the "
                f"{drawn.shape[1]} columns that samples have"
            )


def _parzen_rows(drawn: np.ndarray, rows: np.ndarray, widths: Sequence[float]) -> np.ndarray:
    """Return the log-density of every row by every width, [n_widths, n_rows]."""
    from scipy.special import logsumexp
    from sklearn.metrics.pairwise import euclidean_distances

    d = drawn.shape[1]
    parts = []
    for part in np.array_split(rows, max(1, len(rows) // 500)):
        squares = euclidean_distances(part, drawn, squared=True)
        parts.append([logsumexp(-squares / (2 * width**2), axis=1) for width in widths])
    norms = [0.5 * d * math.log(2 * math.pi * w**2) + math.log(len(drawn)) for w in widths]
    return np.concatenate(parts, axis=1) - np.array(norms)[:, None]
