"""How far apart are two samples: maximum mean discrepancy, plain and conditional, and its test."""

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
"""A kernel, or the variances of a sum of Gaussians."""


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
        The samples.
    kernel : Kernel or sequence of float
        Numbers stand for the variances of a sum of Gaussians.
    estimator : {"biased", "unbiased", "linear"}
        Means over all pairs, never negative; over pairs of different points; or over pairs of
        neighbours, in one pass, for very large samples (both of the same, even size then).

    Raises
    ------
    ValueError
        If a sample is too small, the two have not the same columns, a value is not finite, or the
        linear estimator is given samples of different sizes.

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
    """Return the biased :func:`mmd2` without a look at the values: for the steps of a training.

    Examples
    --------
    >>> from ancestral.kernels import GaussianKernel
    >>> biased_mmd2(torch.zeros(1, 1), torch.ones(1, 1), GaussianKernel((1.0,)))
    tensor(0.7869)
    """
    a, b = _in_one_precision(a, b)
    # rounding may leave less than nothing of samples that are the same
    return (kernel(a, a).mean() + kernel(b, b).mean() - 2 * kernel(a, b).mean()).clamp(min=0)


def mmd2_standard_error(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], kernel: Kernels) -> float:
    """Standard error of the unbiased :func:`mmd2` of samples of the same size, by pairs of pairs.

    A U-statistic's: 4 / n Var(h_1) + 2 / (n (n - 1)) Var(h), with h of two rows of both samples
    and h_1 its mean over the second. The second term matters where the samples are alike. The first
    is then lost in its own noise, and as it is never taken to be negative, the error comes out too
    large rather than too small, by up to a quarter.

    Raises
    ------
    ValueError
        If the samples differ in size or columns, have fewer than three rows, or a value is not
        finite.

    Examples
    --------
    >>> a, b = torch.randn(2, 200, 1)
    >>> mmd2_standard_error(a, b, [1.0]) < 0.02
    True
    """
    a, b = _alike(a, b)
    if len(a) != len(b) or len(a) < 3:
        raise ValueError(
            f"samples of {len(a)} and {len(b)} rows: the standard error is of samples of the same "
            "size, three rows or more"
        )
    k = as_kernel(kernel)
    between = k(a, b)
    h = k(a, a) + k(b, b) - between - between.T
    n = len(h)
    pairs = h[~torch.eye(n, dtype=torch.bool, device=h.device)].view(n, n - 1)
    of_pairs = pairs.var()
    of_rows = (pairs.mean(1).var() - of_pairs / (n - 1)).clamp(min=0)  # less a mean's own noise
    return float((4 / n * of_rows + 2 / (n * (n - 1)) * of_pairs).sqrt())


def _in_one_precision(
    a: Tensor, b: Tensor, names: tuple[str, str] = ("a", "b")
) -> tuple[Tensor, Tensor]:
    """Return two samples in one precision; refuse what are not rows of the same real columns."""
    of = " and ".join(names)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{of}: samples of the shapes {tuple(a.shape)} and {tuple(b.shape)}: expected rows of "
            "the same columns, [n, d] and [m, d]"
        )
    if not (a.is_floating_point() and b.is_floating_point()):
        raise ValueError(f"{of}: samples of {a.dtype} and {b.dtype}: expected floating point")
    if not (len(a) and len(b)):
        raise ValueError(
            f"{of}: samples of {len(a)} and {len(b)} rows: expected one or more of each"
        )
    both = torch.promote_types(a.dtype, b.dtype)
    return a.to(both), b.to(both)


def _alike(a: Tensor, b: Tensor, names: tuple[str, str] = ("a", "b")) -> tuple[Tensor, Tensor]:
    """Return the same, and refuse rows with a value that is not finite."""
    a, b = _in_one_precision(a, b, names)
    _check_finite(names[0], a)
    _check_finite(names[1], b)
    return a, b


def _check_finite(name: str, values: Tensor) -> None:
    if not values.isfinite().all():
        raise ValueError(f"{name} holds infinite or missing values: leave such rows out")


