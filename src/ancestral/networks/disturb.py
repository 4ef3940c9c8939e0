"""What disturbs a network in training, so that it learns not to depend on single values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestral import parallel


class Dropout(nn.Module):
    """In training set a share of the values to zero and scale the others up."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, u: Tensor) -> Tensor:
        """Return the same shape; processes that share a batch draw for all of it."""
        if not self.training:
            return u
        if u.ndim == 4:  # maps lie in memory with their channels last, and so does what they meet
            return self._drop(u.movedim(1, -1)).movedim(-1, 1)
        return self._drop(u)

    def _drop(self, u: Tensor) -> Tensor:
        n, *rest = u.shape
        noise = parallel.share(torch.rand(n * parallel.n_shares(), *rest, device=u.device))
        return u * ((noise >= self.rate).to(u.dtype) / (1 - self.rate))


class Jitter(nn.Module):
    """In training add normal noise of a standard deviation.

    Examples
    --------
    >>> jitter, u = Jitter(0.5), torch.zeros(1000, 4)
    >>> round(jitter(u).std().item(), 1), jitter.eval()(u).std().item()
    (0.5, 0.0)
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, u: Tensor) -> Tensor:
        """Return the same shape; processes that share a batch draw for all of it."""
        if not self.training:
            return u
        n, *rest = u.shape
        noise = torch.randn(n * parallel.n_shares(), *rest, device=u.device)
        return u + self.scale * parallel.share(noise)
