"""Tables of the quality and the classes of samples, for docs/results.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markdown_tables import markdown_table, model_label

from ancestral.experiments.records import ResultSummary

METRICS: dict[str, Callable[[dict[str, Any]], str]] = {
    "squared MMD": lambda e: f"{e['mmd2']:.4f} ± {e['mmd2_error']:.4f}",
    "of real images": lambda e: f"{e['real_mmd2']:.4f}",
    "C2ST accuracy": lambda e: f"{100 * e['c2st_accuracy']:.0f} %",
    "precision": lambda e: f"{e['precision']:.2f}",
    "recall": lambda e: f"{e['recall']:.2f}",
    "nearest training image": lambda e: f"{e['nearest']:.1f}",
    "of test images": lambda e: f"{e['real_nearest']:.1f}",
}
"""Format of a cell, by column."""

CAPTION = """\
Samples compared with as many test images: squared MMD, also between two halves of the real images;
accuracy of a nearest-neighbour two-sample test (50 % is best); precision and recall of the
nearest-neighbour manifolds; and the median distance to the nearest training image, also of test
images. A much smaller distance of samples indicates memorisation.
"""


def sample_tables(results: Sequence[ResultSummary]) -> str:
    """Tables of sample quality and of predicted classes; empty without such evaluations."""
    evaluations = [(model_label(r), r.records[0]["evaluations"][0]) for r in results]
    quality = [(model, e) for model, e in evaluations if "real_mmd2" in e]
    frequencies = [(model, e) for model, e in evaluations if "shares" in e]
    parts = [quality_table(quality)] if quality else []
    parts += [frequency_table(frequencies)] if frequencies else []
    return "\n".join(parts)


def quality_table(evaluations: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Table of the metrics of sample quality."""
    rows = [[model, *(write(e) for write in METRICS.values())] for model, e in evaluations]
    return f"{CAPTION}\n{markdown_table(['model', *METRICS], rows)}"


def frequency_table(evaluations: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Table of the frequencies of the classes predicted for samples."""
    classes = evaluations[0][1]["classes"]
    rows = [[model, *(f"{100 * f:.0f}" for f in e["shares"])] for model, e in evaluations]
    caption = "Frequency of each class among the samples, in per cent, as predicted by the CNN:\n"
    return f"{caption}\n{markdown_table(['model', *classes], rows)}"
