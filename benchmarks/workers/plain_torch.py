"""Worker: a plain eager PyTorch loop in float32."""

from __future__ import annotations

import math

import numpy as np
import torch
from common import LEARNING_RATE, log_odds, parse_task, record_import_memory, report
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch_nets import Encoder, decoder


class Autoencoder(nn.Module):
    """VAE whose forward pass returns the loss."""

    def __init__(self, k: int, bias: np.ndarray) -> None:
        super().__init__()
        self.k, self.encoder, self.decoder = k, Encoder(), decoder(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Negative ELBO (k = 1) or importance weighted bound, in nats per image."""
        mean, log_var = self.encoder(x)
        noise = torch.randn(self.k, *mean.shape)
        z = mean + torch.exp(0.5 * log_var) * noise
        logits = self.decoder(z)
        target = x.expand_as(logits)
        nats = binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
        if self.k == 1:
            kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(-1)
            return (nats + kl).mean()
        log_ratio = 0.5 * (noise.square() + log_var - z.square()).sum(-1)  # log p(z) / q(z | x)
        # over the samples of each image (axis 0), then over the images
        bound = torch.logsumexp(log_ratio - nats, 0) - math.log(self.k)
        return -bound.mean()


def main() -> None:
    """Measure training, and report."""
    record_import_memory()
    task = parse_task()
    torch.set_flush_denormal(task.flush_denormals)
    torch.manual_seed(task.seed)
    rows = torch.from_numpy(task.rows).float()
    model = Autoencoder(task.workload.k, log_odds(task.rows))
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)

    @torch.no_grad()
    def loss_of(batch: np.ndarray) -> float:
        return model(torch.from_numpy(batch).float()).item()

    clock = task.clock(loss_of)
    clock.start()
    for index in task.batches():
        loss = model(rows[torch.from_numpy(index)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not clock.tick():
            break
    report("PyTorch", "plain eager loop", task, clock, ["torch"])


if __name__ == "__main__":
    main()
