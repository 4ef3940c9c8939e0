"""Figure of the learning curves of a table's models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markdown_tables import row_label
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ancestral.experiments.records import Record, ResultSummary

COLOURS = ("#22303c", "#b5652a", "#4a7a6a", "#8a5a83", "#7a7a4a", "#4f6d9c", "#b03a48", "#9a9a9a")


def learning_curves(results: Sequence[ResultSummary]) -> Figure:
    """Training loss of all seeds against minutes of training; the critic's loss is dashed."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for result, colour in zip(results, COLOURS * len(results), strict=False):
        for number, record in enumerate(result.records):
            _plot_record(axes, record, colour, row_label(result) if number == 0 else None)
    axes.set(xlabel="training time, minutes", ylabel="training loss per row")
    lowest = min(
        min(loss) for r in results for fit in r.records[0]["fits"] for loss in player_losses(fit)
    )
    if results[0].recipe.protocol.metric == "log_likelihood":
        axes.set_ylim(lowest - 0.5, lowest + 15)
    elif lowest > 0:  # losses of different scales
        axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _plot_record(axes: Axes, record: Record, colour: str, label: str | None) -> None:
    """Plot the successive fits of one record."""
    start = 0.0
    for fit in record["fits"]:
        minutes = [start + seconds / 60 for seconds in fit["curve"]["seconds"]]
        for loss, style in zip(player_losses(fit), ("-", "--"), strict=False):
            axes.plot(minutes, loss, style, color=colour, lw=1.2, label=label)
            label = None
        start = minutes[-1]


def player_losses(fit: dict[str, Any]) -> list[list[float]]:
    """Loss of every player of a fit, the generator's first."""
    names = [name for name in fit["curve"] if name in ("loss", "generator.loss", "critic.loss")]
    return [fit["curve"][name] for name in sorted(names, reverse=True)]
