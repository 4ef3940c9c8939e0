"""Summary of the runs of the speed benchmark: medians, quartiles and ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median, quantiles
from typing import Any

from implementations import ANCESTRAL, FIRST_STEP, LIKELIHOOD, PEERS, PRODUCTS

Run = dict[str, Any]
Row = dict[str, Any]
Key = tuple[str, str, bool]
"""Implementation, workload, whether denormals are flushed."""

BATCH_SIZE = 100
PAIRS = {
    "batch normalisation and ReLU against tanh": ("batch-norm", ANCESTRAL),
    "convolutional VAE": ("convolution-ancestral", "convolution-plain"),
    "GAN": ("gan-ancestral", "gan-plain"),
}
"""Comparisons inside PyTorch: numerator and denominator of the ratio."""


def summarize(runs: Sequence[Run]) -> dict[str, Any]:
    """Summary of the runs for the record, without the parts that were not measured."""
    successful = [run for run in runs if "error" not in run]
    rows = table(successful)
    best = best_peers(rows)
    for row in rows:
        if row["workload"] in best:
            row["ratio"] = ratio(successful, _key(row), best[row["workload"]])
    parts = {
        "table": rows,
        "best_peers": {
            workload: {"implementation": name, "flush_denormals": flush}
            for workload, (name, _, flush) in best.items()
        },
        "comparisons": comparisons(successful, rows),
        "first_step": first_step(successful),
        "likelihood": likelihood(successful),
        "products": products(successful),
        "step_breakdown": step_breakdown(rows, successful),
        "failures": [run for run in runs if "error" in run],
    }
    return {name: part for name, part in parts.items() if part}


def table(runs: Iterable[Run]) -> list[Row]:
    """One row per implementation, workload and setting of denormal flushing."""
    groups: dict[Key, list[Run]] = {}
    for run in runs:
        if "measurement" not in run:
            groups.setdefault(_key(run), []).append(run)
    return [_row(group) for group in groups.values()]


def _key(run: Run) -> Key:
    return run["implementation"], run["workload"], run["flush_denormals"]


def _row(runs: list[Run]) -> Row:
    first, rates = runs[0], [rate for run in runs for rate in run["images_per_second"]]
    low, _, high = quantiles(rates, n=4)
    names = ("implementation", "library", "variant", "workload", "flush_denormals")
    return {name: first[name] for name in names} | {
        "images_per_second": median(rates),
        "quartiles": [low, high],
        "per_round": [median(run["images_per_second"]) for run in runs],
        "n_blocks": len(rates),
        "loss": fmean(run["loss"] for run in runs),
        "loss_steps": first["warm_up_steps"],
        "first_step_seconds": median(run["first_step_seconds"] for run in runs),
        "warm_up_seconds": median(run["warm_up_seconds"] for run in runs),
        "imported_rss_mb": median(run["imported_rss_mb"] for run in runs),
        "peak_rss_mb": max(run["peak_rss_mb"] for run in runs),
    }


def best_peers(rows: Iterable[Row]) -> dict[str, Key]:
    """Fastest peer of every workload, with denormals flushed or not."""
    names = {each.name for each in PEERS} - {ANCESTRAL}
    best: dict[str, Row] = {}
    for row in rows:
        leader = best.get(row["workload"])
        is_faster = leader is None or row["images_per_second"] > leader["images_per_second"]
        if row["implementation"] in names and is_faster:
            best[row["workload"]] = row
    return {workload: _key(row) for workload, row in best.items()}


def ratio(runs: Sequence[Run], numerator: Key, denominator: Key) -> float | None:
    """Median over rounds of the ratio of two speeds; None without a common round."""
    a, b = _by_round(runs, numerator), _by_round(runs, denominator)
    rounds = sorted(a.keys() & b.keys())
    return median(a[r] / b[r] for r in rounds) if rounds else None


def _by_round(runs: Iterable[Run], key: Key) -> dict[int, float]:
    matching = (run for run in runs if "measurement" not in run and _key(run) == key)
    return {run["round"]: median(run["images_per_second"]) for run in matching}


def comparisons(runs: Sequence[Run], rows: Sequence[Row]) -> dict[str, Any]:
    """Speeds and ratios of the comparisons inside PyTorch."""
    results = {}
    for title, (first, second) in PAIRS.items():
        a = next((row for row in rows if row["implementation"] == first), None)
        if a is None:
            continue
        same_workload = (row for row in rows if row["workload"] == a["workload"])
        b = next((row for row in same_workload if row["implementation"] == second), None)
        if b is not None:
            rates = {first: a["images_per_second"], second: b["images_per_second"]}
            results[title] = {"images_per_second": rates, "ratio": ratio(runs, _key(a), _key(b))}
    return results


def first_step(runs: Iterable[Run]) -> dict[str, dict[str, dict[str, float]]]:
    """Seconds to the first step and in the warm-up, by workload and state of the cache."""
    runs = _of_measurement(runs, FIRST_STEP)
    groups: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        groups.setdefault(run["workload"], {}).setdefault(run["cache"], []).append(run)
    names = ("first_step_seconds", "warm_up_seconds")
    return {
        workload: {state: _medians(group, names) for state, group in by_state.items()}
        for workload, by_state in groups.items()
    }


def _of_measurement(runs: Iterable[Run], name: str) -> list[Run]:
    return [run for run in runs if run.get("measurement") == name]


def _medians(runs: Sequence[Run], names: Iterable[str]) -> dict[str, float]:
    return {name: median(run[name] for run in runs) for name in names}


def likelihood(runs: Iterable[Run]) -> dict[str, dict[str, float]]:
    """Seconds for L_5000 of 10,000 images, by implementation."""
    groups: dict[str, list[Run]] = {}
    for run in _of_measurement(runs, LIKELIHOOD):
        groups.setdefault(run["implementation"], []).append(run)
    return {
        name: {
            "seconds_for_10000": median(s for run in group for s in run["seconds_for_10000"]),
            "mean": fmean(run["mean"] for run in group),
            "all_rows": all(run["all_rows"] for run in group),
        }
        for name, group in groups.items()
    }


def products(runs: Iterable[Run]) -> dict[str, Any]:
    """Time and throughput of the matrix products, and time of the optimiser."""
    runs = _of_measurement(runs, PRODUCTS)
    if not runs:
        return {}
    names = ("seconds", "gflop", "gflop_per_second", "limit_images_per_second")
    rates = {
        workload: {
            dtype: _medians([run["products"][workload][dtype] for run in runs], names)
            for dtype in by_dtype
        }
        for workload, by_dtype in runs[0]["products"].items()
    }
    optimizer = median(run["optimizer_seconds"] for run in runs)
    n_parameters = runs[0]["n_parameters"]
    return {"rates": rates, "optimizer_seconds": optimizer, "n_parameters": n_parameters}


def step_breakdown(rows: Iterable[Row], runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Seconds of a training step of ancestral: matrix products, optimiser, rest."""
    limits = products(runs)
    rows = [row for row in rows if row["implementation"] == ANCESTRAL]
    breakdown = []
    for workload, by_dtype in limits.get("rates", {}).items():
        speeds = [row["images_per_second"] for row in rows if row["workload"] == workload]
        for dtype, rate in by_dtype.items() if speeds else ():
            step, optimizer = BATCH_SIZE / max(speeds), limits["optimizer_seconds"]
            parts = {"products": rate["seconds"], "optimizer": optimizer}
            parts["rest"] = step - sum(parts.values())
            breakdown.append({"workload": workload, "dtype": dtype, "step": step, **parts})
    return breakdown


def format_run(run: Run) -> str:
    """One-line summary of a run, for the progress output."""
    if "error" in run:
        return f"failed: {run['error']}"
    formats: list[tuple[str, Callable[[Any], str]]] = [
        ("cache", lambda v: f"cache {v}"),
        ("images_per_second", lambda v: f"{median(v):,.0f} images/s"),
        ("loss", lambda v: f"loss {v:.2f}"),
        ("first_step_seconds", lambda v: f"first step {v:.2f} s"),
        ("seconds_for_10000", lambda v: f"{median(v):,.0f} s for 10,000 images"),
        ("products", lambda v: ", ".join(_format_rates(v))),
    ]
    parts = [text(run[name]) for name, text in formats if name in run]
    if run.get("measurement") == LIKELIHOOD:
        parts.insert(0, f"by {run['implementation']}")
    return "  ".join(parts)


def _format_rates(by_workload: dict[str, Any]) -> Iterable[str]:
    for workload, by_dtype in by_workload.items():
        for dtype, rate in by_dtype.items():
            yield f"{workload} {dtype} {rate['gflop_per_second']:.0f} GFLOP/s"
