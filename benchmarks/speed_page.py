"""From the record ``results/speed.json`` to the page ``docs/speed.md``.

Run it:  python benchmarks/table.py [record] [page]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Row = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
WORKLOADS = ("W1", "W2", "W3")
NONE = "-"
INTRODUCTION = """\
# Speed

How many images a second ancestral trains on, beside other libraries and plain PyTorch loops that
do the same task. `make bench` measures everything here and writes this page; the record with
every single value is `results/speed.json`.
"""
TASK = """\
## The task

W1 is a VAE, W2 an importance weighted autoencoder with K = 5 samples, W3 one with K = 50.
Encoder 784-500-500-(50+50), decoder 50-500-500-784 with Bernoulli pixels, tanh, minibatches of
100, Adam at 0.001, MNIST's 60,000 training images binarised once. All libraries start alike
(Glorot-uniform weights, zero biases, output biases at the pixels' log-odds). Every worker is a
process of its own; they take turns, and a figure is the median over the blocks of all rounds,
after a warm-up. The percentage is half the interquartile range.
"""
DENORMALS = """\
Numbers below 1e-38 ("denormals") turn up in the gradients of importance weighted bounds, and some
processors compute with them many times more slowly. So everything that leaves the choice is
measured both ways: as it comes, and flushed, with such numbers taken as zero (one call,
`torch.set_flush_denormal(True)`). JAX always flushes. How many denormals there are depends on how
far training has come; these are its first few hundred steps.
"""
AGAIN = """\
## Run it again

```
make bench                                    # on a quiet machine; an hour or so
python benchmarks/run.py --only plain,ancestral --workloads W2 --rounds 1
python benchmarks/table.py                    # this page from the record
```

`benchmarks/workers/` has one script for each library, written as its own documentation writes a
VAE; `benchmarks/environments/` pins their versions.
"""


def page(record: Record) -> str:
    """Return the page, in Markdown; what was not measured is left out."""
    sections = (
        INTRODUCTION,
        conditions(record),
        TASK,
        speeds(record),
        ratios(record),
        losses(record),
        starts(record),
        inside(record),
        likelihood(record),
        first_step(record),
        limits(record),
        account(record),
        failures(record),
        AGAIN,
    )
    return "\n".join(section for section in sections if section)


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def conditions(record: Record) -> str:
    """Say when, on what and with what it was measured."""
    cpu, config = record["processor"], record["config"]
    flags = ", ".join(cpu["flags"]) or "no vector instructions that matter here"
    named = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"Measured on {record['date']} at commit `{record['commit']}`: {cpu['model']} ({flags}), "
        f"{config['threads']} of {cpu['cores']} cores, {config['rounds']} rounds of "
        f"{config['seconds']:g} seconds each. Load average before: {record['load_before']:.2f}; "
        f"during a worker's turn other processes used at most {record['others_cores']:.2f} of a "
        f"core.\n\nVersions: {named}.\n"
    )


def measured(record: Record) -> list[str]:
    """Which workloads there are."""
    present = {row["workload"] for row in record.get("table", ())}
    return [w for w in WORKLOADS if w in present]


def peers(record: Record) -> dict[str, list[Row]]:
    """Return the rows of the workloads by side, in the order they were measured."""
    found: dict[str, list[Row]] = {}
    for row in record.get("table", ()):
        if row["workload"] in WORKLOADS and row["side"] != "batch-norm":
            found.setdefault(row["side"], []).append(row)
    return found


def cell(rows: Iterable[Row], workload: str, flush: bool, text: Callable[[Row], str]) -> str:
    """Return what ``text`` says of a row, or a dash if there is none."""
    match = [r for r in rows if (r["workload"], r["flush_denormals"]) == (workload, flush)]
    return text(match[0]) if match else NONE


def fastest(rows: Iterable[Row], workload: str) -> Row | None:
    """Return the faster of the ways to treat denormals."""
    match = [row for row in rows if row["workload"] == workload]
    return max(match, key=lambda row: row["images_per_second"]) if match else None


def name_of(rows: Sequence[Row]) -> str:
    """Return library and variant."""
    return f"{rows[0]['library']}, {rows[0]['variant']}"


def speed(row: Row) -> str:
    """Return images a second with their spread."""
    low, high = row["quartiles"]
    spread = 50 * (high - low) / row["images_per_second"]
    return f"{row['images_per_second']:,.0f} ±{spread:.0f}%"


def speeds(record: Record) -> str:
    """Return the table of images a second."""
    sides, workloads = peers(record), measured(record)
    if not sides:
        return ""
    head = ["library", *workloads, *(f"{w}, flushed" for w in workloads)]
    body = [
        [name_of(rows), *(cell(rows, w, f, speed) for f in (False, True) for w in workloads)]
        for rows in sides.values()
    ]
    return f"## Images a second\n\n{grid(head, body)}\n{DENORMALS}"


def ratios(record: Record) -> str:
    """Return the table of ratios to the best peer."""
    best, sides = record.get("best_peers"), peers(record)
    if not best:
        return ""
    workloads = [w for w in measured(record) if w in best]

    def text(rows: Sequence[Row], workload: str) -> str:
        row = fastest(rows, workload)
        return NONE if row is None or row["ratio"] is None else f"{row['ratio']:.2f}"

    body = [[name_of(rows), *(text(rows, w) for w in workloads)] for rows in sides.values()]
    leaders = "; ".join(f"{w}: {name_of(sides[best[w]['side']])}" for w in workloads)
    return (
        "## Times the best peer\n\nEach in its faster way to treat denormals; the median over "
        f"rounds of the ratio within a round. The best peers: {leaders}.\n\n"
        f"{grid(['library', *workloads], body)}"
    )


def losses(record: Record) -> str:
    """Return the table of losses after the same number of steps."""
    sides, workloads = peers(record), measured(record)
    if not sides:
        return ""
    steps = {row["workload"]: row["loss_steps"] for rows in sides.values() for row in rows}

    def text(rows: Sequence[Row], workload: str) -> str:
        row = fastest(rows, workload)
        return NONE if row is None else f"{row['loss']:.1f}"

    head = ["library", *(f"{w}, after {steps[w]} steps" for w in workloads)]
    body = [[name_of(rows), *(text(rows, w) for w in workloads)] for rows in sides.values()]
    return (
        "## That all do the same\n\nThe negative bound in nats per image, on 1,000 training "
        "images, after the same number of steps, by each library's own estimate (pythae's IWAE "
        f"reports another number; its bound was computed beside it).\n\n{grid(head, body)}"
    )


def starts(record: Record) -> str:
    """Return the table of first steps and memory."""
    sides, workloads = peers(record), measured(record)
    if not sides:
        return ""

    def text(rows: Sequence[Row], workload: str, key: str, form: str) -> str:
        row = fastest(rows, workload)
        return NONE if row is None else format(row[key], form)

    head = [
        "library",
        *(f"{w}, first step (s)" for w in workloads),
        "imported (MB)",
        *(f"{w}, peak (MB)" for w in workloads),
    ]
    body = [
        [
            name_of(rows),
            *(text(rows, w, "first_step_seconds", ".2f") for w in workloads),
            f"{rows[0]['imported_rss_mb']:.0f}",
            *(text(rows, w, "peak_rss_mb", ".0f") for w in workloads),
        ]
        for rows in sides.values()
    ]
    return (
        "## First step and memory\n\nSeconds to the end of the first step, compilation included; "
        "resident memory once the library is imported, and at its peak when training on the "
        f"60,000 images.\n\n{grid(head, body)}"
    )


def inside(record: Record) -> str:
    """Return the comparisons inside PyTorch."""
    found = record.get("comparisons")
    if not found:
        return ""
    body = []
    for name, comparison in found.items():
        (over, a), (under, b) = comparison["images_per_second"].items()
        numbers = [f"{over}: {a:,.0f}", f"{under}: {b:,.0f}", f"{comparison['ratio']:.2f}"]
        body.append([name, *numbers])
    return (
        "## Inside PyTorch\n\nImages a second. The convolutional VAE (64-64-128, pictures of "
        "32x32x3) and the GAN (100-1200-1200-784 against 784-240-240-1) are plain modules, "
        "trained by `ancestral.training.train` and by an eager float32 loop.\n\n"
        f"{grid(['what', 'first', 'second', 'ratio'], body)}"
    )


def likelihood(record: Record) -> str:
    """Return the times of a full evaluation."""
    found = record.get("likelihood")
    if not found:
        return ""
    how = "measured" if all(f["all_rows"] for f in found.values()) else "extrapolated from a part"
    body = [
        [side, f"{f['seconds_for_10000']:,.0f}", f"{f['mean']:.2f}"] for side, f in found.items()
    ]
    head = ["by", "seconds for 10,000 images", "mean log-likelihood of a part (nats)"]
    return (
        f"## Evaluation\n\nLog-likelihood L_5000 of 10,000 images, {how}; both sides score the "
        f"same model, trained for a moment.\n\n{grid(head, body)}"
    )


def first_step(record: Record) -> str:
    """Return what compilation costs."""
    found = record.get("first_step")
    if not found:
        return ""
    body = [
        [workload, state, f"{f['first_step_seconds']:.2f}", f"{f['warm_up_seconds']:.2f}"]
        for workload, states in found.items()
        for state, f in states.items()
    ]
    head = ["workload", "cache of compiled code", "first step (s)", "rest of the warm-up (s)"]
    return f"## ancestral's first step\n\n{grid(head, body)}"


def limits(record: Record) -> str:
    """Return the rates of the bare products."""
    found = record.get("products")
    if not found:
        return ""
    body = [
        [
            workload,
            dtype,
            f"{rate['gflop']:.2f}",
            f"{rate['gflop_per_second']:,.0f}",
            f"{rate['limit_images_per_second']:,.0f}",
        ]
        for workload, by_dtype in found["rates"].items()
        for dtype, rate in by_dtype.items()
    ]
    head = ["workload", "precision", "GFLOP a step", "GFLOP/s", "images/s were it all"]
    return (
        "## The limit of matrix products\n\nThe products of a step alone, one after another, "
        f"with nothing around them.\n\n{grid(head, body)}"
    )


def account(record: Record) -> str:
    """Say where ancestral's step spends its time."""
    found = record.get("account")
    if not found:
        return ""
    parts = ("step", "products", "optimizer", "rest")
    body = [[a["workload"], a["dtype"], *(f"{1e3 * a[part]:.2f}" for part in parts)] for a in found]
    head = ["workload", "precision of the products", "step", "products", "optimiser", "rest"]
    return (
        "## Where ancestral's step spends its time\n\nMilliseconds. Products: by their rate "
        "above, in that precision. Optimiser: PyTorch's fused Adam over as many parameters, "
        f"measured alone. Rest: what is left of the measured step.\n\n{grid(head, body)}"
    )


def failures(record: Record) -> str:
    """Name what could not be measured."""
    found = record.get("failures")
    if not found:
        return ""
    lines = [f"- {f['side']}, {f['workload']}: {f['error']}" for f in found]
    return "## Not measured\n\n" + "\n".join(lines) + "\n"


def main(record: str = "results/speed.json", target: str = "docs/speed.md") -> None:
    """Write the page."""
    from ancestral.utils.files import write_file

    write_file(ROOT / target, page(json.loads((ROOT / record).read_text())))
    print(ROOT / target)


if __name__ == "__main__":
    main(*sys.argv[1:])
