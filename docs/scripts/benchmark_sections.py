"""Sections of docs/results.md from other records: comparisons, bounds, timings, analyses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from markdown_tables import markdown_table
from shipped_models import shipped_models_section

from ancestral.experiments.scoring import ERROR

RESULTS = Path(__file__).resolve().parent.parent.parent / "results"
Json = dict[str, Any]


def sections() -> list[str]:
    """The sections that have records."""
    parts = comparison_section()
    for name, section in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            parts.append(section(json.loads(path.read_text())))
    return [*parts, *shipped_models_section()]


def provenance(record: Json, script: str) -> str:
    """Command, machine, version and date of a record."""
    load = record.get("cores_used_by_others")
    others = "" if load is None else f", {load:.1f} cores used by other processes"
    threads = f"{record['threads']} thread{'s' * (record['threads'] > 1)}"
    return (
        f"`python benchmarks/{script}.py`; {threads} of {record['processor']['model']}{others}; "
        f"torch {record['versions']['torch']}; {record['date']}."
    )


def comparison_section() -> list[str]:
    """Paired differences of models on the same rows; empty without records."""
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("compared/*.json"))]
    if not records:
        return []
    heads = ["first", "second", "rows", "difference", "test"]
    rows = [row for record in records for row in _comparison_rows(record)]
    return [
        "## Paired comparisons\n\n"
        "Differences of two models on the same rows, the first minus the second, ± the standard "
        "error of the difference: log-likelihoods in nats, errors in per cent.\n\n"
        f"{markdown_table(heads, rows)}"
    ]


def _comparison_rows(record: Json) -> Iterator[list[str]]:
    """Cells of the differences of one pair of models."""
    models = [f"`{_model_name(record[key])}`" for key in ("first", "second")]
    for d in record["differences"]:
        seed = d["binarize_seed"]
        binarisation = "" if seed is None else f", binarisation seed {seed}"
        yield [
            *models,
            f"{d['n_rows']:,} {d['split']}{binarisation}",
            f"{d['difference']:+.2f} ± {d['standard_error']:.2f}",
            _comparison_test(d),
        ]


def _comparison_test(d: Json) -> str:
    """Share of rows on which the first model is better, or McNemar's test for errors."""
    if d["metric"] != ERROR:
        return f"first better on {d['share_better']:.0%}"
    first, second = d["wrong_alone"]
    return f"errors of the first only {first}, of the second only {second}; p = {d['p_value']:.2g}"


def _model_name(run: str) -> str:
    """Row and name of a run folder, or the path of a shipped model."""
    parts = Path(run).parts
    return "/".join(parts if parts[0] == "zoo" else parts[-3:])


def annealing_section(record: Json) -> str:
    """Distance of importance-weighted bounds from log p(x), by annealed importance sampling."""
    settings, test, samples = record["annealing"], record["test_rows"], record["model_samples"]
    n = record["n_rows"]
    estimates = {
        f"{n} test images, L_5000": test["importance"],
        f"{n} test images, AIS": test["annealed"],
        f"{n} samples of the model, lower bound": samples["lower"],
        f"{n} samples of the model, upper bound": samples["upper"],
    }
    rows = [
        [images, f"{e['value']:.2f} ± {e['standard_error']:.2f}", f"{e['seconds']:.0f}"]
        for images, e in estimates.items()
    ]
    return (
        "## Annealed importance sampling\n\n"
        f"Log-likelihood of `zoo/{record['model']}` by AIS over {settings['n_steps']:,} "
        f"distributions from the {settings['initial_distribution']}, with {settings['n_chains']} "
        f"chains of {settings['n_leapfrog']} leapfrog steps (`python benchmarks/annealing.py`; "
        f"{record['date']}).\n\n"
        f"{markdown_table(['images', 'estimate, nats', 'seconds'], rows)}\n"
        f"AIS minus L_5000, paired by image: {test['difference']:+.3f} ± "
        f"{test['standard_error']:.3f} nats. Upper minus lower bound of the samples, between which "
        f"the log-likelihood lies: {samples['gap']:.3f} nats.\n"
    )


def ring_section(record: Json) -> str:
    """Number of modes that GANs cover."""
    runs = record["runs"]
    share = sum(run["share_within"] for run in runs) / len(runs)
    return (
        "## Ring of eight Gaussians\n\n"
        f"{record['n_full_coverage']} of {len(runs)} GANs with different seeds cover all eight "
        f"modes; {share:.0%} of the samples lie within three standard deviations of a mode. A mode "
        "counts as covered if 1 % of the samples lie that close. Learning rate and length were "
        "chosen on seeds 2, 4 and 6. "
        f"{provenance(record, 'gaussian_ring')}\n\n"
        "![Samples of each GAN on the ring](images/ring.svg)\n"
    )


