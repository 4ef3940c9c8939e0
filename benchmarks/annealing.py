"""Gap between L_5000 and log p(x) of a shipped MNIST model, by annealed importance sampling.

Usage:  python benchmarks/annealing.py     (writes ``results/annealing.json``)

The log-likelihood of the first 100 test images is estimated by L_5000 and by annealed importance
sampling. For 100 images sampled from the model, bidirectional Monte Carlo bounds the true value
from both sides.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from interleave import RESULTS, write_record

import ancestral
from ancestral import Annealing, compare, datasets
from ancestral.evaluation import LogLikelihood

MODEL = RESULTS.parent / "zoo" / "mnist-density-vae"
N_ROWS, N_SAMPLES = 100, 5000


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return value of a function and its run time in seconds."""
    start = perf_counter()
    return function(), perf_counter() - start


def summarize(estimate: LogLikelihood, seconds: float) -> dict[str, Any]:
    """Entry of the record for a log-likelihood estimate."""
    return {
        "metric": f"log-likelihood {estimate.estimator}_{estimate.n_samples}, nats",
        "value": estimate.mean,
        "standard_error": estimate.standard_error,
        "mean_monte_carlo_error": float(estimate.monte_carlo_errors.mean()),
        "seconds": seconds,
    }


def main(model: str = str(MODEL), n_steps: str = "300") -> None:
    """Compute the estimates and bounds, and write the record."""
    estimator, data = ancestral.load(model), datasets.load("mnist")
    annealing, rows = Annealing(n_steps=int(n_steps)), data.x_test[:N_ROWS]
    importance, importance_seconds = timed(lambda: estimator.log_likelihood(rows, N_SAMPLES))
    annealed, annealed_seconds = timed(
        lambda: estimator.log_likelihood(rows, annealing=annealing, progress=True)
    )
    bounds, bounds_seconds = timed(
        lambda: estimator.bidirectional_bounds(N_ROWS, annealing, progress=True)
    )
    difference = compare(annealed, importance)
    record = {
        "model": Path(model).name,
        "annealing": asdict(annealing),
        "n_rows": N_ROWS,
        "test_rows": {
            "importance": summarize(importance, importance_seconds),
            "annealed": summarize(annealed, annealed_seconds),
            "difference": difference.mean,
            "standard_error": difference.standard_error,
        },
        "model_samples": {
            "lower": summarize(bounds.lower, bounds_seconds),
            "upper": summarize(bounds.upper, bounds_seconds),
            "gap": bounds.gap,
        },
        "seed": estimator.seed_,
        "data_checksum": data.checksum,
    }
    write_record("annealing", record)
    print(json.dumps({k: record[k] for k in ("test_rows", "model_samples")}, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
