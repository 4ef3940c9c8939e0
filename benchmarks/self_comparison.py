"""What is measured inside PyTorch, in the same run and the same manner as the peers.

Run it:  python benchmarks/own.py     (these comparisons alone; the record goes to ``.bench/``)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import machine
from runner import Runner
from sides import FIRST_STEP, LIKELIHOOD, OURS, PEERS, PRODUCTS

from ancestral.experiments import provenance

Measurement = dict[str, Any]


def first_step(runner: Runner) -> list[Measurement]:
    """Seconds to the first step with an empty cache of compiled code, then with a filled one."""
    ours = next(side for side in PEERS if side.name == OURS)
    brief, found = replace(runner, seconds=0.0), []
    for workload in ("W1", "W2"):
        with TemporaryDirectory() as cache:
            for state in ("cold", "warm"):
                run = brief.measure(ours, workload, False, {"TORCHINDUCTOR_CACHE_DIR": cache})
                found.append(run | {"side": FIRST_STEP, "cache": state})
    return found


def likelihood(runner: Runner) -> list[Measurement]:
    """Seconds that L_5000 of 10,000 images takes, on both sides."""
    data = ["--data", str(runner.data["train"]), "--test-data", str(runner.data["test"])]
    options = [*data, "--workload", "likelihood", *(["--all"] if runner.all_rows else [])]
    return [
        runner.call("likelihood.py", [*options, "--side", side])
        | {"side": LIKELIHOOD, "by": side, "workload": "likelihood"}
        for side in ("ancestral", "plain")
    ]


def products(runner: Runner) -> list[Measurement]:
    """Rates of the bare matrix products, and of an optimiser pass."""
    fast = machine.multiplies_bfloat16(provenance.processor())
    dtypes = "float32,bfloat16" if fast else "float32"
    found = runner.call("products.py", ["--dtypes", dtypes])
    return [found | {"side": PRODUCTS, "workload": "products"}]


SINGLE: dict[str, Callable[[Runner], list[Measurement]]] = {
    FIRST_STEP: first_step,
    LIKELIHOOD: likelihood,
    PRODUCTS: products,
}


if __name__ == "__main__":
    from run import main

    sys.exit(main(["--only", "own", *sys.argv[1:]]))
