"""Worker: throughput of the matrix products of the workloads, and time of the optimiser.

The products of a training step are those of the forward pass, of the gradients of the weights, and
of the gradients of the inputs except for the first layer. Their time alone is a lower limit of the
time of a step in the same precision.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np
import torch
from common import BATCH_SIZE, HIDDEN, LEARNING_RATE, N_LATENTS, N_PIXELS, WORKLOADS
from torch import Tensor

Shape = tuple[int, int, int]
"""Numbers of rows, inputs and outputs of a dense layer."""


def layers(k: int) -> tuple[list[Shape], list[Shape]]:
    """Shapes of the dense layers of the encoder and of the decoder."""
    encoder = [(N_PIXELS, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 2 * N_LATENTS)]
    decoder = [(N_LATENTS, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, N_PIXELS)]
    return [(BATCH_SIZE, *s) for s in encoder], [(k * BATCH_SIZE, *s) for s in decoder]


def products(k: int) -> list[tuple[str, Shape]]:
    """Kind and shape of every matrix product of one step."""
    encoder, decoder = layers(k)
    shapes = [*encoder, *decoder]
    with_input_gradient = [*encoder[1:], *decoder]  # not the pixels
    return [
        *(("forward", shape) for shape in shapes),
        *(("weights", shape) for shape in shapes),
        *(("input", shape) for shape in with_input_gradient),
    ]


def n_parameters() -> int:
    """Number of weights and biases of all layers."""
    encoder, decoder = layers(1)
    return sum((n_in + 1) * n_out for _, n_in, n_out in [*encoder, *decoder])


def operands(kind: str, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The two factors, in the memory layout of a dense layer."""
    rows, n_in, n_out = shape
    x = torch.randn(rows, n_in).to(dtype)
    weights = torch.randn(n_out, n_in).to(dtype)
    grad = torch.randn(rows, n_out).to(dtype)
    return {"forward": (x, weights.T), "weights": (grad.T, x), "input": (grad, weights)}[kind]


def median_seconds(function: Callable[[], object], seconds: float) -> float:
    """Median run time of a function, called repeatedly for ``seconds``."""
    function()
    times: list[float] = []
    start = perf_counter()
    while perf_counter() - start < seconds or len(times) < 5:
        call_start = perf_counter()
        function()
        times.append(perf_counter() - call_start)
    return float(np.median(times))


def measure(k: int, dtype: torch.dtype, seconds: float) -> dict[str, float]:
    """Time of all products of a step, and their throughput."""
    all_products, total, n_operations = products(k), 0.0, 0.0
    for kind, shape in all_products:
        a, b = operands(kind, shape, dtype)
        out = torch.empty(a.shape[0], b.shape[1], dtype=dtype)
        total += median_seconds(partial(torch.mm, a, b, out=out), seconds / len(all_products))
        n_operations += 2.0 * np.prod(shape, dtype=np.float64)
    return {
        "seconds": total,
        "gflop": n_operations / 1e9,
        "gflop_per_second": n_operations / total / 1e9,
        "limit_images_per_second": BATCH_SIZE / total,
    }


def optimizer_seconds(seconds: float) -> float:
    """Seconds per step of PyTorch's fused Adam on the number of parameters of the task."""
    flat = torch.nn.Parameter(torch.randn(n_parameters()))
    flat.grad = torch.randn(n_parameters())
    optimizer = torch.optim.Adam([flat], lr=LEARNING_RATE, fused=True)
    return median_seconds(optimizer.step, seconds)


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--dtypes", default="float32")
    options = parser.parse_args()
    dtypes = options.dtypes.split(",")
    seconds = options.seconds / (len(WORKLOADS) * len(dtypes))
    rates = {
        name: {dtype: measure(w.k, getattr(torch, dtype), seconds) for dtype in dtypes}
        for name, w in WORKLOADS.items()
    }
    line = {"workload": "products", "products": rates, "n_parameters": n_parameters()}
    print(json.dumps(line | {"optimizer_seconds": optimizer_seconds(min(1.0, seconds))}))


if __name__ == "__main__":
    main()
