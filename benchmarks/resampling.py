"""What differentiating a few of many importance samples costs and saves, in one run.

Run it:  python benchmarks/resampling.py     (the record goes to ``results/resampling.json``)

The shipped IWAE-5 of MNIST goes on with K = 50, all of whose samples are differentiated or a few
that are drawn by weight, for the same passes over a third of the training images. Steps after the
first pass are timed; the models are compared on training images that none of these passes sees. It
wants a quiet machine.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from machine import warn_if_busy
from turns import RESULTS, write

import ancestral
from ancestral import IWAE, compare, datasets

MODEL = RESULTS.parent / "zoo" / "mnist-density-iwae-5"
K, FEW = 50, (8, 4)
N_ROWS, N_HELD_OUT, N_SAMPLES = 20_000, 1000, 500


def gone_on(rows: np.ndarray, n_resampled: int | None, n_passes: int) -> tuple[IWAE, float]:
    """Return the model after some passes, and the seconds of one after the first."""
    settings: dict[str, Any] = ancestral.load(MODEL).get_params()
    settings |= {"n_importance_samples": K, "n_resampled": n_resampled, "start": str(MODEL)}
    iwae = IWAE(**settings | {"max_epochs": n_passes, "warmup_steps": 20, "random_state": 0}).fit(
        rows
    )
    first, *_, last = iwae.history_
    return iwae, (last["seconds"] - first["seconds"]) / (n_passes - 1)


def main(n_passes: str = "4") -> None:
    """Train, compare, and write the record."""
    load = warn_if_busy()
    images = datasets.load("mnist").x_train
    rows, held_out = images[:N_ROWS], images[N_ROWS : N_ROWS + N_HELD_OUT]
    whole, seconds = gone_on(rows, None, int(n_passes))
    reference = whole.log_likelihood(held_out, N_SAMPLES)
    record: dict[str, Any] = {
        "metric": f"log-likelihood L_{N_SAMPLES}, nats",
        "config": {"model": MODEL.name, "k": K, "n_rows": N_ROWS, "n_held_out": N_HELD_OUT},
        "n_passes": int(n_passes),
        "load": load,
        "seconds_of_a_pass": seconds,
        "value": reference.mean,
        "standard_error": reference.standard_error,
        "few": {},
    }
    for n in FEW:
        few, seconds = gone_on(rows, n, int(n_passes))
        difference = compare(few.log_likelihood(held_out, N_SAMPLES), reference)
        record["few"][n] = {
            "seconds_of_a_pass": seconds,
            "difference": difference.mean,
            "difference_standard_error": difference.standard_error,
        }
    write("resampling", record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
