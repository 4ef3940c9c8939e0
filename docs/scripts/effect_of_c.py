"""Draw what the weight of the margin does, for docs/results.md: errors and bounds over C."""

from __future__ import annotations

from collections.abc import Sequence

from alike import title
from matplotlib.figure import Figure

from ancestral.experiments.records import ResultSummary

INK, CLAY = "#22303c", "#b5652a"
NONE = 0.1
"""Where C = 0 stands on the axis of powers of ten."""


def weight(s: ResultSummary) -> float:
    """C: how much the hinge counts beside the bound."""
    options = s.records[0]["fits"][-1]["options"]
    return options["c"] / options.get("elbo_weight", 1.0)


def effect(measured: Sequence[ResultSummary]) -> Figure:
    """Draw errors above, bounds below; a line for every model, and the published ones pale."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    names = list(dict.fromkeys(title(s) for s in measured))
    for axes, metric in ((above, "error"), (below, "log_likelihood")):
        for model, colour in zip(names, (INK, CLAY), strict=False):
            of = [s for s in measured if title(s) == model and s.recipe.protocol.metric == metric]
            of.sort(key=weight)
            at = [weight(s) or NONE for s in of]
            axes.errorbar(
                at, [s.value for s in of], [s.standard_error for s in of], color=colour,
                marker="o", ms=4, lw=1.2, capsize=2, label=model,
            )  # fmt: skip
            published = [(c, s.recipe.published) for c, s in zip(at, of, strict=True)]
            known = [pair for pair in published if pair[1] is not None]
            if known:
                axes.plot(*zip(*known, strict=True), "o--", color=colour, alpha=0.4, ms=3, lw=1,
                          label=f"{model}, published")  # fmt: skip
        axes.spines[["top", "right"]].set_visible(False)
    above.set(ylabel="test error, %", ylim=(0, None))
    below.set(ylabel="bound, nats", xlabel="C: weight of the hinge beside the bound", xscale="log")
    at = sorted({weight(s) for s in measured})
    below.set_xticks([c or NONE for c in at], [f"{c:,.0f}" for c in at])
    below.minorticks_off()
    above.legend(frameon=False)
    return figure
