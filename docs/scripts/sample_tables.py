"""What the records of models without a likelihood say of their samples, for docs/results.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ancestral.experiments.records import ResultSummary

SAMPLE_QUALITY: dict[str, Callable[[dict[str, Any]], str]] = {
    "MMD^2": lambda e: f"{e['mmd2']:.4f} ± {e['mmd2_error']:.4f}",
    "of two real halves": lambda e: f"{e['real_mmd2']:.4f}",
    "told apart": lambda e: f"{100 * e['c2st_accuracy']:.0f} %",
    "precision": lambda e: f"{e['precision']:.2f}",
    "recall": lambda e: f"{e['recall']:.2f}",
    "nearest training row": lambda e: f"{e['nearest']:.1f}",
    "of a test row": lambda e: f"{e['real_nearest']:.1f}",
}


def samples(measured: Iterable[ResultSummary]) -> str:
    """Return tables of how like real rows samples are, and of which classes; or nothing."""
    rows = [(s, s.records[0]["evaluations"][0]) for s in measured]
    alike = [(s, e) for s, e in rows if "real_mmd2" in e]
    shared = [(s, e) for s, e in rows if "shares" in e]
    return (likeness(alike) if alike else "") + (shares(shared) if shared else "")


def likeness(alike: Sequence[tuple[ResultSummary, dict[str, Any]]]) -> str:
    """Return what is known of samples beside real rows."""
    lines = [
        "Samples beside as many test images: what nearest neighbours tell apart (50 % is best), "
        "the share of samples near real images and of real images near samples, and the median "
        "distance to the nearest training image, which for what was learnt by heart would be far "
        "less than a test image's:\n",
        "| row | " + " | ".join(SAMPLE_QUALITY) + " |",
        "|" + " --- |" * (1 + len(SAMPLE_QUALITY)),
    ]
    for s, e in alike:
        found = " | ".join(write(e) for write in SAMPLE_QUALITY.values())
        lines.append(f"| {title(s)} | {found} |")
    return "\n".join([*lines, "\n"])


def shares(shared: Sequence[tuple[ResultSummary, dict[str, Any]]]) -> str:
    """Return how many of the samples are of each class."""
    classes = shared[0][1]["classes"]
    lines = [
        "Of the samples the CNN takes so many for each class, %:\n",
        "| row | " + " | ".join(classes) + " |",
        "|" + " --- |" * (1 + len(classes)),
    ]
    for s, e in shared:
        found = " | ".join(f"{100 * share:.0f}" for share in e["shares"])
        lines.append(f"| {title(s)} | {found} |")
    return "\n".join([*lines, "\n"])


def title(s: ResultSummary) -> str:
    """Return what a model is called, without what is measured of it."""
    return f"{s.recipe.title.split(',')[0]}, {s.size}"
