"""Maximum mean discrepancy (MMD) of two samples, its permutation test, and conditional MMD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ancestral.fields import Count, Weight, check
from ancestral.kernels import Kernel, as_kernel, median_variance

Kernels = Kernel | Sequence[float]
"""A kernel, or the variances of a sum of Gaussian kernels."""


def mmd2(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    kernel: Kernels,
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
    a, b = _alike(a, b)
    k = as_kernel(kernel)
    if estimator == "linear":
        return _linear_time(a, b, k)
    if estimator == "biased":
        return biased_mmd2(a, b, k)
    return _off_diagonal_mean(k(a, a)) + _off_diagonal_mean(k(b, b)) - 2 * k(a, b).mean()


def biased_mmd2(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], kernel: Kernel
) -> Float[Tensor, ""]:
    """Biased :func:`mmd2` without the check for finite values, for use in training steps.

    Examples
    --------
    >>> from ancestral.kernels import GaussianKernel
    >>> biased_mmd2(torch.zeros(1, 1), torch.ones(1, 1), GaussianKernel((1.0,)))
    tensor(0.7869)
    """
    a, b = _in_one_precision(a, b)
    # with equal samples, rounding can make the estimate negative
    return (kernel(a, a).mean() + kernel(b, b).mean() - 2 * kernel(a, b).mean()).clamp(min=0)


def mmd2_standard_error(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], kernel: Kernels) -> float:
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
    a, b = _alike(a, b)
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


def _in_one_precision(
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


def _alike(a: Tensor, b: Tensor, names: tuple[str, str] = ("a", "b")) -> tuple[Tensor, Tensor]:
    """Promote two samples to a common dtype and check that all values are finite."""
    a, b = _in_one_precision(a, b, names)
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


def _linear_time(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
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
        blocks = zip(u.split(PAIRS), v.split(PAIRS), strict=True)
        means.append(sign * torch.cat([kernel(x, y).diagonal() for x, y in blocks]).mean())
    return torch.stack(means).sum()


PAIRS = 64
"""Number of pairs per block; a block's Gram matrix is computed for its diagonal."""


