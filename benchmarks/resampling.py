"""Training time and log-likelihood with gradients of a few resampled importance samples.

Usage:  python benchmarks/resampling.py     (writes ``results/resampling.json``)

Training of the shipped IWAE-5 of MNIST is continued with K = 50 for several epochs over a third of
the training images. Gradients are computed for all samples, or for a few resampled by importance
weight. Epochs after the first are timed. The models are compared on other training images. Requires
an idle machine.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from interleave import RESULTS, write_record
from machine import warn_if_busy

import ancestral
from ancestral import IWAE, compare, datasets

MODEL = RESULTS.parent / "zoo" / "mnist-density-iwae-5"
K, N_RESAMPLED = 50, (8, 4)
N_ROWS, N_HELD_OUT, N_SAMPLES = 20_000, 1000, 500


def continue_training(
    rows: np.ndarray, n_resampled: int | None, n_epochs: int
) -> tuple[IWAE, float]:
    """Model after some more epochs, and seconds per epoch without the first."""
    options: dict[str, Any] = ancestral.load(MODEL).get_params()
    options |= {"n_importance_samples": K, "n_resampled": n_resampled, "init_from": str(MODEL)}
    options |= {"max_epochs": n_epochs, "warmup_steps": 20, "random_state": 0}
    model = IWAE(**options).fit(rows)
    first, *_, last = model.history_
    return model, (last["seconds"] - first["seconds"]) / (n_epochs - 1)


def main(n_epochs: str = "4") -> None:
    """Train and compare the models, and write the record."""
    load = warn_if_busy()
    images = datasets.load("mnist").x_train
    rows, held_out = images[:N_ROWS], images[N_ROWS : N_ROWS + N_HELD_OUT]
    model, seconds = continue_training(rows, None, int(n_epochs))
    reference = model.log_likelihood(held_out, N_SAMPLES)
    record: dict[str, Any] = {
        "metric": f"log-likelihood L_{N_SAMPLES}, nats",
        "config": {"model": MODEL.name, "k": K, "n_rows": N_ROWS, "n_held_out": N_HELD_OUT},
        "n_epochs": int(n_epochs),
        "load": load,
        "seconds_per_epoch": seconds,
        "value": reference.mean,
        "standard_error": reference.standard_error,
        "resampled": {},
    }
    for n in N_RESAMPLED:
        resampled, seconds = continue_training(rows, n, int(n_epochs))
        difference = compare(resampled.log_likelihood(held_out, N_SAMPLES), reference)
        record["resampled"][n] = {
            "seconds_per_epoch": seconds,
            "difference": difference.mean,
            "difference_standard_error": difference.standard_error,
        }
    write_record("resampling", record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
