"""Worker: the rate of the bare matrix products of the workloads, and of one optimiser pass.

What a training step multiplies, product by product: forward, the gradient of the weights, and
the gradient of the input where there is something below. Their time alone is a limit that no
implementation in the same precision passes without faster products.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from common import BATCH, HIDDEN, N_LATENTS, N_PIXELS, RATE, WORKLOADS
from torch import Tensor

Shape = tuple[int, int, int]


def layers(k: int) -> tuple[list[Shape], list[Shape]]:
    """Rows, inputs and outputs of every dense layer of the encoder and the decoder."""
    encoder = [(N_PIXELS, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 2 * N_LATENTS)]
    decoder = [(N_LATENTS, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, N_PIXELS)]
    return [(BATCH, *s) for s in encoder], [(k * BATCH, *s) for s in decoder]


def products(k: int) -> list[tuple[str, Shape]]:
    """Every product of one step: its kind, and the layer's rows, inputs and outputs."""
    encoder, decoder = layers(k)
    every = [*encoder, *decoder]
    below = [*encoder[1:], *decoder]  # the pixels want no gradient
    forward = [("forward", s) for s in every]
    return [*forward, *(("weights", s) for s in every), *(("input", s) for s in below)]


def n_parameters() -> int:
    """Weights and biases of all layers."""
    encoder, decoder = layers(1)
    return sum((n_in + 1) * n_out for _, n_in, n_out in [*encoder, *decoder])


def operands(kind: str, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the two factors, laid out as a dense layer has them."""
    rows, n_in, n_out = shape
    x = torch.randn(rows, n_in).to(dtype)
    weights = torch.randn(n_out, n_in).to(dtype)
    upper = torch.randn(rows, n_out).to(dtype)
    return {"forward": (x, weights.T), "weights": (upper.T, x), "input": (upper, weights)}[kind]


def seconds_of(act: Callable[[], object], seconds: float) -> float:
    """Return the median time of an act, repeated for so long."""
    act()
    times: list[float] = []
    began = perf_counter()
    while perf_counter() - began < seconds or len(times) < 5:
        mark = perf_counter()
        act()
        times.append(perf_counter() - mark)
    return float(np.median(times))


def measure(k: int, dtype: torch.dtype, seconds: float) -> dict[str, float]:
    """Return the time of all products of a step, and their rate."""
    every, total, n_operations = products(k), 0.0, 0.0
    for kind, shape in every:
        a, b = operands(kind, shape, dtype)
        out = torch.empty(a.shape[0], b.shape[1], dtype=dtype)
        total += seconds_of(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), seconds / len(every))
        n_operations += 2.0 * np.prod(shape, dtype=np.float64)
    return {
        "seconds": total,
        "gflop": n_operations / 1e9,
        "gflop_per_second": n_operations / total / 1e9,
        "limit_images_per_second": BATCH / total,
    }


def optimizer_seconds(seconds: float) -> float:
    """Return the time of PyTorch's fused Adam over as many parameters as the task has."""
    flat = torch.nn.Parameter(torch.randn(n_parameters()))
    flat.grad = torch.randn(n_parameters())
    adam = torch.optim.Adam([flat], lr=RATE, fused=True)
    return seconds_of(adam.step, seconds)


def main() -> None:
    """Measure, report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--dtypes", default="float32")
    options = parser.parse_args()
    dtypes = options.dtypes.split(",")
    share = options.seconds / (len(WORKLOADS) * len(dtypes))
    found = {
        name: {dtype: measure(w.k, getattr(torch, dtype), share) for dtype in dtypes}
        for name, w in WORKLOADS.items()
    }
    line = {"workload": "products", "products": found, "n_parameters": n_parameters()}
    print(json.dumps(line | {"optimizer_seconds": optimizer_seconds(min(1.0, share))}))


if __name__ == "__main__":
    main()