def mmd2_of_features(a: Float[Tensor, "n m"], b: Float[Tensor, "k m"]) -> Float[Tensor, ""]:
    """Biased squared MMD from kernel features: the squared distance of their means.

    Raises
    ------
    ValueError
        If a and b differ in the number of columns, one has no rows, or a value is not finite.

    Examples
    --------
    >>> from ancestral.kernels import RandomFeatures
    >>> phi = RandomFeatures([1.0], 2)
    >>> a, b = torch.randn(100_000, 2), torch.randn(100_000, 2) + 1
    >>> 0.18 < mmd2_of_features(phi(a), phi(b)).item() < 0.2
    True
    """
    a, b = _alike(a, b)
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
    permuted : Tensor [n_permutations]
        Squared MMD under each permutation.
    """

    mmd2: float
    p_value: float
    permuted: Tensor

    def __str__(self) -> str:
        return (
            f"MMD^2 = {self.mmd2:.3g}, p = {self.p_value:.2g} ({len(self.permuted)} permutations)"
        )


def two_sample_test(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    kernel: Kernels | None = None,
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
    check("n_permutations", n_permutations, Count)
    a, b = _alike(a, b)
    pooled = torch.cat([a, b]).double()
    order = torch.randperm(len(pooled), generator=torch.Generator().manual_seed(random_state))
    k = as_kernel(kernel if kernel is not None else [median_variance(pooled[order])])
    gram, n = k(pooled, pooled), len(a)
    weights = torch.full((len(pooled),), -1 / len(b), dtype=gram.dtype, device=gram.device)
    weights[:n] = 1 / n
    statistic = weights @ gram @ weights
    generator = torch.Generator().manual_seed(random_state)
    orders = torch.rand(n_permutations, len(pooled), generator=generator).argsort(1)
    permuted_weights = weights[orders.to(gram.device)]
    permuted = ((permuted_weights @ gram) * permuted_weights).sum(1)
    n_above = int((permuted >= statistic - 1e-12).sum())
    return TwoSampleTest(float(statistic), (1 + n_above) / (1 + n_permutations), permuted)


MARGIN = 1e4
"""Minimal ratio of the smallest pivot of K + lambda I to the bound on its rounding error."""


def _factor(gram: Tensor, regularization: float) -> tuple[Tensor, Tensor]:
    """Return K and the Cholesky factor of K + lambda I, in float64."""
    check("regularization", regularization, Weight)
    k = gram.double()
    ridge = k + regularization * torch.eye(len(k), dtype=k.dtype, device=k.device)
    factor, info = torch.linalg.cholesky_ex(ridge)
    rounding_error = len(k) * torch.finfo(k.dtype).eps * ridge.diagonal().amax()
    if info.item() or factor.diagonal().amin() ** 2 < MARGIN * rounding_error:
        raise ValueError(
            f"K + lambda I is singular with regularization={regularization}: increase "
            "regularization, or remove inputs that are equal or nearly equal"
        )
    return k, factor


def regression_operator(gram: Float[Tensor, "n n"], regularization: float) -> Float[Tensor, "n n"]:
    """Compute W = (K + lambda I)^-1 K (K + lambda I)^-1, by Cholesky in float64.

    Parameters
    ----------
    gram : Tensor [n, n]
        Gram matrix K of the inputs.
    regularization : float
        lambda, non-negative.

    Raises
    ------
    ValueError
        If lambda is negative or not finite, or K + lambda I is numerically singular.
    """
    k, factor = _factor(gram, regularization)
    half = torch.cholesky_solve(k, factor)
    return torch.cholesky_solve(half.T, factor).to(gram.dtype)


def ridge_inverse(gram: Float[Tensor, "n n"], regularization: float) -> Float[Tensor, "n n"]:
    """Compute (K + lambda I)^-1, by Cholesky in float64.

    Parameters and errors are those of :func:`regression_operator`.
    """
    _, factor = _factor(gram, regularization)
    return torch.cholesky_inverse(factor).to(gram.dtype)


def cmmd2(
    operator: Float[Tensor, "n n"],
    real: Float[Tensor, "n d"],
    generated: Float[Tensor, "n d"],
    kernel: Kernels,
) -> Float[Tensor, ""]:
    """Squared conditional MMD of two sets of outputs at the same inputs (Ren et al., 2016).

    Tr(W (L_d + L_s - L_ds - L_ds^T)) with W of :func:`regression_operator`, clamped to at least 0.

    Parameters
    ----------
    operator : Tensor [n, n]
        W, which depends on the inputs only.
    real, generated : Tensor [n, d]
        Outputs in the data and outputs of the generator.
    kernel : Kernel or sequence of float
        Kernel of the outputs, or the variances of a sum of Gaussians.

    Raises
    ------
    ValueError
        If the shapes are inconsistent, there are no rows, or a value is not finite.
    """
    real, generated = _alike(real, generated, ("real", "generated"))
    n = len(real)
    if len(generated) != n or operator.shape != (n, n):
        raise ValueError(
            f"operator {tuple(operator.shape)}, real {tuple(real.shape)} and generated "
            f"{tuple(generated.shape)}: expected [n, n], and outputs [n, d] at the same n inputs"
        )
    _check_finite("operator", operator)
    k = as_kernel(kernel)
    cross = k(real, generated)
    gram = k(real, real) + k(generated, generated) - cross - cross.T
    return (operator * gram).sum().clamp(min=0)  # rounding can make it negative


def conditional_mmd2(
    first: tuple[Float[Tensor, "n p"], Float[Tensor, "n d"]],
    second: tuple[Float[Tensor, "m p"], Float[Tensor, "m d"]],
    input_kernel: Kernels,
    output_kernel: Kernels,
    regularization: float = 1e-3,
) -> Float[Tensor, ""]:
    """Squared conditional MMD of two sets of (inputs, outputs).

    Tr(K_1 K~_1^-1 L_1 K~_1^-1) + Tr(K_2 K~_2^-1 L_2 K~_2^-1) - 2 Tr(K_21 K~_1^-1 L_12 K~_2^-1) with
    K~ = K + lambda I: the squared distance of two ridge regressions in feature space (Ren et al.,
    2016), computed in float64 and clamped to at least 0.

    Parameters
    ----------
    first, second : (Tensor [n, p], Tensor [n, d]), (Tensor [m, p], Tensor [m, d])
        Inputs and outputs of the two sets, which may differ in size.
    input_kernel, output_kernel : Kernel or sequence of float
        Kernels of inputs and outputs, or the variances of sums of Gaussians.
    regularization : float, default 1e-3
        lambda, non-negative.

    Raises
    ------
    ValueError
        If K + lambda I is numerically singular, lambda is negative or not finite, the shapes are
        inconsistent, a set has no rows, or a value is not finite.

    Examples
    --------
    >>> x, y = torch.randn(20, 2), torch.randn(20, 1)
    >>> conditional_mmd2((x, y), (x, y), [1.0], [1.0]).item() < 1e-8
    True
    """
    x1, x2 = (x.double() for x in _alike(first[0], second[0], ("inputs", "other inputs")))
    y1, y2 = (y.double() for y in _alike(first[1], second[1], ("outputs", "other outputs")))
    for name, x, y in (("first", x1, y1), ("second", x2, y2)):
        if len(x) != len(y):
            raise ValueError(
                f"{name}: {len(x)} inputs and {len(y)} outputs: expected the same number"
            )
    k, out = as_kernel(input_kernel), as_kernel(output_kernel)
    (k1, f1), (k2, f2) = (_factor(k(x, x), regularization) for x in (x1, x2))

    def trace(inputs: Tensor, left: Tensor, outputs: Tensor, right: Tensor) -> Tensor:
        """Tr(K left^-1 L right^-1), with the inverses given by their Cholesky factors."""
        solution = torch.cholesky_solve(outputs, left)
        return (inputs * torch.cholesky_solve(solution.T, right)).sum()

    within = trace(k1, f1, out(y1, y1), f1) + trace(k2, f2, out(y2, y2), f2)
    value = within - 2 * trace(k(x2, x1), f1, out(y1, y2), f2)
    return value.clamp(min=0)  # with equal sets, rounding can make it negative
