"""Page ``docs/speed.md``, written from the record ``results/speed.json``.

Usage:  python benchmarks/speed_page.py [record] [page]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ancestral.utils.files import write_file

Record = dict[str, Any]
Row = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
WORKLOADS = ("W1", "W2", "W3")
NONE = "-"
INTRODUCTION = """\
# Speed

Training speed of ancestral in images per second, compared with other libraries and plain PyTorch
loops on the same task. `make bench` measures all figures and writes this page; the record
`results/speed.json` contains every single measurement.
"""
TASK = """\
## Task

W1 is a VAE, W2 an importance weighted autoencoder with K = 5 samples, W3 one with K = 50.
Encoder 784-500-500-(50+50), decoder 50-500-500-784 with Bernoulli pixels, tanh, minibatches of
100, Adam at 0.001, MNIST's 60,000 training images binarised once. All libraries start from the same
initialisation (Glorot-uniform weights, zero biases, output biases at the log-odds of the pixels).
Every worker is a separate process. Workers run interleaved, and a figure is the median over the
blocks of all rounds, after a warm-up. The percentage is half the interquartile range.
"""
DENORMALS = """\
Numbers below 1e-38 ("denormals") occur in the gradients of importance weighted bounds, and some
processors compute with them many times more slowly. Libraries that offer the choice are measured
with and without flushing, which sets such numbers to zero (`torch.set_flush_denormal(True)`); JAX
always flushes. The number of denormals depends on the progress of training; these are the first few
hundred steps.
"""
COMMANDS = """\
## Reproduction

```
make bench                                    # about an hour, on an idle machine
python benchmarks/run.py --only plain,ancestral --workloads W2 --rounds 1
python benchmarks/speed_page.py               # this page from the record
```

