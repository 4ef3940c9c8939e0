"""Training time of moment matching and of plain PyTorch loops; MMD of 100,000 rows.

Usage:  python benchmarks/moment_matching.py     (writes ``results/moments-step.json``)

The plain loops compute the published formulas directly in PyTorch: distances of all pairs, an
exponential per kernel variance, and inverses in float64 in every step. Networks and batch sizes are
those of the papers, the data random. Steps after the first epoch are timed, every round measures
all, and the record contains medians over rounds. Requires an idle machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import exp
from time import perf_counter
from typing import Any

import numpy as np
import torch
from interleave import interleave, write_record
from machine import warn_if_busy
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ancestral import GMMN, CGMMNClassifier
from ancestral.probability import RandomFeatures, mmd2, mmd2_of_features

N_STEPS = 8
VARIANCES = (2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
INPUT_VARIANCES, OUTPUT_VARIANCES = (1.0, 9.0, 20.0, 40.0, 80.0), (1.0, 3.0, 5.0, 7.0, 9.0)
REGULARIZATION, LEARNING_RATE = 1e-3, 1e-3
N_LARGE, D_LARGE, N_FREQUENCIES, SHIFT, VARIANCE = 100_000, 20, 1000, 0.2, 20.0


def rows(batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random grey values [n, 784] and classes [n], one epoch."""
    rng = np.random.default_rng(0)
    x = rng.random((N_STEPS * batch_size, 784), dtype=np.float32)
    return x, rng.integers(0, 10, len(x))


def seconds_per_step(model: Any, *data: np.ndarray) -> float:
    """Mean seconds per step of an estimator, over the last two of three epochs."""
    history = model.fit(*data).history_
    return (history[-1]["seconds"] - history[0]["seconds"]) / (2 * N_STEPS)


def gmmn() -> float:
    """Seconds per step of GMMN, batch size 1,000."""
    model = GMMN(
        hidden=(64, 256, 256, 1024),
        n_noise=10,
        noise_distribution="uniform",
        kernel_variances=VARIANCES,
        batch_size=1000,
        activation="relu",
        batch_norm=False,
        learning_rate=LEARNING_RATE,
        max_epochs=3,
        compile=True,
    )
    return seconds_per_step(model, rows(1000)[0])


def cgmmn() -> float:
    """Seconds per step of CGMMN as a classifier, batch size 500."""
    model = CGMMNClassifier(
        hidden=(500, 200, 100),
        n_noise=20,
        noise_distribution="bits",
        input_kernel_variances=INPUT_VARIANCES,
        output_kernel_variances=OUTPUT_VARIANCES,
        regularization=REGULARIZATION,
        batch_size=500,
        learning_rate=LEARNING_RATE,
        max_epochs=3,
    )
    return seconds_per_step(model, *rows(500))


def gram(a: Tensor, b: Tensor, variances: Sequence[float]) -> Tensor:
    """Gram matrix [n, m] of a sum of Gaussian kernels."""
    d2 = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)
    return sum((torch.exp(-d2 / (2 * s)) for s in variances), torch.zeros(()))


def network(*widths: int) -> nn.Sequential:
    """Dense layers with ReLU, and sigmoid outputs."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Sigmoid())


def plain_mmd(net: nn.Module, x: Tensor, _: Tensor) -> Tensor:
    """Loss of the GMMN authors."""
    samples = net(2 * torch.rand(len(x), 10) - 1)
    within = gram(x, x, VARIANCES).mean() + gram(samples, samples, VARIANCES).mean()
    return ((within - 2 * gram(x, samples, VARIANCES).mean()) / 2 + 1e-10).sqrt()


def plain_cmmd(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Published formula of the CMMD, three traces, for equal inputs of both samples."""
    samples, real = net(torch.cat([x, torch.rand(len(x), 20).round()], 1)), one_hot(y, 10).float()
    k = gram(x, x, INPUT_VARIANCES).double()
    inverse = torch.linalg.inv(k + REGULARIZATION * torch.eye(len(k)))
    w = (inverse @ k @ inverse).float()
    outputs = gram(real, real, OUTPUT_VARIANCES) + gram(samples, samples, OUTPUT_VARIANCES)
    return torch.trace(w @ (outputs - 2 * gram(real, samples, OUTPUT_VARIANCES)))


def plain_loop(loss: Callable[..., Tensor], widths: Sequence[int], batch_size: int) -> float:
    """Mean seconds per step of a plain loop, over the last two of three epochs."""
    torch.manual_seed(0)
    net, (x, y) = network(*widths), map(torch.from_numpy, rows(batch_size))
    optimizer, start = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE), 0.0
    for epoch in range(3):
        if epoch == 1:
            start = perf_counter()
        for index in torch.randperm(len(x)).split(batch_size):
            optimizer.zero_grad()
            loss(net, x[index], y[index]).backward()
            optimizer.step()
    return (perf_counter() - start) / (2 * N_STEPS)


def large_samples() -> dict[str, Any]:
    """Squared MMD of two samples of 100,000 normal rows: random features, linear time, exact."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, N_LARGE, D_LARGE, generator=generator)
    b = b + SHIFT
    scale = (VARIANCE / (VARIANCE + 2)) ** (D_LARGE / 2)
    exact = 2 * scale * (1 - exp(-D_LARGE * SHIFT**2 / (2 * (VARIANCE + 2))))
    estimates = {}
    for name in ("random features", "linear time"):
        start = perf_counter()
        if name == "linear time":
            value = mmd2(a, b, [VARIANCE], "linear")
        else:
            phi = RandomFeatures([VARIANCE], D_LARGE, N_FREQUENCIES)
            value = mmd2_of_features(phi(a), phi(b))
        estimates[name] = {"mmd2": value.item(), "seconds": perf_counter() - start}
    return {
        "rows": N_LARGE,
        "columns": D_LARGE,
        "frequencies": N_FREQUENCIES,
        "mmd2_exact": exact,
        **estimates,
    }


def main(n_rounds: str = "3") -> None:
    """Measure interleaved, and write the record."""
    warn_if_busy()
    functions = {
        "MMD, ancestral": gmmn,
        "MMD, plain": partial(plain_loop, plain_mmd, (10, 64, 256, 256, 1024, 784), 1000),
        "CMMD, ancestral": cgmmn,
        "CMMD, plain": partial(plain_loop, plain_cmmd, (804, 500, 200, 100, 10), 500),
    }
    timings = interleave(functions, int(n_rounds))
    medians = timings["medians"]
    ratios = {k: medians[f"{k}, plain"] / medians[f"{k}, ancestral"] for k in ("MMD", "CMMD")}
    record = {"metric": "seconds per training step", "ratios": ratios}
    write_record("moments-step", record | timings | {"large_samples": large_samples()})
    for name, ratio in ratios.items():
        print(f"{name}: the plain loop takes {ratio:.2f} times as long")


if __name__ == "__main__":
    main(*sys.argv[1:])
