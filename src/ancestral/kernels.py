"""Kernels: Gaussian mixtures and others, their Gram matrices, and finite features in their place.

A kernel is called on two sets of points and answers with their Gram matrix. For large samples it
has features phi whose inner products are the kernel on average (:class:`RandomFeatures`) or exactly
at chosen landmarks (:class:`NystromFeatures`): what costs n^2 with Gram matrices costs n with them.
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

from ancestral.fields import Count, check
from ancestral.networks.precision import at_least_single

MOST_FOR_MEDIAN, ROUNDED = 2000, 32
"""Points on which the median heuristic looks at all pairs; how many units in the last place of its
two points' squared lengths a squared distance may be off."""


def squared_distances(
    a: Float[Tensor, "*g n d"], b: Float[Tensor, "*g m d"]
) -> Float[Tensor, "*g n m"]:
    """||a_i - b_j||^2 for all pairs, in every group if there are groups.

    Raises
    ------
    ValueError
        If the points differ in their number of columns.
    """
    check_widths(a, b)
    # distances do not care about the origin, and far from it precision would be lost
    origin = b.mean(-2, keepdim=True).detach()
    a, b = at_least_single(a - origin), at_least_single(b - origin)
    with torch.autocast(a.device.type, enabled=False):  # a difference of large numbers
        cross = a @ b.mT
    ends = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)
    return (ends - 2 * cross).clamp(min=0)


def check_widths(a: Tensor, b: Tensor) -> None:
    """Refuse points of different spaces, which would be compared column by column with one.

    Raises
    ------
    ValueError
        If they differ in their number of columns.
    """
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"points of the shapes {tuple(a.shape)} and {tuple(b.shape)}: expected as many columns "
            "in both"
        )


def gaussian_gram(
    a: Float[Tensor, "*g n d"], b: Float[Tensor, "*g m d"], variances: Sequence[float]
) -> Float[Tensor, "*g n m"]:
    """Gram matrix of the kernel sum_s exp(-||a - b||^2 / (2 s)); s is a variance.

    Parameters
    ----------
    a, b : Tensor [..., n, d], [..., m, d]
        The points, perhaps in groups.
    variances : sequence of float
        One Gaussian for each; they are added, not averaged.

    Raises
    ------
    ValueError
        If a variance is not positive and finite, there is none, or the points differ in their
        number of columns.

    Examples
    --------
    >>> gaussian_gram(torch.zeros(1, 2), torch.ones(1, 2), [1.0])
    tensor([[0.3679]])
    """
    return GaussianKernel(tuple(variances))(a, b)


class Kernel(ABC):
    """A positive definite function of two points."""

    @abstractmethod
    def __call__(
        self, a: Float[Tensor, "*g n d"], b: Float[Tensor, "*g m d"]
    ) -> Float[Tensor, "*g n m"]:
        """Return the Gram matrix, or one for each group of points."""


