"""Batch normalisation whose evaluation statistics come from one pass over the training set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import batch_norm

from ancestral import parallel
from ancestral.networks.precision import at_least_single
from ancestral.networks.sums import sum_of_rows

Sharing = Literal["lend", "borrow"]


class BatchNorm(nn.Module):
    """Batch normalisation without a running average.

    In training mode it normalises by the statistics of all rows at hand (leading axes are
    merged, so K importance samples count as rows); in evaluation mode by those that
    :func:`calibrate` collected in one pass over the training set, as the memory-network paper
    evaluates (Li, Zhu and Zhang, 2016).

    Parameters
    ----------
    n : int
        Number of features, the last axis.
    eps : float
        Added to the variance.
    affine : bool
        Whether a learned scale and shift follow.
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
        self.collected = 0
        self.collecting = False
        self.sharing: Sharing | None = None
        self.lent: tuple[Tensor, Tensor] | None = None

    def forward(self, u: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        """Normalise, then scale and shift: computed in single precision, in that of ``u`` again."""
        if self.training and not (self.collecting or self.sharing) and _is_usual(u):
            return _normalised(u, self.weight, self.bias, self.eps)
        given, u = u.dtype, at_least_single(u)
        mean, var = self.mean, self.var
        if self.training:
            mean, var = _moments(u)
            if self.collecting:
                self._collect(mean.detach(), var.detach())
            if self.sharing == "lend":
                self.lent = mean.detach(), var.detach()
            elif self.sharing == "borrow" and self.lent is not None:
                mean, var = (
                    a + b - b.detach() for a, b in zip(self.lent, (mean, var), strict=True)
                )
        scale = _inverse_root(var + self.eps)
        if self.weight is None or self.bias is None:
            return ((u - mean) * scale).to(given)
        return ((u - mean) * (scale * self.weight) + self.bias).to(given)

    def _collect(self, mean: Tensor, var: Tensor) -> None:
        self.collected += 1
        self.mean.lerp_(mean.to(self.mean.dtype), 1 / self.collected)
        self.var.lerp_(var.to(self.var.dtype), 1 / self.collected)


def standardise(
    u: Float[Tensor, "*b n"], eps: float = 1e-5, *, average: bool = False
) -> Float[Tensor, "*b2 n"]:
    """Normalise every feature by the mean and variance of all rows at hand; nothing is learned.

    With ``average`` the result is averaged over the first axis, which normalising all of it before
    would not change.
    """
    u = at_least_single(u)
    if _is_usual(u) and not torch.compiler.is_compiling():
        n = _normalised(u, None, None, eps)
        return n.mean(0) if average else n
    mean, var = _moments(u)
    return ((u.mean(0) if average else u) - mean) * _inverse_root(var + eps)


def _is_usual(u: Tensor) -> bool:
    """Whether the rows at hand are all there are, and more than one."""
    return parallel.n_shares() == 1 and u[..., 0].numel() > 1


def _normalised(u: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise by the rows at hand, scale and shift: by torch's own function where it is fast."""
    rows = u.flatten(0, -2)
    if torch.compiler.is_compiling():
        return _Normalised.apply(rows, weight, bias, eps).view_as(u)
    return batch_norm(rows, None, None, weight, bias, True, eps=eps).view_as(u)


class _Normalised(torch.autograd.Function):
    """Batch normalisation of rows u [r, n] as a compiled graph has it, in few passes over memory.

    With the normalised n = (u - mean) scale and g the gradient by the result, those by shift and
    weight are sums over rows, of g and of g n; u's is g less its projections on 1 and on n.
    """

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        rows = at_least_single(u)
        mean, var = _moments(rows)
        scale = _inverse_root(var + eps)
        ctx.save_for_backward(u, weight, mean, scale)
        if weight is None or bias is None:
            return ((rows - mean) * scale).to(u.dtype)
        return ((rows - mean) * (scale * weight) + bias).to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        u, weight, mean, scale = ctx.saved_tensors
        g, n = at_least_single(outer[0]), (at_least_single(u) - mean) * scale
        of_bias, of_weight = sum_of_rows(g), sum_of_rows(g * n)
        of_n = g - (of_bias + n * of_weight) / len(u)
        if weight is None:
            return (of_n * scale).to(u.dtype), None, None, None
        return (of_n * (scale * weight)).to(u.dtype), of_weight, of_bias, None


def _inverse_root(v: Tensor) -> Tensor:
    """1 / sqrt(v), by functions that the compiler does not compute anew for every row."""
    return torch.exp(-0.5 * torch.log(v))


def _moments(u: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of every feature, over all shares of the batch."""
    rows = u.flatten(0, -2)
    if parallel.n_shares() == 1:
        mean = sum_of_rows(rows) / len(rows)
        return mean, sum_of_rows((rows - mean).square()) / len(rows)
    mean = parallel.mean(rows.mean(0))
    return mean, parallel.mean((rows - mean).square().mean(0))


def calibrate(model: nn.Module, passes: Callable[[], None]) -> None:
    """Set the statistics of every :class:`BatchNorm` in ``model`` from passes over training data.

    Parameters
    ----------
    model : Module
        Put into evaluation mode: what disturbs it in training does not when it is evaluated.
    passes : callable
        Runs ``model``, which normalises by the rows at hand, on one minibatch after another.
    """
    norms = [m for m in model.train().modules() if isinstance(m, BatchNorm) and m.training]
    model.eval()
    if norms:
        for norm in norms:
            norm.train()
            norm.collected, norm.collecting = 0, True
        try:
            with torch.no_grad():
                passes()
        finally:
            for norm in norms:
                norm.eval()
                norm.collecting = False


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise by the rows at hand, as in training, in a model that is in evaluation mode."""
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
    """Normalise one forward pass by the statistics of another, over more rows.

    Parameters
    ----------
    model : Module
        In training mode.
    sharing : {"lend", "borrow"}
        The pass inside normalises by its own rows and leaves their statistics, or normalises by
        those that were left. Their gradient is taken from the rows of the borrowing pass.
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
                norm.lent = None
