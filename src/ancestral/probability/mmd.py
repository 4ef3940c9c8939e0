"""Maximum mean discrepancy (MMD) of two samples, its permutation test, and conditional MMD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ancestral.probability.kernels import Kernel, as_kernel, median_variance
from ancestral.utils.validation import Count, check_field

KernelLike = Kernel | Sequence[float]
"""A kernel, or the variances of a sum of Gaussian kernels."""


def mmd2(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    kernel: KernelLike,
    estimator: Literal["biased", "unbiased", "linear"] = "biased",
) -> Float[Tensor, ""]:
    """Squared maximum mean discrepancy (Gretton et al., 2012).

    Parameters
    ----------
    a, b : Tensor [n, d], [m, d]
        The two samples, floating point, one point per row.
    kernel : Kernel or sequence of float
        Kernel, or the variances of a sum of Gaussians.
    estimator : {"biased", "unbiased", "linear"}, default "biased"
        V-statistic over all pairs, clamped to at least 0; U-statistic over pairs of different
        points; or mean over disjoint pairs of consecutive points, in linear time, for very large
        samples of equal size (of an odd size, the last point is dropped).

    Raises
    ------
    ValueError
        If a sample is too small, a and b differ in the number of columns, a value is not finite,
        or ``estimator="linear"`` and the samples differ in size.

    Examples
    --------
    >>> x = torch.randn(4, 2)
    >>> mmd2(x, x, [1.0]).item()
    0.0
    """
    if estimator not in ("biased", "unbiased", "linear"):
        raise ValueError(f"estimator={estimator!r}: expected 'biased', 'unbiased' or 'linear'")
    a, b = _check_samples(a, b)
    k = as_kernel(kernel)
    if estimator == "linear":
        return _linear_time_mmd2(a, b, k)
    if estimator == "biased":
        return biased_mmd2(a, b, k)
    return _off_diagonal_mean(k(a, a)) + _off_diagonal_mean(k(b, b)) - 2 * k(a, b).mean()


def biased_mmd2(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], kernel: Kernel
) -> Float[Tensor, ""]:
    """Biased :func:`mmd2` without the check for finite values, for use in training steps.

    Examples
    --------
    >>> from ancestral.probability.kernels import GaussianKernel
    >>> biased_mmd2(torch.zeros(1, 1), torch.ones(1, 1), GaussianKernel((1.0,)))
    tensor(0.7869)
    """
    a, b = _promote_samples(a, b)
    # with equal samples, rounding can make the estimate negative
    return (kernel(a, a).mean() + kernel(b, b).mean() - 2 * kernel(a, b).mean()).clamp(min=0)


def mmd2_standard_error(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], kernel: KernelLike
) -> float:
    """Standard error of the unbiased :func:`mmd2` of two samples of equal size.

    The variance is that of a U-statistic, 4 / n Var(h_1) + 2 / (n (n - 1)) Var(h), with
    h = k(a, a') + k(b, b') - k(a, b') - k(a', b) of two pairs (a, b), (a', b') and h_1 its mean
    over the second pair. The second term dominates if the two distributions are similar. The
    estimate of the first term is then mostly noise and is clamped to at least 0, so that the
    standard error is overestimated by up to 25 %.

    Raises
    ------
    ValueError
        If the samples differ in size or number of columns, have fewer than three rows, or a value
        is not finite.

    Examples
    --------
    >>> a, b = torch.randn(2, 200, 1)
    >>> mmd2_standard_error(a, b, [1.0]) < 0.02
    True
    """
    a, b = _check_samples(a, b)
    if len(a) != len(b) or len(a) < 3:
        raise ValueError(
            f"samples of {len(a)} and {len(b)} rows: the standard error requires samples of the "
            "same size with at least three rows"
        )
    k = as_kernel(kernel)
    cross = k(a, b)
    h = k(a, a) + k(b, b) - cross - cross.T
    n = len(h)
    pairs = h[~torch.eye(n, dtype=torch.bool, device=h.device)].view(n, n - 1)
    pair_variance = pairs.var()
    # the variance of row means, corrected for the noise of a mean of n - 1 pairs
    row_variance = (pairs.mean(1).var() - pair_variance / (n - 1)).clamp(min=0)
    return float((4 / n * row_variance + 2 / (n * (n - 1)) * pair_variance).sqrt())


def _promote_samples(
    a: Tensor, b: Tensor, names: tuple[str, str] = ("a", "b")
) -> tuple[Tensor, Tensor]:
    """Check shapes and dtypes of two samples and promote them to a common dtype."""
    label = " and ".join(names)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{label}: samples of shapes {tuple(a.shape)} and {tuple(b.shape)}: expected [n, d] "
            "and [m, d] with the same columns"
        )
    if not (a.is_floating_point() and b.is_floating_point()):
        raise ValueError(f"{label}: samples of {a.dtype} and {b.dtype}: expected floating point")
    if not (len(a) and len(b)):
        raise ValueError(
            f"{label}: samples of {len(a)} and {len(b)} rows: expected at least one row in each"
        )
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def _check_samples(
    a: Tensor, b: Tensor, names: tuple[str, str] = ("a", "b")
) -> tuple[Tensor, Tensor]:
    """Promote two samples to a common dtype and check that all values are finite."""
    a, b = _promote_samples(a, b, names)
    _check_finite(names[0], a)
    _check_finite(names[1], b)
    return a, b


def _check_finite(name: str, values: Tensor) -> None:
    if not values.isfinite().all():
        raise ValueError(f"{name} contains NaN or infinite values: remove these rows")


def _off_diagonal_mean(gram: Tensor) -> Tensor:
    n = len(gram)
    if n < 2:
        raise ValueError(
            f"estimator='unbiased' requires at least two points per sample; a sample has {n}"
        )
    return (gram.sum() - gram.diagonal().sum()) / (n * (n - 1))


def _linear_time_mmd2(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(
            f"samples of {len(a)} and {len(b)} rows: estimator='linear' requires samples of the "
            "same size with at least two rows"
        )
    n = len(a) // 2 * 2
    pairs = [(a[0:n:2], a[1:n:2]), (b[0:n:2], b[1:n:2]), (a[0:n:2], b[1:n:2]), (a[1:n:2], b[0:n:2])]
    signs = (1.0, 1.0, -1.0, -1.0)
    means = []
    for (u, v), sign in zip(pairs, signs, strict=True):
        blocks = zip(u.split(PAIR_BLOCK_SIZE), v.split(PAIR_BLOCK_SIZE), strict=True)
        means.append(sign * torch.cat([kernel(x, y).diagonal() for x, y in blocks]).mean())
    return torch.stack(means).sum()


PAIR_BLOCK_SIZE = 64
"""Number of pairs per block; a block's Gram matrix is computed for its diagonal."""