class ShiftInvariantKernel(Kernel, ABC):
    """A kernel of the difference of two points: by Bochner's theorem it has a spectral density."""

    @abstractmethod
    def frequencies(self, n: int, d: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Draw frequencies [n, d] from that density, for every part of a sum of kernels."""


@dataclass(frozen=True)
class GaussianKernel(ShiftInvariantKernel):
    """sum_s exp(-||a - b||^2 / (2 s)).

    Parameters
    ----------
    variances : tuple of float
        s: variances, not standard deviations.

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
        """Draw from N(0, I / s) for every s."""
        shape = (n, d)
        return [torch.randn(shape, generator=generator) / math.sqrt(s) for s in self.variances]


@dataclass(frozen=True)
class LaplaceKernel(ShiftInvariantKernel):
    """exp(-||a - b||_1 / scale), with the sum of absolute differences.

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
        check_widths(a, b)
        return torch.exp(-torch.cdist(a, b, p=1) / self.scale)

    def frequencies(self, n: int, d: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Draw from independent Cauchy distributions of scale 1 / scale."""
        uniform = torch.rand(n, d, generator=generator, dtype=torch.float64)
        return [(torch.tan(math.pi * (uniform - 0.5)) / self.scale).float()]


@dataclass(frozen=True)
class RationalQuadraticKernel(ShiftInvariantKernel):
    """(1 + ||a - b||^2 / (2 alpha s))^-alpha: Gaussians of all widths, s a variance.

    Examples
    --------
    >>> RationalQuadraticKernel(alpha=1.0)(torch.zeros(1, 2), torch.ones(1, 2))
    tensor([[0.5000]])
    """

    variance: float = 1.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check_positive(variance=self.variance, alpha=self.alpha)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the Gram matrix."""
        d2 = squared_distances(a, b)
        return (1 + d2 / (2 * self.alpha * self.variance)) ** -self.alpha

    def frequencies(self, n: int, d: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Draw from N(0, t I) with t from a Gamma distribution of mean 1 / s."""
        shape = torch.full((n, 1), self.alpha)
        t = torch._standard_gamma(shape, generator=generator) / (self.alpha * self.variance)
        return [torch.randn(n, d, generator=generator) * t.sqrt()]


@dataclass(frozen=True)
class DeltaKernel(Kernel):
    """1 where two points are the same, else 0: for labels.

    Examples
    --------
    >>> DeltaKernel()(torch.eye(2), torch.eye(2))
    tensor([[1., 0.],
            [0., 1.]])
    """

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the Gram matrix."""
        check_widths(a, b)
        return (a.unsqueeze(-2) == b.unsqueeze(-3)).all(-1).to(a.dtype)


def _check_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value}: expected a positive number")


def check_variances(option: str, variances: Sequence[float]) -> None:
    """Refuse what are not the variances of a sum of Gaussians; ``option`` is what they are called.

    Raises
    ------
    ValueError
        If there is none, or one is not positive and finite.
    """
    if not variances or not all(0 < s < math.inf for s in variances):
        raise ValueError(f"{option}={tuple(variances)}: expected positive numbers, one or more")


def as_kernel(kernel: Kernel | Sequence[float]) -> Kernel:
    """Return a kernel; a sequence of numbers stands for the variances of Gaussians."""
    return kernel if isinstance(kernel, Kernel) else GaussianKernel(tuple(kernel))


def median_variance(x: Float[Tensor, "n d"]) -> float:
    """Return half the median squared distance of points that differ: the median heuristic.

    The Gaussian kernel of this variance is 1 / e at the median distance. Of more than 2,000 points,
    the first 2,000 count. Two coincide if their distance is no more than its own rounding, however
    far away others are.

    Raises
    ------
    ValueError
        If all coincide, or some are not finite.

    Examples
    --------
    >>> median_variance(torch.tensor([[0.0], [2.0], [4.0]]))
    2.0
    """
    x = x[:MOST_FOR_MEDIAN]
    if not x.isfinite().all():
        raise ValueError("x holds infinite or missing values: the median heuristic needs numbers")
    d2 = squared_distances(x, x)
    lengths = (x - x.mean(0)).to(d2.dtype).square().sum(1)
    rounded = ROUNDED * torch.finfo(d2.dtype).eps * (lengths.unsqueeze(1) + lengths)
    above = d2.triu(1)
    apart = above[above > rounded]
    if not len(apart):
        raise ValueError("all points coincide: the median heuristic needs some that differ")
    return float(apart.median()) / 2


class RandomFeatures:
    """Random Fourier features of a shift-invariant kernel (Rahimi and Recht, 2007).

    Parameters
    ----------
    kernel : Kernel or sequence of float
        A sum of Gaussians has features of each.
    d : int
        Dimension of the points.
    n_frequencies : int
        For each part of the kernel; every frequency makes two features.
    random_state : int
        Seeds the draw.

    Raises
    ------
    ValueError
        If the kernel is not shift-invariant, there are no frequencies or columns, or points have
        more or fewer than ``d``.

    Examples
    --------
    >>> x = torch.randn(5, 3)
    >>> phi = RandomFeatures([1.0], 3, n_frequencies=20000)
    >>> (phi(x) @ phi(x).T - gaussian_gram(x, x, [1.0])).abs().max().item() < 0.05
    True
    """

    def __init__(
        self,
        kernel: Kernel | Sequence[float],
        d: int,
        n_frequencies: int = 500,
        random_state: int = 0,
    ) -> None:
        check("d", d, Count)
        check("n_frequencies", n_frequencies, Count)
        generator = torch.Generator().manual_seed(random_state)
        found = as_kernel(kernel)
        if not isinstance(found, ShiftInvariantKernel):
            raise ValueError(f"{type(found).__name__} has no random features: try NystromFeatures")
        parts = found.frequencies(n_frequencies, d, generator)
        self.frequencies = torch.cat(parts)
        self.scale = 1 / math.sqrt(n_frequencies)

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """Return the features of points."""
        check_widths(x, self.frequencies)
        angles = x @ self.frequencies.to(x).T
        return self.scale * torch.cat([angles.cos(), angles.sin()], -1)


class NystromFeatures:
    """Features that reproduce a kernel at landmarks (Williams and Seeger, 2001).

    Parameters
    ----------
    kernel : Kernel or sequence of float
        Any.
    landmarks : Tensor [m, d]
        A subset of the points, say.
    ridge : float
        Directions in which the landmarks differ less, relative to the first, are left out.

    Raises
    ------
    ValueError
        If there are no landmarks, or points have more or fewer columns than these.

    Examples
    --------
    >>> x = torch.randn(5, 3)
    >>> phi = NystromFeatures([1.0], x)
    >>> torch.allclose(phi(x) @ phi(x).T, gaussian_gram(x, x, [1.0]), atol=1e-5)
    True
    """

    def __init__(
        self,
        kernel: Kernel | Sequence[float],
        landmarks: Float[Tensor, "m d"],
        ridge: float = 1e-10,
    ) -> None:
        if not len(landmarks):
            raise ValueError(
                f"landmarks of the shape {tuple(landmarks.shape)}: expected one point or more"
            )
        self.kernel, self.landmarks = as_kernel(kernel), landmarks
        values, vectors = torch.linalg.eigh(self.kernel(landmarks, landmarks).double())
        kept = values > ridge * values[-1]
        self.whitening = vectors[:, kept] / values[kept].sqrt()

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n r"]:
        """Return the features of points."""
        return self.kernel(x, self.landmarks.to(x)) @ self.whitening.to(x)
