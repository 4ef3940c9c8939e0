"""Training time of CMMVA and of a plain PyTorch loop, in seconds per step.

Usage:  python benchmarks/max_margin.py     (writes ``results/margin-step.json``)

The convolutional network of the max-margin paper on random images. The plain loop trains the same
network as written directly in PyTorch: float32, unpooling to a map of zeros followed by a
convolution, ``nn.MaxPool2d``, ``nn.Dropout``, Adam with weight decay. Steps after the first epoch
are timed, every round measures both, and the record contains medians over rounds. Requires an idle
machine.
"""

from __future__ import annotations

import sys
from functools import partial
from time import perf_counter

import numpy as np
import torch
from interleave import interleave, write_record
from machine import warn_if_busy
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, one_hot

from ancestral import MaxMarginVAE
from ancestral.training.engine.devices import has_fast_bfloat16

BATCH_SIZE, N_STEPS, ELBO_WEIGHT, LEARNING_RATE = 500, 8, 1e-3, 3e-4


def images() -> tuple[np.ndarray, np.ndarray]:
    """Random grey values [4000, 784] and classes [4000], one epoch."""
    rng = np.random.default_rng(0)
    x = rng.random((N_STEPS * BATCH_SIZE, 784), dtype=np.float32)
    return x, rng.integers(0, 10, len(x))


def cmmva(x: np.ndarray, y: np.ndarray, precision: str = "auto") -> float:
    """Mean seconds per step of ``MaxMarginVAE``, over the last two of three epochs."""
    model = MaxMarginVAE(
        network="mnist",
        image_shape=(28, 28),
        batch_norm=False,
        binarize="none",
        C=1.0,
        elbo_weight=ELBO_WEIGHT,
        margin=1.0,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        max_epochs=3,
        schedule="constant",
        random_state=0,
        precision=precision,
    )
    history = model.fit(x, y).history_
    return (history[-1]["seconds"] - history[0]["seconds"]) / (2 * N_STEPS)


class Unpool(nn.Module):
    """Unpooling: each value becomes the top left entry of a 2x2 block of zeros."""

    def forward(self, u: Tensor) -> Tensor:
        """Maps [n, c, h, w] to [n, c, 2 h, 2 w]."""
        n, c, height, width = u.shape
        out = u.new_zeros(n, c, 2 * height, 2 * width)
        out[:, :, ::2, ::2] = u
        return out


class PlainCMMVA(nn.Module):
    """The network of CMMVA in plain PyTorch."""

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
        """Weighted negative ELBO plus hinge loss."""
        features = self.encoder(x)
        mean, log_var = self.mean(features), self.log_var(features).clamp(-10, 10)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        pixels = self.decoder(z).clamp(0.001, 0.999)
        nats = binary_cross_entropy(pixels, x, reduction="sum") / len(x)
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1).mean()
        scores = self.scores(features)
        costs = scores + 1 - one_hot(y, 10)
        hinge = (costs.amax(1) - scores.gather(1, y[:, None])[:, 0]).mean()
        return ELBO_WEIGHT * (nats + kl) + hinge


def plain_loop(x: np.ndarray, y: np.ndarray) -> float:
    """Mean seconds per step of a plain loop, over the last two of three epochs."""
    torch.manual_seed(0)
    model = PlainCMMVA()
    rows, classes = torch.from_numpy(x).view(-1, 1, 28, 28), torch.from_numpy(y)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, weight_decay=1 / len(x))
    start = 0.0
    for epoch in range(3):
        if epoch == 1:
            start = perf_counter()
        for index in torch.randperm(len(rows)).split(BATCH_SIZE):
            optimizer.zero_grad()
            model.loss(rows[index], classes[index]).backward()
            optimizer.step()
    return (perf_counter() - start) / (2 * N_STEPS)


def main(n_rounds: str = "3") -> None:
    """Measure interleaved, and write the record."""
    warn_if_busy()
    x, y = images()
    functions = {
        "ancestral": partial(cmmva, x, y),
        "ancestral, float32": partial(cmmva, x, y, "float32"),
        "plain loop": partial(plain_loop, x, y),
    }
    timings = interleave(functions, int(n_rounds))
    medians = timings["medians"]
    ratios = {
        name: medians["plain loop"] / seconds
        for name, seconds in medians.items()
        if name != "plain loop"
    }
    precision = "bfloat16" if has_fast_bfloat16(torch.device("cpu")) else "float32"
    record = {
        "metric": "seconds per training step of CMMVA",
        "config": {"batch_size": BATCH_SIZE, "network": "mnist", "precision": precision},
        "ratios": ratios,
    }
    write_record("margin-step", record | timings)
    for name, ratio in ratios.items():
        print(f"plain loop: {ratio:.2f} times the time of {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