`benchmarks/workers/` contains one script per library, written like the VAE of its documentation;
`benchmarks/environments/` pins their versions.
"""


def page(record: Record) -> str:
    """The page in Markdown, without the sections that were not measured."""
    sections = (
        INTRODUCTION,
        conditions(record),
        TASK,
        speeds(record),
        ratios(record),
        losses(record),
        first_steps_and_memory(record),
        comparisons(record),
        likelihood(record),
        compilation(record),
        products(record),
        step_breakdown(record),
        failures(record),
        COMMANDS,
    )
    return "\n".join(section for section in sections if section)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def conditions(record: Record) -> str:
    """Date, commit, processor, load and versions."""
    cpu, config = record["processor"], record["config"]
    flags = ", ".join(cpu["flags"]) or "no relevant vector instructions"
    libraries = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"Measured on {record['date']} at commit `{record['commit']}`: {cpu['model']} ({flags}), "
        f"{config['threads']} of {cpu['cores']} cores, {config['rounds']} rounds of "
        f"{config['seconds']:g} seconds per worker. Load average before: "
        f"{record['load_before']:.2f}; during the runs other processes used at most "
        f"{record['cores_used_by_others']:.2f} cores.\n\nVersions: {libraries}.\n"
    )


def measured_workloads(record: Record) -> list[str]:
    """Workloads with at least one measurement."""
    measured = {row["workload"] for row in record.get("table", ())}
    return [w for w in WORKLOADS if w in measured]


def rows_by_peer(record: Record) -> dict[str, list[Row]]:
    """Rows of the workloads W1 to W3 by implementation, in the order of measurement."""
    rows: dict[str, list[Row]] = {}
    for row in record.get("table", ()):
        if row["workload"] in WORKLOADS and row["implementation"] != "batch-norm":
            rows.setdefault(row["implementation"], []).append(row)
    return rows


def cell(rows: Iterable[Row], workload: str, flush: bool, text: Callable[[Row], str]) -> str:
    """Text of the row with this workload and flushing; a dash if there is none."""
    match = [r for r in rows if (r["workload"], r["flush_denormals"]) == (workload, flush)]
    return text(match[0]) if match else NONE


def fastest(rows: Iterable[Row], workload: str) -> Row | None:
    """Row of the faster setting of denormal flushing."""
    match = [row for row in rows if row["workload"] == workload]
    return max(match, key=lambda row: row["images_per_second"]) if match else None


def title(rows: Sequence[Row]) -> str:
    """Library and variant."""
    return f"{rows[0]['library']}, {rows[0]['variant']}"


def speed(row: Row) -> str:
    """Images per second with half the interquartile range in per cent."""
    low, high = row["quartiles"]
    spread = 50 * (high - low) / row["images_per_second"]
    return f"{row['images_per_second']:,.0f} ±{spread:.0f}%"


def speeds(record: Record) -> str:
    """Table of images per second."""
    peers, workloads = rows_by_peer(record), measured_workloads(record)
    if not peers:
        return ""
    head = ["library", *workloads, *(f"{w}, flushed" for w in workloads)]
    body = [
        [title(rows), *(cell(rows, w, f, speed) for f in (False, True) for w in workloads)]
        for rows in peers.values()
    ]
    return f"## Images per second\n\n{markdown_table(head, body)}\n{DENORMALS}"


def ratios(record: Record) -> str:
    """Table of ratios to the fastest peer."""
    best, peers = record.get("best_peers"), rows_by_peer(record)
    if not best:
        return ""
    workloads = [w for w in measured_workloads(record) if w in best]

    def text(rows: Sequence[Row], workload: str) -> str:
        row = fastest(rows, workload)
        return NONE if row is None or row["ratio"] is None else f"{row['ratio']:.2f}"

    body = [[title(rows), *(text(rows, w) for w in workloads)] for rows in peers.values()]
    leaders = "; ".join(f"{w}: {title(peers[best[w]['implementation']])}" for w in workloads)
    return (
        "## Speed relative to the fastest peer\n\nEach with the faster setting of denormal "
        "flushing; the median over rounds of the ratio within a round. The fastest peers: "
        f"{leaders}.\n\n{markdown_table(['library', *workloads], body)}"
    )


def losses(record: Record) -> str:
    """Table of losses after equal numbers of steps."""
    peers, workloads = rows_by_peer(record), measured_workloads(record)
    if not peers:
        return ""
    steps = {row["workload"]: row["loss_steps"] for rows in peers.values() for row in rows}

    def text(rows: Sequence[Row], workload: str) -> str:
        row = fastest(rows, workload)
        return NONE if row is None else f"{row['loss']:.1f}"

    head = ["library", *(f"{w}, after {steps[w]} steps" for w in workloads)]
    body = [[title(rows), *(text(rows, w) for w in workloads)] for rows in peers.values()]
    return (
        "## Losses\n\nThe negative bound in nats per image on 1,000 training images, after equal "
        "numbers of steps, by the estimate of each library. (The loss that pythae's IWAE returns "
        "has the gradient of the bound, but another value; its bound was computed separately.)\n\n"
        f"{markdown_table(head, body)}"
    )


def first_steps_and_memory(record: Record) -> str:
    """Table of first steps and resident memory."""
    peers, workloads = rows_by_peer(record), measured_workloads(record)
    if not peers:
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
            title(rows),
            *(text(rows, w, "first_step_seconds", ".2f") for w in workloads),
            f"{rows[0]['imported_rss_mb']:.0f}",
            *(text(rows, w, "peak_rss_mb", ".0f") for w in workloads),
        ]
        for rows in peers.values()
    ]
    return (
        "## First step and memory\n\nSeconds to the end of the first step, including compilation; "
        "resident memory after the import of the library, and its peak during training on the "
        f"60,000 images.\n\n{markdown_table(head, body)}"
    )


def comparisons(record: Record) -> str:
    """Table of the comparisons inside PyTorch."""
    results = record.get("comparisons")
    if not results:
        return ""
    body = []
    for name, comparison in results.items():
        (first, a), (second, b) = comparison["images_per_second"].items()
        body.append(
            [name, f"{first}: {a:,.0f}", f"{second}: {b:,.0f}", f"{comparison['ratio']:.2f}"]
        )
    return (
        "## Inside PyTorch\n\nImages per second. The convolutional VAE (64-64-128, images of "
        "32x32x3) and the GAN (100-1200-1200-784 against 784-240-240-1) are plain modules, trained "
        "by `ancestral.training.train` and by an eager float32 loop.\n\n"
        f"{markdown_table(['model', 'first', 'second', 'ratio'], body)}"
    )


def likelihood(record: Record) -> str:
    """Table of the time of a full evaluation."""
    results = record.get("likelihood")
    if not results:
        return ""
    is_complete = all(result["all_rows"] for result in results.values())
    source = "measured" if is_complete else "extrapolated from a part"
    body = [
        [name, f"{result['seconds_for_10000']:,.0f}", f"{result['mean']:.2f}"]
        for name, result in results.items()
    ]
    head = ["implementation", "seconds for 10,000 images", "mean log-likelihood of a part (nats)"]
    return (
        f"## Evaluation\n\nLog-likelihood L_5000 of 10,000 images, {source}. Both implementations "
        f"evaluate the same model, trained for one epoch.\n\n{markdown_table(head, body)}"
    )


def compilation(record: Record) -> str:
    """Table of the time of the first step, with a cold and a warm cache."""
    results = record.get("first_step")
    if not results:
        return ""
    body = [
        [workload, state, f"{time['first_step_seconds']:.2f}", f"{time['warm_up_seconds']:.2f}"]
        for workload, by_state in results.items()
        for state, time in by_state.items()
    ]
    head = ["workload", "cache of compiled code", "first step (s)", "rest of the warm-up (s)"]
    return f"## First step of ancestral\n\n{markdown_table(head, body)}"


def products(record: Record) -> str:
    """Table of the throughput of the matrix products."""
    results = record.get("products")
    if not results:
        return ""
    body = [
        [
            workload,
            dtype,
            f"{rate['gflop']:.2f}",
            f"{rate['gflop_per_second']:,.0f}",
            f"{rate['limit_images_per_second']:,.0f}",
        ]
        for workload, by_dtype in results["rates"].items()
        for dtype, rate in by_dtype.items()
    ]
    head = ["workload", "precision", "GFLOP per step", "GFLOP/s", "limit (images/s)"]
    return (
        "## Limit set by the matrix products\n\nThe matrix products of a step alone, one after "
        f"another; the limit is the speed of a step without any other work.\n\n"
        f"{markdown_table(head, body)}"
    )


def step_breakdown(record: Record) -> str:
    """Table of the parts of a training step of ancestral."""
    results = record.get("step_breakdown")
    if not results:
        return ""
    parts = ("step", "products", "optimizer", "rest")
    body = [
        [result["workload"], result["dtype"], *(f"{1e3 * result[part]:.2f}" for part in parts)]
        for result in results
    ]
    head = ["workload", "precision of the products", "step", "products", "optimiser", "rest"]
    return (
        "## Time of a step of ancestral\n\nMilliseconds. Products: from their throughput above, in "
        "that precision. Optimiser: PyTorch's fused Adam on as many parameters, measured alone. "
        f"Rest: the remaining time of the measured step.\n\n{markdown_table(head, body)}"
    )


def failures(record: Record) -> str:
    """List of failed measurements."""
    runs = record.get("failures")
    if not runs:
        return ""
    lines = [
        f"- {run.get('measurement') or run['implementation']}, {run['workload']}: {run['error']}"
        for run in runs
    ]
    return "## Failed measurements\n\n" + "\n".join(lines) + "\n"


def main(record: str = "results/speed.json", target: str = "docs/speed.md") -> None:
    """Write the page."""
    write_file(ROOT / target, page(json.loads((ROOT / record).read_text())))
    print(ROOT / target)


if __name__ == "__main__":
    main(*sys.argv[1:])
