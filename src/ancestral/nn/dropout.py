"""Regularising noise in training: dropout and additive Gaussian noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestral.utils import distributed


class Dropout(nn.Module):
    """Inverted dropout: zeros at random in training, the identity in evaluation.

    Parameters
    ----------
    rate : float
        Probability in [0, 1) of a zero; the remaining values are divided by 1 - rate.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, u: Tensor) -> Tensor:
        """Return the same shape; data-parallel processes draw the noise of the global batch."""
        if not self.training:
            return u
        if u.ndim == 4:  # maps are stored channels last; sample the noise in the same layout
            return self._drop(u.movedim(1, -1)).movedim(-1, 1)
        return self._drop(u)

    def _drop(self, u: Tensor) -> Tensor:
        n, *event_shape = u.shape
        noise = distributed.local_shard(
            torch.rand(n * distributed.n_shards(), *event_shape, device=u.device)
        )
        return u * ((noise >= self.rate).to(u.dtype) / (1 - self.rate))


class GaussianNoise(nn.Module):
    """Additive Gaussian noise in training; the identity in evaluation.

    Parameters
    ----------
    scale : float
        Standard deviation of the noise.

    Examples
    --------
    >>> jitter, u = GaussianNoise(0.5), torch.zeros(1000, 4)
    >>> round(jitter(u).std().item(), 1), jitter.eval()(u).std().item()
    (0.5, 0.0)
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, u: Tensor) -> Tensor:
        """Return the same shape; data-parallel processes draw the noise of the global batch."""
        if not self.training:
            return u
        n, *event_shape = u.shape
        noise = torch.randn(n * distributed.n_shards(), *event_shape, device=u.device)
        return u + self.scale * distributed.local_shard(noise)
