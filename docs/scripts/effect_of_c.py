"""Figure of errors and bounds against C, the weight of the hinge loss, for docs/results.md."""

from __future__ import annotations

from collections.abc import Sequence

from markdown_tables import model_label
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ancestral.experiments.records import ResultSummary

COLOURS = "#22303c", "#b5652a"
POSITION_OF_ZERO = 0.1
"""Position of C = 0 on the logarithmic axis."""


def relative_c(result: ResultSummary) -> float:
    """C: weight of the hinge loss relative to the bound."""
    options = result.records[0]["fits"][-1]["options"]
    return options["C"] / options.get("elbo_weight", 1.0)


def plot_effect_of_c(results: Sequence[ResultSummary]) -> Figure:
    """Test errors (above) and bounds (below) against C, by model, with the published values."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    error_axes, bound_axes = figure.subplots(2, sharex=True)
    models = dict.fromkeys(model_label(result) for result in results)
    for axes, metric in ((error_axes, "error"), (bound_axes, "log_likelihood")):
        for model, colour in zip(models, COLOURS, strict=False):
            of_model = [
                r for r in results if (model_label(r), r.recipe.protocol.metric) == (model, metric)
            ]
            _plot_model(axes, model, sorted(of_model, key=relative_c), colour)
        axes.spines[["top", "right"]].set_visible(False)
    error_axes.set(ylabel="test error, %", ylim=(0, None))
    error_axes.legend(frameon=False)
    bound_axes.set(ylabel="bound, nats", xlabel="C: weight of the hinge loss relative to the bound")
    bound_axes.set_xscale("log")
    values = sorted({relative_c(result) for result in results})
    bound_axes.set_xticks([c or POSITION_OF_ZERO for c in values], [f"{c:,.0f}" for c in values])
    bound_axes.minorticks_off()
    return figure


def _plot_model(axes: Axes, model: str, results: Sequence[ResultSummary], colour: str) -> None:
    """Plot the measured and, paler, the published values of one model."""
    x = [relative_c(result) or POSITION_OF_ZERO for result in results]
    y, errors = [r.value for r in results], [r.standard_error for r in results]
    axes.errorbar(x, y, errors, label=model, color=colour, lw=1.2, marker="o", ms=4, capsize=2)
    published = {c: r.recipe.published for c, r in zip(x, results, strict=True)}
    published = {c: value for c, value in published.items() if value is not None}
    if published:
        label = f"{model}, published"
        axes.plot(
            *zip(*published.items(), strict=True), "o--",
            color=colour, alpha=0.4, ms=3, lw=1, label=label,
        )  # fmt: skip
