"""Batch normalisation with evaluation statistics from one pass over the training set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import batch_norm

from ancestral.nn.numerics import at_least_float32, sum_of_rows
from ancestral.utils import distributed

Sharing = Literal["lend", "borrow"]


class BatchNorm(nn.Module):
    """Batch normalisation without running averages.

    Training mode normalises by the statistics of the current batch. Leading axes are merged, so K
    importance samples count as rows. Evaluation mode normalises by the statistics that
    :func:`calibrate` computes in one pass over the training set, as in Li, Zhu and Zhang (2016).

    Parameters
    ----------
    n : int
        Number of features, the size of the last axis.
    eps : float
        Constant added to the variance.
    affine : bool
        Whether to apply a trainable scale and shift after normalisation.

    Attributes
    ----------
    mean, var : Tensor [n]
        Evaluation statistics.
    """

    def __init__(self, n: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(n)) if affine else None
        self.bias = nn.Parameter(torch.zeros(n)) if affine else None
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("var", torch.ones(n))
        self.mean: Tensor
        self.var: Tensor
        self.n_batches = 0
        self.is_calibrating = False
        self.sharing: Sharing | None = None
        self.shared_moments: tuple[Tensor, Tensor] | None = None

    def forward(self, u: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        """Normalise, scale and shift in single precision; the output has the dtype of ``u``."""
        if self.training and not (self.is_calibrating or self.sharing) and _is_full_batch(u):
            return _normalise(u, self.weight, self.bias, self.eps)
        dtype, u = u.dtype, at_least_float32(u)
        mean, var = self.mean, self.var
        if self.training:
            mean, var = _moments(u)
            if self.is_calibrating:
                self._collect(mean.detach(), var.detach())
            if self.sharing == "lend":
                self.shared_moments = mean.detach(), var.detach()
            elif self.sharing == "borrow" and self.shared_moments is not None:
                mean, var = (
                    a + b - b.detach()
                    for a, b in zip(self.shared_moments, (mean, var), strict=True)
                )
        scale = _rsqrt(var + self.eps)
        if self.weight is None or self.bias is None:
            return ((u - mean) * scale).to(dtype)
        return ((u - mean) * (scale * self.weight) + self.bias).to(dtype)

    def _collect(self, mean: Tensor, var: Tensor) -> None:
        self.n_batches += 1
        self.mean.lerp_(mean.to(self.mean.dtype), 1 / self.n_batches)
        self.var.lerp_(var.to(self.var.dtype), 1 / self.n_batches)


def standardise(
    u: Float[Tensor, "*b n"], eps: float = 1e-5, *, average: bool = False
) -> Float[Tensor, "*b2 n"]:
    """Normalise each feature by its mean and variance over the batch, without scale and shift.

    Parameters
    ----------
    u : Tensor [..., n]
        Features; statistics are computed over all leading axes.
    eps : float
        Constant added to the variance.
    average : bool
        Whether to average the normalised tensor over its first axis.

    Returns
    -------
    Tensor [..., n]
        Normalised features in single precision or higher.
    """
    u = at_least_float32(u)
    if _is_full_batch(u) and not torch.compiler.is_compiling():
        n = _normalise(u, None, None, eps)
        return n.mean(0) if average else n
    mean, var = _moments(u)
    return ((u.mean(0) if average else u) - mean) * _rsqrt(var + eps)


def _is_full_batch(u: Tensor) -> bool:
    """Return whether this process holds the full batch and it has more than one row."""
    return distributed.n_shards() == 1 and u[..., 0].numel() > 1


def _normalise(u: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise by batch statistics, scale and shift; without compilation by torch's function."""
    rows = u.flatten(0, -2)
    if torch.compiler.is_compiling():
        return _BatchNormFunction.apply(rows, weight, bias, eps).view_as(u)
    return batch_norm(rows, None, None, weight, bias, True, eps=eps).view_as(u)


class _BatchNormFunction(torch.autograd.Function):
    """Batch normalisation of rows u [r, n] for compiled graphs, with few memory accesses.

    Let n = (u - mean) scale and let g be the gradient with respect to the output. The gradients
    with respect to bias and weight are the sums of g and g n over rows; that with respect to u is
    g minus its projections on 1 and n, times scale and weight.
    """

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        rows = at_least_float32(u)
        mean, var = _moments(rows)
        scale = _rsqrt(var + eps)
        ctx.save_for_backward(u, weight, mean, scale)
        if weight is None or bias is None:
            return ((rows - mean) * scale).to(u.dtype)
        return ((rows - mean) * (scale * weight) + bias).to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        u, weight, mean, scale = ctx.saved_tensors
        g, n = at_least_float32(grad_outputs[0]), (at_least_float32(u) - mean) * scale
        grad_bias, grad_weight = sum_of_rows(g), sum_of_rows(g * n)
        projected = g - (grad_bias + n * grad_weight) / len(u)
        if weight is None:
            return (projected * scale).to(u.dtype), None, None, None
        return (projected * (scale * weight)).to(u.dtype), grad_weight, grad_bias, None


def _rsqrt(v: Tensor) -> Tensor:
    """Return 1 / sqrt(v), by functions that the compiler does not recompute for every row."""
    return torch.exp(-0.5 * torch.log(v))


def _moments(u: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and variance of each feature over the global batch, [n] each."""
    rows = u.flatten(0, -2)
    if distributed.n_shards() == 1:
        mean = sum_of_rows(rows) / len(rows)
        return mean, sum_of_rows((rows - mean).square()) / len(rows)
    mean = distributed.all_reduce_mean(rows.mean(0))
    return mean, distributed.all_reduce_mean((rows - mean).square().mean(0))


def calibrate(model: nn.Module, run_minibatches: Callable[[], None]) -> None:
    """Compute the evaluation statistics of each :class:`BatchNorm` from training minibatches.

    The statistics are the means of the minibatch means and of the minibatch variances.

    Parameters
    ----------
    model : Module
        Model, set to evaluation mode: dropout and noise are off during calibration.
    run_minibatches : callable
        Function that runs ``model`` on one minibatch after another; each minibatch is normalised
        by its own statistics.
    """
    norms = [m for m in model.train().modules() if isinstance(m, BatchNorm) and m.training]
    model.eval()
    if norms:
        for norm in norms:
            norm.train()
            norm.n_batches, norm.is_calibrating = 0, True
        try:
            with torch.no_grad():
                run_minibatches()
        finally:
            for norm in norms:
                norm.eval()
                norm.is_calibrating = False


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Context manager: normalise by batch statistics in a model in evaluation mode."""
    norms = [m for m in model.modules() if isinstance(m, BatchNorm) and not m.training]
    for norm in norms:
        norm.train()
    try:
        yield
    finally:
        for norm in norms:
            norm.eval()


@contextmanager
def shared_statistics(model: nn.Module, sharing: Sharing) -> Iterator[None]:
    """Context manager: normalise one forward pass by the batch statistics of another.

    Parameters
    ----------
    model : Module
        Model in training mode.
    sharing : {"lend", "borrow"}
        ``"lend"`` normalises by the batch's own statistics and stores them; ``"borrow"``
        normalises by the stored values, with the gradient of the borrowing batch's statistics,
        and clears them on exit.
    """
    norms = [m for m in model.modules() if isinstance(m, BatchNorm)]
    for norm in norms:
        norm.sharing = sharing
    try:
        yield
    finally:
        for norm in norms:
            norm.sharing = None
            if sharing == "borrow":
                norm.shared_moments = None