def mmd2_of_features(a: Float[Tensor, "n m"], b: Float[Tensor, "k m"]) -> Float[Tensor, ""]:
    """Biased squared MMD from kernel features: the squared distance of their means.

    Raises
    ------
    ValueError
        If a and b differ in the number of columns, one has no rows, or a value is not finite.

    Examples
    --------
    >>> from ancestral.probability.kernel_features import RandomFeatures
    >>> phi = RandomFeatures([1.0], 2)
    >>> a, b = torch.randn(100_000, 2), torch.randn(100_000, 2) + 1
    >>> 0.18 < mmd2_of_features(phi(a), phi(b)).item() < 0.2
    True
    """
    a, b = _check_samples(a, b)
    return (a.mean(0) - b.mean(0)).square().sum()


@dataclass(frozen=True)
class TwoSampleTest:
    """Result of a permutation test of two samples.

    Attributes
    ----------
    mmd2 : float
        Biased squared MMD.
    p_value : float
        p-value of the null hypothesis that both samples have the same distribution.
    null_distribution : Tensor [n_permutations]
        Squared MMD under each permutation.
    """

    mmd2: float
    p_value: float
    null_distribution: Tensor

    def __str__(self) -> str:
        n = len(self.null_distribution)
        return f"MMD^2 = {self.mmd2:.3g}, p = {self.p_value:.2g} ({n} permutations)"


GRAM_BLOCK_SIZE = 2048
"""Columns of the Gram matrix that a test holds at once."""


def two_sample_test(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    kernel: KernelLike | None = None,
    n_permutations: int = 999,
    random_state: int = 0,
) -> TwoSampleTest:
    """Permutation test of equal distributions with the biased squared MMD (Gretton et al., 2012).

    Parameters
    ----------
    a, b : Tensor [n, d], [m, d]
        The two samples, floating point, one point per row.
    kernel : Kernel or sequence of float, optional
        Kernel, or the variances of a sum of Gaussians. Default: a Gaussian with the median
        heuristic on the pooled samples.
    n_permutations : int, default 999
        Number of permutations; p-values are multiples of 1 / (n_permutations + 1).
    random_state : int, default 0
        Seed of the permutations.

    Returns
    -------
    TwoSampleTest
        Statistic, p-value and null distribution.

    Raises
    ------
    ValueError
        If a and b differ in the number of columns, one has no rows, ``n_permutations`` is less
        than 1, or a value is not finite.

    Examples
    --------
    >>> torch.manual_seed(0) and None
    >>> two_sample_test(torch.randn(50, 2), torch.randn(50, 2) + 1).p_value
    0.001
    """
    check_field("n_permutations", n_permutations, Count)
    a, b = _check_samples(a, b)
    pooled = torch.cat([a, b]).double()
    order = torch.randperm(len(pooled), generator=torch.Generator().manual_seed(random_state))
    k = as_kernel(kernel if kernel is not None else [median_variance(pooled[order])])
    n = len(a)
    weights = torch.full((len(pooled),), -1 / len(b), dtype=pooled.dtype, device=pooled.device)
    weights[:n] = 1 / n
    generator = torch.Generator().manual_seed(random_state)
    orders = torch.rand(n_permutations, len(pooled), generator=generator).argsort(1)
    permuted_weights = weights[orders.to(pooled.device)]
    statistic, null_distribution = torch.zeros_like(weights[0]), 0.0 * permuted_weights[:, 0]
    for start in range(0, len(pooled), GRAM_BLOCK_SIZE):
        block = slice(start, start + GRAM_BLOCK_SIZE)
        gram = k(pooled, pooled[block])
        statistic = statistic + weights @ gram @ weights[block]
        null_distribution += ((permuted_weights @ gram) * permuted_weights[:, block]).sum(1)
    n_above = int((null_distribution >= statistic - 1e-12).sum())
    return TwoSampleTest(float(statistic), (1 + n_above) / (1 + n_permutations), null_distribution)
