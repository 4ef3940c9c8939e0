"""Training time of a VAE with and without memory, in seconds per step.

Usage:  python benchmarks/memory.py     (writes ``results/memory-step.json``)

The networks are those of the memory paper, the data random bits of 784 pixels. The time of a step
is the median over many short epochs without the first, because single steps of a few milliseconds
vary by a third. Each round fits every model once; the record contains medians over rounds. Requires
an idle machine.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import numpy as np
from interleave import interleave, write_record
from machine import warn_if_busy

from ancestral import MemoryVAE

NETWORK: dict[str, Any] = {"n_latents": 100, "hidden": (500, 500), "batch_size": 100}
MODELS: dict[str, dict[str, Any]] = {
    "plain": {"n_slots": 0, "local_weight": 0.0},
    "memory": {"n_slots": (70, 30), "local_weight": 0.0},
    "memory and local error": {"n_slots": (70, 30), "local_weight": 0.1},
}
LENGTHS = {1: (100, 21), 5: (40, 11), 50: (6, 7)}
"""Steps per epoch and number of epochs by K; a fit takes about ten seconds."""


def seconds_per_step(options: dict[str, Any], k: int) -> float:
    """Seconds per training step of the median epoch without the first."""
    n_steps, n_epochs = LENGTHS[k]
    shape = (n_steps * NETWORK["batch_size"], 784)
    rows = np.random.default_rng(0).integers(0, 2, shape, dtype=np.uint8) * np.uint8(255)
    options = NETWORK | options | {"n_importance_samples": k, "max_epochs": n_epochs}
    history = MemoryVAE(**options, random_state=0, compile=True).fit(rows).history_
    return float(np.median(np.diff([epoch["seconds"] for epoch in history]))) / n_steps


def main(n_rounds: str = "5") -> None:
    """Measure interleaved, and write the record."""
    warn_if_busy()
    cases = {
        (k, name): partial(seconds_per_step, MODELS[name], k) for k in LENGTHS for name in MODELS
    }
    functions = {f"K = {k}, {name}": function for (k, name), function in cases.items()}
    timings = interleave(functions, int(n_rounds))
    by_case = dict(zip(cases, timings.pop("medians").values(), strict=True))
    medians = {str(k): {name: by_case[k, name] for name in MODELS} for k in LENGTHS}
    ratios = {k: {name: m[name] / m["plain"] for name in MODELS} for k, m in medians.items()}
    record = {
        "metric": "seconds per training step",
        "config": NETWORK | {"hidden": list(NETWORK["hidden"])},
        "medians": medians,
        "ratios": ratios,
    }
    write_record("memory-step", record | timings)
    print(json.dumps(ratios, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
