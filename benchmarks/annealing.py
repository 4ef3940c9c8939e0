"""How far L_5000 is from log p(x): a shipped MNIST model, annealed from below and from above.

Run it:  python benchmarks/annealing.py     (the record goes to ``results/annealing.json``)

The first 100 test images are scored by L_5000 and by annealed importance sampling; 100 images that
the model draws are bounded from both sides, where the truth lies between.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from turns import RESULTS, write

import ancestral
from ancestral import Annealing, compare, datasets
from ancestral.evaluation.ais import BidirectionalBounds
from ancestral.evaluation.log_likelihood import LogLikelihood

MODEL = RESULTS.parent / "zoo" / "mnist-density-vae"
N_ROWS, N_SAMPLES = 100, 5000


def timed(compute: Any) -> tuple[Any, float]:
    """Return what a function returns, and the seconds it took."""
    began = perf_counter()
    return compute(), perf_counter() - began


def about(found: LogLikelihood, seconds: float) -> dict[str, Any]:
    """Return a likelihood for the record."""
    return {
        "metric": f"log-likelihood {found.estimator}_{found.n_samples}, nats",
        "value": found.mean,
        "standard_error": found.standard_error,
        "mean_monte_carlo_error": float(found.monte_carlo_errors.mean()),
        "seconds": seconds,
    }


def main(model: str = str(MODEL), n_steps: str = "300") -> None:
    """Score, bound, and write the record."""
    estimator, data = ancestral.load(model), datasets.load("mnist")
    how, rows = Annealing(n_steps=int(n_steps)), data.x_test[:N_ROWS]
    plain, plain_seconds = timed(lambda: estimator.log_likelihood(rows, N_SAMPLES))
    annealed, seconds = timed(lambda: estimator.log_likelihood(rows, annealing=how, progress=True))
    both: BidirectionalBounds
    both, both_seconds = timed(lambda: estimator.bidirectional_bounds(N_ROWS, how, progress=True))
    difference = compare(annealed, plain)
    record = {
        "model": Path(model).name,
        "annealing": asdict(how),
        "n_rows": N_ROWS,
        "test_rows": {
            "importance": about(plain, plain_seconds),
            "annealed": about(annealed, seconds),
            "difference": difference.mean,
            "standard_error": difference.standard_error,
        },
        "drawn_rows": {
            "below": about(both.lower, both_seconds),
            "above": about(both.upper, both_seconds),
            "gap": both.gap,
        },
        "seed": estimator.seed_,
        "data_checksum": data.checksum,
    }
    write("annealing", record)
    print(json.dumps({k: record[k] for k in ("test_rows", "drawn_rows")}, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
