"""What CMMVA costs beside a plain loop: seconds of a training step, in one run, in turn.

Run it:  python benchmarks/margin.py     (the record goes to ``results/margin-step.json``)

The convolutional network of the max-margin paper on made-up images. The other side is the same
network as one writes it down in PyTorch: float32, a convolution of an unpooled map of zeros,
``nn.MaxPool2d``, ``nn.Dropout``, Adam with weight decay. Steps after the first epoch are timed,
each round measures both, and medians over rounds are compared. It wants a quiet machine.
"""

from __future__ import annotations

import sys
from functools import partial
from time import perf_counter

import numpy as np
import torch
from machine import warn_if_busy
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, one_hot
from turns import in_turn, write

from ancestral import MaxMarginVAE
from ancestral.training.engine.devices import has_fast_bfloat16

BATCH, STEPS, BOUND, RATE = 500, 8, 1e-3, 3e-4


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return grey values and classes, enough for an epoch."""
    rng = np.random.default_rng(0)
    rows = rng.random((STEPS * BATCH, 784), dtype=np.float32)
    return rows, rng.integers(0, 10, len(rows))


def ours(x: np.ndarray, y: np.ndarray, precision: str = "auto") -> float:
    """Train for three epochs and return the mean of a step of the last two."""
    model = MaxMarginVAE(
        network="mnist", image_shape=(28, 28), batch_norm=False, binarize="none", c=1.0,
        elbo_weight=BOUND, margin=1.0, batch_size=BATCH, learning_rate=RATE, max_epochs=3,
        schedule="constant", random_state=0, precision=precision,
    )  # fmt: skip
    history = model.fit(x, y).history_
    return (history[-1]["seconds"] - history[0]["seconds"]) / (2 * STEPS)


class Unpool(nn.Module):
    """Every value in the top left corner of a block of zeros."""

    def forward(self, u: Tensor) -> Tensor:
        """Return maps of twice the size."""
        n, c, height, width = u.shape
        out = u.new_zeros(n, c, 2 * height, 2 * width)
        out[:, :, ::2, ::2] = u
        return out


class Plain(nn.Module):
    """The network, written down."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Dropout(0.5),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Dropout(0.5),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(1600, 500), nn.ReLU(), nn.Dropout(0.5),
        )  # fmt: skip
        self.mean, self.log_var = nn.Linear(500, 50), nn.Linear(500, 50)
        self.scores = nn.Linear(500, 10)
        self.decoder = nn.Sequential(
            nn.Linear(50, 500), nn.ReLU(), nn.Linear(500, 1600), nn.ReLU(),
            nn.Unflatten(1, (64, 5, 5)), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
            Unpool(), nn.Conv2d(64, 64, 3, padding=2), nn.ReLU(),
            nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
            Unpool(), nn.Conv2d(32, 1, 5, padding=4), nn.Sigmoid(),
        )  # fmt: skip

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """D times the negative bound, and the hinge."""
        features = self.encoder(x)
        mean, log_var = self.mean(features), self.log_var(features).clamp(-10, 10)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        pixels = self.decoder(z).clamp(0.001, 0.999)
        fit = binary_cross_entropy(pixels, x, reduction="sum") / len(x)
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1).mean()
        scores = self.scores(features)
        costs = scores + 1 - one_hot(y, 10)
        hinge = (costs.amax(1) - scores.gather(1, y[:, None])[:, 0]).mean()
        return BOUND * (fit + kl) + hinge


def plain(x: np.ndarray, y: np.ndarray) -> float:
    """Do as many steps, and return the mean of those after the first epoch."""
    torch.manual_seed(0)
    model, rows, classes = Plain(), torch.from_numpy(x).view(-1, 1, 28, 28), torch.from_numpy(y)
    adam = torch.optim.Adam(model.parameters(), lr=RATE, weight_decay=1 / len(x))
    began = 0.0
    for epoch in range(3):
        if epoch == 1:
            began = perf_counter()
        for index in torch.randperm(len(rows)).split(BATCH):
            adam.zero_grad()
            model.loss(rows[index], classes[index]).backward()
            adam.step()
    return (perf_counter() - began) / (2 * STEPS)


def main(n_rounds: str = "3") -> None:
    """Measure in turn, and write the record."""
    warn_if_busy()
    x, y = images()
    sides = {
        "ancestral": partial(ours, x, y),
        "ancestral, float32": partial(ours, x, y, "float32"),
        "plain loop": partial(plain, x, y),
    }
    found = in_turn(sides, int(n_rounds))
    times = found["medians"]
    ratios = {k: times["plain loop"] / t for k, t in times.items() if k != "plain loop"}
    chosen = "bfloat16" if has_fast_bfloat16(torch.device("cpu")) else "float32"
    config = {"batch_size": BATCH, "network": "mnist", "precision": chosen}
    about = {"metric": "seconds of a training step of CMMVA", "config": config, "ratios": ratios}
    write("margin-step", about | found)
    for side, ratio in ratios.items():
        print(f"{side}: the plain loop takes {ratio:.2f} times as long")


if __name__ == "__main__":
    main(*sys.argv[1:])
