"""What a memory costs: seconds of a training step with and without one, in one run, in turn.

Run it:  python benchmarks/memory.py     (the record goes to ``results/memory-step.json``)

The networks of the memory paper on made-up bits of 784 pixels. Steps after the first epoch are
timed, each round measures every model once, and medians over rounds are compared. It wants a quiet
machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from machine import Others, warn_if_busy

from ancestral import MemoryVAE, provenance
from ancestral.storage import versions, write_file

RECORD = Path(__file__).resolve().parent.parent / "results" / "memory-step.json"
NETWORK: dict[str, Any] = {"n_latents": 100, "hidden": (500, 500), "batch_size": 100}
PARTS: dict[str, dict[str, Any]] = {
    "plain": {"n_slots": 0, "local_weight": 0.0},
    "memory": {"n_slots": (70, 30), "local_weight": 0.0},
    "memory and local error": {"n_slots": (70, 30), "local_weight": 0.1},
}
STEPS = {1: 300, 5: 100, 50: 12}
"""Steps of an epoch by K, so that one takes a few seconds."""


def seconds_per_step(parts: dict[str, Any], k: int) -> float:
    """Train for three epochs and return the mean of a step of the last two."""
    n_rows = STEPS[k] * NETWORK["batch_size"]
    rows = np.random.default_rng(0).integers(0, 2, (n_rows, 784), dtype=np.uint8) * np.uint8(255)
    how = NETWORK | parts | {"n_importance_samples": k, "max_epochs": 3}
    history = MemoryVAE(**how, random_state=0, compile=True).fit(rows).history_
    return (history[-1]["seconds"] - history[0]["seconds"]) / (2 * STEPS[k])


def main(n_rounds: str = "3") -> None:
    """Measure in turn, and write the record."""
    warn_if_busy()
    others, found = Others(), []
    for number in range(int(n_rounds)):
        for k in STEPS:
            for name, parts in PARTS.items():
                seconds = seconds_per_step(parts, k)
                found.append({"round": number, "k": k, "model": name, "seconds": seconds})
                print(f"round {number}, K = {k}, {name}: {1000 * seconds:.2f} ms a step")
    medians = {
        str(k): {
            name: median(f["seconds"] for f in found if (f["k"], f["model"]) == (k, name))
            for name in PARTS
        }
        for k in STEPS
    }
    ratios = {k: {name: m[name] / m["plain"] for name in PARTS} for k, m in medians.items()}
    record = {
        "config": NETWORK | {"hidden": list(NETWORK["hidden"])},
        "metric": "seconds of a training step",
        "medians": medians,
        "ratios": ratios,
        "measurements": found,
        "cores_used_by_others": others.cores_used(),
        "threads": torch.get_num_threads(),
        "processor": provenance.processor(),
        "versions": versions(),
        "commit": provenance.commit(),
        "date": provenance.today(),
    }
    write_file(RECORD, json.dumps(record, indent=1) + "\n")
    print(json.dumps(ratios, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
