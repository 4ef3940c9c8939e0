"""Conditional maximum mean discrepancy and its regression operators."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ancestral.probability.kernels import as_kernel
from ancestral.probability.mmd import KernelLike, _check_finite, _check_samples
from ancestral.utils.validation import Weight, check_field

MIN_PIVOT_RATIO = 1e4
"""Minimal ratio of the smallest pivot of K + lambda I to the bound on its rounding error."""


def _regularized_cholesky(gram: Tensor, regularization: float) -> tuple[Tensor, Tensor]:
    """Return K and the Cholesky factor of K + lambda I, in float64."""
    check_field("regularization", regularization, Weight)
    k = gram.double()
    ridge = k + regularization * torch.eye(len(k), dtype=k.dtype, device=k.device)
    factor, info = torch.linalg.cholesky_ex(ridge)
    rounding_error = len(k) * torch.finfo(k.dtype).eps * ridge.diagonal().amax()
    if info.item() or factor.diagonal().amin() ** 2 < MIN_PIVOT_RATIO * rounding_error:
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
    k, factor = _regularized_cholesky(gram, regularization)
    half = torch.cholesky_solve(k, factor)
    return torch.cholesky_solve(half.T, factor).to(gram.dtype)


def ridge_inverse(gram: Float[Tensor, "n n"], regularization: float) -> Float[Tensor, "n n"]:
    """Compute (K + lambda I)^-1, by Cholesky in float64.

    Parameters and errors are those of :func:`regression_operator`.
    """
    _, factor = _regularized_cholesky(gram, regularization)
    return torch.cholesky_inverse(factor).to(gram.dtype)


def cmmd2(
    operator: Float[Tensor, "n n"],
    real: Float[Tensor, "n d"],
    generated: Float[Tensor, "n d"],
    kernel: KernelLike,
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
    real, generated = _check_samples(real, generated, ("real", "generated"))
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
    input_kernel: KernelLike,
    output_kernel: KernelLike,
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
    x1, x2 = (x.double() for x in _check_samples(first[0], second[0], ("inputs", "other inputs")))
    y1, y2 = (y.double() for y in _check_samples(first[1], second[1], ("outputs", "other outputs")))
    for name, x, y in (("first", x1, y1), ("second", x2, y2)):
        if len(x) != len(y):
            raise ValueError(
                f"{name}: {len(x)} inputs and {len(y)} outputs: expected the same number"
            )
    k, out = as_kernel(input_kernel), as_kernel(output_kernel)
    (k1, f1), (k2, f2) = (_regularized_cholesky(k(x, x), regularization) for x in (x1, x2))

    def trace(inputs: Tensor, left: Tensor, outputs: Tensor, right: Tensor) -> Tensor:
        """Tr(K left^-1 L right^-1), with the inverses given by their Cholesky factors."""
        solution = torch.cholesky_solve(outputs, left)
        return (inputs * torch.cholesky_solve(solution.T, right)).sum()

    within = trace(k1, f1, out(y1, y1), f1) + trace(k2, f2, out(y2, y2), f2)
    value = within - 2 * trace(k(x2, x1), f1, out(y1, y2), f2)
    return value.clamp(min=0)  # with equal sets, rounding can make it negative
