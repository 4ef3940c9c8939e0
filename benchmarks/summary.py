"""From runs to medians, spreads and ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median, quantiles
from typing import Any

from sides import FIRST_STEP, LIKELIHOOD, OURS, PEERS, PRODUCTS

Run = dict[str, Any]
BATCH = 100
PAIRS = {
    "batch normalisation and ReLU against tanh": ("batch-norm", OURS),
    "convolutional VAE": ("convolution-ancestral", "convolution-plain"),
    "GAN": ("gan-ancestral", "gan-plain"),
}
"""Comparisons inside PyTorch: the first is divided by the second."""


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """Return everything a reader of the record wants; what was not measured is left out."""
    good = [run for run in runs if "error" not in run]
    rows = table(good)
    best = best_peers(rows)
    for row in rows:
        if row["workload"] in best:
            row["ratio"] = ratio(good, _key(row), best[row["workload"]])
    parts = {
        "table": rows,
        "best_peers": {w: {"side": k[0], "flush_denormals": k[2]} for w, k in best.items()},
        "comparisons": comparisons(good, rows),
        "first_step": first_step(good),
        "likelihood": likelihood(good),
        "products": products(good),
        "account": account(rows, good),
        "failures": [run for run in runs if "error" in run],
    }
    return {name: part for name, part in parts.items() if part}


def table(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Return a row for every side, workload and treatment of denormals."""
    groups: dict[tuple[str, str, bool], list[Run]] = {}
    for run in runs:
        if "images_per_second" in run and run["side"] != FIRST_STEP:
            groups.setdefault(_key(run), []).append(run)
    return [_row(group) for group in groups.values()]


def _key(run: Run) -> tuple[str, str, bool]:
    return run["side"], run["workload"], run["flush_denormals"]


def _row(runs: list[Run]) -> dict[str, Any]:
    first, rates = runs[0], [rate for run in runs for rate in run["images_per_second"]]
    low, _, high = quantiles(rates, n=4)
    named = ("side", "library", "variant", "workload", "flush_denormals")
    return {name: first[name] for name in named} | {
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


def best_peers(rows: Iterable[dict[str, Any]]) -> dict[str, tuple[str, str, bool]]:
    """Return the fastest peer of every workload, whichever way it treats denormals."""
    names = {side.name for side in PEERS} - {OURS}
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        leader = best.get(row["workload"])
        ahead = leader is None or row["images_per_second"] > leader["images_per_second"]
        if row["side"] in names and ahead:
            best[row["workload"]] = row
    return {workload: _key(row) for workload, row in best.items()}


def ratio(
    runs: Sequence[Run], over: tuple[str, str, bool], under: tuple[str, str, bool]
) -> float | None:
    """Return the median over the rounds of one side's speed divided by another's."""
    a, b = _by_round(runs, over), _by_round(runs, under)
    both = sorted(a.keys() & b.keys())
    return median(a[r] / b[r] for r in both) if both else None


def _by_round(runs: Iterable[Run], key: tuple[str, str, bool]) -> dict[int, float]:
    matching = (run for run in runs if "images_per_second" in run and _key(run) == key)
    return {run["round"]: median(run["images_per_second"]) for run in matching}


def comparisons(runs: Sequence[Run], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the comparisons inside PyTorch."""
    found = {}
    for name, (over, under) in PAIRS.items():
        a = next((row for row in rows if row["side"] == over), None)
        if a is None:
            continue
        b = next((r for r in rows if (r["side"], r["workload"]) == (under, a["workload"])), None)
        if b is not None:
            rates = {over: a["images_per_second"], under: b["images_per_second"]}
            found[name] = {"images_per_second": rates, "ratio": ratio(runs, _key(a), _key(b))}
    return found


def first_step(runs: Iterable[Run]) -> dict[str, dict[str, dict[str, float]]]:
    """Return seconds to the first step and to the end of the warm-up, cache cold and warm."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    mine = [run for run in runs if run["side"] == FIRST_STEP]
    for workload in dict.fromkeys(run["workload"] for run in mine):
        of_it = [run for run in mine if run["workload"] == workload]
        found[workload] = {
            state: _medians(
                [run for run in of_it if run["cache"] == state],
                ("first_step_seconds", "warm_up_seconds"),
            )
            for state in ("cold", "warm")
            if any(run["cache"] == state for run in of_it)
        }
    return found


def _medians(runs: Sequence[Run], names: Iterable[str]) -> dict[str, float]:
    return {name: median(run[name] for run in runs) for name in names}


def likelihood(runs: Iterable[Run]) -> dict[str, dict[str, float]]:
    """Return seconds for 10,000 images, by side."""
    found: dict[str, dict[str, Any]] = {}
    mine = [run for run in runs if run["side"] == LIKELIHOOD]
    for side in dict.fromkeys(run["by"] for run in mine):
        of_it = [run for run in mine if run["by"] == side]
        seconds = [s for run in of_it for s in run["seconds_for_10000"]]
        found[side] = {
            "seconds_for_10000": median(seconds),
            "mean": fmean(run["mean"] for run in of_it),
            "all_rows": all(run["all_rows"] for run in of_it),
        }
    return found


def products(runs: Iterable[Run]) -> dict[str, Any]:
    """Return the time and rate of the bare products, and the optimiser pass."""
    mine = [run for run in runs if run["side"] == PRODUCTS]
    if not mine:
        return {}
    first = mine[0]["products"]
    names = ("seconds", "gflop", "gflop_per_second", "limit_images_per_second")
    rates = {
        workload: {
            dtype: _medians([run["products"][workload][dtype] for run in mine], names)
            for dtype in by_dtype
        }
        for workload, by_dtype in first.items()
    }
    optimizer = median(run["optimizer_seconds"] for run in mine)
    n_parameters = mine[0]["n_parameters"]
    return {"rates": rates, "optimizer_seconds": optimizer, "n_parameters": n_parameters}


def account(rows: Iterable[dict[str, Any]], runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Say where the time of ancestral's step goes: products, optimiser, the rest."""
    bare = products(runs)
    ours = [row for row in rows if row["side"] == OURS]
    found = []
    for workload, by_dtype in bare.get("rates", {}).items():
        speeds = [row["images_per_second"] for row in ours if row["workload"] == workload]
        for dtype, rate in by_dtype.items() if speeds else ():
            step, optimizer = BATCH / max(speeds), bare["optimizer_seconds"]
            parts = {"products": rate["seconds"], "optimizer": optimizer}
            parts["rest"] = step - sum(parts.values())
            found.append({"workload": workload, "dtype": dtype, "step": step, **parts})
    return found


def progress(run: Run) -> str:
    """Say in a few words what a run found."""
    if "error" in run:
        return f"failed: {run['error']}"
    show: list[tuple[str, Callable[[Any], str]]] = [
        ("cache", lambda v: f"cache {v}"),
        ("by", lambda v: f"by {v}"),
        ("images_per_second", lambda v: f"{median(v):,.0f} images/s"),
        ("loss", lambda v: f"loss {v:.2f}"),
        ("first_step_seconds", lambda v: f"first step {v:.2f} s"),
        ("seconds_for_10000", lambda v: f"{median(v):,.0f} s for 10,000 images"),
        ("products", lambda v: ", ".join(_rates(v))),
    ]
    return "  ".join(text(run[name]) for name, text in show if name in run)


def _rates(by_workload: dict[str, Any]) -> Iterable[str]:
    for workload, by_dtype in by_workload.items():
        for dtype, rate in by_dtype.items():
            yield f"{workload} {dtype} {rate['gflop_per_second']:.0f} GFLOP/s"
