"""What a memory costs: seconds of a training step with and without one, in one run, in turn.

Run it:  python benchmarks/memory.py     (the record goes to ``results/memory-step.json``)

The networks of the memory paper on made-up bits of 784 pixels. A fit has many short epochs, of
which the median after the first one counts: steps of a few milliseconds vary by a third from one to
the next. Each round fits every model once, and medians over rounds are compared. It wants a quiet
machine.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import numpy as np
from machine import warn_if_busy
from turns import in_turn, write

from ancestral import MemoryVAE

NETWORK: dict[str, Any] = {"n_latents": 100, "hidden": (500, 500), "batch_size": 100}
PARTS: dict[str, dict[str, Any]] = {
    "plain": {"n_slots": 0, "local_weight": 0.0},
    "memory": {"n_slots": (70, 30), "local_weight": 0.0},
    "memory and local error": {"n_slots": (70, 30), "local_weight": 0.1},
}
LENGTHS = {1: (100, 21), 5: (40, 11), 50: (6, 7)}
"""Steps of an epoch and epochs of a fit by K, so that one takes some ten seconds."""


def seconds_per_step(parts: dict[str, Any], k: int) -> float:
    """Train, and return the seconds of a step in the median epoch but the first."""
    n_steps, n_epochs = LENGTHS[k]
    shape = (n_steps * NETWORK["batch_size"], 784)
    rows = np.random.default_rng(0).integers(0, 2, shape, dtype=np.uint8) * np.uint8(255)
    how = NETWORK | parts | {"n_importance_samples": k, "max_epochs": n_epochs}
    history = MemoryVAE(**how, random_state=0, compile=True).fit(rows).history_
    return float(np.median(np.diff([epoch["seconds"] for epoch in history]))) / n_steps


def main(n_rounds: str = "5") -> None:
    """Measure in turn, and write the record."""
    warn_if_busy()
    sides = {
        (k, name): partial(seconds_per_step, PARTS[name], k) for k in LENGTHS for name in PARTS
    }
    found = in_turn({f"K = {k}, {name}": side for (k, name), side in sides.items()}, int(n_rounds))
    by_side = dict(zip(sides, found.pop("medians").values(), strict=True))
    medians = {str(k): {name: by_side[k, name] for name in PARTS} for k in LENGTHS}
    ratios = {k: {name: m[name] / m["plain"] for name in PARTS} for k, m in medians.items()}
    config = NETWORK | {"hidden": list(NETWORK["hidden"])}
    about = {"metric": "seconds of a training step", "config": config}
    write("memory-step", about | {"medians": medians, "ratios": ratios} | found)
    print(json.dumps(ratios, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
