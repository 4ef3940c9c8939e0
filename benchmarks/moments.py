"""What matching moments costs: training steps of MMD and CMMD, and random features of 100,000 rows.

Run it:  python benchmarks/moments.py     (the record goes to ``results/moments-step.json``)

The other side is what one writes down in PyTorch from the formula: distances of all pairs, an
exponential for each width, inverses in float64, every step anew. Networks and batches are those of
the papers, rows are made up. Steps after the first epoch are timed, each round measures every side,
and medians over rounds are compared. It wants a quiet machine.
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
from machine import warn_if_busy
from torch import Tensor, nn
from torch.nn.functional import one_hot
from turns import in_turn, write

from ancestral import GMMN, CGMMNClassifier
from ancestral.probability.kernel_features import RandomFeatures
from ancestral.probability.mmd import mmd2, mmd2_of_features

STEPS = 8
OF_ROWS = (2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
OF_INPUTS, OF_CLASSES = (1.0, 9.0, 20.0, 40.0, 80.0), (1.0, 3.0, 5.0, 7.0, 9.0)
RIDGE, RATE = 1e-3, 1e-3
N_LARGE, D_LARGE, N_FREQUENCIES, SHIFT, VARIANCE = 100_000, 20, 1000, 0.2, 20.0


def rows(batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return made-up grey values and classes, enough for an epoch."""
    rng = np.random.default_rng(0)
    x = rng.random((STEPS * batch_size, 784), dtype=np.float32)
    return x, rng.integers(0, 10, len(x))


def seconds_per_step(model: Any, *data: np.ndarray) -> float:
    """Train for three epochs and return the mean of a step of the last two."""
    history = model.fit(*data).history_
    return (history[-1]["seconds"] - history[0]["seconds"]) / (2 * STEPS)


def gmmn() -> float:
    """Match moments of 1,000 images."""
    how: dict[str, Any] = {"hidden": (64, 256, 256, 1024), "n_noise": 10, "noise": "uniform"}
    how |= {"variances": OF_ROWS, "batch_size": 1000, "activation": "relu", "batch_norm": False}
    model = GMMN(**how, learning_rate=RATE, max_epochs=3, compile=True)
    return seconds_per_step(model, rows(1000)[0])


def cgmmn() -> float:
    """Match moments of the classes of 500 images given the images."""
    how: dict[str, Any] = {"hidden": (500, 200, 100), "n_noise": 20, "noise": "bits"}
    how |= {
        "input_kernel_variances": OF_INPUTS,
        "output_kernel_variances": OF_CLASSES,
        "regularization": RIDGE,
    }
    model = CGMMNClassifier(**how, batch_size=500, learning_rate=RATE, max_epochs=3)
    return seconds_per_step(model, *rows(500))


def gram(a: Tensor, b: Tensor, variances: Sequence[float]) -> Tensor:
    """Return the Gram matrix of a sum of Gaussians."""
    d2 = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)
    return sum((torch.exp(-d2 / (2 * s)) for s in variances), torch.zeros(()))


def network(*widths: int) -> nn.Sequential:
    """Return rectifiers below a sigmoid."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Sigmoid())


def plain_mmd(net: nn.Module, x: Tensor, _: Tensor) -> Tensor:
    """The loss of the GMMN authors."""
    drawn = net(2 * torch.rand(len(x), 10) - 1)
    within = gram(x, x, OF_ROWS).mean() + gram(drawn, drawn, OF_ROWS).mean()
    return ((within - 2 * gram(x, drawn, OF_ROWS).mean()) / 2 + 1e-10).sqrt()


def plain_cmmd(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The published formula's three traces at equal inputs."""
    drawn, real = net(torch.cat([x, torch.rand(len(x), 20).round()], 1)), one_hot(y, 10).float()
    k = gram(x, x, OF_INPUTS).double()
    inverse = torch.linalg.inv(k + RIDGE * torch.eye(len(k)))
    w = (inverse @ k @ inverse).float()
    outputs = gram(real, real, OF_CLASSES) + gram(drawn, drawn, OF_CLASSES)
    return torch.trace(w @ (outputs - 2 * gram(real, drawn, OF_CLASSES)))


def plain(loss: Callable[..., Tensor], widths: Sequence[int], batch_size: int) -> float:
    """Do as many steps, and return the mean of those after the first epoch."""
    torch.manual_seed(0)
    net, (x, y) = network(*widths), map(torch.from_numpy, rows(batch_size))
    adam, began = torch.optim.Adam(net.parameters(), lr=RATE), 0.0
    for epoch in range(3):
        if epoch == 1:
            began = perf_counter()
        for index in torch.randperm(len(x)).split(batch_size):
            adam.zero_grad()
            loss(net, x[index], y[index]).backward()
            adam.step()
    return (perf_counter() - began) / (2 * STEPS)


def large_samples() -> dict[str, Any]:
    """Compare 100,000 normal rows with as many beside them: features, neighbours, the truth."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, N_LARGE, D_LARGE, generator=generator)
    b = b + SHIFT
    spread = (VARIANCE / (VARIANCE + 2)) ** (D_LARGE / 2)
    truth = 2 * spread * (1 - exp(-D_LARGE * SHIFT**2 / (2 * (VARIANCE + 2))))
    found = {}
    for name in ("random features", "linear time"):
        began = perf_counter()
        if name == "linear time":
            value = mmd2(a, b, [VARIANCE], "linear")
        else:
            phi = RandomFeatures([VARIANCE], D_LARGE, N_FREQUENCIES)
            value = mmd2_of_features(phi(a), phi(b))
        found[name] = {"mmd2": value.item(), "seconds": perf_counter() - began}
    about = {"rows": N_LARGE, "columns": D_LARGE, "frequencies": N_FREQUENCIES, "mmd2_exact": truth}
    return about | found


def main(n_rounds: str = "3") -> None:
    """Measure in turn, and write the record."""
    warn_if_busy()
    sides = {
        "MMD, ancestral": gmmn,
        "MMD, plain": partial(plain, plain_mmd, (10, 64, 256, 256, 1024, 784), 1000),
        "CMMD, ancestral": cgmmn,
        "CMMD, plain": partial(plain, plain_cmmd, (804, 500, 200, 100, 10), 500),
    }
    found = in_turn(sides, int(n_rounds))
    medians = found["medians"]
    ratios = {k: medians[f"{k}, plain"] / medians[f"{k}, ancestral"] for k in ("MMD", "CMMD")}
    about = {"metric": "seconds of a training step", "ratios": ratios}
    write("moments-step", about | found | {"large_samples": large_samples()})
    print(f"the plain loops take {ratios['MMD']:.2f} and {ratios['CMMD']:.2f} times as long")


if __name__ == "__main__":
    main(*sys.argv[1:])