def slots_section(record: Json) -> str:
    """Attention of classes over memory slots, beside the published values."""
    first, *upper = record["memories"]
    distinct = "".join(f" and {m['n_distinct_first']} of the {m['n_slots']} above" for m in upper)
    intact, *disabled = record["reconstruction_errors"].items()
    errors = ", ".join(f"{error:.4f} ({name})" for name, error in disabled)
    rows = []
    for rank, values, slots, published in zip(
        ("first", "second", "third"), first["largest"], first["slots"], record["published"],
        strict=True,
    ):  # fmt: skip
        rows.append([rank, *(f"{v:.2f} ({k})" for v, k in zip(values, slots, strict=True))])
        rows.append([f"{rank}, lecture", *(f"{v:.2f}" for v in published)])
    return (
        "## Attention of memory slots\n\n"
        f"Mean attention of the test images of each class over the {first['n_slots']} slots next "
        f"to the pixels of `{record['model']}`: the three largest values with the number of the "
        "slot, and those of Jun Zhu's lecture on these models (Tsinghua, 2017). Uniform attention "
        f"is {1 / first['n_slots']:.3f}. The most attended slots of the {len(record['classes'])} "
        f"classes are {first['n_distinct_first']} different ones of these {first['n_slots']}"
        f"{distinct}; nine in either memory of the authors' model.\n\n"
        f"{markdown_table(['', *record['classes']], rows)}\n"
        f"Squared reconstruction error per pixel: {intact[1]:.4f}; with the output of a memory "
        f"replaced by ones: {errors}. `python benchmarks/memory_slots.py`; {record['date']}.\n\n"
        "![Every slot as an image, slots ordered by the class with most attention to them, and "
        "the attention of each class](images/slots.png)\n"
    )


def resampling_section(record: Json) -> str:
    """Cost and effect of differentiating a few of many importance samples."""
    config = record["config"]
    rows = [["all", f"{record['seconds_per_epoch']:.1f}", ""]]
    for n, few in record["resampled"].items():
        difference = f"{few['difference']:+.3f} ± {few['difference_standard_error']:.3f}"
        rows.append([n, f"{few['seconds_per_epoch']:.1f}", difference])
    heads = ["differentiated samples", "seconds per epoch", "log-likelihood minus that of all"]
    return (
        "## Gradients of a few importance samples\n\n"
        f"`zoo/{config['model']}`, trained with K = {config['k']} for {record['n_epochs']} more "
        f"epochs on {config['n_rows']:,} training images; gradients of all samples, or of a few "
        f"drawn by weight. Compared on {config['n_held_out']:,} held-out training images.\n\n"
        f"{markdown_table(heads, rows)}\n{provenance(record, 'resampling')}\n"
    )


def memory_step_section(record: Json) -> str:
    """Training time with a memory relative to that without."""
    shortest: dict[str, float] = {}
    for m in record["measurements"]:
        shortest[m["name"]] = min(m["seconds"], shortest.get(m["name"], math.inf))
    variants = ("memory", "memory and local error")
    rows = [
        [k]
        + [
            f"{ratios[v]:.2f}, {shortest[f'K = {k}, {v}'] / shortest[f'K = {k}, plain']:.2f}"
            for v in variants
        ]
        for k, ratios in record["ratios"].items()
    ]
    return (
        "## Cost of a memory\n\n"
        "Time of a training step relative to the same network without memory: ratio of the "
        "medians over the rounds of one run, and of the shortest rounds, which other processes "
        "affect least.\n\n"
        f"{markdown_table(['importance samples', *variants], rows)}\n"
        f"{provenance(record, 'memory')}\n"
    )


def margin_step_section(record: Json) -> str:
    """Training time of CMMVA relative to a plain loop."""
    ratios, config = record["ratios"], record["config"]
    return (
        "## Training speed of CMMVA\n\n"
        f"A step of {config['batch_size']} images of a plain PyTorch loop in float32 takes "
        f"{ratios['ancestral']:.2f} times as long as that of the library by default (matrix "
        f"products in {config['precision']} on this processor) and "
        f"{ratios['ancestral, float32']:.2f} times as long as that of the library in float32. "
        f"{provenance(record, 'max_margin')}\n"
    )


def moments_step_section(record: Json) -> str:
    """Training time of moment matching relative to plain loops, and MMD of large samples."""
    large, ratios = record["large_samples"], record["ratios"]
    features, linear = large["random features"], large["linear time"]
    return (
        "## Training speed of moment matching\n\n"
        f"Written directly from the formula, a step of GMMN takes {ratios['MMD']:.2f} times as "
        f"long as that of the library, a step of CGMMN as a classifier {ratios['CMMD']:.2f} times. "
        f"The squared MMD of two samples of {large['rows']:,} rows is {large['mmd2_exact']:.4f}; "
        f"estimates are {features['mmd2']:.4f} from {large['frequencies']:,} random frequencies "
        f"({features['seconds']:.0f} s) and {linear['mmd2']:.4f} from pairs of consecutive rows in "
        f"linear time ({linear['seconds']:.0f} s). {provenance(record, 'moment_matching')}\n"
    )


SECTIONS: dict[str, Callable[[Json], str]] = {
    "annealing": annealing_section,
    "ring": ring_section,
    "slots": slots_section,
    "resampling": resampling_section,
    "memory-step": memory_step_section,
    "margin-step": margin_step_section,
    "moments-step": moments_step_section,
}
"""Section of each record, by its name."""