def _off_diagonal_mean(gram: Tensor) -> Tensor:
    n = len(gram)
    if n < 2:
        raise ValueError(f"the unbiased estimator needs two points of a sample and has {n}")
    return (gram.sum() - gram.diagonal().sum()) / (n * (n - 1))


def _linear_time(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(
            f"the linear estimator pairs points: expected samples of the same size, two points or "
            f"more, and got {len(a)} and {len(b)}"
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
"""Pairs whose small Gram matrix is computed for its diagonal."""


def mmd2_of_features(a: Float[Tensor, "n m"], b: Float[Tensor, "k m"]) -> Float[Tensor, ""]:
    """Biased squared MMD from features: the squared distance of their means.

    Raises
    ------
    ValueError
        If the two have not the same columns, there are no rows, or a value is not finite.

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
    """What a permutation test of two samples says.

    Attributes
    ----------
    mmd2 : float
        Biased squared MMD.
    p_value : float
        How often so large a value comes up when both samples have the same distribution.
    permuted : Tensor [n_permutations]
        The values of permuted samples.
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
    """Test whether two samples come from one distribution (Gretton et al., 2012).

    Parameters
    ----------
    a, b : Tensor [n, d], [m, d]
        The samples.
    kernel : Kernel or sequence of float, optional
        By default a Gaussian by the median heuristic on both samples together.
    n_permutations : int
        p-values are multiples of 1 / (n_permutations + 1).
    random_state : int
        Seeds the permutations.

    Returns
    -------
    TwoSampleTest
        Statistic and p-value.

    Raises
    ------
    ValueError
        If the samples have not the same columns, there are no rows or no permutations, or a value
        is not finite.

    Examples
    --------
    >>> torch.manual_seed(0) and None
    >>> two_sample_test(torch.randn(50, 2), torch.randn(50, 2) + 1).p_value
    0.001
    """
    check("n_permutations", n_permutations, Count)
    a, b = _alike(a, b)
    both = torch.cat([a, b]).double()
    shuffled = torch.randperm(len(both), generator=torch.Generator().manual_seed(random_state))
    k = as_kernel(kernel if kernel is not None else [median_variance(both[shuffled])])
    gram, n = k(both, both), len(a)
    weights = torch.full((len(both),), -1 / len(b), dtype=gram.dtype, device=gram.device)
    weights[:n] = 1 / n
    observed = weights @ gram @ weights
    generator = torch.Generator().manual_seed(random_state)
    order = torch.rand(n_permutations, len(both), generator=generator).argsort(1)
    drawn = weights[order.to(gram.device)]
    permuted = ((drawn @ gram) * drawn).sum(1)
    n_above = int((permuted >= observed - 1e-12).sum())
    return TwoSampleTest(float(observed), (1 + n_above) / (1 + n_permutations), permuted)


MARGIN = 1e4
"""How many times the smallest pivot of K + lambda I is to exceed what rounding may add to it."""


def _factor(gram: Tensor, regularization: float) -> tuple[Tensor, Tensor]:
    """K and the Cholesky factor of K + lambda I, in float64."""
    check("regularization", regularization, Weight)
    k = gram.double()
    ridge = k + regularization * torch.eye(len(k), dtype=k.dtype, device=k.device)
    factor, info = torch.linalg.cholesky_ex(ridge)
    rounded = len(k) * torch.finfo(k.dtype).eps * ridge.diagonal().amax()
    if info.item() or factor.diagonal().amin() ** 2 < MARGIN * rounded:
        raise ValueError(
            f"K + lambda I is singular with regularization={regularization}: raise it, or remove "
            "inputs that repeat others or lie too close to them"
        )
    return k, factor


def regression_operator(gram: Float[Tensor, "n n"], regularization: float) -> Float[Tensor, "n n"]:
    """W = (K + lambda I)^-1 K (K + lambda I)^-1, by Cholesky in float64.

    Parameters
    ----------
    gram : Tensor [n, n]
        K.
    regularization : float
        lambda, not negative.

    Raises
    ------
    ValueError
        If lambda is negative or not finite, or K + lambda I is singular, but for rounding.
    """
    k, factor = _factor(gram, regularization)
    half = torch.cholesky_solve(k, factor)
    return torch.cholesky_solve(half.T, factor).to(gram.dtype)


def ridge_inverse(gram: Float[Tensor, "n n"], regularization: float) -> Float[Tensor, "n n"]:
    """(K + lambda I)^-1, by Cholesky in float64; see :func:`regression_operator`."""
    _, factor = _factor(gram, regularization)
    return torch.cholesky_inverse(factor).to(gram.dtype)


def cmmd2(
    operator: Float[Tensor, "n n"],
    real: Float[Tensor, "n d"],
    generated: Float[Tensor, "n d"],
    kernel: Kernels,
) -> Float[Tensor, ""]:
    """Squared conditional MMD of two sets of outputs at the same inputs (Ren et al., 2016).

    Tr(W (L_d + L_s - L_ds - L_ds^T)) with W of :func:`regression_operator`.

    Parameters
    ----------
    operator : Tensor [n, n]
        W, from the Gram matrix of the inputs alone.
    real, generated : Tensor [n, d]
        The outputs.
    kernel : Kernel or sequence of float
        Of the outputs.

    Raises
    ------
    ValueError
        If the three do not fit together, there are no rows, or a value is not finite.
    """
    real, generated = _alike(real, generated, ("real", "generated"))
    n = len(real)
    if len(generated) != n or operator.shape != (n, n):
        raise ValueError(
            f"operator {tuple(operator.shape)}, real {tuple(real.shape)} and generated "
            f"{tuple(generated.shape)}: expected outputs at the same n inputs, and [n, n]"
        )
    _check_finite("operator", operator)
    k = as_kernel(kernel)
    cross = k(real, generated)
    gram = k(real, real) + k(generated, generated) - cross - cross.T
    return (operator * gram).sum().clamp(min=0)  # as of the plain one


def conditional_mmd2(
    first: tuple[Float[Tensor, "n p"], Float[Tensor, "n d"]],
    second: tuple[Float[Tensor, "m p"], Float[Tensor, "m d"]],
    input_kernel: Kernels,
    output_kernel: Kernels,
    regularization: float = 1e-3,
) -> Float[Tensor, ""]:
    """Squared conditional MMD of two sets of (inputs, outputs): the formula of three traces.

    Tr(K_1 K~_1^-1 L_1 K~_1^-1) + Tr(K_2 K~_2^-1 L_2 K~_2^-1) - 2 Tr(K_21 K~_1^-1 L_12 K~_2^-1) with
    K~ = K + lambda I: the squared distance of two ridge regressions in feature space (Ren et al.,
    2016). In float64.

    Parameters
    ----------
    first, second : (Tensor [n, p], Tensor [n, d])
        Inputs and outputs; the sets may differ in size.
    input_kernel, output_kernel : Kernel or sequence of float
        Of inputs and outputs.
    regularization : float
        lambda.

    Raises
    ------
    ValueError
        If K + lambda I is not positive definite, lambda is negative or not finite, the sets do not
        fit together, one has no rows, or a value is not finite.

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
            raise ValueError(f"{name}: {len(x)} inputs and {len(y)} outputs: expected as many")
    k, out = as_kernel(input_kernel), as_kernel(output_kernel)
    (k1, f1), (k2, f2) = (_factor(k(x, x), regularization) for x in (x1, x2))

    def trace(inputs: Tensor, left: Tensor, outputs: Tensor, right: Tensor) -> Tensor:
        """Tr(K left^-1 L right^-1), the last two by Cholesky."""
        middle = torch.cholesky_solve(outputs, left)
        return (inputs * torch.cholesky_solve(middle.T, right)).sum()

    within = trace(k1, f1, out(y1, y1), f1) + trace(k2, f2, out(y2, y2), f2)
    value = within - 2 * trace(k(x2, x1), f1, out(y1, y2), f2)
    return value.clamp(min=0)  # rounding may leave less than nothing of sets that are the same
