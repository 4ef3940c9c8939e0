"""Kernels, their Gram matrices and finite-dimensional kernel features.

A call of a kernel on two sets of points returns their Gram matrix. Features phi approximate a
kernel by inner products, in expectation (:class:`RandomFeatures`) or exactly at landmarks
(:class:`NystromFeatures`), and reduce the cost in the number of points n from O(n^2) to O(n).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from ancestral.nn.numerics import at_least_float32

MAX_MEDIAN_POINTS, ROUNDING_ERROR_EPS = 2000, 32
"""Maximal number of points in the median heuristic; bound on the rounding error of a squared
distance, in machine epsilons times the sum of the two squared lengths."""


def squared_distances(
    a: Float[Tensor, "*g n d"], b: Float[Tensor, "*g m d"]
) -> Float[Tensor, "*g n m"]:
    """Squared Euclidean distances ||a_i - b_j||^2 of all pairs, per group of points.

    Raises
    ------
    ValueError
        If a and b differ in the number of columns.
    """
    check_same_columns(a, b)
    # distances are invariant to translation; centring avoids cancellation far from the origin
    origin = b.mean(-2, keepdim=True).detach()
    a, b = at_least_float32(a - origin), at_least_float32(b - origin)
    with torch.autocast(a.device.type, enabled=False):  # a difference of large numbers
        cross = a @ b.mT
    norms = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)
    return (norms - 2 * cross).clamp(min=0)


def check_same_columns(a: Tensor, b: Tensor) -> None:
    """Check that two sets of points have the same number of columns.

    Without this check, points with a single column would be broadcast.

    Raises
    ------
    ValueError
        If they differ in the number of columns.
    """
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"points of shapes {tuple(a.shape)} and {tuple(b.shape)}: expected the same number of "
            "columns in both"
        )


class Kernel(ABC):
    """A positive definite function of two points."""

    @abstractmethod
    def __call__(
        self, a: Float[Tensor, "*g n d"], b: Float[Tensor, "*g m d"]
    ) -> Float[Tensor, "*g n m"]:
        """Return the Gram matrix of each group of points."""


class ShiftInvariantKernel(Kernel, ABC):
    """A kernel of the difference of two points, with a spectral density (Bochner's theorem)."""

    @abstractmethod
    def frequencies(self, n: int, d: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Sample frequencies [n, d] from the spectral density, one tensor per summand kernel."""


@dataclass(frozen=True)
class GaussianKernel(ShiftInvariantKernel):
    """Sum of Gaussian kernels, sum_s exp(-||a - b||^2 / (2 s)).

    Parameters
    ----------
    variances : tuple of float
        Variances s (not standard deviations), positive.

    Examples
    --------
    >>> GaussianKernel((1.0, 4.0))(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([[2.]])
    """

    variances: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the variances."""
        check_variances("variances", self.variances)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the Gram matrix."""
        d2 = squared_distances(a, b)
        return reduce(torch.add, [torch.exp(d2 * (-0.5 / s)) for s in self.variances])

    def frequencies(self, n: int, d: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Sample from N(0, I / s) for each variance s."""
        shape = (n, d)
        return [torch.randn(shape, generator=generator) / math.sqrt(s) for s in self.variances]


@dataclass(frozen=True)
class LaplaceKernel(ShiftInvariantKernel):
    """Laplace kernel exp(-||a - b||_1 / scale), with the sum of absolute differences.

    Parameters
    ----------
    scale : float, default 1
        Length scale, positive.

    Examples
    --------
    >>> LaplaceKernel(2.0)(torch.zeros(1, 2), torch.ones(1, 2))
    tensor([[0.3679]])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the scale."""
        _check_positive(scale=self.scale)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the Gram matrix."""
        check_same_columns(a, b)
        return torch.exp(-torch.cdist(a, b, p=1) / self.scale)

    def frequencies(self, n: int, d: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Sample from independent Cauchy distributions of scale 1 / scale."""
        uniform = torch.rand(n, d, generator=generator, dtype=torch.float64)
        return [(torch.tan(math.pi * (uniform - 0.5)) / self.scale).float()]


@dataclass(frozen=True)
class RationalQuadraticKernel(ShiftInvariantKernel):
    """Rational quadratic kernel (1 + ||a - b||^2 / (2 alpha s))^-alpha.

    It is a scale mixture of Gaussian kernels whose precisions are Gamma distributed with mean 1/s.

    Parameters
    ----------
    variance : float, default 1
        s, positive.
    alpha : float, default 1
        Shape of the Gamma distribution, positive.

    Examples
    --------
    >>> RationalQuadraticKernel(alpha=1.0)(torch.zeros(1, 2), torch.ones(1, 2))
    tensor([[0.5000]])
    """

    variance: float = 1.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Check the variance and alpha."""
        _check_positive(variance=self.variance, alpha=self.alpha)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the Gram matrix."""
        d2 = squared_distances(a, b)
        return (1 + d2 / (2 * self.alpha * self.variance)) ** -self.alpha

    def frequencies(self, n: int, d: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Sample from N(0, t I) with t from a Gamma distribution of mean 1 / s."""
        shape = torch.full((n, 1), self.alpha)
        t = torch._standard_gamma(shape, generator=generator) / (self.alpha * self.variance)
        return [torch.randn(n, d, generator=generator) * t.sqrt()]


@dataclass(frozen=True)
class DeltaKernel(Kernel):
    """Delta kernel for class labels: 1 if two points are equal, else 0.

    Examples
    --------
    >>> DeltaKernel()(torch.eye(2), torch.eye(2))
    tensor([[1., 0.],
            [0., 1.]])
    """

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the Gram matrix."""
        check_same_columns(a, b)
        return (a.unsqueeze(-2) == b.unsqueeze(-3)).all(-1).to(a.dtype)


def _check_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value}: expected a positive, finite number")


def check_variances(option: str, variances: Sequence[float]) -> None:
    """Check the variances of a sum of Gaussian kernels; ``option`` is the argument's name.

    Raises
    ------
    ValueError
        If there are no variances, or one is not positive and finite.
    """
    if not variances or not all(0 < s < math.inf for s in variances):
        raise ValueError(
            f"{option}={tuple(variances)}: expected at least one number, all positive and finite"
        )


def as_kernel(kernel: Kernel | Sequence[float]) -> Kernel:
    """Convert a sequence of variances to a sum of Gaussian kernels; return a kernel unchanged."""
    return kernel if isinstance(kernel, Kernel) else GaussianKernel(tuple(kernel))


def median_variance(x: Float[Tensor, "n d"]) -> float:
    """Half the median squared distance of distinct points (median heuristic).

    The Gaussian kernel of this variance is 1 / e at the median distance. At most the first 2,000
    points are used. Two points coincide if their distance is within its own rounding error,
    regardless of the distances of other points.

    Raises
    ------
    ValueError
        If all points coincide, or x contains NaN or infinite values.

    Examples
    --------
    >>> median_variance(torch.tensor([[0.0], [2.0], [4.0]]))
    2.0
    """
    x = x[:MAX_MEDIAN_POINTS]
    if not x.isfinite().all():
        raise ValueError("x contains NaN or infinite values: remove these rows")
    d2 = squared_distances(x, x)
    norms = (x - x.mean(0)).to(d2.dtype).square().sum(1)
    tolerance = ROUNDING_ERROR_EPS * torch.finfo(d2.dtype).eps * (norms.unsqueeze(1) + norms)
    upper = d2.triu(1)
    positive = upper[upper > tolerance]
    if not len(positive):
        raise ValueError(
            "x: all points coincide; the median heuristic requires at least two distinct points"
        )
    return float(positive.median()) / 2
