"""Measurements of ancestral other than training speed: first step, evaluation, matrix products.

Part of the speed benchmark; to run these and the comparisons inside PyTorch alone:
python benchmarks/run.py --only self
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import machine
from implementations import ANCESTRAL, FIRST_STEP, LIKELIHOOD, PEERS, PRODUCTS
from runner import Runner

from ancestral.experiments import provenance

Run = dict[str, Any]


def first_step(runner: Runner) -> list[Run]:
    """Seconds to the first step with an empty and with a filled cache of compiled code."""
    ancestral = next(each for each in PEERS if each.name == ANCESTRAL)
    short, runs = replace(runner, seconds=0.0), []
    for workload in ("W1", "W2"):
        with TemporaryDirectory() as cache:
            for state in ("cold", "warm"):
                variables = {"TORCHINDUCTOR_CACHE_DIR": cache}
                run = short.measure(ancestral, workload, False, variables)
                runs.append(run | {"measurement": FIRST_STEP, "cache": state})
    return runs


def likelihood(runner: Runner) -> list[Run]:
    """Seconds for L_5000 of 10,000 images, by ancestral and by a plain loop."""
    data = ["--data", str(runner.data["train"]), "--test-data", str(runner.data["test"])]
    options = [*data, "--workload", "likelihood", *(["--all"] if runner.all_rows else [])]
    return [
        runner.call("likelihood.py", [*options, "--implementation", name])
        | {"measurement": LIKELIHOOD, "implementation": name, "workload": "likelihood"}
        for name in ("ancestral", "plain")
    ]


def products(runner: Runner) -> list[Run]:
    """Throughput of the matrix products of a step, and time of the optimiser."""
    has_bfloat16 = machine.has_bfloat16_products(provenance.processor())
    dtypes = "float32,bfloat16" if has_bfloat16 else "float32"
    run = runner.call("products.py", ["--dtypes", dtypes])
    return [run | {"measurement": PRODUCTS, "workload": "products"}]


MEASUREMENTS: dict[str, Callable[[Runner], list[Run]]] = {
    FIRST_STEP: first_step,
    LIKELIHOOD: likelihood,
    PRODUCTS: products,
}
