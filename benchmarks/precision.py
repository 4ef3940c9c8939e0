"""Test log-likelihood after training in bfloat16 and in float32, for three seeds.

Usage:  python benchmarks/precision.py     (writes ``results/precision.json``)

A VAE and an IWAE with K = 50 are fitted to scikit-learn's digits; L_1000 of the test rows is
evaluated in float32 and in bfloat16. Processors without bfloat16 instructions emulate them slowly,
with the same rounding.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from time import perf_counter
from typing import Any

from ancestral import IWAE, VAE, datasets
from ancestral.utils.files import write_file
from ancestral.utils.serialization import versions

RECORD = Path(__file__).resolve().parent.parent / "results" / "precision.json"
SEEDS = (0, 1, 2)
PRECISIONS = ("float32", "bfloat16")
OPTIONS = {"hidden": (100, 100), "n_latents": 20, "max_epochs": 100}
METHODS: dict[str, Any] = {
    "VAE": lambda **options: VAE(**OPTIONS, **options),
    "IWAE-50": lambda **options: IWAE(**OPTIONS, n_importance_samples=50, **options),
}


def run(method: str, precision: str, seed: int, data: datasets.Dataset) -> dict[str, Any]:
    """Fit one model and evaluate the test rows in both precisions."""
    start = perf_counter()
    model = METHODS[method](precision=precision, random_state=seed).fit(data.x_train)
    seconds = perf_counter() - start
    scores = {p: model.log_likelihood(data.x_test, 1000, precision=p) for p in PRECISIONS}
    return {
        "method": method,
        "precision": precision,
        "seed": seed,
        "value": scores["float32"].mean,
        "standard_error": scores["float32"].standard_error,
        "value_in_bfloat16": scores["bfloat16"].mean,
        "final_loss": model.history_[-1]["loss"],
        "seconds": seconds,
    }


def main() -> None:
    """Fit all models, and write the record."""
    data, runs = datasets.load("digits"), []
    for method in METHODS:
        for seed in SEEDS:
            for precision in PRECISIONS:
                runs.append(run(method, precision, seed, data))
                print(json.dumps(runs[-1]))
    record = {
        "config": {k: list(v) if isinstance(v, tuple) else v for k, v in OPTIONS.items()},
        "metric": "log-likelihood L_1000 of the test rows, nats",
        "data": data.name,
        "data_checksum": data.checksum,
        "machine": platform.machine(),
        "versions": versions(),
        "runs": runs,
    }
    write_file(RECORD, json.dumps(record, indent=1))
    print(RECORD.relative_to(Path.cwd()) if RECORD.is_relative_to(Path.cwd()) else RECORD)


if __name__ == "__main__":
    main()
