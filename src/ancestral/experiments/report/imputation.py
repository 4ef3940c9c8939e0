"""Section on imputation of tables: error by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ancestral.data.preprocessing import corrupt
from ancestral.experiments.report.context import ReportContext
from ancestral.experiments.report.elements import (
    Chart,
    HtmlTable,
    Section,
    format_count,
    format_number,
)
from ancestral.experiments.report.figures import DATA, INK, MODEL, RULE, draw_svg
from ancestral.experiments.report.tabular import observed

MAX_COLUMNS = 40

MAX_EVALUATED, N_ITERATIONS, MISSING_FRACTION = 1000, 20, 0.2


def section(context: ReportContext) -> Section:
    """Section with the errors of imputed entries, removed at random, by column."""
    if context.x.shape[1] == 1:
        text = "The table has a single column; imputation requires at least two."
        return Section("imputation", "Imputation", [text])
    x = context.x[:MAX_EVALUATED]
    corrupted = corrupt(x, "random", MISSING_FRACTION, seed=context.seed)
    removed = np.isnan(corrupted) & ~np.isnan(x)
    imputed = context.estimator.impute(corrupted, n_iter=N_ITERATIONS, random_state=context.seed)
    columns = [j for j in range(x.shape[1]) if removed[:, j].any()][:MAX_COLUMNS]
    errors = [_errors(context, x, imputed, removed, j) for j in columns]
    rows = [
        (context.column_names[j], _metric(context, j), format_number(model), format_number(mean))
        for j, (model, mean) in zip(columns, errors, strict=True)
    ]
    method = "exact" if context.is_exact else "mean over importance-weighted latent variables"
    paragraphs = [
        f"{MISSING_FRACTION:.0%} of the entries of "
        f"{format_count(len(x), f'{context.split} row')} are removed at random and imputed from "
        f"the rest of the row ({method}). The baseline is the training mean of the column, or the "
        "most frequent code of a categorical column.",
        "Errors are mean squared errors divided by the variance of the column: 1 is the error of "
        "the column mean, 0 is perfect. For categorical columns, the error rate.",
    ]
    header = ("column", "metric", "model", "baseline")
    charts = [_error_chart(context, columns, errors)] if columns else []
    table = HtmlTable("Error of imputed entries; lower is better", header, rows)
    return Section("imputation", "Imputation", paragraphs, charts, table)


def _errors(
    context: ReportContext, x: np.ndarray, imputed: np.ndarray, removed: np.ndarray, j: int
) -> tuple[float, float]:
    """Errors of the model and of the baseline in a column."""
    rows = removed[:, j]
    true, estimate, training = x[rows, j], imputed[rows, j], observed(context.training[:, j])
    if context.likelihoods[j] == "categorical":
        codes, counts = np.unique(training, return_counts=True)
        return float((true != estimate).mean()), float((true != codes[counts.argmax()]).mean())
    variance = float(training.var()) or 1.0
    baseline = np.square(true - training.mean()).mean() / variance
    return float(np.square(true - estimate).mean() / variance), float(baseline)


def _metric(context: ReportContext, j: int) -> str:
    return "error rate" if context.likelihoods[j] == "categorical" else "squared error / variance"


def _error_chart(
    context: ReportContext, columns: Sequence[int], errors: Sequence[tuple[float, float]]
) -> Chart:
    heights = np.arange(len(columns))[::-1]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for height, pair in zip(heights, errors, strict=True):
            axes.plot(pair, [height, height], color=RULE, linewidth=2, zorder=1)
        axes.scatter([e[1] for e in errors], heights, s=34, color=DATA, zorder=2, linewidths=0)
        axes.scatter([e[0] for e in errors], heights, s=44, color=MODEL, zorder=3, linewidths=0)
        axes.set_yticks(heights, [context.column_names[j] for j in columns])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xlim(0, None)
        axes.set_ylim(-0.6, len(columns) - 0.4)
        axes.grid(axis="x", color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("error of imputed entries")

    n_better = sum(model < baseline for model, baseline in errors)
    return Chart(
        alt=f"Dot chart of the imputation error by column: the model has a lower error than the "
        f"baseline in {n_better} of {len(columns)} columns.",
        caption=f"Lower error than the baseline in {n_better} of "
        f"{format_count(len(columns), 'column')}.",
        svg=draw_svg("imputation", 7.5, 0.9 + 0.27 * len(columns), paint),
        legend=(("var(--model)", "model"), ("var(--data)", "baseline")),
    )
