"""Networks of the task as plain PyTorch modules, for the workers based on PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from common import HIDDEN, N_LATENTS, N_PIXELS
from torch import Tensor, nn


def linear(n_in: int, n_out: int) -> nn.Linear:
    """Dense layer with Glorot-uniform weights and zero biases."""
    layer = nn.Linear(n_in, n_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def trunk(n_in: int) -> nn.Sequential:
    """Two hidden layers of tanh units."""
    return nn.Sequential(linear(n_in, HIDDEN), nn.Tanh(), linear(HIDDEN, HIDDEN), nn.Tanh())


class Encoder(nn.Module):
    """Encoder, pixels [..., 784] to mean and log-variance [..., 50]."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk(N_PIXELS)
        self.mean, self.log_var = linear(HIDDEN, N_LATENTS), linear(HIDDEN, N_LATENTS)
        nn.init.zeros_(self.log_var.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance."""
        h = self.trunk(x)
        return self.mean(h), self.log_var(h)


def decoder(log_odds: np.ndarray) -> nn.Sequential:
    """Decoder, latents [..., 50] to logits [..., 784]."""
    last = linear(HIDDEN, N_PIXELS)
    with torch.no_grad():
        last.bias.copy_(torch.from_numpy(log_odds))
    return nn.Sequential(*trunk(N_LATENTS), last)
