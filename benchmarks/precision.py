"""Whether training in bfloat16 ends where training in float32 does: whole trainings, three seeds.

Run it:  python benchmarks/precision.py     (the record goes to ``results/precision.json``)

A VAE and an IWAE with K = 50 learn scikit-learn's digits; each model's L_1000 on the test rows is
evaluated in float32, and once more in bfloat16. Processors without bfloat16 instructions emulate
them, slowly and with the same roundings.
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
NETWORK = {"hidden": (100, 100), "n_latents": 20, "max_epochs": 100}
METHODS: dict[str, Any] = {
    "VAE": lambda **how: VAE(**NETWORK, **how),
    "IWAE-50": lambda **how: IWAE(**NETWORK, n_importance_samples=50, **how),
}


def run(method: str, precision: str, seed: int, data: datasets.Dataset) -> dict[str, Any]:
    """Train one model and score the test rows."""
    began = perf_counter()
    model = METHODS[method](precision=precision, random_state=seed).fit(data.x_train)
    seconds = perf_counter() - began
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
    """Train all, and write the record."""
    data, runs = datasets.load("digits"), []
    for method in METHODS:
        for seed in SEEDS:
            for precision in PRECISIONS:
                runs.append(run(method, precision, seed, data))
                print(json.dumps(runs[-1]))
    record = {
        "config": {k: list(v) if isinstance(v, tuple) else v for k, v in NETWORK.items()},
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
