"""Explicit feature maps that approximate kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ancestral.probability.kernels import (
    Kernel,
    ShiftInvariantKernel,
    as_kernel,
    check_same_columns,
)
from ancestral.utils.validation import Count, check_field


class RandomFeatures:
    """Random Fourier features of a shift-invariant kernel (Rahimi and Recht, 2007).

    Parameters
    ----------
    kernel : Kernel or sequence of float
        Shift-invariant kernel, or the variances of a sum of Gaussians.
    d : int
        Dimension of the points.
    n_frequencies : int, default 500
        Number of frequencies per summand of the kernel. Each gives two features.
    random_state : int, default 0
        Seed of the frequencies.

    Raises
    ------
    ValueError
        If the kernel is not shift-invariant, ``d`` or ``n_frequencies`` is less than 1, or the
        points of a call do not have ``d`` columns.

    Examples
    --------
    >>> from ancestral.probability import GaussianKernel
    >>> x, kernel = torch.randn(5, 3), GaussianKernel((1.0,))
    >>> phi = RandomFeatures(kernel, 3, n_frequencies=20000)
    >>> (phi(x) @ phi(x).T - kernel(x, x)).abs().max().item() < 0.05
    True
    """

    def __init__(
        self,
        kernel: Kernel | Sequence[float],
        d: int,
        n_frequencies: int = 500,
        random_state: int = 0,
    ) -> None:
        check_field("d", d, Count)
        check_field("n_frequencies", n_frequencies, Count)
        generator = torch.Generator().manual_seed(random_state)
        kernel = as_kernel(kernel)
        if not isinstance(kernel, ShiftInvariantKernel):
            raise ValueError(
                f"kernel: {type(kernel).__name__} has no random features because it is not "
                "shift-invariant; use NystromFeatures"
            )
        self.frequencies = torch.cat(kernel.frequencies(n_frequencies, d, generator))
        self.scale = 1 / math.sqrt(n_frequencies)

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """Return the features of points x."""
        check_same_columns(x, self.frequencies)
        angles = x @ self.frequencies.to(x).T
        return self.scale * torch.cat([angles.cos(), angles.sin()], -1)


class NystromFeatures:
    """Nystrom features, which reproduce a kernel at landmarks (Williams and Seeger, 2001).

    Parameters
    ----------
    kernel : Kernel or sequence of float
        Kernel, or the variances of a sum of Gaussians.
    landmarks : Tensor [m, d]
        Landmarks, for example a subset of the points.
    ridge : float, default 1e-10
        Eigenvectors of the landmarks' Gram matrix with eigenvalues of at most ``ridge`` times the
        largest are dropped.

    Raises
    ------
    ValueError
        If there are no landmarks, or the points of a call differ from them in the number of
        columns.

    Examples
    --------
    >>> from ancestral.probability import GaussianKernel
    >>> x, kernel = torch.randn(5, 3), GaussianKernel((1.0,))
    >>> phi = NystromFeatures(kernel, x)
    >>> torch.allclose(phi(x) @ phi(x).T, kernel(x, x), atol=1e-5)
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
                f"landmarks of shape {tuple(landmarks.shape)}: expected at least one point"
            )
        self.kernel, self.landmarks = as_kernel(kernel), landmarks
        values, vectors = torch.linalg.eigh(self.kernel(landmarks, landmarks).double())
        retained = values > ridge * values[-1]
        self.whitening = vectors[:, retained] / values[retained].sqrt()

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n r"]:
        """Return the features of points x."""
        return self.kernel(x, self.landmarks.to(x)) @ self.whitening.to(x)
