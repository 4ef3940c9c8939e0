"""Learning curves: the loss and its terms by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from ancestral.estimators.base.latent import LatentEstimator
from ancestral.experiments.report.context import ReportContext
from ancestral.experiments.report.elements import (
    Chart,
    Section,
    format_count,
    format_number,
    join_words,
)
from ancestral.experiments.report.figures import DATA, MODEL, RULE, draw_svg

VALIDATION_PREFIX = "validation."

EPOCHS_PER_SKIPPED = 25
"""The axis range ignores the first epoch of every 25."""

NOT_TERMS = {"epoch", "step", "seconds"}

MEANINGS = {
    "reconstruction": "the reconstruction term is the negative expected log-likelihood of a row "
    "given its latent variables",
    "kl": "the KL term is the divergence of the posterior of a row from the prior",
}

Curve = tuple[Sequence[float], Sequence[float]]


def section(context: ReportContext) -> Section:
    """Section with the loss, the terms of the loss and the metrics on held-out rows by epoch."""
    history = context.estimator.history_
    names = dict.fromkeys(k.removeprefix(VALIDATION_PREFIX) for record in history for k in record)
    training = {n: _curve(history, n) for n in names if n not in NOT_TERMS}
    held_out = {n: _curve(history, VALIDATION_PREFIX + n) for n in training}
    losses = [n for n in training if n.split(".")[-1] == "loss"]
    others = [n for n in training if n not in losses and not _is_duplicate(training, losses, n)]
    terms = [n for n in others if training[n][0]]
    metrics = [n for n in others if n not in terms]
    unit = " (nats)" if isinstance(context.estimator, LatentEstimator) else ""
    charts = [_loss_chart(training, held_out, losses, unit)] if losses else []
    if terms:
        charts.append(_small_charts("terms", training, held_out, terms, "Terms of the loss"))
    if metrics:
        title = "Metrics on held-out rows"
        charts.append(_small_charts("metrics", training, held_out, metrics, title))
    return Section(
        "learning", "Learning curves", _paragraphs(context, losses, terms, held_out), charts
    )


def _curve(history: Sequence[Mapping[str, float]], name: str) -> Curve:
    """Epochs and values of a recorded quantity."""
    pairs = [(r.get("epoch", i + 1), r[name]) for i, r in enumerate(history) if name in r]
    return ([p[0] for p in pairs], [p[1] for p in pairs])


def _is_duplicate(training: Mapping[str, Curve], losses: Sequence[str], name: str) -> bool:
    """Whether a term equals a loss, being its only term."""
    values = training[name][1]
    return any(
        len(values) == len(training[loss][1]) and np.allclose(values, training[loss][1])
        for loss in losses
    )


def _paragraphs(
    context: ReportContext,
    losses: Sequence[str],
    terms: Sequence[str],
    held_out: Mapping[str, Curve],
) -> list[str]:
    history = context.estimator.history_
    seconds = history[-1].get("seconds", float("nan")) if len(history) else float("nan")
    meanings = [MEANINGS[t] for t in terms if t in MEANINGS]
    steps = format_count(len(history), "iteration" if context.is_exact else "epoch")
    duration = f"It took {steps} and {format_number(seconds, 1)} seconds."
    paragraphs = [
        f"Training minimises the loss{_loss_definition(context)}. {duration} If the curve is still "
        "decreasing at its end, more epochs can improve the model."
        if len(losses) < 2
        else f"Two networks are trained, each with its own loss, a mean over rows. {duration} "
        "These losses do not measure the quality of samples."
    ]
    if meanings:
        paragraphs.append(f"Of the terms of the loss, {join_words(meanings)}.")
    if any(epochs for epochs, _ in held_out.values()):
        paragraphs.append(
            "Dashed: the same on held-out rows. If the dashed line increases while the other "
            "decreases, the model is overfitting."
        )
    return paragraphs


def _loss_definition(context: ReportContext) -> str:
    """Definition of the loss as a clause."""
    if not isinstance(context.estimator, LatentEstimator):
        return ", a mean over rows"
    if context.is_exact:
        return ", the negative log-likelihood in nats per row"
    return ", in nats per row: for a variational method a negative bound on the log-likelihood"


def _loss_chart(
    training: Mapping[str, Curve],
    held_out: Mapping[str, Curve],
    losses: Sequence[str],
    unit: str,
) -> Chart:
    colours = [(MODEL, DATA)[i % 2] for i in range(len(losses))]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for loss, colour in zip(losses, colours, strict=True):
            _lines(axes, training[loss], held_out[loss], colour)
        _format_axes(axes, [c for loss in losses for c in (training[loss], held_out[loss])])
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"loss per row{unit}")

    final = join_words([f"{n} {format_number(training[n][1][-1])}" for n in losses])
    dashed = [n for n in losses if held_out[n][1]]
    final_held_out = join_words([f"{n} {format_number(held_out[n][1][-1])}" for n in dashed])
    is_cut = len(training[losses[0]][0]) >= EPOCHS_PER_SKIPPED
    lines = [("var(--model)", "training")]
    if len(losses) > 1:
        variables = {MODEL: "var(--model)", DATA: "var(--data)"}
        lines = [(variables[c], n) for c, n in zip(colours, losses, strict=True)]
    return Chart(
        alt=f"Line chart of the loss by epoch; final value: {final}.",
        caption=f"Final value: {final}"
        + (f"; on held-out rows {final_held_out}" if dashed else "")
        + (". The first epochs can lie outside the axis range." if is_cut else "."),
        svg=draw_svg("loss", 7.5, 2.9, paint),
        legend=[*lines, *([("dashed", "held-out")] if dashed else [])],
    )


def _small_charts(
    key: str,
    training: Mapping[str, Curve],
    held_out: Mapping[str, Curve],
    names: Sequence[str],
    title: str,
) -> Chart:
    n_columns = min(3, max(2, len(names)))
    n_rows = -(-len(names) // n_columns)

    def paint(figure: Any) -> None:
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes in grid.flat[len(names) :]:
            axes.set_visible(False)
        for axes, name in zip(grid.flat, names, strict=False):
            _lines(axes, training[name], held_out[name], MODEL)
            _format_axes(axes, [training[name], held_out[name]])
            axes.set_title(name)
            axes.set_xlabel("epoch")

    return Chart(
        alt=f"Line charts by epoch. {title}: {join_words(names)}.",
        caption=f"{title}, each with its own vertical axis.",
        svg=draw_svg(key, 7.5, 2.0 * n_rows, paint),
    )


def _lines(axes: Any, training: Curve, held_out: Curve, colour: str) -> None:
    marker = "o" if len(training[0]) == 1 else None
    axes.plot(*training, color=colour, marker=marker, markersize=4)
    if held_out[0]:
        axes.plot(*held_out, color=colour, linestyle=(0, (4, 2.5)), marker=marker, markersize=4)


def _format_axes(axes: Any, curves: Sequence[Curve]) -> None:
    """Format the axes; the range excludes the steep first epochs."""
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    skip = max(len(c[0]) for c in curves) // EPOCHS_PER_SKIPPED
    shown = np.concatenate([np.asarray(c[1])[skip:] for c in curves])
    shown = shown[np.isfinite(shown)]
    if len(shown) > 1 and np.ptp(shown) > 0:
        axes.set_ylim(shown.min() - 0.06 * np.ptp(shown), shown.max() + 0.06 * np.ptp(shown))
